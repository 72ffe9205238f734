"""The leak alarms that every training runs, on a sample small enough to cost little."""

from __future__ import annotations

import lightgbm
import numpy as np
import pandas as pd

from features.spec import Feature
from training.alarms import (
    MISSINGNESS_AUC,
    RANDOM_MINUS_TIME,
    SINGLE_FEATURE_AUC,
    Alarm,
    missingness,
    permuted_labels,
    random_minus_time,
    single_features,
    tripwire,
)
from training.learners import BOOSTER
from training.metrics import Floats

MOST_ROWS = 6000
ROUNDS = 40  # enough to see a leak
TEST_SHARE = 0.25
SEED = 7
# What a feature that counts events is missing for: there was no such event, which tells of the past, not of the answer.
NO_EVENT_AUC = SINGLE_FEATURE_AUC
# Groups of features that may rank nearly as well as a whole model, and why.
STRONG = {
    "booked": "who has a booking mostly comes",
    "last_visit": "recency is the strongest single sign of a return in every published study",
    "visit_rhythm": "recency, measured in the patient's own rhythm",
    "overdue": "recency, counted from the due date",
    "tenure": "frequency of visits",
    "money": "frequency of visits, in money",
    "service": "frequency of visits, by service",
    "treatment": "a plan that stood still for long is mostly given up",
}


def leak_alarms(
    examples: pd.DataFrame, features: tuple[Feature, ...], clusters: str, auc: float, plausible: float
) -> tuple[Alarm, ...]:
    """Ask a training set whether it saw what it cannot know.

    Parameters
    ----------
    examples : pandas.DataFrame
        With label, as_of, label_known_at, the features and `clusters`; where a
        patient is there many times, one row is drawn.
    features : tuple of Feature
    clusters : str
        Column that says whose rows they are.
    auc, plausible : float
        Of the model on its test, and the highest one that is believed.

    Returns
    -------
    tuple of Alarm
    """
    rows = _sample(examples)
    frame, label = rows[[feature.name for feature in features]].astype(float), rows["label"].to_numpy(float)
    events = [feature.name for feature in features if feature.reason]
    others = [feature.name for feature in features if not feature.reason]
    reasons = {feature.name: STRONG[feature.reason] for feature in features if feature.reason in STRONG}
    found = missingness(frame[others], label, limit=MISSINGNESS_AUC)
    found += missingness(frame[events], label, reasons, limit=NO_EVENT_AUC)
    found += single_features(frame, label, reasons)
    found.append(tripwire(auc, plausible))
    cut = int(len(rows) * (1 - TEST_SHARE))
    older, newer = slice(None, cut), slice(cut, None)
    if min(label[older].sum(), (1 - label[older]).sum(), label[newer].sum(), (1 - label[newer]).sum()) < 1:
        return tuple(found)
    owners = rows[clusters].iloc[older]
    found.append(permuted_labels(frame[older], label[older], owners, frame[newer], label[newer], _fit_predict))
    known = rows["label_known_at"] <= rows["as_of"].iloc[cut]
    if known.any() and 0 < label[known].sum() < known.sum():
        limit = RANDOM_MINUS_TIME + 3 * _noise(label[newer])
        found.append(
            random_minus_time(frame, label, rows["as_of"], rows["label_known_at"], _fit_predict, TEST_SHARE, limit)
        )
    return tuple(found)


def _sample(examples: pd.DataFrame) -> pd.DataFrame:
    """One row per patient at random, in time order: snapshots of one patient resemble one another."""
    drawn = examples.sample(frac=1, random_state=SEED).drop_duplicates("patient_id").head(MOST_ROWS)
    return drawn.sort_values(["as_of", "patient_id"], kind="stable").reset_index(drop=True)


def _noise(label: Floats) -> float:
    """Standard error of the difference of two AUCs without much signal (Hanley and McNeil 1982)."""
    ones, zeros = label.sum(), (1 - label).sum()
    return float(np.sqrt(2 * (ones + zeros + 1) / (12 * ones * zeros)))


def _fit_predict(train: pd.DataFrame, label: Floats, test: pd.DataFrame) -> Floats:
    parameters = BOOSTER | {"seed": SEED, "learning_rate": 0.1, "min_data_in_leaf": 30}
    return np.asarray(lightgbm.train(parameters, lightgbm.Dataset(train, label), ROUNDS).predict(test))
