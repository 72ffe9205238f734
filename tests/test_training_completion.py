"""Finishing a plan: hazards by hand, recovery of known ones, censored windows, the stored model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from features.contracts import COMPLETION_180D, ModelContract
from features.errors import NotEnoughDataError
from features.spec import Feature
from training.completion import IDLE, PAST_SHARE, SCHEDULED, PlanExamples, fit, prove
from training.portable_model import PERIOD, Hazard, PortableModel

FEATURES = (
    Feature(PAST_SHARE, "", "Done before [share]", "treatment"),
    Feature(SCHEDULED, "", "In a booking [share]", "treatment"),
    Feature(IDLE, "", "Since the last step [days]", "treatment"),
)
CONTRACT = ModelContract(
    "completion_180d", 1, "?", "plan", "snapshot of plans", FEATURES, "done", "past", "call", horizon_days=180
)
MOMENTS = pd.date_range("2024-01-01", periods=14, freq="60D", tz="UTC")
NOW = MOMENTS[-1]


def plans(count: int, seed: int = 1) -> PlanExamples:
    """Booked plans finish in 30 % of the periods, others in 5 %; windows that are not over count by their periods."""
    random, whole, parts = np.random.default_rng(seed), [], []
    for moment in MOMENTS:
        booked = (random.random(count) < 0.5).astype(float)
        frame = pd.DataFrame({"plan_id": [f"{moment:%m%d}-{n}" for n in range(count)], "patient_id": np.arange(count)})
        frame = frame.assign(as_of=moment, household_id=frame["patient_id"], **{SCHEDULED: booked})
        frame[PAST_SHARE], frame[IDLE] = random.random(count), random.integers(0, 200, count).astype(float)
        done = random.geometric(np.where(booked == 1, 0.3, 0.05))
        end = moment + pd.Timedelta(days=180)
        whole.append(frame.assign(label=(done <= 6).astype(int), label_known_at=end))
        for period in range(1, 7):
            at_risk, over = done >= period, moment + pd.Timedelta(days=30 * period)
            told = {PERIOD: period, "label": (done == period).astype(int), "label_known_at": over}
            parts.append(frame.assign(**told)[at_risk])
    rows = {"has_booking": False, "visits_kept": 3, "birth_year": 1980, "sex": "female", "days_since_first_visit": 900}
    return PlanExamples(*(pd.concat(part, ignore_index=True).assign(**rows) for part in (whole, parts)))


@pytest.fixture(scope="module")
def examples() -> PlanExamples:
    return plans(120)


@pytest.fixture(scope="module")
def model(examples: PlanExamples) -> Hazard:
    return fit(CONTRACT, examples, NOW)


def test_known_hazards_are_found(examples: PlanExamples, model: Hazard) -> None:
    rows = examples.at(MOMENTS[0])
    booked = rows[SCHEDULED] == 1
    hazards = model.hazards(rows)
    assert hazards.shape == (120, 6)
    assert hazards[booked].mean() == pytest.approx(0.3, abs=0.06)
    assert hazards[~booked].mean() == pytest.approx(0.05, abs=0.03)
    said = model.predict(rows)
    assert said[booked].mean() == pytest.approx(1 - 0.7**6, abs=0.1)
    assert said[~booked].mean() == pytest.approx(1 - 0.95**6, abs=0.1)


def test_window_is_that_of_its_periods(examples: PlanExamples, model: Hazard) -> None:
    rows = examples.plans.head(20)
    by_hand = 1 - np.prod(1 - model.hazards(rows), axis=1)
    raw = Hazard(model.blend, model.periods)
    assert raw.predict(rows) == pytest.approx(by_hand)


def test_open_windows_teach_by_the_periods_that_are_over(examples: PlanExamples) -> None:
    moment = MOMENTS[2]
    known = examples.known(moment)
    assert known.plans.empty
    assert set(known.periods[PERIOD]) == {1, 2, 3, 4}
    fitted = fit(CONTRACT, examples, moment)
    assert (fitted.intercept, fitted.slope) == (0.0, 1.0)
    with pytest.raises(NotEnoughDataError, match="at least 30 plans that were finished"):
        fit(CONTRACT, examples, MOMENTS[0])


def test_stored_model_answers_alike_and_its_reasons_add_up(
    examples: PlanExamples, model: Hazard, tmp_path: Path
) -> None:
    stored = PortableModel()
    stored.load_context(SimpleNamespace(artifacts=model.save(tmp_path / "m")))
    features = examples.plans[[feature.name for feature in FEATURES]].head(40).astype(float)
    answer = stored.predict(None, features, {"explain": True})
    assert answer["probability"].to_numpy() == pytest.approx(model.predict(features))
    assert PERIOD not in answer
    log_odds = answer.drop(columns="probability").sum(axis=1)
    assert 1 / (1 + np.exp(-log_odds.to_numpy())) == pytest.approx(answer["probability"].to_numpy())
    by_booking = answer[SCHEDULED].groupby(features[SCHEDULED]).mean()
    assert by_booking[1.0] > 0.5 > -0.5 > by_booking[0.0]


def test_proof_beats_every_rule_where_there_is_more_to_know(examples: PlanExamples) -> None:
    found = prove(CONTRACT, examples, [MOMENTS[10], MOMENTS[8]])
    assert set(found.comparisons) == {"prior", "past_completion", "scheduled", "idle"}
    assert found.comparisons["prior"]["log_loss"].is_better
    assert not found.comparisons["scheduled"]["log_loss"].is_better  # it is all there is to know here
    assert any("scheduled" in failure for failure in found.failures)
    assert set(found.by_group["group"]) >= {"plan"}
    with pytest.raises(NotEnoughDataError, match="before which 30 plans were finished"):
        prove(CONTRACT, examples, [MOMENTS[0]])


def test_rules_are_features_of_the_contract() -> None:
    assert {PAST_SHARE, SCHEDULED, IDLE} <= set(COMPLETION_180D.feature_names)
