"""How wide: quantiles made wider or narrower until past forecasts would have held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from training.demand.accuracy import QUANTILES, pinball
from training.demand.panel import Floats

FACTORS = np.round(np.arange(0.6, 2.01, 0.05), 2)
STEP_BLOCKS = (3, 6)  # months 1-3, 4-6, 7 and later share a factor
FACTOR_CELLS = 100.0  # series-months at each origin at which a block's own factor counts half
UNIT_SHARE = 0.01  # of a series' mean, added before the logarithm so that a zero quantile stays finite


@dataclass(frozen=True)
class Window:
    """One rolling origin: what was forecast and what came; rows are series.

    Attributes
    ----------
    actual : ndarray of shape (n_series, horizon)
    scale : ndarray of shape (n_series,)
        Denominator of MASE.
    unit : ndarray of shape (n_series,)
        From `log_unit` of the training part.
    """

    actual: Floats
    scale: Floats
    unit: Floats


def log_unit(values: Floats) -> Floats:
    """What is added to a series before taking logarithms, shape (n_series,)."""
    known = np.isfinite(values)
    mean = np.where(known, values, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(mean > 0, UNIT_SHARE * mean, 1.0)


def widen(quantiles: Floats, factor: Floats | float, unit: Floats, levels: tuple[float, ...] = QUANTILES) -> Floats:
    """Stretch quantiles about their median on the log scale.

    Parameters
    ----------
    quantiles : ndarray of shape (n_series, horizon, n_levels)
    factor : float or ndarray of shape (n_series, horizon)
    unit : ndarray of shape (n_series,)
    """
    logs = np.log(np.maximum(quantiles, 0) + unit[:, None, None])
    centre = logs[..., [levels.index(0.5)]]
    stretched = np.exp(centre + np.asarray(factor)[..., None] * (logs - centre)) - unit[:, None, None]
    return np.asarray(np.maximum(stretched, 0.0))


def step_block(steps: int) -> NDArray[np.intp]:
    """Which block of months ahead each step belongs to, shape (steps,)."""
    return np.searchsorted(STEP_BLOCKS, np.arange(1, steps + 1), side="left")


def fit_factors(
    windows: Sequence[Window], forecasts: Sequence[Floats], groups: NDArray[np.object_]
) -> dict[tuple[object, int], float]:
    """The factor of each level of the hierarchy and block of months ahead.

    At every origin the factor with the least pinball loss; of these the median, so that one broken year (a level
    shift) does not make every interval wide. The fewer cells, the nearer to its level's factor, that to the factor of
    all, and that to 1.

    Parameters
    ----------
    windows, forecasts
        By origin; forecasts have the shape (n_series, horizon, n_levels), levels as in `QUANTILES`.
    groups : ndarray of shape (n_series,)
        Level of each series.

    Returns
    -------
    dict of (group, block) to float
    """
    blocks = step_block(forecasts[0].shape[1]) if forecasts else step_block(1)
    losses = [_losses(window, forecast) for window, forecast in zip(windows, forecasts, strict=True)]
    overall = _best(losses, 1.0)
    found = {}
    for group in sorted(set(groups), key=str):
        own = [loss[:, groups == group] for loss in losses]
        of_group = _best(own, overall)
        for block in range(len(STEP_BLOCKS) + 1):
            found[group, block] = _best([loss[:, :, blocks == block] for loss in own], of_group)
    return found


def factor_of(factors: dict[tuple[object, int], float], groups: NDArray[np.object_], horizon: int) -> Floats:
    """The factor of every series and month ahead, shape (n_series, horizon)."""
    return np.array([[factors.get((group, int(block)), 1.0) for block in step_block(horizon)] for group in groups])


def _losses(window: Window, forecast: Floats) -> Floats:
    """Scaled pinball loss under every factor, shape (n_factors, n_series, horizon)."""
    scale = np.where(np.isfinite(window.scale), window.scale, window.unit / UNIT_SHARE)[:, None]
    return np.stack([pinball(window.actual, widen(forecast, f, window.unit)) / scale for f in FACTORS])


def _best(losses: Sequence[Floats], otherwise: float) -> float:
    """The factor of some cells, shrunk on the log scale to `otherwise`."""
    best, cells = [], []
    for loss in losses:
        known = np.isfinite(loss[0])
        if known.any():
            best.append(FACTORS[loss[:, known].mean(axis=1).argmin()])
            cells.append(known.sum())
    if not best:
        return otherwise
    share = np.mean(cells) / (np.mean(cells) + FACTOR_CELLS)
    return float(otherwise * (np.median(best) / otherwise) ** share)


PRIOR_ALONG = 0.5  # correlation of neighbouring months where nothing is known: most error is in the level
PRIOR_CELLS = 50.0  # series-origins that the prior counts for


def fit_along(windows: Sequence[Window], forecasts: Sequence[Floats], horizon: int) -> Floats:
    """Correlation of a series' errors between months ahead, shape (horizon, horizon).

    From the errors of rolling origins, shrunk to a prior where these are few.
    """
    along = PRIOR_ALONG ** np.abs(np.subtract.outer(np.arange(horizon), np.arange(horizon)))
    errors = [normal_scores(window, forecast) for window, forecast in zip(windows, forecasts, strict=True)]
    complete = [error[np.isfinite(error).all(axis=1)] for error in errors]
    cells = sum(len(error) for error in complete)
    if cells < 2 or horizon == 1:
        return along
    stacked = np.vstack(complete)
    covariance = stacked.T @ stacked / cells + 1e-9 * np.eye(horizon)
    sd = np.sqrt(np.diag(covariance))
    share = cells / (cells + PRIOR_CELLS)
    return np.asarray(share * covariance / np.outer(sd, sd) + (1 - share) * along)


def normal_scores(window: Window, forecast: Floats) -> Floats:
    """Log errors in standard deviations of the forecast, shape (n_series, horizon)."""
    unit = window.unit[:, None]
    logs = np.log(np.maximum(forecast[..., [0, QUANTILES.index(0.5), -1]], 0) + unit[..., None])
    sd = (logs[..., 2] - logs[..., 0]) / (ndtri(QUANTILES[-1]) - ndtri(QUANTILES[0]))
    error = np.log(np.maximum(window.actual, 0) + unit) - logs[..., 1]
    scores = np.divide(error, sd, out=np.full_like(error, np.nan), where=sd > 1e-9)
    return np.asarray(np.clip(scores, -4, 4))
