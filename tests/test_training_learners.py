"""The two learners and their blend: what adds up, what is assumed, what is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.contracts import CONTRACTS, ModelContract
from training.learners import fit_booster, spline_logistic
from training.metrics import sigmoid
from training.portable_model import Blend


def rows_of(contract: ModelContract, count: int, seed: int, gaps: float = 0.1) -> pd.DataFrame:
    """Random rows of a contract's features, in the ranges of their units, with gaps."""
    random = np.random.default_rng(seed)
    ranges = {"flag": (0, 2), "weekday": (0, 7), "hour": (7, 20), "days": (0, 60), "years": (1, 90)}
    frame = pd.DataFrame(index=range(count))
    for feature in (*contract.features, *contract.conditions):
        if feature.unit == "log ratio":
            frame[feature.name] = random.normal(0, 0.7, count)
        else:
            frame[feature.name] = random.integers(*ranges.get(feature.unit, (0, 6)), count).astype(float)
    unknown = ["visit_hour", "days_since_visit_kept", "days_since_visit_missed", "years_since_birth", "is_female"]
    for name in unknown:
        frame.loc[random.random(count) < gaps, name] = np.nan
    return frame


def truth(frame: pd.DataFrame) -> np.ndarray:
    lead = frame["days_until_visit"] if "days_until_visit" in frame else frame["days_since_booking"]
    outage = frame.get("is_reminder_outage", 0.0)
    age = frame["years_since_birth"].fillna(40)
    return np.asarray(
        0.03 * lead - 0.02 * (age - 40) + 0.8 * frame["visits_missed_excess_mean_ever"] + 1.0 * outage - 1.5
    )


@pytest.fixture(scope="module", params=list(CONTRACTS))
def blend(request: pytest.FixtureRequest) -> tuple[ModelContract, Blend]:
    """A blend fitted on random rows, with booster; the booking contract has a condition."""
    contract = CONTRACTS[request.param]
    frame = rows_of(contract, 2500, 1)
    label = (np.random.default_rng(2).random(2500) < sigmoid(truth(frame))).astype(float)
    read = (*contract.features, *contract.conditions)
    model = Blend(
        contract.feature_names,
        spline_logistic(read).fit(frame, label),
        fit_booster(frame, label, read, seed=7),
        weight=0.5,
        intercept=-0.1,
        slope=0.9,
        conditions=tuple(feature.name for feature in contract.conditions),
    )
    return contract, model


@pytest.mark.parametrize(("weight", "boosted"), [(0.0, True), (0.5, True), (1.0, True), (0.0, False), (0.5, False)])
def test_contributions_sum_to_the_logit(blend: tuple[ModelContract, Blend], weight: float, boosted: bool) -> None:
    contract, whole = blend
    model = replace(whole, weight=weight, booster=whole.booster if boosted else None)
    frame = rows_of(contract, 200, 3, gaps=0.5)
    frame.loc[0, frame.columns != "visit_weekday"] = np.nan  # nothing is known but the day
    told = model.contributions(frame)
    assert list(told.columns) == [*contract.feature_names, "base"]
    assert told.index.equals(frame.index)
    logit = model.intercept + model.slope * model.raw_logit(frame)
    assert np.abs(told.sum(axis=1) - logit).max() < 1e-9
    assert np.abs(sigmoid(told.sum(axis=1).to_numpy()) - model.predict(frame)).max() < 1e-12


def test_both_learners_count_as_weighted(blend: tuple[ModelContract, Blend]) -> None:
    contract, model = blend
    frame = rows_of(contract, 50, 4)
    alone = [replace(model, weight=weight).raw_logit(frame) for weight in (0.0, 1.0)]
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    assert replace(model, weight=0.25).raw_logit(frame) == pytest.approx(0.75 * alone[0] + 0.25 * alone[1])


def test_order_and_number_of_columns_do_not_matter(blend: tuple[ModelContract, Blend]) -> None:
    contract, model = blend
    frame = rows_of(contract, 100, 5)
    shuffled = frame[frame.columns[::-1]].assign(appointment_id="A1")
    assert model.predict(shuffled).tolist() == model.predict(frame).tolist()
    pd.testing.assert_frame_equal(model.contributions(shuffled), model.contributions(frame))


def test_a_missing_feature_is_an_error(blend: tuple[ModelContract, Blend]) -> None:
    contract, model = blend
    with pytest.raises(KeyError, match="visit_hour"):
        model.predict(rows_of(contract, 3, 5).drop(columns="visit_hour"))


def test_conditions_are_learned_and_then_assumed_away() -> None:
    contract = CONTRACTS["no_show_booking"]
    frame = rows_of(contract, 2500, 6)
    label = (np.random.default_rng(7).random(2500) < sigmoid(truth(frame))).astype(float)
    read = (*contract.features, *contract.conditions)
    logistic = spline_logistic(read).fit(frame, label)
    names = [feature.name for feature in read]
    on, off = (logistic.decision_function(frame.assign(is_reminder_outage=v)[names]) for v in (1.0, 0.0))
    assert (on - off).mean() > 0.2
    model = Blend(contract.feature_names, logistic, None, conditions=("is_reminder_outage",))
    for outage in (0.0, 1.0):
        assert model.raw_logit(frame.assign(is_reminder_outage=outage)) == pytest.approx(off)
    assert model.raw_logit(frame.drop(columns="is_reminder_outage")) == pytest.approx(off)


