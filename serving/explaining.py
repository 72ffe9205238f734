"""From what each feature adds to a score to plain reasons with the patient's own numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from features.contracts import ModelContract
from serving.explanation import Reason

Numbers = Mapping[str, float]
Values = dict[str, int | float | str]
RECORD = "record"


def reasons(
    contract: ModelContract,
    features: Numbers,
    contributions: Numbers,
    service_line: str | None,
    clinic_share: float | None = None,
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
    clinic_share : float, optional
        Share of its clinic's recent visits that were missed; without it the
        clinic is not named as a reason.

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
        Reason(
            code := _said_as(group, total, features),
            1 if total > 0 else -1,
            round(total, 4),
            _values(code, features, service_line, clinic_share),
        )
        for group, total in sums.items()
        if group != "clinic_level" or clinic_share is not None
    ]
    return tuple(sorted(found, key=lambda reason: -abs(reason.contribution)))


def _group(reason: str, features: Numbers) -> str:
    """Kept and missed visits are one record, said one way; what is no visit yet belongs to it."""
    if reason in ("missed_visits", "attendance"):
        return RECORD
    if reason == "last_visit" and math.isnan(features["days_since_visit_kept"]):
        return RECORD
    return reason


def _said_as(group: str, total: float, features: Numbers) -> str:
    """The sentence's code: a record that raises the risk tells of misses, one that lowers it of visits kept."""
    past, missed = _number(features, "visits_ended_count_ever"), _number(features, "visits_missed_count_ever")
    if group != RECORD:
        return group
    if past == 0:
        return "new_patient"
    if total > 0:
        return "missed_visits" if missed else "short_record"
    return "attendance" if missed < past else "short_record"


def _values(code: str, features: Numbers, service_line: str | None, clinic_share: float | None) -> Values:
    past, missed = _number(features, "visits_ended_count_ever"), _number(features, "visits_missed_count_ever")
    # The evening before always is one day ahead, and does not count it among its features.
    days_ahead = _number(features, "days_until_visit", 1) + _number(features, "days_since_booking")
    choices: dict[str, Values] = {
        "lead_time": {"days": days_ahead},
        "missed_visits": {"missed": missed, "past": past},
        "attendance": {"attended": past - missed, "past": past},
        "short_record": {"past": past},
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
        "clinic_level": {"percent": round(100 * (clinic_share or 0.0))},
        "service": {"service_line": service_line or ""},
    }
    return choices.get(code, {})


def _number(features: Numbers, name: str, missing: int = 0) -> int:
    value = features.get(name, math.nan)
    return missing if math.isnan(value) else int(value)
