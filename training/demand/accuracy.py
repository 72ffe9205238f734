"""How good a forecast is, as the forecasting benchmarks define it (fev, GIFT-Eval, Monash).

Arrays have the shape (n_series, horizon), quantile forecasts (n_series, horizon, n_levels).
Months without an actual value count nowhere.
"""

from __future__ import annotations

import numpy as np

from training.demand.panel import MONTHS_A_YEAR, Floats

QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def seasonal_scale(train: Floats) -> Floats:
    """Mean absolute change over twelve months of each series, the denominator of MASE.

    Parameters
    ----------
    train : ndarray of shape (n_series, n_months)
        The training part.

    Returns
    -------
    ndarray of shape (n_series,)
        NaN where there is no such change: too short, or the same every year.
    """
    change = np.abs(train[:, MONTHS_A_YEAR:] - train[:, :-MONTHS_A_YEAR])
    known = np.isfinite(change)
    total = np.where(known, change, 0).sum(axis=1)
    return np.where(total > 0, total / np.maximum(known.sum(axis=1), 1), np.nan)


def pinball(actual: Floats, quantiles: Floats, levels: tuple[float, ...] = QUANTILES) -> Floats:
    """Twice the pinball loss, averaged over the levels; shape (n_series, horizon)."""
    error = actual[..., None] - quantiles
    level = np.asarray(levels)
    return np.asarray((2 * np.maximum(level * error, (level - 1) * error)).mean(axis=-1))


def mase_by_series(actual: Floats, point: Floats, scale: Floats) -> Floats:
    """Mean absolute scaled error of each series (Hyndman and Koehler 2006); shape (n_series,)."""
    return np.asarray(_by_series(np.abs(actual - point)) / scale)


def accuracy(
    actual: Floats, quantiles: Floats, scale: Floats, levels: tuple[float, ...] = QUANTILES
) -> dict[str, float]:
    """All figures of one window.

    Parameters
    ----------
    actual : ndarray of shape (n_series, horizon)
        What happened; NaN where not known.
    quantiles : ndarray of shape (n_series, horizon, n_levels)
        What was forecast; .1, .5 and .9 have to be among `levels`.
    scale : ndarray of shape (n_series,)
        From `seasonal_scale` of the training part.

    Returns
    -------
    dict of str to float
        mase, sql (mean over series), wql, wape (weighted by volume), smape, bias (share of volume), coverage_80.
    """
    low, point, high = (quantiles[..., levels.index(level)] for level in (0.1, 0.5, 0.9))
    loss = pinball(actual, quantiles, levels)
    error = np.abs(actual - point)
    volume = np.nansum(np.abs(actual))
    size = np.abs(actual) + np.abs(point)
    inside = np.where(np.isfinite(actual), (actual >= low) & (actual <= high), np.nan)
    return {
        "mase": _mean(_by_series(error) / scale),
        "sql": _mean(_by_series(loss) / scale),
        "wql": _share(np.nansum(loss), volume),
        "wape": _share(np.nansum(error), volume),
        "smape": _mean(np.divide(2 * error, size, out=np.zeros_like(error), where=~(size == 0))),
        "bias": _share(np.nansum(point - actual), volume),
        "coverage_80": _mean(inside),
    }


def _by_series(values: Floats) -> Floats:
    """Mean of each row over what is known; NaN without a warning where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
