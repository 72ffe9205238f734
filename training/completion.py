"""Will what was agreed to in this plan be finished? A hazard per period of 30 days, with its proof.

Every plan with something agreed to and not done is at risk in each period until
it is finished, so a window that is not over teaches by the periods that are
(Singer and Willett, Journal of Educational Statistics 1993). Splines with
logistic regression and LightGBM answer for a period, halfway between the two;
the chance to be done in time is that of any period, its level and boldness set
on the newest snapshot whose whole window was over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from features.contracts import ModelContract
from features.errors import NotEnoughDataError
from features.examples import with_features
from features.labels import PERIOD_DAYS
from features.plan_examples import plan_outcomes
from features.settings import Settings
from features.snapshots import built
from features.spec import Feature
from features.store import register
from training.baselines import PriorRule
from training.calibration import calibrate
from training.leaks import leak_alarms
from training.learners import FEWEST_FOR_BOOSTER, RULE_PENALTY, fit_booster, spline_logistic
from training.metrics import Floats, weighted_auc
from training.patient_evaluation import Origin, PatientEvaluation, evaluate, rows_of
from training.patients import PatientTraining, Told
from training.plots import figures
from training.portable_model import PERIOD, Blend, Hazard
from training.registry import log_version
from training.results import blend_parameters, made
from training.rolling import FULL, Effort, origins, thinned
from training.time_alarms import time_alarms
from training.visits_return import EXPECTED_SEASON, matured

PAST_SHARE = "clinician_line_completed_share_ever"
SCHEDULED, IDLE = "this_plan_scheduled_share_ever", "days_since_this_plan_progress"
WHICH_PERIOD = Feature(PERIOD, PERIOD, f"Which {PERIOD_DAYS} days of the window [periods]", None)
WEIGHT = 0.5  # of the booster
FEWEST_FINISHED = 30
MOST_EXAMPLES, MOST_TESTED = 5_000, 4_000  # plans and snapshots; each is several periods to learn from
MOVING_DAYS = 90  # plans that stood still for longer are mostly given up, though nobody closed them
PLAUSIBLE_AUC = 0.95  # among plans that moved lately: telling them from the others is easy
SEED = 7


@dataclass(frozen=True)
class PlanExamples:
    """What there is to learn from.

    Attributes
    ----------
    plans : pandas.DataFrame
        One row per plan and snapshot whose window is over: label says whether it was finished in time.
    periods : pandas.DataFrame
        One row per plan, snapshot and period at risk that is over: label says whether it was finished in it.
    """

    plans: pd.DataFrame
    periods: pd.DataFrame

    def known(self, now: pd.Timestamp) -> PlanExamples:
        """Those whose outcome was known by `now`."""
        return PlanExamples(matured(self.plans, now), matured(self.periods, now))

    def at(self, moment: pd.Timestamp) -> pd.DataFrame:
        """Plans looked at at one snapshot."""
        return self.plans[self.plans["as_of"] == moment]


def fit(contract: ModelContract, examples: PlanExamples, now: pd.Timestamp) -> Hazard:
    """Fit the hazard on the periods that were over at `now`.

    Parameters
    ----------
    contract : ModelContract
        One of `features.contracts.PLAN_CONTRACTS`.
    examples : PlanExamples
    now : pandas.Timestamp
        Aware: the moment of training.

    Returns
    -------
    Hazard

    Raises
    ------
    NotEnoughDataError
        If too few plans were finished by `now`.
    """
    known = examples.known(now)
    model = _fit_learners(contract, known.periods)
    for origin in sorted(known.plans["as_of"].unique(), reverse=True)[:1]:
        try:
            trial = _fit_learners(contract, examples.known(origin).periods)
        except NotEnoughDataError:
            break
        newest = known.at(origin)
        label = newest["label"].to_numpy(float)
        model.intercept, model.slope = calibrate(label, trial.raw_logit(newest), drift=EXPECTED_SEASON)
    return model


def rule_predictions(known: PlanExamples, today: pd.DataFrame) -> Mapping[str, Floats]:
    """What every rule says of `today`: everybody's share, past completion, what is booked, how long it stood still."""
    plans, label = known.plans, known.plans["label"].to_numpy(float)
    return {
        "prior": PriorRule().fit(plans, label).predict(today),
        "past_completion": _rule(plans, PAST_SHARE).predict(today),
        "scheduled": _rule(plans, SCHEDULED).predict(today),
        "idle": _rule(plans, IDLE, "days").predict(today),
    }


def prove(
    contract: ModelContract, examples: PlanExamples, tested: list[pd.Timestamp], told: Told = lambda _: None
) -> PatientEvaluation:
    """Fit model and rules at every origin on what was known then, and let them answer for that snapshot.

    Raises
    ------
    NotEnoughDataError
        If no origin is left.
    """
    found = []
    for moment in tested:
        told(f"origin {moment:%Y-%m-%d}")
        today, known = examples.at(moment), examples.known(moment)
        finished = known.plans["label"].sum()
        if not 0 < today["label"].sum() < len(today) or not 0 < finished < len(known.plans):
            continue
        try:
            model = fit(contract, examples, moment)
        except NotEnoughDataError:
            continue
        said = {"model": model.predict(today), **rule_predictions(known, today)}
        rows = rows_of(today, known.plans).assign(is_moving=today[IDLE] <= MOVING_DAYS)
        found.append(Origin(moment, rows, said))
    if not found:
        raise NotEnoughDataError(
            f"{contract.name}: expected a snapshot whose {contract.horizon_days} days are over now and before which "
            f"{FEWEST_FINISHED} plans were finished; there is none. Import more history of treatment plans, then: "
            "revisit features build."
        )
    return evaluate(found)


