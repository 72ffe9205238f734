"""What a monthly series may consist of, as covariance kernels in units of its noise variance."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from training.demand.panel import MONTHS_A_YEAR, Floats

DIFFUSE = 1e4  # a level of which nothing is known beforehand
RANDOM_WALK = (0.0005, 0.004, 0.02, 0.08, 0.3)  # variance added a month
REVERTING = (0.05, 0.2, 0.8, 3.0)  # variance of a level that returns
MEMORY = 48  # months in which a reverting level returns by about two thirds
SMOOTH_SEASON = (0.0, 0.2, 1.0)
FREE_SEASON = (0.0, 0.2, 1.0)
COVARIATE_EFFECT = (0.0, 0.1)
TREND = (0.0, 0.05)  # a year squared


@dataclass(frozen=True)
class Candidate:
    """One composition; each figure is a variance in units of the noise variance."""

    walk: float
    reverting: float
    smooth: float
    free: float
    effect: float
    trend: float


def candidates(*, with_covariates: bool) -> list[Candidate]:
    """Every composition that is tried."""
    levels = [(walk, 0.0) for walk in RANDOM_WALK] + [(0.0, reverting) for reverting in REVERTING]
    effects = COVARIATE_EFFECT if with_covariates else (0.0,)
    return [
        Candidate(*level, *rest) for level in levels for rest in product(SMOOTH_SEASON, FREE_SEASON, effects, TREND)
    ]


class Kernels:
    """Covariances between months, noise left out.

    Parameters
    ----------
    steps : int
        Number of months.
    first_month : int
        Month of the year of the first, 0 for January.
    covariates : ndarray of shape (steps, n_covariates)
        Standardised.
    """

    def __init__(self, steps: int, first_month: int, covariates: Floats) -> None:
        t = np.arange(steps)
        apart = np.abs(t[:, None] - t[None, :])
        month = (t + first_month) % MONTHS_A_YEAR
        years = (t - t.mean()) / MONTHS_A_YEAR
        self._walk = np.minimum(t[:, None], t[None, :]).astype(float)
        self._reverting = np.exp(-apart / MEMORY)
        self._smooth = np.exp(-2 * np.sin(np.pi * apart / MONTHS_A_YEAR) ** 2)
        self._free = (month[:, None] == month[None, :]).astype(float)
        self._effect = covariates @ covariates.T
        self._trend = np.outer(years, years)

    def of(self, c: Candidate) -> Floats:
        """The covariance of one composition, shape (steps, steps)."""
        total = DIFFUSE + c.walk * self._walk + c.reverting * self._reverting + c.smooth * self._smooth
        total = total + c.free * self._free + c.effect * self._effect + c.trend * self._trend
        return np.asarray(total)
