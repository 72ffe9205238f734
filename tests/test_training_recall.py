"""The recall verdict: claimed where it is true, refused where it is not; channels, consent, worth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.errors import NotEnoughDataError
from training.channels import choose_channels
from training.gain_curves import CrossFitted, bootstrap
from training.metrics import sigmoid
from training.randomised import Trial
from training.recall import learn, priority
from training.uplift import ResponseRank, Rule, SLearner
from training.verdict import MESSAGES, Verdict, judge, segment_effects

RULES = {"rule a": Rule("a"), "rule b": Rule("b", -1)}


def trial(size: int, seed: int, lift: str) -> Trial:
    """A randomised campaign in which contact moves: nobody, everybody alike, by a rule, or by what no rule says."""
    random = np.random.default_rng(seed)
    features = pd.DataFrame({name: random.normal(size=size) for name in ("a", "b", "c")})
    a, b, c = (features[name].to_numpy() for name in features)
    treatment = (random.random(size) < 0.5).astype(float)
    effect = {"null": 0 * a, "alike": 0 * a + 0.5, "rule": 1.6 * (a > 0) - 0.3, "mixed": 1.2 * (c - a)}[lift]
    outcome = (random.random(size) < sigmoid(-0.5 + b + treatment * effect)).astype(float)
    return Trial(features, treatment, outcome, np.full(size, 0.5), np.arange(size) // 2)


def test_ranking_is_claimed_where_it_is_there() -> None:
    model = learn(trial(2500, 1, "mixed"), RULES)
    assert model.verdict.claims_ranking
    assert isinstance(model.ranker, SLearner)
    assert model.verdict.key == "recall_ranked_by_uplift"
    assert all(comparison.lower > 0 for comparison in model.verdict.comparisons.values())
    scored = model.score(pd.DataFrame({"a": [-1.0, 1.0], "b": [0.0, 0.0], "c": [1.0, -1.0]}))
    assert scored["uplift"][0] > 0.2 > -0.2 > scored["uplift"][1]


def test_rule_is_followed_where_no_model_beats_it() -> None:
    verdict = learn(trial(2500, 2, "rule"), RULES).verdict
    assert (verdict.rank_by, verdict.best_rule, verdict.claims_ranking) == ("rule", "rule a", False)
    assert verdict.figures["rule a"]["uplift"][0] > verdict.effect[0]


@pytest.mark.parametrize(("lift", "key"), [("null", "recall_no_effect"), ("alike", "recall_no_ranking")])
def test_nothing_is_claimed_where_nothing_is_there(lift: str, key: str) -> None:
    models = [learn(trial(600, seed, lift), RULES) for seed in (11, 12)]
    assert [model.verdict.rank_by for model in models] == ["response"] * 2
    assert all(isinstance(model.ranker, ResponseRank) for model in models)
    assert models[0].verdict.key == key
    scored = models[0].score(trial(600, 11, lift).features)
    assert scored["uplift"].nunique() == 1
    assert scored["rank_score"].nunique() > 500


def verdict_of(rank: np.ndarray, rule: np.ndarray, effect: np.ndarray) -> Verdict:
    response = np.random.default_rng(5).normal(size=len(effect))
    fitted = CrossFitted({"uplift": rank, "response": response, "rule": rule}, effect, effect, np.arange(len(effect)))
    return judge(bootstrap(fitted, 0.3), ["rule"])


def test_verdict_is_said_in_both_languages() -> None:
    random = np.random.default_rng(6)
    truth, noise = random.normal(size=900), random.normal(size=900)
    told = [
        verdict_of(truth, noise, truth + 0.2 * noise + 0.2),
        verdict_of(noise, truth, truth + 0.2),
        verdict_of(random.normal(size=900), noise, truth + 1),
        verdict_of(random.normal(size=900), noise, truth - truth.mean()),
    ]
    assert [verdict.key for verdict in told] == list(MESSAGES)
    for verdict in told:
        english, chinese = verdict.sentence(), verdict.sentence("zh")
        assert "900" in english
        assert "900" in chinese
        assert not {"{", "}"} & set(english + chinese)
        assert f"{verdict.effect[0]:+.1%}" in chinese
    assert "No evidence of a useful ranking" in told[2].sentence()


def test_detectable_qini_is_what_the_interval_allows() -> None:
    random = np.random.default_rng(7)
    verdict = verdict_of(random.normal(size=900), random.normal(size=900), random.normal(size=900))
    _, lower, upper = verdict.figures["uplift"]["qini"]
    assert verdict.detectable_qini == pytest.approx((upper - lower) * 2.8 / 3.92)


def test_segments_that_do_not_differ_are_drawn_together() -> None:
    random = np.random.default_rng(8)
    segment = pd.Series(random.choice(["x", "y", "z"], size=3000))
    alike = CrossFitted({}, random.normal(0.1, 1, size=3000), np.zeros(3000), np.arange(3000))
    apart = CrossFitted(
        {}, alike.effect + segment.map({"x": -1.0, "y": 0.0, "z": 1.0}), np.zeros(3000), np.arange(3000)
    )
    same, different = (segment_effects(fitted, segment) for fitted in (alike, apart))
    assert np.ptp(same["effect"]) < 0.5 * np.ptp(same["raw"])
    assert ((same["lower"] < 0.1) & (same["upper"] > 0.1)).all()
    assert different["effect"].tolist() == pytest.approx([-0.9, 0.1, 1.1], abs=0.1)
    assert (same["draws"].sum(), list(same["segment"])) == (3000, ["x", "y", "z"])


def channel_draws(size: int, seed: int, crossing: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three arms; a call moves those with high `a` and a message those with low `a`, as far as `crossing` says."""
    random = np.random.default_rng(seed)
    features = pd.DataFrame({"a": random.normal(size=size), "b": random.normal(size=size)})
    arm = random.choice(["hold_out", "phone", "sms"], size=size)
    lift = np.select(
        [arm == "phone", arm == "sms"], [0.9 + crossing * features["a"], 0.6 - crossing * features["a"]], 0
    )
    label = (random.random(size) < sigmoid(-1 + lift)).astype(int)
    examples = pd.DataFrame({"arm": arm, "propensity": 1 / 3, "label": label, "household_id": np.arange(size)})
    return examples, features


