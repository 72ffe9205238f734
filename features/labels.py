"""What happened in the end: the labels, each with the moment it became known."""

from __future__ import annotations

from datetime import datetime

import duckdb

from features.as_of import day_number, known
from features.records.merging import attach_survivors
from features.schedule import ATTENDED, MISSED
from features.spec import Feature

RETURN_HORIZONS = (90, 180, 365)  # days
COMPLETION_HORIZONS = (180, 365)  # days
VALUE_HORIZON = 365  # days
PERIOD_DAYS = 30  # of the hazard of finishing a plan
# A patient who has not been seen for longer is not looked at any more.
SEEN_WITHIN_DAYS = 1096

# The trade's rule of thumb: lost is who left two messages or calls in a row unanswered,
# or missed more than three returns.
SEED_UNANSWERED, SEED_MISSED_RECALLS = 2, 3

# Bookings made at least this many days ahead are the ones a practice reminds of.
REMINDED_DAYS_AHEAD = 3
# A day on which less than half as many of them as usual were reminded is an outage.
OUTAGE_SHARE = 0.5

REMINDER_OUTAGE = Feature(
    "is_reminder_outage",
    "is_reminder_outage",
    f"Booked {REMINDED_DAYS_AHEAD} or more days ahead for a day on which reminders failed to go out [flag]",
    None,
)


def attach_no_show(con: duckdb.DuckDBPyConnection, until: datetime) -> None:
    """Make table ``no_show_label`` in `con`: one row per booking whose visit was kept or missed.

    A visit is missed if the patient did not come or cancelled less than 24
    hours before it. Earlier cancellations and moved bookings are neither, and
    carry no label.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With ``appointments_states`` (`features.as_of.attach_states`).
    until : datetime
        Only outcomes known before it count: a training run at `until` cannot
        have seen more. Columns: appointment_id, label (0 or 1), label_known_at.
    """
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE no_show_label AS
        SELECT appointment_id, (status IN {MISSED})::INTEGER AS label, known_at AS label_known_at
        FROM appointments_states
        WHERE {known("appointments_states", "$until")}
          AND (status IN {MISSED} OR status IN {ATTENDED})""",
        {"until": until},
    )


def attach_conditions(con: duckdb.DuckDBPyConnection, until: datetime, zone: str) -> None:
    """Make table ``no_show_conditions`` in `con`: one row per booking, what disturbed its outcome.

    Reminders lower no-shows by some 14 % (Cochrane CD007458). Where they fail
    for a day, more visits are missed for a reason that will not recur, and a
    model that does not know would expect too many misses ever after.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With ``appointments_states`` and ``communications_states``.
    until : datetime
        Only messages known before it count.
    zone : str
        Time zone of the practice.
    """
    visit, booked = day_number("starts_at", zone), day_number("booked_at", zone)
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE no_show_conditions AS
        WITH reminded AS (
            SELECT DISTINCT appointment_id FROM communications_states
            WHERE purpose = 'reminder' AND direction = 'out' AND known_at < $until),
        bookings AS (
            SELECT appointment_id, {visit} AS visit_day, {visit} - {booked} >= {REMINDED_DAYS_AHEAD} AS is_due,
                   appointment_id IN (SELECT appointment_id FROM reminded) AS is_reminded
            FROM appointments_states
            WHERE {known("appointments_states", "$until")} AND (status IN {MISSED} OR status IN {ATTENDED})),
        days AS (
            SELECT visit_day, avg(is_reminded::INTEGER) FILTER (is_due) AS share FROM bookings GROUP BY visit_day),
        outages AS (
            SELECT visit_day FROM days
            WHERE share < {OUTAGE_SHARE} * (SELECT median(share) FROM days WHERE share > 0))
        SELECT appointment_id, is_due AND visit_day IN (SELECT visit_day FROM outages) AS is_reminder_outage
        FROM bookings""",
        {"until": until},
    )


