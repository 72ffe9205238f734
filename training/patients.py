"""Who will lapse, who will come back? Training from examples to a registered model with its proof."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import pandas as pd

from features.contracts import LAPSE, PATIENT_CONTRACTS, ModelContract
from features.errors import NotEnoughDataError
from features.examples import patient_outcomes, with_features
from features.settings import Settings
from features.snapshots import built
from features.store import register
from training.leaks import leak_alarms
from training.patient_evaluation import Origin, PatientEvaluation, evaluate, rows_of
from training.patient_rules import rule_in_use, rule_model, rule_predictions
from training.plots import figures
from training.registry import Registered, log_version
from training.results import blend_parameters, made
from training.rolling import FULL, Effort, origins, thinned
from training.time_alarms import time_alarms
from training.visits_return import Question, fit, matured

HISTORY = ("visit_days_kept_count_ever", "days_since_first_visit", "days_since_last_visit")
DUE = ("days_since_due", "recall_interval_mean_ever_days")
TYPICAL_WINDOW = 180  # days; a lapse's window is the patient's own
PLAUSIBLE_AUC = 0.95  # who is booked already makes these questions easier than they are among the others

Told = Callable[[str], None]


def _question(contract: ModelContract) -> Question:
    if contract.name == LAPSE.name:
        return Question(contract.name, contract.features, TYPICAL_WINDOW, HISTORY, risk=1, due=DUE)
    return Question(contract.name, contract.features, contract.horizon_days, HISTORY)


QUESTIONS: Mapping[str, Question] = {name: _question(contract) for name, contract in PATIENT_CONTRACTS.items()}


@dataclass(frozen=True)
class PatientTraining:
    """What a training run made."""

    registered: Registered
    evaluation: PatientEvaluation
    examples: int


def train(
    settings: Settings, contract: ModelContract, now: datetime, told: Told = lambda _: None, effort: Effort = FULL
) -> PatientTraining:
    """Train, prove, register, and promote if it earned it.

    Where the model is not surely better than every rule, the rule that is in
    use is stored beside it under the alias ``rule``.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    contract : ModelContract
        One of `features.contracts.PATIENT_CONTRACTS`.
    now : datetime
        Aware; windows that were not over by then are unknown.
    told : callable, optional
        Hears what is being done.
    effort : Effort
        How much is learned from and tested on.

    Returns
    -------
    PatientTraining

    Raises
    ------
    NotEnoughDataError
        If no snapshot could be tested, or too few outcomes are known.
    NotBuiltError
        If there are no snapshots.
    """
    question, versions = QUESTIONS[contract.name], built(settings).records
    examples, tested = patient_training_set(settings, contract, now, versions, effort)
    evaluation = prove(question, examples, tested, told)
    told("alarms")
    auc = evaluation.scores["model"]["auc"]
    alarms = leak_alarms(examples, contract.features, "household_id", auc, PLAUSIBLE_AUC)
    alarms += time_alarms(settings, contract, tested[0].to_pydatetime(), versions)
    evaluation = replace(evaluation, alarms=alarms)
    told("the model for use")
    known = matured(examples, pd.Timestamp(now))
    model = fit(question, examples, pd.Timestamp(now))
    drawn = figures(evaluation.label, evaluation.predictions)
    rule = rule_model(question, known, rule_in_use(question)) if evaluation.failures else None
    result = made(contract, evaluation, model, known, now, versions, drawn, blend_parameters(model), rule)
    return PatientTraining(log_version(settings, contract, result), evaluation, len(known))


def prove(
    question: Question, examples: pd.DataFrame, tested: list[pd.Timestamp], told: Told = lambda _: None
) -> PatientEvaluation:
    """Fit model and rules at every origin on what was known then, and let them answer for that snapshot.

    Parameters
    ----------
    question : Question
    examples : pandas.DataFrame
        As from `features.examples.patient_examples`, with birth_year and sex.
    tested : list of pandas.Timestamp
        Origins, newest first; those with too little before them are left out.
    told : callable, optional

    Raises
    ------
    NotEnoughDataError
        If none is left.
    """
    found = []
    for moment in tested:
        told(f"origin {moment:%Y-%m-%d}")
        today, known = examples[examples["as_of"] == moment], matured(examples, moment)
        try:
            model = fit(question, examples, moment)
        except NotEnoughDataError:
            continue
        if not 0 < today["label"].sum() < len(today):
            continue
        said = {"model": model.predict(today), **rule_predictions(question, known, today, today)}
        found.append(Origin(moment, rows_of(today, known), said))
    if not found:
        raise NotEnoughDataError(
            f"{question.name}: expected at least one snapshot that is over now and before which {question.horizon} "
            "more days of outcomes were known; there is none. Import more history, then: revisit features build."
        )
    return evaluate(found)


def patient_training_set(
    settings: Settings, contract: ModelContract, now: datetime, versions: dict[str, int], effort: Effort = FULL
) -> tuple[pd.DataFrame, list[pd.Timestamp]]:
    """Examples with their features, thinned, and the snapshots to test on, newest first.

    Raises
    ------
    NotEnoughDataError
        If no snapshot can be tested.
    """
    store = register(settings)
    outcomes = patient_outcomes(settings, contract, now, versions)
    tested = origins(outcomes, pd.Timestamp(now), effort.origins)
    if not tested:
        raise NotEnoughDataError(
            f"{contract.name}: expected snapshots whose windows are over, and as many before them to learn from; "
            f"there are {outcomes['as_of'].nunique()} snapshots with known outcomes. Import more history, or build "
            "snapshots of more months: revisit features build."
        )
    whole = outcomes[outcomes["as_of"] <= tested[0]]  # what is younger holds short windows alone
    chosen = thinned(whole, tested, effort.examples, effort.tested)
    return with_features(store, contract, chosen), tested
