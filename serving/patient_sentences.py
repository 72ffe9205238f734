"""What is on record about a patient, in one short sentence per group of features."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.i18n import Language

Values = Mapping[str, int | float | str]
WEEK = 7


def _whole(values: Values, name: str, missing: int = 0) -> int:
    return round(float(values.get(name, missing)))


def _visit_rhythm(values: Values, say: Language) -> str:
    days, visits = _whole(values, "days"), _whole(values, "visits")
    if days > 0:
        return say.count("Usually comes every %(n)d day", "Usually comes every %(n)d days", days) % {"n": days}
    return say.count("%(n)d visit in the last year", "%(n)d visits in the last year", visits) % {"n": visits}


def _tenure(values: Values, say: Language) -> str:
    visits = _whole(values, "visits")
    return say.count("%(n)d visit kept so far", "%(n)d visits kept so far", visits) % {"n": visits}


def _missed_lately(values: Values, say: Language) -> str:
    missed = _whole(values, "missed")
    if missed <= 0:
        return say.text("No missed visit in a year")
    return say.count("%(n)d missed visit in a year", "%(n)d missed visits in a year", missed) % {"n": missed}


def _cancellations(values: Values, say: Language) -> str:
    moved = _whole(values, "bookings")
    if moved <= 0:
        return say.text("Nothing cancelled or moved in a year")
    return say.count(
        "%(n)d booking cancelled or moved in a year", "%(n)d bookings cancelled or moved in a year", moved
    ) % {"n": moved}


def _booked(values: Values, say: Language) -> str:
    days = _whole(values, "days")
    if _whole(values, "bookings") <= 0:
        return say.text("No visit booked")
    if days <= 0:
        return say.text("Next visit is today")
    return say.count("Next visit in %(n)d day", "Next visit in %(n)d days", days) % {"n": days}


def _overdue(values: Values, say: Language) -> str:
    days = _whole(values, "days")
    weeks = abs(days) // WEEK
    if weeks == 0:
        return say.text("Recall is due now")
    if days > 0:
        return say.count("Recall overdue for %(n)d week", "Recall overdue for %(n)d weeks", weeks) % {"n": weeks}
    return say.count("Recall due in %(n)d week", "Recall due in %(n)d weeks", weeks) % {"n": weeks}


def _treatment(values: Values, say: Language) -> str:
    items = _whole(values, "items")
    if items <= 0:
        return say.text("No open treatment")
    return say.count("%(n)d treatment item open", "%(n)d treatment items open", items) % {"n": items}


def _contacts(values: Values, say: Language) -> str:
    unanswered, sent = _whole(values, "unanswered"), _whole(values, "sent")
    if unanswered > 0:
        return say.count("%(n)d contact unanswered", "%(n)d contacts unanswered in a row", unanswered) % {
            "n": unanswered
        }
    if sent <= 0:
        return say.text("Not contacted in a year")
    return say.count("%(n)d contact in a year", "%(n)d contacts in a year", sent) % {"n": sent}


def _household(values: Values, say: Language) -> str:
    others = _whole(values, "members", 1) - 1
    if others <= 0:
        return say.text("No family here")
    if "days" not in values:
        return say.count("%(n)d family member here", "%(n)d family members here", others) % {"n": others}
    days = _whole(values, "days")
    return say.count("Family came %(n)d day ago", "Family came %(n)d days ago", days) % {"n": days}


def _referral(values: Values, say: Language) -> str:
    sent = _whole(values, "sent")
    if sent > 0:
        return say.count("Recommended %(n)d patient", "Recommended %(n)d patients", sent) % {"n": sent}
    if _whole(values, "is_referred"):
        return say.text("Came on a recommendation")
    return say.text("Came without a recommendation")


def _membership(values: Values, say: Language) -> str:
    return say.text("Has a membership") if _whole(values, "is_member") else say.text("No membership")


def _clinician(values: Values, say: Language) -> str:
    if _whole(values, "has_left"):
        return say.text("Their clinician has left")
    seen = _whole(values, "clinicians")
    return say.count("Has seen %(n)d clinician", "Has seen %(n)d clinicians", seen) % {"n": seen}


def _care(values: Values, say: Language) -> str:
    share = round(100 * float(values.get("share", 0)))
    return say.text("%(percent)d%% of visits were check-ups") % {"percent": share}


PATIENT_SENTENCES: Mapping[str, Callable[[Values, Language], str]] = {
    "visit_rhythm": _visit_rhythm,
    "tenure": _tenure,
    "missed_lately": _missed_lately,
    "cancellations": _cancellations,
    "booked": _booked,
    "overdue": _overdue,
    "treatment": _treatment,
    "contacts": _contacts,
    "household": _household,
    "referral": _referral,
    "membership": _membership,
    "clinician": _clinician,
    "care": _care,
}
