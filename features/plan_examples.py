"""Examples of the question about treatment plans: which are looked at, when, and what came of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from features.as_of import attach_states, known
from features.contracts import ModelContract
from features.duck import connect
from features.errors import NotBuiltError
from features.examples import with_features
from features.families import FAMILIES
from features.labels import attach_completion_periods, attach_completions
from features.plan_grain import TABLES_READ, attach_plans
from features.records.store import RecordStore
from features.settings import Settings
from features.snapshots import PLAN_FAMILIES, built

if TYPE_CHECKING:
    import duckdb
    from feast import FeatureStore


def plan_examples(
    settings: Settings,
    store: FeatureStore,
    contract: ModelContract,
    until: datetime,
    versions: dict[str, int],
    *,
    by_period: bool = False,
) -> pd.DataFrame:
    """Labelled examples of a contract about plans, at every snapshot of the patients.

    Features, the plan's own and its patient's, come by Feast's point-in-time
    join.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    store : feast.FeatureStore
        From `features.store.register`.
    contract : ModelContract
        One of `features.contracts.PLAN_CONTRACTS`.
    until : datetime
        The moment of training; windows that were not over by then carry no label.
    versions : dict of str to int
        Versions of the records to read.
    by_period : bool
        One row per plan, snapshot and period of 30 days at risk, as a
        discrete-time hazard needs them.

    Returns
    -------
    pandas.DataFrame
        One row per plan and snapshot (and ``period``, from 1 on), oldest
        snapshot first: plan_id, patient_id, household_id (or the patient's
        own number), clinic_id, as_of, label, label_known_at, and the
        contract's features in its order.
    """
    with connect() as con:
        _attach_population(con, settings, _moments(settings), versions)
        attach_states(con, "plan_items")
        (attach_completion_periods if by_period else attach_completions)(con, until, contract.horizon_days)
        period = ", l.period" if by_period else ""
        examples: pd.DataFrame = con.sql(
            f"""SELECT w.plan_id, w.patient_id, w.household_id, w.clinic_id, w.as_of{period}, l.label, l.label_known_at
            FROM looked_at w JOIN plan_label l USING (plan_id, patient_id, as_of)
            ORDER BY w.as_of, w.plan_id, w.patient_id{period}"""
        ).df()
    return with_features(store, contract, examples)


def plans_to_score(settings: Settings, store: FeatureStore, contract: ModelContract, as_of: datetime) -> pd.DataFrame:
    """Population of the question about plans at one snapshot, with the contract's features.

    Returns
    -------
    pandas.DataFrame
        One row per plan: plan_id, patient_id, household_id, clinic_id, as_of, and the features.

    Raises
    ------
    NotBuiltError
        If there is no snapshot at `as_of`.
    """
    if as_of not in _moments(settings):
        raise NotBuiltError(f"there is no snapshot of {as_of:%Y-%m-%d %H:%M %Z}; run `revisit features build` first.")
    with connect() as con:
        _attach_population(con, settings, [as_of], RecordStore(settings.paths.records).versions())
        rows: pd.DataFrame = con.sql("SELECT * FROM looked_at ORDER BY plan_id, patient_id").df()
    return with_features(store, contract, rows)


def _moments(settings: Settings) -> list[datetime]:
    """Snapshots that patients and plans have."""
    snapshots = built(settings).snapshots
    there = [set(snapshots.get(name, ())) for name in (*FAMILIES, *PLAN_FAMILIES)]
    if not any(there):
        raise NotBuiltError("there are no snapshots yet; run `revisit features build` first.")
    return sorted(datetime.fromisoformat(moment) for moment in set.intersection(*there))


def _attach_population(
    con: duckdb.DuckDBPyConnection, settings: Settings, moments: list[datetime], versions: dict[str, int]
) -> None:
    """Make ``looked_at``: plans with something to be done, of patients who are still here and may be scored."""
    RecordStore(settings.paths.records).attach(con, TABLES_READ, versions)
    attach_plans(con, settings, moments)
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE looked_at AS
        SELECT f.plan_id, f.patient_id, coalesce(p.household_id, f.patient_id) AS household_id,
               p.home_clinic_id AS clinic_id, f.as_of
        FROM plan_spine f
        JOIN patients_states p ON p.patient_id = f.patient_id AND {known("p", "f.as_of")}
        WHERE p.departure IS NULL AND coalesce(p.is_profiling_allowed, true)"""
    )
