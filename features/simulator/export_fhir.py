"""A simulated practice as FHIR R4 NDJSON, one file per resource type, as a bulk export writes it.

A bulk export holds the newest state of each resource; ``meta.lastUpdated`` is
the moment of that state. What R4 has no element for, and what therefore does
not come back from an import, is listed in ``docs/how-to/simulate.md`` and
asserted in ``tests/test_simulator_round_trip.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from features.simulator.practice import SimulatedPractice

Row = dict[str, Any]
Resource = dict[str, Any]

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_SNOMED = "http://snomed.info/sct"
_APPOINTMENT = {
    "booked": "booked",
    "arrived": "arrived",
    "completed": "fulfilled",
    "no_show": "noshow",
    "cancelled_late": "cancelled",
    "cancelled_early": "cancelled",
    "rescheduled": "cancelled",
}
_MEDIUM = {"phone": "PHONE", "sms": "SMSWRIT", "email": "EMAILWRIT", "letter": "MAILWRIT"}
_ROLES = {"dentist": "106289002", "hygienist": "26042002", "nurse": "106292003"}


def write_ndjson(practice: SimulatedPractice, out: Path, is_first: bool) -> list[Path]:
    """Write the resources of one part of a practice behind those of the parts before it.

    Parameters
    ----------
    practice : SimulatedPractice
        A clinic, or the whole practice.
    out : Path
        Folder of the files.
    is_first : bool
        Whether files of the same name are replaced rather than continued.

    Returns
    -------
    list of Path
        One file per resource type; the same bytes for the same plan.
    """
    zone = practice.plan.time_zone
    tables = {name: list(rows_of(frame, zone)) for name, frame in practice.tables.items()}
    written = []
    for kind, make in _RESOURCES.items():
        path = out / f"{kind}.ndjson"
        lines = (json.dumps(_without_blanks(one), ensure_ascii=False) + "\n" for one in make(tables))
        with path.open("w" if is_first else "a", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
        written.append(path)
    return written


def rows_of(frame: pd.DataFrame, time_zone: str) -> Iterator[Row]:
    """Yield rows as dicts: moments on the practice's clock, whatever is blank as None."""
    shown = frame.copy()
    for name, values in frame.items():
        if isinstance(values.dtype, pd.DatetimeTZDtype):
            shown[name] = values.dt.tz_convert(time_zone)
    names = list(shown.columns)
    for cells in zip(*(shown[name].astype(object) for name in names), strict=True):
        row = zip(names, cells, strict=True)
        yield {name: None if pd.isna(value) or value == "" else value for name, value in row}


def latest(rows: list[Row], key: str, known_from: str = "known_from_at") -> list[Row]:
    """Return the newest state of every key, in the order in which the keys first came."""
    newest: dict[str, Row] = {}
    for row in rows:
        before = newest.get(row[key])
        if before is None or row[known_from] >= before[known_from]:
            newest[row[key]] = row
    return list(newest.values())


def _organizations(tables: dict[str, list[Row]]) -> Iterator[Resource]:
    for clinic in tables["clinics"]:
        yield {"resourceType": "Organization", "id": clinic["clinic_id"], "name": clinic["clinic_name"]}


def _locations(tables: dict[str, list[Row]]) -> Iterator[Resource]:
    for clinic in tables["clinics"]:
        yield {
            "resourceType": "Location",
            "id": clinic["clinic_id"],
            "status": "active",
            "name": clinic["clinic_name"],
            "address": {"city": clinic["region"]},
            "managingOrganization": _to("Organization", clinic["clinic_id"]),
        }


def _practitioners(tables: dict[str, list[Row]]) -> Iterator[Resource]:
    for clinician in tables["clinicians"]:
        yield {
            "resourceType": "Practitioner",
            "id": clinician["clinician_id"],
            "name": [{"text": clinician["display_name"]}],
        }


