"""Learners find a known effect of contact, and refuse contacts that were not drawn by chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.errors import NotEnoughDataError, NotRandomisedError
from training.metrics import sigmoid
from training.randomised import Trial, hold_out_odds, trial_of
from training.uplift import Blend, ResponseRank, Rule, SLearner, TLearner, UpliftLearner, XLearner


def drawn(size: int, seed: int, strength: float = 1.0) -> tuple[Trial, np.ndarray]:
    """A trial in which contact helps where `a` is high and `b` tells who comes anyway, and the true effect."""
    random = np.random.default_rng(seed)
    features = pd.DataFrame({name: random.normal(size=size) for name in ("a", "b", "c")})
    features["c"] = features["c"].where(random.random(size) < 0.8)
    propensity = np.where(random.random(size) < 0.5, 0.5, 0.75)
    treatment = (random.random(size) < propensity).astype(float)
    base = -1 + features["b"].to_numpy()
    lift = 0.4 + strength * features["a"].to_numpy()
    outcome = (random.random(size) < sigmoid(base + treatment * lift)).astype(float)
    truth = sigmoid(base + lift) - sigmoid(base)
    return Trial(features, treatment, outcome, propensity, np.arange(size)), truth


def fitted(learner: UpliftLearner, trial: Trial) -> UpliftLearner:
    return learner.fit(trial.features, trial.treatment, trial.outcome, trial.propensity)


@pytest.mark.parametrize(
    ("learner", "fidelity"),
    [
        (SLearner("logistic"), 0.95),
        (SLearner("spline"), 0.9),
        (SLearner("booster"), 0.85),
        (TLearner("logistic"), 0.95),
        (TLearner("spline"), 0.85),
        (TLearner("booster"), 0.85),
        (XLearner("logistic"), 0.9),
        (XLearner("booster"), 0.85),
        (Blend((SLearner("logistic"), XLearner("booster"))), 0.9),
    ],
    ids=str,
)
def test_known_effect_is_recovered(learner: UpliftLearner, fidelity: float) -> None:
    trial, _ = drawn(6000, seed=1)
    unseen, truth = drawn(2000, seed=2)
    found = fitted(learner, trial).uplift(unseen.features)
    assert np.corrcoef(found, truth)[0, 1] > fidelity
    assert found.mean() == pytest.approx(truth.mean(), abs=0.03)


def test_response_rank_follows_who_comes_anyway() -> None:
    trial, _ = drawn(3000, seed=3)
    found = fitted(ResponseRank(), trial).uplift(trial.features)
    assert np.corrcoef(found, trial.features["b"])[0, 1] > 0.9
    assert abs(np.corrcoef(found, trial.features["a"])[0, 1]) < 0.2


def test_effects_are_drawn_together_where_the_data_show_no_difference() -> None:
    alike, _ = drawn(1500, seed=4, strength=0.0)
    apart, _ = drawn(1500, seed=4, strength=1.5)
    spreads = [fitted(SLearner("logistic"), trial).spread_ for trial in (alike, apart)]  # type: ignore[attr-defined]
    assert spreads[0] <= 0.1
    assert spreads[1] == 0.8


def test_rule_ranks_by_one_column_unknown_last() -> None:
    features = pd.DataFrame({"days": [3.0, np.nan, 1.0]})
    assert Rule("days", -1).uplift(features).tolist() == [-3, -np.inf, -1]
    assert Rule("days").uplift(features).tolist() == [3, -np.inf, 1]


@pytest.mark.parametrize("learner", [SLearner(), SLearner("booster"), TLearner(), XLearner(), ResponseRank(), Blend()])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda t, e: (t, e * np.nan),
            r"40 of 40 contacts have no logged probability .* run a campaign with a hold-out",
        ),
        (lambda t, e: (t, np.where(t == 1, 1.0, 0.5)), "20 of 40 contacts had a probability of 0 or 1"),
        (lambda t, e: (0 * t + 1, e), r"got arms \[1.0\]. A campaign without a hold-out"),
    ],
    ids=["not logged", "decided", "no hold-out"],
)
def test_learners_refuse_what_was_not_randomised(learner: UpliftLearner, spoil: Callable[..., Any], said: str) -> None:
    features = pd.DataFrame({"a": np.arange(40.0)})
    treatment, propensity = spoil(np.arange(40) % 2 * 1.0, np.full(40, 0.5))
    with pytest.raises(NotRandomisedError, match=said):
        learner.fit(features, treatment, np.arange(40) % 3 == 0, propensity)


def test_contacts_chosen_by_hand_are_refused() -> None:
    trial, _ = drawn(2000, seed=5)
    by_hand = (trial.features["b"].to_numpy() > 0).astype(float)
    with pytest.raises(NotRandomisedError, match=r"do not look as if .* b differs between the arms"):
        Trial(trial.features, by_hand, trial.outcome, np.full(2000, 0.5), trial.cluster)
    with pytest.raises(NotRandomisedError, match="the number of contacts differs"):
        Trial(trial.features, trial.treatment, trial.outcome, np.full(2000, 0.2), trial.cluster)


def test_honest_draws_are_not_refused() -> None:
    for seed in range(40):
        drawn(400, seed=100 + seed)


def test_small_arms_are_refused() -> None:
    with pytest.raises(NotEnoughDataError, match=r"at least 50 draws per arm.*Let the randomised campaign run on\.$"):
        drawn(90, seed=6)


def draws(*rows: tuple[str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["campaign_id", "arm", "propensity"])


def test_odds_of_the_hold_out_follow_from_the_log() -> None:
    two = draws(("x", "hold_out", 0.2), ("x", "sms", 0.8))
    unequal = draws(("y", "hold_out", 0.5), ("y", "sms", 0.25), ("y", "phone", 0.25))
    fewer = draws(*(("z", arm, odds) for arm in ("hold_out", "sms", "phone") for odds in (1 / 3, 1 / 2)))
    equal_log_without_a_stratum = draws(("w", "hold_out", 1 / 3), ("w", "sms", 1 / 2), ("w", "phone", 1 / 3))
    assert told(two) == [0.2, 0.2]
    assert told(unequal) == [0.5, 0.5, 0.5]
    assert told(fewer) == fewer["propensity"].tolist()
    assert told(equal_log_without_a_stratum) == [1 / 3, 1 / 2, 1 / 3]
    assert told(pd.concat([two, unequal], ignore_index=True)) == [0.2, 0.2, 0.5, 0.5, 0.5]


def test_small_campaign_that_drew_few_of_its_arms_counts_those_of_the_others() -> None:
    whole = draws(*(("z", arm, 1 / 4) for arm in ("hold_out", "sms", "phone", "wechat")))
    small = draws(("s", "hold_out", 1 / 4), ("s", "hold_out", 1 / 2), ("s", "sms", 1 / 3))
    assert told(pd.concat([whole, small], ignore_index=True))[4:] == [1 / 4, 1 / 2, 1 / 3]


def test_campaigns_that_do_not_tell_are_left_out_with_the_reason() -> None:
    whole = draws(*(("z", arm, 1 / 4) for arm in ("hold_out", "sms", "phone", "wechat")))
    # All arms with equal odds, or a hold-out of one half? Three draws do not tell, sixty do.
    short = draws(("s", "hold_out", 1 / 2), ("s", "sms", 1 / 4), ("s", "phone", 1 / 4))
    odds, left_out = hold_out_odds(pd.concat([whole, short], ignore_index=True))
    assert np.isnan(odds).tolist() == [False] * 4 + [True] * 3
    assert left_out == {"s": "the log is too short to tell one from the other"}
    long = pd.concat([whole, *[short] * 20], ignore_index=True)
    assert told(long)[4:] == [0.5] * 60
    nobody = draws(("n", "sms", 1 / 4), ("n", "phone", 1 / 5))
    _, left_out = hold_out_odds(pd.concat([whole, nobody], ignore_index=True))
    assert left_out == {"n": "the log has 0 different probabilities of the hold-out and 2 arms"}


def told(log: pd.DataFrame) -> list[float]:
    odds, left_out = hold_out_odds(log)
    assert not left_out
    return odds.tolist()


def test_odds_that_cannot_be_told_are_refused() -> None:
    with pytest.raises(NotRandomisedError, match=r"Campaign x: .* 2 different probabilities of the hold-out"):
        hold_out_odds(draws(("x", "hold_out", 0.2), ("x", "hold_out", 0.4), ("x", "sms", 0.8), ("x", "sms", 0.6)))
    with pytest.raises(NotRandomisedError, match="1 of 2 contacts have no logged probability"):
        hold_out_odds(draws(("x", "hold_out", 0.2), ("x", "sms", np.nan)))


def test_trial_leaves_out_what_cannot_be_told() -> None:
    trial, _ = drawn(600, seed=9)
    arm = np.where(trial.treatment == 1, "sms", "hold_out")
    odds = np.where(trial.treatment == 1, trial.propensity, 1 - trial.propensity)
    campaign = np.where(trial.propensity == 0.5, "half", "quarter")
    log = pd.DataFrame({"campaign_id": campaign, "arm": arm, "propensity": odds, "label": trial.outcome})
    log["household_id"] = trial.cluster
    nobody = pd.DataFrame([["n", "sms", 0.7, 1, -1], ["n", "phone", 0.1, 1, -2]], columns=log.columns)
    features = pd.concat([trial.features, trial.features.head(2)], ignore_index=True)
    found = trial_of(pd.concat([log, nobody], ignore_index=True), features)
    assert len(found) == 600
    assert found.propensity == pytest.approx(trial.propensity)
    assert found.cluster.tolist() == trial.cluster.tolist()


def test_trial_sets_any_contact_against_the_hold_out() -> None:
    random = np.random.default_rng(7)
    examples = pd.DataFrame(
        {
            "campaign_id": "x",
            "arm": random.choice(["hold_out", "sms", "phone"], size=600),
            "propensity": 1 / 3,
            "label": random.integers(2, size=600),
            "household_id": [f"h{n // 2}" for n in range(600)],
        }
    )
    trial = trial_of(examples, pd.DataFrame({"a": random.normal(size=600)}, index=range(5, 605)))
    assert trial.propensity == pytest.approx(np.full(600, 2 / 3))
    assert trial.treatment.tolist() == (examples["arm"] != "hold_out").astype(float).tolist()
    with pytest.raises(ValueError, match="600 draws but 1 rows"):
        trial_of(examples, pd.DataFrame({"a": [1.0]}))
