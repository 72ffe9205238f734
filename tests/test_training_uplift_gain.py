"""Gain curves: by hand, against a plain loop, and without bias where the arms are unequal."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.gain_curves import ALL, CrossFitted, bootstrap, cross_fit, gain_curve
from training.randomised import Trial
from training.uplift import Rule


def test_curve_by_hand() -> None:
    curve = gain_curve(np.array([3.0, 1.0, 2.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0]))
    assert curve.share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.gain.tolist() == [0, 0.25, 0.5, 0.5, 0.5]
    assert curve.qini == pytest.approx(0.125)
    assert curve.autoc == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4 - 0.5)
    assert curve.uplift_at(0.5) == pytest.approx(1.0)
    assert curve.uplift_at(0.75) == pytest.approx(2 / 3)


def test_order_that_is_none_gathers_the_diagonal() -> None:
    curve = gain_curve(np.zeros(50), np.random.default_rng(1).normal(size=50))
    assert (curve.qini, curve.autoc) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))


def test_ties_count_as_the_mean_over_their_orders() -> None:
    effect = np.array([0.3, -1.0, 2.0, 0.5])
    orders = [np.array([9.0, *order]) for order in permutations([1.0, 2.0, 3.0])]
    tied = gain_curve(np.array([9.0, 1.0, 1.0, 1.0]), effect)
    assert tied.qini == pytest.approx(np.mean([gain_curve(order, effect).qini for order in orders]))
    assert tied.autoc == pytest.approx(np.mean([gain_curve(order, effect).autoc for order in orders]))


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-2, 2), st.integers(0, 3)), min_size=2, max_size=30))
def test_a_weight_is_a_repetition(rows: list[tuple[int, float, int]]) -> None:
    ranking, effect, weight = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if weight.sum() == 0:
        weight[0] = 1
    times = weight.astype(int)
    weighted = gain_curve(ranking, effect, weight)
    repeated = gain_curve(np.repeat(ranking, times), np.repeat(effect, times))
    assert weighted.gain[-1] == pytest.approx(repeated.gain[-1], abs=1e-9)
    untied = len(set(ranking[weight > 0])) == 1 or times.max() == 1
    if untied:
        assert weighted.qini == pytest.approx(repeated.qini, abs=1e-9)
    assert gain_curve(np.exp(ranking), effect, weight).qini == pytest.approx(weighted.qini, abs=1e-9)


def unequal_trial(size: int, seed: int) -> Trial:
    """Everybody gains .1; those who come anyway are contacted far more often."""
    random = np.random.default_rng(seed)
    keen = (random.random(size) < 0.5).astype(float)
    propensity = np.where(keen == 1, 0.8, 0.3)
    treatment = (random.random(size) < propensity).astype(float)
    outcome = (random.random(size) < 0.2 + 0.4 * keen + 0.1 * treatment).astype(float)
    features = pd.DataFrame({"keen": keen, "noise": random.normal(size=size)})
    return Trial(features, treatment, outcome, propensity, np.arange(size) // 2)


def test_aipw_is_right_where_arms_are_unequal() -> None:
    trial = unequal_trial(8000, seed=2)
    naive = trial.outcome[trial.treatment == 1].mean() - trial.outcome[trial.treatment == 0].mean()
    fitted = cross_fit(trial, {})
    assert naive > 0.25
    assert fitted.effect.mean() == pytest.approx(0.1, abs=0.03)
    assert fitted.without.mean() == pytest.approx(0.4, abs=0.03)


class Witness(Rule):
    """A rule that notes which households it learned from and which it scores."""

    seen: list[tuple[set[float], set[float]]] = []  # noqa: RUF012 - shared by all copies on purpose

    def fit(self, features: pd.DataFrame, *rest: object) -> Witness:
        self.learned = set(features["household"])
        return self

    def uplift(self, features: pd.DataFrame) -> np.ndarray:
        self.seen.append((self.learned, set(features["household"])))
        return np.zeros(len(features))


def test_a_household_is_never_on_both_sides() -> None:
    trial = unequal_trial(600, seed=3)
    with_house = trial.features.assign(household=trial.cluster.astype(float))
    cross_fit(
        Trial(with_house, trial.treatment, trial.outcome, trial.propensity, trial.cluster), {"w": Witness("household")}
    )
    assert len(Witness.seen) == 5
    assert all(learned.isdisjoint(scored) for learned, scored in Witness.seen)
    assert set.union(*(scored for _, scored in Witness.seen)) == set(range(300))


def test_bootstrap_draws_whole_clusters_and_pairs_rankings() -> None:
    random = np.random.default_rng(4)
    score, effect = random.normal(size=300), random.normal(size=300)
    same = {"one": score, "again": 3 * score, "none": random.normal(size=300)}
    alone = bootstrap(CrossFitted(same, effect, effect, np.arange(300)), 0.3)
    doubled = {name: np.repeat(ranking, 4) for name, ranking in same.items()}
    four = bootstrap(
        CrossFitted(doubled, np.repeat(effect, 4), np.repeat(effect, 4), np.repeat(np.arange(300), 4)), 0.3
    )
    paired = alone.compare("one", "again")
    assert (paired.difference, paired.lower, paired.upper) == pytest.approx((0, 0, 0), abs=1e-12)
    assert alone.compare("one", "none").lower < alone.compare("one", "none").difference
    assert alone.point[ALL]["qini"] == pytest.approx(0, abs=1e-12)
    widths = [b.interval("one")[2] - b.interval("one")[1] for b in (alone, four)]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)
    assert alone.effect[0] == pytest.approx(effect.mean())
