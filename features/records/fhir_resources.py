"""FHIR R4 resources as flat rows of text: one function per resource type, none of which ever fails.

A resource may lack anything and hold anything; what is not of the expected
shape counts as absent, and the contract then says whether it can be absent.
References come out as ids of their type, or as what `features.records.fhir`
looks up once all resources are read: ``?system|value`` (an identifier) and
``~id`` (a URN that does not tell its type).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Resource = dict[str, Any]
Row = dict[str, str | None]

LATE_HOURS = 24  # the contract's late cancellation
_DATE_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$")
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
_BY_PRACTICE = ("prov", "maint", "meds-inc")  # HL7's appointment-cancellation-reason: not the patient's doing


def at(value: Any, *steps: str | int) -> Any:
    """Follow `steps` into nested objects and lists; None where they do not lead anywhere."""
    for step in steps:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and len(value) > step else None
    return value


def text(value: Any) -> str | None:
    """A scalar as text without lone surrogates; nothing else is text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return (value if value.isascii() else value.encode("utf-8", "replace").decode()).strip() or None
    return str(value) if isinstance(value, (int, float)) else None


def each(value: Any) -> list[Resource]:
    """The objects in a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def instant(value: Any, zone: ZoneInfo, *, is_end: bool = False) -> datetime | None:
    """A dateTime as a moment; a date is its first second, or its last one where `is_end`."""
    given = text(value) or ""
    try:
        if _DATE_TIME.match(given):
            return datetime.fromisoformat(given).astimezone(UTC)
        if re.fullmatch(r"\d{4}-\d\d-\d\d", given):
            day = datetime.strptime(given, "%Y-%m-%d").date()  # noqa: DTZ007  (the zone is added below)
            return datetime.combine(day, time(23, 59, 59) if is_end else time(), tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None


def reference(resource: Resource, value: Any, kind: str) -> str | None:
    """What a Reference points to, if that is a `kind`."""
    target, declared = text(at(value, "reference")) or "", text(at(value, "type"))
    if declared not in (None, kind):
        return None
    if target.startswith("#"):
        inside = [one for one in each(resource.get("contained")) if one.get("id") == target[1:]]
        if not inside or inside[0].get("resourceType") != kind:
            return None
        return _token(at(inside[0], "identifier", 0))
    if "?identifier=" in target:
        asked, _, token = target.partition("?identifier=")
        return f"?{token}" if asked.rpartition("/")[2] == kind else None
    if target.startswith(("urn:uuid:", "urn:oid:")):
        return ("" if declared else "~") + target.split(":", 2)[2]
    if target:
        parts = target.split("/_history/")[0].rstrip("/").split("/")
        return parts[-1] or None if len(parts) >= 2 and parts[-2] == kind else None
    return _token(at(value, "identifier"))


def tokens(resource: Resource) -> Iterator[str]:
    """Under which other names this resource is referred to."""
    yield f"~{text(resource.get('id'))}"
    for identifier in each(resource.get("identifier")):
        token = _token(identifier)
        if token:
            yield token


def patient(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield what is known about the person, and apart from it the name and phone."""
    updated = _updated(resource, zone)
    died = text(resource.get("deceasedDateTime"))
    departure = None
    if died or resource.get("deceasedBoolean") is True:
        departure = "deceased"
    elif resource.get("active") is False:
        departure = "inactive"
    born = text(resource.get("birthDate")) or ""
    yield (
        "patients",
        {
            "patient_id": text(resource.get("id")),
            "sex": _SEX.get(text(resource.get("gender")) or "", text(resource.get("gender"))),
            "birth_year": born[:4] or None,
            "departure": departure,
            "departed_on": died[:10] if died and len(died) >= len("2000-01-01") else None,
            "known_from_at": _iso(updated),
        },
    )
    contact = {
        "full_name": _human_name(resource),
        "phone": _telecom(resource, ("phone", "sms")),
        "email": _telecom(resource, ("email",)),
    }
    if any(contact.values()):
        known: Row = {"patient_id": text(resource.get("id")), "known_from_at": _iso(updated)}
        yield "contact_details", known | contact


