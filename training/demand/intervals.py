"""How wide: quantiles made wider or narrower until past forecasts would have held, and how errors hang together."""

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
FEWEST_CELLS = 100  # series-months at each origin from which a block has a factor of its own
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
    shift) does not make every interval wide. Blocks with few cells take the factor of all, which is 1 if that is
    few as well.

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
        for block in range(len(STEP_BLOCKS) + 1):
            cells = np.ix_(np.arange(len(FACTORS)), np.flatnonzero(groups == group), np.flatnonzero(blocks == block))
            found[group, block] = _best([loss[cells] for loss in losses], overall)
    return found


def factor_of(factors: dict[tuple[object, int], float], groups: NDArray[np.object_], horizon: int) -> Floats:
    """The factor of every series and month ahead, shape (n_series, horizon)."""
    return np.array([[factors.get((group, int(block)), 1.0) for block in step_block(horizon)] for group in groups])


def _losses(window: Window, forecast: Floats) -> Floats:
    """Scaled pinball loss under every factor, shape (n_factors, n_series, horizon)."""
    scale = np.where(np.isfinite(window.scale), window.scale, window.unit / UNIT_SHARE)[:, None]
    return np.stack([pinball(window.actual, widen(forecast, f, window.unit)) / scale for f in FACTORS])


def _best(losses: Sequence[Floats], otherwise: float) -> float:
    best = []
    for loss in losses:
        known = np.isfinite(loss[0])
        if known.sum() >= FEWEST_CELLS:
            best.append(FACTORS[loss[:, known].mean(axis=1).argmin()])
    return float(np.median(best)) if best else otherwise


@dataclass(frozen=True)
class Dependence:
    """How errors hang together, as a Gaussian copula.

    Attributes
    ----------
    between : float
        Correlation between two series in the same month.
    along : ndarray of shape (horizon, horizon)
        Correlation between months ahead of one series.
    """

    between: float
    along: Floats


PRIOR_ALONG = 0.5  # correlation of neighbouring months where nothing is known: most error is in the level
PRIOR_BETWEEN = 0.1
PRIOR_CELLS = 50.0  # series-origins that the priors count for


def fit_dependence(windows: Sequence[Window], forecasts: Sequence[Floats], horizon: int) -> Dependence:
    """Estimate the dependence from the errors of rolling origins, shrunk to a prior where these are few."""
    along = PRIOR_ALONG ** np.abs(np.subtract.outer(np.arange(horizon), np.arange(horizon)))
    errors = [normal_scores(window, forecast) for window, forecast in zip(windows, forecasts, strict=True)]
    complete = [error[np.isfinite(error).all(axis=1)] for error in errors]
    cells = sum(len(error) for error in complete)
    if cells < 2 or horizon == 1:
        return Dependence(PRIOR_BETWEEN, along)
    stacked = np.vstack(complete)
    covariance = stacked.T @ stacked / cells + 1e-9 * np.eye(horizon)
    sd = np.sqrt(np.diag(covariance))
    share = cells / (cells + PRIOR_CELLS)
    pairs = [
        ((e.sum(axis=0) ** 2 - (e**2).sum(axis=0)) / max(1, len(e) * (len(e) - 1))).mean()
        for e in complete
        if len(e) > 1
    ]
    between = float(np.mean(pairs) / (stacked**2).mean()) if pairs else PRIOR_BETWEEN
    return Dependence(
        float(np.clip(share * between + (1 - share) * PRIOR_BETWEEN, 0.0, 0.95)),
        share * covariance / np.outer(sd, sd) + (1 - share) * along,
    )


def normal_scores(window: Window, forecast: Floats) -> Floats:
    """Log errors in standard deviations of the forecast, shape (n_series, horizon)."""
    unit = window.unit[:, None]
    logs = np.log(np.maximum(forecast[..., [0, QUANTILES.index(0.5), -1]], 0) + unit[..., None])
    sd = (logs[..., 2] - logs[..., 0]) / (ndtri(QUANTILES[-1]) - ndtri(QUANTILES[0]))
    error = np.log(np.maximum(window.actual, 0) + unit) - logs[..., 1]
    scores = np.divide(error, sd, out=np.full_like(error, np.nan), where=sd > 1e-9)
    return np.asarray(np.clip(scores, -4, 4))


def sample_paths(
    quantiles: Floats, unit: Floats, dependence: Dependence, n_paths: int, seed: int,
    levels: tuple[float, ...] = QUANTILES,
) -> Floats:  # fmt: skip
    """Draw futures that every series shares, so that sums over series keep their spread.

    Parameters
    ----------
    quantiles : ndarray of shape (n_series, horizon, n_levels)
    unit : ndarray of shape (n_series,)

    Returns
    -------
    ndarray of shape (n_paths, n_series, horizon)
        Beyond the outermost levels the log quantiles go on as a normal distribution's.
    """
    rng = np.random.default_rng(seed)
    series, horizon, _ = quantiles.shape
    root = np.linalg.cholesky(dependence.along + 1e-9 * np.eye(horizon))
    shared = rng.standard_normal((n_paths, 1, horizon)) @ root.T
    score = rng.standard_normal((n_paths, series, horizon)) @ root.T
    score = np.sqrt(dependence.between) * shared + np.sqrt(1 - dependence.between) * score
    knots = ndtri(np.asarray(levels))
    logs = np.log(np.maximum(quantiles, 0) + unit[:, None, None])
    left = np.clip(np.searchsorted(knots, score) - 1, 0, len(knots) - 2)
    i, h = np.arange(series)[:, None], np.arange(horizon)
    low, high = logs[i, h, left], logs[i, h, left + 1]
    drawn = low + (high - low) * (score - knots[left]) / (knots[left + 1] - knots[left])
    return np.asarray(np.maximum(np.exp(drawn) - unit[:, None], 0.0))
