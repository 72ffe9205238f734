"""Data quality: what is missing, impossible, doubled or suddenly different in a practice's records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import duckdb

from features.as_of import attach_states, known, local
from features.duck import connect
from features.errors import NotBuiltError
from features.records.level_shifts import LevelShift, Month, level_shifts
from features.records.quarantine import Faults, counts
from features.records.store import QUARANTINE, RecordStore
from features.records.tables import ENDED, TABLES

SHOWN_DUPLICATES = 50
# What a row cannot tell alone: (table, reason, condition over the newest states joined below).
_ORDERS = (
    (
        "appointments",
        "a visit's outcome was known before the visit began",
        """FROM now_appointments a
        WHERE a.status IN ('completed', 'no_show') AND a.is_start_time_known IS DISTINCT FROM false
          AND a.status_known_at < a.starts_at""",
    ),
    (
        "appointments",
        "the visit lies before the clinic's first day",
        "FROM now_appointments a JOIN now_clinics c USING (clinic_id) WHERE a.starts_at < c.opened_on",
    ),
    (
        "appointments",
        "the visit took place after the clinician's last day",
        """FROM now_appointments a JOIN now_clinicians c USING (clinician_id)
        WHERE a.status = 'completed' AND a.starts_at >= c.left_on + INTERVAL 1 DAY""",
    ),
    (
        "appointments",
        "the visit took place after the patient's death",
        """FROM now_appointments a JOIN now_patients p USING (patient_id)
        WHERE a.status = 'completed' AND p.departure = 'deceased' AND a.starts_at >= p.departed_on + INTERVAL 1 DAY""",
    ),
    (
        "appointments",
        "the booking is older than the patient",
        "FROM now_appointments a JOIN now_patients p USING (patient_id) WHERE year(a.booked_at) < p.birth_year",
    ),
    (
        "communications",
        "the reminder was sent after the visit began",
        """FROM now_communications m JOIN now_appointments a USING (appointment_id)
        WHERE m.purpose = 'reminder' AND m.direction = 'out' AND m.sent_at > a.starts_at
          AND a.is_start_time_known IS DISTINCT FROM false""",
    ),
    (
        "payments",
        "the payment for a visit is older than its booking",
        "FROM now_payments p JOIN now_appointments a USING (appointment_id) WHERE p.paid_at < a.booked_at",
    ),
)


@dataclass(frozen=True)
class ColumnQuality:
    """How much of one column is missing."""

    table: str
    column: str
    rows: int
    missing: int

    @property
    def share(self) -> float:
        """Share of rows without a value."""
        return self.missing / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Impossible:
    """Rows whose times contradict those of other rows."""

    table: str
    reason: str
    rows: int


@dataclass(frozen=True)
class Duplicates:
    """Things that are probably one: groups of them, how many things, some of their numbers."""

    kind: str
    groups: int
    things: int
    examples: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class StatusTimes:
    """Bookings of one status, and how many do not say when it was recorded."""

    status: str
    rows: int
    missing: int


@dataclass(frozen=True)
class QualityReport:
    """What a practice's records are like at a moment.

    Attributes
    ----------
    at : datetime
        The moment.
    columns : tuple of ColumnQuality
        Every column of every table that has rows.
    impossible : tuple of Impossible
        Orders of times that cannot be.
    duplicates : tuple of Duplicates
        Bookings of one patient at one time; patients of one birth year, sex and household.
    status_times : tuple of StatusTimes
        Per status of a booking.
    overdue : int
        Bookings whose day is over, without an outcome.
    months : tuple of Month
        Bookings and no-shows per clinic and month.
    shifts : tuple of LevelShift
        Months in which a clinic's level suddenly changed.
    quarantine : tuple of Faults
        Rows set aside.
    """

    at: datetime
    columns: tuple[ColumnQuality, ...]
    impossible: tuple[Impossible, ...]
    duplicates: tuple[Duplicates, ...]
    status_times: tuple[StatusTimes, ...]
    overdue: int
    months: tuple[Month, ...]
    shifts: tuple[LevelShift, ...]
    quarantine: tuple[Faults, ...]


def assess(store: RecordStore, time_zone: str, at: datetime) -> QualityReport:
    """Look at a practice's records as they were known at a moment.

    Parameters
    ----------
    store : RecordStore
        Of the practice.
    time_zone : str
        The practice's, for months.
    at : datetime
        The moment (aware).

    Returns
    -------
    QualityReport

    Raises
    ------
    NotBuiltError
        If nothing has been imported.
    """
    if not store.versions():
        raise NotBuiltError("there are no records yet; run `revisit import FILE --mapping MAPPING` first.")
    with connect() as con:
        store.attach(con, [*TABLES, QUARANTINE])
        for name in TABLES:
            attach_states(con, name)
            moment = f"TIMESTAMPTZ '{at.isoformat()}'"
            con.execute(f"CREATE TEMP VIEW now_{name} AS SELECT * FROM {name}_states s WHERE {known('s', moment)}")
        months = tuple(_months(con, time_zone, at))
        return QualityReport(
            at=at,
            columns=tuple(_columns(con)),
            impossible=tuple(_impossible(con)),
            duplicates=(_double_bookings(con), _double_patients(con)),
            status_times=tuple(_status_times(con)),
            overdue=_overdue(con, at),
            months=months,
            shifts=tuple(level_shifts(months)),
            quarantine=counts(con),
        )


def _columns(con: duckdb.DuckDBPyConnection) -> Iterator[ColumnQuality]:
    for table in TABLES.values():
        present = ", ".join(f"count({name})" for name in table.column_names)
        rows, *there = con.execute(f"SELECT count(*), {present} FROM now_{table.name}").fetchall()[0]
        if rows:
            for name, count in zip(table.column_names, there, strict=True):
                yield ColumnQuality(table.name, name, rows, rows - count)


def _impossible(con: duckdb.DuckDBPyConnection) -> Iterator[Impossible]:
    for table, reason, sql in _ORDERS:
        (rows,) = con.execute(f"SELECT count(*) {sql}").fetchall()[0]
        if rows:
            yield Impossible(table, reason, rows)


def _double_bookings(con: duckdb.DuckDBPyConnection) -> Duplicates:
    return _duplicates(
        con,
        "bookings of one patient at one time",
        """SELECT list(appointment_id ORDER BY appointment_id) AS things FROM now_appointments
        WHERE is_start_time_known IS DISTINCT FROM false AND status NOT LIKE 'cancelled%' AND status <> 'rescheduled'
        GROUP BY patient_id, starts_at HAVING count(*) > 1""",
    )


def _double_patients(con: duckdb.DuckDBPyConnection) -> Duplicates:
    """Names would tell better, but are not read here; twins of one sex look the same."""
    return _duplicates(
        con,
        "patients of one birth year, sex and household",
        """SELECT list(patient_id ORDER BY patient_id) AS things FROM now_patients
        WHERE birth_year IS NOT NULL AND sex IN ('female', 'male') AND household_id IS NOT NULL
        GROUP BY birth_year, sex, household_id HAVING count(*) > 1""",
    )


def _duplicates(con: duckdb.DuckDBPyConnection, kind: str, sql: str) -> Duplicates:
    groups, things = con.execute(f"SELECT count(*), coalesce(sum(len(things)), 0)::BIGINT FROM ({sql})").fetchall()[0]
    shown = con.execute(f"SELECT things FROM ({sql}) ORDER BY things LIMIT {SHOWN_DUPLICATES}").fetchall()
    return Duplicates(kind, groups, things, tuple(tuple(names) for (names,) in shown))


def _status_times(con: duckdb.DuckDBPyConnection) -> Iterator[StatusTimes]:
    rows = con.execute(
        f"""SELECT status, count(*), count(*) FILTER (status_known_at IS NULL)
        FROM now_appointments WHERE status IN {ENDED} GROUP BY status ORDER BY status"""
    )
    return (StatusTimes(*row) for row in rows.fetchall())


def _overdue(con: duckdb.DuckDBPyConnection, at: datetime) -> int:
    count: int = con.execute(
        f"SELECT count(*) FROM now_appointments WHERE status NOT IN {ENDED} AND starts_at < $at - INTERVAL 1 DAY",
        {"at": at},
    ).fetchall()[0][0]
    return count


def _months(con: duckdb.DuckDBPyConnection, time_zone: str, at: datetime) -> Iterator[Month]:
    """Whole months per clinic, those without any booking included."""
    rows = con.execute(
        f"""WITH monthly AS (
            SELECT clinic_id, CAST(date_trunc('month', {local("starts_at", time_zone)}) AS DATE) AS month,
                   count(*) AS bookings, count(*) FILTER (status = 'no_show') AS missed,
                   count(*) FILTER (status IN ('completed', 'no_show')) AS ended
            FROM now_appointments GROUP BY ALL),
        calendar AS (
            SELECT clinic_id, CAST(unnest(range(min(month), $last::DATE, INTERVAL 1 MONTH)) AS DATE) AS month
            FROM monthly GROUP BY clinic_id)
        SELECT clinic_id, month, coalesce(bookings, 0), coalesce(missed, 0), coalesce(ended, 0)
        FROM calendar LEFT JOIN monthly USING (clinic_id, month) ORDER BY clinic_id, month""",
        {"last": at.date().replace(day=1)},
    )
    return (Month(*row) for row in rows.fetchall())
