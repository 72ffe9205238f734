"""From what each feature adds to a score to plain reasons with the patient's own numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from features.contracts import ModelContract
from serving.schedule import Reason

Numbers = Mapping[str, float]
Values = dict[str, int | float | str]


def reasons(
    contract: ModelContract, features: Numbers, contributions: Numbers, service_line: str | None
) -> tuple[Reason, ...]:
    """Sum contributions by reason group and attach the numbers that the sentence names.

    Parameters
    ----------
    contract : ModelContract
        Whose features say which group they feed; those that feed none (age,
        sex, tags) are never shown.
    features : mapping of str to float
        The booking's features, by name; NaN where unknown.
    contributions : mapping of str to float
        What each adds to the logit.
    service_line : str or None
        Of the booking.

    Returns
    -------
    tuple of Reason
        The strongest first.
    """
    sums: dict[str, float] = {}
    for feature in contract.features:
        if feature.reason:
            group = _group(feature.reason, features)
            sums[group] = sums.get(group, 0.0) + contributions[feature.name]
    found = [
        Reason(code, 1 if total > 0 else -1, round(total, 4), _values(code, features, service_line))
        for code, total in sums.items()
    ]
    return tuple(sorted(found, key=lambda reason: -abs(reason.contribution)))


def _group(reason: str, features: Numbers) -> str:
    """A patient without past visits has no history to speak of: all of it reads "no earlier visit"."""
    past, missed = _number(features, "visits_ended_count_ever"), _number(features, "visits_missed_count_ever")
    if reason in ("missed_visits", "attendance", "last_visit"):
        if past == 0:
            return "new_patient"
        if reason == "last_visit" and math.isnan(features["days_since_visit_kept"]):
            return "missed_visits"
        if reason == "missed_visits" and missed == 0:
            return "attendance"
    return reason


def _values(code: str, features: Numbers, service_line: str | None) -> Values:
    past, missed = _number(features, "visits_ended_count_ever"), _number(features, "visits_missed_count_ever")
    days_ahead = _number(features, "days_until_visit") + _number(features, "days_since_booking")
    choices: dict[str, Values] = {
        "lead_time": {
            "days": days_ahead if "is_booked_same_day" in features else _number(features, "days_since_booking")
        },
        "missed_visits": {"missed": missed, "past": past},
        "attendance": {"attended": past - missed, "past": past},
        "last_visit": {"days": _number(features, "days_since_visit_kept")},
        "same_day_visits": {"bookings": _number(features, "visits_planned_count_1d")},
        "reminder": {
            "reminders": _number(features, "reminders_sent_count_ever"),
            "confirmed": _number(features, "reminders_confirmed_count_ever"),
        },
        "time_slot": {
            "weekday": _number(features, "visit_weekday"),
            "hour": _number(features, "visit_hour", -1),
        },
        "booking_pattern": {
            "open_bookings": _number(features, "bookings_open_count_ever"),
            "hour": _number(features, "booking_hour", -1),
        },
        "clinic_level": {"percent": round(100 * features.get("clinic_missed_share_90d", 0.0))},
        "service": {"service_line": service_line or ""},
    }
    return choices.get(code, {})


def _number(features: Numbers, name: str, missing: int = 0) -> int:
    value = features.get(name, math.nan)
    return missing if math.isnan(value) else int(value)