def attach_returns(con: duckdb.DuckDBPyConnection, until: datetime, horizon_days: int) -> None:
    """Make table ``snapshot_label`` in `con`: one row per row of ``looked_at``, 1 where the patient came in time.

    A window begins with the snapshot, whose features hold what lies before it,
    and ends before its last moment: in files of days, a visit on the day of the
    snapshot counts. It is over at `until`, although visits of its very last
    days that were recorded late may be missing; waiting for them would cost
    the newest month of snapshots.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With ``appointments_states`` and ``patients_states`` (`features.as_of.attach_states`)
        and ``looked_at``: patient_id, as_of, days_since_due, recall_interval_days.
    until : datetime
        Only windows that were over by then count.
    horizon_days : int
        Length of the window.
    """
    _attach_windows(con, until, f"as_of + INTERVAL {horizon_days} DAY")
    _attach_label(con, until, f"{_CAME}::INTEGER")


def attach_lapses(con: duckdb.DuckDBPyConnection, until: datetime) -> None:
    """Make table ``snapshot_label`` in `con`: one row per row of ``looked_at``, 1 where the recall window was missed.

    The window ends 90 days after the due date, or half the interval after it
    if that is more; patients whose window was over at the snapshot carry no
    label. Parameters are those of `attach_returns`.
    """
    grace = "greatest(90, recall_interval_days / 2)"
    _attach_windows(con, until, f"as_of + to_days(CAST(ceil({grace} - days_since_due) AS INTEGER))")
    _attach_label(con, until, f"(NOT {_CAME})::INTEGER")


def attach_value(con: duckdb.DuckDBPyConnection, until: datetime, horizon_days: int) -> None:
    """Make table ``snapshot_label`` in `con`: one row per row of ``looked_at``, the cents paid less those paid back.

    Windows are those of `attach_returns`; it may be negative where more was
    paid back than paid. Snapshots before the first payment in the records
    carry no label: what was paid then is not known.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        As for `attach_returns`, with ``payments_states``.
    until : datetime
        Only windows that were over by then count, and payments known before it.
    horizon_days : int
        Length of the window.
    """
    _attach_windows(con, until, f"as_of + INTERVAL {horizon_days} DAY")
    paid = f"""coalesce((SELECT sum(CASE kind WHEN 'payment' THEN amount_cents ELSE -abs(amount_cents) END)
        FROM payments_states k WHERE k.patient_id = w.person_id AND k.kind IN ('payment', 'refund')
          AND {known("k", "$until")} AND k.paid_at >= w.as_of AND k.paid_at < w.ends_at), 0)::DOUBLE"""
    _attach_label(con, until, paid, "w.as_of >= (SELECT min(paid_at) FROM payments_states)")


def attach_completions(con: duckdb.DuckDBPyConnection, until: datetime, horizon_days: int) -> None:
    """Make table ``plan_label`` in `con`: one row per row of ``looked_at``, 1 where what was agreed to was finished.

    All items that were agreed to and open at the snapshot count. One that is
    dropped later is not finished; one that is agreed to later does not count.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With ``patients_states``, ``plan_items_states``, ``looked_at`` (plan_id,
        patient_id, as_of) and ``promised`` (one row per row of ``looked_at``
        and item: plan_id, patient_id, as_of, plan_item_id).
    until : datetime
        Only windows that were over by then count, and completions known before it.
    horizon_days : int
        Length of the window.
    """
    _attach_windows(con, until, f"as_of + INTERVAL {horizon_days} DAY")
    _attach_finished(con, until)
    con.execute(
        """CREATE OR REPLACE TEMP TABLE plan_label AS
        SELECT w.plan_id, w.patient_id, w.as_of, coalesce(f.finished_at < w.ends_at, false)::INTEGER AS label,
               w.ends_at AS label_known_at
        FROM windows_over w JOIN finished f USING (plan_id, patient_id, as_of)"""
    )


