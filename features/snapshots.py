"""Datasets of patients' and of plans' features: one folder per family, one partition per snapshot.

A snapshot is what was known of every patient, or plan, at one moment. Records do not
change the past, so a snapshot is computed once; it is computed again only if
records arrived that were known before it, or if the family itself changed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Literal

import duckdb

from features.buckets import attach_part, choose_buckets, write_parts
from features.contexts import attach_contexts
from features.duck import connect
from features.errors import NotBuiltError
from features.families import FAMILIES
from features.opening_days import edition
from features.patients import Bucket, attach_patients, family_rows, tables_read
from features.plan_grain import PLAN_GRAIN, attach_plans
from features.records.store import DERIVED, MERGES, RecordStore
from features.settings import Settings
from features.spec import Family

PLAN_FAMILIES: Mapping[str, Family] = {PLAN_GRAIN.name: PLAN_GRAIN}
Every = Literal["week", "month"]
Engine = Literal["duckdb", "spark"]
Progress = Callable[[int, int], None]

PATIENTS_PER_BUCKET = 25_000
MEMORY = "1200MB"  # of DuckDB; beyond it, it spills
SNAPSHOTS_PER_RUN = 26  # what a crash can cost
PLAN_SNAPSHOTS_PER_RUN = 6  # all patients at once


@dataclass(frozen=True)
class Built:
    """What is there: from which records, and per family which snapshots.

    Attributes
    ----------
    records : dict of str to int
        Versions of the record tables.
    recorded_until : str
        What was recorded up to here is in (ISO 8601).
    entry : int
        The records' state in their log.
    fingerprints : dict of str to str
        Per family, of its SQL and the settings it depends on.
    snapshots : dict of str to list of str
        Per family, the moments (ISO 8601, UTC) that are there.
    """

    records: dict[str, int] = field(default_factory=dict)
    recorded_until: str = ""
    entry: int = 0
    fingerprints: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class SnapshotBuild:
    """What a build did: snapshots computed now, those that were there, those found stale."""

    computed: int
    kept: int
    stale: int


def snapshot_moments(first: date, last: date, every: Every, settings: Settings) -> list[datetime]:
    """Local midnights of the Mondays, or of the first days of the months, from `first` to `last`."""
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    chosen = (day for day in days if (day.weekday() == 0 if every == "week" else day.day == 1))
    return [midnight(day, settings) for day in chosen]


def midnight(day: date, settings: Settings) -> datetime:
    """The moment at which a local day begins."""
    return datetime.combine(day, time(), settings.zone).astimezone(UTC)


def folder_of(settings: Settings, family: str) -> Path:
    """Where a family's partitions are."""
    return settings.paths.features / family


def partition_of(settings: Settings, family: str, moment: str) -> Path:
    """Where a family's files of one snapshot are; not there if nobody was known by then."""
    return folder_of(settings, family) / _partition(moment)


