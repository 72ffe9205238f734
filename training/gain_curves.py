"""How good a ranking for contact is, judged on randomised draws: AIPW gain curve, Qini, AUTOC, use at capacity."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from training.evaluation import REPETITIONS, SEED, Comparison
from training.metrics import Floats
from training.randomised import Trial
from training.uplift import TLearner, UpliftLearner

FOLDS = 5
ALL = "contact_all"  # the order that is none


@dataclass(frozen=True)
class CrossFitted:
    """What learners say about draws they did not learn from.

    Attributes
    ----------
    rankings : dict of str to ndarray of shape (n_draws,)
        Score per learner; in a fold's draws by a learner fitted on the others.
    effect : ndarray of shape (n_draws,)
        Unbiased, noisy effect of contact per draw (AIPW: Robins, Rotnitzky and Zhao, JASA 1994).
    without : ndarray of shape (n_draws,)
        The same for the outcome without contact.
    cluster : ndarray of shape (n_draws,)
    """

    rankings: Mapping[str, Floats]
    effect: Floats
    without: Floats
    cluster: np.ndarray


def cross_fit(trial: Trial, learners: Mapping[str, UpliftLearner], folds: int = FOLDS, seed: int = SEED) -> CrossFitted:
    """Score every draw by learners fitted on other households.

    Parameters
    ----------
    trial : Trial
    learners : mapping of str to UpliftLearner
        Not fitted; they stay as they are.
    folds, seed : int
        Folds hold whole clusters, drawn by chance: in a randomised trial the
        arms are comparable in every fold.

    Returns
    -------
    CrossFitted
        The outcome models behind the AIPW effects are cross-fitted likewise (logistic, one per arm).
    """
    rankings = {name: np.empty(len(trial)) for name in learners}
    without, contacted = np.empty(len(trial)), np.empty(len(trial))
    splitter = GroupKFold(folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(trial.features, groups=pd.factorize(trial.cluster)[0]):
        seen = (trial.features.iloc[train], trial.treatment[train], trial.outcome[train], trial.propensity[train])
        unseen = trial.features.iloc[test]
        without[test], contacted[test] = TLearner("logistic").fit(*seen).expected(unseen)
        for name, learner in learners.items():
            rankings[name][test] = deepcopy(learner).fit(*seen).uplift(unseen)
    t, e = trial.treatment, trial.propensity
    held_out = without + (1 - t) * (trial.outcome - without) / (1 - e)
    return CrossFitted(
        rankings, contacted + t * (trial.outcome - contacted) / e - held_out, held_out, np.asarray(trial.cluster)
    )


@dataclass(frozen=True)
class GainCurve:
    """Effect gathered by contacting down a ranking, per draw of the whole trial.

    Attributes
    ----------
    share : ndarray of shape (n_draws + 1,)
        Share contacted, from 0 to 1.
    gain : ndarray of shape (n_draws + 1,)
        Additional patients who come, per draw; ties count as in random order.
    """

    share: Floats
    gain: Floats

    @property
    def qini(self) -> float:
        """Area between the curve and the diagonal, which is what a random order gathers."""
        return float(np.trapezoid(self.gain, self.share) - self.gain[-1] / 2)

    @property
    def autoc(self) -> float:
        """Mean, over the shares, of how much above average the effect of those contacted is.

        Yadlowsky et al. (JASA 2025); weighs the top of the ranking more than Qini does.
        """
        return float(np.average(self.gain[1:] / self.share[1:], weights=np.diff(self.share)) - self.gain[-1])

    def uplift_at(self, capacity: float) -> float:
        """Mean effect among the first `capacity` (share of all)."""
        return float(np.interp(capacity, self.share, self.gain)) / capacity


def gain_curve(ranking: Floats, effect: Floats, weight: Floats | None = None) -> GainCurve:
    """Gain curve of a ranking, highest first.

    Parameters
    ----------
    ranking, effect : ndarray of shape (n_draws,)
        Score and AIPW effect.
    weight : ndarray of shape (n_draws,), optional
        Of each draw; 1 by default.

    Returns
    -------
    GainCurve

    Examples
    --------
    >>> gain_curve(np.array([2.0, 1.0]), np.array([1.0, 0.0])).qini
    0.125
    """
    return _Order.of(ranking).curve(effect, np.ones(len(effect)) if weight is None else weight)


@dataclass(frozen=True)
class _Order:
    """A ranking sorted once, since the bootstrap asks for it hundreds of times."""

    order: np.ndarray
    tie: np.ndarray

    @classmethod
    def of(cls, ranking: Floats) -> _Order:
        values, rank = np.unique(-ranking, return_inverse=True)
        return (
            cls(np.argsort(rank, kind="stable"), np.sort(rank))
            if len(values) < len(ranking)
            else cls(np.argsort(rank, kind="stable"), np.arange(0))
        )

    def curve(self, effect: Floats, weight: Floats) -> GainCurve:
        w = weight[self.order]
        gathered = w * effect[self.order]
        if len(self.tie):
            mass = np.bincount(self.tie, weights=w)
            mean = np.divide(np.bincount(self.tie, weights=gathered), mass, out=np.zeros(len(mass)), where=mass > 0)
            gathered = w * mean[self.tie]
        total = w.sum()
        there = w > 0
        share, gain = np.cumsum(w[there]) / total, np.cumsum(gathered[there]) / total
        return GainCurve(np.concatenate([[0.0], share]), np.concatenate([[0.0], gain]))


@dataclass(frozen=True)
class Bootstrap:
    """Figures of several rankings on the trial as it is, and on redrawn ones (the same for all: paired).

    Attributes
    ----------
    point : dict of str to dict of str to float
        Per ranking: ``qini``, ``autoc``, ``uplift`` (at capacity).
    draws : dict of str to dict of str to ndarray of shape (repetitions,)
        The same, redrawn by whole clusters.
    effect : tuple of float
        Mean effect of contacting all, its lower and upper bound (95 %).
    size : int
        Draws of the trial.
    capacity : float
        Share of the patients who can be contacted.
    """

    point: Mapping[str, Mapping[str, float]]
    draws: Mapping[str, Mapping[str, Floats]]
    effect: tuple[float, float, float]
    size: int
    capacity: float

    def interval(self, name: str, figure: str = "qini") -> tuple[float, float, float]:
        """Value, lower and upper bound (95 %) of one ranking's figure."""
        lower, upper = np.quantile(self.draws[name][figure], [0.025, 0.975])
        return self.point[name][figure], float(lower), float(upper)

    def compare(self, name: str, peer: str = ALL, figure: str = "qini", error: float = 0.05) -> Comparison:
        """Paired difference of two rankings.

        Parameters
        ----------
        name, peer : str
            Of rankings.
        figure : str
            ``qini``, ``autoc`` or ``uplift``.
        error : float
            1 minus the interval's coverage.
        """
        lower, upper = np.quantile(self.draws[name][figure] - self.draws[peer][figure], [error / 2, 1 - error / 2])
        return Comparison(figure, self.point[name][figure] - self.point[peer][figure], float(lower), float(upper))


