"""Figures of whole clinics that patients' features read, one row per clinic and local day.

They are what was known when the day began. So all patients of a clinic share
them, last night's snapshot and the desk agree, and they are made once for any
number of buckets of patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import duckdb

from features.as_of import attach_facts, attach_states, start_of_day
from features.opening_days import attach_calendar
from features.records.tables import TABLES
from features.settings import Settings
from features.spec import Context, Family

BOOKINGS_PER_BUCKET = 500_000  # rows of whole clinics that are looked at in one go; memory grows with them
SPARE_DAYS = 1  # the span of bookings is cut in UTC


def contexts_of(families: Iterable[Family]) -> list[Context]:
    """Contexts that any of `families` reads."""
    return list({family.context.name: family.context for family in families if family.context}.values())


def attach_contexts(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    families: Iterable[Family],
    moments: Sequence[datetime],
    clinics: str | None = None,
) -> None:
    """Make the tables of the contexts that `families` read, and ``calendar`` with them.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With the record tables attached (`features.patients.tables_read`).
    settings : Settings
        Of the practice.
    families : iterable of Family
        Nothing is made if none has a context.
    moments : sequence of datetime
        Aware; the tables get the local days of these.
    clinics : str, optional
        SQL of the clinic_id that matter; all by default.
    """
    contexts = contexts_of(families)
    if not contexts:
        return
    zone = settings.practice.time_zone
    days = {moment.astimezone(settings.zone).date() for moment in moments}
    attach_calendar(con, settings.practice.country, days)
    for context in contexts:
        for number, bucket in enumerate(_buckets(con, clinics)):
            _attach_days(con, zone, bucket)
            _attach_clinic_facts(con, context, zone)
            made = f"INSERT INTO {context.name}" if number else f"CREATE OR REPLACE TEMP TABLE {context.name} AS"
            con.execute(f"{made} {context.sql}")
        for table in context.reads:
            con.execute(f"DROP TABLE IF EXISTS clinic_{table}_states; DROP TABLE IF EXISTS clinic_{table}_facts")


def _buckets(con: duckdb.DuckDBPyConnection, clinics: str | None) -> Iterator[list[str]]:
    """Clinics that are looked at together: as many as have `BOOKINGS_PER_BUCKET` bookings, and always one group."""
    if clinics:
        yield [clinic for (clinic,) in con.execute(f"SELECT DISTINCT clinic_id FROM ({clinics})").fetchall() if clinic]
        return
    bucket: list[str] = []
    rows = 0
    for clinic, count in con.execute("SELECT clinic_id, count(*) FROM appointments GROUP BY 1 ORDER BY 1").fetchall():
        if bucket and rows + count > BOOKINGS_PER_BUCKET:
            yield bucket
            bucket, rows = [], 0
        bucket.append(clinic)
        rows += count
    yield bucket


def _attach_days(con: duckdb.DuckDBPyConnection, zone: str, clinics: list[str]) -> None:
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE clinic_days AS
        SELECT clinic_id, day, epoch_us({start_of_day("day", zone)}) AS day_us
        FROM calendar CROSS JOIN (SELECT unnest($clinics::VARCHAR[]) AS clinic_id)""",
        {"clinics": clinics},
    )


def _attach_clinic_facts(con: duckdb.DuckDBPyConnection, context: Context, zone: str) -> None:
    """Make ``clinic_<table>_facts``: of these clinics, and of bookings only those that matter on one of the days."""
    back, ahead = context.days
    ids = "SELECT clinic_id FROM clinic_days"
    for table, columns in context.reads.items():
        rows = f"clinic_id IN ({ids})"
        if table == "appointments":
            # The span of all days, read as constants, lets the files' statistics skip what is old.
            first, last = con.execute(
                f"""SELECT make_timestamptz(min(day_us)) - INTERVAL {back + SPARE_DAYS} DAY,
                           make_timestamptz(max(day_us)) + INTERVAL {ahead + SPARE_DAYS} DAY FROM clinic_days"""
            ).fetchall()[0]
            rows += f" AND starts_at BETWEEN TIMESTAMPTZ '{first}' AND TIMESTAMPTZ '{last}'" if first else ""
        key = TABLES[table].key
        if key != "clinic_id":
            rows = f"{key} IN (SELECT {key} FROM {table} WHERE {rows})"  # a thing's states all or none
        attach_states(con, table, rows, columns, f"clinic_{table}")
        attach_facts(con, table, columns, zone, f"clinic_{table}")
