"""Run one clinic: let people in, plan the events, step through the agenda."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import numpy as np

from features.simulator.contacts import watch_due_date
from features.simulator.demand import after_booking, depart_clinician, enter, enter_known, raise_prices, week
from features.simulator.one_clinic import Site, Span, collector_off
from features.simulator.opening import DAY, draw_up_opening
from features.simulator.panel import panel_of
from features.simulator.people import People, draw_people
from features.simulator.plan import PracticePlan
from features.simulator.presets import rates_of
from features.simulator.rates import BaseRates
from features.simulator.staff import by_line, hire
from features.simulator.world import Person, Stream, World

# Days after `now` that truth runs and their bookings can reach.
HORIZON = 480
# Days before minute 0 that nobody's due date can be nearer to.
AHEAD = 15


def sites_of(plan: PracticePlan) -> list[Site]:
    """Share the patients out among the clinics; those of a chain differ in size."""
    weights = np.ones(plan.clinics)
    if plan.preset == "chain":
        weights = np.random.default_rng([plan.seed, 99]).uniform(0.5, 1.5, plan.clinics)
    ends = np.round(np.cumsum(weights) / weights.sum() * (plan.patients - plan.clinics)).astype(int)
    sizes = np.diff(ends, prepend=0) + 1
    return [Site(plan, number, int(size)) for number, size in enumerate(sizes)]


def run_site(site: Site, rates: BaseRates | None = None, until: int | None = None) -> tuple[World, People]:
    """Simulate one clinic up to the export, or up to minute `until`."""
    plan, span = site.plan, site.span
    rates = site_rates(site, rates or rates_of(plan.preset))
    opening = draw_up_opening(span.origin.date(), span.now // DAY + HORIZON)
    people = draw_people(
        replace(plan, patients=site.patients, clinics=1),
        rates,
        opening,
        span.window // DAY,
        np.random.default_rng(site.seed_for("people")),
    )
    staff = hire(
        site.tag,
        site.patients,
        span.now // DAY,
        rates.events.clinician_stays_years,
        np.random.default_rng(site.seed_for("staff")),
    )
    world = World(
        rates=rates,
        opening=opening,
        staff=by_line(staff),
        desk=Stream(site.seed_for("desk")),
        contacts=Stream(site.seed_for("contacts")),
        panel=panel_of(people, rates, opening),
        rng=np.random.default_rng(site.seed_for("weeks")),
        on_ended=[after_booking],
        on_due_set=[watch_due_date],
    )
    world.clinicians = staff
    _let_in(world, people, np.random.default_rng(site.seed_for("entry")))
    _plan_events(world, span)
    with collector_off():
        world.agenda.run(world, span.now if until is None else until)
    return world, people


def site_rates(site: Site, rates: BaseRates) -> BaseRates:
    """Rates of one clinic; those of a chain differ a little."""
    if site.plan.preset != "chain":
        return rates
    rng = np.random.default_rng(site.seed_for("rates"))
    shift, lapse = rng.normal(0, 0.25), exp(rng.normal(0, 0.2))
    return replace(
        rates,
        attendance=replace(rates.attendance, base=rates.attendance.base + float(shift)),
        demand=replace(rates.demand, lapse_per_year=rates.demand.lapse_per_year * lapse),
    )


def _plan_events(world: World, span: Span) -> None:
    world.agenda.at(0, week, None)
    events = world.rates.events
    if events.price_rise:
        at = span.window + int((span.now - span.window) * events.price_rise_at)
        world.agenda.at(at // DAY * DAY, raise_prices, None)
    for who in world.clinicians:
        if who.until * DAY < span.now:
            world.agenda.at(who.until * DAY, depart_clinician, who.post)


def _let_in(world: World, people: People, rng: np.random.Generator) -> None:
    """Put everyone's entry on the agenda; who joined before minute 0 goes on from there, or has left."""
    favourites = rng.integers(1000, size=len(people.joined)).tolist()
    chances = rng.random((len(people.joined), 2)).tolist()
    homes: dict[int, list[int]] = {}
    for index, (favourite, (stay, delay)) in enumerate(zip(favourites, chances, strict=True)):
        person = _person(world.rates, people, index, favourite)
        world.people.append(person)
        homes.setdefault(person.household, []).append(index)
        joined = int(people.joined[index])
        if joined >= 0:
            world.agenda.at(joined, enter, person)
            continue
        person.visits, person.first_visit_ended = 1, joined
        if stay < _still_there(world.rates, person, -joined / (365.25 * DAY)):
            # Their last visit lay anywhere in the interval before minute 0.
            days_ago = delay * (person.interval_months * 365.25 / 12 - AHEAD)
            world.agenda.at(0, enter_known, (person, -int(days_ago * DAY)))
    world.homes = {home: members for home, members in homes.items() if len(members) > 1}


def _person(rates: BaseRates, people: People, index: int, favourite: int) -> Person:
    return Person(
        index=index,
        clinic=int(people.clinic[index]),
        birth_year=int(people.birth_year[index]),
        interval_months=int(people.interval_months[index]),
        personal_effect=float(people.personal_effect[index]),
        log_delay=float(people.log_delay[index]),
        responsiveness=float(people.responsiveness[index]),
        stays=float(people.stays[index]),
        is_contact_allowed=bool(people.is_contact_allowed[index]),
        favourite=favourite,
        household=int(people.household[index]),
        price=float(people.price_sensitivity[index]),
        is_negative=bool(people.is_negative[index]),
        channels=tuple(way for way in rates.contacts.channels if people.consents[way][index]),
        membership=people.membership[index],
    )


def _still_there(rates: BaseRates, person: Person, years: float) -> float:
    demand = rates.demand
    stays_after_first = 1 - demand.leaves_after_first * person.stays
    leaves = (demand.lapse_per_year + demand.leaves_after_visit) * person.stays
    return stays_after_first * exp(-(leaves + demand.moves_per_year + demand.dies_per_year) * years)
