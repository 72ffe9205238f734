"""Appointment-grain features: what was known about a booking when it was decided upon.

One row per booking and decision moment. There are two moments: one minute
after the booking was made, when it and all that was booked in the same breath
are in the system, and the evening before the visit.
"""

from __future__ import annotations

import duckdb

from features.as_of import attach_states, day_number, days_between, evening_before, known, local
from features.settings import Settings
from features.spec import Feature

RECORDS = ("patients", "appointments", "communications")
BOOKING, EVENING = "booking", "evening"
SECONDS_AFTER_BOOKING = 60

ATTENDED = "('arrived', 'completed')"
MISSED = "('no_show', 'cancelled_late')"

# Visits that a share is drawn towards the wider group's share by, so that one missed
# visit of one does not read as 100 %.
IMAGINED_VISITS_PATIENT = 2
IMAGINED_VISITS_GROUP = 50

FEATURES: tuple[Feature, ...] = (
    Feature(
        "days_until_visit",
        "days_until_visit",
        "From the decision to the day of the visit [days]",
        "lead_time",
        1,
    ),
    Feature("days_since_booking", "days_since_booking", "From the booking to the decision [days]", "lead_time"),
    Feature("is_booked_same_day", "days_booked_ahead = 0", "Booked on the day of the visit [flag]", "lead_time"),
    Feature("visit_weekday", "visit_weekday", "Weekday of the visit, Monday is 0 [weekday]", "time_slot"),
    Feature("visit_hour", "visit_hour", "Hour of the start, if it is known [hour]", "time_slot"),
    Feature("booking_hour", "booking_hour", "Hour at which the booking was made [hour]", "booking_pattern"),
    Feature(
        "bookings_made_count_1d",
        "coalesce(bookings_made, 0)",
        "Other bookings of the patient made on the same day [bookings]",
        "booking_pattern",
    ),
    Feature(
        "bookings_open_count_ever",
        "coalesce(bookings_open, 0)",
        "Other bookings of the patient still ahead [bookings]",
        "booking_pattern",
    ),
    Feature(
        "visits_planned_count_1d",
        "coalesce(visits_planned, 0)",
        "Other bookings of the patient for the same day [bookings]",
        "same_day_visits",
    ),
    Feature(
        "bookings_batched_count_1d",
        "coalesce(bookings_batched, 0)",
        "Bookings of other patients for the same clinic and day made within the same minute [bookings]",
        "booking_pattern",
    ),
    Feature(
        "visits_ended_count_ever",
        "coalesce(visits_ended, 0)",
        "Past visits that were kept or missed [visits]",
        "attendance",
    ),
    Feature(
        "visits_missed_count_ever",
        "coalesce(visits_missed, 0)",
        "Past visits missed [visits]",
        "missed_visits",
        1,
    ),
    Feature(
        "visits_missed_share_ever",
        f"(coalesce(visits_missed, 0) + {IMAGINED_VISITS_PATIENT} * practice_share)"
        f" / (coalesce(visits_ended, 0) + {IMAGINED_VISITS_PATIENT})",
        f"Past visits missed, drawn towards the practice's share by {IMAGINED_VISITS_PATIENT} imagined visits [share]",
        "missed_visits",
        1,
    ),
    Feature(
        "has_missed_last_visit",
        "coalesce(last_outcome_missed, false)",
        "The last visit that ended was missed [flag]",
        "missed_visits",
        1,
    ),
    Feature(
        "visits_cancelled_count_ever",
        "coalesce(visits_cancelled, 0)",
        "Past bookings cancelled or moved in time [bookings]",
        "attendance",
    ),
    Feature(
        "days_since_visit_kept",
        "days_since_visit_kept",
        "Since the last visit that was kept [days]",
        "last_visit",
    ),
    Feature(
        "days_since_visit_missed",
        "days_since_visit_missed",
        "Since the last visit that was missed [days]",
        "missed_visits",
    ),
    Feature(
        "reminders_sent_count_ever",
        "coalesce(reminders_sent, 0)",
        "Reminders sent about this booking [messages]",
        "reminder",
    ),
    Feature(
        "reminders_confirmed_count_ever",
        "coalesce(reminders_confirmed, 0)",
        "Reminders about this booking that the patient confirmed [messages]",
        "reminder",
        -1,
    ),
    Feature(
        "clinic_missed_share_90d",
        "clinic_share",
        f"Visits missed at the clinic, drawn towards the practice's share by {IMAGINED_VISITS_GROUP} visits [share]",
        "clinic_level",
        1,
    ),
    Feature(
        "service_missed_share_365d",
        "service_share",
        f"Visits missed in the service line, drawn towards the practice's by {IMAGINED_VISITS_GROUP} visits [share]",
        "service",
        1,
    ),
    Feature("years_since_birth", "years_since_birth", "Age in the year of the decision [years]", None),
    Feature("is_female", "is_female", "Sex recorded as female [flag]", None),
    Feature("tags_recorded_count_ever", "tags_recorded", "Tags on the patient's file [tags]", None),
)


