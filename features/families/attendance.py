"""How a patient keeps visits: when last, how often, with which rhythm."""

from __future__ import annotations

from features.as_of import days_since, known_fact, within
from features.schedule import ATTENDED, MISSED
from features.spec import Family, Feature

WINDOWS = (90, 180, 365, 730)

KEPT = f"a.status IN {ATTENDED}"
WAS_MISSED = f"a.status IN {MISSED}"
AHEAD = "a.status = 'booked' AND a.starts_us > s.as_of_us"
# An outcome may be known before the hour of the visit: cancelled late, or come early.
VISIT_US = "least(a.starts_us, s.as_of_us)"
VISIT_DAY = "least(a.starts_day, s.as_of_day)"

# Marked once per booking, not once per booking and moment: the join multiplies rows.
MARKED = f"""
SELECT patient_no, known_us, until_us, starts_us, booked_us, duration_minutes,
  coalesce(status IN {ATTENDED}, false) AS is_kept,
  coalesce(status IN {MISSED}, false) AS was_missed,
  coalesce(status IN {ATTENDED} OR status IN {MISSED}, false) AS is_ended,
  coalesce(status = 'booked', false) AS is_booked,
  coalesce(status = 'cancelled_late', false) AS was_late,
  coalesce(status = 'rescheduled', false) AS was_moved,
  coalesce(status IN ('cancelled_early', 'rescheduled'), false) AS is_cancelled,
  (starts_day + 3) % 7 >= 5 AS is_weekend,
  starts_day - booked_day AS lead_days
FROM appointments_facts"""

BOOKINGS = f"""
SELECT s.patient_no, s.as_of_us,
  {", ".join(f"count_if(a.is_kept AND {within(VISIT_US, days)}) AS kept_{days}" for days in WINDOWS)},
  count_if(a.is_kept) AS kept,
  count_if(a.was_missed AND {within(VISIT_US, 365)}) AS missed_365,
  count_if(a.was_missed) AS missed,
  count_if(a.is_ended AND {within(VISIT_US, 365)}) AS ended_365,
  count_if(a.is_ended) AS ended,
  count_if(a.was_late) AS cancelled_late,
  count_if(a.is_cancelled AND {within(VISIT_US, 365)}) AS cancelled_365,
  count_if(a.is_cancelled) AS cancelled,
  count_if(a.was_moved) AS rescheduled,
  count(*) AS bookings,
  count_if(a.is_booked AND a.starts_us > s.as_of_us) AS ahead,
  min(a.starts_us) FILTER (a.is_booked AND a.starts_us > s.as_of_us) AS next_us,
  min({VISIT_US}) FILTER (a.is_kept) AS first_kept_us,
  max({VISIT_US}) FILTER (a.is_kept) AS last_kept_us,
  max({VISIT_US}) FILTER (a.was_missed) AS last_missed_us,
  max(a.booked_us) AS last_booked_us,
  avg(a.lead_days) FILTER (a.is_kept) AS lead_kept,
  sum(a.duration_minutes) FILTER (a.is_kept AND {within(VISIT_US, 365)}) AS minutes_365,
  count_if(a.is_kept AND a.is_weekend) AS kept_weekend
FROM spine s
JOIN marked a ON a.patient_no = s.patient_no AND {known_fact("a")}
GROUP BY s.patient_no, s.as_of_us"""

# Misses since the last visit that was kept: only the dates after it count.
MISSES_IN_A_ROW = f"""
SELECT s.patient_no, s.as_of_us, count(*) AS missed_row
FROM spine s
JOIN bookings b ON b.patient_no = s.patient_no AND b.as_of_us = s.as_of_us
JOIN marked a ON a.patient_no = s.patient_no AND {known_fact("a")}
WHERE a.was_missed AND a.starts_us > coalesce(b.last_kept_us, 0)
GROUP BY s.patient_no, s.as_of_us"""

# Until a visit is added or corrected, the next moment sees the same visits as the one before: as many became
# known and as many ended. Rhythm is worked out at the first such moment (`same_us`) and holds for all.
SAME = f"""
SELECT patient_no, as_of_us, as_of_day, min(as_of_us) OVER (PARTITION BY patient_no, seen, gone, early_day) AS same_us
FROM (SELECT s.patient_no, s.as_of_us, s.as_of_day, count(*) AS seen, count_if(a.until_us < s.as_of_us) AS gone,
        CASE WHEN max(a.starts_day) > s.as_of_day THEN s.as_of_day END AS early_day
      FROM spine s JOIN appointments_facts a ON a.patient_no = s.patient_no AND a.known_us < s.as_of_us
      WHERE {KEPT} GROUP BY s.patient_no, s.as_of_us, s.as_of_day) AS counted"""

# Visits of one day are one visit: a gap of no days says nothing about a rhythm.
GAPS = f"""
SELECT patient_no, same_us, day,
  day - lag(day) OVER (PARTITION BY patient_no, same_us ORDER BY day) AS gap,
  day = max(day) OVER (PARTITION BY patient_no, same_us) AS is_last
FROM (SELECT DISTINCT s.patient_no, s.as_of_us AS same_us, {VISIT_DAY} AS day
      FROM same s JOIN appointments_facts a ON a.patient_no = s.patient_no AND {known_fact("a")}
      WHERE {KEPT} AND s.as_of_us = s.same_us) AS days"""

