"""Recall messages to overdue patients, and what comes of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from features.simulator.demand import ask, recall_request
from features.simulator.opening import DAY, at_waking_minute, waking_minutes
from features.simulator.world import Message, Person, World

NEVER = 2**62
TYPICAL_ANSWER = 240  # minutes


@dataclass(frozen=True, slots=True)
class Turn:
    """The `count`-th message of a person's recall round."""

    person: Person
    round: int
    count: int


def watch_due_date(world: World, person: Person, due: int) -> None:
    """Put the first message of a round on the agenda, if the desk gets round to it."""
    rates = world.rates.contacts
    if world.contacts.happens(rates.recall_share):
        _plan(world, Turn(person, person.round, 1), due // DAY + rates.recall_after_days)


def _plan(world: World, turn: Turn, day: int) -> None:
    world.agenda.at(world.opening.desk_minute(day, world.contacts.uniform()), send_recall, turn)


def send_recall(world: World, turn: Turn, minute: int) -> None:
    """Send a recall message, unless it is forbidden or no longer needed."""
    rates, person = world.rates.contacts, turn.person
    if turn.round != person.round or person.is_rebooked or not person.is_contact_allowed:
        return
    message = Message(person, world.contacts.pick(rates.channels), "recall", minute)
    world.messages.append(message)
    _decide_answer(world, message)
    if turn.count < rates.recall_at_most:
        _plan(world, Turn(person, turn.round, turn.count + 1), minute // DAY + rates.recall_every_days)


def _decide_answer(world: World, message: Message) -> None:
    rates, dice = world.rates.contacts, world.contacts
    is_call = message.channel == "phone"
    is_active = message.person.is_active(message.sent)
    books = rates.recall_books[message.channel] if is_active else rates.recall_books_lapsed
    wait = 3 if is_call else 1 + int(-TYPICAL_ANSWER * log(1 - dice.uniform()))
    chance = dice.uniform()
    if chance < books:
        answer = accept
    elif chance < books + rates.declines:
        answer = decline
    elif chance < books + rates.declines + rates.opts_out:
        answer = opt_out
    elif is_call and dice.happens(rates.phone_unanswered):
        answer, wait = ring_out, 1
    else:
        return
    # Nobody answers at night.
    world.agenda.at(at_waking_minute(waking_minutes(message.sent) + wait), answer, message)


def accept(world: World, message: Message, minute: int) -> None:
    """Answer yes and book; one who had left is back."""
    person = message.person
    message.replied, message.outcome = minute, "confirmed"
    if not person.is_active(minute):
        person.lapses_at = NEVER
    if not person.is_rebooked:
        ask(world, recall_request(world, person, minute), minute)


def decline(world: World, message: Message, minute: int) -> None:
    """Answer no for this time."""
    message.replied, message.outcome = minute, "declined"


def opt_out(world: World, message: Message, minute: int) -> None:
    """Ask for no more messages."""
    message.replied, message.outcome = minute, "opted_out"
    message.person.is_contact_allowed = False


def ring_out(world: World, message: Message, minute: int) -> None:
    """Let a call ring without answer."""
    message.replied, message.outcome = minute, "no_answer"
