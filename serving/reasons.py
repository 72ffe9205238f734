"""Reasons in plain words, with the patient's own numbers.

A sentence states what is on record and leaves the judgement to the reader: no
"because", no verdict. Age and sex are never reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from serving.decisions import Band
from serving.explanation import Reason
from serving.i18n import Language
from serving.names import service_name
from serving.patient_sentences import PATIENT_SENTENCES

MAX_SHOWN = 3
MIN_CONTRIBUTION = 0.05
_Values = Mapping[str, int | float | str]


def chosen(reasons: Iterable[Reason], risk: Band) -> list[Reason]:
    """Choose the reasons worth showing, the most telling first.

    Parameters
    ----------
    reasons : iterable of Reason
        All of a score.
    risk : str
        The score's band; where it is raised, what raises it comes first.

    Returns
    -------
    list of Reason
        At most `MAX_SHOWN`, none weaker than `MIN_CONTRIBUTION`.
    """
    strong = [r for r in reasons if r.code in SENTENCES and abs(r.contribution) >= MIN_CONTRIBUTION]

    def rank(reason: Reason) -> tuple[bool, float]:
        return (risk != "low" and reason.direction < 0, -abs(reason.contribution))

    return sorted(strong, key=rank)[:MAX_SHOWN]


def sentence(reason: Reason, language: Language) -> str:
    """Say a reason in the given language.

    Parameters
    ----------
    reason : Reason
        Its code must be a key of `SENTENCES`.
    language : Language
        From `serving.i18n.language`.
    """
    return SENTENCES[reason.code](reason.values, language)


def _whole(values: _Values, name: str) -> int:
    return round(float(values.get(name, 0)))


def _lead_time(values: _Values, say: Language) -> str:
    days = _whole(values, "days")
    if days <= 0:
        return say.text("Booked for the same day")
    return say.count("Booked %(n)d day ahead", "Booked %(n)d days ahead", days) % {"n": days}


def _missed_visits(values: _Values, say: Language) -> str:
    missed, past = _whole(values, "missed"), _whole(values, "past")
    if missed == past == 1:
        return say.text("Missed the only earlier visit")
    if missed == past:
        return say.text("Missed all %(past)d earlier visits") % {"past": past}
    return say.text("Missed %(missed)d of the last %(past)d visits") % {"missed": missed, "past": past}


def _attendance(values: _Values, say: Language) -> str:
    attended, past = _whole(values, "attended"), _whole(values, "past")
    if past <= 0:
        return _new_patient(values, say)
    if attended == past == 1:
        return say.text("Came to the only earlier visit")
    if attended == past:
        return say.text("Came to all %(past)d earlier visits") % {"past": past}
    return say.text("Came to %(attended)d of %(past)d earlier visits") % {"attended": attended, "past": past}


def _short_record(values: _Values, say: Language) -> str:
    past = _whole(values, "past")
    return say.count("%(n)d earlier visit so far", "%(n)d earlier visits so far", past) % {"n": past}


def _new_patient(_values: _Values, say: Language) -> str:
    return say.text("No earlier visit here")


def _last_visit(values: _Values, say: Language) -> str:
    days = _whole(values, "days")
    if days <= 0:
        return say.text("Was here today")
    return say.count("Last visit %(n)d day ago", "Last visit %(n)d days ago", days) % {"n": days}


def _same_day_visits(values: _Values, say: Language) -> str:
    others = _whole(values, "bookings")
    if others <= 0:
        return say.text("No other booking that day")
    return say.count("%(n)d other booking that day", "%(n)d other bookings that day", others) % {"n": others}


def _reminder(values: _Values, say: Language) -> str:
    reminders, confirmed = _whole(values, "reminders"), _whole(values, "confirmed")
    if confirmed > 0:
        return say.text("Confirmed after a reminder")
    if reminders <= 0:
        return say.text("No reminder sent yet")
    return say.count("%(n)d reminder sent, not confirmed", "%(n)d reminders sent, not confirmed", reminders) % {
        "n": reminders
    }


def _time_slot(values: _Values, say: Language) -> str:
    hour = int(values.get("hour", -1))
    weekday = say.weekday(_whole(values, "weekday"))
    if hour < 0:
        return say.text("Visit on a %(weekday)s") % {"weekday": weekday}
    return say.text("%(weekday)s, %(hour)02d:00 slot") % {"weekday": weekday, "hour": hour}


def _booking_pattern(values: _Values, say: Language) -> str:
    bookings, hour = _whole(values, "open_bookings"), int(values.get("hour", -1))
    if bookings > 1:
        return say.count("%(n)d open booking", "%(n)d open bookings", bookings) % {"n": bookings}
    if hour < 0:
        return say.text("How the booking was made")
    return say.text("Booking made around %(hour)02d:00") % {"hour": hour}


def _clinic_level(values: _Values, say: Language) -> str:
    percent = _whole(values, "percent")
    return say.text("%(percent)d%% of this clinic's recent bookings were missed") % {"percent": percent}


def _service(values: _Values, say: Language) -> str:
    return say.text("Visit for %(service)s") % {
        "service": service_name(str(values.get("service_line", "")), say, in_sentence=True)
    }


SENTENCES: Mapping[str, Callable[[_Values, Language], str]] = {
    "lead_time": _lead_time,
    "missed_visits": _missed_visits,
    "attendance": _attendance,
    "short_record": _short_record,
    "new_patient": _new_patient,
    "last_visit": _last_visit,
    "same_day_visits": _same_day_visits,
    "reminder": _reminder,
    "time_slot": _time_slot,
    "booking_pattern": _booking_pattern,
    "clinic_level": _clinic_level,
    "service": _service,
    **PATIENT_SENTENCES,
}
