"""Figures of a set of predictions, each against somebody else's or a slow one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from training.evaluation import Comparison, compare
from training.metrics import (
    calibration_error,
    calibration_slope,
    lift_at,
    logit,
    scores,
    sigmoid,
    weighted_auc,
    weighted_gain,
)


def drawn(seed: int, count: int, step: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes, predictions (in steps, so that many are tied) and weights."""
    random = np.random.default_rng(seed)
    truth = random.normal(-1.5, 1, count)
    label = (random.random(count) < sigmoid(truth)).astype(float)
    probability = sigmoid(truth + random.normal(0, 0.8, count))
    if step:
        probability = np.round(probability / step) * step
    return label, probability, random.integers(0, 4, count).astype(float)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [0.0, 0.05, 0.5])
def test_weighted_auc_is_scikit_learns(seed: int, step: float) -> None:
    label, probability, weight = drawn(seed, 300, step)
    expected = roc_auc_score(label, probability, sample_weight=weight)
    assert weighted_auc(label, probability, weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_weighted_gain_is_the_negative_log_loss(seed: int) -> None:
    label, probability, weight = drawn(seed, 300)
    assert weighted_gain(label, probability, weight) == pytest.approx(
        -log_loss(label, probability, sample_weight=weight), abs=1e-12
    )


def test_scores_are_scikit_learns() -> None:
    label, probability, _ = drawn(1, 500, 0.05)
    found = scores(label, probability)
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    assert found["auc"] == pytest.approx(roc_auc_score(label, probability))
    assert found["ap"] == pytest.approx(average_precision_score(label, probability))
    assert found["brier"] == pytest.approx(brier_score_loss(label, probability))
    assert found["log_loss"] == pytest.approx(log_loss(label, clipped))
    assert found["observed_to_expected"] == pytest.approx(label.sum() / probability.sum())


@pytest.mark.parametrize(("count", "bins"), [(300, 15), (301, 7), (5, 15), (1, 15)])
def test_calibration_error_is_the_slow_one(count: int, bins: int) -> None:
    label, probability, _ = drawn(2, count)
    rows = sorted(zip(probability, label, strict=True))
    size, more = divmod(count, bins)
    total, begin = 0.0, 0
    for number in range(bins):
        end = begin + size + (number < more)
        if end > begin:
            group = rows[begin:end]
            total += abs(sum(y for _, y in group) - sum(p for p, _ in group))
        begin = end
    assert calibration_error(label, probability, bins) == pytest.approx(total / count, abs=1e-12)


def test_calibration_error_sees_a_shift() -> None:
    label, _, _ = drawn(3, 4000)
    assert calibration_error(label, np.full(4000, label.mean() + 0.1)) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 1.0])
def test_lift_is_the_slow_one(share: float) -> None:
    label, probability, _ = drawn(4, 200)
    riskiest = sorted(range(200), key=lambda i: -probability[i])[: int(200 * share)]
    expected = np.mean([label[i] for i in riskiest]) / np.mean(label)
    assert lift_at(label, probability, share) == pytest.approx(expected)


def test_lift_of_few_examples_looks_at_one() -> None:
    assert lift_at(np.array([0.0, 1.0, 0.0]), np.array([0.1, 0.9, 0.2])) == pytest.approx(3.0)


@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_slope_is_found_again(slope: float) -> None:
    random = np.random.default_rng(5)
    truth = random.normal(-1.5, 1, 40_000)
    label = (random.random(40_000) < sigmoid(truth)).astype(float)
    assert calibration_slope(label, sigmoid(truth / slope)) == pytest.approx(slope, rel=0.05)


def test_slope_of_a_constant_is_not_a_number() -> None:
    assert np.isnan(calibration_slope(np.array([0.0, 1.0]), np.array([0.3, 0.3])))


def test_log_odds_are_finite_and_turn_back() -> None:
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    probability = np.array([0.01, 0.5, 0.9])
    assert sigmoid(logit(probability)) == pytest.approx(probability)


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_a_peer_that_is_the_model_itself_makes_no_difference(metric: str) -> None:
    label, probability, _ = drawn(6, 400)
    c = compare(metric, label, probability, probability.copy(), np.arange(400) % 90, repetitions=50)
    assert (c.difference, c.lower, c.upper) == (0.0, 0.0, 0.0)
    assert not c.is_better


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_a_model_that_knows_more_is_surely_better(metric: str) -> None:
    random = np.random.default_rng(7)
    truth = random.normal(-1, 1.5, 1500)
    label = (random.random(1500) < sigmoid(truth)).astype(float)
    model, peer = sigmoid(truth), sigmoid(truth + random.normal(0, 2, 1500))
    better = compare(metric, label, model, peer, np.arange(1500), repetitions=100)
    worse = compare(metric, label, peer, model, np.arange(1500), repetitions=100)
    assert better.is_better
    assert better.lower < better.difference < better.upper
    assert not worse.is_better
    assert worse.difference == pytest.approx(-better.difference)


def test_better_means_the_whole_interval() -> None:
    assert not Comparison("auc", 0.1, 0.0, 0.2).is_better
    assert Comparison("auc", 0.1, 1e-9, 0.2).is_better


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_interval_covers_no_difference_between_equals(metric: str) -> None:
    covered, rounds = 0, 120
    for seed in range(rounds):
        random = np.random.default_rng(1000 + seed)
        truth = random.normal(-1, 1, 300)
        label = (random.random(300) < sigmoid(truth)).astype(float)
        one, other = (sigmoid(truth + random.normal(0, 0.7, 300)) for _ in range(2))
        c = compare(metric, label, one, other, np.arange(300), repetitions=120)
        covered += c.lower <= 0 <= c.upper
    assert 0.89 <= covered / rounds <= 0.99  # 0.95 within three standard errors


def test_patients_are_drawn_whole() -> None:
    label, one, _ = drawn(8, 300)
    other = sigmoid(logit(one) + np.random.default_rng(9).normal(0, 0.5, 300))
    single = compare("log_loss", label, one, other, np.arange(300))
    four = [np.repeat(values, 4) for values in (label, one, other)]
    clustered = compare("log_loss", *four, np.repeat(np.arange(300), 4))
    blind = compare("log_loss", *four, np.arange(1200))
    width = single.upper - single.lower
    assert clustered.upper - clustered.lower == pytest.approx(width, rel=1e-9)  # copies tell nothing new
    assert blind.upper - blind.lower == pytest.approx(width / 2, rel=0.2)  # taken for news, they would


def test_names_of_patients_may_be_anything() -> None:
    label, one, _ = drawn(10, 200)
    other = np.full(200, label.mean())
    numbers = compare("auc", label, one, other, np.arange(200) // 2, repetitions=40)
    names = compare("auc", label, one, other, [f"P{i // 2}" for i in range(200)], repetitions=40)
    assert numbers == names
