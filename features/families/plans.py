"""Treatment that was proposed: what is open, what was agreed to, how fast it gets done."""

from __future__ import annotations

from features.as_of import days_since, known_fact, within
from features.spec import Family, Feature

OPEN = "(i.completed_us IS NULL AND i.declined_us IS NULL)"
ACCEPTED = "i.accepted_us IS NOT NULL"
PENDING = f"({OPEN} AND NOT {ACCEPTED})"
STARTED = f"({OPEN} AND {ACCEPTED})"
# Lines of treatment that take many months by nature, as practices write them.
LONG_LINES = ("orthodontic", "braces", "aligner", "implant", "正畸", "矫正", "矫治", "种植")
LONG = "(" + " OR ".join(f"lower(i.service_line) LIKE '%{line}%'" for line in LONG_LINES) + ")"

ITEMS = f"""
SELECT s.patient_no, s.as_of_us,
  count(*) AS items,
  count_if({within("i.proposed_us", 365)}) AS proposed_365,
  count_if({OPEN}) AS open_items,
  sum(i.fee_cents) FILTER ({OPEN}) AS open_cents,
  count_if({PENDING}) AS pending,
  count_if({STARTED}) AS started,
  sum(i.fee_cents) FILTER ({STARTED}) AS started_cents,
  count_if({STARTED} AND i.scheduled_us IS NULL) AS unscheduled,
  count_if({OPEN} AND i.urgency IN ('soon', 'urgent')) AS urgent,
  count_if({OPEN} AND {LONG}) AS long_items,
  count_if({ACCEPTED}) AS accepted,
  count_if(i.completed_us IS NOT NULL) AS completed,
  count_if(i.completed_us IS NOT NULL AND {within("i.completed_us", 90)}) AS completed_90,
  count_if(i.completed_us IS NOT NULL AND {ACCEPTED}) AS completed_of_accepted,
  count_if(i.declined_us IS NOT NULL) AS declined,
  sum(i.fee_cents) FILTER (i.completed_us IS NOT NULL) AS completed_cents,
  max(i.proposed_us) AS last_proposed_us,
  max(i.accepted_us) AS last_accepted_us,
  max(i.completed_us) AS last_completed_us,
  min(i.accepted_us) AS first_accepted_us,
  greatest(max(i.proposed_us), coalesce(max(i.accepted_us), 0), coalesce(max(i.scheduled_us), 0),
    coalesce(max(i.completed_us), 0)) AS last_moved_us,
  min(i.accepted_us) FILTER ({STARTED}) AS first_started_us,
  avg(i.completed_us - i.accepted_us) FILTER (i.completed_us >= i.accepted_us) AS us_to_done
FROM spine s
JOIN plan_items_facts i ON i.patient_no = s.patient_no AND {known_fact("i")}
GROUP BY s.patient_no, s.as_of_us"""

PLANS = Family(
    name="plans",
    description="Treatment that was proposed: what is open, what was agreed to, how fast it gets done",
    reads={
        "plan_items": (
            "service_line",
            "fee_cents",
            "urgency",
            "proposed_at",
            "accepted_at",
            "scheduled_at",
            "completed_at",
            "declined_at",
        )
    },
    parts={"items": ITEMS},
    joined=("items",),
    features=(
        Feature("plan_items_proposed_count_ever", "coalesce(items, 0)", "Proposed so far [items]", "treatment"),
        Feature(
            "plan_items_proposed_count_365d", "coalesce(proposed_365, 0)", "Proposed in 365 days [items]", "treatment"
        ),
        Feature(
            "plan_items_open_count_ever", "coalesce(open_items, 0)", "Neither done nor declined [items]", "treatment"
        ),
        Feature(
            "plan_items_open_sum_ever_cents",
            "coalesce(open_cents, 0)",
            "Fees of what is neither done nor declined [cents]",
            "treatment",
        ),
        Feature(
            "plan_items_pending_count_ever",
            "coalesce(pending, 0)",
            "Proposed, and neither agreed to nor declined [items]",
            "treatment",
        ),
        Feature(
            "plan_items_started_count_ever", "coalesce(started, 0)", "Agreed to and not done yet [items]", "treatment"
        ),
        Feature(
            "plan_items_started_sum_ever_cents",
            "coalesce(started_cents, 0)",
            "Fees of what was agreed to and is not done yet [cents]",
            "treatment",
        ),
        Feature(
            "plan_items_unscheduled_count_ever",
            "coalesce(unscheduled, 0)",
            "Agreed to, not done and in no booking [items]",
            "treatment",
        ),
        Feature("plan_items_urgent_count_ever", "coalesce(urgent, 0)", "Open and pressing [items]", "treatment"),
        Feature(
            "has_open_plan", "coalesce(open_items, 0) > 0", "Something is neither done nor declined [flag]", "treatment"
        ),
        Feature(
            "plan_items_accepted_share_ever",
            "accepted / nullif(items, 0)",
            "Agreed to, of all proposed [share]",
            "treatment",
        ),
        Feature(
            "plan_items_declined_share_ever", "declined / nullif(items, 0)", "Declined, of all [share]", "treatment"
        ),
        Feature(
            "plan_items_completed_share_ever",
            "completed_of_accepted / nullif(accepted, 0)",
            "Done, of what was agreed to [share]",
            "treatment",
        ),
        Feature("plan_items_completed_count_90d", "coalesce(completed_90, 0)", "Done in 90 days [items]", "treatment"),
        Feature(
            "plan_items_completed_sum_ever_cents",
            "coalesce(completed_cents, 0)",
            "Fees of what was done [cents]",
            "treatment",
        ),
        Feature(
            "plan_items_completed_mean_ever_days",
            "us_to_done / 86400e6",
            "From agreeing to an item to its completion, on average [days]",
            "treatment",
        ),
        Feature(
            "days_since_plan_proposed", days_since("last_proposed_us"), "Since the last proposal [days]", "treatment"
        ),
        Feature(
            "days_since_plan_accepted", days_since("last_accepted_us"), "Since the last agreement [days]", "treatment"
        ),
        Feature(
            "days_since_plan_progress", days_since("last_completed_us"), "Since the last item done [days]", "treatment"
        ),
        Feature(
            "days_since_plan_started",
            days_since("first_started_us"),
            "Since the oldest agreement that is not done yet [days]",
            "treatment",
        ),
        Feature(
            "days_since_plan_moved",
            f"CASE WHEN open_items > 0 THEN {days_since('last_moved_us')} END",
            "Since anything was proposed, agreed to, booked or done, while something is open [days]",
            "treatment",
        ),
        Feature(
            "plan_items_pace_ratio_ever",
            "completed_of_accepted * 30e0 * 86400e6 / nullif(s.as_of_us - first_accepted_us, 0)",
            "Done per 30 days since the first agreement, of what was agreed to [items]",
            "treatment",
        ),
        Feature(
            "has_long_treatment_open",
            "coalesce(long_items, 0) > 0",
            "Something orthodontic or an implant is open [flag]",
            "treatment",
        ),
    ),
)
