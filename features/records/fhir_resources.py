"""FHIR R4 resources as flat rows of text: one function per resource type, none of which ever fails.

A resource may lack anything and hold anything; what is not of the expected
shape counts as absent, and the contract then says whether it can be absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from features.records.fhir_elements import (
    Resource,
    Row,
    at,
    concept,
    day_of,
    each,
    earlier,
    first_match,
    first_of,
    human_name,
    instant,
    iso,
    last_updated,
    later,
    reference,
    telecom,
    text,
    text_or_iso,
    words_of,
)

LATE_HOURS = 24  # the contract's late cancellation
_SEX = {"male": "male", "female": "female", "other": "other", "unknown": "unknown"}
_APPOINTMENT = {
    "proposed": "booked",
    "pending": "booked",
    "booked": "booked",
    "waitlist": "booked",
    "arrived": "arrived",
    "checked-in": "arrived",
    "fulfilled": "completed",
    "noshow": "no_show",
}
_ENCOUNTER = {
    "planned": "booked",
    "arrived": "arrived",
    "triaged": "arrived",
    "in-progress": "arrived",
    "onleave": "arrived",
    "finished": "completed",
}
_CHANNELS = {"PHONE": "phone", "SMSWRIT": "sms", "EMAILWRIT": "email", "MAILWRIT": "letter", "HANDWRIT": "letter"}
_DID_NOT_ATTEND = "281399006"  # SNOMED CT
_MISSED = re.compile(r"no.?show|did not attend|not attended", re.IGNORECASE)
_RESCHEDULED = re.compile(r"re-?schedul", re.IGNORECASE)
_PURPOSES = {
    "reminder": r"reminder",
    "recall": r"recall",
    "follow_up": r"follow[- _]?up",
    "marketing": r"marketing|promotion",
}
# What is said of an unanswered message or of an answer: HL7's communication-not-done-reason and plain words.
_OUTCOMES = {
    "no_answer": r"no[- _]?answer|recipient-unavailable",
    "opted_out": r"opt(ed)?[- _]?out|unsubscrib",
    "declined": r"declin|refus|patient-objection|family-objection",
    "confirmed": r"confirm",
}
# Words and codes (SNOMED CT, NUCC) of what somebody does.
_ROLES = {
    "hygienist": r"hygienist|26042002|124Q00000X",
    "assistant": r"assistant|4162009|126800000X",
    "dentist": r"dentist|orthodont|endodont|periodont|prosthodont|oral surg|dental surg|106289002|1223\w+X",
    "nurse": r"nurs|106292003|163W\w+X",
    "consultant": r"consultant",
}
_BY_PRACTICE = ("prov", "maint", "meds-inc")  # HL7's appointment-cancellation-reason: not the patient's doing


def patient(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield what is known about the person, apart from it the name and phone, and whom the number was merged into."""
    updated = last_updated(resource, zone)
    merged = list(_merges(resource))
    died = text(resource.get("deceasedDateTime"))
    departure = None
    if died or resource.get("deceasedBoolean") is True:
        departure = "deceased"
    elif resource.get("active") is False and not any(old == text(resource.get("id")) for old, _ in merged):
        departure = "inactive"
    born = text(resource.get("birthDate")) or ""
    yield (
        "patients",
        {
            "patient_id": text(resource.get("id")),
            "organization_id": reference(resource, resource.get("managingOrganization"), "Organization"),
            "sex": _SEX.get(text(resource.get("gender")) or "", text(resource.get("gender"))),
            "birth_year": born[:4] or None,
            "departure": departure,
            "departed_on": day_of(died),
            "known_from_at": iso(updated),
        },
    )
    contact = {
        "full_name": human_name(resource),
        "phone": telecom(resource, ("phone", "sms")),
        "email": telecom(resource, ("email",)),
    }
    if any(contact.values()):
        known: Row = {"patient_id": text(resource.get("id")), "known_from_at": iso(updated)}
        yield "contact_details", known | contact
    for old, new in merged:
        yield "merges", {"old_id": old, "new_id": new, "merged_at": iso(updated)}


def _merges(resource: Resource) -> Iterator[tuple[str | None, str | None]]:
    """Yield (number that goes, number that stays) of every link that says so."""
    own = text(resource.get("id"))
    for link in each(resource.get("link")):
        other = reference(resource, link.get("other"), "Patient")
        kind = text(link.get("type"))
        if other and kind == "replaced-by":
            yield own, other
        elif other and kind == "replaces":
            yield other, own


