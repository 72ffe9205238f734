"""Learners of what contacting changes: S, T and X learners, their blend, and what they have to beat.

All share one interface: ``fit(features, treatment, outcome, propensity)`` and
``uplift(features)``, a number per row whose order says whom to contact first.
They accept randomised assignments alone (`training.randomised`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import QuantileTransformer, SplineTransformer, StandardScaler

from training.metrics import Floats, sigmoid
from training.portable_policy import SPREAD_OF_OUTCOME, contact_design
from training.randomised import check_odds

Base = Literal["logistic", "spline", "booster"]
KNOTS = 4
SEED = 7
# Prior standard deviations, in log odds over all columns together, of how far the effect of a contact differs between
# patients; the data choose among them.
SPREADS_OF_EFFECT = (0.02, 0.1, 0.2, 0.4, 0.8)
BOOSTER = {
    "n_estimators": 120,
    "learning_rate": 0.05,
    "num_leaves": 6,
    "min_child_samples": 60,
    "colsample_bytree": 0.7,
    "subsample": 0.7,
    "subsample_freq": 1,
    "reg_lambda": 10.0,
    "random_state": SEED,
    "deterministic": True,
    "force_row_wise": True,
    "n_jobs": 1,
    "verbosity": -1,
}


class UpliftLearner(Protocol):
    """Whatever ranks patients for contact."""

    def fit(self, features: pd.DataFrame, treatment: Floats, outcome: Floats, propensity: Floats) -> Self:
        """Learn from randomised contacts.

        Parameters
        ----------
        features : pandas.DataFrame of shape (n_contacts, n_features)
            Numbers; NaN where unknown.
        treatment, outcome : ndarray of shape (n_contacts,)
            1 if contacted; 1 if the patient came.
        propensity : ndarray of shape (n_contacts,)
            Probability with which the patient was to be contacted.

        Raises
        ------
        NotRandomisedError
            If the odds are unknown or 0 or 1, or one of the arms is empty.
        """

    def uplift(self, features: pd.DataFrame) -> Floats:
        """Change of the probability to come, per row of `features`; for rankers, any number of that order."""


@dataclass
class SLearner:
    """One model of the outcome, in which being contacted is a feature.

    The logistic one holds contact times every column, under a prior of its own
    that draws the effects in log odds towards one and the same for all. How
    strongly, the training data choose by their marginal likelihood (Laplace's
    approximation; MacKay, Neural Computation 1992): with little to go by it
    ranks by the response, with more it departs from it.

    Attributes
    ----------
    base : {"logistic", "spline", "booster"}
    """

    base: Base = "logistic"

    def fit(self, features: pd.DataFrame, treatment: Floats, outcome: Floats, propensity: Floats) -> Self:
        """Fit one model on both arms."""
        check_odds(treatment, propensity)
        if self.base == "booster":
            self.booster_ = LGBMClassifier(**BOOSTER).fit(features.assign(is_contacted=treatment), outcome)
            return self
        self.share_ = float(propensity.mean())
        self.columns_ = _columns(self.base, len(features)).fit(features)
        columns, best = self.columns_.transform(features), -np.inf
        for spread in SPREADS_OF_EFFECT:
            design = self._design(columns, treatment, spread)
            model = _regression().fit(design, outcome)
            if (evidence := _evidence(model, design, outcome)) > best:
                best, self.spread_, self.regression_ = evidence, spread, model
        return self

    def uplift(self, features: pd.DataFrame) -> Floats:
        """Probability if contacted minus probability if not."""
        if self.base == "booster":
            contacted, without = (_probability(self.booster_, features.assign(is_contacted=arm)) for arm in (1.0, 0.0))
            return contacted - without
        columns, one = self.columns_.transform(features), np.ones(len(features))
        contacted, without = (
            _probability(self.regression_, self._design(columns, arm * one, self.spread_)) for arm in (1.0, 0.0)
        )
        return contacted - without

    def _design(self, columns: Floats, treatment: Floats, spread: float) -> Floats:
        return contact_design(columns, treatment, self.share_, spread)


@dataclass
class TLearner:
    """Two models of the outcome, one per arm.

    Attributes
    ----------
    base : {"logistic", "spline", "booster"}
    """

    base: Base = "logistic"

    def fit(self, features: pd.DataFrame, treatment: Floats, outcome: Floats, propensity: Floats) -> Self:
        """Fit one model per arm."""
        check_odds(treatment, propensity)
        self.models_ = [fit_outcome(self.base, features[treatment == arm], outcome[treatment == arm]) for arm in (0, 1)]
        return self

    def expected(self, features: pd.DataFrame) -> tuple[Floats, Floats]:
        """Probability to come without and with contact, per row of `features`."""
        without, contacted = (_probability(model, features) for model in self.models_)
        return without, contacted

    def uplift(self, features: pd.DataFrame) -> Floats:
        """Difference of the two."""
        without, contacted = self.expected(features)
        return contacted - without


@dataclass
class XLearner:
    """Effects imputed by the other arm's model, then learned directly (Künzel et al., PNAS 2019).

    Attributes
    ----------
    base : {"logistic", "spline", "booster"}
        The effects are learned by ridge regression or LightGBM accordingly.
    """

    base: Base = "booster"

    def fit(self, features: pd.DataFrame, treatment: Floats, outcome: Floats, propensity: Floats) -> Self:
        """Fit outcome models, then one model of the imputed effects per arm."""
        without, contacted = TLearner(self.base).fit(features, treatment, outcome, propensity).expected(features)
        self.share_ = float(propensity.mean())
        effect = np.where(treatment == 1, outcome - without, contacted - outcome)
        self.models_ = [self._fit_effect(features[treatment == arm], effect[treatment == arm]) for arm in (0, 1)]
        return self

    def uplift(self, features: pd.DataFrame) -> Floats:
        """Mean of the two effect models, the rarer arm's weighted less."""
        without, contacted = (np.asarray(model.predict(features), float) for model in self.models_)
        return self.share_ * without + (1 - self.share_) * contacted

    def _fit_effect(self, features: pd.DataFrame, effect: Floats) -> Pipeline | LGBMRegressor:
        if self.base == "booster":
            return LGBMRegressor(**BOOSTER).fit(features, effect)
        return make_pipeline(_columns(self.base, len(features)), Ridge(alpha=300.0)).fit(features, effect)


