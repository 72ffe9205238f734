"""Rules of thumb about patients, as models: what a model of returning or lapsing has to beat before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Self

import numpy as np
import pandas as pd

from features.errors import NotEnoughDataError
from features.labels import SEED_MISSED_RECALLS, SEED_UNANSWERED
from training.btyd import ParetoNBD
from training.learners import RULE_PENALTY, spline_logistic
from training.metrics import Floats
from training.portable_model import Blend
from training.return_baselines import LogisticRFM
from training.visits_return import Question

PAID = "spend_paid_sum_ever_cents"
LAST_SEEN, OVERDUE = "days_since_last_visit", "days_since_due"
UNANSWERED, MISSED_RECALLS = "messages_unanswered_row_count_ever", "recalls_missed_row_count_ever"
IMAGINED = 20  # examples with everybody's share, towards which the share of a group is drawn


class SeedRule:
    """Lost are those who left two messages or calls unanswered or missed more than three returns."""

    name = "seed_rule"

    def fit(self, frame: pd.DataFrame, label: Floats) -> Self:
        """Learn the share among those the rule calls lost, and among the others."""
        lost, share = self._lost(frame), float(label.mean())
        self.shares_ = [(label[group].sum() + IMAGINED * share) / (group.sum() + IMAGINED) for group in (~lost, lost)]
        return self

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Probability per row of `frame`."""
        return np.asarray(np.where(self._lost(frame), self.shares_[1], self.shares_[0]))

    def _lost(self, frame: pd.DataFrame) -> np.ndarray:
        is_lost = (frame[UNANSWERED] >= SEED_UNANSWERED) | (frame[MISSED_RECALLS] > SEED_MISSED_RECALLS)
        return is_lost.to_numpy(bool)


def rule_model(question: Question, examples: pd.DataFrame, feature: str) -> Blend:
    """A rule on one number as a model that is stored and served like any other: a spline of it."""
    (read,) = [known for known in question.features if known.name == feature]
    return Blend(
        [feature],
        spline_logistic([read], RULE_PENALTY).fit(examples[[feature]], examples["label"].to_numpy(float)),
        None,
    )


def rule_in_use(question: Question) -> str:
    """The number by which a practice without a model goes: days past the due date, or since the last visit."""
    return OVERDUE if question.risk > 0 else LAST_SEEN


def rule_predictions(
    question: Question, examples: pd.DataFrame, everybody: pd.DataFrame, test: pd.DataFrame
) -> Mapping[str, Floats]:
    """What every rule says of `test`.

    Parameters
    ----------
    question : Question
    examples : pandas.DataFrame
        Rows whose label was known at the moment of `test`.
    everybody : pandas.DataFrame
        Of which the visit process reads histories alone, no label: the rows of that moment.
    test : pandas.DataFrame
        Rows to answer for.

    Returns
    -------
    mapping of str to ndarray
        By name: last_seen, weeks_past_due, seed_rule, logistic_rfm, and
        pareto_nbd where there are enough histories.
    """
    label = examples["label"].to_numpy(float)
    said = {
        "last_seen": rule_model(question, examples, LAST_SEEN).predict(test),
        "weeks_past_due": rule_model(question, examples, OVERDUE).predict(test),
    }
    for rule in (SeedRule(), LogisticRFM(question.history, PAID)):
        said[rule.name] = rule.fit(examples, label).predict(test)
    try:
        process = ParetoNBD(question.history).fit(everybody).process_
    except NotEnoughDataError:
        return said
    log_odds = replace(process, due=question.due).log_odds(test, question.horizon)
    return said | {"pareto_nbd": 1 / (1 + np.exp(-log_odds))}
