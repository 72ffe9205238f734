"""The ceilings of return and lapse: the recursions against brute force, the posterior against the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from features.errors import NotBuiltError, NotEnoughDataError
from features.simulator import PracticePlan, SimulatedPractice, simulate, simulate_clinics, write_export
from features.simulator.booking_kernels import kernels_of
from features.simulator.booking_life import LONGEST, booking_life, recall_leads
from features.simulator.care_model import Model
from features.simulator.care_state import GONE
from features.simulator.ceilings import (
    ceilings,
    figures,
    gain_curve,
    recall_share,
    uplift_of_top,
    weighted_auc,
)
from features.simulator.hazards import booking_chance, stale_factor
from features.simulator.observed import Observed
from features.simulator.observed_events import Event
from features.simulator.opening import draw_up_opening
from features.simulator.oracle_return import Case, follow_all, return_oracle, return_posterior
from features.simulator.panel import WEEK
from features.simulator.rates import BaseRates
from features.simulator.return_chance import look_ahead

NOW = datetime.fromisoformat("2026-11-17T09:30:00+08:00")
AS_OF = NOW - timedelta(days=364)  # of the first snapshot of ``return_truth``


@pytest.fixture(scope="module")
def told() -> SimulatedPractice:
    """A practice with the truth by brute force beside it: 16 runs per snapshot."""
    return next(iter(simulate_clinics(PracticePlan(now=NOW, patients=240, years=2), truth_runs=16)))


@pytest.fixture(scope="module")
def answers(told: SimulatedPractice) -> Iterator[pd.DataFrame]:
    """Both judges a year before the export's end."""
    posterior = return_posterior(told, AS_OF).set_index("patient_id")
    oracle = return_oracle(told, AS_OF).set_index("patient_id")
    return posterior.join(oracle.add_prefix("true_"))


# Brute force


def test_booking_ends_as_often_as_when_it_is_played_through() -> None:
    rates, lead, people = BaseRates(), 25, 60_000
    life = booking_life(rates, [0.7])
    rng = np.random.default_rng(3)
    day, left, status = np.zeros(people, int), np.full(people, lead), np.full(people, "open", dtype="U7")
    while (going := np.flatnonzero(status == "open")).size:
        early = rng.random(going.size) < life.early[1, left[going]]
        given, stood = going[early], going[~early]
        after = rng.integers(1, np.maximum(left[given], 2))
        moves = rng.random(given.size) < rates.attendance.rescheduled_share
        day[given] += after
        moved = given[moves]
        left[moved] = np.minimum(left[moved] - after[moves] + rng.integers(1, 12, moved.size), LONGEST)
        day[stood] += left[stood]
        chance, kept, missed = rng.random(stood.size), life.kept[1, left[stood]], life.missed[1, left[stood]]
        status[stood[chance < kept]] = "visited"
        left_care = (chance >= kept) & (chance < kept + missed)
        left_care &= rng.random(stood.size) < rates.demand.leaves_after_miss
        status[stood[left_care]] = "gone"
        gaps = np.concatenate([given[~moves], stood[(chance >= kept) & ~left_care]])
        again = rng.random(gaps.size) < rates.demand.rebooks
        status[gaps[~again]] = "failed"
        day[gaps[again]] += rng.integers(1, 21, again.sum())
    for within in (30, 60, 120):
        for name, table in (("visited", life.whole_visited), ("failed", life.whole_failed)):
            share = ((status == name) & (day <= within)).mean()
            assert table[1, lead, : within + 1].sum() == pytest.approx(share, abs=4 * np.sqrt(0.25 / people)), name


def _silent_patient(now: int, due: int, told_at: int) -> Observed:
    """One patient whose only visit was long ago, and who did not answer a message."""
    message = {"channel": "phone", "is_answered": False, "is_random": False}
    yes, no = np.ones(1, bool), np.zeros(1, bool)
    return Observed(
        now=now,
        ids=np.array(["P1"]),
        birth_year=np.array([1980]),
        interval_months=np.array([6]),
        household=np.array([0]),
        stays=np.ones(1),
        is_departed=no,
        may_contact=no,
        shares=np.zeros((1, 3)),
        price=np.array([0.5]),
        anxious=no,
        unsettled={},
        events=[
            Event(due - 26 * WEEK, "due", 0, {"due": due}),
            Event(told_at, "message", 0, message),
        ],
        open=[],
        last_visit=np.where(yes, due - 26 * WEEK, np.nan),
        attendance=pd.DataFrame(
            columns=["person", "is_missed", "lead_days", "age", "is_early", "is_monday", "is_new", "reminder"]
        ),
    )


