"""The life of a booking: made, given up or moved, kept or missed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from features.simulator.attendance import (
    Circumstances,
    early_exit_chance,
    late_exit_chance,
    late_exit_weight,
    miss_chance,
    no_show_logit,
)
from features.simulator.opening import DAY, OPENS, WAKES, at_waking_minute, waking_minutes
from features.simulator.placing import find_place
from features.simulator.reminders import note_decline, plan_reminder
from features.simulator.staff import SERVICE_LINES
from features.simulator.treatments import price_factor
from features.simulator.world import Booking, Person, Request, World

End = Callable[[World, Booking, int], None]
EARLY_MORNING_ENDS = 10 * 60
# A cancellation is told this many minutes after the booking or before the start at the nearest.
AFTER_BOOKING, BEFORE_START = 20, 20


def book(world: World, request: Request, minute: int) -> Booking | None:
    """Make a booking and decide its hidden fate.

    Returns
    -------
    Booking or None
        None if the diary has no room.
    """
    place = find_place(world, request, minute)
    if place is None:
        return None
    world.diary.take(place.clinician.number, place.day, place.slot, place.length)
    booking = Booking(
        number=len(world.bookings),
        request=request,
        clinician=place.clinician,
        booked=minute,
        start=place.start,
        slots=place.length,
        is_requested=world.desk.happens(world.rates.demand.requested),
        is_new=request.person.visits == 0,
    )
    world.bookings.append(booking)
    person = request.person
    if len(person.standing) > 3:
        person.standing = [other for other in person.standing if other.status == "booked"]
    person.standing.append(booking)
    item = request.item
    if item is not None:
        item.scheduled, item.booking = minute, booking
    decide_fate(world, booking)
    return booking


def decide_fate(world: World, booking: Booking) -> None:
    """Note what the booking's truth follows from, draw its reminder and its end, and put them on the agenda."""
    rates = world.rates.attendance
    facts = _circumstances(world, booking)
    booking.logit = no_show_logit(rates, facts)
    booking.late = late_exit_weight(rates, facts)
    plan_reminder(world, booking)
    booking.ends, action = draw_end(world, booking, facts)
    world.agenda.at(booking.ends, action, booking)


def draw_end(world: World, booking: Booking, facts: Circumstances) -> tuple[int, End]:
    """Draw when and how the booking ends, or begins as a visit."""
    rates, dice = world.rates.attendance, world.desk
    if dice.happens(early_exit_chance(rates, facts)):
        early = waking_minutes(booking.booked + AFTER_BOOKING), waking_minutes(booking.start - DAY)
        if early[0] < early[1]:
            is_moved = dice.happens(rates.rescheduled_share)
            return at_waking_minute(dice.between(*early)), move if is_moved else cancel_early
    if dice.happens(late_exit_chance(rates, booking.late, booking.reminder)):
        since = max(booking.booked + AFTER_BOOKING, booking.start - DAY + 1)
        late = waking_minutes(since), waking_minutes(booking.start - BEFORE_START)
        if late[0] < late[1]:
            return at_waking_minute(dice.between(*late)), cancel_late
    return booking.start, begin


def draw_again(world: World, booking: Booking, now: int) -> None:
    """Forget how an open booking will end, and draw it anew given that it stands at `now`."""
    facts = _circumstances(world, booking)
    if booking.message is None:
        booking.reminder = "none"
        plan_reminder(world, booking, now)
    booking.ends, action = draw_end(world, booking, facts)
    while booking.ends <= now:
        booking.ends, action = draw_end(world, booking, facts)
    world.agenda.at(booking.ends, action, booking)


def call_off(world: World, person: Person, minute: int) -> None:
    """Let the bookings of one who died or moved away be cancelled on the morning of `minute`'s day."""
    morning = minute // DAY * DAY + WAKES
    for booking in person.standing:
        if booking.status == "booked" and world.agenda.strike(partial(_is_end_of, booking), booking.ends):
            world.agenda.at(morning, cancel_early if booking.start - DAY >= morning else cancel_late, booking)


def _is_end_of(booking: Booking, action: End, subject: object) -> bool:
    return subject is booking and action in ENDS


def _circumstances(world: World, booking: Booking) -> Circumstances:
    day, clock = divmod(booking.start, DAY)
    person = booking.request.person
    lead_days, age = (booking.start - booking.booked) / DAY, world.opening.years[day] - person.birth_year
    is_early, is_monday = clock < EARLY_MORNING_ENDS, world.opening.weekdays[day] == 0
    return Circumstances(person.personal_effect, lead_days, age, is_early, is_monday, booking.is_new)


def _end(world: World, booking: Booking, status: str, minute: int) -> None:
    booking.status, booking.known = status, minute
    for listener in world.on_ended:
        listener(world, booking, minute)


def _give_back(world: World, booking: Booking) -> None:
    day, clock = divmod(booking.start, DAY)
    world.diary.free(booking.clinician.number, day, (clock - OPENS) // 30, booking.slots)


def cancel_early(world: World, booking: Booking, minute: int) -> None:
    """Cancel at least 24 hours ahead; the place is free again."""
    _give_back(world, booking)
    note_decline(booking, minute)
    _end(world, booking, "cancelled_early", minute)


def cancel_late(world: World, booking: Booking, minute: int) -> None:
    """Cancel inside the last 24 hours."""
    _give_back(world, booking)
    note_decline(booking, minute)
    _end(world, booking, "cancelled_late", minute)


def move(world: World, booking: Booking, minute: int) -> None:
    """End the booking as rescheduled and make a new one for some days later."""
    _give_back(world, booking)
    note_decline(booking, minute)
    booking.status, booking.known = "rescheduled", minute
    old = booking.request
    days_left = (booking.start - minute) / DAY
    lead_days = days_left + world.desk.between(1, 12)
    fresh = Request(old.person, old.line, old.purpose, lead_days, old.recall_type, old.item)
    if book(world, fresh, minute) is None:
        _end(world, booking, "cancelled_early", minute)


def begin(world: World, booking: Booking, minute: int) -> None:
    """Let the patient arrive, or not; that one is missing is written down at the planned end."""
    chance = miss_chance(world.rates.attendance, booking.logit, booking.reminder)
    if world.desk.happens(chance):
        world.agenda.at(booking.end, miss, booking)
        return
    booking.status, booking.known = "arrived", minute
    world.agenda.at(booking.end + world.desk.between(-5, 11), complete, booking)


def miss(world: World, booking: Booking, minute: int) -> None:
    """Write down a no-show."""
    _end(world, booking, "no_show", minute)


def complete(world: World, booking: Booking, minute: int) -> None:
    """End a visit and charge for it."""
    person = booking.request.person
    yuan = SERVICE_LINES[booking.request.line][1] * (0.8 + 0.4 * world.desk.uniform())
    booking.list_cents = round(yuan * price_factor(world, minute) / 10) * 1000
    booking.fee_cents = booking.list_cents - round(booking.list_cents * world.rates.plans.discounts[person.membership])
    if person.first_visit_ended is None:
        person.first_visit_ended = minute
    person.visits += 1
    _end(world, booking, "completed", minute)


# How an open booking's entry on the agenda may end it.
ENDS = (move, cancel_early, cancel_late, begin)
