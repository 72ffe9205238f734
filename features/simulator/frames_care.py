"""Turn what happened into the tables of plans, recalls, money, notes and the randomised stratum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from features.simulator.contacts import HOLD_OUT
from features.simulator.frames import positions_of
from features.simulator.one_clinic import Site
from features.simulator.opening import DAY
from features.simulator.world import Arm, Booking, World

CODES = {
    "hygiene": "D1110",
    "examination": "D0120",
    "filling": "D2391",
    "root_canal": "D3330",
    "crown": "D2740",
    "orthodontics": "D8080",
    "implant": "D6010",
    "whitening": "D9972",
}
METHODS = {"wechat_pay": 0.55, "card": 0.2, "insurance": 0.15, "cash": 0.1}
REVIEW_STATES = {"written": 0.82, "unwritten": 0.06, "ignored": 0.04, "to_correct": 0.03, "corrected": 0.05}
KINDS = ("charge", "payment", "refund")


def plan_items_frame(world: World, bookings: Sequence[Booking], site: Site) -> pd.DataFrame:
    """One row per item that was proposed in the exported years."""
    items = [item for item in world.items if item.proposed >= site.span.window]
    position = positions_of(bookings)
    last = [item.booking for item in items]
    return pd.DataFrame(
        {
            "plan_item_id": site.ids("I", range(len(items))),
            "plan_id": site.ids("T", [item.plan - 1 for item in items]),
            "patient_id": site.ids("P", [item.person.index for item in items], 6),
            "clinic_id": site.tag,
            "clinician_id": [item.proposed_by for item in items],
            "appointment_id": site.ids("A", [position.get(b.number, -1) if b else -1 for b in last]),
            "service_line": [item.line for item in items],
            "procedure_code": [CODES[item.line] for item in items],
            "urgency": [item.urgency for item in items],
            "fee_cents": [item.fee_cents for item in items],
            "proposed_at": site.instants([item.proposed for item in items]),
            "accepted_at": site.instants([item.accepted for item in items]),
            "scheduled_at": site.instants([item.scheduled for item in items]),
            "completed_at": site.instants([item.completed for item in items]),
            "declined_at": site.instants([item.declined for item in items]),
        }
    )


def recalls_frame(world: World, site: Site) -> pd.DataFrame:
    """One row per state of a patient's recall: due anew after each check-up, or switched off."""
    rows = [(due.person, due.known, due.due, False) for due in world.dues]
    last = {due.person.index: due for due in world.dues}
    rows += [(p, p.opted_out, last[p.index].due, True) for p in world.people if p.opted_out and p.index in last]
    rows = [row for row in rows if row[1] <= site.span.now]
    people = [row[0] for row in rows]
    return pd.DataFrame(
        {
            "recall_id": [f"{patient}|check_up" for patient in site.ids("P", [p.index for p in people], 6)],
            "patient_id": site.ids("P", [person.index for person in people], 6),
            "recall_type": "check_up",
            "disabled_reason": ["opted out" if row[3] else "" for row in rows],
            "interval_days": [round(person.interval_months * 365.25 / 12) for person in people],
            "is_disabled": [row[3] for row in rows],
            "due_on": site.days([row[2] for row in rows]),
            "known_from_at": site.instants([row[1] for row in rows]),
        }
    )


