"""What happened in the end: the labels, each with the moment it became known."""

from __future__ import annotations

from datetime import datetime

import duckdb

from features.as_of import day_number, known
from features.schedule import ATTENDED, MISSED
from features.spec import Feature

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
