"""The patient's clinic and the time of year, as they were known when the day began.

A patient belongs to their home clinic or, where none is recorded, to that of
their last booking. Comparisons with the year before are 52 weeks apart, so
that both windows hold the same weekdays.
"""

from __future__ import annotations

from features.as_of import known_fact
from features.families.attendance import KEPT, WAS_MISSED
from features.spec import Context, Family, Feature

WINDOW = 90
YEAR = 364
AHEAD = 14
# A clinic compares with the year before only if it had visits in this many days before that window.
RUN_IN = 30

NOW = f"a.starts_day >= d.day - {WINDOW} AND a.starts_day < d.day"
BEFORE = f"a.starts_day >= d.day - {YEAR + WINDOW} AND a.starts_day < d.day - {YEAR}"
RAN_IN = f"a.starts_day >= d.day - {YEAR + WINDOW + RUN_IN} AND a.starts_day < d.day - {YEAR + WINDOW}"
COMING = f"a.starts_day >= d.day AND a.starts_day < d.day + {AHEAD}"
BOOKED = "a.status = 'booked'"

LINES = f"""
SELECT d.clinic_id, d.day, a.service_line,
  count(*) FILTER ({KEPT} AND {NOW}) AS kept,
  count(*) FILTER ({KEPT} AND {BEFORE}) AS kept_before,
  count(*) FILTER ({KEPT} AND {RAN_IN}) AS kept_earlier,
  count(*) FILTER ({WAS_MISSED} AND {NOW}) AS missed,
  sum(a.duration_minutes) FILTER ({BOOKED} AND {COMING}) AS booked_minutes,
  count(a.fee_cents) FILTER ({KEPT} AND {NOW}) AS fees,
  sum(a.fee_cents) FILTER ({KEPT} AND {NOW}) AS fee_cents,
  count(a.fee_cents) FILTER ({KEPT} AND {BEFORE}) AS fees_before,
  sum(a.fee_cents) FILTER ({KEPT} AND {BEFORE}) AS fee_cents_before
FROM clinic_days d
JOIN clinic_appointments_facts a ON a.clinic_id = d.clinic_id AND {known_fact("a", "d.day_us")}
  AND a.starts_day >= d.day - {YEAR + WINDOW + RUN_IN} AND a.starts_day < d.day + {AHEAD}
GROUP BY d.clinic_id, d.day, a.service_line"""

# What the same visits would have cost a year before, rounded so that sums do not depend on the order of rows.
VISITS = """
SELECT clinic_id, day, sum(kept) AS kept, sum(kept_before) AS kept_before, sum(kept_earlier) AS kept_earlier,
  sum(missed) AS missed, sum(booked_minutes) AS booked_minutes,
  sum(fee_cents) FILTER (fees_before > 0) AS paid_cents,
  sum(CAST(round(fees * fee_cents_before / CAST(fees_before AS DOUBLE)) AS BIGINT))
    FILTER (fees > 0 AND fees_before > 0) AS same_cents_before
FROM lines GROUP BY clinic_id, day"""

CLOSED = f"""
SELECT DISTINCT d.clinic_id, d.day, k.closed_day
FROM clinic_days d JOIN clinic_closures_facts k ON k.clinic_id = d.clinic_id AND {known_fact("k", "d.day_us")}
WHERE k.closed_day >= d.day AND k.closed_day < d.day + {AHEAD}"""

CLOSURES = "SELECT clinic_id, day, count(*) AS closures FROM closed GROUP BY clinic_id, day"

# Of the chair hours decided for a weekday, those valid from the latest day up to it.
STAFFED = f"""
SELECT d.clinic_id, d.day, d.day + o.days AS at_day, round(c.chair_hours * 60) AS chair_minutes,
  row_number() OVER (PARTITION BY d.clinic_id, d.day, o.days ORDER BY coalesce(c.valid_from_day, -999999) DESC) AS place
FROM clinic_days d
CROSS JOIN (VALUES {", ".join(f"({n})" for n in range(AHEAD))}) AS o(days)
JOIN clinic_capacity_facts c ON c.clinic_id = d.clinic_id AND {known_fact("c", "d.day_us")}
  AND c.weekday = (d.day + o.days + 3) % 7 AND coalesce(c.valid_from_day, -999999) <= d.day + o.days"""

CAPACITY = """
SELECT f.clinic_id, f.day, sum(f.chair_minutes) AS chair_minutes
FROM staffed f
LEFT JOIN closed k ON k.clinic_id = f.clinic_id AND k.day = f.day AND k.closed_day = f.at_day
WHERE f.place = 1 AND k.closed_day IS NULL
GROUP BY f.clinic_id, f.day"""

