"""When a patient is due: by prescription, by their own rhythm, or by the practice's default.

The due date is the last recall visit plus the prescribed interval; without a
prescription the patient's own median gap after the last visit; without a gap
the practice's default interval.
"""

from __future__ import annotations

from features.as_of import known_fact
from features.families.attendance import GAPS, KEPT, SAME, VISIT_DAY
from features.spec import Family, Feature

# Below this, a gap is a course of treatment and not a rhythm of recall.
SHORTEST_RECALL_DAYS = 60

VISITS = f"""
SELECT s.patient_no, s.as_of_us,
  max({VISIT_DAY}) AS last_day,
  max({VISIT_DAY}) FILTER (a.recall_type IS NOT NULL) AS last_recall_day
FROM spine s JOIN appointments_facts a ON a.patient_no = s.patient_no AND {known_fact("a")}
WHERE {KEPT}
GROUP BY s.patient_no, s.as_of_us"""

PRESCRIBED = f"""
SELECT s.patient_no, s.as_of_us,
  min(r.interval_days) FILTER (NOT coalesce(r.is_disabled, false)) AS interval_days,
  min(r.due_day) FILTER (NOT coalesce(r.is_disabled, false)
                         AND coalesce(r.disabled_until_day, 0) <= s.as_of_day) AS due_day,
  max(coalesce(r.is_disabled, false) OR coalesce(r.disabled_until_day, 0) > s.as_of_day) AS has_disabled
FROM spine s JOIN recalls_facts r ON r.patient_no = s.patient_no AND {known_fact("r")}
GROUP BY s.patient_no, s.as_of_us"""

OWN = f"""
SELECT m.patient_no, m.as_of_us, r.own_days
FROM same m
JOIN (SELECT patient_no, same_us, median(gap) FILTER (gap >= {SHORTEST_RECALL_DAYS}) AS own_days
      FROM gaps GROUP BY patient_no, same_us) AS r ON r.patient_no = m.patient_no AND r.same_us = m.same_us"""

DUE = """
SELECT v.patient_no, v.as_of_us, v.last_day, p.interval_days AS prescribed_days, p.has_disabled, o.own_days,
  coalesce(CASE WHEN v.last_recall_day IS NOT NULL THEN v.last_recall_day + p.interval_days END, p.due_day)
    AS prescribed_day,
  v.last_day + o.own_days AS own_day,
  v.last_day + s.default_interval_days AS default_day,
  coalesce(p.interval_days, o.own_days, s.default_interval_days) AS interval_days
FROM visits v
JOIN spine s ON s.patient_no = v.patient_no AND s.as_of_us = v.as_of_us
LEFT JOIN prescribed p ON p.patient_no = v.patient_no AND p.as_of_us = v.as_of_us
LEFT JOIN own o ON o.patient_no = v.patient_no AND o.as_of_us = v.as_of_us"""

DUE_DAY = "coalesce(prescribed_day, own_day, default_day)"

RECALLS_MISSED = """CASE WHEN last_day IS NOT NULL
    THEN greatest(floor((s.as_of_day - last_day) / interval_days), 0) ELSE 0 END"""

DUE_DATES = Family(
    name="due",
    description="When the patient is due, and for how long they have been",
    reads={
        "appointments": ("status", "starts_at", "recall_type"),
        "recalls": ("interval_days", "is_disabled", "due_on", "disabled_until_on"),
    },
    parts={"visits": VISITS, "prescribed": PRESCRIBED, "same": SAME, "gaps": GAPS, "own": OWN, "due": DUE},
    joined=("due",),
    features=(
        Feature(
            "days_since_due",
            f"s.as_of_day - {DUE_DAY}",
            "Past the due date, negative before it: prescribed, else by own rhythm, else by default [days]",
            "overdue",
            1,
        ),
        Feature(
            "days_since_due_prescribed", "s.as_of_day - prescribed_day", "Past the prescribed date [days]", "overdue"
        ),
        Feature("days_since_due_personal", "s.as_of_day - own_day", "Past the date by own rhythm [days]", "overdue"),
        Feature("days_since_due_default", "s.as_of_day - default_day", "Past the default date [days]", "overdue"),
        Feature(
            "recall_interval_mean_ever_days",
            "coalesce(interval_days, s.default_interval_days)",
            "Interval that counts: prescribed, else own, else default [days]",
            "overdue",
        ),
        Feature(
            "days_since_due_ratio_ever",
            f"(s.as_of_day - {DUE_DAY}) / coalesce(interval_days, s.default_interval_days)",
            "Past the due date over the interval [ratio]",
            "overdue",
            1,
        ),
        Feature(
            "recalls_missed_row_count_ever",
            RECALLS_MISSED,
            "Whole intervals since the last visit: recalls missed in a row [recalls]",
            "overdue",
            1,
        ),
        Feature(
            "has_prescribed_interval",
            "prescribed_days IS NOT NULL",
            "One is prescribed, and there was a visit [flag]",
            "overdue",
        ),
        Feature(
            "has_disabled_recall",
            "coalesce(has_disabled, false)",
            "A recall is switched off or paused, and there was a visit [flag]",
            "overdue",
        ),
        Feature("is_overdue", f"coalesce(s.as_of_day > {DUE_DAY}, false)", "Past the due date [flag]", "overdue", 1),
    ),
)
