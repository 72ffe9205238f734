"""What Open Dental's webhooks send, reduced to what is needed: numbers, times and states of bookings.

Its payloads carry whole rows: names, birth dates, phones, social security
numbers, notes. `read` takes a handful of fields by name and the rest is gone
before anything is logged or stored.

The events are those of https://www.opendental.com/site/apievents.html: rows of
``Appointment``, ``AppointmentDeleted`` and ``Patient`` that changed, and the
patient that somebody selected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from serving.desk_events import PATIENTS
from serving.received import Sent

APPOINTMENT, DELETED, PATIENT, SELECTED = "appointment", "appointmentdeleted", "patient", "patientselected"
MOST = 1000  # of one message; Open Dental sends no more
MINUTES_PER_MARK = 5  # of ``Pattern``
LATE = timedelta(hours=24)
_FIELDS = (
    "AptNum", "PatNum", "AptStatus", "Pattern", "ProvNum", "ProvHyg", "IsHygiene", "ClinicNum", "AptDateTime",
    "DateTimeArrived", "DateTStamp",
)  # fmt: skip
_STATES = {
    "scheduled": "booked", "asap": "booked", "complete": "completed", "broken": "broken", "unschedlist": "broken",
    "1": "booked", "4": "booked", "2": "completed", "5": "broken", "3": "broken",
}  # fmt: skip


@dataclass(frozen=True)
class Conventions:
    """What differs between practices; the same as in the import's mapping.

    Attributes
    ----------
    zone : ZoneInfo
        Open Dental writes the practice's wall clock.
    single_clinic : str
        Name of the clinic where clinics are not used.
    broken_without_code : str
        What a booking that was broken after its start counts as, until the night's import knows better.
    """

    zone: ZoneInfo
    single_clinic: str = "main"
    broken_without_code: Literal["no_show", "cancelled_late"] = "no_show"


@dataclass(frozen=True)
class Message:
    """One message, reduced.

    Attributes
    ----------
    events : tuple of Sent
        What it tells.
    unused : int
        Rows that tell nothing that is needed: planned appointments, operatories, schedules.
    broken : int
        Rows without the numbers or times that they need.
    """

    events: tuple[Sent, ...]
    unused: int
    broken: int


def read(content: Any, event_type: str, conventions: Conventions, at: datetime) -> Message:
    """Reduce a message to what is needed.

    Parameters
    ----------
    content : list or dict
        The message's JSON.
    event_type : str
        Header ``Event-Type``, such as ``WatchTable: Appointment``; empty from
        versions before 22.4.35, whose rows tell by their fields.
    conventions : Conventions
        Of the practice.
    at : datetime
        This moment.

    Raises
    ------
    ValueError
        If it is neither a row nor a list of at most `MOST` rows.
    """
    rows = content if isinstance(content, list) else [content]
    if len(rows) > MOST or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"expected a row, or a list of at most {MOST}")
    told = event_type.rpartition(":")[2].strip().lower()
    made = [_event(told or _kind(row), _reduced(row), conventions, at) for row in rows]
    return Message(tuple(_told(made)), made.count("unused"), made.count("broken"))


def _told(made: Sequence[Sent | str]) -> Iterator[Sent]:
    yield from (event for event in made if isinstance(event, Sent))


def _kind(row: Mapping[str, Any]) -> str:
    return APPOINTMENT if "AptNum" in row else PATIENT if "PatNum" in row and "PatStatus" in row else ""


def _reduced(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(row[name])[:100] for name in _FIELDS if row.get(name) is not None}


def _event(
    kind: str, row: Mapping[str, str], conventions: Conventions, at: datetime
) -> Sent | Literal["unused", "broken"]:
    if kind in (PATIENT, SELECTED):
        patient = _number(row, "PatNum")
        if not patient:
            return "broken"
        # Being selected has no time of its own: twice in a minute is one look.
        seen = {**row, "DateTStamp": f"{at:%Y-%m-%dT%H:%M}"} if kind == SELECTED else row
        return Sent(_identity(kind, seen), PATIENTS, {"patient_id": patient})
    if kind not in (APPOINTMENT, DELETED):
        return "unused"
    state = "broken" if kind == DELETED else _STATES.get(row.get("AptStatus", "").lower())
    if state is None:
        return "unused"
    return _booking(kind, state, row, conventions)


def _booking(
    kind: str, state: str, row: Mapping[str, str], conventions: Conventions
) -> Sent | Literal["unused", "broken"]:
    appointment, patient = _number(row, "AptNum"), _number(row, "PatNum")
    starts, recorded = _moment(row, "AptDateTime", conventions), _moment(row, "DateTStamp", conventions)
    if not appointment or not patient:
        return "broken"
    if starts is None:  # on the unscheduled list without ever having had a time
        return "unused"
    arrived = _moment(row, "DateTimeArrived", conventions)
    if state == "booked" and arrived and arrived.date() == starts.date() and arrived.time().isoformat() != "00:00:00":
        state = "arrived"
    if state == "broken":
        state = _broken(kind, starts, recorded, conventions)
    hygienist = _number(row, "ProvHyg") if row.get("IsHygiene", "").lower() in ("true", "1") else ""
    told = {
        "appointment_id": appointment,
        "patient_id": patient,
        "clinic_id": _number(row, "ClinicNum") or conventions.single_clinic,
        "clinician_id": hygienist or _number(row, "ProvNum"),
        "status": state,
        "duration_minutes": len(row.get("Pattern", "")) * MINUTES_PER_MARK,
        "is_start_time_known": True,
        "starts_at": starts.isoformat(),
    }
    return Sent(_identity(kind, row), "appointments", {name: value for name, value in told.items() if value}, recorded)


def _broken(kind: str, starts: datetime, recorded: datetime | None, conventions: Conventions) -> str:
    """As the import tells them apart, without the procedure codes, which the message does not carry."""
    if recorded is not None and recorded <= starts - LATE:
        return "cancelled_early"
    if recorded is not None and recorded < starts:
        return "cancelled_late"
    return "cancelled_early" if kind == DELETED else conventions.broken_without_code


def _identity(kind: str, row: Mapping[str, str]) -> str:
    """The same row at the same time is the same event; Open Dental numbers none."""
    return hashlib.sha256(json.dumps([kind, sorted(row.items())]).encode()).hexdigest()[:40]


def _number(row: Mapping[str, str], name: str) -> str:
    given = row.get(name, "")
    return given if given.isascii() and given.isdigit() and given.strip("0") and len(given) < 20 else ""


def _moment(row: Mapping[str, str], name: str, conventions: Conventions) -> datetime | None:
    try:
        found = datetime.fromisoformat(row.get(name, ""))
    except ValueError:
        return None
    if not 1900 < found.year < 2200:  # Open Dental's empty date is 0001-01-01
        return None
    return found.replace(tzinfo=conventions.zone) if found.tzinfo is None else found.astimezone(conventions.zone)