def test_posterior_is_the_share_among_worlds_with_the_same_history() -> None:
    rates = BaseRates()
    surely = replace(rates.attendance, base=-20.0, early_exit=0.0, late_exit=0.0)
    rates = replace(rates, attendance=surely, contacts=replace(rates.contacts, negative_share=0.3))
    first, told_at, now = 86 * WEEK, 94 * WEEK + 700, 100 * WEEK + WEEK // 2
    opening = draw_up_opening(date(2020, 3, 2), 8 * 200)
    model = Model(rates, opening)
    seen = _silent_patient(now, first, told_at)
    state = follow_all(Case(seen, model))
    horizon = np.array([[90.0]])
    kernels = kernels_of(seen, state.care, model, state.effects, state.shares)
    returns = look_ahead(seen, state.care, model, kernels, state.prior, horizon).returns[0, 0]
    weight = state.care.weight[0] * state.prior[0, :, None]
    in_care = 1 - weight[GONE].sum() / weight.sum()

    people = 300_000
    rng = np.random.default_rng(11)
    effect = rng.normal(0, rates.demand.adherence_sd, people)
    put_off = rng.random(people) < rates.contacts.negative_share
    grid = np.linspace(-4, 4, 400)
    answer = model.answers(grid, 2021 - 1980, 0)[:, 0, 2] * stale_factor(rates.contacts, told_at - first)
    alive, kept, intends = np.ones(people, bool), np.ones(people, bool), np.zeros(people, bool)
    booked_at, toothache_at = np.full(people, np.inf), np.full(people, np.inf)
    for week in range(first // WEEK - 26 + 1, now // WEEK + 14):
        minute = week * WEEK
        ahead = minute > now
        alive &= rng.random(people) >= model.leaving(seen, minute, departs=minute > now - 30 * 1440)[0]
        hurts = alive & (rng.random(people) < model.hurts())
        annoyed = put_off & (told_at <= minute) & (minute < told_at + 8 * WEEK)
        factor = model.factor(seen, minute)[0] * np.where(annoyed, rates.contacts.annoyed, 1.0)
        chance = booking_chance(rates.demand, np.full(people, (minute - first) // WEEK), np.exp(effect), factor)
        books = alive & np.isinf(booked_at) & (rng.random(people) < chance)
        at = minute + rng.integers(0, 7, people) * 1440 + 870
        if not ahead:
            kept &= ~(hurts & (at < now)) & ~(books & (at < now))
            intends |= books
        toothache_at = np.where(hurts & np.isinf(toothache_at), at + 720, toothache_at)
        booked_at = np.where(books, at, booked_at)
        if minute <= told_at < minute + WEEK:
            yes = rng.random(people) < np.where(put_off, 0.0, np.interp(effect, grid, answer))
            kept &= ~np.where(alive, yes, rng.random(people) < rates.contacts.recall_books_lapsed)
    lead = rng.choice(LONGEST + 1, size=people, p=recall_leads())
    visit = np.minimum(booked_at + lead * 1440, toothache_at)
    same = np.flatnonzero(kept)
    assert same.size > 20_000
    share = (visit[same] <= now + 90 * 1440).mean()
    assert in_care == pytest.approx(alive_at(alive, same), abs=0.06)
    assert returns == pytest.approx(share, abs=4 * np.sqrt(share / same.size) + 0.004)


def alive_at(alive: np.ndarray, same: np.ndarray) -> float:
    """Share in care among the chosen."""
    return float(alive[same].mean())


def homes_of(practice: SimulatedPractice) -> pd.Series:
    """Household of each patient; their own number for who lives alone."""
    first = practice.tables["patients"].drop_duplicates("patient_id").set_index("patient_id")
    home: pd.Series = first["household_id"].where(first["household_id"] != "", first.index.to_series())
    return home


def test_oracle_agrees_with_the_same_world_run_on_many_times(
    told: SimulatedPractice, is_off: Callable[[pd.Series, pd.Series, int], bool]
) -> None:
    truth, home = told.truth["return_truth"], homes_of(told)
    for as_of in sorted(truth["as_of_at"].unique())[:2]:
        both = return_oracle(told, as_of).merge(truth[truth["as_of_at"] == as_of], on="patient_id")
        assert (both["in_care"].round() == both["is_in_care"]).mean() == 1.0
        for days in (90, 180):
            found, run = both[f"returns_{days}d_x"], both[f"returns_{days}d_y"]
            noise = np.sqrt((found * (1 - found) / 16).mean())
            # Brute force also knows what each had decided by then; that evens out over the households.
            assert np.sqrt(((found - run) ** 2).mean()) < noise + 0.06
            assert abs(found.mean() - run.mean()) < 0.03
            part = pd.cut(found, [-0.01, 0.1, 0.5, 0.9, 1.0])
            for _, rows in both.groupby(part, observed=True):
                off = rows[f"returns_{days}d_x"] - rows[f"returns_{days}d_y"]
                assert not is_off(off, rows["patient_id"].map(home), 16)


# The posterior


def test_posterior_is_calibrated_against_the_truth_and_below_it(answers: pd.DataFrame) -> None:
    for days in (90, 180):
        chance, true = answers[f"returns_{days}d"], answers[f"true_returns_{days}d"]
        assert chance.mean() == pytest.approx(true.mean(), abs=0.02)
        part = pd.cut(chance, [-0.01, 0.1, 0.4, 0.7, 0.9, 1.0])
        by_part = pd.DataFrame({"chance": chance, "true": true}).groupby(part, observed=True).agg(["mean", "size"])
        noise = 4 * 0.3 / np.sqrt(by_part["chance", "size"])
        assert ((by_part["chance", "mean"] - by_part["true", "mean"]).abs() < noise + 0.02).all()
        best, own = (weighted_auc(true.to_numpy(), score.to_numpy()) for score in (true, chance))
        assert 0.75 < own < best


def test_posterior_beats_what_can_be_read_off(told: SimulatedPractice, answers: pd.DataFrame) -> None:
    visits = told.tables["appointments"].query("status == 'completed'")
    last = visits[visits["status_known_at"] < AS_OF].groupby("patient_id")["starts_at"].max()
    true = answers["true_returns_180d"].to_numpy()
    both = np.concatenate([np.ones_like(true), np.zeros_like(true)])
    weight = np.concatenate([true, 1 - true])
    score = np.clip(answers["returns_180d"].to_numpy(), 1e-4, 1 - 1e-4)
    own = log_loss(both, np.tile(score, 2), sample_weight=weight)
    for proxy in (last.reindex(answers.index), pd.to_datetime(answers["due_on"])):
        rank = pd.qcut(proxy.rank(method="first"), 8, labels=False).fillna(-1).to_numpy()
        # The proxy is even told the true mean of each of its eighths.
        told_mean = pd.Series(true).groupby(rank).transform("mean").to_numpy()
        assert own < log_loss(both, np.tile(told_mean, 2), sample_weight=weight) - 0.05


def test_posterior_sees_nothing_that_came_later(told: SimulatedPractice, answers: pd.DataFrame) -> None:
    tables = dict(told.tables)
    for name, moment in (
        ("appointments", "booked_at"),
        ("communications", "sent_at"),
        ("recalls", "known_from_at"),
        ("patients", "known_from_at"),
        ("campaign_arms", "assigned_at"),
        ("plan_items", "proposed_at"),
    ):
        tables[name] = tables[name][tables[name][moment] < AS_OF]
    bookings = tables["appointments"].copy()
    later = ~(bookings["status_known_at"] < AS_OF)
    bookings.loc[later, "status"], bookings.loc[later, "status_known_at"] = "booked", pd.NaT
    tables["appointments"] = bookings
    before = return_posterior(replace(told, tables=tables, truth={}), AS_OF).set_index("patient_id")
    pd.testing.assert_frame_equal(before, answers[before.columns])


def test_nothing_can_be_told_of_the_null_practice() -> None:
    practice = simulate(PracticePlan(now=NOW, patients=300, years=2, preset="null"))
    found = return_posterior(practice, AS_OF)
    chance = found.loc[~found["has_booking"], "returns_90d"]
    assert len(chance) > 50
    assert chance.std() < 0.03
    true = return_oracle(practice, AS_OF).loc[~found["has_booking"], "returns_90d"]
    np.testing.assert_allclose(chance, true, atol=0.03)


# What the benchmark reads


def test_ceilings_of_a_folder_are_those_of_the_practice(
    told: SimulatedPractice, answers: pd.DataFrame, tmp_path: Path
) -> None:
    write_export(told, tmp_path)
    found = ceilings(tmp_path, AS_OF, patients=answers.index.tolist())
    assert list(found["question"].unique()) == ["return_90d", "return_180d", "lapse"]
    visits = told.tables["appointments"].query("status == 'completed'")
    came = visits[(visits["starts_at"] > AS_OF) & (visits["starts_at"] <= AS_OF + timedelta(days=180))]["patient_id"]
    own = figures(answers.index.isin(came).astype(int), answers["returns_180d"], answers["true_returns_180d"])
    row = found.query("question == 'return_180d' and judge == 'posterior'").iloc[0]
    for name, value in own.items():
        assert row[name] == pytest.approx(value, abs=1e-4), name


def test_ceilings_refuse_a_window_that_is_not_over(told: SimulatedPractice, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughDataError, match="180 days after"):
        ceilings(told, NOW - timedelta(days=100))
    with pytest.raises(NotBuiltError, match=r"plan\.json"):
        ceilings(tmp_path, AS_OF)


def test_weighted_auc_is_the_usual_one_on_labels() -> None:
    rng = np.random.default_rng(2)
    label, score = rng.integers(0, 2, 300), rng.integers(0, 20, 300) / 20
    assert weighted_auc(label, score) == pytest.approx(roc_auc_score(label, score))


def test_uplift_of_the_top_is_that_of_the_oracle_at_best() -> None:
    rng = np.random.default_rng(4)
    uplift = rng.normal(0.05, 0.1, 500)
    best = uplift_of_top(uplift, uplift)
    assert best == pytest.approx(np.sort(uplift)[-150:].mean())
    assert uplift_of_top(uplift, np.zeros(500)) == pytest.approx(uplift.mean())
    assert recall_share(uplift, uplift) == 1.0
    assert recall_share(uplift, np.zeros(500)) == pytest.approx(0.0)
    assert np.isnan(recall_share(np.zeros(500), rng.random(500)))
    curve = gain_curve(uplift, rng.random(500))
    assert (curve["oracle"] >= curve["ranked"]).all()
    assert curve["ranked"].iloc[-1] == pytest.approx(uplift.mean())
