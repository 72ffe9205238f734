"""Patients' features at any moments: the spine, who is looked at, every family's rows.

The same statements serve a backfill over years, last night's snapshot and one
patient at the desk; they differ in the spine alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from features.as_of import attach_facts, attach_states, day_number, known
from features.contexts import attach_contexts, contexts_of
from features.families import columns_read
from features.records.merging import attach_survivors
from features.records.tables import TABLES
from features.settings import Settings
from features.spec import Family

# Clinics whose figures a patient of the circle could ever read; only for families that have a context.
CLINICS_OF_CIRCLE = """SELECT home_clinic_id AS clinic_id FROM patients_facts
    UNION SELECT clinic_id FROM appointments_facts"""


@dataclass(frozen=True)
class Bucket:
    """One of `of` parts of the patients (`features.buckets`); memory grows with a part."""

    number: int
    of: int

    @property
    def condition(self) -> str:
        """SQL condition on ``patient_id``."""
        if self.of == 1:
            return "true"
        return f"patient_id IN (SELECT member FROM bucket_homes WHERE bucket = {self.number})"


def attach_patients(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    families: Iterable[Family],
    moments: Sequence[datetime],
    condition: str = "true",
    *,
    is_context_there: bool = False,
) -> None:
    """Make ``spine`` and what `families` read: facts about its patients, figures of their clinics.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With the record tables attached (`tables_read` names them).
    settings : Settings
        Of the practice.
    families : iterable of Family
        Whose facts are needed.
    moments : sequence of datetime
        Aware; ``spine`` gets one row per moment and patient known before it.
    condition : str
        SQL condition on ``patient_id``: who is in the spine. Facts are also
        made of everybody who ever shared a household with one of them, or was
        sent by one of them.
    is_context_there : bool
        Whether `attach_contexts` was called for these moments: it is the same
        for all buckets.
    """
    families = list(families)
    _attach_circle(con, condition)
    ids = _ids_of_circle(con)
    attach_states(con, "patients", _rows_about(ids, "patients"))
    _attach_spine(con, settings, moments, condition)
    for table, columns in columns_read(families).items():
        if table != "patients":
            about = ("patient_id",) if "patient_id" in TABLES[table].column_names else ()
            wanted = tuple(dict.fromkeys((*about, *columns)))
            attach_states(con, table, _rows_about(ids, table), wanted)
        attach_facts(con, table, columns, settings.practice.time_zone)
    if not is_context_there:
        attach_contexts(con, settings, families, moments, None if condition == "true" else CLINICS_OF_CIRCLE)


def tables_read(families: Iterable[Family]) -> tuple[str, ...]:
    """Record tables to attach before `attach_patients`."""
    families = list(families)
    contexts = contexts_of(families)
    wanted = dict.fromkeys((*columns_read(families), *(table for one in contexts for table in one.reads)))
    return ("patients", *(table for table in wanted if table != "patients"))


def family_rows(con: duckdb.DuckDBPyConnection, family: Family) -> duckdb.DuckDBPyRelation:
    """One row per row of ``spine``: patient_id, as_of and the family's features, as doubles."""
    return con.sql(family.sql)


def attach_members(con: duckdb.DuckDBPyConnection, buckets: Iterable[Bucket]) -> None:
    """Make ``bucket_members``: for each bucket, the numbers of everybody whom its patients' features look at."""
    is_merged = attach_survivors(con)
    con.execute("CREATE OR REPLACE TEMP TABLE bucket_members (member VARCHAR, bucket INTEGER)")
    for bucket in buckets:
        _attach_circle(con, bucket.condition)
        merged = "UNION SELECT patient_id FROM survivors WHERE survivor_id IN (SELECT patient_id FROM circle)"
        con.execute(
            f"INSERT INTO bucket_members SELECT patient_id, {bucket.number} "
            f"FROM (SELECT patient_id FROM circle {merged if is_merged else ''})"
        )


def _attach_circle(con: duckdb.DuckDBPyConnection, condition: str) -> None:
    """Number the patients that count, as ``circle``: whole numbers join faster than the practice's own."""
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE circle AS
        WITH wanted AS (SELECT DISTINCT patient_id FROM patients WHERE {condition}),
        numbers AS ({_with_merged(con, "SELECT patient_id FROM wanted")}),
        households AS (SELECT DISTINCT household_id FROM patients
                       WHERE household_id IS NOT NULL AND patient_id IN (SELECT patient_id FROM wanted)),
        everyone AS (SELECT patient_id FROM wanted UNION
                     SELECT patient_id FROM patients
                     WHERE household_id IN (SELECT household_id FROM households)
                        OR referred_by_id IN (SELECT patient_id FROM numbers))
        SELECT patient_id, CAST(row_number() OVER (ORDER BY patient_id) AS INTEGER) AS patient_no FROM everyone"""
    )


def _ids_of_circle(con: duckdb.DuckDBPyConnection) -> str:
    """SQL of all numbers that the circle's patients ever had; empty if they are everybody."""
    (is_everybody,) = con.execute(
        "SELECT (SELECT count(*) FROM circle) = (SELECT count(DISTINCT patient_id) FROM patients)"
    ).fetchall()[0]
    return "" if is_everybody else _with_merged(con, "SELECT patient_id FROM circle")


def _rows_about(ids: str, table: str) -> str:
    """SQL condition on stored rows: all states of whatever ever was about one of the patients `ids`."""
    if not ids or "patient_id" not in TABLES[table].column_names:
        return "true"
    key = TABLES[table].key
    return f"{key} IN (SELECT {key} FROM {table} WHERE patient_id IN ({ids}))"


def _with_merged(con: duckdb.DuckDBPyConnection, ids: str) -> str:
    """SQL of patients' numbers, with those of the patients merged into them."""
    if attach_survivors(con):
        return f"{ids} UNION SELECT patient_id FROM survivors WHERE survivor_id IN ({ids})"
    return ids


def _attach_spine(
    con: duckdb.DuckDBPyConnection, settings: Settings, moments: Sequence[datetime], condition: str
) -> None:
    """One row per moment and patient known by then."""
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE spine AS
        SELECT circle.patient_no, p.patient_id, m.as_of, epoch_us(m.as_of) AS as_of_us,
               {day_number("m.as_of", settings.practice.time_zone)} AS as_of_day,
               {settings.recall.default_interval_days} AS default_interval_days
        FROM (SELECT unnest($moments::TIMESTAMPTZ[]) AS as_of) AS m
        JOIN patients_states p ON {known("p", "m.as_of")}
        JOIN circle ON circle.patient_id = p.patient_id
        WHERE {condition.replace("patient_id", "p.patient_id")}
        ORDER BY circle.patient_no, as_of_us""",
        {"moments": list(moments)},
    )
