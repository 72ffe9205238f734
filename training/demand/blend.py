"""Several models' forecasts in one, weighed by how they would have done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, MutableMapping, Sequence
from itertools import product
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.demand.accuracy import QUANTILES, pinball, seasonal_scale
from training.demand.boosted import BoostedDifferences
from training.demand.intervals import (
    Window,
    factor_of,
    fit_along,
    fit_factors,
    log_unit,
    widen,
)
from training.demand.panel import Floats, Panel
from training.demand.peers import EachSeries, SeasonalNaive
from training.demand.structural import PooledStructural

MEMBERS = ("structural", "boosted", "theta")
BY_THEMSELVES = {"theta", "ets"}  # cost a fit per series: cross-validated on part of the panel
CV_SERIES = 200
ORIGINS = 5
SHORTEST_TRAINING = 14  # months before the first rolling origin: one change over a year
GRID = 10  # weights are tenths
Cache = MutableMapping[str, Floats]


class Blend:
    """Weighted mean of the members' log quantiles, weights and widths from rolling origins within the history.

    Weights minimise the pinball loss (mean of the scaled and of the volume-weighted one, each relative to the first
    member's) over up to five origins, half a horizon apart. They are used only if, chosen without an origin, they
    did better at it than the best single member, over all origins; otherwise that member speaks alone. So a blend
    that only fits its past is not taken for better. With a single origin or none, the first member speaks.

    Parameters
    ----------
    members : tuple of str
        Of structural, boosted, theta, ets, seasonal_naive; the first also speaks where another has no answer.
    groups : sequence, optional
        Level of each series (practice, clinic, ...); widths are fitted by level.
    cache : mutable mapping, optional
        Forecasts of members at past origins, to be used again by later fits on the same history.

    Attributes
    ----------
    weights_ : dict of str to float
    factors_ : dict of (level, block of months ahead) to float
        By how much quantiles are stretched.
    along_ : ndarray of shape (horizon, horizon)
        Correlation of a series' errors between months ahead.
    origins_ : tuple of int
        Months in the training part of each rolling origin.
    loss_ : dict of str to float
        Loss of each member and of the blend (``"blend"``, chosen without the origin it is judged at); the first
        member's is 1. Empty where nothing was compared.
    """

    def __init__(
        self,
        members: tuple[str, ...] = MEMBERS,
        groups: Sequence[object] | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.members = members
        self.groups = groups
        self.cache = cache

    def fit(self, panel: Panel, calendar: pd.DataFrame | None = None, horizon: int = 12) -> Self:
        """Choose weights and widths for forecasts of `horizon` months; see `PooledStructural.fit`."""
        self.panel_, self.calendar_ = panel, calendar
        self.groups_ = np.empty(len(panel), dtype=object)
        self.groups_[:] = "all" if self.groups is None else list(self.groups)
        rows = _sample(len(panel))
        self.origins_ = rolling_origins(len(panel.months), horizon)
        judged = rows if len(self.members) > 1 and set(self.members) & BY_THEMSELVES else np.arange(len(panel))
        windows, answers = [], []
        for origin in self.origins_:
            past = panel.until(origin)
            actual = panel.values[:, origin : origin + horizon]
            window = Window(actual, seasonal_scale(past.values), log_unit(past.values))
            found = self._answers(self.members, past, horizon, QUANTILES, judged)
            windows.append(Window(*(part[judged] for part in (window.actual, window.scale, window.unit))))
            answers.append({name: quantiles[judged] for name, quantiles in found.items()})
        self.weights_, self.loss_ = choose_weights(windows, answers, self.members)
        blended = [combine(answer, self.weights_, w.unit) for answer, w in zip(answers, windows, strict=True)]
        self.factors_ = fit_factors(windows, blended, self.groups_[judged])
        wide = [
            widen(b, factor_of(self.factors_, self.groups_[judged], horizon), w.unit)
            for b, w in zip(blended, windows, strict=True)
        ]
        self.along_ = fit_along(windows, wide, horizon)
        return self

    def predict(self, horizon: int = 12, quantiles: tuple[float, ...] = QUANTILES) -> Floats:
        """Quantiles of shape (n_series, horizon, n_levels), never below zero; NaN for series without any month."""
        unit = log_unit(self.panel_.values)
        levels = quantiles if 0.5 in quantiles else (*quantiles, 0.5)
        used = tuple(name for name in self.members if self.weights_[name] > 0)
        names = used if self.members[0] in used else (self.members[0], *used)
        answers = self._answers(names, self.panel_, horizon, levels, np.arange(len(self.panel_)))
        blended = combine(answers, self.weights_, unit)
        wide = widen(blended, factor_of(self.factors_, self.groups_, horizon), unit, levels)
        return wide[..., : len(quantiles)]

    def _answers(
        self, names: tuple[str, ...], panel: Panel, horizon: int, levels: tuple[float, ...], rows: NDArray[np.intp]
    ) -> dict[str, Floats]:
        """Every member's quantiles, the first member's where one has none; costly ones for `rows` alone."""
        found: dict[str, Floats] = {}
        structural: list[PooledStructural] = []
        for name in names:
            few = rows if name in BY_THEMSELVES else np.arange(len(panel))
            known = answer(name, panel, self.calendar_, horizon, levels, few, self.cache, structural)
            found[name] = np.where(np.isfinite(known), known, found[names[0]]) if found else known
        return found


def answer(
    name: str,
    panel: Panel,
    calendar: pd.DataFrame | None,
    horizon: int,
    levels: tuple[float, ...] = QUANTILES,
    rows: NDArray[np.intp] | None = None,
    cache: Cache | None = None,
    structural: list[PooledStructural] | None = None,
) -> Floats:
    """A member's quantiles, shape (n_series, horizon, n_levels), taken from the cache where they are there.

    Parameters
    ----------
    rows : ndarray of int, optional
        Series asked for; the others are NaN. All by default.
    structural : list, optional
        Holds the structural model fitted on `panel`, once it is.
    """
    few = np.arange(len(panel)) if rows is None else rows
    key = f"{_fingerprint(panel, calendar, horizon, levels)}-{name}-{len(few)}" if cache is not None else ""
    known = None if cache is None else cache.get(key)
    if known is None:
        known = np.full((len(panel), horizon, len(levels)), np.nan)
        model = fitted(name, panel.take(few), calendar, [] if structural is None else structural)
        known[few] = model.predict(horizon, levels)
        if cache is not None:
            cache[key] = known
    return known


Forecaster = PooledStructural | BoostedDifferences | EachSeries | SeasonalNaive


def fitted(name: str, panel: Panel, calendar: pd.DataFrame | None, structural: list[PooledStructural]) -> Forecaster:
    """The member, fitted; the structural model is fitted once for all that need it."""
    if name in ("structural", "boosted") and not structural:
        structural.append(PooledStructural().fit(panel, calendar))
    if name == "structural":
        return structural[0]
    if name == "boosted":
        return BoostedDifferences(structural[0]).fit(panel, calendar)
    if name == "theta":
        return EachSeries("theta").fit(panel)
    if name == "ets":
        return EachSeries("ets").fit(panel)
    if name == "seasonal_naive":
        return SeasonalNaive().fit(panel)
    raise ValueError(f"Expected one of structural, boosted, theta, ets, seasonal_naive; got {name!r}.")


def rolling_origins(months: int, horizon: int) -> tuple[int, ...]:
    """Lengths of the training part at each origin, ascending; the last leaves just `horizon` months."""
    step = max(1, horizon // 2)
    found = [months - horizon - step * back for back in range(ORIGINS)]
    return tuple(origin for origin in reversed(found) if origin >= SHORTEST_TRAINING)


def combine(answers: dict[str, Floats], weights: dict[str, float], unit: Floats) -> Floats:
    """Weighted geometric mean of the members' quantiles."""
    used = [name for name in answers if weights[name] > 0]
    if len(used) == 1:
        return answers[used[0]]
    logs = [weights[name] * np.log(answers[name] + unit[:, None, None]) for name in used]
    return np.asarray(np.maximum(np.exp(np.sum(logs, axis=0)) - unit[:, None, None], 0.0))


def choose_weights(
    windows: Sequence[Window], answers: Sequence[dict[str, Floats]], members: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, float]]:
    """Weights, and the losses that they rest on; see `Blend`."""
    first = {name: float(name == members[0]) for name in members}
    if len(members) == 1 or len(windows) < 2:
        return first, {}
    grid = list(_simplex(len(members)))
    loss = np.array([_losses(window, answer, members, grid) for window, answer in zip(windows, answers, strict=True)])
    loss = loss / loss[:, [grid.index(tuple(first.values()))]]
    total = loss.sum(axis=0)
    held_out = np.mean([row[(total - row).argmin()] for row in loss])  # chosen at the other origins
    alone = {name: total[grid.index(tuple(float(other == name) for other in members))] for name in members}
    best = min(alone, key=lambda name: alone[name])
    losses = {name: float(value / len(loss)) for name, value in alone.items()} | {"blend": float(held_out)}
    chosen = grid[int(total.argmin())]
    if losses["blend"] >= losses[best]:
        chosen = tuple(float(name == best) for name in members)
    return dict(zip(members, chosen, strict=True)), losses


