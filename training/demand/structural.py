"""Pooled structural model: each series on its own evidence, the rest borrowed from the panel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import ndtr, ndtri
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from training.demand.accuracy import QUANTILES
from training.demand.common import common_effects, noise_law, shared_drift
from training.demand.intermittent import LARGEST_LOG, hurdle_quantiles
from training.demand.kernels import Kernels, candidates
from training.demand.kinds import Kind, prepare
from training.demand.panel import Floats, Panel, covariates_of

HISTORY = 120  # months; what is older says little about next year
EM_ROUNDS = 15
NEGLIGIBLE = 1e-4  # share of the panel's weight below which a composition is dropped
LEARNING_PATTERNS = 12  # patterns of known months, the most frequent ones, on which all compositions are weighed
DAMPING = 0.95  # of the growth that the panel shares, a month
STRATA, FEWEST_IN_STRATUM = 3, 20  # small, middling and large series have a prior of their own
OUT_OF_REACH = 6.0  # robust standard deviations
CHI_SQUARE_MEDIAN, NORMAL_MAD = 0.4549, 0.6745  # of a standard normal variable, squared; absolute
SMALLEST_VARIANCE = 1e-8
Rows = NDArray[np.intp]
BLAS = ThreadpoolController()  # held to one thread: with matrices this small, more would only wait for each other


class PooledStructural:
    """Empirical-Bayes structural model of the logarithms of monthly series.

    A log value is the panel's season and calendar effects, plus a Gaussian process of the series (level that wanders
    or reverts, own season, own calendar effect, trend; see `training.demand.kernels`), plus noise. Every series
    weighs all compositions by their marginal likelihood and by a prior that the panel learns (EM); its noise
    variance is shrunk to ``phi / mean + psi``, also learned. Compositions with a wandering and with a reverting level
    count half each. A month far from what the others say is pulled in before the final weighing.

    Intermittent series go to a hurdle model, series that stopped to zero, series without any month to NaN (see
    `training.demand.kinds`). Months not known are left out, not filled in: the cost grows by some .05 CPU seconds
    with every further pattern of known months.

    Parameters
    ----------
    prior_degrees : float
        How many months of evidence the panel's law of noise is worth.
    outlier : float
        Standard deviations from what the other months say, beyond which a month is pulled in.

    Attributes
    ----------
    common_ : CommonEffects
        Season and calendar effects of the panel; None where no series is regular.
    noise_law_ : tuple of float
        phi and psi.
    kinds_ : ndarray of Kind, shape (n_series,)
    regular_ : ndarray of int, shape (n_regular,)
        Positions of the series that the structural model speaks for.
    notes_ : tuple of (series, str)
        What was found in a series and how it was taken.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), sections 2.2, 5.4. Robbins (1956),
    An empirical Bayes approach to statistics.
    """

    def __init__(self, prior_degrees: float = 12.0, outlier: float = 1.5) -> None:
        self.prior_degrees = prior_degrees
        self.outlier = outlier

    def fit(self, panel: Panel, calendar: pd.DataFrame | None = None) -> Self:
        """Learn from a panel of one kind of quantity.

        Parameters
        ----------
        panel : Panel
            Do not mix units: visits with visits, revenue with revenue.
        calendar : pandas.DataFrame, optional
            One row per month (monthly periods), one column per covariate; it has to reach the last month forecast.
        """
        self._predicted: dict[int, tuple[Floats, Floats]] = {}
        recent = panel.months[-HISTORY:]
        prepared = prepare(panel)
        self.panel_, self.calendar_ = panel, calendar
        self.kinds_, self.notes_ = prepared.kind, prepared.notes
        self._values = prepared.values[:, -HISTORY:]
        self._month = np.asarray(recent.month, dtype=float) - 1
        self.regular_ = np.flatnonzero((self.kinds_ == Kind.REGULAR) & np.isfinite(self._values).any(axis=1))
        self._offset = prepared.offset[self.regular_]
        past = covariates_of(calendar, recent)
        y = self._values[self.regular_]
        if not len(y):
            self.common_, self.noise_law_ = None, (0.0, 0.0)
            return self
        z = np.log(y + self._offset[:, None])
        self._mean = np.nanmean(y, axis=1)
        self.noise_law_ = noise_law(*_first_variances(z), self._mean)
        z = _within_reach(z, np.sqrt(self._prior_variance()))
        self.common_ = common_effects(z, 1 / self._prior_variance(), self._month, past)
        self._past = self.common_.standardised(past)
        self._drift = shared_drift(z - self.common_.at(self._month, past), 1 / self._prior_variance())
        residual = z - self._effects(0)
        self._level = np.nanmedian(residual, axis=1)
        self._residual = residual - self._level[:, None]
        self._count = np.isfinite(z).sum(axis=1)
        with BLAS.limit(limits=1):
            self._learn()
        return self

    def predict(self, horizon: int, quantiles: tuple[float, ...] = QUANTILES) -> Floats:
        """Quantiles of the months after the last, shape (n_series, horizon, n_levels); NaN for empty series."""
        levels = np.asarray(quantiles)
        found = np.full((len(self.panel_), horizon, len(levels)), np.nan)
        found[self.kinds_ == Kind.STOPPED] = 0.0
        if len(self.regular_):
            mean, sd = self.predict_log(horizon)
            found[self.regular_] = self._on_scale(mean, sd, levels)
        sparse = np.flatnonzero(self.kinds_ == Kind.INTERMITTENT)
        if len(sparse):
            found[sparse] = hurdle_quantiles(self._values[sparse], self._effects(0), self._effects(horizon), levels)
        return found

    def predict_log(self, horizon: int) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the regular series' log values, each of shape (n_regular, horizon)."""
        if horizon not in self._predicted:
            with BLAS.limit(limits=1):
                self._predicted[horizon] = self._mixture(horizon)
        return self._predicted[horizon]

    def _mixture(self, horizon: int) -> tuple[Floats, Floats]:
        """Mean and standard deviation over all compositions."""
        steps = len(self._month)
        kernels = self._kernels(horizon)
        mean = np.zeros((len(self.regular_), horizon))
        square = np.zeros_like(mean)
        for rows, months in self._patterns():
            for k, root in self._roots(kernels, months):
                covariance = kernels.of(self._candidates[k])
                cross = solve_triangular(root, covariance[months, steps:], lower=True, check_finite=False)
                inner = solve_triangular(root, self._cleaned[np.ix_(rows, months)].T, lower=True, check_finite=False)
                centre = inner.T @ cross
                own = np.diag(covariance)[steps:] - (cross**2).sum(axis=0) + 1  # in units of the noise variance
                weight = self._weights[rows, k][:, None]
                mean[rows] += weight * centre
                square[rows] += weight * (self._variances[rows, k][:, None] * own + centre**2)
        sd = np.sqrt(np.maximum(square - mean**2, SMALLEST_VARIANCE))
        return mean + self._level[:, None] + self._effects(horizon), sd

    def residuals(self) -> Floats:
        """Log values of the regular series without the panel's effects, shape (n_regular, n_months)."""
        return self._residual + self._level[:, None] if len(self.regular_) else np.empty((0, len(self._month)))

    def around(self, centre: Floats, horizon: int, quantiles: tuple[float, ...], rows: Rows) -> Floats:
        """Quantiles of another model's medians, as wide as this model's.

        Parameters
        ----------
        centre : ndarray of shape (n_rows, horizon)
            On the scale of `residuals`.
        rows : ndarray of int, shape (n_rows,)
            Positions among the regular series.
        """
        _, sd = self.predict_log(horizon)
        whole = np.zeros_like(sd)
        whole[rows] = centre + self._effects(horizon)
        return self._on_scale(whole, sd, np.asarray(quantiles))[rows]

    def _on_scale(self, mean: Floats, sd: Floats, levels: Floats) -> Floats:
        """From log mean and standard deviation to quantiles in the panel's unit, never below zero."""
        value = (
            np.exp(np.minimum(mean[..., None] + sd[..., None] * ndtri(levels), LARGEST_LOG))
            - self._offset[:, None, None]
        )
        return np.asarray(np.maximum(value, 0.0))

    def _effects(self, horizon: int) -> Floats:
        """The panel's effects and drift over the history, or over `horizon` months after it; drift is 0 at its end."""
        months = self.panel_.future(horizon) if horizon else self.panel_.months[-HISTORY:]
        if self.common_ is None:
            return np.zeros(len(months))
        effects = self.common_.at(np.asarray(months.month, dtype=float) - 1, covariates_of(self.calendar_, months))
        steps = np.cumsum(DAMPING ** np.arange(1, horizon + 1)) if horizon else np.arange(1 - len(months), 1)
        return np.asarray(effects + self._drift * steps)

    def _prior_variance(self) -> Floats:
        phi, psi = self.noise_law_
        return np.asarray(np.maximum(phi / self._mean + psi, SMALLEST_VARIANCE))

    def _kernels(self, horizon: int = 0) -> Kernels:
        covariates = self._past
        if horizon and self.common_ is not None:
            future = covariates_of(self.calendar_, self.panel_.future(horizon))
            covariates = np.vstack([covariates, self.common_.standardised(future)])
        return Kernels(len(self._month) + horizon, int(self._month[0]), covariates)

    def _patterns(self) -> list[tuple[Rows, Rows]]:
        """Series that know the same months, with these months; the most frequent pattern first."""
        known = np.isfinite(self._residual)
        patterns, which, count = np.unique(known, axis=0, return_inverse=True, return_counts=True)
        return [(np.flatnonzero(which == p), np.flatnonzero(patterns[p])) for p in np.argsort(-count, kind="stable")]

    def _roots(self, kernels: Kernels, months: Rows) -> Iterator[tuple[int, Floats]]:
        """Cholesky factor over `months` of every composition still considered."""
        for k in self._active:
            within = kernels.of(self._candidates[k])[np.ix_(months, months)]
            yield int(k), np.asarray(np.linalg.cholesky(within + np.eye(len(months))), dtype=np.float64)

    def _learn(self) -> None:
        """Weigh the compositions on part of the panel, clean every series, weigh again on all."""
        self._candidates = candidates(with_covariates=self._past.shape[1] > 0)
        self._active = np.arange(len(self._candidates))
        strata = STRATA if len(self._mean) >= STRATA * FEWEST_IN_STRATUM else 1
        bounds = np.quantile(self._mean, np.arange(1, strata) / strata)
        self._stratum = np.asarray(np.searchsorted(bounds, self._mean))
        self._prior = np.ones((strata, len(self._candidates)))
        self._weights = np.zeros((len(self._residual), len(self._candidates)))
        self._reverts = np.array([c.reverting > 0 for c in self._candidates])
        self._cleaned, self._kept = self._residual, 1.0
        patterns = self._patterns()
        kernels = self._kernels()
        self._weigh(kernels, patterns[:LEARNING_PATTERNS])
        if len(patterns) > LEARNING_PATTERNS:
            self._weigh(kernels, patterns, rounds=0)
        self._clean(kernels, patterns)
        self._weigh(kernels, patterns)

    def _weigh(self, kernels: Kernels, patterns: list[tuple[Rows, Rows]], rounds: int = EM_ROUNDS) -> None:
        """Set each series' weight and noise variance of every composition; with rounds, relearn prior and noise."""
        rows = np.concatenate([series for series, _ in patterns])
        quadratic, determinant = self._fit_of_each(kernels, patterns)
        q, d = quadratic[rows], determinant[rows]
        count = self._count[rows] - 1.0  # one month's worth goes to the level
        stratum: Rows = self._stratum[rows]
        member = (stratum[:, None] == np.arange(len(self._prior))).astype(float)
        prior = self._prior[:, self._active]
        degrees = self.prior_degrees + count[:, None]
        reverts = self._reverts[self._active]
        for _ in range(rounds):
            own = self._prior_variance()[rows, None]
            evidence = -(d + degrees * np.log(self.prior_degrees * own + q)) / 2
            weight = _posterior(evidence, prior[stratum], reverts)
            prior = np.maximum(member.T @ weight / np.maximum(member.sum(axis=0), 1)[:, None], 1e-12)
            self.noise_law_ = noise_law((weight * q).sum(axis=1) / np.maximum(count, 1), count, self._mean[rows])
        keep = prior.max(axis=0) > NEGLIGIBLE
        q, d, prior, self._active = q[:, keep], d[:, keep], prior[:, keep], self._active[keep]
        own = self._prior_variance()[rows, None]
        evidence = -(d + degrees * np.log(self.prior_degrees * own + q)) / 2
        cells = np.ix_(rows, self._active)
        self._weights, self._variances = np.zeros_like(self._weights), np.zeros_like(self._weights)
        self._weights[cells] = _posterior(evidence, prior[stratum], reverts[keep])
        self._variances[cells] = (self.prior_degrees * own + q) / degrees
        self._prior[:, self._active] = prior

    def _fit_of_each(self, kernels: Kernels, patterns: list[tuple[Rows, Rows]]) -> tuple[Floats, Floats]:
        """Quadratic form and log determinant under every active composition, both (n_regular, n_active)."""
        quadratic = np.zeros((len(self._residual), len(self._active)))
        determinant = np.zeros_like(quadratic)
        for series, months in patterns:
            values = self._cleaned[np.ix_(series, months)].T
            for position, (_, root) in enumerate(self._roots(kernels, months)):
                inner = solve_triangular(root, values, lower=True, check_finite=False)
                quadratic[series, position] = (inner**2).sum(axis=0)
                determinant[series, position] = 2 * np.log(np.diag(root)).sum()
        return quadratic / self._kept, determinant

    def _clean(self, kernels: Kernels, patterns: list[tuple[Rows, Rows]]) -> None:
        """Pull in months that lie far from what all other months of the series say (leave one out)."""
        error, square = np.zeros_like(self._residual), np.zeros_like(self._residual)
        total = np.zeros_like(self._residual)
        for rows, months in patterns:
            cells = np.ix_(rows, months)
            for k, root in self._roots(kernels, months):
                half = solve_triangular(root, np.eye(len(months)), lower=True, check_finite=False)
                precision = half.T @ half
                missed = self._residual[cells] @ precision / np.diag(precision)
                weight = self._weights[rows, k][:, None]
                error[cells] += weight * missed
                square[cells] += weight * (self._variances[rows, k][:, None] / np.diag(precision) + missed**2)
                total[cells] += weight
        total = np.where(total > 0, total, 1.0)
        error /= total
        far = self.outlier * np.sqrt(np.maximum(square / total - error**2, 0.0))
        self._cleaned = self._residual - error + np.clip(error, -far, far)
        self._kept = _kept_variance(self.outlier)


