"""What was known at a moment: the only place that decides it.

A state of a thing (a booking, a patient) is what was known at ``as_of`` if it
was recorded before ``as_of`` and not superseded before it. Nothing recorded at
or after ``as_of`` is ever seen.
"""

from __future__ import annotations

import duckdb

from features.records.merging import attach_survivors
from features.records.tables import TABLES


def attach_states(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """Make ``<table>_states``: every recorded state with the span during which it was the newest.

    A patient who was merged into another is that other from the merge on; the
    merge then divides a state into two, of which one was known at any moment.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With the stored table attached as a view of its own name.
    table : str
        A table of the contract.
    """
    key = TABLES[table].key
    states = f"""SELECT *, lead(known_at) OVER (PARTITION BY {key} ORDER BY known_at, recorded_at) AS known_until
        FROM {table}"""
    patients = [c.name for c in TABLES[table].columns if c.refers_to == "patients" or c.name == "patient_id"]
    if patients and attach_survivors(con):
        for column in patients:
            states = _of_survivors(states, column, is_key=column == key)
    con.execute(f"CREATE OR REPLACE TEMP TABLE {table}_states AS {states}")


def _of_survivors(states: str, column: str, *, is_key: bool) -> str:
    """SQL of `states` with the patient whom `column` names as known at the time; merges divide the spans.

    A row about the merged number itself (`is_key`) ends with the merge: from
    then on the surviving patient's own row counts.
    """
    kept = f"WHERE m.patient_id IS NULL OR m.survivor_id = s.{column}" if is_key else ""
    return f"""SELECT s.* REPLACE (
            coalesce(m.survivor_id, s.{column}) AS {column},
            greatest(s.known_at, m.from_at) AS known_at, least(s.known_until, m.until_at) AS known_until)
        FROM ({states}) AS s
        LEFT JOIN survivors AS m ON m.patient_id = s.{column}
          AND coalesce(m.from_at < s.known_until, true) AND coalesce(m.until_at > s.known_at, true) {kept}"""


def known(state: str, moment: str) -> str:
    """SQL condition: the row `state` of a ``_states`` table is what was known at `moment`."""
    return f"{state}.known_at < {moment} AND ({state}.known_until IS NULL OR {state}.known_until >= {moment})"


def local(instant: str, zone: str) -> str:
    """SQL: an instant as the practice's wall-clock time."""
    return f"timezone('{zone}', {instant})"


def days_between(earlier: str, later: str) -> str:
    """SQL: elapsed days (of 24 hours) from one instant to another, as a float."""
    return f"(epoch_us({later}) - epoch_us({earlier})) / 86400e6"


def day_number(instant: str, zone: str) -> str:
    """SQL: the local calendar day of an instant, as a day count."""
    return f"datediff('day', DATE '1970-01-01', CAST({local(instant, zone)} AS DATE))"


def evening_before(starts_at: str, zone: str, hour: int) -> str:
    """SQL: the instant of `hour` o'clock on the day before a start, by the practice's clock."""
    day = f"CAST(CAST({local(starts_at, zone)} AS DATE) AS TIMESTAMP)"
    return f"timezone('{zone}', {day} - INTERVAL {24 - hour} HOUR)"
