"""How a booking ends, day by day: exact over moves, cancellations, misses and new tries.

One booking leads to a visit, or to nothing, by way of any number of moves and
new bookings. The recursion below is that of `features.simulator.bookings` and
`features.simulator.demand`, in whole days; full diaries and closed days, which
shift a visit a little, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from statistics import NormalDist

import numpy as np

from features.simulator.attendance import (
    Circumstances,
    ReminderState,
    early_exit_chance,
    late_exit_weight,
    logistic,
    no_show_logit,
    truth_at_booking,
)
from features.simulator.demand import LEADS
from features.simulator.opening import WEEKDAY_WEIGHTS
from features.simulator.placing import FREE_DAY_WISHES, LONGEST_LEAD, WEEKDAY_WISHES
from features.simulator.rates import BaseRates

DAYS = 240  # after which a booking has ended, one way or the other
LONGEST = LONGEST_LEAD + 14  # longer leads count as this
MOVED_BY = 11  # a moved visit is this many days later at most
AGAIN_WITHIN = 20  # a new booking follows a missed one within this many days
# Share of an hour-long step that separates a same-day booking from its visit.
SAME_DAY_LEAD = 0.15
AGES = (23, 45, 70)  # one of each age group that no-shows depend on


def age_group(age: np.ndarray) -> np.ndarray:
    """Position in `AGES` of each age in years."""
    group: np.ndarray = np.where((age >= 16) & (age <= 30), 0, np.where(age >= 60, 2, 1))
    return group


@dataclass(frozen=True)
class BookingLife:
    """Chances of how bookings end, by kind of patient, lead in days, and day.

    Attributes
    ----------
    early : ndarray, shape (kinds, leads)
        Chance to be given up early.
    kept, missed : ndarray, shape (kinds, leads)
        Chance of a visit, and of a no-show, of one that was not.
    exit_visited, exit_failed : ndarray, shape (kinds, leads, days)
        Density of a visit, and of nothing further, on each day after now, for a
        booking given up early on an even day of the next `lead` ones.
    gap_visited, gap_failed : ndarray, shape (kinds, leads, days)
        The same after a miss or a late cancellation today; `lead` is the wish.
    whole_visited, whole_failed : ndarray, shape (kinds, leads, days)
        The same for a new booking.
    """

    early: np.ndarray
    kept: np.ndarray
    missed: np.ndarray
    exit_visited: np.ndarray
    exit_failed: np.ndarray
    gap_visited: np.ndarray
    gap_failed: np.ndarray
    whole_visited: np.ndarray
    whole_failed: np.ndarray
    leaves_after_miss: float

    def standing(self, kind: np.ndarray, left: int, lead: int, gone_by: float) -> tuple[np.ndarray, np.ndarray]:
        """Densities of visit and failure for a booking that still stands.

        Parameters
        ----------
        kind : ndarray of int
            Kinds to answer for.
        left, lead : int
            Whole days until its start, and between booking and start.
        gone_by : float
            Share of the time in which it could have been given up early.
        """
        left, lead = min(left, LONGEST), min(lead, LONGEST)
        early = self.early[kind, lead]
        exits = (early * (1 - gone_by) / (1 - early * gone_by) if left > 1 else 0 * early)[:, None]
        late = 1 - self.kept[kind, lead] - self.missed[kind, lead]
        gap = (late + self.missed[kind, lead] * (1 - self.leaves_after_miss))[:, None]
        visited = exits * self.exit_visited[kind, left] + (1 - exits) * gap * _shift(self.gap_visited[kind, lead], left)
        failed = exits * self.exit_failed[kind, left] + (1 - exits) * gap * _shift(self.gap_failed[kind, lead], left)
        visited[:, left] += (1 - exits[:, 0]) * self.kept[kind, lead]
        return visited, failed


def booking_life(rates: BaseRates, effects: Sequence[float], comes_again: bool = True) -> BookingLife:
    """Work out how bookings end.

    Parameters
    ----------
    rates : BaseRates
        Of the practice.
    effects : sequence of float
        Personal effects on missing; kinds are the pairs (age group, effect), age groups first.
    comes_again : bool
        Whether the patient is in care; one who left makes no new booking, but may move one.
    """
    early, kept, missed = _fates(rates, effects)
    kinds, leads = early.shape
    again = rates.demand.rebooks if comes_again else 0.0
    leaves = rates.demand.leaves_after_miss
    late = 1 - kept - missed
    shape = (2, kinds, leads, DAYS + 1)  # first axis: visited, failed
    whole, gap, exits = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    moves, cancels = np.zeros(shape), np.zeros(shape)
    length, tries = np.arange(leads), np.zeros(shape[:-1])
    later = np.minimum(length[:, None] + np.arange(1, MOVED_BY + 1), leads - 1)
    for day in range(DAYS + 1):
        if day:
            moves[:, :, 1:, day] = moves[:, :, :-1, day - 1]
            moves[:, :, 2:, day] += whole[:, :, later[1:-1], day - 1].mean(axis=-1)
            # A move on day s of a lead of L finds L - s days left: the sum runs along the diagonal.
            tries += whole[..., day - 1] - (whole[..., day - 1 - AGAIN_WITHIN] if day > AGAIN_WITHIN else 0.0)
            gap[..., day] = again * tries / AGAIN_WITHIN
        else:
            gap[1, ..., 0] = 1 - again
        if day:
            # The sum of the last `lead - 1` days before this one.
            past = gap[:, :, length, np.maximum(day - length, 0)] * (day >= length)
            cancels[..., day] = cancels[..., day - 1] + gap[..., day - 1] - past
            cancels[:, :, :2, day] = 0.0
        share = np.maximum(length - 1, 1)
        moved = rates.attendance.rescheduled_share
        exits[..., day] = (moved * moves[..., day] + (1 - moved) * cancels[..., day]) / share
        ends = np.where(day >= length, day - length, 0)
        from_gap = gap[:, :, length, ends] * (day >= length)
        held = (1 - early) * (late + missed * (1 - leaves))
        whole[..., day] = early * exits[..., day] + held * from_gap
        whole[0, :, day : day + 1, day] += ((1 - early) * kept)[:, day : day + 1]
    return BookingLife(early, kept, missed, exits[0], exits[1], gap[0], gap[1], whole[0], whole[1], leaves)


def recall_leads() -> np.ndarray:
    """Chance of each lead in days of a recall booking, ``0`` to `LONGEST`."""
    median, spread = LEADS["recall"]
    normal = NormalDist(log(median), spread)
    edges = [normal.cdf(log(day + 0.5)) for day in range(LONGEST_LEAD)]
    wished = np.diff([0.0, *edges, 1.0])
    found = np.zeros(LONGEST + 1)
    for lead, share in enumerate(wished.tolist()):
        reach = min(3, max(lead - 1, 0))
        found[lead - reach : lead + reach + 1] += share / (2 * reach + 1)
    return found


def emergency_visit_chance(life: BookingLife) -> np.ndarray:
    """P(a toothache ends in a visit) by kind; new tries included."""
    kept, missed = life.kept[:, 0], life.missed[:, 0]
    again = life.gap_visited[:, 0].sum(axis=-1)
    chance: np.ndarray = kept + (1 - kept - missed * life.leaves_after_miss) * again
    return chance


def _fates(rates: BaseRates, effects: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chances to give up early, to come and to be missing, by kind and lead."""
    weekdays = np.array(WEEKDAY_WEIGHTS) / sum(WEEKDAY_WEIGHTS)
    mornings = [sum(wishes[:2]) / sum(wishes) for wishes in (WEEKDAY_WISHES, FREE_DAY_WISHES)]
    morning, monday = float(np.mean(mornings)), float(weekdays[0])
    kinds = [(age, effect) for age in AGES for effect in effects]
    confirmed = np.array([mean_confirm_chance(rates, effect) for effect in effects] * len(AGES))
    early, kept, missed = (np.zeros((len(kinds), LONGEST + 1)) for _ in range(3))
    attendance, nobody = rates.attendance, np.zeros(len(kinds))
    for lead in range(LONGEST + 1):
        sent = rates.contacts.reminded if lead >= 2 else 0.0
        states: dict[ReminderState, np.ndarray] = {
            "none": nobody + 1 - sent,
            "unanswered": sent * (1 - confirmed),
            "confirmed": sent * confirmed,
        }
        facts = [Circumstances(effect, lead or SAME_DAY_LEAD, age, False, False, False) for age, effect in kinds]
        logit = np.array([no_show_logit(attendance, each) for each in facts])
        weight = np.array([late_exit_weight(attendance, each) for each in facts])
        for in_morning, early_logit in ((morning, attendance.early), (1 - morning, 0.0)):
            for on_monday, monday_logit in ((monday, attendance.monday), (1 - monday, 0.0)):
                truth = truth_at_booking(attendance, logit + early_logit + monday_logit, weight, states)
                kept[:, lead] += in_morning * on_monday * (1 - truth.missed)
                missed[:, lead] += in_morning * on_monday * truth.no_show
        if lead >= 2:
            early[:, lead] = [early_exit_chance(attendance, each) for each in facts]
    return early, kept, missed


def mean_confirm_chance(rates: BaseRates, effect: float) -> float:
    """Mean chance of a confirmation over channels and the spread of responsiveness."""
    contacts = rates.contacts
    points, weights = np.polynomial.hermite_e.hermegauss(5)
    spread = 0.8 * (rates.attendance.personal_sd > 0)
    chance: float = sum(
        share * weight * logistic(contacts.confirm_logit[channel] - 0.2 * effect + spread * point)
        for channel, share in contacts.channels.items()
        for point, weight in zip(points.tolist(), (weights / weights.sum()).tolist(), strict=True)
    )
    return chance


def _shift(density: np.ndarray, days: int) -> np.ndarray:
    shifted = np.zeros_like(density)
    shifted[:, days:] = density[:, : density.shape[1] - days]
    return shifted
