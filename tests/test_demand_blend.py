"""Weights, widths and joint futures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

from training.demand.accuracy import QUANTILES, accuracy, seasonal_scale
from training.demand.blend import Blend, choose_weights, rolling_origins
from training.demand.boosted import BoostedDifferences
from training.demand.intervals import Window, fit_along, fit_factors, widen
from training.demand.panel import Floats, Panel
from training.demand.structural import PooledStructural

NORMAL = ndtri(np.asarray(QUANTILES))


def around(centre: Floats, sd: float) -> Floats:
    return np.exp(np.log(centre)[..., None] + sd * NORMAL)


def windows(series: int, sd: float, seed: int = 1, origins: int = 4) -> list[Window]:
    rng = np.random.default_rng(seed)
    return [
        Window(100 * np.exp(rng.normal(0, sd, (series, 12))), np.full(series, 10.0), np.full(series, 1e-9))
        for _ in range(origins)
    ]


def test_origins_end_within_the_history() -> None:
    assert rolling_origins(72, 12) == (36, 42, 48, 54, 60)
    assert rolling_origins(28, 12) == (16,)
    assert rolling_origins(20, 12) == ()


def test_a_member_that_knows_more_gets_the_weight() -> None:
    seen = windows(30, 0.2)
    good = [around(w.actual * np.exp(0.02), 0.05) for w in seen]
    bad = [around(np.full_like(w.actual, 200.0), 0.2) for w in seen]
    answers = [{"bad": b, "good": g} for b, g in zip(bad, good, strict=True)]
    weights, loss = choose_weights(seen, answers, ("bad", "good"))
    assert weights == {"bad": 0.0, "good": 1.0}
    assert loss["good"] < loss["bad"] == 1.0


def test_errors_that_cancel_are_blended_and_single_origins_are_not_trusted() -> None:
    seen = windows(30, 0.05)
    low = [around(np.full_like(w.actual, 85.0), 0.1) for w in seen]
    high = [around(np.full_like(w.actual, 117.6), 0.1) for w in seen]
    answers = [{"low": a, "high": b} for a, b in zip(low, high, strict=True)]
    weights, loss = choose_weights(seen, answers, ("low", "high"))
    assert weights["low"] == pytest.approx(0.5, abs=0.1)
    assert loss["blend"] < min(loss["low"], loss["high"])
    assert choose_weights(seen[:1], answers[:1], ("low", "high"))[0] == {"low": 1.0, "high": 0.0}


def test_intervals_too_narrow_by_half_are_doubled_for_their_level_alone() -> None:
    seen = windows(60, 0.2)
    sd = np.where(np.arange(60) < 30, 0.1, 0.2)[:, None, None]
    told = [np.exp(np.log(100) + sd * NORMAL) * np.ones((60, 12, 1)) for _ in seen]
    groups = np.array(["clinic"] * 30 + ["practice"] * 30, dtype=object)
    factors = fit_factors(seen, told, groups)
    assert factors["clinic", 2] == pytest.approx(2.0, abs=0.25)
    assert factors["practice", 2] == pytest.approx(1.0, abs=0.15)
    assert fit_factors([], [], groups)["clinic", 0] == 1.0
    stretched = widen(told[0], 2.0, np.full(60, 1e-9))
    np.testing.assert_allclose(stretched[..., 4], told[0][..., 4])
    np.testing.assert_allclose(np.log(stretched[0, 0, 8] / 100), 2 * 0.1 * NORMAL[8], rtol=1e-6)


def test_how_errors_hang_together_along_months_is_recovered() -> None:
    rng = np.random.default_rng(6)
    along = 0.8 ** np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    root = np.linalg.cholesky(along)
    scores = [rng.normal(size=(50, 12)) @ root.T for _ in range(40)]
    seen = [Window(100 * np.exp(0.1 * score), np.ones(50), np.full(50, 1e-9)) for score in scores]
    told = [around(np.full((50, 12), 100.0), 0.1) for _ in seen]
    np.testing.assert_allclose(fit_along(seen, told, 12), along, atol=0.06)
    assert fit_along([], [], 3)[0].tolist() == [1.0, 0.5, 0.25]


@pytest.fixture(scope="module")
def trending() -> Panel:
    """Series that share an echo: a month's change is partly undone the month after, and growth persists."""
    rng = np.random.default_rng(7)
    shock = rng.normal(0, 0.1, (60, 72))
    level = np.cumsum(shock, axis=1)
    level[:, 1:] -= 0.9 * shock[:, :-1].cumsum(axis=1) * 0.5
    months = pd.period_range("2018-01", periods=72, freq="M")
    return Panel(pd.RangeIndex(60), months, np.exp(5 + level))


def test_blend_is_no_worse_than_its_members_and_uses_its_cache(trending: Panel) -> None:
    members = ("structural", "boosted", "seasonal_naive")
    cache: dict[str, Floats] = {}
    past, actual = trending.until(60), trending.values[:, 60:]
    blend = Blend(members, cache=cache).fit(past)
    told = blend.predict(12)
    scale = seasonal_scale(past.values)
    structural = PooledStructural().fit(past)
    alone = [structural.predict(12), BoostedDifferences(structural).fit(past).predict(12)]
    best = min(accuracy(actual, member, scale)["sql"] for member in alone)
    assert accuracy(actual, told, scale)["sql"] < 1.05 * best
    stored = dict(cache)
    again = Blend(members, cache=cache).fit(past).predict(12)
    np.testing.assert_array_equal(again, told)
    assert cache.keys() == stored.keys()
