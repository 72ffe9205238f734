"""Why people book: first contact, recall, treatment, pain; and how they leave."""

from __future__ import annotations

from math import exp, log

from features.simulator.bookings import book
from features.simulator.opening import DAY
from features.simulator.treatments import draw_plan
from features.simulator.world import Booking, Person, Request, World

YEAR = 365.25 * DAY
MONTH = YEAR / 12
# Median days between asking and coming, and spread on the log scale (assumed).
LEADS = {"first": (2.5, 1.2), "recall": (6.0, 1.1)}
SAME_DAY_EMERGENCY = 0.75
# People ask for recall this many days before they would come late.
AHEAD_OF_DUE = 10


def enter(world: World, person: Person, minute: int) -> None:
    """Let a person turn up for the first time."""
    _settle(world, person, minute)
    if world.desk.happens(world.rates.demand.starts_emergency):
        ask(world, _emergency(world, person), minute)
    else:
        ask(world, Request(person, "examination", "first", _lead(world, "first")), minute)


def enter_known(world: World, subject: tuple[Person, int], minute: int) -> None:
    """Let a person go on who knew the practice before; the last visit was at the minute in `subject`."""
    person, last_visit = subject
    _settle(world, person, minute)
    set_due(world, person, last_visit)


def _settle(world: World, person: Person, minute: int) -> None:
    demand = world.rates.demand
    person.lapses_at = min(
        person.lapses_at, minute + _exponential(world, YEAR / (demand.lapse_per_year * person.stays))
    )
    world.agenda.at(minute + _exponential(world, YEAR / demand.emergencies_per_year), feel_pain, person)


def _exponential(world: World, mean: float) -> int:
    return 1 + int(-mean * log(1 - world.desk.uniform()))


def _lead(world: World, purpose: str) -> float:
    median, spread = LEADS[purpose]
    return median * exp(spread * world.desk.normal())


def _age(world: World, person: Person, minute: int) -> int:
    return world.opening.years[minute // DAY] - person.birth_year


def ask(world: World, request: Request, minute: int) -> None:
    """Ask the desk for a booking, unless the person has left by now."""
    person = request.person
    if not person.is_active(minute):
        return
    booking = book(world, request, minute)
    if request.purpose == "recall":
        person.is_rebooked = booking is not None
    elif booking is None and request.purpose == "treatment":
        person.steps.clear()


def feel_pain(world: World, person: Person, minute: int) -> None:
    """Book an emergency, at an hour when the desk can be reached, and wait for the next."""
    if not person.is_active(minute):
        return
    at_desk = world.opening.desk_minute(minute // DAY, world.desk.uniform())
    world.agenda.at(at_desk if at_desk >= minute else at_desk + DAY, ask, _emergency(world, person))
    again = minute + _exponential(world, YEAR / world.rates.demand.emergencies_per_year)
    world.agenda.at(again, feel_pain, person)


def _emergency(world: World, person: Person) -> Request:
    lead = 0.0 if world.desk.happens(SAME_DAY_EMERGENCY) else 1.0
    return Request(person, "examination", "emergency", lead)


def set_due(world: World, person: Person, minute: int) -> None:
    """Start a new recall round: a due date, and the moment the person would book unasked."""
    demand = world.rates.demand
    person.round += 1
    person.is_rebooked = False
    due = minute + int(person.interval_months * MONTH)
    delay = demand.delay_days * exp(person.log_delay + demand.delay_sd * world.desk.normal())
    day = due // DAY + int(delay) - AHEAD_OF_DUE
    world.agenda.at(world.opening.desk_minute(day, world.desk.uniform()), come_back, (person, person.round))
    for listener in world.on_due_set:
        listener(world, person, due)


def come_back(world: World, subject: tuple[Person, int], minute: int) -> None:
    """Book the recall visit, unless it is booked already or the round is over."""
    person, number = subject
    if number == person.round and not person.is_rebooked:
        ask(world, recall_request(world, person, minute), minute)


def recall_request(world: World, person: Person, minute: int) -> Request:
    """Ask for the visit of a recall round."""
    hygiene_share = 0.3 if _age(world, person, minute) < 16 else 0.65
    line = "hygiene" if world.desk.happens(hygiene_share) else "examination"
    return Request(person, line, "recall", _lead(world, "recall"), f"recall_{person.interval_months}m")


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
        _leave(person, minute)
    if request.purpose != "treatment" and not person.steps:
        is_pain = request.purpose == "emergency"
        if world.desk.happens(demand.plan_after_emergency if is_pain else demand.plan_after_check):
            person.steps = draw_plan(world, person, _age(world, person, minute))
            _next_step(world, person, minute)
    elif request.purpose == "treatment":
        _next_step(world, person, minute)
    if request.purpose != "treatment":
        set_due(world, person, minute)


def _next_step(world: World, person: Person, minute: int) -> None:
    """Book the next treatment visit at the desk on the way out."""
    if person.steps:
        line, days = person.steps.pop(0)
        lead = days * (0.75 + 0.5 * world.desk.uniform())
        world.agenda.at(minute + world.desk.between(3, 9), ask, Request(person, line, "treatment", lead))


def _leave(person: Person, minute: int) -> None:
    person.lapses_at = min(person.lapses_at, minute)


def _after_gap(world: World, booking: Booking, minute: int) -> None:
    demand, request = world.rates.demand, booking.request
    person = request.person
    if booking.status == "no_show" and world.desk.happens(demand.leaves_after_miss * person.stays):
        _leave(person, minute)
    if world.desk.happens(demand.rebooks):
        soon = 2 if request.purpose == "emergency" else 21
        day = minute // DAY + world.desk.between(1, soon)
        lead = request.lead_days if request.purpose != "treatment" else min(request.lead_days, 10.0)
        again = Request(person, request.line, request.purpose, lead, request.recall_type)
        world.agenda.at(world.opening.desk_minute(day, world.desk.uniform()), ask, again)
    elif request.purpose == "recall":
        person.is_rebooked = False
        day = minute // DAY + world.desk.between(50, 150)
        subject = (person, person.round)
        world.agenda.at(world.opening.desk_minute(day, world.desk.uniform()), come_back, subject)
    elif request.purpose == "treatment":
        person.steps.clear()
