"""Will this booking be missed? The recipe, its proof and its registration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import pandas as pd

from features.contracts import ModelContract
from features.errors import NotEnoughDataError
from features.level import level_shift
from features.settings import Settings
from features.store import last_build, register, training_set
from training.alarms import Alarm
from training.baselines import BASELINES, PastRateRule, PriorRule
from training.calibration import calibrate
from training.evaluation import Comparison, compare
from training.gate import failures
from training.leaks import leak_alarms
from training.learners import FEWEST_FOR_BOOSTER, fit_booster, spline_logistic
from training.metrics import Floats, logit, scores, sigmoid
from training.plots import figures
from training.portable_model import Blend
from training.registry import Registered, log_version
from training.results import blend_parameters, made
from training.splits import Split, newest_share, split_at
from training.time_alarms import time_alarms

TEST_SHARE = 0.2  # the newest visits, held back to prove the model
INNER_SHARE = 0.25  # the newest of the rest, held back to choose the calibration
WEIGHT = 0.5  # of the booster; on no public set was another weight surely better than equal ones
FEWEST_EXAMPLES = 300
FEWEST_MISSED = 30
MUST_BEAT = (PriorRule.name, PastRateRule.name)
LEAK_ALARM = 0.85  # no honest no-show model on a practice's own history is known above it
SEED = 7


@dataclass(frozen=True)
class Evaluation:
    """A model beside the rules of thumb on visits that lie after all it learned from.

    Attributes
    ----------
    label : ndarray
        Outcomes of the test visits.
    predictions : dict of str to ndarray
        By name; ``model`` first.
    scores : dict of str to dict
        Figures per name.
    comparisons : dict of str to dict
        Per rule and metric: the model minus the rule, with its interval.
    start : pandas.Timestamp
        First moment of the test window.
    alarms : tuple of Alarm
        All that were asked.
    """

    label: Floats
    predictions: Mapping[str, Floats]
    scores: Mapping[str, Mapping[str, float]]
    comparisons: Mapping[str, Mapping[str, Comparison]]
    start: pd.Timestamp
    alarms: tuple[Alarm, ...] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the model may not be used; empty if it may."""
        return failures(self.label, self.predictions["model"], self.comparisons, MUST_BEAT, self.alarms)


@dataclass(frozen=True)
class Training:
    """What a training run made."""

    registered: Registered
    evaluation: Evaluation
    examples: int


def fit(contract: ModelContract, examples: pd.DataFrame) -> Blend:
    """Fit the blend on examples in time order.

    The calibration is chosen on the newest quarter of the examples, predicted
    by learners that saw only the older ones; then the learners are fitted
    again on all.

    Parameters
    ----------
    contract : ModelContract
        Whose features are read.
    examples : pandas.DataFrame
        From `features.store.training_set`.

    Returns
    -------
    Blend
    """
    model = _fit_learners(contract, examples)
    inner = split_at(examples, newest_share(examples, INNER_SHARE))
    if _is_enough(inner.train) and _is_enough(inner.test):
        trial = _fit_learners(contract, inner.train)
        model.intercept, model.slope = calibrate(_label(inner.test), trial.raw_logit(inner.test))
    return model


def published(model: Blend, test: pd.DataFrame, asked_at: pd.Series) -> Floats:
    """Probabilities as pages show them: the model's, shifted by the level known at `asked_at`.

    Parameters
    ----------
    model : Blend
        Fitted on nothing of `test`.
    test : pandas.DataFrame
        Examples with ``label`` and ``label_known_at``.
    asked_at : pandas.Series
        Per example, the moment at which its score is looked at.
    """
    probability = model.predict(test)
    known_at = test["label_known_at"].to_numpy("datetime64[us]")
    shift = level_shift(_label(test), probability, known_at, asked_at.to_numpy("datetime64[us]"))
    return sigmoid(logit(probability) + shift)


