"""The usual contact policy ahead: when whose next recall messages go out, by branch of what is not yet drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.simulator.care_model import Model
from features.simulator.care_state import Care
from features.simulator.contacts import FATIGUE_DAYS, pace
from features.simulator.hazards import stale_factor
from features.simulator.observed import Observed
from features.simulator.opening import CLOSES, DAY, OPENS
from features.simulator.panel import NEVER

DRAWS = 3  # days that stand for those on which a first draw may fall


@dataclass(frozen=True)
class Turns:
    """One row per patient and branch of the policy.

    Attributes
    ----------
    person : ndarray of int
    share : ndarray of float
        Chance of the branch; a patient's sum to 1.
    minute : ndarray, shape (rows, turns)
        Of each turn to come; NEVER if there is none.
    sent : ndarray of float, shape (rows, turns)
        Chance that the turn is a message; it is not in the hold-out.
    books : ndarray, shape (rows, turns, grid, 2)
        Chance that the turn makes one in care book.
    """

    person: np.ndarray
    share: np.ndarray
    minute: np.ndarray
    sent: np.ndarray
    books: np.ndarray


@dataclass(frozen=True)
class _Branch:
    share: float
    days: tuple[int, ...] = ()
    is_random: bool = False  # arms are drawn evenly, the hold-out among them


def plan_turns(seen: Observed, care: Care, model: Model) -> Turns:
    """Plan the recall messages of the rounds that are under way."""
    rows = [(n, branch) for n in range(len(seen.ids)) for branch in _branches(seen, care, model, n)]
    contacts = model.rates.contacts
    grid, shape = care.log_rate.shape[1], (len(rows), max(contacts.recall_at_most, contacts.drawn_at_most))
    minute = np.full(shape, NEVER)
    messages = np.zeros(shape)
    books = np.zeros((*shape, grid, 2))
    kept: dict[tuple[int, int, int], np.ndarray] = {}
    is_shared = care.log_rate.strides[0] == 0
    for row, (n, branch) in enumerate(rows):
        sent = list(care.recalled[n])
        for place, day in enumerate(branch.days):
            minute[row, place] = at = day * DAY + (OPENS + CLOSES) // 2
            age = model.year(at) - int(seen.birth_year[n])
            recent = sum(moment > at - FATIGUE_DAYS * DAY for moment in sent)
            key = (-1 if is_shared else n, int(age >= 35) + int(age >= 60), recent)
            if key not in kept:
                kept[key] = model.answers(care.log_rate[n], age, recent)
            ways = seen.shares[n]
            if branch.is_random:
                ways = (ways > 0) / (1 + (ways > 0).sum())
            books[row, place] = kept[key] @ ways * stale_factor(contacts, at - int(care.due[n]))
            messages[row, place] = ways.sum()
            sent.append(at)
    return Turns(
        person=np.array([n for n, _ in rows], int),
        share=np.array([branch.share for _, branch in rows]),
        minute=minute,
        sent=messages,
        books=books,
    )


def _branches(seen: Observed, care: Care, model: Model, n: int) -> list[_Branch]:
    rates = model.rates.contacts
    if not seen.may_contact[n] or not seen.shares[n].any() or care.due[n] == NEVER or seen.is_departed[n]:
        return [_Branch(1.0)]
    today, open_day = seen.now // DAY, model.opening.next_open_day

    def days(first: int, wait: int, count: int) -> tuple[int, ...]:
        return tuple(open_day(first + wait * k) for k in range(count))

    count = int(care.turns[n])
    if count:
        wait, at_most = pace(rates, bool(care.is_random[n]))
        ahead = days(int(care.turn_at[n]) // DAY + wait, wait, at_most - count)
        return [_Branch(1.0, ahead if ahead and ahead[0] > today else (), bool(care.is_random[n]))]
    due = int(care.due[n]) // DAY
    share, random = rates.recall_share, rates.randomised_share
    branches = [_Branch(1 - share)]
    usual = days(due + rates.recall_after_days, *pace(rates, False))
    if usual[0] > today:
        branches.append(_Branch(share * (1 - random), usual))
    first, last = (due + 7 * weeks for weeks in rates.randomised_weeks)
    left = last - max(first, today + 1)
    for part in range(DRAWS) if left > 0 else ():
        drawn = last - round(left * (part + 0.5) / DRAWS)
        turns = days(drawn, *pace(rates, True))
        branches.append(_Branch(share * random * left / (last - first) / DRAWS, turns, is_random=True))
    total = sum(branch.share for branch in branches)
    return [replace(branch, share=branch.share / total) for branch in branches]