# Sums of whole numbers do not depend on the order of rows, as a library's standard deviation would.
RHYTHM = """
SELECT m.patient_no, m.as_of_us, r.kept_days, r.gap_median, r.gap_mean, r.gap_spread, r.gap_max, r.gap_last
FROM same m
JOIN (SELECT patient_no, same_us, count(*) AS kept_days, median(gap) AS gap_median, avg(gap) AS gap_mean,
        CASE WHEN count(gap) > 1 THEN sqrt((sum(gap * gap) - sum(gap) * sum(gap) / CAST(count(gap) AS DOUBLE))
          / (count(gap) - 1)) END AS gap_spread,
        max(gap) AS gap_max, max(gap) FILTER (is_last) AS gap_last
      FROM gaps GROUP BY patient_no, same_us) AS r ON r.patient_no = m.patient_no AND r.same_us = m.same_us"""


def _kept(days: int) -> Feature:
    return Feature(
        f"visits_kept_count_{days}d",
        f"coalesce(kept_{days}, 0)",
        f"Visits kept in the last {days} days [visits]",
        "visit_rhythm",
        -1,
    )


ATTENDANCE = Family(
    name="attendance",
    description="How the patient keeps visits: when last, how often, with which rhythm",
    reads={"appointments": ("status", "starts_at", "booked_at", "duration_minutes")},
    parts={
        "marked": MARKED,
        "bookings": BOOKINGS,
        "misses": MISSES_IN_A_ROW,
        "same": SAME,
        "gaps": GAPS,
        "rhythm": RHYTHM,
    },
    joined=("bookings", "misses", "rhythm"),
    features=(
        *(_kept(days) for days in WINDOWS),
        Feature("visits_kept_count_ever", "coalesce(kept, 0)", "Visits kept so far [visits]", "tenure", -1),
        Feature(
            "visit_days_kept_count_ever", "coalesce(kept_days, 0)", "Days with a visit kept so far [days]", "tenure", -1
        ),
        Feature("days_since_last_visit", days_since("last_kept_us"), "Since the last visit kept [days]", "last_visit"),
        Feature("days_since_first_visit", days_since("first_kept_us"), "Since the first visit kept [days]", "tenure"),
        Feature(
            "days_since_last_miss",
            days_since("last_missed_us"),
            "Since the last visit that was missed [days]",
            "missed_visits",
        ),
        Feature(
            "days_since_last_booking",
            days_since("last_booked_us"),
            "Since the last booking was made [days]",
            "last_visit",
        ),
        Feature("visits_missed_count_365d", "coalesce(missed_365, 0)", "Missed in 365 days [visits]", "missed_visits"),
        Feature(
            "visits_missed_share_365d",
            "missed_365 / nullif(ended_365, 0)",
            "Missed, of visits that came due in 365 days [share]",
            "missed_visits",
        ),
        Feature(
            "visits_missed_share_ever",
            "missed / nullif(ended, 0)",
            "Missed, of all visits that came due [share]",
            "missed_visits",
        ),
        Feature(
            "visits_missed_row_count_ever",
            "coalesce(missed_row, 0)",
            "Missed one after the other since the last visit kept [visits]",
            "missed_visits",
            1,
        ),
        Feature(
            "visits_cancelled_late_share_ever",
            "cancelled_late / nullif(bookings, 0)",
            "Cancelled less than 24 hours before, of all bookings [share]",
            "missed_visits",
        ),
        Feature(
            "bookings_cancelled_count_365d",
            "coalesce(cancelled_365, 0)",
            "Bookings for the last 365 days and after, cancelled in time or moved [bookings]",
            "cancellations",
        ),
        Feature(
            "bookings_cancelled_share_ever",
            "cancelled / nullif(bookings, 0)",
            "Cancelled in time or moved, of all bookings [share]",
            "cancellations",
        ),
        Feature(
            "bookings_moved_share_ever",
            "rescheduled / nullif(bookings, 0)",
            "Moved, of all bookings [share]",
            "cancellations",
        ),
        Feature("has_booking_ahead", "coalesce(ahead, 0) > 0", "A booking stands in the future [flag]", "booked", -1),
        Feature("bookings_ahead_count_ever", "coalesce(ahead, 0)", "Bookings that stand ahead [bookings]", "booked"),
        Feature(
            "days_until_next_booking", "(next_us - s.as_of_us) / 86400e6", "Until the next booking [days]", "booked"
        ),
        Feature(
            "bookings_lead_mean_ever_days",
            "lead_kept",
            "How long ahead kept visits were booked, on average [days]",
            "visit_rhythm",
        ),
        Feature(
            "visits_kept_sum_365d_minutes",
            "coalesce(minutes_365, 0)",
            "Planned length of the visits kept in 365 days [minutes]",
            "visit_rhythm",
        ),
        Feature(
            "visits_weekend_share_ever",
            "kept_weekend / nullif(kept, 0)",
            "On a Saturday or Sunday, of the visits kept [share]",
            "visit_rhythm",
        ),
        Feature("visits_gap_median_ever_days", "gap_median", "Median between days of visits [days]", "visit_rhythm"),
        Feature("visits_gap_mean_ever_days", "gap_mean", "Mean between days of visits [days]", "visit_rhythm"),
        Feature(
            "visits_gap_spread_ever_days",
            "gap_spread",
            "Standard deviation between days of visits, from three visits on [days]",
            "visit_rhythm",
        ),
        Feature("visits_gap_max_ever_days", "gap_max", "Longest between days of visits [days]", "visit_rhythm"),
        Feature(
            "visits_gap_last_max_ever_days",
            "gap_last",
            "Between the last two days of visits [days]",
            "visit_rhythm",
        ),
        Feature(
            "visits_gap_current_ratio_ever",
            f"{days_since('last_kept_us')} / nullif(gap_median, 0)",
            "Days since the last visit over the median between visits [ratio]",
            "last_visit",
            1,
        ),
    ),
)
