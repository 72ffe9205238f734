"""Examples of the questions about patients: who is looked at, when, and what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from features.as_of import attach_states, known
from features.contracts import LAPSE, VALUE_365D, ModelContract
from features.duck import connect
from features.errors import NotBuiltError
from features.labels import SEEN_WITHIN_DAYS, attach_lapses, attach_returns, attach_value
from features.records.store import RecordStore
from features.settings import Settings
from features.snapshots import built, folder_of

if TYPE_CHECKING:
    import duckdb
    from feast import FeatureStore

RECORDS = ("patients", "appointments")


def patient_outcomes(
    settings: Settings, contract: ModelContract, until: datetime, versions: dict[str, int]
) -> pd.DataFrame:
    """Labelled examples of one contract before their features are joined; parameters as in `patient_examples`.

    Returns
    -------
    pandas.DataFrame
        One row per patient of the population and snapshot, oldest snapshot
        first: the columns of `patient_examples` without the features, and
        birth_year and sex as known then, for comparing groups alone.
    """
    with connect() as con:
        _attach_population(con, settings, versions)
        if contract.name == LAPSE.name:
            attach_lapses(con, until)
        elif contract.name == VALUE_365D.name:
            RecordStore(settings.paths.records).attach(con, ["payments"], versions)
            attach_states(con, "payments")
            attach_value(con, until, contract.horizon_days)
        else:
            attach_returns(con, until, contract.horizon_days)
        outcomes: pd.DataFrame = con.sql(
            """SELECT w.patient_id, w.household_id, w.clinic_id, w.as_of, l.label, l.label_known_at,
                      w.has_booking, w.visits_kept, w.birth_year, w.sex
            FROM looked_at w JOIN snapshot_label l USING (patient_id, as_of)
            ORDER BY w.as_of, w.patient_id"""
        ).df()
    return outcomes


def patient_examples(
    settings: Settings, store: FeatureStore, contract: ModelContract, until: datetime, versions: dict[str, int]
) -> pd.DataFrame:
    """Labelled examples of one contract, features by Feast's point-in-time join.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    store : feast.FeatureStore
        From `features.store.register`.
    contract : ModelContract
        One of `features.contracts.PATIENT_CONTRACTS` or `VALUE_365D`; labels of the latter are cents.
    until : datetime
        The moment of training; windows that were not over by then carry no label.
    versions : dict of str to int
        Versions of the records to read outcomes from.

    Returns
    -------
    pandas.DataFrame
        One row per patient of the population and snapshot, oldest snapshot
        first: patient_id, household_id (or the patient's own number),
        clinic_id, as_of, label, label_known_at, has_booking, visits_kept, and
        the contract's features in its order.
    """
    outcomes = patient_outcomes(settings, contract, until, versions)
    return with_features(store, contract, outcomes.drop(columns=["birth_year", "sex"]))


def patients_to_score(settings: Settings, as_of: datetime) -> pd.DataFrame:
    """Population of the questions about patients at one snapshot.

    Returns
    -------
    pandas.DataFrame
        One row per patient: patient_id, household_id, clinic_id, as_of,
        has_booking, visits_kept.

    Raises
    ------
    NotBuiltError
        If there is no snapshot at `as_of`.
    """
    with connect() as con:
        _attach_population(con, settings, RecordStore(settings.paths.records).versions())
        found: pd.DataFrame = con.execute(
            """SELECT patient_id, household_id, clinic_id, as_of, has_booking, visits_kept
            FROM looked_at WHERE as_of = $as_of ORDER BY patient_id""",
            {"as_of": as_of},
        ).df()
    if found.empty:
        raise NotBuiltError(f"there is no snapshot of {as_of:%Y-%m-%d %H:%M %Z}; run `revisit features build` first.")
    return found


def with_features(store: FeatureStore, contract: ModelContract, rows: pd.DataFrame) -> pd.DataFrame:
    """Join the contract's features to rows of (patient_id, as_of), and plan_id if it is about plans.

    Rows keep their order; the features come last, in the contract's order.
    """
    if rows.empty:
        return rows.reindex(columns=[*rows.columns, *contract.feature_names])
    keys = ["plan_id", "patient_id"] if contract.entity == "plan" else ["patient_id"]
    asked = rows[[*keys, "as_of"]].rename(columns={"as_of": "event_timestamp"})
    asked["row_number"] = range(len(asked))  # Feast does not keep the order
    found = store.get_historical_features(entity_df=asked, features=store.get_feature_service(contract.name)).to_df()
    found = found.set_index("row_number").sort_index()[list(contract.feature_names)]
    joined: pd.DataFrame = pd.concat([rows, found.reset_index(drop=True)], axis=1)
    return joined


def _attach_population(con: duckdb.DuckDBPyConnection, settings: Settings, versions: dict[str, int]) -> None:
    """Make ``looked_at``: patients seen in the last three years who are still here and may be scored."""
    if not built(settings).snapshots:
        raise NotBuiltError("there are no snapshots yet; run `revisit features build` first.")
    RecordStore(settings.paths.records).attach(con, RECORDS, versions)
    for table in RECORDS:
        attach_states(con, table)
    attendance, due = (_dataset(settings, name) for name in ("attendance", "due"))
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE looked_at AS
        SELECT a.patient_id, coalesce(p.household_id, a.patient_id) AS household_id, p.home_clinic_id AS clinic_id,
               a.as_of, d.days_since_due, d.recall_interval_mean_ever_days AS recall_interval_days,
               a.has_booking_ahead = 1 AS has_booking, a.visits_kept_count_ever AS visits_kept,
               p.birth_year, p.sex
        FROM {attendance} a
        JOIN {due} d ON d.patient_id = a.patient_id AND d.as_of = a.as_of
        JOIN patients_states p ON p.patient_id = a.patient_id AND {known("p", "a.as_of")}
        WHERE a.days_since_last_visit <= {SEEN_WITHIN_DAYS} AND p.departure IS NULL
          AND coalesce(p.is_profiling_allowed, true)"""
    )


def _dataset(settings: Settings, family: str) -> str:
    path = folder_of(settings, family).as_posix().replace("'", "''")
    return f"read_parquet('{path}/*/*.parquet')"
