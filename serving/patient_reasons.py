"""From what each feature adds to a patient's score to plain reasons with the patient's own numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from features.contracts import ModelContract
from features.labels import SEED_MISSED_RECALLS, SEED_UNANSWERED
from serving.explanation import Reason

Numbers = Mapping[str, float]
Values = dict[str, int | float | str]
PROCESS_GROUP = "visit_rhythm"  # a process of visits knows when the patient came, and nothing else
MOST_KEPT = 6

# Numbers that a group's sentence names; groups without one (fees, the season, the clinic's level) are never shown.
_VALUES: Mapping[str, Mapping[str, str]] = {
    "visit_rhythm": {"days": "visits_gap_median_ever_days", "visits": "visits_kept_count_365d"},
    "tenure": {"visits": "visits_kept_count_ever"},
    "last_visit": {"days": "days_since_last_visit"},
    "missed_visits": {"missed": "visits_missed_count_365d"},
    "cancellations": {"bookings": "bookings_cancelled_count_365d"},
    "booked": {"days": "days_until_next_booking", "bookings": "bookings_ahead_count_ever"},
    "overdue": {"days": "days_since_due"},
    "treatment": {"items": "plan_items_open_count_ever"},
    "contacts": {"unanswered": "messages_unanswered_row_count_ever", "sent": "messages_sent_count_365d"},
    "household": {"members": "household_members_count_ever", "days": "days_since_household_visit"},
    "referral": {"sent": "patients_sent_count_ever", "is_referred": "is_referred"},
    "membership": {"is_member": "is_member"},
    "clinician": {"has_left": "has_lost_clinician", "clinicians": "clinicians_seen_count_ever"},
    "service": {"share": "visits_recall_share_ever"},
}
# Their sentences are others than those of bookings, which have a group of the same name.
CODES: Mapping[str, str] = {"missed_visits": "missed_lately", "service": "care"}


def patient_reasons(contract: ModelContract, features: Numbers, contributions: Numbers) -> tuple[Reason, ...]:
    """Sum contributions by reason group and attach the numbers that the sentence names.

    Parameters
    ----------
    contract : ModelContract
        Whose features say which group they feed; those that feed none (age, sex) are never shown.
    features : mapping of str to float
        The patient's features, by name; NaN where unknown.
    contributions : mapping of str to float
        What each column of the model adds to the logit; more than features, or fewer.

    Returns
    -------
    tuple of Reason
        The strongest first, at most `MOST_KEPT`.
    """
    groups = {feature.name: feature.reason for feature in contract.features}
    sums: dict[str, float] = {}
    for name, added in contributions.items():
        group = groups.get(name, PROCESS_GROUP)
        if group and group in _VALUES:
            sums[group] = sums.get(group, 0.0) + added
    strongest = sorted(sums.items(), key=lambda pair: -abs(pair[1]))[:MOST_KEPT]
    return tuple(_reason(group, total, features) for group, total in strongest)


def seed_rule(features: Numbers) -> tuple[bool, tuple[Reason, ...]]:
    """Whether the rule of thumb calls a patient lost, and why.

    Two messages or calls in a row without an answer, or more than three recall
    intervals without a visit.
    """
    unanswered = _number(features, "messages_unanswered_row_count_ever")
    missed = _number(features, "recalls_missed_row_count_ever")
    holds: Mapping[str, Callable[[], bool]] = {
        "contacts": lambda: unanswered >= SEED_UNANSWERED,
        "overdue": lambda: missed > SEED_MISSED_RECALLS,
    }
    found = tuple(_reason(group, 1.0, features) for group, is_so in holds.items() if is_so())
    return bool(found), found


def _reason(group: str, total: float, features: Numbers) -> Reason:
    values: Values = {}
    for name, feature in _VALUES[group].items():
        value = features.get(feature, math.nan)
        if not math.isnan(value):
            values[name] = round(value, 3)
    return Reason(CODES.get(group, group), 1 if total > 0 else -1, round(total, 4), values)


def _number(features: Numbers, name: str) -> float:
    value = features.get(name, math.nan)
    return 0.0 if math.isnan(value) else value
