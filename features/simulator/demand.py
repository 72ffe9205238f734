"""Why people book: first contact, recall, treatment, pain; and how they leave."""

from __future__ import annotations

from math import exp

import numpy as np

from features.simulator.bookings import book, call_off
from features.simulator.hazards import WEEKS_PER_YEAR, first_week
from features.simulator.opening import DAY
from features.simulator.treatments import after_step, drop_rest, propose
from features.simulator.world import Booking, Due, Person, Request, World

YEAR = 365.25 * DAY
MONTH = YEAR / 12
WEEK = 7 * DAY
# Median days between asking and coming, and spread on the log scale (assumed).
LEADS = {"first": (2.5, 1.2), "recall": (6.0, 1.1)}
SAME_DAY_EMERGENCY = 0.75
# A household member who is due within this many days comes along.
ALONG_DAYS = 40


def enter(world: World, person: Person, minute: int) -> None:
    """Let a person turn up for the first time."""
    come_into_care(world, person, minute)
    if world.desk.happens(world.rates.demand.starts_emergency):
        ask(world, _emergency(world, person), minute)
    else:
        ask(world, Request(person, "examination", "first", _lead(world, "first")), minute)


def enter_known(world: World, subject: tuple[Person, int], minute: int) -> None:
    """Let a person go on who knew the practice before; the last visit was at the minute in `subject`."""
    person, last_visit = subject
    come_into_care(world, person, minute)
    set_due(world, person, last_visit)


def come_into_care(world: World, person: Person, minute: int) -> None:
    """Begin to take part in the weekly step."""
    person.is_alive = True
    world.panel.in_care[person.index] = True
    world.spells.append((person.index, minute, True))


def leave(world: World, person: Person, minute: int) -> None:
    """Make no more bookings."""
    if person.is_alive:
        person.is_alive = False
        world.panel.in_care[person.index] = False
        world.spells.append((person.index, minute, False))


