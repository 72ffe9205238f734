"""Expected amounts: the deviance by hand, rules, recovery of a known mean, the stored model, the gate."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from features.contracts import ALL_CONTRACTS, VALUE_365D, ModelContract
from features.errors import NotEnoughDataError
from features.spec import Feature
from training.amounts import amount_scores, concentration, deviance_gain, share_at
from training.plots import amount_figures
from training.portable_model import Blend, PortableModel
from training.value import LAST_YEAR, ClassRule, LastYearRule, MeanRule, fit, prove

FEATURES = (
    Feature(LAST_YEAR, "", "Paid in 365 days [cents]", "money"),
    Feature("days_since_last_visit", "", "Since the last visit [days]", "last_visit"),
    Feature("is_member", "", "A member [flag]", "membership"),
)
CONTRACT = ModelContract(
    "value_365d", 1, "?", "patient", "snapshot", FEATURES, "cents", "last year", "call", horizon_days=365
)
MOMENTS = pd.date_range("2022-01-01", periods=5, freq="365D", tz="UTC")


def snapshots(patients: int, seed: int = 1) -> pd.DataFrame:
    """Members pay thrice as much; a third pays at all; what was paid last year is half luck."""
    random, rows = np.random.default_rng(seed), []
    member, level = random.random(patients) < 0.3, random.gamma(2, 10_000, patients)
    for moment in MOMENTS[:-1]:
        expected = level * np.where(member, 3, 1)
        amount, past = (np.where(random.random(patients) < 0.35, random.gamma(1.5, expected), 0.0) for _ in range(2))
        frame = pd.DataFrame({"patient_id": [f"p{n}" for n in range(patients)], "label": amount, LAST_YEAR: past})
        frame["days_since_last_visit"], frame["is_member"] = random.integers(1, 700, patients), member.astype(float)
        rows.append(
            frame.assign(as_of=moment, label_known_at=moment + pd.Timedelta(days=365), expected=expected * 0.525)
        )
    told = {"has_booking": False, "visits_kept": 3, "birth_year": 1980, "sex": "female", "days_since_first_visit": 900}
    return pd.concat(rows, ignore_index=True).assign(household_id=lambda f: f["patient_id"], **told)


def test_deviance_is_that_of_the_books() -> None:
    from sklearn.metrics import mean_tweedie_deviance

    random = np.random.default_rng(2)
    amount, expected = random.gamma(1, 100, 500) * (random.random(500) < 0.5), random.gamma(5, 20, 500)
    weight = random.integers(1, 4, 500).astype(float)
    mean = np.average(amount, weights=weight)
    by_book = mean_tweedie_deviance(amount / mean, expected / mean, power=1.5, sample_weight=weight)
    assert -deviance_gain(amount, expected, weight) == pytest.approx(by_book)
    one = np.ones(500)
    assert deviance_gain(amount, np.full(500, amount.mean()), one) > deviance_gain(amount, expected * 3, one)
    assert np.isfinite(deviance_gain(np.array([-5.0, 10.0]), np.zeros(2), np.ones(2)))


def test_ranking_of_amounts_by_hand() -> None:
    amount = np.array([6.0, 3.0, 1.0, 0.0])
    assert concentration(amount, amount) == pytest.approx(2 * (6 + 9 + 10 + 10) / 40 - 1 - 1 / 4)
    assert concentration(amount, -amount) == pytest.approx(-concentration(amount, amount))
    assert share_at(amount, amount, 0.25) == 0.6


def test_rules_by_hand() -> None:
    past = np.array([0, 0, 0, 0, 0, 10, 20, 30, 80, 100], float)
    frame, amount = pd.DataFrame({LAST_YEAR: past}), np.array([0, 0, 0, 0, 5, 10, 10, 10, 40, 60], float)
    assert MeanRule().fit(frame, amount).predict(frame).tolist() == [13.5] * 10
    assert ClassRule().fit(frame, amount).predict(frame).tolist() == [1.0] * 5 + [10.0] * 3 + [50.0] * 2
    amount = amount + 7
    slope, base = np.polyfit(past, amount, 1)
    assert LastYearRule().fit(frame, amount).predict(frame).tolist() == pytest.approx((base + slope * past).tolist())


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return snapshots(900)


@pytest.fixture(scope="module")
def model(rows: pd.DataFrame) -> Blend:
    return fit(FEATURES, rows, MOMENTS[-1])


def test_known_mean_is_found(rows: pd.DataFrame, model: Blend) -> None:
    assert model.booster is not None
    said = model.predict(rows)
    by_group = rows.assign(said=said).groupby("is_member")["said"].mean()
    assert 2.2 < by_group[1.0] / by_group[0.0] < 3.3  # thrice, drawn together by the penalty
    assert amount_scores(rows["label"].to_numpy(), said)["observed_to_expected"] == pytest.approx(1, abs=0.1)


def test_small_practice_falls_back_to_splines_alone(rows: pd.DataFrame) -> None:
    few = rows[rows["patient_id"].isin([f"p{n}" for n in range(250)])]
    model = fit(FEATURES, few, MOMENTS[-1])
    assert (model.booster, model.weight) == (None, 0.0)
    said = few.assign(said=model.predict(few)).groupby("is_member")["said"].mean()
    assert said[1.0] > 1.8 * said[0.0]
    with pytest.raises(NotEnoughDataError, match="at least 30 examples that paid"):
        fit(FEATURES, few.head(20), MOMENTS[-1])


def test_stored_model_answers_amounts_and_what_each_feature_adds(
    rows: pd.DataFrame, model: Blend, tmp_path: Path
) -> None:
    stored = PortableModel()
    stored.load_context(SimpleNamespace(artifacts=model.save(tmp_path / "m")))
    features = rows[[feature.name for feature in FEATURES]].head(50)
    answer = stored.predict(None, features, {"explain": True})
    assert answer["amount"].to_numpy() == pytest.approx(model.predict(features))
    parts = answer.drop(columns="amount").sum(axis=1)
    assert np.exp(parts.to_numpy()) == pytest.approx(answer["amount"].to_numpy())


def test_proof_is_in_time_order_and_the_gate_asks_for_the_deviance(rows: pd.DataFrame) -> None:
    found = prove(CONTRACT, rows, [MOMENTS[2]])
    assert (found.rows["as_of"] == MOMENTS[2]).all()
    assert found.must_beat == ("mean", "last_year", "abc_class")
    assert all(found.comparisons[rule]["deviance"].is_better for rule in found.must_beat)
    assert found.failures == ()
    assert set(amount_figures(found.label, found.predictions)) == {"reliability.png", "concentration.png"}
    shuffled = rows.assign(label=np.random.default_rng(3).permutation(rows["label"].to_numpy()))
    refused = prove(CONTRACT, shuffled, [MOMENTS[2]]).failures
    assert any("on deviance" in failure for failure in refused)
    with pytest.raises(NotEnoughDataError, match="another year of payments"):
        prove(CONTRACT, rows, [MOMENTS[0]])


def test_contract_is_asked_by_training() -> None:
    assert ALL_CONTRACTS["value_365d"] is VALUE_365D
    assert LAST_YEAR in VALUE_365D.feature_names
