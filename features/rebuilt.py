"""Features of one moment built anew from changed records: what shows whether they read what they must not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

import duckdb
import pandas as pd

from features import schedule
from features.contracts import ModelContract
from features.duck import connect
from features.families import families_of
from features.patients import attach_patients, family_rows, tables_read
from features.plan_grain import TABLES_READ, attach_plans, plan_rows
from features.records.store import RecordStore
from features.records.tables import TABLES
from features.settings import Settings

Kept = Literal["all", "past", "punctual"]
# Which stored rows: all, those known before the moment, or all but what had happened by then and was known later.
CONDITIONS: Mapping[Kept, str] = {
    "all": "true",
    "past": "known_at < $moment",
    "punctual": "NOT (known_at >= $moment AND {happened} < $moment)",
}
LOOKED_AT = 200  # patients whose features are built anew
BOOKING_DAYS = 7  # up to the moment, whose bookings' features are built anew
# When the thing itself happened, where that is not when its row may be known from.
HAPPENED = {"appointments": "starts_at"}


def rebuilt(
    settings: Settings, contract: ModelContract, moment: datetime, versions: Mapping[str, int], kept: Kept
) -> pd.DataFrame:
    """Build the features of some patients, plans or bookings from a part of the records.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    contract : ModelContract
        Whose features.
    moment : datetime
        Aware: a snapshot, or for bookings the end of the decision moments looked at.
    versions : mapping of str to int
        Of the records.
    kept : {"all", "past", "punctual"}
        Key of `CONDITIONS`.

    Returns
    -------
    pandas.DataFrame
        One row per patient, plan or booking that was known at `moment`, in the
        same order whatever is kept; the contract's features in its order.
    """
    if contract.entity == "appointment":
        with _attached(settings, schedule.RECORDS, moment, versions, kept) as con:
            return _of_bookings(con, settings, contract, moment)
    families = families_of(contract.feature_names)
    tables = dict.fromkeys((*tables_read(families), *(TABLES_READ if contract.entity == "plan" else ())))
    with _attached(settings, tuple(tables), moment, versions, kept) as con:
        size = con.execute("SELECT count(DISTINCT patient_id) FROM patients WHERE known_at < $1", [moment]).fetchall()
        some = f"hash(patient_id) % {max(1, size[0][0] // LOOKED_AT)} = 0"
        attach_patients(con, settings, families, [moment], some)
        parts = [family_rows(con, family).df().set_index("patient_id") for family in families]
        found: pd.DataFrame = pd.concat([part.drop(columns="as_of") for part in parts], axis=1).sort_index()
        if contract.entity != "plan":
            return found.loc[:, list(contract.feature_names)]
        attach_plans(con, settings, [moment], some)
        plans: pd.DataFrame = plan_rows(con).df().sort_values(["plan_id", "patient_id"]).set_index("patient_id")
        return plans.join(found).loc[:, list(contract.feature_names)]


def _of_bookings(
    con: duckdb.DuckDBPyConnection, settings: Settings, contract: ModelContract, moment: datetime
) -> pd.DataFrame:
    schedule.build_spine(con, settings)
    con.execute(
        f"""DELETE FROM spine WHERE moment <> '{contract.moment}' OR as_of > $moment
        OR as_of <= $moment::TIMESTAMPTZ - INTERVAL {BOOKING_DAYS} DAY""",
        {"moment": moment},
    )
    schedule.build_schedule(con, settings)
    rows: pd.DataFrame = con.sql("SELECT * FROM schedule ORDER BY appointment_id, as_of").df()
    return rows.loc[:, list(contract.feature_names)]


@contextmanager
def _attached(
    settings: Settings, tables: tuple[str, ...], moment: datetime, versions: Mapping[str, int], kept: Kept
) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as con:
        RecordStore(settings.paths.records).attach(con, tables, versions)
        for table in tables if kept != "all" else ():
            happened = f"coalesce(TRY_CAST({HAPPENED.get(table, TABLES[table].known_from)} AS TIMESTAMPTZ), known_at)"
            con.execute(f"CREATE TEMP TABLE kept_{table} AS SELECT * FROM {table}")
            con.execute(
                f"DELETE FROM kept_{table} WHERE NOT ({CONDITIONS[kept].format(happened=happened)})", {"moment": moment}
            )
            con.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS SELECT * FROM kept_{table}")
        yield con
