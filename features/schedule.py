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

SECONDS_OF_A_BREATH = 10  # bookings of one call or one form
SESSION_MINUTES = 15  # bookings of one sitting at the desk

# Tags that say something about keeping visits; a practice's own words are translated by its mapping.
KNOWN_TAGS = ("hypertension", "diabetes", "alcoholism", "handicap", "anxious")

# How many visits' worth of the wider group's share a share or ratio starts from, so that one
# missed visit of one does not read as "always".
IMAGINED_VISITS = 1
IMAGINED_VISITS_GROUP = 50
CLINIC_DAYS, SERVICE_DAYS = 90, 365  # over which a clinic's and a service line's missed visits are counted

FEATURES: tuple[Feature, ...] = (
    Feature("days_until_visit", "days_until_visit", "From the decision to the day of the visit [days]", "lead_time"),
    Feature("days_since_booking", "days_since_booking", "From the booking to the decision [days]", "lead_time"),
    Feature("is_booked_same_day", "days_booked_ahead = 0", "Booked on the day of the visit [flag]", "lead_time"),
    Feature("visit_weekday", "visit_weekday", "Weekday of the visit, Monday is 0 [weekday]", "time_slot"),
    Feature("visit_hour", "visit_hour", "Hour of the start, if it is known [hour]", "time_slot"),
    Feature("booking_hour", "booking_hour", "Time of day at which the booking was made [hour]", "booking_pattern"),
    Feature(
        "is_booked_whole_weeks_ahead",
        "days_booked_ahead > 0 AND days_booked_ahead % 7 = 0",
        "For the same weekday one or more weeks later [flag]",
        "lead_time",
    ),
    Feature(
        "bookings_made_count_1d",
        "coalesce(bookings_made, 0)",
        "Other bookings of the patient made on the same day [bookings]",
        "booking_pattern",
    ),
    Feature(
        "bookings_joint_count_1d",
        "coalesce(bookings_joint, 0)",
        "Other bookings of the patient made within the same minute [bookings]",
        "booking_pattern",
    ),
    Feature(
        "visits_planned_count_1d",
        "coalesce(visits_planned, 0)",
        "Other bookings of the patient for the same day [bookings]",
        "same_day_visits",
    ),
    Feature(
        "visits_open_before_count_ever",
        "coalesce(open_before, 0)",
        "Other bookings of the patient that come before this one [bookings]",
        "booking_pattern",
    ),
    Feature(
        "visits_open_after_count_ever",
        "coalesce(open_after, 0)",
        "Other bookings of the patient that come after this one [bookings]",
        "booking_pattern",
    ),
    Feature(
        "companions_minute_count_1d",
        "coalesce(companions_minute, 0)",
        "Other patients booked for the same clinic and day within a minute [bookings]",
        "booking_pattern",
    ),
    Feature(
        "companions_breath_count_1d",
        "coalesce(companions_breath, 0)",
        f"Other patients booked for the same clinic and day within {SECONDS_OF_A_BREATH} seconds [bookings]",
        "booking_pattern",
    ),
    Feature(
        "companions_session_count_1d",
        "coalesce(companions_session, 0)",
        f"Other patients booked for the same clinic and day in the {SESSION_MINUTES} minutes before [bookings]",
        "booking_pattern",
    ),
    Feature(
        "companions_peer_count_1d",
        "coalesce(companions_peer, 0)",
        "Of those within a minute: within three years of the patient's age [bookings]",
        "booking_pattern",
    ),
    Feature(
        "bookings_simultaneous_count_1d",
        "coalesce(bookings_simultaneous, 0)",
        "Bookings of other patients in the very same second, anywhere in the practice [bookings]",
        "booking_pattern",
    ),
    Feature(
        "visits_ended_count_ever",
        "coalesce(visits_ended, 0)",
        "Past visits that were kept or missed [visits]",
        "attendance",
    ),
    Feature("visits_missed_count_ever", "coalesce(visits_missed, 0)", "Past visits missed [visits]", "missed_visits"),
    Feature(
        "visits_missed_excess_mean_ever",
        f"ln((coalesce(visits_missed, 0) + {IMAGINED_VISITS})"
        f" / (coalesce(ahead_expected + same_day_expected, 0) + {IMAGINED_VISITS}))",
        "Visits missed over those expected of bookings made as they were, same-day or ahead [log ratio]",
        "missed_visits",
        1,
    ),
    Feature(
        "visits_ahead_missed_excess_mean_ever",
        f"ln((coalesce(ahead_missed, 0) + {IMAGINED_VISITS}) / (coalesce(ahead_expected, 0) + {IMAGINED_VISITS}))",
        "The same for visits booked at least a day ahead [log ratio]",
        "missed_visits",
        1,
    ),
    Feature(
        "visits_same_day_missed_excess_mean_ever",
        f"ln((coalesce(same_day_missed, 0) + {IMAGINED_VISITS})"
        f" / (coalesce(same_day_expected, 0) + {IMAGINED_VISITS}))",
        "The same for visits booked on their day [log ratio]",
        "missed_visits",
        1,
    ),
    Feature(
        "has_missed_last_visit",
        "coalesce(last_outcome_missed, false)",
        "The last visit that ended was missed [flag]",
        "missed_visits",
    ),
    Feature(
        "has_kept_last_visit",
        "coalesce(NOT last_outcome_missed, false)",
        "The last visit that ended was kept [flag]",
        "attendance",
    ),
    Feature(
        "visits_cancelled_count_ever",
        "coalesce(visits_cancelled, 0)",
        "Past bookings cancelled or moved in time [bookings]",
        "attendance",
    ),
    Feature(
        "days_since_visit_kept", "days_since_visit_kept", "Since the last visit that was kept [days]", "last_visit"
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
        "clinic_missed_excess_mean_90d",
        "clinic_excess",
        f"Visits missed at the clinic over the practice's share, {IMAGINED_VISITS_GROUP} visits imagined [log ratio]",
        "clinic_level",
        1,
    ),
    Feature(
        "service_missed_excess_mean_365d",
        "service_excess",
        f"Visits missed in the service line over the practice's share, {IMAGINED_VISITS_GROUP} imagined [log ratio]",
        "service",
        1,
    ),
    Feature("years_since_birth", "years_since_birth", "Age in the year of the decision [years]", None),
    Feature("is_female", "is_female", "Sex recorded as female [flag]", None),
    *(
        Feature(
            f"has_tag_{tag}",
            f"coalesce(list_contains(tags, '{tag}'), false)",
            f"Tag {tag!r} on the patient's file [flag]",
            None,
        )
        for tag in KNOWN_TAGS
    ),
)