def appointment(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield the booking; what it does not say of its times is bounded by what it does say."""
    start, end = instant(resource.get("start"), zone), instant(resource.get("end"), zone)
    updated = _updated(resource, zone)
    booked = instant(resource.get("created"), zone, is_end=True) or updated
    given = text(resource.get("status")) or ""
    status = _APPOINTMENT.get(given, given or None)
    if given == "cancelled":
        reason = text(at(resource, "cancelationReason", "coding", 0, "code")) or ""
        status = "cancelled_early" if reason.startswith(_BY_PRACTICE) else _cancelled(start, updated)
    minutes = text(resource.get("minutesDuration"))
    if not minutes and start and end and end > start:
        minutes = str(round((end - start) / timedelta(minutes=1)))
    actors = [one.get("actor") for one in each(resource.get("participant"))]
    yield (
        "visits",
        _visit(resource, start, _text_or_iso(start, resource.get("start")), _earlier(booked, start) or start)
        | {
            "appointment_id": text(resource.get("id")),
            "patient_id": _first_of(resource, actors, "Patient"),
            "place_id": _first_of(resource, actors, "Location"),
            "clinician_id": _first_of(resource, actors, "Practitioner"),
            "service_line": _concept(resource, "serviceType", "serviceCategory", "specialty"),
            "status": status,
            "duration_minutes": minutes,
            "status_known_at": _iso(_later(updated, _earlier(booked, start) or start)) if status != "booked" else None,
        },
    )


def encounter(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield a visit that was not booked here: it is known from its start, its end from its end."""
    period = resource.get("period")
    start, end = instant(at(period, "start"), zone), instant(at(period, "end"), zone, is_end=True)
    updated = _updated(resource, zone)
    given = text(resource.get("status")) or ""
    status = _ENCOUNTER.get(given, given or None)
    if given == "cancelled":
        status = "no_show" if _is_missed(resource) else _cancelled(start, updated)
    was_planned = given in ("planned", "cancelled")
    booked = (_earlier(updated, start) if was_planned else None) or start
    known = end if given == "finished" and end and start and end >= start else updated
    individuals = [one.get("individual") for one in each(resource.get("participant"))]
    yield (
        "visits",
        _visit(resource, start, _text_or_iso(start, at(period, "start")), booked)
        | {
            "appointment_id": f"Encounter/{text(resource.get('id'))}",  # ids are unique within a type alone
            "patient_id": reference(resource, resource.get("subject"), "Patient"),
            "place_id": reference(resource, at(resource, "location", 0, "location"), "Location"),
            "organization_id": reference(resource, resource.get("serviceProvider"), "Organization"),
            "clinician_id": _first_of(resource, individuals, "Practitioner"),
            "service_line": _concept(resource, "type", "serviceType"),
            "status": status,
            "status_known_at": _iso(_later(known, booked)) if status != "booked" else None,
            "of_appointment": reference(resource, at(resource, "appointment", 0), "Appointment"),
        },
    )


def care_plan(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield one item per activity."""
    plan, state = text(resource.get("id")), resource.get("status")
    updated = _updated(resource, zone)
    ended = instant(at(resource, "period", "end"), zone, is_end=True)
    proposed = (
        instant(resource.get("created"), zone, is_end=True)
        or _earlier(instant(at(resource, "period", "start"), zone), updated)
        or updated
    )
    for number, activity in enumerate(each(resource.get("activity")), start=1):
        detail = activity.get("detail")
        done = text(at(detail, "status"))
        if done == "entered-in-error":
            continue
        planned_end = instant(at(detail, "scheduledPeriod", "end"), zone, is_end=True)
        booking = reference(resource, activity.get("reference"), "Appointment")
        is_dropped = done in ("cancelled", "stopped") or (state == "revoked" and done != "completed")
        completed = updated or planned_end or (ended if state == "completed" else None)
        yield (
            "plan_items",
            {
                "plan_item_id": f"{plan}-{number}",
                "plan_id": plan,
                "patient_id": reference(resource, resource.get("subject"), "Patient"),
                "clinician_id": reference(resource, resource.get("author"), "Practitioner")
                or reference(resource, at(detail, "performer", 0), "Practitioner"),
                "appointment_id": booking,
                "service_line": _concept({"code": [at(detail, "code")]}, "code"),
                "procedure_code": text(at(detail, "code", "coding", 0, "code")),
                "proposed_at": _iso(proposed),
                "scheduled_at": _iso(_later(updated, proposed)) if booking or done == "scheduled" else None,
                "completed_at": _iso(_later(completed, proposed)) if done == "completed" else None,
                "declined_at": _iso(_later(updated or ended, proposed)) if is_dropped else None,
                "is_time_missing": "true" if done == "completed" and not completed else None,
            },
        )


def communication(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield a message or call."""
    sender = reference(resource, resource.get("sender"), "Patient")
    receivers = each(resource.get("recipient"))
    medium = text(at(resource, "medium", 0, "coding", 0, "code")) or _concept(resource, "medium")
    about = " ".join(
        filter(None, (_concept(resource, name) for name in ("category", "reasonCode"))),
    ) + (_concept({"topic": [resource.get("topic")]}, "topic") or "")
    sent = instant(resource.get("sent"), zone)
    channel = "wechat" if medium and re.search("wechat|微信", medium, re.IGNORECASE) else medium
    yield (
        "communications",
        {
            "communication_id": text(resource.get("id")),
            "patient_id": sender
            or reference(resource, resource.get("subject"), "Patient")
            or _first_of(resource, receivers, "Patient"),
            "appointment_id": _first_of(resource, each(resource.get("about")), "Appointment"),
            "direction": "in" if sender else "out",
            "channel": _CHANNELS.get(channel or "", channel),
            "purpose": next((word for word in ("reminder", "recall") if word in about.lower()), "other"),
            "sent_at": _text_or_iso(sent, resource.get("sent")),
            "delivered_at": _iso(instant(resource.get("received"), zone)),
        },
    )


def practitioner(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield a clinician."""
    yield "clinicians", {"clinician_id": text(resource.get("id")), "display_name": _human_name(resource)}


def place(resource: Resource, zone: ZoneInfo) -> Iterator[tuple[str, Row]]:
    """Yield a Location or an Organization."""
    address = resource.get("address")
    yield (
        "clinics" if resource.get("resourceType") == "Location" else "organizations",
        {
            "clinic_id": text(resource.get("id")),
            "clinic_name": text(resource.get("name")),
            "region": text(at(address[:1] if isinstance(address, list) else [address], 0, "city")),
        },
    )


def _visit(resource: Resource, start: datetime | None, starts_at: str | None, booked: datetime | None) -> Row:
    given = text(resource.get("start") or at(resource, "period", "start")) or ""
    return {
        "starts_at": starts_at,
        "booked_at": _iso(booked),
        "is_start_time_known": "true" if start and "T" in given else "false",
        "kind": text(resource.get("resourceType")),
    }


def _cancelled(start: datetime | None, updated: datetime | None) -> str:
    """Early unless recorded within a day of the start; a change much later tells nothing about the moment."""
    if start is None or updated is None:
        return "cancelled_early"
    return "cancelled_late" if abs(start - updated) < timedelta(hours=LATE_HOURS) else "cancelled_early"


def _is_missed(resource: Resource) -> bool:
    for concept in (*each(resource.get("type")), *each(resource.get("reasonCode"))):
        words = [text(concept.get("text")), *(text(coding.get("display")) for coding in each(concept.get("coding")))]
        codes = [coding.get("code") for coding in each(concept.get("coding"))]
        if _DID_NOT_ATTEND in codes or any(word and _MISSED.search(word) for word in words):
            return True
    return False


def _updated(resource: Resource, zone: ZoneInfo) -> datetime | None:
    return instant(at(resource, "meta", "lastUpdated"), zone, is_end=True)


def _token(identifier: Any) -> str | None:
    value = text(at(identifier, "value"))
    return f"?{text(at(identifier, 'system')) or ''}|{value}" if value else None


def _first_of(resource: Resource, candidates: list[Any], kind: str) -> str | None:
    """The first that surely is a `kind`; else all that may be, to be looked up."""
    found = [one for one in (reference(resource, value, kind) for value in candidates) if one]
    sure = [one for one in found if not one.startswith("~")]
    return sure[0] if sure else " ".join(found) or None


def _concept(resource: Resource, *names: str) -> str | None:
    """The words of the first CodeableConcept there is."""
    for name in names:
        value = resource.get(name)
        concept = at(value, 0) if isinstance(value, list) else value
        coding = at(concept, "coding", 0)
        found = text(at(concept, "text")) or text(at(coding, "display")) or text(at(coding, "code"))
        if found:
            return found
    return None


def _human_name(resource: Resource) -> str | None:
    names = each(resource.get("name"))
    order = {"official": 0, "usual": 1, None: 2}
    for name in sorted(names, key=lambda one: order.get(text(one.get("use")), 3)):
        given = name.get("given")
        parts = [*(given if isinstance(given, list) else []), name.get("family")]
        found = text(name.get("text")) or " ".join(filter(None, map(text, parts)))
        if found:
            return found
    return None


def _telecom(resource: Resource, systems: tuple[str, ...]) -> str | None:
    lines = [one for one in each(resource.get("telecom")) if one.get("system") in systems and one.get("use") != "old"]
    lines.sort(key=lambda one: one.get("use") != "mobile")
    return next((found for one in lines if (found := text(one.get("value")))), None)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one, other) if one and other else one or other


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    """The later of both; nothing without the first."""
    return max(one, other) if one and other else one


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _text_or_iso(moment: datetime | None, given: Any) -> str | None:
    """What cannot be read stays as it is, so that the contract names it."""
    return _iso(moment) or text(given)
