"""Run a practice from its plan to the day of its export."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import exp

import numpy as np
import pandas as pd

from features.simulator.contacts import watch_due_date
from features.simulator.demand import after_booking, enter, enter_known
from features.simulator.frames import (
    Span,
    appointment_ids,
    appointments_frame,
    bookings_truth_frame,
    communications_frame,
    contact_details_frame,
    exported_bookings,
    exported_messages,
    patients_frame,
)
from features.simulator.opening import DAY, draw_up_opening
from features.simulator.people import People, draw_people
from features.simulator.plan import PracticePlan
from features.simulator.rates import BaseRates
from features.simulator.staff import by_clinic_and_line, hire
from features.simulator.world import Person, Stream, World

# Days simulated before the first exported one, so that the export begins in full swing.
RUN_UP = 400
# Days after `now` that bookings can reach.
HORIZON = 150
# Days before minute 0 that nobody's due date can be nearer to.
AHEAD = 15


@dataclass(frozen=True)
class SimulatedPractice:
    """A simulated practice's records at `plan.now`, and the truth behind them.

    Attributes
    ----------
    plan : PracticePlan
        What was simulated.
    tables : dict of str to DataFrame
        By name of the contract's table, with the contract's columns; instants
        in UTC, empty text or NaT where nothing is recorded.
    bookings_truth : DataFrame
        One row per booking, see `features.simulator.frames.bookings_truth_frame`.
    """

    plan: PracticePlan
    tables: dict[str, pd.DataFrame]
    bookings_truth: pd.DataFrame


def simulate(plan: PracticePlan, rates: BaseRates | None = None) -> SimulatedPractice:
    """Simulate a practice day by day up to `plan.now`.

    Parameters
    ----------
    plan : PracticePlan
        Size, years, seed and moment of the export.
    rates : BaseRates, optional
        Base rates; by default those of a private clinic in a Chinese city.

    Returns
    -------
    SimulatedPractice
        The same for the same plan.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> practice = simulate(PracticePlan(now=datetime(2026, 11, 17, 2, tzinfo=UTC), patients=20, years=1))
    >>> len(practice.tables["patients"])
    20
    """
    rates = rates or BaseRates()
    streams = np.random.SeedSequence(plan.seed).spawn(5)
    span = _span(plan)
    opening = draw_up_opening(span.origin.date(), span.now // DAY + HORIZON)
    people = draw_people(plan, rates, opening, span.window // DAY, np.random.default_rng(streams[0]))
    world = World(
        rates=rates,
        opening=opening,
        staff=by_clinic_and_line(hire(plan.clinics, plan.patients)),
        desk=Stream(streams[1]),
        contacts=Stream(streams[2]),
        on_ended=[after_booking],
        on_due_set=[watch_due_date],
    )
    _let_in(world, people, np.random.default_rng(streams[3]))
    world.agenda.run(world, span.now)
    return _collect(world, people, plan, span, np.random.default_rng(streams[4]))


def _span(plan: PracticePlan) -> Span:
    origin = plan.window_start - timedelta(days=RUN_UP)
    return Span(origin, RUN_UP * DAY, (plan.local_now - origin) // timedelta(minutes=1))


def _let_in(world: World, people: People, rng: np.random.Generator) -> None:
    """Put everyone's entry on the agenda; who joined before minute 0 goes on from there, or has left."""
    favourites = rng.integers(1000, size=len(people.joined)).tolist()
    chances = rng.random((len(people.joined), 2)).tolist()
    for index, (favourite, (stay, delay)) in enumerate(zip(favourites, chances, strict=True)):
        person = _person(world.rates, people, index, favourite)
        world.people.append(person)
        joined = int(people.joined[index])
        if joined >= 0:
            world.agenda.at(joined, enter, person)
            continue
        person.visits, person.first_visit_ended = 1, joined
        if stay < _still_there(world.rates, person, -joined / (365.25 * DAY)):
            # Their last visit lay anywhere in the interval before minute 0.
            days_ago = delay * (person.interval_months * 365.25 / 12 - AHEAD)
            world.agenda.at(0, enter_known, (person, -int(days_ago * DAY)))


def _person(rates: BaseRates, people: People, index: int, favourite: int) -> Person:
    is_referred = people.source[index] == "referral"
    return Person(
        index=index,
        clinic=int(people.clinic[index]),
        birth_year=int(people.birth_year[index]),
        interval_months=int(people.interval_months[index]),
        personal_effect=float(people.personal_effect[index]),
        log_delay=float(people.log_delay[index]),
        responsiveness=float(people.responsiveness[index]),
        stays=rates.demand.referred_factor if is_referred else 1.0,
        is_contact_allowed=bool(people.is_contact_allowed[index]),
        favourite=favourite,
    )


def _still_there(rates: BaseRates, person: Person, years: float) -> float:
    demand = rates.demand
    stays_after_first = 1 - demand.leaves_after_first * person.stays
    return stays_after_first * exp(-(demand.lapse_per_year + demand.leaves_after_visit) * person.stays * years)


def _collect(
    world: World, people: People, plan: PracticePlan, span: Span, rng: np.random.Generator
) -> SimulatedPractice:
    bookings = exported_bookings(world, span)
    patients = patients_frame(world, people, plan, span)
    messages = exported_messages(world, span)
    tables = {
        "patients": patients,
        "contact_details": contact_details_frame(patients, people, plan, rng),
        "appointments": appointments_frame(bookings, plan, span),
        "communications": communications_frame(messages, appointment_ids(bookings), plan, span),
    }
    return SimulatedPractice(plan, tables, bookings_truth_frame(world, bookings, span))