def spine_sql(zone: str, evening_hour: int) -> str:
    """SQL of the spine: one row per booking and decision moment, with ``as_of``.

    A booking is decided upon in the evening before only if it was made by then
    and still stood.
    """
    evening = evening_before("starts_at", zone, evening_hour)
    return f"""
        SELECT appointment_id, arg_min(patient_id, known_at) AS patient_id, '{BOOKING}' AS moment,
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


def build_schedule(con: duckdb.DuckDBPyConnection, settings: Settings, outcomes: str = "") -> duckdb.DuckDBPyConnection:
    """Make table ``schedule`` in `con`: one row per row of ``spine``, one column per feature.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With the stored tables of `RECORDS` attached and a table ``spine``
        (appointment_id, patient_id, moment, as_of).
    settings : Settings
        Of the practice.
    outcomes : str
        SQL of the practice's `outcomes_sql`, or of sums, where the stored tables hold some patients alone.

    Returns
    -------
    duckdb.DuckDBPyConnection
        `con`, for chaining.
    """
    zone = settings.practice.time_zone
    for table in RECORDS:
        attach_states(con, table)
    con.execute(f"CREATE OR REPLACE TEMP TABLE outcomes AS {outcomes or outcomes_sql('appointments_states', zone)}")
    _totals(con)
    con.execute(f"CREATE OR REPLACE TEMP TABLE schedule AS {_schedule_sql(zone)}")
    return con


def outcomes_sql(appointments: str, zone: str) -> str:
    """SQL of the first outcome of every visit in `appointments` (states): one row per visit kept or missed."""
    return f"""
        SELECT hash(appointment_id) AS key_hash, clinic_id, coalesce(service_line, '') AS service_line, known_at,
               1 AS ended, (status IN {MISSED})::INTEGER AS missed,
               {day_number("booked_at", zone)} < {day_number("starts_at", zone)} AS is_ahead
        FROM {appointments} WHERE status IN {ATTENDED} OR status IN {MISSED}
        QUALIFY row_number() OVER (PARTITION BY appointment_id ORDER BY known_at) = 1"""


def _totals(con: duckdb.DuckDBPyConnection) -> None:
    """Running totals of kept and missed visits, by the moment they became known."""
    totals = (
        ("practice", "", "true"),
        ("ahead", "", "is_ahead"),
        ("same_day", "", "NOT is_ahead"),
        ("clinic", "clinic_id", "true"),
        ("service", "service_line", "true"),
    )
    for name, by, condition in totals:
        con.execute(
            f"""CREATE OR REPLACE TEMP TABLE {name}_totals AS
            SELECT DISTINCT {f"{by}, " if by else ""}known_at, (sum(ended) OVER w)::BIGINT AS ended,
                   sum(missed) OVER w AS missed
            FROM outcomes WHERE {condition}
            WINDOW w AS ({f"PARTITION BY {by} " if by else ""}ORDER BY known_at)"""
        )


def _schedule_sql(zone: str) -> str:
    parts = {
        "booking": _booking(zone),
        "level": _level(),
        "history": _history(zone),
        "companions": _companions(zone),
        "simultaneous": _simultaneous(),
        "reminders": _reminders(),
        "groups": _groups(),
    }
    joined = ("history", "companions", "simultaneous", "reminders", "groups")
    return f"""
    WITH {", ".join(f"{name} AS ({sql})" for name, sql in parts.items())}
    SELECT s.appointment_id, spine.moment, s.as_of, {", ".join(f"{_cast(f)} AS {f.name}" for f in FEATURES)}
    FROM spine
    JOIN booking s USING (appointment_id, as_of)
    {" ".join(f"LEFT JOIN {name} USING (appointment_id, as_of)" for name in joined)}
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
        SELECT spine.appointment_id, spine.patient_id, spine.as_of,
               b.clinic_id, coalesce(b.service_line, '') AS service_line,
               {visit} AS visit_day, {booked} AS booked_day, b.booked_at,
               {visit} - {decided} AS days_until_visit,
               {decided} - {booked} AS days_since_booking,
               {visit} - {booked} AS days_booked_ahead,
               isodow({local("b.starts_at", zone)}) - 1 AS visit_weekday,
               CASE WHEN coalesce(b.is_start_time_known, true)
                    THEN hour({local("b.starts_at", zone)}) END AS visit_hour,
               hour({local("b.booked_at", zone)}) + minute({local("b.booked_at", zone)}) / 60.0 AS booking_hour,
               p.birth_year, year({local("spine.as_of", zone)}) - p.birth_year AS years_since_birth,
               p.sex = 'female' AS is_female,
               coalesce(string_split(p.tags, ';'), []) AS tags
        FROM (SELECT DISTINCT appointment_id, patient_id, as_of FROM spine) spine  -- two moments may fall together
        JOIN appointments_states b ON b.appointment_id = spine.appointment_id AND {known("b", "spine.as_of")}
        LEFT JOIN patients_states p ON p.patient_id = spine.patient_id AND {known("p", "spine.as_of")}"""


def _history(zone: str) -> str:
    """The patient's other bookings, as known at the moment."""
    kept, missed = f"h.status IN {ATTENDED}", f"h.status IN {MISSED}"
    ended, standing = f"({kept} OR {missed})", "h.status = 'booked'"
    booked, visit = day_number("h.booked_at", zone), day_number("h.starts_at", zone)
    ahead = f"{booked} < {visit}"
    return f"""
        SELECT s.appointment_id, s.as_of,
               count(*) FILTER ({ended}) AS visits_ended,
               count(*) FILTER ({missed}) AS visits_missed,
               count(*) FILTER ({missed} AND {ahead}) AS ahead_missed,
               any_value(l.share_ahead) * count(*) FILTER ({ended} AND {ahead}) AS ahead_expected,
               count(*) FILTER ({missed} AND NOT {ahead}) AS same_day_missed,
               any_value(l.share_same_day) * count(*) FILTER ({ended} AND NOT {ahead}) AS same_day_expected,
               count(*) FILTER (h.status IN ('cancelled_early', 'rescheduled')) AS visits_cancelled,
               count(*) FILTER ({booked} = s.booked_day) AS bookings_made,
               count(*) FILTER ({_within("h", "s", SECONDS_AFTER_BOOKING)}) AS bookings_joint,
               count(*) FILTER ({standing} AND {visit} = s.visit_day) AS visits_planned,
               count(*) FILTER ({standing} AND {visit} < s.visit_day) AS open_before,
               count(*) FILTER ({standing} AND {visit} > s.visit_day) AS open_after,
               arg_max({missed}, (h.starts_at, h.appointment_id)) FILTER ({ended}) AS last_outcome_missed,
               {days_between(f"max(h.starts_at) FILTER ({kept})", "s.as_of")} AS days_since_visit_kept,
               {days_between(f"max(h.starts_at) FILTER ({missed})", "s.as_of")} AS days_since_visit_missed
        FROM booking s
        JOIN level l ON l.appointment_id = s.appointment_id AND l.as_of = s.as_of
        JOIN appointments_states h
          ON h.patient_id = s.patient_id AND h.appointment_id <> s.appointment_id AND {known("h", "s.as_of")}
        GROUP BY s.appointment_id, s.as_of"""