def train(
    settings: Settings, contract: ModelContract, now: datetime, told: Told = lambda _: None, effort: Effort = FULL
) -> PatientTraining:
    """Train, prove, register, and promote if it earned it.

    Parameters and errors are those of `training.patients.train`; the rule kept
    beside a model that failed is past completion of clinician and line.
    """
    versions = built(settings).records
    if "plan_items" not in versions:
        raise NotEnoughDataError(f"{contract.name}: expected treatment plans (plan_items), found none. Import them.")
    examples, tested = plan_training_set(settings, contract, now, versions, effort)
    evaluation = prove(contract, examples, tested, told)
    told("alarms")
    auc, plans = _auc_of_moving(evaluation), examples.plans
    moving = plans[plans[IDLE] <= MOVING_DAYS]
    alarms = leak_alarms(moving, contract.features, "household_id", auc, PLAUSIBLE_AUC)
    alarms += time_alarms(settings, contract, tested[0].to_pydatetime(), versions)
    evaluation = replace(evaluation, alarms=alarms)
    told("the model for use")
    known = examples.known(pd.Timestamp(now))
    model = fit(contract, examples, pd.Timestamp(now))
    drawn = figures(evaluation.label, evaluation.predictions)
    parameters = blend_parameters(model.blend) | {"intercept": model.intercept, "slope": model.slope}
    rule = _rule(known.plans, PAST_SHARE)
    result = made(contract, evaluation, model, known.plans, now, versions, drawn, parameters, rule)
    return PatientTraining(log_version(settings, contract, result), evaluation, len(known.plans))


def plan_training_set(
    settings: Settings, contract: ModelContract, now: datetime, versions: dict[str, int], effort: Effort = FULL
) -> tuple[PlanExamples, list[pd.Timestamp]]:
    """Examples with their features, thinned, and the snapshots to test on, newest first.

    Raises
    ------
    NotEnoughDataError
        If no snapshot can be tested.
    """
    store, end = register(settings), pd.Timestamp(now)
    outcomes = plan_outcomes(settings, contract, now, versions)
    tested = origins(outcomes, end, effort.origins)
    if not tested:
        raise NotEnoughDataError(
            f"{contract.name}: expected snapshots of plans whose {contract.horizon_days} days are over, and as many "
            f"before them to learn from; there are {outcomes['as_of'].nunique()} snapshots with known outcomes. "
            "Import more history of treatment plans, or build snapshots of more months: revisit features build."
        )
    keys = ["plan_id", "patient_id", "as_of"]
    most = min(effort.examples, MOST_EXAMPLES), min(effort.tested, MOST_TESTED)
    periods = plan_outcomes(settings, contract, now, versions, by_period=True)
    looked_at = periods[periods[PERIOD] == 1].drop(columns=["period", "label", "label_known_at"])
    chosen = with_features(store, contract, thinned(looked_at, tested, *most))
    chosen = _with_rows(chosen)
    known = ["label", "label_known_at"]
    plans = chosen.merge(outcomes[[*keys, *known]], on=keys)
    return PlanExamples(plans, chosen.merge(periods[[*keys, PERIOD, *known]], on=keys)), tested


def _with_rows(examples: pd.DataFrame) -> pd.DataFrame:
    """With what an evaluation groups by, read off the features of the plan's patient."""
    return examples.assign(
        has_booking=examples["has_booking_ahead"] == 1,
        visits_kept=examples["visits_kept_count_ever"],
        birth_year=examples["as_of"].dt.year - examples["years_since_birth"],
        sex=examples["is_female"].map({1.0: "female", 0.0: "male"}),
    )


def _fit_learners(contract: ModelContract, periods: pd.DataFrame) -> Hazard:
    finished = int(periods["label"].sum())
    if finished < FEWEST_FINISHED or len(periods) - finished < FEWEST_FINISHED:
        raise NotEnoughDataError(
            f"{contract.name}: expected at least {FEWEST_FINISHED} plans that were finished; there are {finished}. "
            "Import more history of treatment plans."
        )
    used = [feature for feature in contract.features if periods[feature.name].nunique(dropna=False) > 1]
    read = (*used, WHICH_PERIOD)
    frame, label = periods[[feature.name for feature in read]].astype(float), periods["label"].to_numpy(float)
    free = [replace(feature, monotone=0) for feature in read]  # signs are those of a lapse
    booster = fit_booster(frame, label, free, SEED) if len(frame) >= FEWEST_FOR_BOOSTER else None
    blend = Blend(
        [feature.name for feature in read],
        spline_logistic(read).fit(frame, label),
        booster,
        weight=WEIGHT if booster else 0.0,
    )
    return Hazard(blend, contract.horizon_days // PERIOD_DAYS)


def _auc_of_moving(evaluation: PatientEvaluation) -> float:
    moving = evaluation.rows["is_moving"].to_numpy(bool)
    label = evaluation.label[moving]
    if not 0 < label.sum() < len(label):
        return 0.5
    return weighted_auc(label, evaluation.predictions["model"][moving], np.ones(len(label)))


def _rule(plans: pd.DataFrame, name: str, unit: str = "share") -> Blend:
    """A rule on one number as a model that is stored and served like any other."""
    feature = Feature(name, name, f"Of the plan [{unit}]", None)
    return Blend(
        [name],
        spline_logistic([feature], RULE_PENALTY).fit(plans[[name]].astype(float), plans["label"].to_numpy(float)),
        None,
    )