@dataclass
class Blend:
    """Mean uplift of several learners.

    Attributes
    ----------
    members : sequence of UpliftLearner
    """

    members: Sequence[UpliftLearner] = field(default_factory=lambda: (SLearner("logistic"), XLearner("booster")))

    def fit(self, features: pd.DataFrame, treatment: Floats, outcome: Floats, propensity: Floats) -> Self:
        """Fit every member."""
        for member in self.members:
            member.fit(features, treatment, outcome, propensity)
        return self

    def uplift(self, features: pd.DataFrame) -> Floats:
        """Mean over the members."""
        return np.asarray(np.mean([member.uplift(features) for member in self.members], axis=0))


@dataclass
class ResponseRank:
    """Those first who are likeliest to come without contact: the peer that is hardest to beat.

    Attributes
    ----------
    base : {"logistic", "spline", "booster"}
    """

    base: Base = "logistic"

    def fit(self, features: pd.DataFrame, treatment: Floats, outcome: Floats, propensity: Floats) -> Self:
        """Fit on the hold-out alone."""
        check_odds(treatment, propensity)
        self.model_ = fit_outcome(self.base, features[treatment == 0], outcome[treatment == 0])
        return self

    def uplift(self, features: pd.DataFrame) -> Floats:
        """Probability to come without contact."""
        return _probability(self.model_, features)


@dataclass
class Rule:
    """A rule of one line: the highest value of one column first, the lowest if `sign` is -1.

    Attributes
    ----------
    column : str
    sign : {1, -1}
        Fixed beforehand, not learned.
    """

    column: str
    sign: int = 1

    def fit(self, features: pd.DataFrame, treatment: Floats, outcome: Floats, propensity: Floats) -> Self:
        """Learn nothing."""
        return self

    def uplift(self, features: pd.DataFrame) -> Floats:
        """The column, unknown values last."""
        values = self.sign * features[self.column].to_numpy(float)
        return np.where(np.isnan(values), -np.inf, values)


def fit_outcome(base: Base, features: pd.DataFrame, outcome: Floats) -> Pipeline | LGBMClassifier:
    """Fit a model of the outcome alone."""
    if base == "booster":
        return LGBMClassifier(**BOOSTER).fit(features, outcome)
    columns = _columns(base, len(features)).fit(features)
    scale = SPREAD_OF_OUTCOME / np.sqrt(_width(columns))
    model = Pipeline([("columns", columns), ("regression", _regression(scale**2))])
    model.named_steps["regression"].fit(columns.transform(features), outcome)
    return model


def _columns(base: Base, rows: int) -> Pipeline:
    """Ranks instead of raw numbers (days and money are skewed), as they are or as splines; unknown ones flagged."""
    filled = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    ranks = QuantileTransformer(n_quantiles=min(100, rows), subsample=None, random_state=SEED)
    splines = [SplineTransformer(n_knots=KNOTS, knots="uniform", include_bias=False)] if base == "spline" else []
    return make_pipeline(filled, ranks, *splines, StandardScaler())


def _regression(variance: float = 1.0) -> LogisticRegression:
    """Logistic regression with a normal prior of this variance on each coefficient."""
    return LogisticRegression(C=variance, max_iter=1000)


def _evidence(model: LogisticRegression, design: Floats, outcome: Floats) -> float:
    """Log marginal likelihood under a standard normal prior on every coefficient, up to a constant."""
    log_odds = model.decision_function(design)
    likelihood = -np.logaddexp(0, np.where(outcome == 1, -log_odds, log_odds)).sum()
    chance = sigmoid(log_odds)
    curvature = design.T @ (design * (chance * (1 - chance))[:, None]) + np.eye(design.shape[1])
    return float(likelihood - (model.coef_**2).sum() / 2 - np.linalg.slogdet(curvature)[1] / 2)


def _width(columns: Pipeline) -> int:
    return len(columns.named_steps["standardscaler"].scale_)


def _probability(model: Pipeline | LGBMClassifier, design: pd.DataFrame | Floats) -> Floats:
    return np.asarray(model.predict_proba(design)[:, 1])
