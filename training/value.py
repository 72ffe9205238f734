"""What will this patient pay within a year? Expected amounts, from examples to a registered model with its proof.

Most patients pay nothing or little and a few pay much, so the amounts are taken
as Tweedie (between Poisson and gamma), with a logarithmic link: splines and
LightGBM, halfway between the two. The level is set on the newest snapshot whose
year was over.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Self

import lightgbm
import numpy as np
import pandas as pd
from sklearn.linear_model import TweedieRegressor
from sklearn.pipeline import Pipeline

from features.contracts import ModelContract
from features.errors import NotEnoughDataError
from features.settings import Settings
from features.snapshots import built
from features.spec import Feature
from training.amounts import POWER
from training.leaks import leak_alarms
from training.learners import BOOSTER, BOOSTER_ROUNDS, FEWEST_FOR_BOOSTER, spline_columns
from training.metrics import Floats, weighted_auc
from training.patient_evaluation import AMOUNT, Origin, PatientEvaluation, evaluate, rows_of
from training.patients import PatientTraining, Told, patient_training_set
from training.plots import amount_figures
from training.portable_model import Blend
from training.registry import log_version
from training.results import blend_parameters, made
from training.rolling import FULL, Effort
from training.time_alarms import time_alarms
from training.visits_return import matured

LAST_YEAR = "spend_paid_sum_365d_cents"
WEIGHT = 0.5  # of the booster
PENALTY = 1.0  # of the regression on splines: as strong as the mean deviance is large
FEWEST_PAYERS = 30
EXPECTED_DRIFT = 0.2  # of the level from year to year, one standard deviation of its logarithm
CLASSES = (0.2, 0.5)  # A: the fifth that paid most in the past year; B: down to the half; C: the others
PLAUSIBLE_AUC = 0.95  # of paying more than the middle patient
SEED = 7
TWEEDIE = BOOSTER | {
    "objective": "tweedie",
    "tweedie_variance_power": POWER,
    "monotone_constraints_method": "basic",
    "seed": SEED,
}


class MeanRule:
    """Everybody pays the mean."""

    name = "mean"

    def fit(self, frame: pd.DataFrame, amount: Floats) -> Self:
        """Learn from one row per example."""
        self.mean_ = float(amount.mean())
        return self

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Expected amount per row."""
        return np.full(len(frame), self.mean_)


class LastYearRule(MeanRule):
    """As much as in the year before, drawn towards the mean as far as the examples say (least squares)."""

    name = "last_year"

    def fit(self, frame: pd.DataFrame, amount: Floats) -> Self:
        """Learn from one row per example."""
        super().fit(frame, amount)
        past = self._past(frame)
        spread = float(past.var())
        self.kept_ = float(np.clip(np.cov(past, amount, ddof=0)[0, 1] / spread, 0.0, 1.0)) if spread else 0.0
        self.base_ = max(self.mean_ - self.kept_ * float(past.mean()), 0.0)
        return self

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Expected amount per row."""
        return np.asarray(self.base_ + self.kept_ * self._past(frame))

    def _past(self, frame: pd.DataFrame) -> Floats:
        return np.asarray(np.nan_to_num(np.maximum(frame[LAST_YEAR].to_numpy(float), 0.0)))


class ClassRule(LastYearRule):
    """A, B and C patients by what they paid in the past year: each class its own mean."""

    name = "abc_class"

    def fit(self, frame: pd.DataFrame, amount: Floats) -> Self:
        """Learn from one row per example."""
        MeanRule.fit(self, frame, amount)
        past = self._past(frame)
        self.edges_ = np.quantile(past, [1 - share for share in reversed(CLASSES)])
        group = self._class(past)
        sums, sizes = (np.bincount(group, weights=w, minlength=3) for w in (amount, np.ones(len(group))))
        self.means_ = np.divide(sums, sizes, out=np.full(3, self.mean_), where=sizes > 0)
        return self

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Expected amount per row."""
        return np.asarray(self.means_[self._class(self._past(frame))])

    def _class(self, past: Floats) -> np.ndarray:
        return np.searchsorted(self.edges_, past, side="left")


RULES = (MeanRule, LastYearRule, ClassRule)
HURDLE = "hurdle"


def fit(features: tuple[Feature, ...], examples: pd.DataFrame, now: pd.Timestamp) -> Blend:
    """Fit the blend on the years that were over at `now`.

    Parameters
    ----------
    features : tuple of Feature
        Of the contract.
    examples : pandas.DataFrame
        One row per patient and snapshot: as_of, label (cents), label_known_at, household_id and the features.
    now : pandas.Timestamp
        Aware: the moment of training.

    Returns
    -------
    Blend
        Whose link is ``log``.

    Raises
    ------
    NotEnoughDataError
        If too few patients who paid were known by `now`.
    """
    known = matured(examples, now)
    model = _fit_learners(features, known)
    for origin in sorted(known["as_of"].unique(), reverse=True)[:1]:
        before = matured(known, origin)
        if (before["label"] > 0).sum() < FEWEST_PAYERS:
            continue
        newest = known[known["as_of"] == origin]
        model.intercept += _level(newest, _fit_learners(features, before).predict(newest))
    return model