def _losses(
    window: Window, answer: dict[str, Floats], members: tuple[str, ...], grid: list[tuple[float, ...]]
) -> list[float]:
    """Loss of every candidate at one origin: scaled and volume-weighted pinball, both per cell relative to the mean."""
    scale = np.where(np.isfinite(window.scale), window.scale, np.nanmean(window.scale) if len(window.scale) else 1.0)
    size = np.nanmean(window.actual)
    found = []
    for weights in grid:
        blended = combine(answer, dict(zip(members, weights, strict=True)), window.unit)
        loss = pinball(window.actual, blended)
        found.append(float(np.nanmean(loss / scale[:, None]) + np.nanmean(loss) / size))
    return found


def _simplex(members: int) -> Iterator[tuple[float, ...]]:
    for parts in product(range(GRID + 1), repeat=members):
        if sum(parts) == GRID:
            yield tuple(part / GRID for part in parts)


def _sample(series: int) -> NDArray[np.intp]:
    """At most `CV_SERIES` series, spread evenly over the panel."""
    return np.unique(np.linspace(0, series - 1, min(series, CV_SERIES)).astype(np.intp))


def _fingerprint(panel: Panel, calendar: pd.DataFrame | None, horizon: int, levels: tuple[float, ...]) -> str:
    digest = hashlib.blake2b(np.ascontiguousarray(panel.values).tobytes(), digest_size=16)
    digest.update(f"{panel.months[0]} {panel.months[-1]} {horizon} {levels}".encode())
    if calendar is not None:
        within = calendar.reindex(panel.months.append(panel.future(horizon)))
        digest.update(f"{list(calendar.columns)}".encode() + np.ascontiguousarray(within.to_numpy(float)).tobytes())
    return digest.hexdigest()
