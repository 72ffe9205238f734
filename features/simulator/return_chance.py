"""P(attended visit within H days): the weekly model run ahead, without random numbers.

Exact for one patient given the state, but for: full diaries and closed days,
which shift visits by a day or two; households, where each member's own
decisions are taken as independent of the others'; a toothache while a visit is
booked; and messages to those who leave later. The sum of these is bounded by
comparison with brute force (see the tests and docs/how-to/simulate.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.simulator.booking_kernels import Kernels
from features.simulator.booking_life import DAYS
from features.simulator.care_model import Model
from features.simulator.care_state import COMES_AGAIN, GONE, IN_CARE, Care
from features.simulator.demand import ALONG_DAYS
from features.simulator.hazards import WINDOW_WEEKS
from features.simulator.observed import Observed
from features.simulator.opening import CLOSES, DAY, OPENS
from features.simulator.panel import WEEK
from features.simulator.recall_turns import Turns, plan_turns

LAGS = 16  # weeks after which a booking that failed is no longer looked for


@dataclass(frozen=True)
class Ahead:
    """What the weekly model says of the time after the as-of.

    Attributes
    ----------
    returns : ndarray, shape (patients, horizons)
        P(attended visit within each horizon).
    decides : ndarray, shape (patients, 1 + weeks)
        Expected own decisions to book, in what is left of this week and in each after it.
    """

    returns: np.ndarray
    decides: np.ndarray


def look_ahead(
    seen: Observed, care: Care, model: Model, kernels: Kernels, prior: np.ndarray, horizons: np.ndarray
) -> Ahead:
    """Run the weekly model ahead, twice: the second time with each household's decisions known.

    Parameters
    ----------
    prior : ndarray, shape (patients, grid)
        Of the personal rate.
    horizons : ndarray, shape (patients, horizons)
        Days after the as-of.
    """
    mass = care.weight * prior[:, None, :, None]
    mass = mass / np.maximum(mass.sum(axis=(1, 2, 3), keepdims=True), 1e-300)
    turns = plan_turns(seen, care, model)
    alone = _Runner(seen, care, model, kernels, mass, turns, horizons).run(None)
    if model.rates.demand.family_books_along == 0:
        return alone
    along = _brought_along(seen, alone.decides, model.rates.demand.family_books_along)
    return _Runner(seen, care, model, kernels, mass, turns, horizons).run(along)


def _brought_along(seen: Observed, decides: np.ndarray, share: float) -> np.ndarray:
    """Chance of each patient in each week to be asked along by a household member who books."""
    asked = share * decides
    before = np.cumsum(asked, axis=1) - asked
    hazard = np.clip(asked / np.maximum(1 - before, 0.05), 0, share)
    stays = np.log1p(-hazard)
    home = np.zeros((seen.household.max() + 1, decides.shape[1]))
    np.add.at(home, seen.household, stays)
    chance: np.ndarray = 1 - np.exp(home[seen.household] - stays)
    return chance


class _Runner:
    """One run ahead; a row is a patient in one branch of the contact policy."""

    def __init__(
        self,
        seen: Observed,
        care: Care,
        model: Model,
        kernels: Kernels,
        mass: np.ndarray,
        turns: Turns,
        horizons: np.ndarray,
    ) -> None:
        self.seen, self.care, self.model, self.kernels, self.turns = seen, care, model, kernels, turns
        self.who = turns.person
        self.ends = (seen.now + horizons * DAY) / DAY
        self.weeks = int(np.ceil(horizons.max() / 7)) + 1
        self.first = (seen.now // WEEK + 1) * WEEK
        self.mass = mass
        self.visits = np.zeros((len(self.who), horizons.shape[1]))
        self.gone_visits = np.zeros_like(self.visits)
        self.decides = np.zeros((len(seen.ids), self.weeks + 1))
        self.returning = np.zeros((LAGS + 1, len(self.who), *mass.shape[2:]))

    def run(self, along: np.ndarray | None) -> Ahead:
        """Run all weeks."""
        who, care = self.who, self.care
        here, gone = self.mass[who, IN_CARE].copy(), self.mass[who, GONE].copy()
        here -= self.begin(here)
        if along is not None:
            joins = here * along[who, 0][:, None, None] * self.is_due(self.seen.now)
            self.book(joins, self.first - WEEK)
            here -= joins
        for week in range(self.weeks):
            minute = self.first + week * WEEK
            here += self.returning[week % (LAGS + 1)]
            self.returning[week % (LAGS + 1)] = 0.0
            here *= 1 - self.model.leaving(self.seen, minute, departs=True)[who][:, None, None]
            here -= self.toothaches(here, minute)
            decided = here * self.chances(minute)
            np.add.at(self.decides[:, week + 1], who, self.turns.share * decided.sum(axis=(1, 2)))
            here -= decided
            if along is not None:
                joins = here * along[who, week + 1][:, None, None] * self.is_due(minute)
                here -= joins
                decided += joins
            answered = self.answers(here, gone, minute)
            here -= answered
            self.book(decided + answered, minute, week)
        return Ahead(self.total(care), self.decides)

    def is_due(self, minute: int) -> np.ndarray:
        found: np.ndarray = (self.care.due[self.who] < minute + ALONG_DAYS * DAY)[:, None, None]
        return found

    def begin(self, here: np.ndarray) -> np.ndarray:
        """Start those with a booking, with one to come, or about to decide; return whom of `here` that takes."""
        who, care, kernels = self.who, self.care, self.kernels
        booked = here * care.is_booked[who][:, None, None]
        self.cohort(booked, kernels.open_visited, kernels.open_failed)
        self.cohort(self.mass[who, COMES_AGAIN], kernels.again_visited, kernels.again_failed)
        intends = (here - booked) * care.intends[who]
        np.add.at(self.decides[:, 0], who, self.turns.share * intends.sum(axis=(1, 2)))
        self.book(intends, self.seen.now // DAY * DAY)
        taken: np.ndarray = booked + intends
        return taken

    def cohort(self, mass: np.ndarray, visited: np.ndarray, failed: np.ndarray) -> None:
        """Let bookings end whose days count from today."""
        total = mass.sum(axis=(1, 2))
        days = self.ends - self.seen.now // DAY
        self.visits += total[:, None] * _by(visited, days)[self.who]
        offset = self.first // DAY - self.seen.now // DAY
        for lag in range(LAGS + 1):
            upto = failed[:, min(offset + 7 * lag, DAYS)]
            since = failed[:, offset + 7 * (lag - 1)] if offset + 7 * (lag - 1) >= 0 and lag else 0.0
            self.returning[lag] += mass * (upto - since)[self.who][:, None, None]

    def book(self, mass: np.ndarray, minute: int, week: int = -1) -> None:
        """Let recall bookings end that are made in the week from `minute` on."""
        total = mass.sum(axis=(1, 2))
        visited, failed = self.kernels.visited, self.kernels.failed
        last = self.first if week < 0 else minute + WEEK
        days = range(minute // DAY, max(last // DAY, minute // DAY + 1))
        within = np.mean([_by(visited, self.ends - day) for day in days], axis=0)
        self.visits += total[:, None] * within[self.who]
        for lag in range(1, LAGS):
            step = self.first // DAY + 7 * (week + lag)
            share = np.mean([_upto(failed, step - day) - _upto(failed, step - 7 - day) for day in days], axis=0)
            self.returning[(week + lag) % (LAGS + 1)] += mass * share[self.who][:, None, None]

    def toothaches(self, here: np.ndarray, minute: int) -> np.ndarray:
        """Visits by toothache of those with nothing booked."""
        treated: np.ndarray = here * self.model.hurts() * self.kernels.toothache[self.who][:, None, None]
        total = treated.sum(axis=(1, 2))
        self.visits += total[:, None] * np.clip((self.ends - minute / DAY - 0.5) / 7, 0, 1)[self.who]
        return treated

    def chances(self, minute: int) -> np.ndarray:
        """Chance to book unasked, by row; messages of this round put some off."""
        chance: np.ndarray = self.care.booking(self.model, self.seen, minute)[self.who]
        at = self.turns.minute
        sent = np.where((at <= minute) & (at > minute - WINDOW_WEEKS * WEEK), self.turns.sent, 0.0).max(axis=1)
        already = self.care.annoyed_until[self.who] > minute
        factor = 1 - np.where(already, 0.0, sent) * (1 - self.model.rates.contacts.annoyed)
        chance[:, :, 1] = 1 - (1 - chance[:, :, 1]) ** factor[:, None]
        return chance

    def answers(self, here: np.ndarray, gone: np.ndarray, minute: int) -> np.ndarray:
        """Who books upon this week's message; one who left hardly ever does."""
        answered = np.zeros_like(here)
        lapsed = self.model.rates.contacts.recall_books_lapsed
        for place in range(self.turns.minute.shape[1]):
            at = self.turns.minute[:, place]
            rows = np.flatnonzero((self.turns.sent[:, place] > 0) & (at >= minute) & (at < minute + WEEK))
            if not len(rows):
                continue
            answered[rows] = here[rows] * self.turns.books[rows, place]
            back = gone[rows].sum(axis=(1, 2)) * lapsed * self.turns.sent[rows, place]
            within = _by(self.kernels.visited, self.ends - minute // DAY - 3)
            self.gone_visits[rows] += back[:, None] * within[self.who[rows]]
        return answered

    def total(self, care: Care) -> np.ndarray:
        """P(visit) by patient and horizon, over the branches and whatever else is booked."""
        size = len(self.seen.ids)
        visits, gone_visits = np.zeros((size, self.visits.shape[1])), np.zeros((size, self.visits.shape[1]))
        np.add.at(visits, self.who, self.turns.share[:, None] * self.visits)
        np.add.at(gone_visits, self.who, self.turns.share[:, None] * self.gone_visits)
        days = self.ends - self.seen.now // DAY
        alive = self.mass[:, 1:].sum(axis=(1, 2, 3))[:, None]
        none = (alive - visits) * (1 - _by(self.kernels.other, days))
        none += (1 - alive - gone_visits) * (1 - _by(self.kernels.other_gone, days))
        found: np.ndarray = np.clip(1 - none, 0.0, 1.0)
        return found


def _upto(ends: np.ndarray, day: int) -> np.ndarray:
    """Cumulative share up to a whole day."""
    return ends[:, min(day, DAYS)] if day >= 0 else np.zeros(len(ends))


def _by(ends: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Cumulative share up to moments, in days with the clock as fraction: patients x horizons.

    Of the last day's visits, those of the opening hours before the clock count.
    """
    whole = np.floor(days)
    hours = np.clip(((days - whole) * DAY - OPENS) / (CLOSES - OPENS), 0, 1)
    day = np.clip(whole.astype(int), -1, DAYS)
    padded = np.concatenate([np.zeros((len(ends), 2)), ends], axis=1)
    last = np.take_along_axis(padded, day + 2, axis=1)
    before = np.take_along_axis(padded, day + 1, axis=1)
    found: np.ndarray = before + hours * (last - before)
    return found
