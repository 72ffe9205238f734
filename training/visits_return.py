"""Will this patient come again? A recipe for questions that are asked of every patient, month after month.

A patient's state is known at many moments (snapshots). All whose outcome was
known by the moment of training are stacked: the same patient appears once per
month, which measured better than the newest month alone. Three members answer:
splines with logistic regression, LightGBM, and Pareto/NBD, whose log odds of any
visit are also a column for the other two. `lapse` is asked by the same recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from features.errors import NotEnoughDataError
from features.spec import Feature
from training.btyd import ParetoNBD
from training.calibration import calibrate
from training.learners import FEWEST_FOR_BOOSTER, fit_booster, spline_logistic
from training.metrics import Floats, weighted_gain
from training.portable_model import PROCESS, Blend, VisitProcess

FEWEST_OF_EACH = 30  # examples of either outcome to learn from
INNER_ORIGINS = 3  # newest snapshots on which the weights are chosen
STEPS = 6  # of the grid of weights between 0 and 1
# How far the level of returns moves within one horizon, one standard deviation of the log odds: seasons, holidays.
EXPECTED_SEASON = 0.3
SEED = 7
ANY_VISIT = Feature(PROCESS, PROCESS, "Log odds of any visit by the process of visits [log ratio]", "visit_rhythm", -1)


@dataclass(frozen=True)
class Question:
    """What is asked of every patient at every snapshot.

    Attributes
    ----------
    name : str
        Of the contract.
    features : tuple of Feature
        What may be looked at, in the model's order.
    horizon : int
        Days in which the visit that is asked for may come.
    history : tuple of str
        Which features are the number of visits so far, the days since the
        first and the days since the last of them; empty for no visit process.
    risk : int
        1 if a label of 1 is feared (lapse), -1 if it is hoped for (return).
    longest_silence : float
        Days since the last visit beyond which a patient is no longer asked about.
    due : tuple of str
        For lapse: which features are the days past the due date and the interval.
    """

    name: str
    features: tuple[Feature, ...]
    horizon: int
    history: tuple[str, ...]
    risk: int = -1
    longest_silence: float = np.inf
    due: tuple[str, ...] = ()

    def asked(self, snapshots: pd.DataFrame) -> pd.DataFrame:
        """The rows of patients that the question is asked about."""
        return snapshots[snapshots[self.history[2]] <= self.longest_silence] if self.history else snapshots


@dataclass(frozen=True)
class Members:
    """The three answers to some rows, as log odds, one column each: logistic, booster, process."""

    model: Blend
    label: Floats
    log_odds: Floats


def fit(question: Question, snapshots: pd.DataFrame, now: pd.Timestamp) -> Blend:
    """Fit the blend on what was known at `now`.

    The visit process is fitted to everybody's history at the newest snapshot
    up to `now`, the learners on all snapshots whose outcome was known by then.
    Weights are chosen, and the level is set, on the newest of these, predicted
    by members that were fitted at that earlier moment and had seen none of it.

    Parameters
    ----------
    question : Question
    snapshots : pandas.DataFrame
        One row per patient and snapshot, with patient_id, as_of, label,
        label_known_at and the features; rows of which nothing was known by
        `now` are ignored.
    now : pandas.Timestamp
        Aware: the moment of training.

    Returns
    -------
    Blend

    Raises
    ------
    NotEnoughDataError
        If too few outcomes of either kind were known by `now`.
    """
    members = _fit_members(question, snapshots, now)
    trials = _trials(question, snapshots, now)
    weight, process_weight = _weights(members, trials)
    model = replace(members, weight=weight, process_weight=process_weight)
    if trials and _has(trials[0].model) == _has(model):
        newest = replace(trials[0].model, weight=weight, process_weight=process_weight)
        log_odds = trials[0].log_odds @ _shares(newest)
        model.intercept, model.slope = calibrate(trials[0].label, log_odds, drift=EXPECTED_SEASON)
    return model


def matured(snapshots: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """The rows whose outcome was known by `now`."""
    return snapshots[snapshots["label_known_at"] <= now]


def inner_origins(examples: pd.DataFrame) -> list[pd.Timestamp]:
    """The newest snapshots before which enough outcomes were known to learn from, newest first."""
    moments = sorted(examples["as_of"].unique(), reverse=True)[:INNER_ORIGINS]
    return [moment for moment in moments if _is_enough(matured(examples, moment))]


def _fit_members(question: Question, snapshots: pd.DataFrame, now: pd.Timestamp) -> Blend:
    examples = question.asked(matured(snapshots, now))
    if not _is_enough(examples):
        came = int(examples["label"].sum())
        raise NotEnoughDataError(
            f"{question.name}: expected at least {FEWEST_OF_EACH} snapshots of patients with and without a visit in "
            f"the {question.horizon} days after; there are {came} and {len(examples) - came}. Import more history."
        )
    process = _fit_process(question, snapshots, now)
    used = [feature for feature in question.features if examples[feature.name].nunique(dropna=False) > 1]
    read = (*used, *((replace(ANY_VISIT, monotone=question.risk),) if process else ()))
    frame, label = examples[[feature.name for feature in used]], examples["label"].to_numpy(float)
    level = 0.0
    if process:
        log_odds = process.log_odds(examples, question.horizon)
        frame, level = frame.assign(**{PROCESS: log_odds}), float(log_odds.mean())
    return Blend(
        [feature.name for feature in used],
        spline_logistic(read).fit(frame, label),
        fit_booster(frame, label, read, SEED, question.risk) if len(examples) >= FEWEST_FOR_BOOSTER else None,
        process=process,
        horizon=question.horizon,
        process_level=level,
    )


def _fit_process(question: Question, snapshots: pd.DataFrame, now: pd.Timestamp) -> VisitProcess | None:
    if not question.history:
        return None
    newest = snapshots.loc[snapshots["as_of"] <= now, "as_of"].max()
    try:
        process = ParetoNBD(question.history).fit(snapshots[snapshots["as_of"] == newest]).process_
        return replace(process, due=question.due)
    except NotEnoughDataError:
        return None


def _trials(question: Question, snapshots: pd.DataFrame, now: pd.Timestamp) -> list[Members]:
    """Per inner origin, newest first: members fitted then, and what they said of the rows of that moment."""
    found = []
    examples = question.asked(matured(snapshots, now))
    for origin in inner_origins(examples):
        model = _fit_members(question, snapshots, origin)
        rows = examples[examples["as_of"] == origin]
        columns = [replace(model, weight=w, process_weight=p).raw_logit(rows) for w, p in ((0, 0), (1, 0), (0, 1))]
        found.append(Members(model, rows["label"].to_numpy(float), np.column_stack(columns)))
    return found


def _weights(model: Blend, trials: Sequence[Members]) -> tuple[float, float]:
    """Shares of the booster and of the process: halfway between equal ones and the best on the trials.

    Estimated weights tend to lose to equal ones in new samples (the forecast
    combination puzzle: Smith and Wallis, Oxford Bulletin 2009), and halfway
    keeps most of either.
    """
    there = np.array(_has(model))
    equal = there / there.sum()
    usable = [trial for trial in trials if _has(trial.model) == _has(model)]
    if not usable:
        return _as_blend(equal)
    steps = [np.array([STEPS - i - j, i, j]) / STEPS for i, j in product(range(STEPS + 1), repeat=2) if i + j <= STEPS]
    grid = [shares for shares in steps if not shares[~there].any()]
    best = max(grid, key=lambda shares: sum(_gain(trial, shares) for trial in usable))
    return _as_blend((best + equal) / 2)


def _has(model: Blend) -> tuple[bool, bool, bool]:
    return True, model.booster is not None, model.process is not None


def _gain(trial: Members, shares: Floats) -> float:
    """Negative log loss of a blend, its level and boldness set right first: these are the calibration's work."""
    log_odds = trial.log_odds @ shares
    intercept, slope = calibrate(trial.label, log_odds, drift=1.0, tilt=1.0)
    probability = 1 / (1 + np.exp(-intercept - slope * log_odds))
    return weighted_gain(trial.label, probability, np.ones(len(trial.label)))


def _as_blend(shares: Floats) -> tuple[float, float]:
    logistic, booster, process = shares
    return float(booster / (logistic + booster)) if logistic + booster else 0.0, float(process)


def _shares(model: Blend) -> Floats:
    """Weights of logistic, booster and process in the blend's logit."""
    learned = 1 - model.process_weight
    return np.array([learned * (1 - model.weight), learned * model.weight, model.process_weight])


def _is_enough(examples: pd.DataFrame) -> bool:
    came = int(examples["label"].sum())
    return came >= FEWEST_OF_EACH and len(examples) - came >= FEWEST_OF_EACH
