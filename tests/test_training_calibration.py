"""Calibration and level: known shifts are found, little data changes little, the future is not seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.level import EXPECTED_DRIFT, level_shift
from training.calibration import calibrate
from training.metrics import sigmoid


def test_finds_intercept_and_slope_again() -> None:
    random = np.random.default_rng(1)
    log_odds = random.normal(-1.5, 1.2, 400_000)
    label = (random.random(400_000) < sigmoid(0.2 + 0.8 * log_odds)).astype(float)
    intercept, slope = calibrate(label, log_odds)
    assert intercept == pytest.approx(0.2, abs=0.04)
    assert slope == pytest.approx(0.8, abs=0.02)


def test_is_where_the_penalised_likelihood_is_highest() -> None:
    random = np.random.default_rng(2)
    log_odds = random.normal(-1.5, 1.2, 5000)
    label = (random.random(5000) < sigmoid(0.3 + 0.7 * log_odds)).astype(float)

    def loss(intercept: float, slope: float) -> float:
        z = intercept + slope * log_odds
        fit = np.sum(np.logaddexp(0, z) - label * z)
        return float(fit + (intercept / EXPECTED_DRIFT) ** 2 / 2 + ((slope - 1) / 0.1) ** 2 / 2)

    intercept, slope = calibrate(label, log_odds)
    best = loss(intercept, slope)
    assert all(
        loss(intercept + a, slope + b) > best for a in (-1e-3, 0, 1e-3) for b in (-1e-3, 0, 1e-3) if (a, b) != (0, 0)
    )


def test_little_data_leaves_predictions_as_they_are() -> None:
    intercept, slope = calibrate(np.array([1.0, 1.0, 1.0, 0.0]), np.array([-3.0, -2.5, -2.0, 1.0]))
    assert intercept == pytest.approx(0, abs=0.01)
    assert slope == pytest.approx(1, abs=0.1)


def test_no_data_leaves_predictions_as_they_are() -> None:
    assert calibrate(np.array([]), np.array([])) == (0.0, 1.0)


def moments(hours: list[int]) -> np.ndarray:
    return np.datetime64("2026-01-01", "us") + np.array(hours, dtype="timedelta64[h]")


def slow_shift(label: np.ndarray, probability: np.ndarray, known_at: np.ndarray, asked_at: np.ndarray) -> list[float]:
    found = []
    for moment in asked_at:
        surprise = weight = 0.0
        for y, p, known in zip(label, probability, known_at, strict=True):
            if known < moment:
                surprise += y - p
                weight += p * (1 - p)
        found.append(surprise / (weight + 1 / EXPECTED_DRIFT**2))
    return found


OUTCOMES = st.lists(
    st.tuples(st.booleans(), st.floats(0.01, 0.99), st.integers(0, 50)),
    max_size=30,
)


@given(OUTCOMES, st.lists(st.integers(-1, 51), max_size=10))
def test_level_is_the_slow_one(outcomes: list[tuple[bool, float, int]], asked: list[int]) -> None:
    label, probability = (np.array([float(o[i]) for o in outcomes]) for i in (0, 1))
    known_at, asked_at = moments([o[2] for o in outcomes]), moments(asked)
    found = level_shift(label, probability, known_at, asked_at)
    assert found == pytest.approx(slow_shift(label, probability, known_at, asked_at), abs=1e-12)


@given(OUTCOMES, st.integers(0, 50), st.lists(st.tuples(st.booleans(), st.floats(0.01, 0.99), st.integers(0, 9))))
def test_level_never_sees_what_became_known_later(
    outcomes: list[tuple[bool, float, int]], asked: int, later: list[tuple[bool, float, int]]
) -> None:
    known = [outcome for outcome in outcomes if outcome[2] < asked]
    answers = []
    for rows in (known, known + [(y, p, asked + hours) for y, p, hours in later]):
        label, probability = (np.array([float(row[i]) for row in rows]) for i in (0, 1))
        answers.append(level_shift(label, probability, moments([row[2] for row in rows]), moments([asked]))[0])
    assert answers[0] == answers[1]


def test_level_rises_with_misses_and_falls_without() -> None:
    known_at, asked_at = moments([0] * 100), moments([1])
    probability = np.full(100, 0.2)
    assert level_shift(np.ones(100), probability, known_at, asked_at)[0] > 0
    assert level_shift(np.zeros(100), probability, known_at, asked_at)[0] < 0


def test_level_of_many_outcomes_is_the_shift_they_ask_for() -> None:
    random = np.random.default_rng(3)
    probability = random.uniform(0.1, 0.3, 500_000)
    label = (random.random(500_000) < sigmoid(np.log(probability / (1 - probability)) + 0.1)).astype(float)
    known_at = np.full(500_000, np.datetime64("2026-01-01", "us"))
    assert level_shift(label, probability, known_at, moments([1]))[0] == pytest.approx(0.1, abs=0.015)