def spine_sql(zone: str, evening_hour: int) -> str:
    """SQL of the spine: one row per booking and decision moment, with ``as_of``.

    A booking is decided upon in the evening before only if it was made by then
    and still stood.
    """
    evening = evening_before("starts_at", zone, evening_hour)
    return f"""
        SELECT appointment_id, patient_id, '{BOOKING}' AS moment,
               min(known_at) + INTERVAL {SECONDS_AFTER_BOOKING} SECOND AS as_of
        FROM appointments_states WHERE status = 'booked' GROUP BY ALL
        UNION ALL
        SELECT appointment_id, patient_id, '{EVENING}' AS moment, {evening} AS as_of
        FROM appointments_states
        WHERE status = 'booked' AND {known("appointments_states", evening)}"""


def build_spine(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Make table ``spine`` in `con`: one row per booking and decision moment of the whole history."""
    attach_states(con, "appointments")
    spine = spine_sql(settings.practice.time_zone, settings.no_show.evening_hour)
    con.execute(f"CREATE OR REPLACE TEMP TABLE spine AS {spine}")


def build_schedule(con: duckdb.DuckDBPyConnection, settings: Settings) -> duckdb.DuckDBPyConnection:
    """Make table ``schedule`` in `con`: one row per row of ``spine``, one column per feature.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With the stored tables of `RECORDS` attached and a table ``spine``
        (appointment_id, patient_id, moment, as_of).
    settings : Settings
        Of the practice.

    Returns
    -------
    duckdb.DuckDBPyConnection
        `con`, for chaining.
    """
    for table in RECORDS:
        attach_states(con, table)
    _outcomes(con)
    con.execute(f"CREATE OR REPLACE TEMP TABLE schedule AS {_schedule_sql(settings.practice.time_zone)}")
    return con


def _outcomes(con: duckdb.DuckDBPyConnection) -> None:
    """Running totals of kept and missed visits, by the moment they became known."""
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE outcomes AS
        SELECT clinic_id, coalesce(service_line, '') AS service_line, known_at, (status IN {MISSED})::INTEGER AS missed
        FROM appointments_states WHERE status IN {ATTENDED} OR status IN {MISSED}
        QUALIFY row_number() OVER (PARTITION BY appointment_id ORDER BY known_at) = 1"""
    )
    for name, by in (("practice", ""), ("clinic", "clinic_id"), ("service", "service_line")):
        group = f"{by}, " if by else ""
        partition = f"PARTITION BY {by} " if by else ""
        con.execute(
            f"""CREATE OR REPLACE TEMP TABLE {name}_totals AS
            SELECT DISTINCT {group}known_at, count(*) OVER w AS ended, sum(missed) OVER w AS missed
            FROM outcomes WINDOW w AS ({partition}ORDER BY known_at)"""
        )


def _schedule_sql(zone: str) -> str:
    return f"""
    WITH booking AS ({_booking(zone)}),
    history AS ({_history(zone)}),
    batch AS ({_batch(zone)}),
    reminders AS ({_reminders()}),
    shares AS ({_shares()})
    SELECT s.appointment_id, s.moment, s.as_of, {", ".join(f"{_cast(f)} AS {f.name}" for f in FEATURES)}
    FROM booking s
    LEFT JOIN history USING (appointment_id, as_of)
    LEFT JOIN batch USING (appointment_id, as_of)
    LEFT JOIN reminders USING (appointment_id, as_of)
    LEFT JOIN shares USING (appointment_id, as_of)
    ORDER BY s.as_of, s.appointment_id"""


def _cast(feature: Feature) -> str:
    """Every feature is stored as a double: what models read, and what Feast returns unchanged."""
    return f"CAST({feature.sql} AS DOUBLE)"


def _booking(zone: str) -> str:
    """The booking itself and its patient, as known at the moment."""
    visit = day_number("b.starts_at", zone)
    booked = day_number("b.booked_at", zone)
    decided = day_number("spine.as_of", zone)
    return f"""
        SELECT spine.appointment_id, spine.patient_id, spine.moment, spine.as_of,
               b.clinic_id, coalesce(b.service_line, '') AS service_line,
               {visit} AS visit_day, {booked} AS booked_day, b.booked_at,
               {visit} - {decided} AS days_until_visit,
               {decided} - {booked} AS days_since_booking,
               {visit} - {booked} AS days_booked_ahead,
               isodow({local("b.starts_at", zone)}) - 1 AS visit_weekday,
               CASE WHEN coalesce(b.is_start_time_known, true)
                    THEN hour({local("b.starts_at", zone)}) END AS visit_hour,
               hour({local("b.booked_at", zone)}) AS booking_hour,
               year({local("spine.as_of", zone)}) - p.birth_year AS years_since_birth,
               p.sex = 'female' AS is_female,
               len(string_split(p.tags, ';')) AS tags_recorded
        FROM spine
        JOIN appointments_states b ON b.appointment_id = spine.appointment_id AND {known("b", "spine.as_of")}
        LEFT JOIN patients_states p ON p.patient_id = spine.patient_id AND {known("p", "spine.as_of")}"""