FIGURES = """
SELECT d.clinic_id, d.day, v.kept, v.missed, v.booked_minutes, v.paid_cents, v.same_cents_before, c.chair_minutes,
  CASE WHEN v.kept_earlier > 0 THEN v.kept_before END AS kept_before,
  coalesce(k.closures, 0) AS closures
FROM clinic_days d
LEFT JOIN visits v ON v.clinic_id = d.clinic_id AND v.day = d.day
LEFT JOIN closures k ON k.clinic_id = d.clinic_id AND k.day = d.day
LEFT JOIN capacity c ON c.clinic_id = d.clinic_id AND c.day = d.day"""

CLINIC_FIGURES = Context(
    name="clinic_figures",
    reads={
        "appointments": ("clinic_id", "status", "starts_at", "service_line", "duration_minutes", "fee_cents"),
        "closures": ("clinic_id", "closed_on"),
        "capacity": ("clinic_id", "weekday", "chair_hours", "valid_from_on"),
    },
    days=(YEAR + WINDOW + RUN_IN, AHEAD),
    parts={
        "lines": LINES,
        "visits": VISITS,
        "closed": CLOSED,
        "closures": CLOSURES,
        "staffed": STAFFED,
        "capacity": CAPACITY,
        "figures": FIGURES,
    },
)

LAST_BOOKING = f"""
SELECT s.patient_no, s.as_of_us, a.clinic_id,
  row_number() OVER (PARTITION BY s.patient_no, s.as_of_us ORDER BY a.booked_us DESC, a.starts_us DESC, a.clinic_id)
    AS place
FROM spine s JOIN appointments_facts a ON a.patient_no = s.patient_no AND {known_fact("a")}"""

HOME = f"""
SELECT s.patient_no, s.as_of_us, s.as_of_day, coalesce(p.home_clinic_id, l.clinic_id) AS clinic_id
FROM spine s
JOIN patients_facts p ON p.patient_no = s.patient_no AND {known_fact("p")}
LEFT JOIN last_booking l ON l.patient_no = s.patient_no AND l.as_of_us = s.as_of_us AND l.place = 1"""

AROUND = """
SELECT h.patient_no, h.as_of_us, f.kept, f.kept_before, f.missed, f.booked_minutes, f.chair_minutes, f.paid_cents,
  f.same_cents_before, f.closures, k.workdays_ahead, k.festival_last_day, k.festival_next_day
FROM home h
JOIN calendar k ON k.day = h.as_of_day
LEFT JOIN clinic_figures f ON f.clinic_id = h.clinic_id AND f.day = h.as_of_day"""

CLINIC = Family(
    name="clinic",
    description="How the patient's clinic is doing, and the time of year",
    reads={"patients": ("home_clinic_id",), "appointments": ("clinic_id", "booked_at", "starts_at")},
    parts={"last_booking": LAST_BOOKING, "home": HOME, "around": AROUND},
    joined=("around",),
    context=CLINIC_FIGURES,
    features=(
        Feature(
            f"clinic_visits_kept_ratio_{WINDOW}d",
            "kept / nullif(kept_before, 0)",
            f"Visits kept at the clinic in {WINDOW} days over those of the same days a year before [ratio]",
            "clinic_level",
        ),
        Feature(
            f"clinic_visits_missed_share_{WINDOW}d",
            "missed / nullif(kept + missed, 0)",
            f"Missed, of the clinic's visits that came due in {WINDOW} days [share]",
            "clinic_level",
        ),
        Feature(
            f"clinic_load_share_{AHEAD}d",
            "coalesce(booked_minutes, 0) / nullif(chair_minutes, 0)",
            f"Booked, of the clinic's chair hours in the next {AHEAD} days [share]",
            "clinic_level",
        ),
        Feature(
            f"clinic_fee_ratio_{WINDOW}d",
            "paid_cents / nullif(same_cents_before, 0)",
            f"Fees of {WINDOW} days over what visits of the same lines cost in the same days a year before [ratio]",
            "price",
        ),
        Feature(
            f"clinic_closures_count_{AHEAD}d",
            "closures",
            f"Days of the next {AHEAD} on which the clinic is closed [days]",
            "season",
        ),
        Feature(
            "clinic_workdays_count_30d",
            "workdays_ahead",
            "Workdays of the country in the next 30 days, made-up ones included [days]",
            "season",
        ),
        Feature(
            "days_since_spring_festival",
            "s.as_of_day - festival_last_day",
            "Since the last Spring Festival, where it is a holiday [days]",
            "season",
        ),
        Feature(
            "days_until_spring_festival",
            "festival_next_day - s.as_of_day",
            "Until the next Spring Festival, where it is a holiday [days]",
            "season",
        ),
    ),
)