def _posterior(evidence: Floats, prior: Floats, reverts: NDArray[np.bool_]) -> Floats:
    """Weights of the compositions, those that revert and those that wander counting half each."""
    score = evidence + np.log(prior)
    weight = np.empty_like(score)
    for half in (reverts, ~reverts):
        share = np.exp(score[:, half] - score[:, half].max(axis=1, keepdims=True))
        weight[:, half] = share / share.sum(axis=1, keepdims=True) / 2
    return weight


def _kept_variance(reach: float) -> float:
    """Variance of a standard normal variable pulled in to `reach`: by this the noise would be taken for too small."""
    density = np.exp(-(reach**2) / 2) / np.sqrt(2 * np.pi)
    return float(1 - 2 * reach * density - 2 * (1 - reach**2) * ndtr(-reach))


def _first_variances(z: Floats) -> tuple[Floats, Floats]:
    """Half the squared monthly change of each series (by its median), over how many; a first idea of its noise."""
    change = np.diff(z, axis=1) ** 2
    count = np.isfinite(change).sum(axis=1).astype(float)
    variance = np.zeros(len(z))
    some = count > 0
    variance[some] = np.nanmedian(change[some], axis=1) / CHI_SQUARE_MEDIAN / 2
    return variance, count


def _within_reach(z: Floats, sd: Floats) -> Floats:
    """Log values with slips of the pen (a factor of ten and more) pulled in before anything is learned from them."""
    centre = np.nanmedian(z, axis=1)[:, None]
    spread = np.nanmedian(np.abs(z - centre), axis=1) / NORMAL_MAD
    reach = OUT_OF_REACH * np.maximum(spread, sd)[:, None]
    return np.asarray(np.clip(z, centre - reach, centre + reach))