def _history(zone: str) -> str:
    """The patient's other bookings, as known at the moment."""
    kept, missed = f"h.status IN {ATTENDED}", f"h.status IN {MISSED}"
    ahead = "h.status = 'booked' AND h.starts_at >= s.as_of"
    same_day = f"h.status = 'booked' AND {day_number('h.starts_at', zone)} = s.visit_day"
    return f"""
        SELECT s.appointment_id, s.as_of,
               count(*) FILTER ({kept} OR {missed}) AS visits_ended,
               count(*) FILTER ({missed}) AS visits_missed,
               count(*) FILTER (h.status IN ('cancelled_early', 'rescheduled')) AS visits_cancelled,
               count(*) FILTER ({ahead}) AS bookings_open,
               count(*) FILTER ({day_number("h.booked_at", zone)} = s.booked_day) AS bookings_made,
               count(*) FILTER ({same_day}) AS visits_planned,
               arg_max({missed}, (h.starts_at, h.appointment_id)) FILTER ({kept} OR {missed}) AS last_outcome_missed,
               {days_between(f"max(h.starts_at) FILTER ({kept})", "s.as_of")} AS days_since_visit_kept,
               {days_between(f"max(h.starts_at) FILTER ({missed})", "s.as_of")} AS days_since_visit_missed
        FROM booking s
        JOIN appointments_states h
          ON h.patient_id = s.patient_id AND h.appointment_id <> s.appointment_id AND {known("h", "s.as_of")}
        GROUP BY s.appointment_id, s.as_of"""


def _batch(zone: str) -> str:
    """Other patients booked into the same clinic and day within the same minute: families, groups, clinic lists."""
    return f"""
        SELECT s.appointment_id, s.as_of, count(*) AS bookings_batched
        FROM booking s
        JOIN appointments_states o
          ON o.clinic_id = s.clinic_id AND {day_number("o.starts_at", zone)} = s.visit_day
         AND {day_number("o.booked_at", zone)} = s.booked_day
         AND o.patient_id <> s.patient_id AND {known("o", "s.as_of")}
         AND abs(epoch_us(o.booked_at) - epoch_us(s.booked_at)) <= {SECONDS_AFTER_BOOKING * 1_000_000}
        GROUP BY s.appointment_id, s.as_of"""


def _reminders() -> str:
    """Messages about this booking, as known at the moment."""
    return f"""
        SELECT s.appointment_id, s.as_of,
               count(*) AS reminders_sent,
               count(*) FILTER (c.outcome = 'confirmed') AS reminders_confirmed
        FROM booking s
        JOIN communications_states c
          ON c.appointment_id = s.appointment_id AND c.purpose = 'reminder' AND c.direction = 'out'
         AND {known("c", "s.as_of")}
        GROUP BY s.appointment_id, s.as_of"""


def _shares() -> str:
    """Shares of missed visits in the practice (ever), the clinic (90 days) and the service line (365 days)."""
    practice = "(coalesce(a.missed, 0) + 1.0) / (coalesce(a.ended, 0) + 10.0)"  # one of ten, until visits tell more

    def window(name: str) -> str:
        missed = f"coalesce({name}_now.missed, 0) - coalesce({name}_then.missed, 0)"
        ended = f"coalesce({name}_now.ended, 0) - coalesce({name}_then.ended, 0)"
        return f"({missed} + {IMAGINED_VISITS_GROUP} * practice_share) / ({ended} + {IMAGINED_VISITS_GROUP})"

    return f"""
        WITH level AS (
            SELECT s.appointment_id, s.as_of, s.clinic_id, s.service_line, {practice} AS practice_share,
                   s.as_of - INTERVAL 90 DAY AS clinic_from, s.as_of - INTERVAL 365 DAY AS service_from
            FROM booking s ASOF LEFT JOIN practice_totals a ON s.as_of > a.known_at)
        SELECT level.appointment_id, level.as_of, practice_share,
               {window("clinic")} AS clinic_share, {window("service")} AS service_share
        FROM level
        ASOF LEFT JOIN clinic_totals clinic_now
          ON clinic_now.clinic_id = level.clinic_id AND level.as_of > clinic_now.known_at
        ASOF LEFT JOIN clinic_totals clinic_then
          ON clinic_then.clinic_id = level.clinic_id AND level.clinic_from > clinic_then.known_at
        ASOF LEFT JOIN service_totals service_now
          ON service_now.service_line = level.service_line AND level.as_of > service_now.known_at
        ASOF LEFT JOIN service_totals service_then
          ON service_then.service_line = level.service_line AND level.service_from > service_then.known_at"""
