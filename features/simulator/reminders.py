"""Reminders of a booking: whether one is sent, and whether it is confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from math import log

from features.simulator.attendance import logistic
from features.simulator.opening import DAY
from features.simulator.rates import ContactRates
from features.simulator.world import Booking, Message, Person, World

SENT_FROM = 10 * 60
SENT_UNTIL = 19 * 60
# Every answer is in before the evening-before decision at 21:00.
ANSWERED_BY = 20 * 60 + 30
TYPICAL_ANSWER = 90  # minutes


def can_be_reminded(booked: int, start: int) -> bool:
    """Whether a whole day lies between the day of the booking and that of the visit."""
    return start // DAY - booked // DAY >= 2


def confirm_chance(rates: ContactRates, channel: str, responsiveness: float) -> float:
    """Probability that a reminder sent by `channel` is confirmed."""
    return logistic(rates.confirm_logit[channel] + responsiveness)


def channel_shares(rates: ContactRates, person: Person) -> Mapping[str, float]:
    """Share of each channel among the person's messages, by consent."""
    if person.shares is None:
        allowed = {channel: share for channel, share in rates.channels.items() if channel in person.channels}
        total = sum(allowed.values())
        person.shares = {channel: share / total for channel, share in allowed.items()}
        person.confirms = sum(
            share * confirm_chance(rates, way, person.responsiveness) for way, share in person.shares.items()
        )
    return person.shares


def plan_reminder(world: World, booking: Booking, now: int = -1) -> None:
    """Draw this booking's reminder and put it on the agenda, unless its time has passed by `now`."""
    rates, dice = world.rates.contacts, world.contacts
    if not can_be_reminded(booking.booked, booking.start) or not dice.happens(rates.reminded):
        return
    person = booking.request.person
    shares = channel_shares(rates, person)
    if not shares:
        return
    channel = dice.pick(shares)
    is_confirmed = dice.happens(confirm_chance(rates, channel, person.responsiveness))
    day = booking.start // DAY - 1
    if day - booking.booked // DAY >= 2 and dice.happens(rates.two_days_before):
        day -= 1
    sent = day * DAY + dice.between(SENT_FROM, SENT_UNTIL)
    if sent <= now:
        return
    booking.reminder = "confirmed" if is_confirmed else "unanswered"
    world.agenda.at(sent, send_reminder, Message(person, channel, "reminder", sent, booking))


def send_reminder(world: World, message: Message, minute: int) -> None:
    """Send it, if the booking still stands."""
    booking = message.booking
    if booking is None or booking.status != "booked":
        return
    world.messages.append(message)
    booking.message = message
    if message.channel == "phone":
        # A call's result is known when it ends.
        world.agenda.at(minute + 1, note_answer, message)
    elif booking.reminder == "confirmed":
        delay = 1 + int(-TYPICAL_ANSWER * log(1 - world.contacts.uniform()))
        latest = minute // DAY * DAY + ANSWERED_BY
        world.agenda.at(min(minute + delay, latest), note_answer, message)


def note_answer(world: World, message: Message, minute: int) -> None:
    """Write down a confirmation, or a call nobody took; silence on WeChat or SMS leaves no trace."""
    booking = message.booking
    if booking is None or booking.status != "booked":
        return
    message.replied = minute
    message.outcome = "confirmed" if booking.reminder == "confirmed" else "no_answer"


def note_decline(booking: Booking, minute: int) -> None:
    """Let a cancellation be the answer to a reminder that is still open."""
    message = booking.message
    if message is not None and not message.outcome:
        message.replied, message.outcome = minute, "declined"