def built(settings: Settings) -> Built:
    """Describe the snapshots that are there."""
    path = settings.paths.features / "snapshots.json"
    return Built(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Built()


def recorded(settings: Settings) -> tuple[RecordStore, dict[str, int]]:
    """Open the records; give the versions of their tables.

    Raises
    ------
    NotBuiltError
        If nothing has been imported.
    """
    records = RecordStore(settings.paths.records)
    versions = records.versions()
    if "appointments" not in versions:
        raise NotBuiltError("there are no records yet; run `revisit import FILE --mapping MAPPING` first.")
    return records, versions


def build_snapshots(
    settings: Settings,
    moments: Iterable[datetime],
    families: Mapping[str, Family] = FAMILIES,
    progress: Progress | None = None,
    engine: Engine = "duckdb",
) -> SnapshotBuild:
    """Compute what is missing of the snapshots at `moments`; a build that was cut off goes on.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    moments : iterable of datetime
        Aware.
    families : mapping of str to Family
        By name; those of patients, or `PLAN_FAMILIES`.
    progress : callable, optional
        Told the number of finished and of all steps.
    engine : {"duckdb", "spark"}
        What computes the families' SQL; the values are the same.

    Returns
    -------
    SnapshotBuild

    Raises
    ------
    NotBuiltError
        If nothing has been imported.
    SettingsError
        If Spark cannot be started.
    """
    records, versions = recorded(settings)
    settings.paths.features.mkdir(parents=True, exist_ok=True)
    state, stale = _without_stale(settings, records, versions, families)
    wanted = sorted({_text(moment) for moment in moments})
    missing = [moment for moment in wanted if any(moment not in state.snapshots.get(name, ()) for name in families)]
    with connect(settings.paths.features) as con:
        records.attach(con, tables_read(families.values()), versions)
        con.execute(f"SET memory_limit = '{MEMORY}'; SET preserve_insertion_order = false")
        buckets = [Bucket(0, 1)] if _is_whole(families) else choose_buckets(con, PATIENTS_PER_BUCKET)
        parts = write_parts(con, buckets, families.values(), _parts(settings)) if missing and len(buckets) > 1 else {}
        most = PLAN_SNAPSHOTS_PER_RUN if _is_whole(families) else SNAPSHOTS_PER_RUN
        runs = [missing[n : n + most] for n in range(0, len(missing), most)]
        for number, run in enumerate(runs):
            needed = {n: f for n, f in families.items() if not set(run) <= set(state.snapshots.get(n, ()))}
            attach_contexts(con, settings, needed.values(), [datetime.fromisoformat(m) for m in run])
            for bucket in buckets:
                attach_part(con, bucket, parts, _parts(settings))
                _write(con, settings, needed, run, bucket, engine)
                if progress:
                    progress(number * len(buckets) + bucket.number + 1, len(runs) * len(buckets))
            _compute_elsewhere(settings, needed, engine)
            state = _publish(settings, state, needed, run)
            records.attach(con, tuple(parts), versions)
    shutil.rmtree(_parts(settings), ignore_errors=True)
    return SnapshotBuild(computed=len(missing), kept=len(wanted) - len(missing), stale=stale)


def _is_whole(families: Mapping[str, Family]) -> bool:
    """Whether the families are those of plans, which compare all patients: no buckets then."""
    return any(family.spine == PLAN_GRAIN.spine for family in families.values())


def _compute_elsewhere(settings: Settings, families: Mapping[str, Family], engine: Engine) -> None:
    """Let Spark compute the families from the facts that `_write` left for it."""
    if engine == "spark":
        from features.spark import write_families

        write_families(settings, families, _facts(settings), _building(settings))


def _write(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    families: Mapping[str, Family],
    moments: Sequence[str],
    bucket: Bucket,
    engine: Engine,
) -> None:
    at = [datetime.fromisoformat(moment) for moment in moments]
    if _is_whole(families):
        attach_plans(con, settings, at)
    else:
        attach_patients(con, settings, families.values(), at, bucket.condition, is_context_there=True)
    if engine == "spark":
        from features.spark import write_facts

        write_facts(con, families.values(), bucket, _facts(settings))
        return
    for name, family in families.items():
        rows = family_rows(con, family).select(f"*, strftime(as_of, '{_PARTITION}') AS snapshot")
        _building(settings).mkdir(exist_ok=True)
        target = _quoted(_building(settings) / name)
        con.execute(
            f"COPY ({rows.sql_query()}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (snapshot), "
            f"OVERWRITE_OR_IGNORE, FILENAME_PATTERN 'bucket_{bucket.number:04d}_')"
        )


def _publish(settings: Settings, state: Built, families: Mapping[str, Family], moments: Sequence[str]) -> Built:
    """Put finished partitions in place, then say so."""
    snapshots = {name: list(moments_) for name, moments_ in state.snapshots.items()}
    for name in families:
        for moment in moments:
            made, place = (root / name / _partition(moment) for root in (_building(settings), settings.paths.features))
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            if made.exists():
                made.rename(place)
        snapshots[name] = sorted({*snapshots.get(name, ()), *moments})
    shutil.rmtree(_building(settings), ignore_errors=True)
    return _save(settings, Built(**(asdict(state) | {"snapshots": snapshots})))


def _without_stale(
    settings: Settings, records: RecordStore, versions: dict[str, int], families: Mapping[str, Family]
) -> tuple[Built, int]:
    """Drop the snapshots that newer records or a changed family made wrong."""
    shutil.rmtree(_building(settings), ignore_errors=True)
    shutil.rmtree(_parts(settings), ignore_errors=True)  # of a build that was cut off
    before, prints = built(settings), {name: _fingerprint(settings, family) for name, family in families.items()}
    with connect() as con:
        changed_from = _earliest_change(con, records, before, versions)
        (recorded_until,) = con.execute(_newest_recorded(con, records, versions)).fetchall()[0]
    snapshots, dropped = {}, set()
    for name, moments in before.snapshots.items():
        is_same = before.fingerprints.get(name) == prints.get(name, before.fingerprints.get(name))
        snapshots[name] = [m for m in moments if is_same and (changed_from is None or _text(changed_from) >= m)]
        for moment in set(moments) - set(snapshots[name]):
            dropped.add(moment)
            shutil.rmtree(partition_of(settings, name, moment), ignore_errors=True)
    entries = records.entries()
    state = Built(
        records=versions,
        recorded_until=_text(recorded_until) if recorded_until else "",
        entry=entries[-1].number if entries else 0,
        fingerprints=before.fingerprints | prints,
        snapshots=snapshots,
    )
    return _save(settings, state), len(dropped)


def _earliest_change(
    con: duckdb.DuckDBPyConnection, records: RecordStore, before: Built, versions: Mapping[str, int]
) -> datetime | None:
    """The first moment at which something known now was not known to the last build; None if there is none."""
    if before.records == versions or not before.records:
        return None
    if any(entry.made.kind == "restore" for entry in records.entries() if entry.number > before.entry):
        return datetime(1970, 1, 1, tzinfo=UTC)
    tables = [name for name in versions if name not in (DERIVED, "quarantine")]
    records.attach(con, tables, versions, is_derived_shown=False)
    new = " UNION ALL ".join(
        f"SELECT min(known_at) AS moment FROM {name} WHERE recorded_at > TIMESTAMPTZ '{before.recorded_until}'"
        for name in dict.fromkeys((*tables, MERGES))
    )
    earliest: datetime | None = con.execute(f"SELECT min(moment) FROM ({new})").fetchall()[0][0]
    return min(filter(None, (earliest, _vanished(con, records, before, versions))), default=None)


def _vanished(
    con: duckdb.DuckDBPyConnection, records: RecordStore, before: Built, versions: Mapping[str, int]
) -> datetime | None:
    """Earliest moment of things that were known by being referred to and are differently known now."""
    sides: list[str] = []
    for pinned in (before.records, dict(versions)):
        records.attach(con, [DERIVED], {DERIVED: pinned[DERIVED]} if DERIVED in pinned else {})
        name = f"derived_{len(sides)}"
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT table_name, id, known_at FROM {DERIVED}")
        sides.append(name)
    one, other = sides
    found: datetime | None = con.execute(
        f"""SELECT min(known_at) FROM ((SELECT * FROM {one} EXCEPT SELECT * FROM {other})
            UNION ALL (SELECT * FROM {other} EXCEPT SELECT * FROM {one}))"""
    ).fetchall()[0][0]
    return found


def _newest_recorded(con: duckdb.DuckDBPyConnection, records: RecordStore, versions: Mapping[str, int]) -> str:
    tables = [name for name in versions if name != "quarantine"]
    records.attach(con, tables, versions, is_derived_shown=False)
    newest = " UNION ALL ".join(f"SELECT max(recorded_at) AS moment FROM {name}" for name in tables)
    return f"SELECT max(moment) FROM ({newest})"


def _fingerprint(settings: Settings, family: Family) -> str:
    content = [family.sql, settings.practice.time_zone, settings.recall.default_interval_days]
    if family.context:
        content += [family.context.sql, settings.practice.country, edition(settings.practice.country)]
    return sha256(json.dumps(content).encode()).hexdigest()[:16]


def _save(settings: Settings, state: Built) -> Built:
    path = settings.paths.features / "snapshots.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
    fresh.replace(path)
    return state


_PARTITION = "%Y%m%dT%H%M%SZ"


def _partition(moment: str) -> str:
    return f"snapshot={datetime.fromisoformat(moment).strftime(_PARTITION)}"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _building(settings: Settings) -> Path:
    return settings.paths.features / "building"


def _parts(settings: Settings) -> Path:
    return settings.paths.features / "parts"


def _facts(settings: Settings) -> Path:
    return _building(settings) / "facts"


def _quoted(path: Path) -> str:
    return path.as_posix().replace("'", "''")