def _roles(tables: dict[str, list[Row]]) -> Iterator[Resource]:
    for clinician in tables["clinicians"]:
        role, left = clinician["role"], clinician["left_on"]
        coded = {"system": _SNOMED, "code": _ROLES[role], "display": role} if role in _ROLES else None
        yield {
            "resourceType": "PractitionerRole",
            "id": f"{clinician['clinician_id']}-role",
            "meta": {"lastUpdated": _iso(clinician["left_known_at"])},
            "active": True,
            "period": {"start": _day(clinician["works_from_on"]), "end": _day(left)},
            "practitioner": _to("Practitioner", clinician["clinician_id"]),
            "organization": _to("Organization", clinician["clinic_id"]),
            "code": [{"coding": [coded] if coded else [], "text": role}],
            "location": [_to("Location", clinician["clinic_id"])],
        }


def _patients(tables: dict[str, list[Row]]) -> Iterator[Resource]:
    contacts = {row["patient_id"]: row for row in latest(tables["contact_details"], "patient_id")}
    for patient in latest(tables["patients"], "patient_id"):
        contact = contacts.get(patient["patient_id"], {})
        year, departure = patient["birth_year"], patient["departure"]
        died = departure == "deceased"
        yield {
            "resourceType": "Patient",
            "id": patient["patient_id"],
            "meta": {"lastUpdated": _iso(patient["known_from_at"])},
            "active": departure in (None, "deceased"),
            "name": [{"text": contact.get("full_name")}],
            "telecom": [{"system": "phone", "value": contact.get("phone"), "use": "mobile"}]
            if contact.get("phone")
            else [],
            "gender": patient["sex"],
            "birthDate": None if year is None else f"{int(year):04d}",
            "deceasedDateTime": _day(patient["departed_on"]) if died else None,
            "managingOrganization": _to("Organization", patient["home_clinic_id"]),
        }


def _appointments(tables: dict[str, list[Row]]) -> Iterator[Resource]:
    for booking in tables["appointments"]:
        minutes = int(booking["duration_minutes"])
        is_rescheduled = booking["status"] == "rescheduled"
        recall = booking["recall_type"]
        checkup = {"system": f"{_TERMINOLOGY}/v2-0276", "code": "CHECKUP"}
        actors = (
            _to("Patient", booking["patient_id"]),
            _to("Practitioner", booking["clinician_id"]),
            _to("Location", booking["clinic_id"]),
        )
        yield {
            "resourceType": "Appointment",
            "id": booking["appointment_id"],
            "meta": {"lastUpdated": _iso(booking["status_known_at"])},
            "status": _APPOINTMENT[booking["status"]],
            "cancelationReason": {"text": "rescheduled"} if is_rescheduled else None,
            "serviceType": [{"text": booking["service_line"]}],
            "appointmentType": {"coding": [checkup], "text": recall} if recall else None,
            "start": _iso(booking["starts_at"]),
            "end": _iso(booking["starts_at"] + pd.Timedelta(minutes=minutes)),
            "minutesDuration": minutes,
            "created": _iso(booking["booked_at"]),
            "participant": [{"actor": actor, "status": "accepted"} for actor in actors if actor],
        }


def _encounters(tables: dict[str, list[Row]]) -> Iterator[Resource]:
    for booking in tables["appointments"]:
        if booking["status"] != "completed":
            continue
        clinician = _to("Practitioner", booking["clinician_id"])
        yield {
            "resourceType": "Encounter",
            "id": f"{booking['appointment_id']}-visit",
            "status": "finished",
            "class": {"system": f"{_TERMINOLOGY}/v3-ActCode", "code": "AMB"},
            "serviceType": {"text": booking["service_line"]},
            "subject": _to("Patient", booking["patient_id"]),
            "participant": [{"individual": clinician}] if clinician else [],
            "appointment": [_to("Appointment", booking["appointment_id"])],
            "period": {"start": _iso(booking["starts_at"]), "end": _iso(booking["status_known_at"])},
            "location": [{"location": _to("Location", booking["clinic_id"])}],
        }