def bootstrap(fitted: CrossFitted, capacity: float, repetitions: int = REPETITIONS, seed: int = SEED) -> Bootstrap:
    """Redraw whole clusters with replacement (Field and Welsh, JRSS B 2007).

    Parameters
    ----------
    fitted : CrossFitted
    capacity : float
        Share of the patients that can be contacted.
    repetitions, seed : int
        Of the draws.

    Returns
    -------
    Bootstrap
        With one ranking more, ``contact_all``, in which everybody ties.
    """
    orders = {name: _Order.of(ranking) for name, ranking in fitted.rankings.items()}
    orders[ALL] = _Order.of(np.zeros(len(fitted.effect)))
    codes, clusters = pd.factorize(fitted.cluster)
    random = np.random.default_rng(seed)
    one = np.ones(len(codes))
    point = {name: _figures(order.curve(fitted.effect, one), capacity) for name, order in orders.items()}
    draws = {name: {figure: np.empty(repetitions) for figure in point[ALL]} for name in orders}
    for index in range(repetitions):
        drawn = np.bincount(random.integers(len(clusters), size=len(clusters)), minlength=len(clusters))
        weight = drawn[codes].astype(float)
        for name, order in orders.items():
            for figure, value in _figures(order.curve(fitted.effect, weight), capacity).items():
                draws[name][figure][index] = value
    lower, upper = np.quantile(draws[ALL]["uplift"], [0.025, 0.975])
    return Bootstrap(point, draws, (point[ALL]["uplift"], float(lower), float(upper)), len(codes), capacity)


def _figures(curve: GainCurve, capacity: float) -> dict[str, float]:
    return {"qini": curve.qini, "autoc": curve.autoc, "uplift": curve.uplift_at(capacity)}
