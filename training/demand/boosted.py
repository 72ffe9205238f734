"""Boosted trees on monthly changes, free of season and calendar: what the panel's series have in common otherwise."""

from __future__ import annotations

from typing import Self

import lightgbm
import numpy as np
import pandas as pd

from training.demand.accuracy import QUANTILES
from training.demand.common import shrunken_seasons
from training.demand.panel import MONTHS_A_YEAR, Floats, Panel
from training.demand.structural import PooledStructural

LAGS = MONTHS_A_YEAR
FEWEST_ROWS = 200  # month-series pairs from which trees can learn anything
PARAMETERS = {
    "objective": "l2",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_child_samples": 50,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.8,
    "reg_lambda": 1.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


class BoostedDifferences:
    """LightGBM on log changes after season (shrunken) and calendar are taken out, forecast month by month.

    Good where trends and echoes are shared by many series; the panel's season, its calendar effects and the width
    of the intervals are the structural model's.

    Parameters
    ----------
    structural : PooledStructural, optional
        Fitted on the same panel; fitted here otherwise.
    rounds : int
        Number of trees.
    seed : int
    """

    def __init__(self, structural: PooledStructural | None = None, rounds: int = 150, seed: int = 7) -> None:
        self.structural = structural
        self.rounds = rounds
        self.seed = seed

    def fit(self, panel: Panel, calendar: pd.DataFrame | None = None) -> Self:
        """Learn from the regular series of a panel; see `PooledStructural.fit`."""
        base = self.structural or PooledStructural().fit(panel, calendar)
        self.base_, self.booster_ = base, None
        residual = base.residuals()
        self.rows_ = np.flatnonzero(np.isfinite(residual).sum(axis=1) > 1)
        if not len(self.rows_):
            return self
        month = np.asarray(panel.months[-residual.shape[1] :].month) - 1
        self._season = shrunken_seasons(residual[self.rows_], month)
        self._next_month = (month[-1] + 1) % MONTHS_A_YEAR
        filled = pd.DataFrame(residual[self.rows_] - self._season[:, month]).ffill(axis=1).to_numpy()
        self._course = filled
        change = np.diff(filled, axis=1)
        features = [_features(filled[:, : t + 1]) for t in range(LAGS, filled.shape[1] - 1)]
        target = change[:, LAGS:].T.ravel()
        usable = np.isfinite(target)
        if usable.sum() < FEWEST_ROWS:
            return self
        data = lightgbm.Dataset(np.vstack(features)[usable], target[usable], free_raw_data=True)
        self.booster_ = lightgbm.train({**PARAMETERS, "seed": self.seed}, data, self.rounds)
        return self

    def predict(self, horizon: int, quantiles: tuple[float, ...] = QUANTILES) -> Floats:
        """Quantiles of shape (n_series, horizon, n_levels); NaN for series that it has nothing to say about."""
        found = np.full((len(self.base_.panel_), horizon, len(quantiles)), np.nan)
        if self.booster_ is None:
            return found
        course = self._course
        for _ in range(horizon):
            step = self.booster_.predict(_features(course), num_threads=1)
            course = np.column_stack([course, course[:, -1] + step])
        month = (self._next_month + np.arange(horizon)) % MONTHS_A_YEAR
        mean = course[:, -horizon:] + self._season[:, month]
        found[self.base_.regular_[self.rows_]] = self.base_.around(mean, horizon, quantiles, self.rows_)
        return found


def _features(course: Floats) -> Floats:
    """What is known at the last month of `course`: the last changes, and how far it is from its recent means."""
    recent = course[:, -LAGS - 1 :]
    if recent.shape[1] < LAGS + 1:
        gap = np.full((len(course), LAGS + 1 - recent.shape[1]), np.nan)
        recent = np.column_stack([gap, recent])
    change = np.diff(recent, axis=1)
    last = recent[:, -1:]
    means = [last[:, 0] - recent[:, -window:].mean(axis=1) for window in (3, 6, 12)]
    return np.column_stack([change, *means, last[:, 0] - recent[:, 0], change.std(axis=1)])
