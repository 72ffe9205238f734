"""Who will lapse, who will come back? Training from examples to a registered model with its proof."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from features.contracts import LAPSE, PATIENT_CONTRACTS, ModelContract
from features.errors import NotEnoughDataError
from features.examples import patient_outcomes, with_features
from features.settings import Settings
from features.snapshots import built
from features.store import register
from training.leaks import leak_alarms
from training.model_card import card
from training.patient_evaluation import ROW, Origin, PatientEvaluation, evaluate
from training.patient_rules import rule_in_use, rule_model, rule_predictions
from training.plots import figures
from training.registry import Made, Part, Registered, log_version
from training.rolling import origins, thinned
from training.visits_return import Question, fit, matured

HISTORY = ("visit_days_kept_count_ever", "days_since_first_visit", "days_since_last_visit")
DUE = ("days_since_due", "recall_interval_mean_ever_days")
TYPICAL_WINDOW = 180  # days; a lapse's window is the patient's own
MOST_EXAMPLES, MOST_TESTED = 20_000, 10_000  # rows to learn from beside those tested on, and rows per tested snapshot
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


def train(settings: Settings, contract: ModelContract, now: datetime, told: Told = lambda _: None) -> PatientTraining:
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
    examples, tested = _examples(settings, contract, now, versions)
    evaluation = prove(question, examples, tested, told)
    told("alarms")
    auc = evaluation.scores["model"]["auc"]
    alarms = leak_alarms(examples, contract.features, "household_id", auc, PLAUSIBLE_AUC)
    evaluation = replace(evaluation, alarms=alarms)
    failed = evaluation.failures
    told("the model for use")
    known = matured(examples, pd.Timestamp(now))
    model = fit(question, examples, pd.Timestamp(now))
    made = Made(
        model,
        metrics=flat(evaluation),
        tags={f"records_{name}": str(version) for name, version in versions.items()}
        | {"test_from": evaluation.start.isoformat(), "trained_until": now.isoformat(), "kind": "model"},
        parameters={
            "weight": model.weight,
            "process_weight": model.process_weight,
            "examples": len(known),
            "intercept": model.intercept,
            "slope": model.slope,
        },
        figures=figures(evaluation.label, evaluation.predictions),
        documents={"promotion.txt": "\n".join(failed) or "surely better than every rule\n"}
        | {"card.html": card(contract, evaluation, now)},
        parts=[_part(row) for _, row in evaluation.by_origin.iterrows()],
        data=known,
        rule=rule_model(question, known, rule_in_use(question)) if failed else None,
        failures=failed,
    )
    return PatientTraining(log_version(settings, contract, made), evaluation, len(known))


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
        rows = today[[*ROW, "days_since_first_visit"]].assign(
            is_unseen=~today["patient_id"].isin(known["patient_id"].unique())
        )
        said = {"model": model.predict(today), **rule_predictions(question, known, today, today)}
        found.append(Origin(moment, rows, said))
    if not found:
        raise NotEnoughDataError(
            f"{question.name}: expected at least one snapshot that is over now and before which {question.horizon} "
            "more days of outcomes were known; there is none. Import more history, then: revisit features build."
        )
    return evaluate(found)


def flat(evaluation: PatientEvaluation) -> dict[str, float]:
    """Figures under flat names: the model's own bare, a rule's behind its name, differences with their bounds."""
    named = {name: f"{name}_" if name != "model" else "" for name in evaluation.scores}
    found = {
        f"{named[name]}{metric}": value
        for name, figures_of in evaluation.scores.items()
        for metric, value in figures_of.items()
    }
    for name, by_metric in evaluation.comparisons.items():
        for metric, c in by_metric.items():
            found |= {f"over_{name}_{metric}": c.difference, f"over_{name}_{metric}_lower": c.lower}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _examples(
    settings: Settings, contract: ModelContract, now: datetime, versions: dict[str, int]
) -> tuple[pd.DataFrame, list[pd.Timestamp]]:
    store = register(settings)
    outcomes = patient_outcomes(settings, contract, now, versions)
    tested = origins(outcomes, pd.Timestamp(now))
    if not tested:
        raise NotEnoughDataError(
            f"{contract.name}: expected snapshots whose windows are over, and as many before them to learn from; "
            f"there are {outcomes['as_of'].nunique()} snapshots with known outcomes. Import more history, or build "
            "snapshots of more months: revisit features build."
        )
    whole = outcomes[outcomes["as_of"] <= tested[0]]  # what is younger holds short windows alone
    chosen = thinned(whole, tested, MOST_EXAMPLES, MOST_TESTED)
    return with_features(store, contract, chosen), tested


def _part(row: pd.Series) -> Part:
    figures_of = {str(name): float(row[name]) for name in row.index if name != "origin" and np.isfinite(row[name])}
    return Part(f"origin {row['origin']:%Y-%m-%d}", figures_of)
