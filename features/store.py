"""The feature store: build datasets, register them in Feast, read them back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import pandas as pd

from features import schedule
from features.as_of import attach_states, known
from features.contracts import CONTRACTS, ModelContract
from features.duck import connect
from features.errors import NotBuiltError
from features.families import FAMILIES
from features.labels import attach_conditions, attach_no_show
from features.online_rows import open_rows
from features.records.store import RecordStore
from features.settings import Settings
from features.snapshots import (
    PLAN_FAMILIES,
    Engine,
    Every,
    Progress,
    SnapshotBuild,
    build_snapshots,
    midnight,
    recorded,
    snapshot_moments,
)

if TYPE_CHECKING:
    from feast import FeatureStore

REPOSITORY = Path(__file__).parent / "feast_repo"
SCHEDULE = "schedule"  # view of the bookings' features
_SCHEDULE_NAMES = [feature.name for feature in schedule.FEATURES]


@dataclass(frozen=True)
class Build:
    """What a feature build made.

    Attributes
    ----------
    rows : int
        Rows of the dataset: one per booking and decision moment.
    until : str
        Decision moments up to here are in (ISO 8601).
    records : dict of str to int
        Versions of the record tables it was built from.
    fingerprints : dict of str to str
        Of every contract, as it was then.
    spine : str
        SQL of the decision moments: it holds the practice's time zone and evening hour.
    """

    rows: int
    until: str
    records: dict[str, int]
    fingerprints: dict[str, str]
    spine: str = ""


def last_build(settings: Settings) -> Build | None:
    """Describe the dataset that is there, if any."""
    path = settings.paths.features / "build.json"
    return Build(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def build(settings: Settings, now: datetime) -> Build:
    """Compute every booking's features for every decision moment up to `now`.

    Records do not change the past, so with the same records only the moments
    since the last build are computed. New records may reach back in time, and
    then all is computed again.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    now : datetime
        Aware; later decision moments are left for later.

    Returns
    -------
    Build

    Raises
    ------
    NotBuiltError
        If nothing has been imported.
    """
    records, versions = recorded(settings)
    prints = {contract.name: contract.fingerprint for contract in CONTRACTS.values()}
    before = last_build(settings)
    spine = schedule.spine_sql(settings.practice.time_zone, settings.no_show.evening_hour)
    grows = before is not None and (before.records, before.fingerprints, before.spine) == (versions, prints, spine)
    folder = settings.paths.features
    folder.mkdir(parents=True, exist_ok=True)
    target, fresh = folder / "schedule.parquet", folder / "schedule.new"
    with connect(folder) as con:
        records.attach(con, schedule.RECORDS, versions)
        schedule.build_spine(con, settings)
        since = f"AND as_of > TIMESTAMPTZ '{before.until}'" if before and grows else ""
        upto = f"WHERE as_of <= least(TIMESTAMPTZ '{before.until}', TIMESTAMPTZ '{now.isoformat()}')" if before else ""
        con.execute(f"DELETE FROM spine WHERE NOT (as_of <= $now {since})", {"now": now})
        schedule.build_schedule(con, settings)
        kept = f"SELECT * FROM read_parquet('{_quoted(target)}') {upto} UNION ALL BY NAME " if grows else ""
        con.execute(f"COPY ({kept}SELECT * FROM schedule) TO '{_quoted(fresh)}' (FORMAT parquet, COMPRESSION zstd)")
        rows = con.execute(f"SELECT count(*) FROM read_parquet('{_quoted(fresh)}')").fetchall()[0][0]
    fresh.replace(target)
    done = Build(rows=rows, until=now.isoformat(), records=versions, fingerprints=prints, spine=spine)
    (folder / "build.json").write_text(json.dumps(asdict(done), indent=1), encoding="utf-8")
    return done


def build_patients(
    settings: Settings,
    now: datetime,
    first: date | None = None,
    last: date | None = None,
    every: Every = "month",
    progress: Progress | None = None,
    engine: Engine = "duckdb",
) -> SnapshotBuild:
    """Compute the missing snapshots of all patients and plans, that of last midnight included.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    now : datetime
        Aware; later snapshots are left for later.
    first, last : date, optional
        Local days; from the first booking until today by default.
    every : {"week", "month"}
        How far snapshots are apart.
    progress : callable, optional
        Told the number of finished and of all steps.
    engine : {"duckdb", "spark"}
        What computes the families.

    Returns
    -------
    SnapshotBuild
    """
    today = now.astimezone(settings.zone).date()
    begins = first or _first_day(settings)
    moments = snapshot_moments(begins, min(last or today, today), every, settings)
    if last is None:
        moments.append(midnight(today, settings))
    made = build_snapshots(settings, moments, progress=progress, engine=engine)
    build_snapshots(settings, moments, PLAN_FAMILIES, engine=engine)
    return made


def _first_day(settings: Settings) -> date:
    records = RecordStore(settings.paths.records)
    with connect() as con:
        records.attach(con, ["appointments"])
        (first,) = con.execute("SELECT min(known_at) FROM appointments").fetchall()[0]
    if first is None:
        raise NotBuiltError("there are no records yet; run `revisit import FILE --mapping MAPPING` first.")
    return first.astimezone(settings.zone).date()  # type: ignore[no-any-return]


def open_feast(settings: Settings) -> FeatureStore:
    """Open the practice's Feast store; ``feast_repo/feature_store.yaml`` says what it is made of."""
    import yaml
    from feast import FeatureStore, RepoConfig

    text = (REPOSITORY / "feature_store.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(Template(text).safe_substitute(REVISIT_DATA=settings.paths.data.as_posix()))
    config["online_store"]["online"] = settings.online
    if settings.spark.joins:
        from features.spark import configuration

        config["offline_store"] = {"type": "spark", "spark_conf": configuration(settings)}
    settings.paths.feast.mkdir(parents=True, exist_ok=True)
    return FeatureStore(config=RepoConfig(**config, repo_path=REPOSITORY))


def register(settings: Settings) -> FeatureStore:
    """Register entities, views and services in Feast and return the store."""
    from features.definitions import definitions

    if last_build(settings) is None:
        raise NotBuiltError("there are no features yet; run `revisit features build` first.")
    store = open_feast(settings)
    store.apply(definitions(settings.paths.features, engine="spark" if settings.spark.joins else "duckdb"))
    return store


def training_set(
    settings: Settings,
    store: FeatureStore,
    contract: ModelContract,
    until: datetime,
    versions: dict[str, int],
) -> pd.DataFrame:
    """Examples for one contract: features by Feast's point-in-time join, labels known before `until`.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    store : feast.FeatureStore
        From `register`.
    contract : ModelContract
        Whose moment and features are taken.
    until : datetime
        The moment of training; an outcome recorded at or after it is unknown.
    versions : dict of str to int
        Versions of the records to read outcomes from.

    Returns
    -------
    pandas.DataFrame
        One row per labelled booking, oldest visit first: appointment_id,
        patient_id, clinic_id, as_of, starts_at, label, label_known_at, the
        contract's features in its order, and its conditions.
    """
    examples = _examples(settings, contract, until, versions)
    if examples.empty:
        return examples.reindex(columns=[*examples.columns, *contract.feature_names])
    asked = examples[["appointment_id", "as_of"]].rename(columns={"as_of": "event_timestamp"})
    asked["row_number"] = range(len(asked))  # Feast does not keep the order
    found = store.get_historical_features(entity_df=asked, features=store.get_feature_service(contract.name)).to_df()
    found = found.set_index("row_number").sort_index()[list(contract.feature_names)]
    joined: pd.DataFrame = pd.concat([examples, found.reset_index(drop=True)], axis=1)
    return joined


def _examples(settings: Settings, contract: ModelContract, until: datetime, versions: dict[str, int]) -> pd.DataFrame:
    with connect() as con:
        RecordStore(settings.paths.records).attach(con, schedule.RECORDS, versions)
        schedule.build_spine(con, settings)
        attach_states(con, "communications")
        attach_no_show(con, until)
        attach_conditions(con, until, settings.practice.time_zone)
        conditions = "".join(f", coalesce(d.{c.sql}, false)::DOUBLE AS {c.name}" for c in contract.conditions)
        frame: pd.DataFrame = con.sql(
            f"""SELECT s.appointment_id, s.patient_id, b.clinic_id, s.as_of, b.starts_at, l.label,
                       l.label_known_at{conditions}
            FROM spine s
            JOIN no_show_label l USING (appointment_id)
            LEFT JOIN no_show_conditions d USING (appointment_id)
            JOIN appointments_states b ON b.appointment_id = s.appointment_id AND {known("b", "s.as_of")}
            WHERE s.moment = '{contract.moment}' AND s.as_of < l.label_known_at
            ORDER BY b.starts_at, s.appointment_id"""
        ).df()
    return frame


def write_online(settings: Settings, store: FeatureStore, now: datetime) -> pd.DataFrame:
    """Put the features of every booking still ahead into the online store.

    Returns
    -------
    pandas.DataFrame
        One row per booking ahead: appointment_id, moment, as_of of the newest
        decision moment up to `now`.
    """
    from features.online_sync import rows_of, write_changed

    target = settings.paths.features / "schedule.parquet"
    with connect() as con:
        RecordStore(settings.paths.records).attach(con, ["appointments"])
        attach_states(con, "appointments")
        con.execute(
            f"""CREATE TEMP TABLE ahead AS SELECT f.* FROM read_parquet('{_quoted(target)}') f
            JOIN appointments_states b ON b.appointment_id = f.appointment_id AND {known("b", "$now")}
            WHERE b.status = 'booked' AND f.as_of <= $now AND b.starts_at > $now - INTERVAL 1 DAY
              AND (f.moment = '{schedule.BOOKING}' OR f.as_of >= b.known_at) -- no evening of an earlier date
            QUALIFY row_number() OVER (PARTITION BY f.appointment_id ORDER BY f.as_of DESC) = 1""",
            {"now": now},
        )
        sql = "SELECT appointment_id AS id, * FROM ahead"
        write_changed(con, rows_of(store), SCHEDULE, _SCHEDULE_NAMES, sql, settings)
        ahead: pd.DataFrame = con.sql("SELECT appointment_id, moment, as_of FROM ahead ORDER BY appointment_id").df()
    return ahead


def read_online(store: FeatureStore, contract: ModelContract, appointment_ids: Sequence[str]) -> pd.DataFrame:
    """Read bookings' newest features from the online store.

    Returns
    -------
    pandas.DataFrame
        One row per id, in the order asked, the contract's features in its
        order; all NaN where nothing is stored.
    """
    from features.online_sync import read_views, rows_of

    return read_views(rows_of(store), {SCHEDULE: _SCHEDULE_NAMES}, contract, appointment_ids)


def forget(settings: Settings) -> None:
    """Remove every built feature, those online included; records stay."""
    if settings.online.store != "sqlite":
        with closing(open_rows(settings.online, settings.paths.feast / "online.db")) as rows:
            for view in (SCHEDULE, *FAMILIES):
                rows.keep_only(view, None)
    for folder in (settings.paths.features, settings.paths.feast):
        shutil.rmtree(folder, ignore_errors=True)


def _quoted(path: Path) -> str:
    return path.as_posix().replace("'", "''")
