"""Futures of the bottom series, drawn together so that sums spread as widely as their own forecasts say."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls
from scipy.special import ndtri

from training.demand.accuracy import QUANTILES
from training.demand.coherence import node_mean, node_variance
from training.demand.hierarchy import Hierarchy
from training.demand.panel import Floats

MOST_SHARED = 0.95  # of a score's variance
LARGEST_SHIFT = 4.0  # factor by which sums may move a bottom series' forecast


def bottom_futures(
    hierarchy: Hierarchy, quantiles: Floats, unit: Floats, mapping: Floats, along: Floats, n_paths: int, seed: int
) -> Floats:
    """Draw futures whose sums are coherent by construction.

    A bottom series keeps the shape of its own forecast, moved to its coherent mean. Its errors are in part those of
    the whole practice, of its clinic and of its service line (a Gaussian copula with these factors); how much of
    them is what gives the sums the spread of their own, calibrated forecasts.

    Parameters
    ----------
    hierarchy : Hierarchy
    quantiles : ndarray of shape (n_nodes, horizon, 9)
        All nodes' own forecasts.
    unit : ndarray of shape (n_nodes,)
        Added before logarithms.
    mapping : ndarray of shape (n_bottom, n_nodes)
        From `training.demand.coherence.to_bottom`.
    along : ndarray of shape (horizon, horizon)
        Correlation of a series' errors between months ahead.
    n_paths, seed : int

    Returns
    -------
    ndarray of shape (n_paths, n_bottom, horizon)
    """
    own = hierarchy.bottom.index.to_numpy()
    mean = node_mean(quantiles)
    coherent = np.maximum(mapping @ mean, 0.0)
    shift = np.divide(coherent, mean[own], out=np.ones_like(coherent), where=mean[own] > 0)
    moved = quantiles[own] * np.clip(shift, 1 / LARGEST_SHIFT, LARGEST_SHIFT)[..., None]
    shares = shared_errors(hierarchy, node_variance(quantiles))
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(along + 1e-9 * np.eye(len(along)))
    scores = np.zeros((n_paths, len(own), len(along)))
    for share, group in zip(shares, _factors(hierarchy), strict=True):
        drawn = rng.standard_normal((n_paths, int(group.max()) + 1, len(along))) @ root.T
        scores += np.sqrt(share) * drawn[:, group]
    alone = rng.standard_normal(scores.shape) @ root.T
    return from_scores(moved, unit[own], scores + np.sqrt(1 - shares.sum(axis=0)) * alone)


def shared_errors(hierarchy: Hierarchy, variance: Floats) -> Floats:
    """Share of a bottom series' error that is the practice's, its clinic's and its line's, by month ahead.

    Least squares, none below zero, of what the sums' variances have beyond those of their parts; every level weighs
    the same.

    Parameters
    ----------
    hierarchy : Hierarchy
    variance : ndarray of shape (n_nodes, horizon)

    Returns
    -------
    ndarray of shape (3, horizon)
    """
    level = hierarchy.nodes["level"].to_numpy()
    sums = np.flatnonzero(hierarchy.summing.sum(axis=1) > 1)
    same = [group[:, None] == group for group in _factors(hierarchy)]
    found = np.zeros((len(same), variance.shape[1]))
    if not len(sums):
        return found
    per_level = np.array([(level[sums] == name).sum() for name in level[sums]])
    for step in range(variance.shape[1]):
        sd = np.sqrt(variance[-hierarchy.summing.shape[1] :, step])
        products = np.outer(sd, sd) * (1 - np.eye(len(sd)))
        parts = hierarchy.summing[sums]
        design = np.column_stack([np.einsum("ni,ij,nj->n", parts, products * one, parts) for one in same])
        beyond = variance[sums, step] - parts @ sd**2
        weight = 1 / (np.maximum(variance[sums, step], 1e-12) * np.sqrt(per_level))
        share = nnls(design * weight[:, None], beyond * weight)[0]
        found[:, step] = share * min(1.0, MOST_SHARED / max(share.sum(), 1e-12))
    return found


def from_scores(quantiles: Floats, unit: Floats, scores: Floats) -> Floats:
    """Values at normal scores, shape (n_paths, n_series, horizon).

    Beyond the outermost levels the log quantiles go on as a normal distribution's.
    """
    knots = ndtri(np.asarray(QUANTILES))
    logs = np.log(np.maximum(quantiles, 0) + unit[:, None, None])
    left = np.clip(np.searchsorted(knots, scores) - 1, 0, len(knots) - 2)
    i, h = np.arange(quantiles.shape[0])[:, None], np.arange(quantiles.shape[1])
    low, high = logs[i, h, left], logs[i, h, left + 1]
    drawn = low + (high - low) * (scores - knots[left]) / (knots[left + 1] - knots[left])
    return np.asarray(np.maximum(np.exp(drawn) - unit[:, None], 0.0))


def _factors(hierarchy: Hierarchy) -> list[np.ndarray]:
    """Which practice (one), clinic and service line each bottom series belongs to."""
    bottom = hierarchy.bottom
    groups = [np.unique(bottom[key], return_inverse=True)[1] for key in ("clinic", "service_line")]
    return [np.zeros(len(bottom), dtype=np.intp), *groups]
