"""What a patient is charged and pays."""

from __future__ import annotations

from features.as_of import days_since, known_fact, within
from features.spec import Family, Feature

WINDOWS = (90, 365, 730)

CHARGE, PAID, BACK = "p.kind = 'charge'", "p.kind = 'payment'", "p.kind = 'refund'"

ENTRIES = f"""
SELECT s.patient_no, s.as_of_us,
  {", ".join(f"sum(p.amount_cents) FILTER ({PAID} AND {within('p.paid_us', n)}) AS paid_{n}" for n in WINDOWS)},
  sum(p.amount_cents) FILTER ({PAID}) AS paid,
  count_if({PAID} AND {within("p.paid_us", 365)}) AS payments_365,
  max(p.amount_cents) FILTER ({PAID}) AS largest,
  avg(p.amount_cents) FILTER ({PAID}) AS mean_paid,
  sum(p.amount_cents) FILTER ({CHARGE} AND {within("p.paid_us", 365)}) AS charged_365,
  sum(p.amount_cents) FILTER ({CHARGE}) AS charged,
  sum(p.list_cents) FILTER ({CHARGE}) AS listed,
  sum(p.discount_cents) FILTER ({CHARGE}) AS discount,
  count_if({BACK}) AS refunds,
  sum(CASE WHEN {CHARGE} THEN p.amount_cents WHEN {PAID} THEN -p.amount_cents
           WHEN {BACK} THEN abs(p.amount_cents) ELSE p.amount_cents END) AS balance,
  max(p.paid_us) FILTER ({PAID}) AS last_paid_us
FROM spine s
JOIN payments_facts p ON p.patient_no = s.patient_no AND {known_fact("p")}
GROUP BY s.patient_no, s.as_of_us"""

# By itself: counting what is distinct beside the sums would cost as much as all of them.
CHARGE_DAYS = f"""
SELECT patient_no, as_of_us, count(paid_day) AS charge_days
FROM (SELECT DISTINCT s.patient_no, s.as_of_us, p.paid_day
      FROM spine s JOIN payments_facts p ON p.patient_no = s.patient_no AND {known_fact("p")} WHERE {CHARGE}) AS days
GROUP BY patient_no, as_of_us"""

LARGEST_LINE = f"""
SELECT patient_no, as_of_us, max(cents) AS line_cents
FROM (SELECT s.patient_no, s.as_of_us, coalesce(p.service_line, '') AS line, sum(p.amount_cents) AS cents
      FROM spine s JOIN payments_facts p ON p.patient_no = s.patient_no AND {known_fact("p")}
      WHERE {CHARGE} GROUP BY s.patient_no, s.as_of_us, coalesce(p.service_line, '')) AS lines
GROUP BY patient_no, as_of_us"""


def _paid(days: int) -> Feature:
    return Feature(
        f"spend_paid_sum_{days}d_cents", f"coalesce(paid_{days}, 0)", f"Paid in {days} days [cents]", "money", -1
    )


MONEY = Family(
    name="money",
    description="What the patient is charged and pays",
    reads={"payments": ("kind", "amount_cents", "list_cents", "discount_cents", "service_line", "paid_at")},
    parts={"entries": ENTRIES, "charge_days": CHARGE_DAYS, "largest_line": LARGEST_LINE},
    joined=("entries", "charge_days", "largest_line"),
    features=(
        *(_paid(days) for days in WINDOWS),
        Feature("spend_paid_sum_ever_cents", "coalesce(paid, 0)", "Paid so far [cents]", "money", -1),
        Feature("spend_paid_mean_ever_cents", "mean_paid", "Mean payment [cents]", "money"),
        Feature("spend_paid_max_ever_cents", "largest", "Largest payment [cents]", "money"),
        Feature("payments_made_count_365d", "coalesce(payments_365, 0)", "Payments in 365 days [payments]", "money"),
        Feature("spend_charged_sum_ever_cents", "coalesce(charged, 0)", "Charged so far [cents]", "money", -1),
        Feature(
            "spend_charged_mean_ever_cents",
            "charged / nullif(charge_days, 0)",
            "Charged per visit day [cents]",
            "money",
        ),
        Feature(
            "spend_line_share_ever",
            "line_cents / nullif(charged, 0)",
            "Charged for the service line that most was charged for, of all charged [share]",
            "money",
        ),
        Feature("spend_charged_sum_365d_cents", "coalesce(charged_365, 0)", "Charged in 365 days [cents]", "money"),
        Feature(
            "spend_discount_share_ever",
            "discount / nullif(listed, 0)",
            "Discount, of list prices charged [share]",
            "money",
        ),
        Feature("has_refund", "coalesce(refunds, 0) > 0", "Money was paid back [flag]", "money"),
        Feature(
            "spend_owed_sum_ever_cents",
            "coalesce(balance, 0)",
            "Charged and adjusted, and not paid; negative if paid ahead [cents]",
            "money",
        ),
        Feature("days_since_payment", days_since("last_paid_us"), "Since the last payment [days]", "money"),
    ),
)
