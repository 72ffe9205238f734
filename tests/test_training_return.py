"""The recipe for returning: what it may know, what it is made of, how it travels; the benchmarks on real files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import NotEnoughDataError
from features.spec import Feature
from training.metrics import scores, sigmoid
from training.portable_model import PROCESS, Blend
from training.return_baselines import LastSeenRule, LogisticRFM
from training.visits_return import Question, fit, inner_origins, matured

HISTORY = ("visits_kept_count_ever", "days_since_first_visit", "days_since_last_visit")
QUESTION = Question(
    "return_90d",
    (
        Feature(HISTORY[0], "", "Visits kept so far [visits]", "tenure"),
        Feature(HISTORY[1], "", "Since the first visit [days]", "tenure"),
        Feature(HISTORY[2], "", "Since the last visit [days]", "last_visit", 1),
        Feature("days_since_due", "", "Past the due date, negative before it [days]", "overdue"),
        Feature("has_refund", "", "Never here [flag]", "money"),
    ),
    90,
    HISTORY,
)
FIRST = pd.Timestamp("2025-01-01", tz="UTC")


def snapshots(patients: int, months: int, seed: int) -> pd.DataFrame:
    """Monthly states of patients who visit at random and leave unseen, with the outcome of the next 90 days."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        joined, rate, life = random.uniform(0, 150), random.gamma(1.5, 1 / 60), random.exponential(300)
        gaps = np.cumsum(random.exponential(1 / rate, 400))
        visits = joined + np.concatenate([[0.0], gaps[gaps < life]])
        for month in range(1, months + 1):
            now = 30.0 * month
            seen = visits[visits < now]
            if len(seen):
                came = float(((visits >= now) & (visits < now + 90)).any())
                since = now - seen[-1]
                rows.append((f"p{patient}", month, came, float(len(seen)), now - joined, since, since - 100, 0.0))
    names = ["patient_id", "month", "label", *HISTORY, "days_since_due", "has_refund"]
    frame = pd.DataFrame(rows, columns=names)
    frame["as_of"] = FIRST + pd.to_timedelta(30 * frame.pop("month"), unit="D")
    frame["label_known_at"] = frame["as_of"] + pd.Timedelta(days=90)
    return frame


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return snapshots(900, 12, 3)


NOW = FIRST + pd.Timedelta(days=30 * 12)


@pytest.fixture(scope="module")
def model(frame: pd.DataFrame) -> Blend:
    return fit(QUESTION, frame, NOW)


def test_outcomes_not_known_yet_change_nothing(frame: pd.DataFrame, model: Blend) -> None:
    """Labels of later windows are turned round, and later snapshots removed: the model is the same."""
    later = frame["label_known_at"] > NOW
    turned = frame.assign(label=frame["label"].where(~later, 1 - frame["label"]))
    test = frame[frame["as_of"] == NOW]
    assert later.any()
    np.testing.assert_array_equal(fit(QUESTION, turned, NOW).predict(test), model.predict(test))
    earlier = NOW - pd.Timedelta(days=60)
    without = fit(QUESTION, frame[frame["as_of"] <= earlier], earlier)
    np.testing.assert_array_equal(fit(QUESTION, frame, earlier).predict(test), without.predict(test))


def test_inner_origins_are_matured_and_apart(frame: pd.DataFrame) -> None:
    known = matured(frame, NOW)
    for origin in inner_origins(known):
        assert (known.loc[known["as_of"] == origin, "label_known_at"] <= NOW).all()
        assert matured(known, origin)["as_of"].max() <= origin - pd.Timedelta(days=90)
    assert inner_origins(known)


def test_model_ranks_better_than_the_last_visit(frame: pd.DataFrame, model: Blend) -> None:
    test, known = frame[frame["as_of"] == NOW], matured(frame, NOW)
    label = test["label"].to_numpy()
    ours = scores(label, model.predict(test))
    for rule in (LastSeenRule(HISTORY), LogisticRFM(HISTORY)):
        theirs = scores(label, rule.fit(known, known["label"].to_numpy()).predict(test))
        assert ours["log_loss"] < theirs["log_loss"] + (0 if type(rule) is LastSeenRule else 0.01)
    assert 0.8 < ours["observed_to_expected"] < 1.25


def test_members_and_parts(frame: pd.DataFrame, model: Blend) -> None:
    assert model.process is not None
    assert model.booster is not None
    assert list(model.features) == [*HISTORY, "days_since_due"]  # what never varies is left out
    assert 0 < model.weight < 1
    assert 0 < model.process_weight < 1
    test = frame[frame["as_of"] == NOW]
    contributions = model.contributions(test)
    assert list(contributions) == [*model.features, PROCESS, "base"]
    np.testing.assert_allclose(sigmoid(contributions.sum(axis=1).to_numpy()), model.predict(test), atol=1e-9)


def test_stored_model_answers_the_same(frame: pd.DataFrame, model: Blend, tmp_path: Path) -> None:
    test = frame[frame["as_of"] == NOW]
    np.testing.assert_allclose(Blend.load(model.save(tmp_path)).predict(test), model.predict(test), rtol=1e-12)


def test_longer_silence_never_helps_the_booster(frame: pd.DataFrame, model: Blend) -> None:
    """Feared is a high value; hoped for is the label: the sign turns."""
    test = frame[frame["as_of"] == NOW].head(50)
    alone = replace(model, weight=1.0, process_weight=0.0, process=None)
    columns = [*model.features, PROCESS]
    read = test[list(model.features)].assign(**{PROCESS: 0.0})
    silent = read.assign(days_since_last_visit=read["days_since_last_visit"] + 60)
    assert (alone.booster.predict(silent[columns]) <= alone.booster.predict(read[columns]) + 1e-12).all()  # type: ignore[union-attr]


def test_few_patients_get_splines_alone_and_none_are_refused(frame: pd.DataFrame) -> None:
    few = frame[frame["patient_id"].isin([f"p{n}" for n in range(90)])]
    small = fit(QUESTION, few, NOW)
    assert small.booster is None
    assert small.weight == 0
    with pytest.raises(NotEnoughDataError, match="return_90d: expected at least 30"):
        fit(QUESTION, few[few["patient_id"] == "p1"], NOW)