def week(world: World, subject: None, minute: int) -> None:
    """Take the weekly step for everybody in care, and plan the next."""
    panel, rates = world.panel, world.rates
    year = world.opening.years[minute // DAY]
    chance = world.rng.random((4, len(panel.in_care)))
    here = np.flatnonzero(panel.in_care)
    dies, moves = panel.departing(rates.demand, year, here)
    departs = chance[0, here] < dies + moves
    for n, chance_to_die in zip(here[departs].tolist(), dies[departs].tolist(), strict=True):
        _depart(world, world.people[n], minute, "deceased" if chance[0, n] < chance_to_die else "moved")
    here = here[panel.in_care[here]]
    for n in here[chance[1, here] < panel.leaving(rates, minute, here)].tolist():
        leave(world, world.people[n], minute)
    hurts = 1 - exp(-rates.demand.emergencies_per_year / WEEKS_PER_YEAR)
    for n in np.flatnonzero(panel.in_care & (chance[2] < hurts)).tolist():
        world.agenda.at(_some_minute(world, minute), feel_pain, world.people[n])
    is_near = panel.due <= minute - first_week(rates.demand) * WEEK
    free = np.flatnonzero(panel.in_care & ~panel.is_booked & is_near)
    for n in free[chance[3, free] < panel.booking(rates, minute, year, free)].tolist():
        person = world.people[n]
        world.agenda.at(_some_minute(world, minute), come_back, (person, person.round))
    world.agenda.at(minute + WEEK, week, None)


def _some_minute(world: World, minute: int) -> int:
    return world.opening.desk_minute(minute // DAY + world.desk.between(0, 7), world.desk.uniform())


def _depart(world: World, person: Person, minute: int, why: str) -> None:
    leave(world, person, minute)
    person.departed, person.departure = minute, why
    call_off(world, person, minute)


def _lead(world: World, purpose: str) -> float:
    median, spread = LEADS[purpose]
    return median * exp(spread * world.desk.normal())


def _age(world: World, person: Person, minute: int) -> int:
    return world.opening.years[minute // DAY] - person.birth_year


def ask(world: World, request: Request, minute: int) -> None:
    """Ask the desk for a booking, unless the person has left by now."""
    person = request.person
    if not person.is_alive:
        return
    booking = book(world, request, minute)
    if request.purpose == "recall":
        mark_rebooked(world, person, booking is not None)
    elif booking is None and request.purpose == "treatment":
        drop_rest(world, person, minute)


def mark_rebooked(world: World, person: Person, is_booked: bool) -> None:
    """Note whether this round's recall visit is booked."""
    person.is_rebooked = is_booked
    world.panel.is_booked[person.index] = is_booked


def feel_pain(world: World, person: Person, minute: int) -> None:
    """Book an emergency."""
    ask(world, _emergency(world, person), minute)


def _emergency(world: World, person: Person) -> Request:
    lead = 0.0 if world.desk.happens(SAME_DAY_EMERGENCY) else 1.0
    return Request(person, "examination", "emergency", lead)


def set_due(world: World, person: Person, minute: int) -> None:
    """Start a new recall round with its due date."""
    person.round += 1
    mark_rebooked(world, person, False)
    due = minute + int(person.interval_months * MONTH)
    world.panel.due[person.index] = due
    world.dues.append(Due(person, max(minute, 0), due))
    for listener in world.on_due_set:
        listener(world, person, due)


def come_back(world: World, subject: tuple[Person, int], minute: int) -> None:
    """Book the recall visit, unless it is booked already or the round is over; some bring their family."""
    person, number = subject
    if number != person.round or person.is_rebooked or not person.is_alive:
        return
    before = len(world.bookings)
    ask(world, recall_request(world, person, minute), minute)
    if len(world.bookings) > before:
        _bring_along(world, person, world.bookings[before].start // DAY, minute)


def _bring_along(world: World, person: Person, day: int, minute: int) -> None:
    for n in world.homes.get(person.household, ()):
        other = world.people[n]
        is_due = other.is_alive and not other.is_rebooked and world.panel.due[n] < minute + ALONG_DAYS * DAY
        if other is not person and is_due and world.desk.happens(world.rates.demand.family_books_along):
            ask(world, recall_request(world, other, minute, day), minute)


def recall_request(world: World, person: Person, minute: int, day: int | None = None) -> Request:
    """Ask for the visit of a recall round."""
    hygiene_share = 0.3 if _age(world, person, minute) < 16 else 0.65
    line = "hygiene" if world.desk.happens(hygiene_share) else "examination"
    kind = f"recall_{person.interval_months}m"
    return Request(person, line, "recall", _lead(world, "recall"), kind, day=day)


def after_booking(world: World, booking: Booking, minute: int) -> None:
    """Decide what a visit, or a visit that was missed or cancelled, leads to."""
    if booking.status == "completed":
        _after_visit(world, booking, minute)
    else:
        _after_gap(world, booking, minute)


def _after_visit(world: World, booking: Booking, minute: int) -> None:
    demand, request = world.rates.demand, booking.request
    person = request.person
    leaves = demand.leaves_after_first if person.visits == 1 else demand.leaves_after_visit
    if world.desk.happens(leaves * person.stays):
        leave(world, person, minute)
    if request.purpose == "treatment":
        after_step(world, booking, minute)
        _next_step(world, person, minute)
        return
    if not person.steps:
        is_pain = request.purpose == "emergency"
        if world.desk.happens(demand.plan_after_emergency if is_pain else demand.plan_after_check):
            propose(world, booking, _age(world, person, minute), minute)
            _next_step(world, person, minute)
    set_due(world, person, minute)


def _next_step(world: World, person: Person, minute: int) -> None:
    """Book the next treatment visit at the desk on the way out."""
    if person.steps:
        item = person.steps.pop(0)
        lead = item.days * (0.75 + 0.5 * world.desk.uniform())
        request = Request(person, item.line, "treatment", lead, item=item)
        world.agenda.at(minute + world.desk.between(3, 9), ask, request)


def _after_gap(world: World, booking: Booking, minute: int) -> None:
    demand, request = world.rates.demand, booking.request
    person = request.person
    if booking.status == "no_show" and world.desk.happens(demand.leaves_after_miss * person.stays):
        leave(world, person, minute)
    if world.desk.happens(demand.rebooks):
        soon = 2 if request.purpose == "emergency" else 21
        day = minute // DAY + world.desk.between(1, soon)
        lead = request.lead_days if request.purpose != "treatment" else min(request.lead_days, 10.0)
        again = Request(person, request.line, request.purpose, lead, request.recall_type, request.item)
        world.agenda.at(world.opening.desk_minute(day, world.desk.uniform()), ask, again)
    elif request.purpose == "recall":
        mark_rebooked(world, person, False)
    elif request.purpose == "treatment":
        drop_rest(world, person, minute, request.item)


def depart_clinician(world: World, post: int, minute: int) -> None:
    """Unsettle the panel of a clinician who leaves: those who would ask for them at an examination."""
    held = world.staff["examination"]
    for person in world.people:
        if held[person.favourite % len(held)][0].post == post:
            world.panel.leaves_until[person.index] = minute + world.rates.events.departure_weeks * WEEK


def raise_prices(world: World, subject: None, minute: int) -> None:
    """Begin the price shock."""
    world.panel.shock = minute