def attach_completion_periods(con: duckdb.DuckDBPyConnection, until: datetime, horizon_days: int) -> None:
    """Make table ``plan_label`` in `con`: one row per row of ``looked_at`` and period of 30 days at risk.

    The first periods of a window that is not over by `until` count already.
    With the hazards ``h`` of the periods, the chance to finish in time is
    ``1 - prod(1 - h)``: a plan of which an item was dropped stays at risk and
    is never finished, as in `attach_completions`. Who died or moved away is at
    risk up to the period before.

    Parameters are those of `attach_completions`; only whole periods within
    `horizon_days` are made. The columns are those of `attach_completions` and
    ``period``, from 1 on.
    """
    periods = horizon_days // PERIOD_DAYS
    rows = f"(SELECT l.*, r.period FROM looked_at l CROSS JOIN (SELECT unnest(range(1, {periods + 1})) AS period) r)"
    _attach_windows(con, until, f"as_of + to_days({PERIOD_DAYS} * CAST(period AS INTEGER))", rows)
    _attach_finished(con, until)
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE plan_label AS
        SELECT w.plan_id, w.patient_id, w.as_of, w.period,
               coalesce(f.finished_at < w.ends_at, false)::INTEGER AS label, w.ends_at AS label_known_at
        FROM windows_over w JOIN finished f USING (plan_id, patient_id, as_of)
        WHERE w.period = 1 OR f.finished_at IS NULL OR f.finished_at >= w.ends_at - INTERVAL {PERIOD_DAYS} DAY"""
    )


def _attach_finished(con: duckdb.DuckDBPyConnection, until: datetime) -> None:
    """Make ``finished``: per row of ``looked_at``, when the last of its promised items was done; NULL if one is not."""
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE finished AS
        SELECT p.plan_id, p.patient_id, p.as_of,
               CASE WHEN count(i.completed_at) = count(*) THEN max(i.completed_at) END AS finished_at
        FROM promised p
        LEFT JOIN plan_items_states i ON i.plan_item_id = p.plan_item_id AND {known("i", "$until")}
        GROUP BY p.plan_id, p.patient_id, p.as_of""",
        {"until": until},
    )


_CAME = f"""EXISTS (SELECT 1 FROM appointments_states k WHERE k.patient_id = w.person_id
    AND k.status IN {ATTENDED} AND {known("k", "$until")} AND k.starts_at >= w.as_of AND k.starts_at < w.ends_at)"""


def _attach_windows(con: duckdb.DuckDBPyConnection, until: datetime, end: str, rows: str = "looked_at") -> None:
    """Make ``windows_over``: `rows` whose window was over, with whom they are about at `until` and the window's end.

    Who died or moved away within the window is left out.
    """
    _attach_persons(con, until)
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE windows_over AS
        WITH windows AS (
            SELECT w.*, {end} AS ends_at, coalesce(s.person_id, w.patient_id) AS person_id
            FROM {rows} w LEFT JOIN persons s ON s.patient_id = w.patient_id),
        gone AS (
            SELECT patient_id AS person_id, min(coalesce(CAST(departed_on AS TIMESTAMPTZ), known_at)) AS gone_at
            FROM patients_states
            WHERE departure IN ('deceased', 'moved') AND {known("patients_states", "$until")} GROUP BY 1)
        SELECT w.* FROM windows w
        WHERE w.ends_at > w.as_of AND w.ends_at <= $until
          AND NOT EXISTS (SELECT 1 FROM gone g WHERE g.person_id = w.person_id
                          AND g.gone_at >= w.as_of AND g.gone_at < w.ends_at)""",
        {"until": until},
    )


def _attach_persons(con: duckdb.DuckDBPyConnection, until: datetime) -> None:
    """Make ``persons``: for everybody merged by `until`, the number that counted then."""
    if attach_survivors(con):
        then = "coalesce(from_at < $until, true) AND coalesce(until_at >= $until, true)"
        merged, told = f"SELECT patient_id, survivor_id AS person_id FROM survivors WHERE {then}", {"until": until}
    else:
        merged, told = "SELECT NULL::VARCHAR AS patient_id, NULL::VARCHAR AS person_id WHERE false", {}
    con.execute(f"CREATE OR REPLACE TEMP TABLE persons AS {merged}", told)


def _attach_label(con: duckdb.DuckDBPyConnection, until: datetime, label: str, condition: str = "true") -> None:
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE snapshot_label AS
        SELECT w.patient_id, w.as_of, {label} AS label, w.ends_at AS label_known_at
        FROM windows_over w WHERE {condition}""",
        {"until": until} if "$until" in label else {},
    )
