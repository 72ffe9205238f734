"""Rules of thumb by hand, and splits in time order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.baselines import BASELINES, LeadTimeRule, PastRateRule, PriorRule
from training.splits import newest_share, split_at


def visits(days: list[float], missed: list[int], ended: list[int], column: str = "days_until_visit") -> pd.DataFrame:
    return pd.DataFrame(
        {
            column: np.array(days, float),
            "visits_missed_count_ever": np.array(missed, float),
            "visits_ended_count_ever": np.array(ended, float),
        }
    )


def test_prior_is_everybodys_share() -> None:
    rule = PriorRule().fit(visits([1, 2, 3, 4], [0] * 4, [0] * 4), np.array([1.0, 0, 0, 0]))
    assert rule.predict(visits([9, 99], [1, 0], [1, 0])).tolist() == [0.25, 0.25]


def test_past_rate_by_hand() -> None:
    rule = PastRateRule()
    rule.share_, rule.strength_ = 0.2, 5
    # (1 + 5 x 0.2) / (3 + 5); nothing on record: everybody's share
    assert rule.predict(visits([1, 1], [1, 0], [3, 0])) == pytest.approx([0.25, 0.2])


def test_past_rate_trusts_history_as_far_as_it_tells() -> None:
    random = np.random.default_rng(1)
    ended = np.full(4000, 10)
    habit = random.choice([0.05, 0.6], 4000)
    told = visits([1.0] * 4000, random.binomial(10, habit).tolist(), ended.tolist())
    telling = PastRateRule().fit(told, (random.random(4000) < habit).astype(float))
    silent = PastRateRule().fit(told, (random.random(4000) < 0.3).astype(float))
    assert telling.strength_ <= 5
    assert silent.strength_ == max(PastRateRule.strengths)


def test_past_rate_takes_the_strength_of_lowest_loss() -> None:
    random = np.random.default_rng(2)
    ended = random.integers(0, 8, 500)
    told = visits([1.0] * 500, random.binomial(ended, 0.3).tolist(), ended.tolist())
    label = (random.random(500) < 0.3).astype(float)
    rule = PastRateRule().fit(told, label)

    def loss(strength: float) -> float:
        p = (told["visits_missed_count_ever"] + strength * label.mean()) / (ended + strength)
        return float(-np.mean(label * np.log(p) + (1 - label) * np.log(1 - p)))

    assert rule.strength_ == min(PastRateRule.strengths, key=loss)


@pytest.mark.parametrize("column", ["days_until_visit", "days_since_booking"])
def test_lead_time_by_hand(column: str) -> None:
    label = np.array([1.0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    days = [0.0, 0, 0, 0, 7, 7, 7, 7, 7, 7]
    rule = LeadTimeRule().fit(visits(days, [0] * 10, [0] * 10, column), label)
    asked = visits([0, 5, 7, 30, 400, -3], [0] * 6, [0] * 6, column)
    same_day, week = (2 + 20 * 0.2) / 24, (0 + 20 * 0.2) / 26
    assert rule.predict(asked) == pytest.approx([same_day, week, week, 0.2, 0.2, 0.2])  # bands never seen: the share


@pytest.mark.parametrize("rule", BASELINES)
@given(
    st.lists(
        st.tuples(st.floats(-5, 900), st.integers(0, 40), st.integers(0, 40), st.booleans()), min_size=4, max_size=30
    )
)
def test_rules_answer_with_probabilities(rule: type, rows: list[tuple[float, int, int, bool]]) -> None:
    told = visits([r[0] for r in rows], [r[1] for r in rows], [r[1] + r[2] for r in rows])
    label = np.array([1.0, 0.0, *(float(r[3]) for r in rows[2:])])
    probability = rule().fit(told, label).predict(told)
    assert probability.shape == (len(rows),)
    assert ((probability > 0) & (probability < 1)).all()


def examples(hours: list[tuple[int, int]]) -> pd.DataFrame:
    start = pd.Timestamp("2026-01-01", tz="UTC")
    return pd.DataFrame(
        {
            "starts_at": [start + pd.Timedelta(hours=h) for h, _ in hours],
            "label_known_at": [start + pd.Timedelta(hours=h + late) for h, late in hours],
        }
    )


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(-23, 100)), min_size=1, max_size=40),
    st.integers(-5, 510),
)
def test_nothing_learned_lies_after_the_start(hours: list[tuple[int, int]], at: int) -> None:
    start = pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(hours=at)
    split = split_at(examples(hours), start)
    assert (split.train["label_known_at"] <= start).all()
    assert (split.test["starts_at"] >= start).all()
    assert len(split.test) == sum(h >= at for h, _ in hours)
    assert len(split.train) == sum(h + late <= at for h, late in hours)


def test_what_had_begun_but_was_not_known_is_in_neither() -> None:
    split = split_at(examples([(0, 1), (9, 5), (11, 1)]), pd.Timestamp("2026-01-01 10:00", tz="UTC"))
    assert (len(split.train), len(split.test)) == (1, 1)


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_newest_share_holds_at_least_that_much(hours: list[int], share: float) -> None:
    told = examples([(h, 1) for h in hours])
    start = newest_share(told, share)
    assert start == start.floor("D")
    assert (told["starts_at"] >= start).mean() >= share - 1 / len(told) - 1e-9
    later = start + pd.Timedelta(days=1)
    assert (told["starts_at"] >= later).mean() <= share + 1 / len(told) + 1e-9
