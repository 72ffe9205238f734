"""Leak alarms: each rings for a leak planted for it and stays quiet without."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from training.alarms import (
    missingness,
    permuted_labels,
    random_minus_time,
    recorded_time,
    ringing,
    single_features,
    time_travel,
    tripwire,
)

MONTHS, PATIENTS = 12, 300
START = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture
def examples() -> pd.DataFrame:
    """One row per patient and month; a weak signal, patients alike over time."""
    random = np.random.default_rng(5)
    rows = pd.DataFrame(
        {
            "patient": np.repeat(np.arange(PATIENTS), MONTHS),
            "as_of": pd.to_datetime([START + timedelta(days=30 * m) for m in range(MONTHS)] * PATIENTS),
            "x": random.normal(size=PATIENTS * MONTHS),
            "noise": random.normal(size=PATIENTS * MONTHS),
        }
    )
    rows["label"] = (random.random(len(rows)) < 1 / (1 + np.exp(1 - 0.7 * rows["x"]))).astype(float)
    rows["known_at"] = rows["as_of"] + timedelta(days=29)
    return rows


def logistic(frame: pd.DataFrame, label: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
    return np.asarray(LogisticRegression().fit(frame, label).predict_proba(asked)[:, 1])


def neighbour(frame: pd.DataFrame, label: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
    return np.asarray(KNeighborsClassifier(1).fit(frame, label).predict_proba(asked)[:, 1])


VISITS = """SELECT * FROM (VALUES (1, 5, 5), (1, 8, 30), (2, 3, 3), (2, 25, 25)) AS v(patient, day, recorded)"""


def counted(condition: str, rows: str = VISITS) -> pd.DataFrame:
    """Visits of each patient as of day 20, by a rule that is honest or not."""
    return duckdb.sql(
        f"SELECT patient, count(*) FILTER ({condition})::DOUBLE AS visits FROM ({rows}) GROUP BY 1 ORDER BY 1"
    ).df()


@pytest.mark.parametrize(("condition", "is_ringing"), [("day < 20 AND recorded < 20", False), ("true", True)])
def test_time_travel(condition: str, is_ringing: bool) -> None:
    def rebuild(is_future_gone: bool) -> pd.DataFrame:
        return counted(condition, f"SELECT * FROM ({VISITS}) WHERE recorded < 20" if is_future_gone else VISITS)

    assert time_travel(rebuild).is_ringing is is_ringing


@pytest.mark.parametrize(("condition", "is_ringing"), [("recorded < 20", False), ("day < 20", True)])
def test_recorded_time(condition: str, is_ringing: bool) -> None:
    without_late = f"SELECT * FROM ({VISITS}) WHERE NOT (day < 20 AND recorded >= 20)"
    assert recorded_time(counted(condition), counted(condition, without_late)).is_ringing is is_ringing


def test_field_filled_in_afterwards(examples: pd.DataFrame) -> None:
    label = examples["label"].to_numpy()
    random = np.random.default_rng(1).random(len(label))
    frame = examples[["x"]].assign(
        chance=np.where(random < 0.3, np.nan, 1.0), checked_in=np.where(random < 0.2 + 0.5 * label, 8.5, np.nan)
    )
    alarms = {alarm.name: alarm for alarm in missingness(frame, label)}
    assert set(alarms) == {"missingness chance", "missingness checked_in"}
    assert alarms["missingness checked_in"].is_ringing
    assert not alarms["missingness chance"].is_ringing
    assert not any(alarm.is_ringing for alarm in missingness(frame, label, {"checked_in": "known at the decision"}))


def test_feature_that_is_the_outcome(examples: pd.DataFrame) -> None:
    label = examples["label"].to_numpy()
    frame = examples[["x", "noise"]].assign(status=-label + 0.3 * examples["noise"])
    assert [alarm.name for alarm in single_features(frame, label) if alarm.is_ringing] == ["single_feature status"]
    assert not any(alarm.is_ringing for alarm in single_features(frame, label, {"status": "the desk's own forecast"}))


@pytest.mark.parametrize("leaks", [False, True])
def test_permuted_labels(examples: pd.DataFrame, leaks: bool) -> None:
    """The planted leak: the learner finds the true outcomes in the frame it is given, whatever labels it is told."""
    frame, label = examples[["x", "noise"]], examples["label"].to_numpy()
    first, rest = np.arange(len(frame)) < 2400, np.arange(len(frame)) >= 2400

    def remembering(train: pd.DataFrame, told: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
        return logistic(train, label[train.index], asked)

    alarm = permuted_labels(
        frame[first],
        label[first],
        examples["patient"][first],
        frame[rest],
        label[rest],
        remembering if leaks else logistic,
    )
    assert alarm.is_ringing is leaks


def test_permutation_keeps_patients_together() -> None:
    """A patient's labels move as a whole: none all 0 or all 1 becomes mixed, and shares are kept."""
    clusters = np.repeat(np.arange(100), 5)
    label = np.repeat(np.random.default_rng(3).integers(0, 2, 100), 5).astype(float)
    told: list[np.ndarray] = []

    def listening(train: pd.DataFrame, dealt: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
        told.append(dealt)
        return np.zeros(len(asked))

    frame = pd.DataFrame({"x": np.zeros(500)})
    permuted_labels(frame, label, clusters, frame, label, listening, repetitions=1)
    means = told[0].reshape(100, 5).mean(axis=1)
    assert set(means) == {0.0, 1.0}
    assert told[0].mean() == label.mean()
    assert (told[0] != label).any()


@pytest.mark.parametrize("leaks", [False, True])
def test_random_split_that_finds_siblings(examples: pd.DataFrame, leaks: bool) -> None:
    """The planted leak: outcomes come in pairs of rows that a random split tears apart."""
    frame = examples[["x", "noise"]].copy()
    label = examples["label"].to_numpy()
    fit_predict: Callable[..., np.ndarray] = logistic
    if leaks:
        label = np.repeat(label[::2], 2)  # two months of one patient share their outcome
        frame = pd.DataFrame({"pair": np.repeat(np.random.default_rng(2).permutation(len(label) // 2), 2) * 1.0})
        fit_predict = neighbour
    alarm = random_minus_time(frame, label, examples["as_of"], examples["known_at"], fit_predict)
    assert alarm.is_ringing is leaks


def test_tripwire_and_sentences() -> None:
    quiet, loud = tripwire(0.80, 0.87), tripwire(0.97, 0.87)
    assert ringing([quiet, loud]) == (
        "tripwire: AUC against the highest known honest one is 0.970, above 0.870: look for a leak",
    )
