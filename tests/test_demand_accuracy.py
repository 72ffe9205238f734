"""Figures equal those of the published tables, and those worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.demand.accuracy import QUANTILES, accuracy, pinball, seasonal_scale
from training.demand.backtest import backtest, methods, summary
from training.demand.panel import Panel
from training.demand.peers import SeasonalNaive


@pytest.fixture(scope="module")
def hospital(shared_data: Path) -> Panel:
    from benchmarks.forecast_hospital import read

    path = shared_data / "hospital_monthly" / "hospital_long.csv"
    if not path.exists():
        pytest.skip("the public hospital series are not here")
    return read(path)


def test_seasonal_naive_on_the_hospital_equals_what_is_published(hospital: Panel) -> None:
    assert hospital.values.shape == (767, 84)
    past = hospital.until(72)
    found = accuracy(hospital.values[:, 72:], SeasonalNaive().fit(past).predict(12), seasonal_scale(past.values))
    assert found["mase"] == pytest.approx(0.920528, abs=1e-6)  # fev, GIFT-Eval
    assert found["wape"] == pytest.approx(0.072626, abs=1e-6)


def test_figures_worked_out_by_hand() -> None:
    train = np.array([[*range(12), *range(2, 14)], [5.0] * 24], dtype=float)
    scale = seasonal_scale(train)
    assert scale[0] == 2
    assert np.isnan(scale[1])
    actual = np.array([[10.0, np.nan], [4.0, 6.0]])
    quantiles = np.broadcast_to(np.array([8.0, 9, 10, 11, 12, 13, 14, 15, 16]), (2, 2, 9))
    found = accuracy(actual, quantiles, scale)
    assert found["mase"] == 1.0  # |12 - 10| / 2; the constant series has no scale
    assert found["wape"] == pytest.approx((2 + 8 + 6) / 20)
    assert found["bias"] == pytest.approx((2 + 8 + 6) / 20)
    assert found["coverage_80"] == pytest.approx(1 / 3)
    assert found["smape"] == pytest.approx(np.mean([2 * 2 / 22, 2 * 8 / 16, 2 * 6 / 18]))
    one = np.mean([2 * max(q * (10 - f), (q - 1) * (10 - f)) for q, f in zip(QUANTILES, range(8, 17), strict=True)])
    assert pinball(actual, quantiles)[0, 0] == pytest.approx(one)
    assert found["sql"] == pytest.approx(one / 2)


def test_backtest_agrees_with_the_figures_of_its_window(hospital: Panel) -> None:
    few = hospital.take(np.arange(0, 767, 60))
    result = backtest(few, methods(("seasonal_naive", "structural")), origins=(60, 72))
    assert len(result) == 2 * 2 * len(few) * 12
    table = summary(result, by=("method", "origin")).set_index(["method", "origin"])
    past = few.until(72)
    direct = accuracy(few.values[:, 72:], SeasonalNaive().fit(past).predict(12), seasonal_scale(past.values))
    for name in ("mase", "sql", "wql", "wape", "bias", "coverage_80"):
        assert table.loc[("seasonal_naive", "2005-12"), name] == pytest.approx(direct[name])
    by_step = summary(result, by=("method", "step"))
    assert len(by_step) == 2 * 12


def test_backtest_sees_nothing_after_its_origin(hospital: Panel) -> None:
    few = hospital.take(np.arange(0, 767, 100))
    spoiled = Panel(few.ids, few.months, np.where(np.arange(84) >= 60, 1e6, few.values))
    told = [backtest(panel, methods(("blend",)), origins=(60,)).filter(like="q") for panel in (few, spoiled)]
    np.testing.assert_array_equal(told[0].to_numpy(), told[1].to_numpy())
