"""Put one clinic's tables and truth together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.records.tables import TABLES
from features.simulator.booking_truth import bookings_truth_frame
from features.simulator.columns import BookingColumns
from features.simulator.dirt import soil
from features.simulator.frames import (
    appointments_frame,
    communications_frame,
    contact_details_frame,
    exported_messages,
    patients_frame,
)
from features.simulator.frames_care import (
    arms_frame,
    arms_truth_frame,
    chart_notes_frame,
    exported_items,
    payments_frame,
    plan_items_frame,
    recalls_frame,
)
from features.simulator.frames_clinic import (
    capacity_frame,
    clinicians_frame,
    clinics_frame,
    closures_frame,
    ledger_frame,
    supplies_frame,
    supply_use_frame,
)
from features.simulator.one_clinic import Site
from features.simulator.people import People
from features.simulator.world import World

# What a dirty export holds besides the contract; no mapping names it.
ASIDE = {"appointments": ("cancellation_reason",)}


def collect(
    world: World, people: People, bookings: BookingColumns, site: Site, rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    """All tables of the contract, with its columns in its order."""
    items = exported_items(world, site)
    patients = patients_frame(world, people, site)
    appointments = appointments_frame(bookings, site)
    payments = payments_frame(world, items, bookings, site, rng)
    frames = {
        "clinics": clinics_frame(site),
        "clinicians": clinicians_frame(world, site),
        "patients": patients,
        "contact_details": contact_details_frame(patients, people, site, rng),
        "appointments": appointments,
        "plan_items": plan_items_frame(items, bookings, site),
        "communications": communications_frame(exported_messages(world, site), bookings, site),
        "recalls": recalls_frame(world, site),
        "payments": payments,
        "campaign_arms": arms_frame(world, site),
        "closures": closures_frame(world, site),
        "capacity": capacity_frame(world, site),
        "chart_notes": chart_notes_frame(bookings, site, rng),
        "supplies": supplies_frame(appointments, site, rng),
        "supply_use": supply_use_frame(site),
        "ledger": ledger_frame(payments, site, rng),
    }
    if site.plan.preset != "dirty":
        return {name: frames[name].reindex(columns=list(TABLES[name].column_names)) for name in TABLES}
    frames = soil(frames, site)
    return {name: frames[name].reindex(columns=[*TABLES[name].column_names, *ASIDE.get(name, ())]) for name in TABLES}


def truth_tables(world: World, people: People, bookings: BookingColumns, site: Site) -> dict[str, pd.DataFrame]:
    """What only the simulator knows, one table per grain.

    ``bookings_truth``
        Per booking, true probabilities; see `bookings_truth_frame`.
    ``patients_truth``
        Per patient, the latent traits.
    ``alive_spells``
        Per patient and change, whether the patient was in care from then on;
        the latent state of every week follows from it.
    ``arms_truth``
        Per draw of the randomised stratum, P(booked) and P(attended) within
        eight weeks under each arm.
    ``demand_truth``
        Per clinic, month and service line, the expected completed visits given
        the bookings made.
    """
    bookings_truth = bookings_truth_frame(world, bookings, site)
    return {
        "bookings_truth": bookings_truth,
        "patients_truth": _patients_truth(people, site),
        "alive_spells": _alive_spells(world, site),
        "arms_truth": arms_truth_frame(world, site),
        "demand_truth": _demand_truth(bookings, bookings_truth, site),
    }


def _patients_truth(people: People, site: Site) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": site.ids("P", range(site.patients), 6),
            "no_show_effect": people.personal_effect,
            "log_booking_rate": -people.log_delay,
            "responsiveness": people.responsiveness,
            "price_sensitivity": people.price_sensitivity,
            "is_negative_responder": people.is_negative,
        }
    )


def _alive_spells(world: World, site: Site) -> pd.DataFrame:
    spells = world.spells
    return pd.DataFrame(
        {
            "patient_id": site.ids("P", [person for person, _, _ in spells], 6),
            "from_at": site.instants([minute for _, minute, _ in spells]),
            "is_in_care": [is_in_care for _, _, is_in_care in spells],
        }
    )


def _demand_truth(bookings: BookingColumns, bookings_truth: pd.DataFrame, site: Site) -> pd.DataFrame:
    """Expected visits among bookings that were not given up early, by month and line."""
    is_kept = (bookings.status != "cancelled_early") & (bookings.status != "rescheduled")
    frame = pd.DataFrame(
        {
            "month_on": site.months(bookings.start),
            "service_line": bookings.line,
            "expected_visits": 1 - bookings_truth["missed_probability_at_booking"],
        }
    )[is_kept]
    total: pd.DataFrame = frame.groupby(["month_on", "service_line"]).agg({"expected_visits": "sum"}).reset_index()
    total["month_on"] = total["month_on"].dt.date.astype(object)
    total.insert(0, "clinic_id", site.tag)
    return total