def test_what_is_stored_predicts_the_same(blend: tuple[ModelContract, Blend], tmp_path: Path) -> None:
    contract, model = blend
    frame = rows_of(contract, 100, 8)
    for number, kept in enumerate((model, replace(model, booster=None, weight=0.0))):
        read = Blend.load(kept.save(tmp_path / str(number)))
        assert read.predict(frame).tolist() == kept.predict(frame).tolist()
        assert (read.weight, read.intercept, read.slope) == (kept.weight, kept.intercept, kept.slope)
        assert list(read.columns) == list(kept.columns)


@pytest.mark.parametrize("name", ["visits_missed_excess_mean_ever", "clinic_missed_excess_mean_90d"])
def test_booster_moves_the_declared_way(blend: tuple[ModelContract, Blend], name: str) -> None:
    contract, model = blend
    declared = next(feature for feature in contract.features if feature.name == name)
    assert declared.monotone == 1
    only = replace(model, weight=1.0)
    frame = rows_of(contract, 60, 9)
    along = np.array([only.raw_logit(frame.assign(**{name: v})) for v in np.linspace(-2, 2, 25)])
    assert (np.diff(along, axis=0) >= -1e-9).all()


def test_booster_falls_with_confirmations_even_where_the_data_say_otherwise() -> None:
    contract = CONTRACTS["no_show_evening"]
    frame = rows_of(contract, 2500, 10)
    confirmed = frame["reminders_confirmed_count_ever"]
    label = (np.random.default_rng(11).random(2500) < sigmoid(0.5 * confirmed.to_numpy() - 2)).astype(float)
    booster = fit_booster(frame, label, contract.features, seed=7)
    model = Blend(contract.feature_names, None, booster, weight=1.0)
    model.logistic = spline_logistic(contract.features).fit(frame, label)
    along = np.array([model.raw_logit(frame[:60].assign(reminders_confirmed_count_ever=v)) for v in np.arange(6.0)])
    assert (np.diff(along, axis=0) <= 1e-9).all()


def test_an_effect_is_counted_to_its_own_feature() -> None:
    """Age is in products with days ahead and others; none of it may show up as theirs."""
    contract = CONTRACTS["no_show_booking"]
    frame = rows_of(contract, 2500, 12, gaps=0.0)
    label = (np.random.default_rng(13).random(2500) < sigmoid(truth(frame))).astype(float)
    read = (*contract.features, *contract.conditions)
    model = Blend(
        contract.feature_names, spline_logistic(read).fit(frame, label), None, conditions=("is_reminder_outage",)
    )
    told = [model.contributions(frame.assign(years_since_birth=age)) for age in (20.0, 75.0)]
    moved = (told[0] - told[1]).abs().max()
    assert moved["years_since_birth"] > 0.3
    assert moved.drop(["years_since_birth"]).max() < 1e-9
    none = frame.assign(visits_missed_excess_mean_ever=0.0)  # a product with it is nothing
    told = [model.contributions(none.assign(is_booked_same_day=flag)) for flag in (0.0, 1.0)]
    moved = (told[0] - told[1]).abs().max()
    assert moved["is_booked_same_day"] > 1e-3
    assert moved["visits_missed_excess_mean_ever"] < 1e-9


@pytest.mark.parametrize("name", list(CONTRACTS))
def test_protected_attributes_move_no_reason(name: str) -> None:
    contract = CONTRACTS[name]
    frame = rows_of(contract, 2500, 14, gaps=0.0)
    label = (np.random.default_rng(15).random(2500) < sigmoid(truth(frame))).astype(float)
    read = (*contract.features, *contract.conditions)
    model = Blend(
        contract.feature_names,
        spline_logistic(read).fit(frame, label),
        None,
        conditions=tuple(feature.name for feature in contract.conditions),
    )
    protected = [feature.name for feature in contract.features if feature.reason is None]
    shown = [feature.name for feature in contract.features if feature.reason]
    assert {"years_since_birth", "is_female"} < set(protected)
    before = model.contributions(frame)
    for feature in protected:
        after = model.contributions(frame.assign(**{feature: frame[feature].to_numpy()[::-1]}))
        assert (after[shown] - before[shown]).abs().to_numpy().max() < 1e-9, feature


def test_a_weekday_never_seen_is_like_no_day_at_all() -> None:
    """Clinics closed on Sundays open on one when a holiday is made up for; sklearn would warn."""
    contract = CONTRACTS["no_show_evening"]
    frame = rows_of(contract, 1500, 16, gaps=0.0)
    closed = frame[frame["visit_weekday"] < 6]
    label = (np.random.default_rng(17).random(len(closed)) < sigmoid(truth(closed))).astype(float)
    model = Blend(contract.feature_names, spline_logistic(contract.features).fit(closed, label), None)
    sunday = model.contributions(closed[:5].assign(visit_weekday=6.0))
    assert np.isfinite(sunday.to_numpy()).all()
