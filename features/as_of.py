"""What was known at a moment: the only place that decides it.

A state of a thing (a booking, a patient) is what was known at ``as_of`` if it
was recorded before ``as_of`` and not superseded before it. Nothing recorded at
or after ``as_of`` is ever seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import duckdb

from features.records.merging import attach_survivors
from features.records.tables import TABLES

DAY_US = 86_400_000_000  # microseconds
FOREVER_US = 9_000_000_000_000_000_000


def attach_states(
    con: duckdb.DuckDBPyConnection,
    table: str,
    rows: str = "true",
    columns: Sequence[str] | None = None,
    name: str | None = None,
) -> None:
    """Make ``<table>_states``: every recorded state with the span during which it was the newest.

    A patient who was merged into another is that other from the merge on; the
    merge then divides a state into two, of which one was known at any moment.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With the stored table attached as a view of its own name.
    table : str
        A table of the contract.
    rows : str
        SQL condition on the stored rows that count; it must take a thing's states all or none.
    columns : sequence of str, optional
        Those wanted; all by default.
    name : str, optional
        What to call it instead of the table's name.
    """
    key = TABLES[table].key
    taken = "*" if columns is None else ", ".join((*columns, "known_at"))
    states = f"""SELECT {taken}, lead(known_at) OVER (PARTITION BY {key} ORDER BY known_at, recorded_at) AS known_until
        FROM {table} WHERE {rows}"""
    patients = [
        c.name
        for c in TABLES[table].columns
        if (c.refers_to == "patients" or c.name == "patient_id") and (columns is None or c.name in columns)
    ]
    if patients and attach_survivors(con):
        for column in patients:
            states = _of_survivors(states, column, is_key=column == key)
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name or table}_states AS {states}")


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


def start_of_day(day: str, zone: str) -> str:
    """SQL: the instant at which a local day, given by its number, begins."""
    return f"timezone('{zone}', TIMESTAMP '1970-01-01' + to_days(CAST({day} AS INTEGER)))"


def _day_of_fact(instant: str, zone: str) -> str:
    """Like `day_number`, in whole numbers where the zone's clock allows it: an order of magnitude faster."""
    fixed = _fixed_offset(zone)
    if fixed is None:
        return day_number(instant, zone)
    since_us, offset_us = fixed
    return (
        f"CASE WHEN epoch_us({instant}) >= {since_us} THEN (epoch_us({instant}) + {offset_us}) // {DAY_US} "
        f"ELSE {day_number(instant, zone)} END"
    )


@lru_cache
def _fixed_offset(zone: str) -> tuple[int, int] | None:
    """From when on (microseconds since 1970) a zone's clock was never changed again, and its offset; None if it is.

    China's clock, for one, was last changed in 1991.
    """
    weeks = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(weeks=n) for n in range(52 * 130)]
    offsets = [week.astimezone(ZoneInfo(zone)).utcoffset() for week in weeks]
    last = next((n for n in reversed(range(len(weeks))) if offsets[n] != offsets[-1]), -1)
    if weeks[last].year >= 2010 and last >= 0:
        return None
    unit = timedelta(microseconds=1)
    return (weeks[last + 1] - weeks[0]) // unit, (offsets[-1] or timedelta()) // unit


def evening_before(starts_at: str, zone: str, hour: int) -> str:
    """SQL: the instant of `hour` o'clock on the day before a start, by the practice's clock."""
    day = f"CAST(CAST({local(starts_at, zone)} AS DATE) AS TIMESTAMP)"
    return f"timezone('{zone}', {day} - INTERVAL {24 - hour} HOUR)"


def attach_facts(
    con: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], zone: str, name: str | None = None
) -> None:
    """Make ``<table>_facts``: the states of a table in whole numbers, which every SQL engine compares alike.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With ``<table>_states`` and, for tables about patients, ``circle``
        (patient_id, patient_no): the patients that count.
    table : str
        A table of the contract.
    columns : sequence of str
        Those wanted. An instant ``x_at`` becomes ``x_us`` (microseconds since
        1970, UTC) and ``x_day`` (local day number), a date ``x_on`` becomes
        ``x_day``; everything else stays. ``patient_no``, ``known_us`` and
        ``until_us`` (`FOREVER_US` while it stands) come by themselves.
    zone : str
        Time zone of the practice.
    name : str, optional
        What ``_states`` were called, and the facts will be, instead of the
        table's name; such facts are about nobody: they get no ``patient_no``.
    """
    contract = TABLES[table]
    taken = ["epoch_us(t.known_at) AS known_us", f"coalesce(epoch_us(t.known_until), {FOREVER_US}) AS until_us"]
    for column in columns:
        kind = contract.column(column).type
        if kind == "instant":
            taken.append(f"epoch_us(t.{column}) AS {column.removesuffix('_at')}_us")
            taken.append(f"{_day_of_fact(f't.{column}', zone)} AS {column.removesuffix('_at')}_day")
        elif kind == "date":
            taken.append(f"datediff('day', DATE '1970-01-01', t.{column}) AS {column.removesuffix('_on')}_day")
        else:
            taken.append(f"t.{column}")
    is_about_patients = name is None and "patient_id" in contract.column_names
    numbered = "circle.patient_no, " if is_about_patients else ""
    joined = "JOIN circle ON circle.patient_id = t.patient_id" if is_about_patients else ""
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {name or table}_facts AS "
        f"SELECT {numbered}{', '.join(taken)} FROM {name or table}_states t {joined}"
    )


def known_fact(fact: str, moment_us: str = "s.as_of_us") -> str:
    """SQL condition: the row `fact` of a ``_facts`` table is what was known at a moment, the spine's by default."""
    return f"{fact}.known_us < {moment_us} AND {fact}.until_us >= {moment_us}"


def within(instant_us: str, days: int) -> str:
    """SQL condition: `instant_us` lies in the `days` (of 24 hours) before ``s.as_of_us``."""
    return f"({instant_us} > s.as_of_us - {days * DAY_US} AND {instant_us} <= s.as_of_us)"


def days_since(instant_us: str) -> str:
    """SQL: elapsed days (of 24 hours) from `instant_us` to ``s.as_of_us``, as a float."""
    return f"(s.as_of_us - {instant_us}) / 86400e6"
