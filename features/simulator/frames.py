"""Turn what happened into the tables of the data contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from features.simulator.attendance import Truth
from features.simulator.bookings import evening_before
from features.simulator.names import draw_names, draw_phones
from features.simulator.opening import DAY
from features.simulator.people import People
from features.simulator.plan import PracticePlan
from features.simulator.world import Booking, Message, World

Minutes = Sequence[int | None] | np.ndarray
# Longest time between a booking and its visit that an exported row can show, in days.
REACH = 90


@dataclass(frozen=True)
class Span:
    """Minute 0 as a local moment, and the minutes between which visits are exported."""

    origin: datetime
    window: int
    now: int


def instants(minutes: Minutes, span: Span, time_zone: str) -> pd.Series:
    """UTC moments of wall-clock minutes; None becomes NaT."""
    values = pd.Series([np.nan if minute is None else float(minute) for minute in minutes])
    local = pd.Timestamp(span.origin) + pd.to_timedelta(values, unit="min").dt.round("s")
    is_summer = np.ones(len(local), dtype=bool)
    zoned = local.dt.tz_localize(time_zone, ambiguous=is_summer, nonexistent="shift_forward")
    return zoned.dt.tz_convert("UTC")


def patient_ids(positions: Sequence[int] | np.ndarray) -> list[str]:
    """Ids of patients by position; empty text for -1."""
    return [f"P{position + 1:06d}" if position >= 0 else "" for position in positions]


def known_from(world: World, people: People, span: Span) -> np.ndarray:
    """Minute from which each patient's row holds.

    The row of a patient seen well before the exported years holds from the end
    of that visit; any other row holds from registration, and tells no first visit.
    """
    settled = span.window - REACH * DAY
    joined: list[int] = people.joined.tolist()
    ends = [person.first_visit_ended for person in world.people]
    return np.array([end if end is not None and end < settled else at for at, end in zip(joined, ends, strict=True)])


def patients_frame(world: World, people: People, plan: PracticePlan, span: Span) -> pd.DataFrame:
    """One row per patient, without names and phones."""
    known = known_from(world, people, span)
    # Those from before minute 0 were registered at their first visit.
    is_seen = (known != people.joined) | (people.joined < 0)
    known_at = instants(known, span, plan.time_zone)
    seen_on = known_at.dt.tz_convert(plan.time_zone).dt.date.where(is_seen, None)
    shares_home = people.household_size > 1
    return pd.DataFrame(
        {
            "patient_id": patient_ids(range(plan.patients)),
            "known_from_at": known_at,
            "birth_year": people.birth_year,
            "sex": np.where(people.is_female, "female", "male"),
            "home_clinic_id": [f"K{clinic + 1}" for clinic in people.clinic],
            "first_seen_on": seen_on,
            "source_channel": people.source,
            "referred_by_id": patient_ids(people.referred_by),
            "household_id": [
                f"H{home + 1:06d}" if is_shared else ""
                for home, is_shared in zip(people.household, shares_home, strict=True)
            ],
            "membership": people.membership,
            "tags": people.tags,
            "is_contact_allowed": people.is_contact_allowed,
        }
    )


def contact_details_frame(
    patients: pd.DataFrame, people: People, plan: PracticePlan, rng: np.random.Generator
) -> pd.DataFrame:
    """One row per patient: invented name and phone."""
    return pd.DataFrame(
        {
            "patient_id": patients["patient_id"],
            "known_from_at": patients["known_from_at"],
            "full_name": draw_names(people.household, rng, plan.language),
            "phone": draw_phones(plan.patients, rng),
        }
    )


def exported_bookings(world: World, span: Span) -> list[Booking]:
    """Bookings whose visit lies in the exported years or after them."""
    return [booking for booking in world.bookings if booking.start >= span.window]


def appointment_ids(bookings: Sequence[Booking]) -> dict[int, str]:
    """Id of each booking, by its number in the simulation."""
    return {booking.number: f"A{position + 1:07d}" for position, booking in enumerate(bookings)}


def appointments_frame(bookings: Sequence[Booking], plan: PracticePlan, span: Span) -> pd.DataFrame:
    """One row per booking, in the order of booking."""
    fees = pd.array([booking.fee_cents for booking in bookings], dtype="Int64")
    return pd.DataFrame(
        {
            "appointment_id": list(appointment_ids(bookings).values()),
            "patient_id": patient_ids([booking.request.person.index for booking in bookings]),
            "clinic_id": [f"K{booking.clinician.clinic + 1}" for booking in bookings],
            "clinician_id": [booking.clinician.name for booking in bookings],
            "service_line": [booking.request.line for booking in bookings],
            "booked_at": instants([booking.booked for booking in bookings], span, plan.time_zone),
            "starts_at": instants([booking.start for booking in bookings], span, plan.time_zone),
            "is_start_time_known": True,
            "duration_minutes": [booking.end - booking.start for booking in bookings],
            "status": [booking.status for booking in bookings],
            "status_known_at": instants([booking.known for booking in bookings], span, plan.time_zone),
            "is_requested_clinician": [booking.is_requested for booking in bookings],
            "recall_type": [booking.request.recall_type for booking in bookings],
            "fee_cents": fees,
        }
    )


def exported_messages(world: World, span: Span) -> list[Message]:
    """Messages about exported bookings, and recall messages sent in the exported years."""
    return [
        message
        for message in world.messages
        if (message.booking.start if message.booking else message.sent) >= span.window
    ]


def communications_frame(
    messages: Sequence[Message], ids: dict[int, str], plan: PracticePlan, span: Span
) -> pd.DataFrame:
    """One row per message or call, in the order of sending."""
    return pd.DataFrame(
        {
            "communication_id": [f"M{position + 1:07d}" for position in range(len(messages))],
            "patient_id": patient_ids([message.person.index for message in messages]),
            "appointment_id": [ids[message.booking.number] if message.booking else "" for message in messages],
            "direction": "out",
            "channel": [message.channel for message in messages],
            "purpose": [message.purpose for message in messages],
            "campaign_id": ["RECALL" if message.purpose == "recall" else "" for message in messages],
            "sent_at": instants([message.sent for message in messages], span, plan.time_zone),
            "replied_at": instants([message.replied for message in messages], span, plan.time_zone),
            "outcome": [message.outcome for message in messages],
        }
    )


def bookings_truth_frame(world: World, bookings: Sequence[Booking], span: Span) -> pd.DataFrame:
    """One row per booking: what only the simulator knows.

    ``*_at_booking`` hold among bookings that are not given up 24 hours ahead
    or more; ``*_evening_before`` hold among those that still stood at the
    evening-before hour, and are empty for others and for evenings to come.
    ``missed`` counts late cancellations with the no-shows.
    """
    evenings = [_evening_truth(world, booking, span) for booking in bookings]
    frame = pd.DataFrame(
        {
            "appointment_id": list(appointment_ids(bookings).values()),
            "no_show_probability_at_booking": [
                booking.at_booking.no_show for booking in bookings if booking.at_booking
            ],
            "no_show_probability_evening_before": [truth.no_show if truth else None for truth in evenings],
            "missed_probability_at_booking": [booking.at_booking.missed for booking in bookings if booking.at_booking],
            "missed_probability_evening_before": [truth.missed if truth else None for truth in evenings],
            "personal_effect": [booking.request.person.personal_effect for booking in bookings],
            "reminder_state": [
                booking.reminder if truth else "" for booking, truth in zip(bookings, evenings, strict=True)
            ],
            "is_new_patient": [booking.is_new for booking in bookings],
        }
    )
    numbers = frame.columns[1:6]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def _evening_truth(world: World, booking: Booking, span: Span) -> Truth | None:
    evening = evening_before(world, booking)
    is_past = evening <= span.now
    still_stood = booking.known is None or booking.known > evening
    return booking.in_the_evening if is_past and still_stood else None
