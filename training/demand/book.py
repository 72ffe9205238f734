"""What already stands in the book, as a sign of the first months ahead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.demand.accuracy import QUANTILES, pinball
from training.demand.blend import Cache, answer
from training.demand.intervals import log_unit, widen
from training.demand.panel import Floats, Panel

ORIGINS = 12  # past moments at which forecasts are compared with the book, a month apart
FEWEST_TYPICAL = 6  # moments from which a series' usual share of bookings is known
PRIOR_SURPRISES = 10.0  # surprises of the usual size that speak for no effect
ENOUGH_BOOKED = 5.0  # bookings at which a surprise counts half
NARROWEST = 0.3  # of the interval without the book
HALF = 0.5  # added to counts before logarithms


@dataclass(frozen=True)
class Signal:
    """How far a book that is fuller than usual moves a forecast.

    Attributes
    ----------
    effect : ndarray of shape (n_levels, n_steps)
        Log change of the forecast for one log of surprise; 0 where it did not help in the past.
    width : ndarray of shape (n_levels, n_steps)
        Of the interval, relative to that without the book.
    levels : tuple of str
        Of the hierarchy.
    """

    effect: Floats
    width: Floats
    levels: tuple[str, ...]

    def applied(self, quantiles: Floats, surprise: Floats, level: NDArray[np.object_], unit: Floats) -> Floats:
        """Quantiles moved and narrowed; months beyond the book stay as they are.

        Parameters
        ----------
        quantiles : ndarray of shape (n_nodes, horizon, 9)
        surprise : ndarray of shape (n_nodes, n_steps)
        level, unit : ndarray of shape (n_nodes,)
        """
        steps = min(quantiles.shape[1], surprise.shape[1])
        rows = np.array([self.levels.index(name) for name in level])
        told = widen(quantiles[:, :steps], self.width[rows, :steps], unit)
        moved = (told + unit[:, None, None]) * np.exp(self.effect[rows, :steps] * surprise[:, :steps])[..., None]
        return np.concatenate([np.maximum(moved - unit[:, None, None], 0.0), quantiles[:, steps:]], axis=1)


def surprises(booked: Floats, panel: Panel, median: Floats) -> Floats:
    """How much fuller the book is than usual for what is forecast, on the log scale.

    Parameters
    ----------
    booked : ndarray of shape (n_moments, n_nodes, n_steps)
        Bookings for the months ahead; the first moment is the one forecast from, each later one a month earlier.
    panel : Panel
        Up to the last month known at the first moment.
    median : ndarray of shape (n_nodes, n_steps or more)
        Forecast from the first moment.

    Returns
    -------
    ndarray of shape (n_nodes, n_steps)
        Log of bookings over those usual at the same distance (median of the past ratio of bookings to what came,
        times the forecast), pulled to 0 where few are booked; 0 where nothing usual is known.
    """
    _, nodes, steps = booked.shape
    months = len(panel.months)
    found = np.zeros((nodes, steps))
    unit = log_unit(panel.values)
    for step in range(steps):
        # The month `step` ahead of a moment `back` months ago has come by now.
        backs = np.arange(step + 1, min(len(booked), months))
        if len(backs) < FEWEST_TYPICAL or step >= median.shape[1]:
            continue
        came = panel.values[:, months - backs + step]
        ratio = np.log(booked[backs, :, step].T + HALF) - np.log(came + unit[:, None])
        known = np.isfinite(ratio).sum(axis=1) >= FEWEST_TYPICAL
        usual = np.zeros(nodes)
        usual[known] = np.nanmedian(ratio[known], axis=1)
        expected = usual + np.log(median[:, step] + unit)
        trust = np.exp(expected) / (np.exp(expected) + ENOUGH_BOOKED)
        surprise = trust * (np.log(booked[0, :, step] + HALF) - expected)
        found[:, step] = np.where(known & np.isfinite(surprise), surprise, 0.0)
    return found


def learn_signal(
    booked: Floats,
    panel: Panel,
    calendar: pd.DataFrame | None,
    level: NDArray[np.object_],
    cache: Cache | None = None,
) -> Signal | None:
    """Regress past forecast errors on past surprises, by level and month ahead.

    Every effect is shrunk towards none. It is kept only if, learned at the older moments, it lowered the pinball
    loss at the newer ones.

    Parameters
    ----------
    booked : ndarray of shape (n_moments, n_nodes, n_steps)
        As in `surprises`.
    panel : Panel
        All nodes.
    calendar : pandas.DataFrame, optional
    level : ndarray of shape (n_nodes,)
    cache : mutable mapping, optional
        See `training.demand.blend.Blend`.

    Returns
    -------
    Signal or None
        None where the history or the book is too short, or nothing helped.
    """
    steps = booked.shape[2]
    backs = [
        back for back in range(1, ORIGINS + 1)
        if len(booked) - back > FEWEST_TYPICAL + steps and len(panel.months) - back >= FEWEST_TYPICAL + steps
    ]  # fmt: skip
    if len(backs) < ORIGINS // 2:
        return None
    past = [_Past.at(back, booked, panel, calendar, cache) for back in backs]
    levels = tuple(dict.fromkeys(level))
    effect, width = np.zeros((len(levels), steps)), np.ones((len(levels), steps))
    for row, name in enumerate(levels):
        for step in range(steps):
            own = [moment.part(level == name, step) for moment in past if moment.back > step]
            newer, older = own[: len(own) // 2], own[len(own) // 2 + step :]
            learned = _fit(older)
            if newer and older and _loss(newer, *learned) < _loss(newer, 0.0, 1.0):
                effect[row, step], width[row, step] = _fit(own)
    return Signal(effect, width, levels) if effect.any() else None


@dataclass(frozen=True)
class _Past:
    """A forecast from a past moment, what the book said then, and what came; rows are nodes, columns steps."""

    back: int
    quantiles: Floats
    surprise: Floats
    actual: Floats
    unit: Floats

    @classmethod
    def at(cls, back: int, booked: Floats, panel: Panel, calendar: pd.DataFrame | None, cache: Cache | None) -> _Past:
        known = len(panel.months) - back
        steps = booked.shape[2]
        before = panel.until(known)
        quantiles = answer("structural", before, calendar, steps, cache=cache)
        actual = np.full((len(panel), steps), np.nan)
        came = panel.values[:, known : known + steps]
        actual[:, : came.shape[1]] = came
        surprise = surprises(booked[back:], before, quantiles[..., QUANTILES.index(0.5)])
        return cls(back, quantiles, surprise, actual, log_unit(before.values))

    def part(self, rows: NDArray[np.bool_], step: int) -> _Past:
        """One month ahead of some nodes, those whose month is known."""
        rows = rows & np.isfinite(self.actual[:, step]) & np.isfinite(self.quantiles[:, step]).all(axis=1)
        one = slice(step, step + 1)
        return _Past(
            self.back, self.quantiles[rows, one], self.surprise[rows, one], self.actual[rows, one], self.unit[rows]
        )

    @property
    def error(self) -> Floats:
        """Log of what came over the median, shape (n_nodes, 1)."""
        median = self.quantiles[..., QUANTILES.index(0.5)]
        return np.asarray(np.log(self.actual + self.unit[:, None]) - np.log(median + self.unit[:, None]))


def _fit(past: list[_Past]) -> tuple[float, float]:
    """Effect and width from several moments."""
    if not past:
        return 0.0, 1.0
    error = np.concatenate([moment.error for moment in past])
    surprise = np.concatenate([moment.surprise for moment in past])
    typical = (surprise**2).mean()
    if typical == 0:
        return 0.0, 1.0
    slope = (error * surprise).sum() / ((surprise**2).sum() + PRIOR_SURPRISES * typical)
    effect = float(np.clip(slope, 0.0, 1.0))  # a fuller book means no fewer visits, and no more than in proportion
    left, whole = ((error - effect * surprise) ** 2).sum(), (error**2).sum()
    return effect, float(np.clip(np.sqrt(left / whole), NARROWEST, 1.0)) if whole > 0 else 1.0


def _loss(past: list[_Past], effect: float, width: float) -> float:
    """Pinball loss of forecasts moved and narrowed."""
    told = Signal(np.full((1, 1), effect), np.full((1, 1), width), ("",))
    total = 0.0
    for moment in past:
        quantiles = told.applied(moment.quantiles, moment.surprise, np.full(len(moment.unit), ""), moment.unit)
        total += float(pinball(moment.actual, quantiles).sum())
    return total
