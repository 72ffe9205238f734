"""What the patient comes for: recall, treatment, urgent visits, how many lines of service, at which fees.

A line of service is the practice's own word. So lines are counted and
compared with one another, and a visit is told apart by what every practice
records: a recall visit has a kind of recall, an urgent visit took place on the
day on which it was booked or is of a line called so.
"""

from __future__ import annotations

from features.as_of import days_since, known_fact, within
from features.families.attendance import KEPT
from features.spec import Family, Feature

URGENT_LINES = ("emergency", "urgent", "pain", "急诊", "急症")

OF_YEAR = within("a.starts_us", 365)
RECALL = "a.recall_type IS NOT NULL"
URGENT = f"""(NOT {RECALL} AND (a.starts_day = a.booked_day
    OR coalesce(lower(a.service_line), '') IN ({", ".join(f"'{line}'" for line in URGENT_LINES)})))"""

# A start with a flag in its last digit: the highest is the last visit's, and tells its flag.
FLAGGED = "a.starts_us * 2 + CASE WHEN {} THEN 1 ELSE 0 END"

LINES = f"""
SELECT s.patient_no, s.as_of_us, a.service_line,
  count(*) AS visits,
  count(*) FILTER ({OF_YEAR}) AS visits_365,
  count(*) FILTER ({RECALL}) AS recalls,
  count(*) FILTER ({RECALL} AND {OF_YEAR}) AS recalls_365,
  count(*) FILTER ({URGENT}) AS urgent,
  count(*) FILTER ({URGENT} AND {OF_YEAR}) AS urgent_365,
  max(a.starts_us) AS last_us,
  max(a.starts_us) FILTER ({RECALL}) AS last_recall_us,
  max(a.starts_us) FILTER ({URGENT}) AS last_urgent_us,
  max({FLAGGED.format(RECALL)}) AS last_recall,
  max({FLAGGED.format(URGENT)}) AS last_urgent,
  min({FLAGGED.format(URGENT)}) AS first_urgent,
  sum(a.fee_cents) AS fee_cents,
  count(a.fee_cents) AS fees,
  sum(a.fee_cents) FILTER ({OF_YEAR}) AS fee_cents_365,
  count(a.fee_cents) FILTER ({OF_YEAR}) AS fees_365,
  max(a.fee_cents) AS fee_max,
  sum(a.duration_minutes) AS minutes,
  count(a.duration_minutes) AS lengths
FROM spine s
JOIN appointments_facts a ON a.patient_no = s.patient_no AND {known_fact("a")}
WHERE {KEPT}
GROUP BY s.patient_no, s.as_of_us, a.service_line"""

MIX = """
SELECT patient_no, as_of_us,
  sum(visits) AS visits, sum(recalls) AS recalls, sum(recalls_365) AS recalls_365,
  sum(urgent) AS urgent, sum(urgent_365) AS urgent_365,
  max(last_us) AS last_us, max(last_recall_us) AS last_recall_us, max(last_urgent_us) AS last_urgent_us,
  max(last_recall) % 2 AS last_is_recall, max(last_urgent) % 2 AS last_is_urgent,
  min(first_urgent) % 2 AS first_is_urgent,
  sum(fee_cents) / CAST(nullif(sum(fees), 0) AS DOUBLE) AS fee,
  sum(fee_cents_365) / CAST(nullif(sum(fees_365), 0) AS DOUBLE) AS fee_365,
  max(fee_max) AS fee_max,
  sum(minutes) / CAST(nullif(sum(lengths), 0) AS DOUBLE) AS minutes
FROM lines GROUP BY patient_no, as_of_us"""

VARIETY = """
SELECT l.patient_no, l.as_of_us, count(*) AS lines, count(*) FILTER (l.visits_365 > 0) AS lines_365,
  max(l.visits) AS largest, sum(l.visits) AS named, max(l.visits) FILTER (l.last_us = m.last_us) AS of_last
FROM lines l JOIN mix m ON m.patient_no = l.patient_no AND m.as_of_us = l.as_of_us
WHERE l.service_line IS NOT NULL
GROUP BY l.patient_no, l.as_of_us"""

SERVICES = Family(
    name="services",
    description="What the patient comes for: recall, treatment, urgent visits, and at which fees",
    reads={
        "appointments": (
            "status",
            "starts_at",
            "booked_at",
            "service_line",
            "recall_type",
            "fee_cents",
            "duration_minutes",
        )
    },
    parts={"lines": LINES, "mix": MIX, "variety": VARIETY},
    joined=("mix", "variety"),
    features=(
        Feature("visits_recall_share_ever", "recalls / visits", "Recall visits, of those kept [share]", "service"),
        Feature(
            "visits_recall_count_365d", "coalesce(recalls_365, 0)", "Recall visits kept in 365 days [visits]", "service"
        ),
        Feature(
            "days_since_recall_visit",
            days_since("last_recall_us"),
            "Since the last recall visit kept [days]",
            "service",
        ),
        Feature("is_last_visit_recall", "last_is_recall", "The last visit kept was a recall visit [flag]", "service"),
        Feature(
            "visits_urgent_share_ever",
            "urgent / visits",
            "Urgent visits, booked and kept on one day, of those kept [share]",
            "service",
        ),
        Feature(
            "visits_urgent_count_365d", "coalesce(urgent_365, 0)", "Urgent visits kept in 365 days [visits]", "service"
        ),
        Feature(
            "days_since_urgent_visit",
            days_since("last_urgent_us"),
            "Since the last urgent visit kept [days]",
            "service",
        ),
        Feature("is_last_visit_urgent", "last_is_urgent", "The last visit kept was urgent [flag]", "service"),
        Feature("is_first_visit_urgent", "first_is_urgent", "The first visit kept was urgent [flag]", "service"),
        Feature(
            "visits_other_share_ever",
            "(visits - recalls - urgent) / visits",
            "Neither recall nor urgent, such as treatment, of the visits kept [share]",
            "service",
        ),
        Feature("service_lines_kept_count_ever", "coalesce(lines, 0)", "Lines of service so far [lines]", "service"),
        Feature(
            "service_lines_kept_count_365d",
            "coalesce(lines_365, 0)",
            "Lines of service in 365 days [lines]",
            "service",
        ),
        Feature(
            "service_line_largest_share_ever",
            "largest / named",
            "Of the line most come for, of the visits kept whose line is known [share]",
            "service",
        ),
        Feature(
            "service_line_last_share_ever",
            "of_last / named",
            "Of the last visit's line, of the visits kept whose line is known [share]",
            "service",
        ),
        Feature("visits_fee_mean_ever_cents", "fee", "Mean fee of the visits kept [cents]", "money"),
        Feature("visits_fee_max_ever_cents", "fee_max", "Highest fee of the visits kept [cents]", "money"),
        Feature(
            "visits_fee_change_ratio_365d",
            "fee_365 / nullif(fee, 0)",
            "Mean fee in 365 days over that of all visits kept [ratio]",
            "money",
        ),
        Feature("visits_length_mean_ever_minutes", "minutes", "Mean length of the visits kept [minutes]", "service"),
    ),
)
