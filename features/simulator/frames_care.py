"""Turn what happened into the tables of plans, recalls, money, notes and the randomised stratum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from features.simulator.columns import BookingColumns, columns_of, texts
from features.simulator.contacts import HOLD_OUT
from features.simulator.frames import cents
from features.simulator.one_clinic import Site
from features.simulator.opening import DAY
from features.simulator.world import Arm, PlanItem, World

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


def plan_items_frame(items: Sequence[PlanItem], bookings: BookingColumns, site: Site) -> pd.DataFrame:
    """One row per item that was proposed in the exported years."""
    milestones = ("proposed", "accepted", "scheduled", "completed", "declined")
    plans, people, proposers, lines, urgencies, fees, *minutes = columns_of(
        items, "plan", "person.index", "proposed_by", "line", "urgency", "fee_cents", *milestones
    )
    return pd.DataFrame(
        {
            "plan_item_id": site.ids("I", np.arange(len(items))),
            "plan_id": site.ids("T", np.array(plans, dtype=int) - 1),
            "patient_id": site.ids("P", people, 6),
            "clinic_id": site.tag,
            "clinician_id": texts(proposers),
            "appointment_id": site.ids("A", bookings.position[_last_bookings(items)]),
            "service_line": texts(lines),
            "procedure_code": texts([CODES[line] for line in lines]),
            "urgency": texts(urgencies),
            "fee_cents": np.array(fees, dtype=np.int64),
        }
        | {f"{name}_at": site.instants(at) for name, at in zip(milestones, minutes, strict=True)}
    )


def exported_items(world: World, site: Site) -> list[PlanItem]:
    """Items that were proposed in the exported years."""
    return [item for item in world.items if item.proposed >= site.span.window]


def _last_bookings(items: Sequence[PlanItem]) -> np.ndarray:
    """Number of each item's last booking; -1 for none."""
    return np.array([-1 if item.booking is None else item.booking.number for item in items], dtype=int)


def recalls_frame(world: World, site: Site) -> pd.DataFrame:
    """One row per state of a patient's recall: due anew after each check-up, or switched off."""
    dues = world.dues
    person, known, due = (np.array(values, dtype=int) for values in columns_of(dues, "person.index", "known", "due"))
    newest = np.full(len(world.people), -1)
    newest[person] = np.arange(len(dues))  # of several, the last one stays
    out = [p.index for p in world.people if p.opted_out and newest[p.index] >= 0]
    of = np.concatenate([np.arange(len(dues)), newest[out]]).astype(int)
    known = np.concatenate([known, [world.people[n].opted_out for n in out]])
    is_disabled = np.arange(len(of)) >= len(dues)
    keep = known <= site.span.now
    of, known, is_disabled = of[keep], known[keep].astype(int), is_disabled[keep]
    intervals = np.array([round(p.interval_months * 365.25 / 12) for p in world.people])
    patients = site.ids("P", person[of], 6)
    return pd.DataFrame(
        {
            "recall_id": patients + "|check_up",
            "patient_id": patients,
            "recall_type": "check_up",
            "disabled_reason": np.where(is_disabled, "opted out", "").astype(object),
            "interval_days": intervals[person[of]],
            "is_disabled": is_disabled,
            "due_on": site.days(due[of]),
            "known_from_at": site.instants(known),
        }
    )


def payments_frame(
    world: World, items: Sequence[PlanItem], bookings: BookingColumns, site: Site, rng: np.random.Generator
) -> pd.DataFrame:
    """A charge per visit, its payment on the day or some weeks later, and a few refunds."""
    place, minute, kind, method = _movements(world, bookings, site, rng)
    is_charge, charged = kind == "charge", bookings.fee_cents[place]
    listed = bookings.list_cents[place].astype(float)
    item_of = np.full(len(bookings.position), -1)
    item_of[_last_bookings(items)] = np.arange(len(items))
    item_of[-1] = -1
    return pd.DataFrame(
        {
            "payment_id": site.ids("F", np.arange(len(place))),
            "patient_id": site.ids("P", bookings.person[place], 6),
            "clinic_id": site.tag,
            "appointment_id": site.ids("A", place),
            "plan_item_id": site.ids("I", item_of[bookings.number[place]]),
            "kind": kind,
            "service_line": bookings.line[place],
            "method": np.where(is_charge, "", method),
            "list_cents": cents(np.where(is_charge, listed, np.nan)),
            "discount_cents": cents(np.where(is_charge, listed - charged, np.nan)),
            "amount_cents": np.where(kind == "refund", -charged, charged).astype(np.int64),
            "paid_at": site.instants(minute),
        }
    )


def _movements(
    world: World, bookings: BookingColumns, site: Site, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Position of the booking, minute, kind and means of all charges, payments and refunds, in order of time."""
    rates, now = world.rates.plans, site.span.now
    place = np.flatnonzero(~np.isnan(bookings.fee_cents))
    ended, size = bookings.known[place], len(place)
    late = np.where(rng.random(size) < rates.pays_at_once, 5, np.floor(rng.exponential(25 * DAY, size)) + DAY)
    refund_at = ended + np.floor(rng.exponential(20 * DAY, size)) + DAY
    is_refunded = rng.random(size) < rates.refunded
    method = rng.choice(list(METHODS), size=size, p=list(METHODS.values())).astype(object)
    keeps = (np.ones(size, bool), ended + late <= now, is_refunded & (refund_at <= now))
    times = (ended, ended + late, refund_at)
    places = np.concatenate([place[keep] for keep in keeps])
    minutes = np.concatenate([at[keep] for at, keep in zip(times, keeps, strict=True)])
    methods = np.concatenate([method[keep] for keep in keeps])
    kinds = np.repeat(np.arange(len(KINDS)), [int(keep.sum()) for keep in keeps])
    order = np.lexsort((kinds, places, minutes))
    return places[order], minutes[order], texts(KINDS)[kinds[order]], methods[order]


def chart_notes_frame(bookings: BookingColumns, site: Site, rng: np.random.Generator) -> pd.DataFrame:
    """One note per visit; most are written within days."""
    place = np.flatnonzero(bookings.status == "completed")
    states = rng.choice(list(REVIEW_STATES), size=len(place), p=list(REVIEW_STATES.values())).astype(object)
    reviewed = bookings.known[place] + 10 + np.floor(rng.exponential(2 * DAY, len(place)))
    is_set = (states != "unwritten") & (reviewed <= site.span.now)
    return pd.DataFrame(
        {
            "chart_note_id": site.ids("N", np.arange(len(place))),
            "patient_id": site.ids("P", bookings.person[place], 6),
            "appointment_id": site.ids("A", place),
            "clinician_id": bookings.clinician[place],
            "review_state": np.where(is_set, states, "unwritten"),
            "visited_at": site.instants(bookings.start[place]),
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
