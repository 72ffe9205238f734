"""Forecasts of parts and sums made to agree, future by future."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from training.demand.accuracy import QUANTILES
from training.demand.backtest import Method
from training.demand.blend import rolling_origins
from training.demand.panel import Floats, Panel

Rule = Literal["bottom_up", "wls_var"]
RULES: tuple[Rule, ...] = ("bottom_up", "wls_var")
CV_ORIGINS = 3
SMALLEST_VARIANCE = 1e-6
NORMAL_BAND = 2.563  # standard deviations in a normal 80 % band


def to_bottom(rule: Rule, summing: Floats, variance: Floats) -> Floats:
    """The linear map from forecasts of all nodes to coherent ones of the bottom.

    Parameters
    ----------
    rule : {"bottom_up", "wls_var"}
        Take the bottom's own forecasts, or weigh every node's by its precision (Wickramasuriya et al. 2019, with a
        diagonal matrix of error variances).
    summing : ndarray of shape (n_nodes, n_bottom)
        The last n_bottom rows are the identity.
    variance : ndarray of shape (n_nodes,)
        Of the nodes' forecast errors; not used by bottom_up.

    Returns
    -------
    ndarray of shape (n_bottom, n_nodes)
    """
    bottom = summing.shape[1]
    if rule == "bottom_up":
        return np.hstack([np.zeros((bottom, len(summing) - bottom)), np.eye(bottom)])
    precision = 1 / np.maximum(variance, SMALLEST_VARIANCE)
    weighted = summing.T * precision
    return np.asarray(np.linalg.solve(weighted @ summing, weighted))


def node_mean(quantiles: Floats) -> Floats:
    """Mean of nine evenly spaced quantiles: medians do not sum up, means do; shape (n_nodes, horizon)."""
    return np.asarray(quantiles.mean(axis=-1))


def node_variance(quantiles: Floats, levels: tuple[float, ...] = QUANTILES) -> Floats:
    """Error variance of each node and month from the spread of its forecast; shape (n_nodes, horizon)."""
    width = quantiles[..., levels.index(0.9)] - quantiles[..., levels.index(0.1)]
    return np.asarray(np.nan_to_num((width / NORMAL_BAND) ** 2))


def error_variance(quantiles: Floats, levels: tuple[float, ...] = QUANTILES) -> Floats:
    """Each node's error variance, mean over the months; shape (n_nodes,)."""
    return np.asarray(node_variance(quantiles, levels).mean(axis=1))


def path_quantiles(paths: Floats, levels: Sequence[float] = QUANTILES) -> Floats:
    """Quantiles over futures, shape (n_nodes, horizon, n_levels)."""
    return np.asarray(np.moveaxis(np.quantile(paths, levels, axis=0), 0, -1))


def choose_rule(
    panel: Panel, summing: Floats, method: Method, calendar: pd.DataFrame | None, horizon: int
) -> tuple[Rule, dict[str, float]]:
    """Choose by rolling origins within the history.

    wls_var is taken if its error, as a share of volume and averaged over the nodes' volumes, is below bottom-up's
    and that of the grand total is no worse.

    Returns
    -------
    tuple of rule and dict of str to float
        The errors: ``bottom_up``, ``wls_var`` and both with ``_total``. Empty where the history is too short.
    """
    wrong = {rule: np.zeros(2) for rule in RULES}
    volume = np.zeros(2)
    for origin in rolling_origins(len(panel.months), horizon)[-CV_ORIGINS:]:
        past, actual = panel.until(origin), panel.values[:, origin : origin + horizon]
        quantiles = np.nan_to_num(method(past, calendar, horizon))
        mean = node_mean(quantiles)
        for rule in RULES:
            told = summing @ np.maximum(to_bottom(rule, summing, error_variance(quantiles)) @ mean, 0)
            error = np.abs(told - actual)
            wrong[rule] += [np.nansum(error), np.nansum(error[0])]
        volume += [np.nansum(actual), np.nansum(actual[0])]
    if not volume.all():
        return "bottom_up", {}
    shares = {rule: wrong[rule] / volume for rule in RULES}
    is_better = shares["wls_var"][0] < shares["bottom_up"][0] and shares["wls_var"][1] <= shares["bottom_up"][1]
    told_of: dict[str, float] = {name: float(share[0]) for name, share in shares.items()}
    told_of |= {f"{name}_total": float(share[1]) for name, share in shares.items()}
    return ("wls_var" if is_better else "bottom_up"), told_of