def fit_hurdle(features: tuple[Feature, ...], known: pd.DataFrame, test: pd.DataFrame) -> Floats:
    """A peer: the chance to pay at all times what those who pay are expected to pay, LightGBM both."""
    names, amount = [feature.name for feature in features], _amount(known)
    pays = amount > 0
    told = {"seed": SEED, "monotone_constraints_method": "basic"}
    chance = lightgbm.train(BOOSTER | told, lightgbm.Dataset(known[names], pays), BOOSTER_ROUNDS)
    payers = lightgbm.Dataset(known.loc[pays, names], amount[pays])
    paid = lightgbm.train(BOOSTER | told | {"objective": "gamma"}, payers, BOOSTER_ROUNDS)
    expected: Floats = np.asarray(chance.predict(test[names])) * np.asarray(paid.predict(test[names]))
    return expected


def prove(
    contract: ModelContract, examples: pd.DataFrame, tested: list[pd.Timestamp], told: Told = lambda _: None
) -> PatientEvaluation:
    """Fit model, rules and peer at every origin on what was known then, and let them answer for that snapshot.

    Raises
    ------
    NotEnoughDataError
        If no origin is left.
    """
    found = []
    for moment in tested:
        told(f"origin {moment:%Y-%m-%d}")
        today, known = examples[examples["as_of"] == moment], matured(examples, moment)
        try:
            model = fit(contract.features, examples, moment)
        except NotEnoughDataError:
            continue
        said = {"model": model.predict(today)}
        said |= {rule.name: rule().fit(known, _amount(known)).predict(today) for rule in RULES}
        said[HURDLE] = fit_hurdle(contract.features, known, today)
        found.append(Origin(moment, rows_of(today, known), said))
    if not found:
        raise NotEnoughDataError(
            f"{contract.name}: expected a snapshot whose year is over now and before which another year of payments "
            f"of at least {FEWEST_PAYERS} patients was known; there is none. Import more history or the payments, "
            "then: revisit features build."
        )
    return evaluate(found, AMOUNT, peers=(HURDLE,))


def train(
    settings: Settings, contract: ModelContract, now: datetime, told: Told = lambda _: None, effort: Effort = FULL
) -> PatientTraining:
    """Train, prove, register, and promote if it earned it.

    Parameters and errors are those of `training.patients.train`.
    """
    versions = built(settings).records
    if "payments" not in versions:
        raise NotEnoughDataError(f"{contract.name}: expected payments in the records; there are none. Import them.")
    examples, tested = patient_training_set(settings, contract, now, versions, effort)
    evaluation = prove(contract, examples, tested, told)
    told("alarms")
    alarms = leak_alarms(
        examples.assign(label=(examples["label"] > examples["label"].median()).astype(int)),
        contract.features,
        "household_id",
        _auc_above_middle(evaluation),
        PLAUSIBLE_AUC,
    )
    alarms += time_alarms(settings, contract, tested[0].to_pydatetime(), versions)
    evaluation = replace(evaluation, alarms=alarms)
    told("the model for use")
    known = matured(examples, pd.Timestamp(now))
    model = fit(contract.features, examples, pd.Timestamp(now))
    drawn = amount_figures(evaluation.label, evaluation.predictions)
    result = made(contract, evaluation, model, known, now, versions, drawn, blend_parameters(model))
    return PatientTraining(log_version(settings, contract, result), evaluation, len(known))


def _fit_learners(features: tuple[Feature, ...], known: pd.DataFrame) -> Blend:
    amount = _amount(known)
    payers = int((amount > 0).sum())
    if payers < FEWEST_PAYERS:
        raise NotEnoughDataError(
            f"the value of patients: expected at least {FEWEST_PAYERS} examples that paid within a year; there are "
            f"{payers}. Import more history or the payments."
        )
    used = [feature for feature in features if known[feature.name].nunique(dropna=False) > 1]
    names, mean = [feature.name for feature in used], float(amount.mean())
    regression = TweedieRegressor(power=POWER, alpha=PENALTY, link="log", max_iter=300, tol=1e-5)
    splines = Pipeline([*spline_columns(used).steps, ("regression", regression)])
    booster = None
    if len(known) >= FEWEST_FOR_BOOSTER:
        booster = lightgbm.train(TWEEDIE, lightgbm.Dataset(known[names], amount / mean), BOOSTER_ROUNDS)
    return Blend(
        names,
        splines.fit(known[names], amount / mean),
        booster,
        weight=WEIGHT if booster else 0.0,
        intercept=float(np.log(mean)),
        link="log",
    )


def _level(newest: pd.DataFrame, expected: Floats) -> float:
    """Log of observed over expected, drawn towards 0 as far as chance may explain it."""
    amount = _amount(newest)
    surplus = pd.Series(amount - expected).groupby(newest["household_id"].to_numpy()).sum()
    variance = float((surplus**2).sum()) / max(float(amount.sum()), 1.0) ** 2
    shift = float(np.log(max(amount.sum(), 1.0) / expected.sum()))
    return shift * EXPECTED_DRIFT**2 / (EXPECTED_DRIFT**2 + variance)


def _auc_above_middle(evaluation: PatientEvaluation) -> float:
    above = (evaluation.label > np.median(evaluation.label)).astype(float)
    return weighted_auc(above, evaluation.predictions["model"], np.ones(len(above)))


def _amount(examples: pd.DataFrame) -> Floats:
    """Cents paid; where more was paid back than paid, nothing."""
    return np.asarray(np.maximum(examples["label"].to_numpy(float), 0.0))