def appointment(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield the booking; what it does not say of its times is bounded by what it does say."""
    start, end = instant(resource.get("start"), zone), instant(resource.get("end"), zone)
    updated = last_updated(resource, zone)
    booked = instant(resource.get("created"), zone, is_end=True) or updated
    given = text(resource.get("status")) or ""
    status = _APPOINTMENT.get(given, given or None)
    if given == "cancelled":
        reason = text(at(resource, "cancelationReason", "coding", 0, "code")) or ""
        status = "cancelled_early" if reason.startswith(_BY_PRACTICE) else _cancelled(start, updated)
        if _RESCHEDULED.search(words_of(resource, "cancelationReason")):
            status = "rescheduled"
    minutes = text(resource.get("minutesDuration"))
    if not minutes and start and end and end > start:
        minutes = str(round((end - start) / timedelta(minutes=1)))
    actors = [one.get("actor") for one in each(resource.get("participant"))]
    is_recall = at(resource, "appointmentType", "coding", 0, "code") == "CHECKUP"
    yield (
        "visits",
        _visit(resource, start, text_or_iso(start, resource.get("start")), earlier(booked, start) or start)
        | {
            "appointment_id": text(resource.get("id")),
            "patient_id": first_of(resource, actors, "Patient"),
            "place_id": first_of(resource, actors, "Location"),
            "clinician_id": first_of(resource, actors, "Practitioner"),
            "service_line": concept(resource, "serviceType", "serviceCategory", "specialty"),
            "recall_type": concept(resource, "appointmentType") if is_recall else None,
            "status": status,
            "duration_minutes": minutes,
            "status_known_at": iso(later(updated, earlier(booked, start) or start)) if status != "booked" else None,
        },
    )


def encounter(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield a visit that was not booked here: known from its start, its end from its end, or as its history says.

    One row, and one more of its arrival where ``statusHistory`` tells when that was.
    """
    period = resource.get("period")
    start, end = instant(at(period, "start"), zone), instant(at(period, "end"), zone, is_end=True)
    updated, since = last_updated(resource, zone), _status_history(resource, zone)
    given = text(resource.get("status")) or ""
    status = _ENCOUNTER.get(given, given or None)
    recorded = since.get(given) or updated
    if given == "cancelled":
        status = "no_show" if _is_missed(resource) else _cancelled(start, recorded)
    planned = since.get("planned") or (updated if given in ("planned", "cancelled") else None)
    booked = (earlier(planned, start) if planned else None) or start
    known = end if given == "finished" and end and start and end >= start else recorded
    known = since.get(given) or known
    if status == "arrived":
        known = since.get("arrived") or known
    individuals = [one.get("individual") for one in each(resource.get("participant"))]
    row = _visit(resource, start, text_or_iso(start, at(period, "start")), booked) | {
        "appointment_id": f"Encounter/{text(resource.get('id'))}",  # ids are unique within a type alone
        "patient_id": reference(resource, resource.get("subject"), "Patient"),
        "place_id": reference(resource, at(resource, "location", 0, "location"), "Location"),
        "organization_id": reference(resource, resource.get("serviceProvider"), "Organization"),
        "clinician_id": first_of(resource, individuals, "Practitioner"),
        "service_line": concept(resource, "type", "serviceType"),
        "status": status,
        "status_known_at": iso(later(known, booked)) if status != "booked" else None,
        "of_appointment": reference(resource, at(resource, "appointment", 0), "Appointment"),
    }
    arrived = later(since.get("arrived"), booked)
    if arrived and status not in ("booked", "arrived"):
        yield "visits", row | {"status": "arrived", "status_known_at": iso(arrived)}
    yield "visits", row


def _status_history(resource: Resource, zone: ZoneInfo) -> dict[str, datetime]:
    """When each status, and ``arrived`` of all that mean it, was first reached."""
    since: dict[str, datetime] = {}
    for one in each(resource.get("statusHistory")):
        given, moment = text(one.get("status")) or "", instant(at(one, "period", "start"), zone)
        if moment is None:
            continue
        for name in {given, "arrived"} if _ENCOUNTER.get(given) == "arrived" else {given}:
            since[name] = min(moment, since.get(name, moment))
    return since


def care_plan(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield one item per activity."""
    plan, state = text(resource.get("id")), resource.get("status")
    updated = last_updated(resource, zone)
    period = resource.get("period")
    begun, ended = instant(at(period, "start"), zone, is_end=True), instant(at(period, "end"), zone, is_end=True)
    proposed = (
        instant(resource.get("created"), zone, is_end=True)
        or earlier(instant(at(period, "start"), zone), updated)
        or updated
    )
    # A plan in force is one that the patient agreed to; a draft or a proposal is not.
    is_agreed = state not in ("draft", "unknown") and resource.get("intent") != "proposal" and begun is not None
    accepted = later(earlier(begun, updated), proposed) if is_agreed else None
    for number, activity in enumerate(each(resource.get("activity")), start=1):
        detail = activity.get("detail")
        done = text(at(detail, "status"))
        if done == "entered-in-error":
            continue
        planned_end = instant(at(detail, "scheduledPeriod", "end"), zone, is_end=True)
        notes = [instant(note.get("time"), zone, is_end=True) for note in each(activity.get("progress"))]
        changed = max(filter(None, notes), default=None) or updated
        outcomes = each(activity.get("outcomeReference"))
        booking = first_of(resource, [activity.get("reference"), *outcomes], "Appointment")
        is_dropped = done in ("cancelled", "stopped") or (state == "revoked" and done != "completed")
        completed = changed or planned_end or (ended if state == "completed" else None)
        yield (
            "plan_items",
            {
                "plan_item_id": f"{plan}-{text(activity.get('id')) or number}",
                "plan_id": plan,
                "patient_id": reference(resource, resource.get("subject"), "Patient"),
                "clinician_id": reference(resource, resource.get("author"), "Practitioner")
                or reference(resource, at(detail, "performer", 0), "Practitioner"),
                "appointment_id": booking,
                "service_line": concept({"code": [at(detail, "code")]}, "code"),
                "procedure_code": text(at(detail, "code", "coding", 0, "code")),
                "proposed_at": iso(proposed),
                "accepted_at": iso(accepted),
                "scheduled_at": iso(later(changed, proposed)) if booking or done == "scheduled" else None,
                "completed_at": iso(later(completed, proposed)) if done == "completed" else None,
                "declined_at": iso(later(changed or ended, proposed)) if is_dropped else None,
                "is_time_missing": "true" if done == "completed" and not completed else None,
            },
        )


def communication(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield a message or call."""
    sender = reference(resource, resource.get("sender"), "Patient")
    receivers = each(resource.get("recipient"))
    medium = text(at(resource, "medium", 0, "coding", 0, "code")) or concept(resource, "medium")
    about = " ".join(words_of(resource, name) for name in ("category", "reasonCode", "topic"))
    said = " ".join(words_of(resource, name) for name in ("statusReason", "reasonCode", "topic"))
    sent = instant(resource.get("sent"), zone)
    channel = "wechat" if medium and re.search("wechat|微信", medium, re.IGNORECASE) else medium
    yield (
        "communications",
        {
            "communication_id": text(resource.get("id")),
            "patient_id": sender
            or reference(resource, resource.get("subject"), "Patient")
            or first_of(resource, receivers, "Patient"),
            "appointment_id": first_of(resource, each(resource.get("about")), "Appointment"),
            "direction": "in" if sender else "out",
            "channel": _CHANNELS.get(channel or "", channel),
            "purpose": first_match(_PURPOSES, about) or "other",
            "outcome": first_match(_OUTCOMES, said),
            "sent_at": text_or_iso(sent, resource.get("sent")),
            "delivered_at": iso(instant(resource.get("received"), zone)),
            "in_response_to": reference(resource, at(resource, "inResponseTo", 0), "Communication"),
        },
    )


def is_unanswered(resource: Resource) -> bool:
    """Whether a message that was not completed was sent all the same: a call that nobody took."""
    return bool(text(resource.get("sent"))) and (
        first_match(_OUTCOMES, words_of(resource, "statusReason")) == "no_answer"
    )


def practitioner(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield a clinician."""
    yield "clinicians", {"clinician_id": text(resource.get("id")), "display_name": human_name(resource)}


def practitioner_role(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield what a Practitioner does where, and from when until when."""
    period, updated = resource.get("period"), last_updated(resource, zone)
    end = instant(at(period, "end"), zone, is_end=True)
    left = text(at(period, "end")) or (iso(updated) if resource.get("active") is False else None)
    words = " ".join(words_of(resource, name) for name in ("code", "specialty"))
    yield (
        "roles",
        {
            "clinician_id": reference(resource, resource.get("practitioner"), "Practitioner"),
            "place_id": first_of(resource, each(resource.get("location")), "Location"),
            "organization_id": reference(resource, resource.get("organization"), "Organization"),
            "role": first_match(_ROLES, words) or ("other" if words.strip() else None),
            "works_from_on": day_of(text(at(period, "start"))),
            "left_on": day_of(left),
            "left_known_at": iso(updated) if updated and end and updated < end else None,
        },
    )


def place(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield a Location or an Organization."""
    address = resource.get("address")
    yield (
        "clinics" if resource.get("resourceType") == "Location" else "organizations",
        {
            "clinic_id": text(resource.get("id")),
            "clinic_name": text(resource.get("name")),
            "organization_id": reference(resource, resource.get("managingOrganization"), "Organization"),
            "region": text(at(address[:1] if isinstance(address, list) else [address], 0, "city")),
        },
    )


def _visit(resource: Resource, start: datetime | None, starts_at: str | None, booked: datetime | None) -> Row:
    given = text(resource.get("start") or at(resource, "period", "start")) or ""
    return {
        "starts_at": starts_at,
        "booked_at": iso(booked),
        "is_start_time_known": "true" if start and "T" in given else "false",
        "kind": text(resource.get("resourceType")),
    }


def _cancelled(start: datetime | None, updated: datetime | None) -> str:
    """Early unless recorded within a day of the start; a change much later tells nothing about the moment."""
    if start is None or updated is None:
        return "cancelled_early"
    return "cancelled_late" if abs(start - updated) < timedelta(hours=LATE_HOURS) else "cancelled_early"


def _is_missed(resource: Resource) -> bool:
    for given in (*each(resource.get("type")), *each(resource.get("reasonCode"))):
        words = [text(given.get("text")), *(text(coding.get("display")) for coding in each(given.get("coding")))]
        codes = [coding.get("code") for coding in each(given.get("coding"))]
        if _DID_NOT_ATTEND in codes or any(word and _MISSED.search(word) for word in words):
            return True
    return False
