"""What a panel was made of is found again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from training.demand.accuracy import QUANTILES, accuracy, seasonal_scale
from training.demand.common import common_effects, noise_law, panel_course, shrunken_seasons
from training.demand.intermittent import hurdle_quantiles
from training.demand.panel import Floats, Panel
from training.demand.peers import SeasonalNaive
from training.demand.structural import PooledStructural

SEASON = 0.3 * np.sin(2 * np.pi * np.arange(12) / 12)
WORKDAY = 0.04
MONTHS = pd.period_range("2018-01", periods=72, freq="M")


def made(series: int, seed: int, noise: float = 0.1) -> tuple[Panel, pd.DataFrame, Floats]:
    """A panel of log-normal counts about a known course, its calendar, and that course."""
    rng = np.random.default_rng(seed)
    calendar = pd.DataFrame({"workdays": rng.integers(18, 24, len(MONTHS)).astype(float)}, index=MONTHS)
    level = rng.normal(4, 1, (series, 1))
    shared = SEASON[MONTHS.month - 1] + WORKDAY * (calendar["workdays"].to_numpy() - 21)
    course = np.exp(level + shared + rng.normal(0, 0.01, (series, len(MONTHS))).cumsum(axis=1))
    values = course * np.exp(rng.normal(0, noise, course.shape))
    return Panel(pd.RangeIndex(series), MONTHS, values), calendar, course


@pytest.fixture(scope="module")
def fitted() -> tuple[PooledStructural, Panel, pd.DataFrame, Floats]:
    panel, calendar, course = made(80, seed=1)
    return PooledStructural().fit(panel.until(60), calendar), panel, calendar, course


def test_season_and_effect_of_working_days_are_recovered(fitted) -> None:
    model = fitted[0]
    np.testing.assert_allclose(model.common_.season, SEASON, atol=0.03)
    assert model.common_.coefficients[0] == pytest.approx(WORKDAY, abs=0.006)


def test_forecast_is_near_the_best_possible_and_as_wide_as_it_says(fitted) -> None:
    model, panel, _, course = fitted
    actual, scale = panel.values[:, 60:], seasonal_scale(panel.values[:, :60])
    found = accuracy(actual, model.predict(12), scale)
    best = accuracy(actual, np.repeat(course[:, 60:, None], 9, axis=2), scale)
    naive = accuracy(actual, SeasonalNaive().fit(panel.until(60)).predict(12), scale)
    assert found["mase"] < 1.12 * best["mase"]
    assert found["mase"] < 0.8 * naive["mase"]
    assert 0.74 < found["coverage_80"] < 0.88


def test_two_months_of_history_borrow_the_season_of_the_panel(fitted) -> None:
    _, panel, calendar, _ = fitted
    values = panel.values[:, :60].copy()
    values[:8, :-2] = np.nan
    short = PooledStructural().fit(Panel(panel.ids, panel.months[:60], values), calendar).predict(12)[:8, :, 4]
    actual = panel.values[:8, 60:]
    flat = values[:8, 58:].mean(axis=1, keepdims=True)
    assert np.abs(short - actual).sum() < 0.7 * np.abs(flat - actual).sum()


def test_forecast_depends_neither_on_order_nor_on_unit(fitted) -> None:
    model, panel, calendar, _ = fitted
    order = np.random.default_rng(5).permutation(len(panel))
    shuffled = PooledStructural().fit(panel.until(60).take(order), calendar).predict(12)
    np.testing.assert_allclose(shuffled, model.predict(12)[order], rtol=1e-6)
    cents = Panel(panel.ids, panel.months[:60], panel.values[:, :60] * 100)
    np.testing.assert_allclose(PooledStructural().fit(cents, calendar).predict(12), model.predict(12) * 100, rtol=1e-4)


def test_a_new_large_series_does_not_look_like_growth_of_the_panel() -> None:
    z = np.zeros((3, 24))
    z[2] = 5
    z[2, :12] = np.nan
    course, precision = panel_course(z, np.ones(3))
    np.testing.assert_allclose(course, 0, atol=1e-9)
    assert precision[0] == 2


def test_common_effects_with_a_single_year_stay_finite() -> None:
    found = common_effects(np.zeros((2, 3)), np.ones(2), np.array([0.0, 1, 2]), np.empty((3, 0)))
    np.testing.assert_allclose(found.season, 0, atol=1e-9)


def test_noise_law_is_recovered() -> None:
    rng = np.random.default_rng(2)
    mean = np.exp(rng.normal(4, 1, 4000))
    variance = (1.5 / mean + 0.004) * rng.chisquare(60, 4000) / 60
    assert noise_law(variance, np.full(4000, 60.0), mean) == pytest.approx((1.5, 0.004), rel=0.08)


def test_own_seasons_are_shrunk_between_none_and_their_means() -> None:
    rng = np.random.default_rng(3)
    month = np.arange(60) % 12
    own = rng.normal(0, 0.2, (200, 12))
    own -= own.mean(axis=1, keepdims=True)
    found = shrunken_seasons(own[:, month] + rng.normal(0, 0.3, (200, 60)), month)
    raw = 0.3**2 / 5
    assert np.mean((found - own) ** 2) < 0.8 * raw
    assert (shrunken_seasons(rng.normal(0, 0.3, (200, 60)), month) ** 2).mean() < 0.2 * raw


def test_hurdle_quantiles_are_those_of_a_known_mixture() -> None:
    rng = np.random.default_rng(4)
    sizes = np.exp(rng.normal(3, 0.5, (300, 120)))
    values = np.where(rng.random((300, 120)) < 0.4, 0.0, sizes)
    told = hurdle_quantiles(values, np.zeros(120), np.zeros(1), np.asarray(QUANTILES)).mean(axis=0)[0]
    rng_truth = np.where(rng.random(200_000) < 0.4, 0.0, np.exp(rng.normal(3, 0.5, 200_000)))
    np.testing.assert_allclose(
        told[[0, 1, 5, 6, 7, 8]], np.quantile(rng_truth, QUANTILES)[[0, 1, 5, 6, 7, 8]], rtol=0.12
    )