def test_one_channel_for_all_until_data_say_otherwise() -> None:
    cost = {"sms": 0.0, "phone": 0.0}
    alike = channel_draws(2400, 9, crossing=0.0)
    allowed = pd.DataFrame(True, index=range(2400), columns=["sms", "phone"])
    fixed = choose_channels(*alike, allowed, cost)
    assert (fixed.is_personal, fixed.order) == (False, ("phone", "sms"))
    assert choose_channels(*alike, allowed, cost | {"phone": 0.3}).order == ("sms", "phone")
    personal = choose_channels(*channel_draws(2400, 9, crossing=1.5), allowed, cost)
    assert personal.is_personal
    assert personal.gain[0] > 0.05
    nobody = choose_channels(*alike, allowed.assign(phone=False), cost)
    assert nobody.worth["phone"] == 0
    assert nobody.order[0] == "sms"


def test_channel_with_too_few_draws_is_refused() -> None:
    examples, features = channel_draws(240, 10, 0.0)
    examples.loc[examples["arm"] == "phone", "arm"] = "sms"
    with pytest.raises(NotEnoughDataError, match="arm phone has 0"):
        choose_channels(examples, features, pd.DataFrame({"phone": [True] * 240}), {"phone": 0.0})


def test_list_keeps_to_consent_and_leaves_out_what_does_not_pay() -> None:
    allowed = np.array([[True, True], [False, True], [False, False], [True, True], [True, True]])
    uplift = np.array([0.10, 0.10, 0.90, 0.01, 0.10])
    margin = np.array([100.0, 100.0, 100.0, 100.0, 300.0])
    found = priority(uplift, np.arange(5.0), allowed, cost=[2.0, 1.0], margin=margin, order=[0, 1])
    assert found["channel"].tolist() == [0, 1, -1, -1, 0]
    assert found["worth"].tolist() == pytest.approx([8, 9, 0, 0, 28])
    assert found["place"].tolist() == [3, 2, 0, 0, 1]
    own = priority(np.column_stack([uplift, uplift]), np.arange(5.0), allowed, cost=[2.0, 1.0], margin=margin)
    assert own["channel"].tolist() == [1, 1, -1, -1, 1]


def test_equal_worth_is_ordered_by_rank() -> None:
    allowed = np.ones((3, 1), dtype=bool)
    assert priority(np.full(3, 0.1), np.array([1.0, 3.0, 2.0]), allowed, [0.0], order=[0])["place"].tolist() == [
        3,
        1,
        2,
    ]
