"""Names for codes of the records: service lines, statuses, actions, and initials of people."""

from __future__ import annotations

from collections.abc import Mapping

from serving.i18n import Language


def _(message: str) -> str:
    """Mark a sentence for the catalog; it is said later."""
    return message


SERVICE_LINES: Mapping[str, str] = {
    "hygiene": _("Cleaning"),
    "cleaning": _("Cleaning"),
    "checkup": _("Check-up"),
    "exam": _("Check-up"),
    "examination": _("Check-up"),
    "consultation": _("Consultation"),
    "emergency": _("Emergency"),
    "filling": _("Filling"),
    "restorative": _("Filling"),
    "endodontics": _("Root canal"),
    "root_canal": _("Root canal"),
    "periodontics": _("Gum care"),
    "perio": _("Gum care"),
    "extraction": _("Extraction"),
    "surgery": _("Oral surgery"),
    "oral_surgery": _("Oral surgery"),
    "implant": _("Implant"),
    "crown": _("Crown"),
    "prosthodontics": _("Crown and bridge"),
    "orthodontics": _("Orthodontics"),
    "pediatric": _("Children's dentistry"),
    "paediatric": _("Children's dentistry"),
    "whitening": _("Whitening"),
    "cosmetic": _("Aesthetics"),
    "aesthetic": _("Aesthetics"),
    "follow_up": _("Follow-up"),
    "general": _("General visit"),
    "other": _("Other"),
}
STATUSES: Mapping[str, str] = {
    "booked": _("Booked"),
    "arrived": _("Arrived"),
    "completed": _("Completed"),
    "no_show": _("Did not come"),
    "cancelled_late": _("Cancelled late"),
    "cancelled_early": _("Cancelled"),
    "rescheduled": _("Rescheduled"),
}
ACTION_LABELS: Mapping[str, str] = {
    "confirm_by_phone": _("Confirm by phone"),
    "send_reminder": _("Send a reminder"),
    "offer_next_visit": _("Offer the next visit before leaving"),
    "explain_plan": _("Ask the clinician to explain the plan"),
    "check_contact": _("Ask how to reach them best"),
    "offer_family": _("Offer the family a visit too"),
    "none": _("Nothing to do"),
    "no_score": _("Not scored yet"),
}
CHANNELS: Mapping[str, str] = {
    "wechat": _("WeChat"),
    "sms": _("Text message"),
    "phone": _("Phone"),
    "email": _("E-mail"),
    "letter": _("Letter"),
}
PURPOSES: Mapping[str, str] = {
    "reminder": _("Reminder"),
    "recall": _("Recall"),
    "follow_up": _("Follow-up"),
    "marketing": _("Offer"),
    "other": _("Other"),
}
OUTCOMES: Mapping[str, str] = {
    "confirmed": _("Confirmed"),
    "declined": _("Declined"),
    "no_answer": _("No answer"),
    "opted_out": _("Wants no more contact"),
    "other": _("Answered"),
}
URGENCIES: Mapping[str, str] = {"routine": _("Routine"), "soon": _("Soon"), "urgent": _("Urgent")}
BAND_LABELS: Mapping[str, str] = {"low": _("Low"), "medium": _("Medium"), "high": _("High")}
ROLE_LABELS: Mapping[str, str] = {
    "front_desk": _("Front desk"),
    "marketing": _("Marketing"),
    "manager": _("Manager"),
    "admin": _("Administrator"),
}


def service_name(code: str | None, language: Language, *, in_sentence: bool = False) -> str:
    """Name a service line; one the catalog does not know is shown as recorded.

    Parameters
    ----------
    code : str or None
        As recorded.
    language : Language
        To say it in.
    in_sentence : bool
        Whether it stands inside a sentence, where English writes it small.
    """
    if not code:
        return language.text(_("Visit"))
    known = SERVICE_LINES.get(code.lower())
    name = language.text(known) if known else code.replace("_", " ")
    return name.lower() if in_sentence else name[:1].upper() + name[1:]


def initials(name: str | None) -> str:
    """Shorten a name for paper that may lie around.

    Examples
    --------
    >>> initials("Maria del Carmen"), initials("王小明"), initials(None)
    ('M. d. C.', '王某', '–')
    """
    words = (name or "").split()
    if not words:
        return "–"
    if "\u3400" <= words[0][0] <= "\u9fff":
        return f"{words[0][0]}某"
    return " ".join(f"{word[0]}." for word in words[:3])
