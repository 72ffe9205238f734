"""Turn what happened into the tables of people, bookings and messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from features.simulator.columns import BookingColumns, columns_of, texts
from features.simulator.names import draw_names, draw_phones
from features.simulator.one_clinic import Site
from features.simulator.opening import DAY
from features.simulator.people import People
from features.simulator.world import Message, World

# Longest time between a booking and its visit that an exported row can show, in days.
REACH = 90
# The desk learns of a move or a death some weeks later.
LEARNED_AFTER = 30


def known_from(world: World, people: People, site: Site) -> np.ndarray:
    """Minute from which each patient's first row holds.

    The row of a patient seen well before the exported years holds from the end
    of that visit; any other row holds from registration, and tells no first visit.
    """
    settled = site.span.window - REACH * DAY
    joined: list[int] = people.joined.tolist()
    ends = [person.first_visit_ended for person in world.people]
    return np.array([end if end is not None and end < settled else at for at, end in zip(joined, ends, strict=True)])


def patients_frame(world: World, people: People, site: Site) -> pd.DataFrame:
    """Patients without names and phones; one row per state: as registered, opted out, departed."""
    known = known_from(world, people, site)
    # Those from before minute 0 were registered at their first visit.
    is_seen = (known != people.joined) | (people.joined < 0)
    first = pd.DataFrame(
        {
            "patient_id": site.ids("P", range(site.patients), 6),
            "known_from_at": site.instants(known),
            "birth_year": people.birth_year,
            "sex": np.where(people.is_female, "female", "male"),
            "home_clinic_id": site.tag,
            "first_seen_on": site.days(known).where(is_seen, None),
            "source_channel": people.source,
            "referred_by_id": site.ids("P", people.referred_by.tolist(), 6),
            "household_id": site.ids("H", np.where(people.household_size > 1, people.household, -1).tolist(), 6),
            "membership": people.membership,
            "tags": people.tags,
            "departure": "",
            "is_contact_allowed": people.is_contact_allowed,
            "is_profiling_allowed": people.is_profiling_allowed,
            "departed_on": None,
        }
    )
    for channel, allowed in people.consents.items():
        first[f"is_{channel}_allowed"] = allowed
    return pd.concat([first, *_later_states(world, first, site)], ignore_index=True)


def _later_states(world: World, first: pd.DataFrame, site: Site) -> list[pd.DataFrame]:
    """States of those who opted out, and of those whose departure is known by now."""
    out = [person for person in world.people if person.opted_out is not None]
    gone = [p for p in world.people if p.departure and p.departed + LEARNED_AFTER * DAY <= site.span.now]
    refused = first.iloc[[person.index for person in out]].copy()
    refused["known_from_at"] = site.instants([person.opted_out for person in out]).to_numpy()
    refused["known_from_at"] = pd.to_datetime(refused["known_from_at"], utc=True)
    refused["is_contact_allowed"] = False
    left = first.iloc[[person.index for person in gone]].copy()
    left["known_from_at"] = pd.to_datetime(
        site.instants([p.departed + LEARNED_AFTER * DAY for p in gone]).to_numpy(), utc=True
    )
    left["departure"] = [person.departure for person in gone]
    left["departed_on"] = site.days([person.departed for person in gone]).to_numpy()
    left["is_contact_allowed"] = [person.is_contact_allowed for person in gone]
    # Consent that was withdrawn shows from that state on only.
    return [frame for frame in (refused, left) if len(frame)]


def contact_details_frame(patients: pd.DataFrame, people: People, site: Site, rng: np.random.Generator) -> pd.DataFrame:
    """One row per patient: invented name and phone."""
    first = patients.iloc[: site.patients]
    return pd.DataFrame(
        {
            "patient_id": first["patient_id"],
            "known_from_at": first["known_from_at"],
            "full_name": draw_names(people.household, rng, site.plan.language),
            "phone": draw_phones(site.patients, rng),
            "email": "",
        }
    )


def appointments_frame(bookings: BookingColumns, site: Site) -> pd.DataFrame:
    """One row per booking, in the order of booking."""
    return pd.DataFrame(
        {
            "appointment_id": site.ids("A", np.arange(len(bookings))),
            "patient_id": site.ids("P", bookings.person, 6),
            "clinic_id": site.tag,
            "clinician_id": bookings.clinician,
            "service_line": bookings.line,
            "booked_at": site.instants(bookings.booked),
            "starts_at": site.instants(bookings.start),
            "is_start_time_known": True,
            "duration_minutes": bookings.minutes,
            "status": bookings.status,
            "status_known_at": site.instants(bookings.known),
            "is_requested_clinician": bookings.is_requested,
            "recall_type": bookings.recall_type,
            "fee_cents": cents(bookings.fee_cents),
        }
    )


def cents(values: np.ndarray) -> pd.arrays.IntegerArray:
    """Whole numbers; NaN is missing."""
    gaps = np.isnan(values)
    return pd.arrays.IntegerArray(np.where(gaps, 1, values).astype(np.int64), gaps)


def exported_messages(world: World, site: Site) -> list[Message]:
    """Messages about exported bookings, and recall messages sent in the exported years."""
    window = site.span.window
    return [m for m in world.messages if (m.booking.start if m.booking else m.sent) >= window]


def communications_frame(messages: Sequence[Message], bookings: BookingColumns, site: Site) -> pd.DataFrame:
    """One row per message or call, in the order of sending."""
    people, channels, purposes, campaigns, sent, replied, outcomes = columns_of(
        messages, "person.index", "channel", "purpose", "campaign", "sent", "replied", "outcome"
    )
    about = np.array([-1 if message.booking is None else message.booking.number for message in messages], dtype=int)
    channel, sent_at, replied_at = texts(channels), np.array(sent, dtype=float), np.array(replied, dtype=float)
    return pd.DataFrame(
        {
            "communication_id": site.ids("M", np.arange(len(messages))),
            "patient_id": site.ids("P", people, 6),
            "appointment_id": site.ids("A", bookings.position[about]),
            "direction": "out",
            "channel": channel,
            "purpose": texts(purposes),
            "campaign_id": texts(campaigns),
            "sent_at": site.instants(sent_at),
            "delivered_at": site.instants(np.where(channel != "phone", sent_at, replied_at)),
            "replied_at": site.instants(replied_at),
            "outcome": texts(outcomes),
        }
    )
