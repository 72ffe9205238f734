"""Why a patient is on a recall list: plain facts of attendance and contact, never of treatment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from serving.explanation import Reason
from serving.i18n import Language

MOST = 3
DAYS_PER_MONTH = 30.4
MANY_VISITS = 5
_Values = Mapping[str, int | float | str]


def reasons(facts: Mapping[str, Any], response: float | None, family_due: int) -> tuple[Reason, ...]:
    """Choose the most telling facts about a patient.

    Parameters
    ----------
    facts : mapping of str to value
        Columns of `features.recall_due.due_patients`; None where unknown.
    response : float or None
        Chance to come within 90 days, if there is a model.
    family_due : int
        Others of the household who are due and may be contacted.

    Returns
    -------
    tuple of Reason
        At most `MOST`.
    """
    missed, visits = _number(facts, "recalls_missed"), _number(facts, "visits_kept")
    answered = _number(facts, "answered_share")
    has_asked = not math.isnan(answered) and _number(facts, "messages_sent") > 0
    candidates: tuple[tuple[bool, str, dict[str, int | float | str]], ...] = (
        (family_due > 0, "family", {"people": family_due}),
        (response is not None, "chance", {"percent": round(100 * (response or 0))}),
        (missed >= 2, "missed", {"recalls": round(missed) if missed >= 2 else 0}),
        (facts.get("last_recall_at") is None, "never_asked", {}),
        (has_asked and answered >= 0.5, "answers", {"percent": round(100 * answered) if has_asked else 0}),
        (visits >= MANY_VISITS, "visits", {"visits": round(visits)}),
        (True, "last_visit", {"months": _months(facts, "days_since_last_visit")}),
        (True, "interval", {"months": _months(facts, "recall_interval_days")}),
        (visits < MANY_VISITS, "visits", {"visits": round(visits)}),
    )
    return tuple(Reason(code, 1, 0.0, values) for holds, code, values in candidates if holds)[:MOST]


def sentence(reason: Reason, language: Language) -> str:
    """Say a reason; its code must be a key of `SENTENCES`."""
    return SENTENCES[reason.code](reason.values, language)


def _number(facts: Mapping[str, Any], name: str) -> float:
    value = facts.get(name)
    return math.nan if value is None else float(value)


def _months(facts: Mapping[str, Any], name: str) -> int:
    days = _number(facts, name)
    return 0 if math.isnan(days) else round(days / DAYS_PER_MONTH)


def _whole(values: _Values, name: str) -> int:
    return round(float(values.get(name, 0)))


def _family(values: _Values, say: Language) -> str:
    n = _whole(values, "people")
    return say.count("%(n)d more of the family is due", "%(n)d more of the family are due", n) % {"n": n}


def _chance(values: _Values, say: Language) -> str:
    return say.text("%(n)d in 100 like this come within 90 days") % {"n": _whole(values, "percent")}


def _missed(values: _Values, say: Language) -> str:
    return say.text("%(n)d recalls missed in a row") % {"n": _whole(values, "recalls")}


def _never_asked(_values: _Values, say: Language) -> str:
    return say.text("Never contacted about a recall")


def _answers(values: _Values, say: Language) -> str:
    return say.text("Answered %(n)d%% of earlier messages") % {"n": _whole(values, "percent")}


def _visits(values: _Values, say: Language) -> str:
    n = _whole(values, "visits")
    return say.count("%(n)d visit so far", "%(n)d visits so far", n) % {"n": n}


def _last_visit(values: _Values, say: Language) -> str:
    n = _whole(values, "months")
    if n == 0:
        return say.text("Last visit this month")
    return say.count("Last visit %(n)d month ago", "Last visit %(n)d months ago", n) % {"n": n}


def _interval(values: _Values, say: Language) -> str:
    n = max(_whole(values, "months"), 1)
    return say.count("Due every month", "Due every %(n)d months", n) % {"n": n}


SENTENCES: Mapping[str, Callable[[_Values, Language], str]] = {
    "family": _family,
    "chance": _chance,
    "missed": _missed,
    "never_asked": _never_asked,
    "answers": _answers,
    "visits": _visits,
    "last_visit": _last_visit,
    "interval": _interval,
}
