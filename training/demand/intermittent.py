"""Series with many zeros: whether anything happens, and how much if so (Cragg 1971, the hurdle model)."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from training.demand.panel import Floats

LARGEST_LOG = 100.0  # beyond any unit: three odd months may say anything, but not infinity
HALF_LIFE = 12  # months
PRIOR_MONTHS = 4.0  # what the panel's own share and spread count for


def hurdle_quantiles(values: Floats, past: Floats, future: Floats, quantiles: Floats) -> Floats:
    """Quantiles of intermittent series, newest months weighing most.

    The same for counts and money: no unit is assumed.

    Parameters
    ----------
    values : ndarray of shape (n_series, n_months)
        NaN where not known.
    past, future : ndarray of shape (n_months,), (horizon,)
        The panel's season and calendar effects on the log scale; they bear on how much, not on whether.
    quantiles : ndarray of shape (n_levels,)

    Returns
    -------
    ndarray of shape (n_series, horizon, n_levels)
    """
    known = np.isfinite(values)
    weight = known * 0.5 ** (np.arange(values.shape[1])[::-1] / HALF_LIFE)
    is_zero = values == 0
    panel_share = (weight * is_zero).sum() / weight.sum()
    mass = weight.sum(axis=1)
    zero = ((weight * is_zero).sum(axis=1) + PRIOR_MONTHS * panel_share) / (mass + PRIOR_MONTHS)
    weight = weight * ~is_zero
    size = np.log(np.where(values > 0, values, 1.0)) - past
    mass = weight.sum(axis=1)
    mean = (weight * size).sum(axis=1) / mass
    squares = (weight * (size - mean[:, None]) ** 2).sum(axis=1)
    panel_variance = squares.sum() / max(1.0, float((mass - 1).clip(min=0).sum()))
    variance = (squares + PRIOR_MONTHS * panel_variance) / (mass + PRIOR_MONTHS)
    sd = np.sqrt(variance * (1 + 1 / mass))
    beyond = (quantiles - zero[:, None]) / (1 - zero[:, None])  # level within the positive part
    normal = ndtri(np.clip(beyond, 1e-9, 1))[:, None, :]
    amount = np.exp(np.minimum(mean[:, None, None] + future[:, None] + sd[:, None, None] * normal, LARGEST_LOG))
    return np.where(beyond[:, None, :] > 0, amount, 0.0)