def evaluate(contract: ModelContract, split: Split, model: Blend, asked_at: pd.Series | None = None) -> Evaluation:
    """Set a model beside every rule of thumb, all of them fitted on ``split.train`` alone.

    Parameters
    ----------
    contract : ModelContract
        Of the model.
    split : Split
        In time order.
    model : Blend
        Fitted on ``split.train``.
    asked_at : pandas.Series, optional
        When each score is looked at; the decision moment itself by default.

    Returns
    -------
    Evaluation
    """
    label = _label(split.test)
    predictions = {"model": published(model, split.test, split.test["as_of"] if asked_at is None else asked_at)}
    for rule in BASELINES:
        predictions[rule.name] = rule().fit(split.train, _label(split.train)).predict(split.test)
    logistic = replace(model, booster=None, weight=0.0, intercept=0.0, slope=1.0)
    predictions["spline_logistic"] = logistic.predict(split.test)
    comparisons = {
        name: {
            metric: compare(metric, label, predictions["model"], peer, split.test["patient_id"])
            for metric in ("log_loss", "auc")
        }
        for name, peer in predictions.items()
        if name != "model"
    }
    figures_by_name = {name: scores(label, probability) for name, probability in predictions.items()}
    return Evaluation(label, predictions, figures_by_name, comparisons, split.start)


def train(settings: Settings, contract: ModelContract, now: datetime) -> Training:
    """Train, prove, register, and promote if it earned it.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    contract : ModelContract
        One of the no-show contracts.
    now : datetime
        Aware; outcomes recorded at or after it are unknown.

    Returns
    -------
    Training

    Raises
    ------
    NotEnoughDataError
        If there are too few outcomes to learn from or to test on.
    NotBuiltError
        If features have not been built.
    """
    store = register(settings)
    build = last_build(settings)
    versions = build.records if build else {}
    examples = training_set(settings, store, contract, now, versions)
    split = _must_be_enough(contract, examples)
    evaluation = evaluate(contract, split, fit(contract, split.train))
    model = fit(contract, examples)
    alarms = leak_alarms(examples, contract.features, "patient_id", evaluation.scores["model"]["auc"], LEAK_ALARM)
    alarms += time_alarms(settings, contract, split.start.to_pydatetime(), versions)
    evaluation = replace(evaluation, alarms=alarms)
    drawn = figures(evaluation.label, evaluation.predictions)
    result = made(contract, evaluation, model, examples, now, versions, drawn, blend_parameters(model))
    return Training(log_version(settings, contract, result), evaluation, len(examples))


def _fit_learners(contract: ModelContract, examples: pd.DataFrame) -> Blend:
    read = (*contract.features, *contract.conditions)
    frame, label = examples[[feature.name for feature in read]], _label(examples)
    logistic = spline_logistic(read).fit(frame, label)
    booster = fit_booster(frame, label, read, SEED) if len(examples) >= FEWEST_FOR_BOOSTER else None
    return Blend(
        contract.feature_names,
        logistic,
        booster,
        weight=0.0 if booster is None else WEIGHT,
        conditions=tuple(feature.name for feature in contract.conditions),
    )


def _must_be_enough(contract: ModelContract, examples: pd.DataFrame) -> Split:
    if len(examples) >= FEWEST_EXAMPLES:
        split = split_at(examples, newest_share(examples, TEST_SHARE))
        if _is_enough(split.train) and _is_enough(split.test):
            return split
    missed = int(examples["label"].sum()) if len(examples) else 0
    raise NotEnoughDataError(
        f"{contract.name}: expected at least {FEWEST_EXAMPLES} visits with a known outcome, {FEWEST_MISSED} of them "
        f"missed in both the older and the newest part; there are {len(examples)}, {missed} of them missed. "
        "Import more history."
    )


def _is_enough(examples: pd.DataFrame) -> bool:
    missed = int(examples["label"].sum())
    return len(examples) - missed >= FEWEST_MISSED and missed >= FEWEST_MISSED


def _label(examples: pd.DataFrame) -> Floats:
    return examples["label"].to_numpy(float)
