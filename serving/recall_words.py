"""What the codes of recall lists are called on pages and in exports."""

from __future__ import annotations

from collections.abc import Mapping

from serving.names import _

CHANNEL_LABELS: Mapping[str, str] = {
    "phone": _("Call"),
    "wechat": _("WeChat"),
    "sms": _("Text message"),
    "email": _("E-mail"),
}
OUTCOME_LABELS: Mapping[str, str] = {
    "booked": _("Booked"),
    "reached": _("Reached"),
    "no_answer": _("No answer"),
    "declined": _("Declined"),
    "stop": _("Wants no contact"),
}
EXCLUSION_LABELS: Mapping[str, str] = {
    "departed": _("Deceased or moved away"),
    "do_not_contact": _("Does not want to be contacted"),
    "recall_off": _("Recall switched off by the practice"),
    "booked": _("Has a booking already"),
    "hold_out": _("Left alone to measure the effect of an earlier list"),
    "contacted_lately": _("Contacted lately, or often enough this year"),
    "no_channel": _("No consent for any channel"),
    "no_profiling": _("Refused automated ranking: offer the next visit in person"),
    "same_household": _("Reached through a family member"),
}
OBSTACLE_LABELS: Mapping[str, str] = {
    "booked": _("Has booked since: nothing to do"),
    "no_channel": _("Consent withdrawn since: do not contact"),
    "do_not_contact": _("Wants no contact: do not contact"),
}
VALUE_LABELS: Mapping[str, str] = {"high": _("High"), "medium": _("Medium"), "low": _("Low")}
RANKED_BY: Mapping[str, str] = {
    "recall": _("Ranked by worth times what a contact is expected to change."),
    "return_90d": _("Ranked by worth times the chance to come within 90 days."),
    "rule": _("No model is in use yet: ranked by worth times nearness to the due date."),
}