def _within(one: str, other: str, seconds: int) -> str:
    return f"abs(epoch_us({one}.booked_at) - epoch_us({other}.booked_at)) <= {seconds * 1_000_000}"


def _companions(zone: str) -> str:
    """Other patients booked into the same clinic and day in the same breath: families, groups, clinic lists."""
    return f"""
        SELECT s.appointment_id, s.as_of,
               count(*) FILTER ({_within("o", "s", SECONDS_AFTER_BOOKING)}) AS companions_minute,
               count(*) FILTER ({_within("o", "s", SECONDS_OF_A_BREATH)}) AS companions_breath,
               count(*) FILTER (o.booked_at <= s.booked_at) AS companions_session,
               count(*) FILTER ({_within("o", "s", SECONDS_AFTER_BOOKING)}
                                AND abs(p.birth_year - s.birth_year) <= 3) AS companions_peer
        FROM booking s
        JOIN appointments_states o
          ON o.clinic_id = s.clinic_id AND {day_number("o.starts_at", zone)} = s.visit_day
         AND {day_number("o.booked_at", zone)} = s.booked_day
         AND o.booked_at >= s.booked_at - INTERVAL {SESSION_MINUTES} MINUTE
         AND o.booked_at <= s.booked_at + INTERVAL {SECONDS_AFTER_BOOKING} SECOND
         AND o.patient_id <> s.patient_id AND {known("o", "s.as_of")}
        LEFT JOIN patients_states p ON p.patient_id = o.patient_id AND {known("p", "s.as_of")}
        GROUP BY s.appointment_id, s.as_of"""


