"""One series at a time: seasonal naive, and the statistical methods of statsforecast."""

from __future__ import annotations

import warnings
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from scipy.special import ndtri

from training.demand.accuracy import QUANTILES
from training.demand.panel import MONTHS_A_YEAR, Floats, Panel

SHORTEST = 14  # months; below, statsforecast's methods raise or have no season to speak of


class SeasonalNaive:
    """The same month of the year before; its errors over the history give the width.

    A series of less than a year repeats its last month.
    """

    def fit(self, panel: Panel, calendar: pd.DataFrame | None = None) -> Self:
        """Take in a panel; a calendar is not used."""
        self.panel_ = panel
        return self

    def predict(self, horizon: int, quantiles: tuple[float, ...] = QUANTILES) -> Floats:
        """Quantiles of shape (n_series, horizon, n_levels); NaN for series without a month."""
        filled = pd.DataFrame(self.panel_.values).ffill(axis=1).to_numpy()
        period = np.where(np.isfinite(filled[:, -MONTHS_A_YEAR:]).sum(axis=1) == MONTHS_A_YEAR, MONTHS_A_YEAR, 1)
        found = np.empty((len(filled), horizon, len(quantiles)))
        for lag in (1, MONTHS_A_YEAR):
            rows = period == lag
            change = filled[rows, lag:] - filled[rows, :-lag]
            count = np.maximum(np.isfinite(change).sum(axis=1), 1)
            sd = np.sqrt(np.nansum(change**2, axis=1) / count)
            point = np.tile(filled[rows, -lag:], (1, -(-horizon // lag)))[:, :horizon]
            steps = np.sqrt(1 + np.arange(horizon) // lag)
            found[rows] = point[..., None] + (sd[:, None] * steps)[..., None] * ndtri(np.asarray(quantiles))
        return np.maximum(found, 0.0)


class EachSeries:
    """A method of statsforecast on every series by itself; where it cannot answer, the seasonal naive does.

    Parameters
    ----------
    method : {"theta", "ets"}
        Dynamic optimised theta (Fiorucci et al. 2016) or automatic exponential smoothing (Hyndman and Khandakar 2008).
    """

    def __init__(self, method: Literal["theta", "ets"]) -> None:
        self.method = method

    def fit(self, panel: Panel, calendar: pd.DataFrame | None = None) -> Self:
        """Take in a panel; a calendar is not used. The methods fit and predict in one go."""
        self.panel_ = panel
        return self

    def predict(self, horizon: int, quantiles: tuple[float, ...] = QUANTILES) -> Floats:
        """Quantiles of shape (n_series, horizon, n_levels), never below zero; NaN for series without a month.

        Levels are taken to half a percent, as the methods name their intervals by whole percents.
        """
        found = SeasonalNaive().fit(self.panel_).predict(horizon, quantiles)
        for row, values in enumerate(self.panel_.values):
            known = np.flatnonzero(np.isfinite(values))
            if len(known) < SHORTEST or np.ptp(values[known]) == 0:
                continue
            whole = np.interp(np.arange(known[0], len(values)), known, values[known])
            answer = _answer(_model(self.method), whole, horizon, quantiles)
            if answer is not None:
                found[row] = answer
        return np.maximum(found, 0.0)


def _model(method: str) -> Any:
    from statsforecast.models import AutoETS, DynamicOptimizedTheta  # takes a second to import

    return {"theta": DynamicOptimizedTheta, "ets": AutoETS}[method](season_length=MONTHS_A_YEAR)


def _answer(model: Any, values: Floats, horizon: int, quantiles: tuple[float, ...]) -> Floats | None:
    """One series' quantiles of shape (horizon, n_levels), or None where the method fails on it."""
    width = {level: round(abs(200 * level - 100)) for level in quantiles}  # of the central interval, in percent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            told = model.forecast(y=values, h=horizon, level=sorted({*width.values()} - {0}))
        except (ValueError, NotImplementedError, ZeroDivisionError, FloatingPointError, np.linalg.LinAlgError):
            return None
    names = [f"{'lo' if level < 0.5 else 'hi'}-{width[level]}" if width[level] else "mean" for level in quantiles]
    answer = np.column_stack([told[name] for name in names])
    return answer if np.isfinite(answer).all() else None
