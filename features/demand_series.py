"""Demand month by month, as the practice's system knew it at a moment: what was done, what is booked, what is open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import duckdb
import pandas as pd

from features.as_of import attach_states, known, local
from features.duck import connect
from features.errors import NotBuiltError, NotEnoughDataError
from features.opening_hours import opening_months
from features.records.store import RecordStore
from features.settings import Settings

MEASURES = ("visits", "chair_hours", "revenue", "new_patients")
KEYS = ["clinic", "service_line", "clinician"]
TABLES = ("appointments", "payments", "patients", "clinics", "clinicians", "capacity", "closures")
LATE_START = 8  # records that begin after this day of a month have that month by halves: it is left out
SIGNAL_STEPS = 3  # months for which the book says something
SIGNAL_MONTHS = 24  # earlier moments at which the book is looked at
KEPT = "('arrived', 'completed')"


@dataclass(frozen=True)
class DemandRecords:
    """What the records say about demand at a moment.

    Attributes
    ----------
    series : pandas.DataFrame
        One row per clinic, service line, clinician and month with anything in it: visits kept, chair_hours (planned
        length of visits kept), revenue (money received less refunds, major unit) and new_patients (first visit
        ever). A measure that the records do not hold is missing as a column. Only whole months, the last one before
        the moment included.
    book : pandas.DataFrame
        One row per months_back, step, clinic and service line: ``booked``, the bookings that stood in the book (or
        were kept already) for the month ``step`` months ahead, as known ``months_back`` months before the moment.
    opening : pandas.DataFrame
        From `opening_months`; reaches `horizon` months beyond the last whole month.
    clinics : pandas.DataFrame
        One row per clinic: clinic, opened_on.
    clinicians : pandas.DataFrame
        One row per clinician: clinician, left_on as known at the moment.
    months : pandas.PeriodIndex
        The whole months there are.
    """

    series: pd.DataFrame
    book: pd.DataFrame
    opening: pd.DataFrame
    clinics: pd.DataFrame
    clinicians: pd.DataFrame
    months: pd.PeriodIndex


def read_demand(settings: Settings, now: datetime, horizon: int = 12) -> DemandRecords:
    """Read monthly demand from the record store, seeing nothing that was recorded at or after `now`.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    now : datetime
        Aware; the month it falls in is not over and not in the series.
    horizon : int
        Months for which opening hours are given ahead.

    Raises
    ------
    NotBuiltError
        Nothing has been imported.
    NotEnoughDataError
        There is no whole month of visits.
    """
    records = RecordStore(settings.paths.records)
    if "appointments" not in records.versions():
        raise NotBuiltError("there are no records yet; run `revisit import FILE --mapping MAPPING` first.")
    moment = f"TIMESTAMPTZ '{now.isoformat()}'"
    with connect() as con:
        records.attach(con, TABLES)
        for table in TABLES:
            attach_states(con, table)
        _attach_kept(con, moment, settings.practice.time_zone)
        months = _whole_months(con, now, settings)
        series = _series(con, months, moment, settings.practice.time_zone)
        book = _book(con, now, settings)
        tables = {
            "clinics": con.sql(
                f"SELECT clinic_id AS clinic, opened_on FROM clinics_states c WHERE {known('c', moment)}"
            ),
            "clinicians": con.sql(
                f"SELECT clinician_id AS clinician, left_on FROM clinicians_states c WHERE {known('c', moment)}"
            ),
            "capacity": con.sql(
                "SELECT clinic_id AS clinic, weekday, chair_hours, valid_from_on "
                f"FROM capacity_states c WHERE {known('c', moment)}"
            ),
            "closures": con.sql(
                f"SELECT clinic_id AS clinic, closed_on FROM closures_states c WHERE {known('c', moment)}"
            ),
        }
        frames = {name: relation.df() for name, relation in tables.items()}
    clinics = sorted({*series["clinic"], *frames["clinics"]["clinic"]})
    span = pd.period_range(months[0], months[-1] + horizon, freq="M")
    opening = opening_months(frames["capacity"], frames["closures"], clinics, span, settings.practice.country)
    return DemandRecords(series, book, opening, frames["clinics"], frames["clinicians"], months)


def _attach_kept(con: duckdb.DuckDBPyConnection, moment: str, zone: str) -> None:
    """Make ``kept``: one row per visit kept, its local month and hours, and whether it was the patient's first."""
    con.execute(
        f"""CREATE TEMP TABLE kept AS
        SELECT a.appointment_id, a.clinic_id AS clinic, coalesce(a.service_line, '') AS service_line,
            coalesce(a.clinician_id, '') AS clinician, CAST({local("a.starts_at", zone)} AS DATE) AS day_on,
            CAST(date_trunc('month', {local("a.starts_at", zone)}) AS DATE) AS month_on,
            coalesce(a.duration_minutes, avg(a.duration_minutes) OVER (PARTITION BY a.service_line)) / 60 AS hours,
            row_number() OVER (PARTITION BY a.patient_id ORDER BY a.starts_at, a.appointment_id) = 1
              AND coalesce(p.first_seen_on >= CAST({local("a.starts_at", zone)} AS DATE), true) AS is_first
        FROM appointments_states a
        LEFT JOIN patients_states p ON p.patient_id = a.patient_id AND {known("p", moment)}
        WHERE {known("a", moment)} AND a.status IN {KEPT} AND a.starts_at < {moment}"""
    )