def _simultaneous() -> str:
    """Other patients booked in the very same second: made by a program or a list, not by people."""
    return f"""
        SELECT s.appointment_id, s.as_of, count(*) AS bookings_simultaneous
        FROM booking s
        JOIN appointments_states o
          ON o.booked_at = s.booked_at AND o.patient_id <> s.patient_id AND {known("o", "s.as_of")}
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


def _level() -> str:
    """Shares of missed visits in the whole practice: of all, of those booked ahead, of those for the same day."""
    share = "(coalesce({0}.missed, 0) + 1.0) / (coalesce({0}.ended, 0) + 10.0)"  # one of ten, until visits tell more
    return f"""
        SELECT s.appointment_id, s.as_of, s.clinic_id, s.service_line,
               {share.format("every")} AS practice_share,
               {share.format("ahead")} AS share_ahead, {share.format("same_day")} AS share_same_day,
               s.as_of - INTERVAL {CLINIC_DAYS} DAY AS clinic_from,
               s.as_of - INTERVAL {SERVICE_DAYS} DAY AS service_from
        FROM booking s
        ASOF LEFT JOIN practice_totals every ON s.as_of > every.known_at
        ASOF LEFT JOIN ahead_totals ahead ON s.as_of > ahead.known_at
        ASOF LEFT JOIN same_day_totals same_day ON s.as_of > same_day.known_at"""


def _groups() -> str:
    """Missed visits of the clinic (90 days) and the service line (365 days) beside the practice's share."""

    def excess(name: str) -> str:
        missed = f"coalesce({name}_now.missed, 0) - coalesce({name}_then.missed, 0)"
        ended = f"coalesce({name}_now.ended, 0) - coalesce({name}_then.ended, 0)"
        imagined = f"{IMAGINED_VISITS_GROUP} * practice_share"
        return f"ln(({missed} + {imagined}) / (({ended}) * practice_share + {imagined}))"

    return f"""
        SELECT level.appointment_id, level.as_of,
               {excess("clinic")} AS clinic_excess, {excess("service")} AS service_excess
        FROM level
        ASOF LEFT JOIN clinic_totals clinic_now
          ON clinic_now.clinic_id = level.clinic_id AND level.as_of > clinic_now.known_at
        ASOF LEFT JOIN clinic_totals clinic_then
          ON clinic_then.clinic_id = level.clinic_id AND level.clinic_from > clinic_then.known_at
        ASOF LEFT JOIN service_totals service_now
          ON service_now.service_line = level.service_line AND level.as_of > service_now.known_at
        ASOF LEFT JOIN service_totals service_then
          ON service_then.service_line = level.service_line AND level.service_from > service_then.known_at"""


DEFINITION = spine_sql("practice", 21) + _schedule_sql("practice")  # what a contract's fingerprint covers
