"""What all series of a panel share: the season, the effect of working days and holidays, the size of the noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from training.demand.panel import MONTHS_A_YEAR, Floats

ROUNDS = 12
SEASON_SD = 0.5  # log scale; wide, so that a year of data speaks for itself and two months stay near flat
EFFECT_SD = 0.1  # log change for one standard deviation of a covariate
TREND_SD = 1.0  # log change from the middle of the history to its end
NOISE_UNKNOWN = 0.01  # log variance beyond counting noise, where no series has two months
DRIFT_YEARS, FEWEST_DRIFT_YEARS = 5, 2  # whole years whose growth counts; from which there is one
DRIFT_LOOK_BACK = 36  # months in which growth has to have helped
DRIFT_SD, DRIFT_PRIOR = 0.05, 2.0  # yearly growth differs by about this from year to year; counts for two years
START_NOISE = 0.05  # log scale, of the panel's mean; replaced by what is found


@dataclass(frozen=True)
class CommonEffects:
    """Pooled effects on the log scale.

    Attributes
    ----------
    season : ndarray of shape (12,)
        By month of the year, mean zero.
    coefficients : ndarray of shape (n_covariates,)
        For one unit of each covariate, measured from `centre`.
    centre, spread : ndarray of shape (n_covariates,)
        Mean and standard deviation of the covariates over the history.
    """

    season: Floats
    coefficients: Floats
    centre: Floats
    spread: Floats

    def standardised(self, covariates: Floats) -> Floats:
        """Covariates in standard deviations from the mean of the history."""
        return np.asarray((covariates - self.centre) / self.spread)

    def at(self, month: Floats, covariates: Floats) -> Floats:
        """Their sum in months of the year `month` (0 for January) with `covariates`, shape (n_months,)."""
        effects = self.standardised(covariates) @ (self.coefficients * self.spread)
        return np.asarray(self.season[month.astype(int)] + effects)


def common_effects(z: Floats, weight: Floats, month: Floats, covariates: Floats) -> CommonEffects:
    """Estimate what a panel shares, by ridge regression of its mean month.

    Parameters
    ----------
    z : ndarray of shape (n_series, n_months)
        Log values; NaN where not known.
    weight : ndarray of shape (n_series,)
        Precision of a month of each series.
    month : ndarray of shape (n_months,)
        Month of the year, 0 for January.
    covariates : ndarray of shape (n_months, n_covariates)
        Working days and the like.

    Notes
    -----
    A normal prior on every effect takes the place of dummy variables, so that Januaries and the Spring Festival in
    them stay apart with less than four years, and two months of history do not fail.
    """
    course, precision = panel_course(z, weight)
    centre = covariates.mean(axis=0)
    spread = covariates.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    standard = (covariates - centre) / spread
    t = np.linspace(-1, 1, len(month)) if len(month) > 1 else np.zeros(1)
    dummies = (month[:, None] == np.arange(MONTHS_A_YEAR)).astype(float)
    design = np.column_stack([np.ones(len(month)), t, t**2, dummies, standard])
    prior_sd = np.array([1e3, TREND_SD, TREND_SD, *[SEASON_SD] * MONTHS_A_YEAR, *[EFFECT_SD] * standard.shape[1]])
    known = precision > 0
    noise = START_NOISE**2
    share = precision / precision.max()
    effects = np.zeros(design.shape[1])
    for _ in range(5):
        normal = design.T @ (share[:, None] * design) / noise
        inverse = np.linalg.inv(normal + np.diag(prior_sd**-2))
        effects = inverse @ design.T @ (share * course) / noise
        left = max(1.0, known.sum() - np.trace(inverse @ normal))
        noise = max(1e-6, float(share @ (course - design @ effects) ** 2) / left)
    season, slopes = effects[3 : 3 + MONTHS_A_YEAR], effects[3 + MONTHS_A_YEAR :]
    return CommonEffects(season - season.mean(), slopes / spread, centre, spread)


def panel_course(z: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """The panel's mean month after month, free of who is in it, and its precision; both of shape (n_months,).

    Two-way effects by alternating weighted means: a large clinic that opens does not look like growth.
    """
    known = np.isfinite(z)
    filled = np.where(known, z, 0.0)
    mass = known * weight[:, None]
    precision = mass.sum(axis=0)
    course = np.zeros(z.shape[1])
    for _ in range(1 if known.all() else ROUNDS):
        level = (filled - known * course).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        course = (mass * (filled - level[:, None])).sum(axis=0) / np.where(precision > 0, precision, 1)
        course -= course[precision > 0].mean()
    return np.where(precision > 0, course, 0.0), precision


def shared_drift(residual: Floats, weight: Floats) -> float:
    """Growth a month that the panel shares (log scale), pulled towards none where its years disagree.

    None as well where growth found the same way at earlier moments would not have brought the forecast of the
    panel's next year nearer.

    Parameters
    ----------
    residual : ndarray of shape (n_series, n_months)
        Log values without the common effects; NaN where not known.
    weight : ndarray of shape (n_series,)
        Precision of a month of each series.
    """
    course, precision = panel_course(residual, weight)
    if not (precision > 0).all():
        return 0.0
    flat, growing = 0.0, 0.0
    for back in range(MONTHS_A_YEAR, DRIFT_LOOK_BACK + 1, MONTHS_A_YEAR // 2):
        known = len(course) - back
        if known < FEWEST_DRIFT_YEARS * MONTHS_A_YEAR:
            break
        missed = course[known : known + MONTHS_A_YEAR].mean() - course[known - MONTHS_A_YEAR : known].mean()
        flat += missed**2
        growing += (missed - MONTHS_A_YEAR * _growth(course[:known])) ** 2
    return _growth(course) if growing < flat else 0.0


def _growth(course: Floats) -> float:
    """Mean change between whole years, a month, shrunk by how much the changes differ (James and Stein 1961)."""
    years = min(len(course) // MONTHS_A_YEAR, DRIFT_YEARS)
    if years < FEWEST_DRIFT_YEARS:
        return 0.0
    change = np.diff(course[len(course) - years * MONTHS_A_YEAR :].reshape(years, MONTHS_A_YEAR).mean(axis=1))
    growth = change.mean()
    spread = (((change - growth) ** 2).sum() + DRIFT_PRIOR * DRIFT_SD**2) / (len(change) - 1 + DRIFT_PRIOR)
    doubt = spread / (len(change) * growth**2) if growth else 1.0
    return float(growth * max(0.0, 1 - doubt) / MONTHS_A_YEAR)


def noise_law(variance: Floats, evidence: Floats, mean: Floats) -> tuple[float, float]:
    """Fit variance = phi / mean + psi by the gamma likelihood.

    Counts vary the more, on the log scale, the smaller they are; psi is what stays for large ones.

    Parameters
    ----------
    variance, evidence, mean : ndarray of shape (n_series,)
        Noise variance on the log scale, the number of months it rests on, and the mean month.

    Returns
    -------
    tuple of float
        phi and psi, neither below zero.
    """
    if not evidence.any():
        return 1.0, NOISE_UNKNOWN
    design = np.column_stack([mean.mean() / mean, np.ones(len(mean))])
    fitted = np.maximum(variance, variance.mean() / 10 + 1e-8)
    phi, psi = 0.0, 0.0
    for _ in range(20):
        weighted = design * (evidence / fitted**2)[:, None]
        phi, psi = nnls(weighted.T @ design, weighted.T @ variance)[0]
        fitted = np.maximum(design @ np.array([phi, psi]), 1e-8)
    return float(phi * mean.mean()), float(psi)


def shrunken_seasons(residual: Floats, month: Floats) -> Floats:
    """Each series' own season beyond the panel's, pulled towards none (James and Stein 1961).

    Parameters
    ----------
    residual : ndarray of shape (n_series, n_months)
        Log values without the common effects; NaN where not known.
    month : ndarray of shape (n_months,)
        Month of the year, 0 for January.

    Returns
    -------
    ndarray of shape (n_series, 12)
        The noisier a series and the less the panel's series differ in season, the nearer zero.
    """
    year = np.arange(residual.shape[1] - 1, -1, -1) // MONTHS_A_YEAR  # counted back from the last month
    around = residual - _means(residual, year)[:, year]
    count = _counts(around, month, MONTHS_A_YEAR)
    season = _means(around, month, MONTHS_A_YEAR)
    left = around - season[:, month.astype(int)]
    freedom = np.maximum(np.isfinite(left).sum(axis=1) - MONTHS_A_YEAR, 1)
    noise = np.nansum(left**2, axis=1)[:, None] / freedom[:, None] / np.maximum(count, 1)  # variance of a month's mean
    usable = count > 1
    spread = float(((season**2 - noise) * usable).sum() / max(1, usable.sum()))
    if spread <= 0:
        return np.zeros_like(season)
    return np.where(usable, season * spread / (spread + noise), 0.0)


def _counts(values: Floats, group: Floats, groups: int) -> Floats:
    member = (group[:, None] == np.arange(groups)).astype(float)
    return np.asarray(np.isfinite(values).astype(float) @ member)


def _means(values: Floats, group: Floats, groups: int | None = None) -> Floats:
    """Mean of the known values of each group of columns, 0 where there is none."""
    groups = groups or int(group.max()) + 1
    member = (group[:, None] == np.arange(groups)).astype(float)
    return np.asarray(np.nan_to_num(values) @ member / np.maximum(_counts(values, group, groups), 1))