def payments_frame(world: World, bookings: Sequence[Booking], site: Site, rng: np.random.Generator) -> pd.DataFrame:
    """A charge per visit, its payment on the day or some weeks later, and a few refunds."""
    rates, now = world.rates.plans, site.span.now
    seen = [(n, b) for n, b in enumerate(bookings) if b.fee_cents is not None]
    size = len(seen)
    ended = np.array([b.known for _, b in seen], dtype=float)
    late = np.where(rng.random(size) < rates.pays_at_once, 5, np.floor(rng.exponential(25 * DAY, size)) + DAY)
    refund_at = ended + np.floor(rng.exponential(20 * DAY, size)) + DAY
    is_refunded = rng.random(size) < rates.refunded
    place = np.array([n for n, _ in seen], dtype=int)
    list_cents = np.array([b.list_cents for _, b in seen], dtype=np.int64)
    amount = np.array([b.fee_cents for _, b in seen], dtype=np.int64)
    method = rng.choice(list(METHODS), size=size, p=list(METHODS.values()))
    people = np.array([b.request.person.index for _, b in seen], dtype=int)
    lines = np.array([b.request.line for _, b in seen], dtype=object)
    keeps = (np.ones(size, bool), ended + late <= now, is_refunded & (refund_at <= now))
    parts = []
    for kind, at, keep in zip(KINDS, (ended, ended + late, refund_at), keeps, strict=True):
        sign = -1 if kind == "refund" else 1
        has_list = kind == "charge"
        parts.append(
            pd.DataFrame(
                {
                    "person": people[keep],
                    "place": place[keep],
                    "kind": kind,
                    "service_line": lines[keep],
                    "method": "" if has_list else method[keep],
                    "list_cents": pd.array(list_cents[keep] if has_list else [None] * int(keep.sum()), dtype="Int64"),
                    "discount_cents": pd.array(
                        (list_cents - amount)[keep] if has_list else [None] * int(keep.sum()), dtype="Int64"
                    ),
                    "amount_cents": sign * amount[keep],
                    "minute": at[keep],
                }
            )
        )
    frame = pd.concat(parts, ignore_index=True).sort_values(["minute", "place", "kind"], ignore_index=True)
    items = {
        booking.number: n
        for n, item in enumerate(i for i in world.items if i.proposed >= site.span.window)
        if (booking := item.booking) is not None
    }
    item_of = np.array([items.get(booking.number, -1) for booking in bookings] or [-1])
    frame["payment_id"] = site.ids("F", range(len(frame)))
    frame["patient_id"] = site.ids("P", frame["person"].tolist(), 6)
    frame["clinic_id"] = site.tag
    frame["appointment_id"] = site.ids("A", frame["place"].tolist())
    frame["plan_item_id"] = site.ids("I", item_of[frame["place"].to_numpy(dtype=int)].tolist())
    frame["paid_at"] = site.instants(frame["minute"].to_numpy())
    return frame


def chart_notes_frame(bookings: Sequence[Booking], site: Site, rng: np.random.Generator) -> pd.DataFrame:
    """One note per visit; most are written within days."""
    seen = [(n, b) for n, b in enumerate(bookings) if b.status == "completed"]
    states = rng.choice(list(REVIEW_STATES), size=len(seen), p=list(REVIEW_STATES.values()))
    known = np.array([b.known for _, b in seen], dtype=float)
    reviewed = known + 10 + np.floor(rng.exponential(2 * DAY, len(seen)))
    is_set = (states != "unwritten") & (reviewed <= site.span.now)
    return pd.DataFrame(
        {
            "chart_note_id": site.ids("N", range(len(seen))),
            "patient_id": site.ids("P", [b.request.person.index for _, b in seen], 6),
            "appointment_id": site.ids("A", [n for n, _ in seen]),
            "clinician_id": [b.clinician.name for _, b in seen],
            "review_state": np.where(is_set, states, "unwritten"),
            "visited_at": site.instants([b.start for _, b in seen]),
            "reviewed_at": site.instants(np.where(is_set, reviewed, np.nan)),
        }
    )


def _arms(world: World, site: Site) -> list[Arm]:
    return [arm for arm in world.arms if arm.assigned >= site.span.window]


def arms_frame(world: World, site: Site) -> pd.DataFrame:
    """One row per draw of the randomised stratum."""
    arms = _arms(world, site)
    patients = site.ids("P", [arm.person.index for arm in arms], 6)
    return pd.DataFrame(
        {
            "arm_id": [f"{arm.campaign}|{patient}" for arm, patient in zip(arms, patients, strict=True)],
            "campaign_id": [arm.campaign for arm in arms],
            "patient_id": patients,
            "arm": [arm.arm for arm in arms],
            "channel": ["" if arm.arm == HOLD_OUT else arm.arm for arm in arms],
            "propensity": [arm.propensity for arm in arms],
            "assigned_at": site.instants([arm.assigned for arm in arms]),
        }
    )


def arms_truth_frame(world: World, site: Site) -> pd.DataFrame:
    """Per draw: the latent state, and P(booked), P(attended) within eight weeks under each arm."""
    arms = _arms(world, site)
    shown = arms_frame(world, site)[["campaign_id", "patient_id"]]
    shown["is_in_care"] = [arm.is_alive for arm in arms]
    for way in (HOLD_OUT, *world.rates.contacts.channels):
        for place, name in enumerate(("books", "attends")):
            shown[f"{name}_{way}"] = [arm.truth[way][place] if way in arm.truth else None for arm in arms]
    for way in world.rates.contacts.channels:
        shown[f"uplift_{way}"] = shown[f"attends_{way}"].astype(float) - shown[f"attends_{HOLD_OUT}"].astype(float)
    return shown