def _whole_months(con: duckdb.DuckDBPyConnection, now: datetime, settings: Settings) -> pd.PeriodIndex:
    (first,) = con.execute("SELECT min(day_on) FROM kept").fetchall()[0]
    last = pd.Period(now.astimezone(settings.zone).date(), "M") - 1
    if first is not None:
        begins = pd.Period(first, "M") + (1 if first.day > LATE_START else 0)
        if begins <= last:
            return pd.period_range(begins, last, freq="M")
    raise NotEnoughDataError(f"There is no whole month of visits before {last + 1}; a forecast needs at least one.")


def _series(con: duckdb.DuckDBPyConnection, months: pd.PeriodIndex, moment: str, zone: str) -> pd.DataFrame:
    visits = con.sql(
        f"""SELECT {", ".join(KEYS)}, month_on, count(*) AS visits, sum(hours) AS chair_hours,
            count(*) FILTER (is_first) AS new_patients FROM kept GROUP BY ALL"""
    ).df()
    # Where only charges are recorded, they stand for the money.
    money = con.sql(
        f"""WITH entries AS (
            SELECT p.*, count(*) FILTER (kind = 'payment') OVER () = 0 AS is_charges_alone
            FROM payments_states p WHERE {known("p", moment)} AND p.paid_at < {moment})
        SELECT coalesce(e.clinic_id, a.clinic_id, '') AS clinic,
            coalesce(e.service_line, a.service_line, '') AS service_line, coalesce(a.clinician_id, '') AS clinician,
            CAST(date_trunc('month', {local("e.paid_at", zone)}) AS DATE) AS month_on,
            sum(CASE WHEN e.kind = 'refund' THEN -abs(e.amount_cents) ELSE e.amount_cents END) / 100 AS revenue
        FROM entries e
        LEFT JOIN appointments_states a ON a.appointment_id = e.appointment_id AND {known("a", moment)}
        WHERE e.kind = 'refund' OR e.kind = CASE WHEN is_charges_alone THEN 'charge' ELSE 'payment' END
        GROUP BY ALL"""
    ).df()
    if visits["chair_hours"].isna().all():
        visits = visits.drop(columns="chair_hours")
    table = visits.merge(money, on=[*KEYS, "month_on"], how="outer") if len(money) else visits
    measures = [name for name in MEASURES if name in table]
    table["month"] = pd.to_datetime(table.pop("month_on")).dt.to_period("M")
    table = table[table["month"].isin(months)]
    table[measures] = table[measures].astype(float).fillna(0.0).clip(lower=0)
    return pd.DataFrame(table.sort_values([*KEYS, "month"])[[*KEYS, "month", *measures]].reset_index(drop=True))


def _book(con: duckdb.DuckDBPyConnection, now: datetime, settings: Settings) -> pd.DataFrame:
    """What stood in the book at the same distance before earlier months; see `DemandRecords`."""
    here = pd.Timestamp(now).tz_convert(settings.practice.time_zone).tz_localize(None)
    back = range(SIGNAL_MONTHS + 1)
    moments = pd.DataFrame(
        {
            "months_back": list(back),
            # The month's last day where the month is shorter, as pandas does.
            "moment": pd.DatetimeIndex([here - pd.DateOffset(months=n) for n in back]).tz_localize(
                settings.practice.time_zone, ambiguous=True, nonexistent="shift_forward"
            ),
        }
    )
    con.register("moments", moments)
    start = local("a.starts_at", settings.practice.time_zone)
    begin = local("m.moment", settings.practice.time_zone)
    found: pd.DataFrame = con.sql(
        f"""SELECT m.months_back, 1 + datediff('month', CAST({begin} AS DATE), CAST({start} AS DATE)) AS step,
            a.clinic_id AS clinic, coalesce(a.service_line, '') AS service_line, count(*) AS booked
        FROM moments m JOIN appointments_states a
          ON {known("a", "m.moment")} AND a.status IN ('booked', 'arrived', 'completed')
          AND {start} >= date_trunc('month', {begin})
          AND {start} < date_trunc('month', {begin}) + INTERVAL {SIGNAL_STEPS} MONTH
        GROUP BY ALL ORDER BY ALL"""
    ).df()
    con.unregister("moments")
    return found
