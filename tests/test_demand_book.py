"""The book as a sign of the months ahead: believed where it told something, and only what it said at the time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from training.demand.accuracy import QUANTILES, pinball
from training.demand.book import learn_signal, surprises
from training.demand.intervals import log_unit
from training.demand.panel import Floats, Panel
from training.demand.structural import PooledStructural

MONTHS = pd.period_range("2022-01", periods=48, freq="M")
KNOWN, MOMENTS, STEPS = 45, 25, 2
LEVEL = np.full(12, "clinic", dtype=object)
MEDIAN = QUANTILES.index(0.5)


def world(told: float, seed: int) -> tuple[Floats, Floats]:
    """Visits of 12 clinics that jump about by 30 %, and what stood in the book at each moment, newest first.

    Of a month's jump the share `told` shows in the book: half of the first month's visits are booked by then, a
    fifth of the second's.
    """
    rng = np.random.default_rng(seed)
    jump = rng.normal(0, 0.3, (12, len(MONTHS)))
    usual = np.exp(rng.normal(5, 0.5, (12, 1)))
    visits = np.round(usual * np.exp(jump))
    seen = usual * np.exp(told * jump)
    booked = np.zeros((MOMENTS, 12, STEPS))
    for back in range(MOMENTS):
        for step, share in enumerate((0.5, 0.2)):
            booked[back, :, step] = rng.poisson(share * seen[:, KNOWN - back + step])
    return visits, booked


@pytest.fixture(scope="module")
def telling() -> tuple[Panel, Floats, Floats]:
    visits, booked = world(told=1.0, seed=3)
    return Panel(pd.RangeIndex(12), MONTHS[:KNOWN], visits[:, :KNOWN]), booked, visits[:, KNOWN:]


def test_a_telling_book_moves_and_narrows_the_first_months(telling: tuple[Panel, Floats, Floats]) -> None:
    panel, booked, actual = telling
    signal = learn_signal(booked, panel, None, LEVEL)
    assert signal is not None
    assert ((signal.effect > 0.6) & (signal.effect <= 1.1)).all()
    assert (signal.width[0] < 0.8).all()
    plain = PooledStructural().fit(panel).predict(3)
    surprise = surprises(booked, panel, plain[..., MEDIAN])
    told = signal.applied(plain, surprise, LEVEL, log_unit(panel.values))
    loss = [pinball(actual, quantiles).mean(axis=0) for quantiles in (told, plain)]
    assert (loss[0][:STEPS] < 0.7 * loss[1][:STEPS]).all()
    np.testing.assert_array_equal(told[:, 2], plain[:, 2])
    assert (np.diff(told, axis=2) >= 0).all()


def test_a_book_that_says_nothing_changes_nothing() -> None:
    visits, booked = world(told=0.0, seed=4)
    panel = Panel(pd.RangeIndex(12), MONTHS[:KNOWN], visits[:, :KNOWN])
    signal = learn_signal(booked, panel, None, LEVEL)
    assert signal is None or np.abs(signal.effect).max() < 0.1


def test_nothing_is_learned_from_what_had_not_come_yet(telling: tuple[Panel, Floats, Floats]) -> None:
    panel, booked, _ = telling
    earlier = panel.until(KNOWN - 2)
    median = np.full((12, STEPS), 100.0)
    expected = surprises(booked[2:], earlier, median)
    poisoned = booked.copy()
    poisoned[:2] = 1e6
    changed = Panel(panel.ids, panel.months, np.where(np.arange(KNOWN) < KNOWN - 2, panel.values, 1e6))
    np.testing.assert_array_equal(surprises(poisoned[2:], changed.until(KNOWN - 2), median), expected)


def test_a_short_book_is_not_used(telling: tuple[Panel, Floats, Floats]) -> None:
    panel, booked, _ = telling
    assert learn_signal(booked[:10], panel, None, LEVEL) is None
    assert learn_signal(booked, panel.until(8), None, LEVEL) is None
    assert not surprises(booked[:4], panel, np.full((12, STEPS), 100.0)).any()
