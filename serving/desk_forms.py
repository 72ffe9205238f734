"""What is told at the desk, checked: a contact, a new booking, what became of a booking."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from serving.desk_events import Told
from serving.names import CHANNELS, OUTCOMES, PURPOSES, _
from serving.problems import Problem
from serving.schedule import Booking

LATE = timedelta(hours=24)  # the contract's: a cancellation closer to the visit is a late one
CHANGES = ("arrived", "completed", "no_show", "cancelled")
DIRECTIONS = ("out", "in")
LONGEST_MINUTES = 480
BAD_FORM = _("Something in the form is missing or not possible. Check it and send it again.")
IN_THE_PAST = _("A new booking must lie ahead.")


def contact(form: Mapping[str, str], patient_id: str, clinic_id: str | None, now: datetime) -> Told:
    """Read a contact that has just taken place.

    Raises
    ------
    Problem
        400 where a field holds none of its choices.
    """
    direction = _choice(form, "direction", DIRECTIONS)
    channel, purpose = _choice(form, "channel", tuple(CHANNELS)), _choice(form, "purpose", tuple(PURPOSES))
    outcome = _choice(form, "outcome", ("", *OUTCOMES))
    record = {
        "communication_id": _number(),
        "patient_id": patient_id,
        "direction": direction,
        "channel": channel,
        "purpose": purpose,
        "sent_at": now.isoformat(),
        "outcome": outcome or None,
        "replied_at": now.isoformat() if outcome else None,
    }
    return Told("communications", {name: value for name, value in record.items() if value}, patient_id, clinic_id)


def new_booking(form: Mapping[str, str], patient_id: str, zone: ZoneInfo, now: datetime) -> Told:
    """Read a booking to be made.

    Raises
    ------
    Problem
        400 where something is missing, not possible or past.
    """
    try:
        day, clock = date.fromisoformat(form.get("day", "")), time.fromisoformat(form.get("time", ""))
        minutes = int(form.get("minutes", ""))
    except ValueError:
        raise Problem(400, BAD_FORM) from None
    clinic = form.get("clinic", "")
    if not clinic or not 1 <= minutes <= LONGEST_MINUTES or day.year > 2200:
        raise Problem(400, BAD_FORM)
    starts_at = datetime.combine(day, clock.replace(tzinfo=None), tzinfo=zone)
    if starts_at <= now:
        raise Problem(400, IN_THE_PAST)
    record = {
        "appointment_id": _number(),
        "patient_id": patient_id,
        "clinic_id": clinic,
        "clinician_id": form.get("clinician") or None,
        "service_line": form.get("service") or None,
        "status": "booked",
        "duration_minutes": minutes,
        "booked_at": now.isoformat(),
        "starts_at": starts_at.isoformat(),
    }
    return Told("appointments", {n: v for n, v in record.items() if v is not None}, patient_id, clinic)


def change(booking: Booking, status: str, now: datetime) -> Told:
    """Tell what became of a booking; a cancellation is late or early by the clock.

    Raises
    ------
    Problem
        400 if there is no such change.
    """
    if status not in CHANGES:
        raise Problem(400, BAD_FORM)
    if status == "cancelled":
        status = "cancelled_late" if booking.starts_at - now < LATE else "cancelled_early"
    record = {"appointment_id": booking.appointment_id, "status": status, "status_known_at": now.isoformat()}
    return Told("appointments", record, booking.patient_id, booking.clinic_id)


def _choice(form: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    given = form.get(name, "")
    if given not in choices:
        raise Problem(400, BAD_FORM)
    return given


def _number() -> str:
    return f"desk-{secrets.token_hex(6)}"