def _care_plans(tables: dict[str, list[Row]]) -> Iterator[Resource]:
    plans: dict[str, list[Row]] = {}
    for item in tables["plan_items"]:
        plans.setdefault(item["plan_id"], []).append(item)
    for plan, items in plans.items():
        first = items[0]
        moments = [item[name] for item in items for name in _STEPS if item[name] is not None]
        if all(item["completed_at"] is not None for item in items):
            status = "completed"
        elif all(item["declined_at"] is not None for item in items):
            status = "revoked"
        else:
            status = "draft" if first["accepted_at"] is None else "active"
        yield {
            "resourceType": "CarePlan",
            "id": plan,
            "meta": {"lastUpdated": _iso(max(moments))},
            "status": status,
            "intent": "proposal" if first["accepted_at"] is None else "plan",
            "subject": _to("Patient", first["patient_id"]),
            "period": {"start": _iso(first["accepted_at"])},
            "created": _iso(first["proposed_at"]),
            "activity": [_activity(item) for item in items],
        }


_STEPS = ("proposed_at", "accepted_at", "scheduled_at", "completed_at", "declined_at")
_ACTIVITY = (("completed_at", "completed"), ("declined_at", "cancelled"), ("scheduled_at", "scheduled"))


def _activity(item: Row) -> Resource:
    reached = ((item[name], word) for name, word in _ACTIVITY if item[name] is not None)
    moment, status = next(reached, (None, "not-started"))
    performer = _to("Practitioner", item["clinician_id"])
    booking = _to("Appointment", item["appointment_id"])
    return {
        "id": item["plan_item_id"],
        "outcomeReference": [booking] if booking else [],
        "progress": [{"time": _iso(moment), "text": status}] if moment is not None else [],
        "detail": {
            "kind": "ServiceRequest",
            "code": {
                "coding": [{"system": "http://www.ada.org/cdt", "code": item["procedure_code"]}],
                "text": item["service_line"],
            },
            "status": status,
            "performer": [performer] if performer else [],
        },
    }


def _communications(tables: dict[str, list[Row]]) -> Iterator[Resource]:
    for message in tables["communications"]:
        patient = _to("Patient", message["patient_id"])
        code = _MEDIUM.get(message["channel"])
        coding = [{"system": f"{_TERMINOLOGY}/v3-ParticipationMode", "code": code}] if code else []
        shared = {
            "resourceType": "Communication",
            "category": [{"text": message["purpose"]}],
            "medium": [{"coding": coding, "text": message["channel"]}],
            "subject": patient,
        }
        booking = _to("Appointment", message["appointment_id"])
        outcome, replied = message["outcome"], message["replied_at"]
        is_unanswered = outcome == "no_answer"
        unavailable = {"system": f"{_TERMINOLOGY}/communication-not-done-reason", "code": "recipient-unavailable"}
        yield shared | {
            "id": message["communication_id"],
            "status": "stopped" if is_unanswered else "completed",
            "statusReason": {"coding": [unavailable]} if is_unanswered else None,
            "about": [booking] if booking else [],
            "sent": _iso(message["sent_at"]),
            "received": None if is_unanswered else _iso(message["delivered_at"]),
            "recipient": [patient],
        }
        if replied is not None and not is_unanswered:
            yield shared | {
                "id": f"{message['communication_id']}-reply",
                "inResponseTo": [_to("Communication", message["communication_id"])],
                "status": "completed",
                "reasonCode": [{"text": outcome}] if outcome else [],
                "sent": _iso(replied),
                "sender": patient,
            }


_RESOURCES: dict[str, Callable[[dict[str, list[Row]]], Iterator[Resource]]] = {
    "Organization": _organizations,
    "Location": _locations,
    "Practitioner": _practitioners,
    "PractitionerRole": _roles,
    "Patient": _patients,
    "Appointment": _appointments,
    "Encounter": _encounters,
    "CarePlan": _care_plans,
    "Communication": _communications,
}


def _to(kind: str, number: str | None) -> Resource | None:
    return None if number is None else {"reference": f"{kind}/{number}"}


def _iso(moment: pd.Timestamp | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _day(day: Any) -> str | None:
    return None if day is None else str(day.isoformat())


def _without_blanks(value: Any) -> Any:
    """FHIR has no empty elements: leave out None, empty lists and objects."""
    if isinstance(value, dict):
        kept = {name: _without_blanks(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, [], {})}
    if isinstance(value, list):
        return [_without_blanks(item) for item in value]
    return value
