"""Recall messages to overdue patients, the randomised stratum among them, and what comes of them."""

from __future__ import annotations

from math import log
from typing import NamedTuple

import numpy as np

from features.simulator.demand import LEADS, WEEK, ask, come_into_care, recall_request
from features.simulator.hazards import WINDOW_WEEKS, attends_by, response_chances, stale_factor, window_truth
from features.simulator.opening import DAY, at_waking_minute, waking_minutes
from features.simulator.rates import ContactRates
from features.simulator.reminders import channel_shares
from features.simulator.world import Arm, Message, Person, World

TYPICAL_ANSWER = 240  # minutes
HOLD_OUT = "hold_out"
FATIGUE_DAYS = 180
# Share of recall bookings that end in a visit, moved ones included (measured in the default practice).
KEPT = 0.82


class Turn(NamedTuple):
    """The `nth` message, or draw of an arm, of a person's recall round."""

    person: Person
    round: int
    nth: int
    is_random: bool


def watch_due_date(world: World, person: Person, due: int) -> None:
    """Put the first turn of a round on the agenda, if the desk gets round to it."""
    rates, dice = world.rates.contacts, world.contacts
    if not dice.happens(rates.recall_share):
        return
    first, last = rates.randomised_weeks
    is_random = dice.happens(rates.randomised_share)
    wait = dice.between(7 * first, 7 * last) if is_random else rates.recall_after_days
    _plan(world, Turn(person, person.round, 1, is_random), due // DAY + wait)


def _plan(world: World, turn: Turn, day: int) -> None:
    world.agenda.at(world.opening.desk_minute(max(day, 0), world.contacts.uniform()), take_turn, turn)


def take_turn(world: World, turn: Turn, minute: int) -> None:
    """Send a recall message or draw an arm, unless it is forbidden or no longer needed."""
    rates, person = world.rates.contacts, turn.person
    shares = channel_shares(rates, person)
    is_over = turn.round != person.round or person.is_rebooked or person.departure
    if is_over or not person.is_contact_allowed or not shares:
        return
    if turn.is_random:
        _draw_arm(world, person, tuple(shares), minute)
    else:
        send_recall(world, person, world.contacts.pick(shares), minute, "RECALL")
    wait, at_most = pace(rates, turn.is_random)
    if turn.nth < at_most:
        _plan(world, turn._replace(nth=turn.nth + 1), minute // DAY + wait)


def pace(rates: ContactRates, is_random: bool) -> tuple[int, int]:
    """Days between the turns of a round, and how many there are at most."""
    if is_random:
        return rates.redrawn_after_days, rates.drawn_at_most
    return rates.recall_every_days, rates.recall_at_most


def campaign_at(world: World, minute: int) -> str:
    """Name of the quarter's randomised campaign."""
    day = minute // DAY
    return f"TRIAL-{world.opening.years[day]}Q{(world.opening.months[day] + 2) // 3}"


def _draw_arm(world: World, person: Person, channels: tuple[str, ...], minute: int) -> None:
    """Draw one arm, all with the same odds."""
    arms = (HOLD_OUT, *channels)
    arm = arms[world.contacts.between(0, len(arms))]
    campaign = campaign_at(world, minute)
    world.arms.append(
        Arm(person, campaign, arm, 1 / len(arms), minute, person.is_alive, arm_truth(world, person, channels, minute))
    )
    if arm != HOLD_OUT:
        send_recall(world, person, arm, minute, campaign)


def chances_now(world: World, person: Person, minute: int) -> dict[str, float]:
    """Chance that a message of each channel makes the person book, as of now."""
    rates = world.rates.contacts
    if person.departure:
        return dict.fromkeys(rates.recall_books, 0.0)
    if not person.is_alive:
        return dict.fromkeys(rates.recall_books, rates.recall_books_lapsed)
    recent = sum(sent > minute - FATIGUE_DAYS * DAY for sent in person.recalled)
    spread = world.rates.demand.adherence_sd
    z = -person.log_delay / spread if spread else 0.0
    age = world.opening.years[minute // DAY] - person.birth_year
    stale = stale_factor(rates, minute - int(world.panel.due[person.index]))
    chances = response_chances(rates, z, age, recent, person.is_negative)
    return {channel: chance * stale for channel, chance in chances.items()}


def arm_truth(world: World, person: Person, channels: tuple[str, ...], minute: int) -> dict[str, tuple[float, float]]:
    """P(booked) and P(attended) within the window under each arm, from the weekly model.

    Recall bookings alone: toothache and treatment come on top in every arm.
    """
    who, year = person.index, world.opening.years[minute // DAY]
    starts = minute // WEEK * WEEK + WEEK * np.arange(1, WINDOW_WEEKS + 1)
    rates, panel = world.rates, world.panel
    usual = panel.booking(rates, starts, year, who) * person.is_alive
    leaves = panel.leaving(rates, starts, who)
    attends = attends_by(*LEADS["recall"], KEPT, WINDOW_WEEKS)
    chances = chances_now(world, person, minute)
    put_off = rates.contacts.annoyed if person.is_negative else 1.0
    truth = {HOLD_OUT: window_truth(0.0, usual, leaves, attends)}
    for channel in channels:
        after = 1 - (1 - usual) ** put_off
        truth[channel] = window_truth(chances[channel], after, leaves, attends)
    return truth


def send_recall(world: World, person: Person, channel: str, minute: int, campaign: str) -> None:
    """Send one recall message and decide the answer."""
    message = Message(person, channel, "recall", minute, campaign=campaign)
    world.messages.append(message)
    _decide_answer(world, message)
    person.recalled.append(minute)
    if person.is_negative:
        world.panel.annoyed_until[person.index] = minute + WINDOW_WEEKS * WEEK


def _decide_answer(world: World, message: Message) -> None:
    rates, dice = world.rates.contacts, world.contacts
    is_call = message.channel == "phone"
    books = chances_now(world, message.person, message.sent)[message.channel]
    wait = 3 if is_call else 1 + int(-TYPICAL_ANSWER * log(1 - dice.uniform()))
    chance = dice.uniform()
    if chance < books:
        answer = accept
    elif chance < books + rates.declines:
        answer = decline
    elif chance < books + rates.declines + rates.opts_out * (5 if message.person.is_negative else 1):
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
    if not person.is_alive and not person.departure:
        come_into_care(world, person, minute)
    if not person.is_rebooked:
        ask(world, recall_request(world, person, minute), minute)


def decline(world: World, message: Message, minute: int) -> None:
    """Answer no for this time."""
    message.replied, message.outcome = minute, "declined"


def opt_out(world: World, message: Message, minute: int) -> None:
    """Ask for no more messages."""
    message.replied, message.outcome = minute, "opted_out"
    message.person.is_contact_allowed, message.person.opted_out = False, minute


def ring_out(world: World, message: Message, minute: int) -> None:
    """Let a call ring without answer."""
    message.replied, message.outcome = minute, "no_answer"
