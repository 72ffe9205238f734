"""The known truth is the truth: ceilings against brute force, presets without signal, effects where they belong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from sklearn.metrics import roc_auc_score

from features.records.landing import import_files
from features.records.mapping import load_mapping
from features.records.store import RecordStore
from features.records.tables import TABLES
from features.simulator import BaseRates, PracticePlan, SimulatedPractice, simulate, simulate_clinics
from features.simulator.hazards import attends_by, window_truth
from features.simulator.no_show_ceiling import MOMENTS, no_show_answers, no_show_ceilings
from features.simulator.oracle import no_show_oracles, no_show_posterior
from features.simulator.presets import rates_of

NOW = datetime.fromisoformat("2026-11-17T09:30:00+08:00")


IsOff = Callable[[pd.Series, pd.Series, int], bool]


def plan(**changes: object) -> PracticePlan:
    return PracticePlan(**({"now": NOW, "patients": 1500, "years": 3} | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def told() -> SimulatedPractice:
    """A practice with the truth about returning, from 12 runs per snapshot."""
    return next(iter(simulate_clinics(plan(patients=500, years=2), truth_runs=10)))


# No-show


def test_posterior_is_the_share_among_those_with_the_same_history() -> None:
    rng = np.random.default_rng(3)
    offsets = np.array([-2.0, -1.0, -1.5, -0.5])
    effect = rng.normal(0, 1.0, 400_000)
    missed = rng.random((len(effect), 4)) < 1 / (1 + np.exp(-(offsets + effect[:, None])))
    known, moments = np.array([1, 2, 3, 4]), np.array([0.5, 1.5, 2.5, 3.5])
    for history in ([1, 0, 1], [0, 0, 0], [1, 1, 0]):
        same = (missed[:, :3] == history).all(axis=1)
        share = missed[same, 3].mean()
        found = no_show_posterior(offsets, np.array([*history, np.nan]), known, moments, 1.0)[3]
        assert found == pytest.approx(share, abs=4 * np.sqrt(share / same.sum()))


def test_posterior_knows_nothing_that_came_later() -> None:
    outcomes = np.array([np.nan, 1.0])
    early = no_show_posterior(np.zeros(2), outcomes, np.array([5, 9]), np.array([1, 2]), 1.0)
    assert early == pytest.approx([0.5, 0.5])


def test_ceilings_of_no_show_are_ordered_and_calibrated() -> None:
    practice = simulate(plan())
    oracles = no_show_oracles(practice.tables["appointments"], practice.bookings_truth, BaseRates().attendance)
    seen = oracles["is_no_show"]
    latent, posterior = (roc_auc_score(seen, oracles[name]) for name in ("latent", "posterior"))
    assert 0.6 < posterior < latent < 0.85
    for name in ("latent", "posterior"):
        chance = oracles[name]
        assert abs(seen.sum() - chance.sum()) < 3.5 * np.sqrt((chance * (1 - chance)).sum())


def test_ceilings_of_missed_bookings_are_ordered_and_their_posterior_is_calibrated(is_off: IsOff) -> None:
    practice = simulate(plan(patients=1000))
    since = NOW - timedelta(days=365)
    answers = no_show_answers(practice, since)
    assert set(answers["moment"]) == set(MOMENTS)
    for _, own in answers.groupby("moment"):
        for part in (own["posterior"] >= 0, own["posterior"] > own["posterior"].median()):
            # A patient's bookings share what the posterior does not know of the patient.
            assert not is_off((own["oracle"] - own["posterior"])[part], own["patient_id"][part], 4)
    found = no_show_ceilings(practice, since).set_index(["question", "judge"])["expected_auc"].unstack("judge")
    assert (found["posterior"] < found["oracle"]).all()
    assert found.loc["no_show_evening_before", "posterior"] > 0.62


def test_missed_posterior_sees_nothing_that_came_later() -> None:
    practice = simulate(plan(patients=200, years=2))
    since, until = NOW - timedelta(days=300), NOW - timedelta(days=200)
    later = practice.tables["appointments"]["booked_at"] >= until
    bookings = practice.tables["appointments"].assign(status=lambda frame: frame["status"].where(~later, "no_show"))
    changed = replace(practice, tables={**practice.tables, "appointments": bookings})
    before, after = (no_show_answers(each, since) for each in (practice, changed))
    both = before.merge(after, on=["moment", "appointment_id"], suffixes=("", "_changed"))
    booked = both["appointment_id"].map(bookings.set_index("appointment_id")["booked_at"])
    both = both[booked < until - timedelta(days=75)]
    assert len(both) > 20
    np.testing.assert_allclose(both["posterior"], both["posterior_changed"])


# Return


def test_true_chance_to_return_is_calibrated(told: SimulatedPractice) -> None:
    truth, visits = told.truth["return_truth"], told.tables["appointments"].query("status == 'completed'")
    for as_of in sorted(truth["as_of_at"].unique())[:2]:
        until = as_of + pd.Timedelta(days=180)
        came = visits[(visits["starts_at"] > as_of) & (visits["starts_at"] <= until)]["patient_id"].unique()
        rows = truth[truth["as_of_at"] == as_of]
        seen, chance = rows["patient_id"].isin(came), rows["returns_180d"]
        spread = np.sqrt((chance * (1 - chance) + rows["returns_180d_se"] ** 2).sum())
        assert abs(seen.sum() - chance.sum()) < 4 * spread
        assert roc_auc_score(seen, chance) > 0.85


def test_those_who_left_hardly_return(told: SimulatedPractice) -> None:
    truth = told.truth["return_truth"]
    assert truth.loc[~truth["is_in_care"], "returns_180d"].mean() < 0.1
    assert truth.loc[truth["is_in_care"], "returns_180d"].mean() > 0.6


def test_latent_state_is_in_no_exported_table(told: SimulatedPractice) -> None:
    columns = {column for frame in told.tables.values() for column in frame.columns}
    assert columns.isdisjoint({"is_in_care", "personal_effect", "log_booking_rate", "price_sensitivity"})


def test_window_truth_agrees_with_brute_force() -> None:
    rng = np.random.default_rng(7)
    chances, leaves = np.linspace(0.02, 0.1, 8), np.full(8, 0.02)
    booked, _ = window_truth(0.2, chances, leaves, np.ones(8))
    people = 200_000
    open_, done = rng.random(people) >= 0.2, 0
    for chance, leave in zip(chances, leaves, strict=True):
        open_ &= rng.random(people) >= leave
        books = open_ & (rng.random(people) < chance)
        done += int(books.sum())
        open_ &= ~books
    assert booked == pytest.approx(0.2 + done / people, abs=0.005)


def test_a_later_booking_is_attended_in_time_less_often() -> None:
    attends = attends_by(6.0, 1.1, 0.85, 8)
    assert (np.diff(attends) < 0).all()
    assert 0.8 < attends[0] <= 0.85


# Randomised recall


def test_draws_spread_over_the_year_past_due() -> None:
    practice = simulate(plan(patients=800))
    arms = practice.tables["campaign_arms"].sort_values("assigned_at")
    dues = practice.tables["recalls"].sort_values("known_from_at")
    both = pd.merge_asof(arms, dues, left_on="assigned_at", right_on="known_from_at", by="patient_id")
    weeks = (both["assigned_at"].dt.tz_localize(None) - pd.to_datetime(both["due_on"])).dt.days / 7
    assert weeks.min() > 0
    assert weeks.max() < 58
    assert np.histogram(weeks, [0, 8, 17, 26, 54])[0].min() > len(weeks) / 12
    assert not arms.duplicated(["campaign_id", "patient_id"]).any()


def test_arms_are_drawn_as_logged_and_left_alone() -> None:
    practice = simulate(plan(patients=2000))
    arms, messages = practice.tables["campaign_arms"], practice.tables["communications"]
    for arm, share in arms.groupby("arm"):
        expected = arms["propensity"].sum() if arm == "hold_out" else len(arms) / 4
        assert abs(len(share) - expected) < 5 * np.sqrt(expected), arm
    held = arms[arms["arm"] == "hold_out"].merge(messages[messages["purpose"] == "recall"], on="patient_id")
    after = held["sent_at"] - held["assigned_at"]
    assert not ((after >= pd.Timedelta(0)) & (after < pd.Timedelta(days=55))).any()
    refused = practice.tables["patients"].drop_duplicates("patient_id").set_index("patient_id")
    for way in ("wechat", "sms", "phone"):
        reached = arms.loc[arms["channel"] == way, "patient_id"]
        assert refused.loc[reached, f"is_{way}_allowed"].all()


def test_true_arm_means_are_those_that_happen() -> None:
    practice = simulate(plan(patients=2500))
    arms = practice.tables["campaign_arms"].merge(practice.truth["arms_truth"], on=["campaign_id", "patient_id"])
    arms = arms[arms["assigned_at"] < pd.Timestamp(NOW) - pd.Timedelta(days=60)]
    bookings = practice.tables["appointments"].query("recall_type != ''")
    for arm, rows in arms.groupby("arm"):
        pairs = rows.merge(bookings, on="patient_id")
        after = pairs["booked_at"] - pairs["assigned_at"]
        booked = pairs[(after >= pd.Timedelta(0)) & (after <= pd.Timedelta(days=59))]["patient_id"]
        chance = rows[f"books_{arm}"].astype(float)
        happened = rows["patient_id"].isin(booked).mean()
        assert happened == pytest.approx(chance.mean(), abs=4 * np.sqrt(0.25 / len(rows)) + 0.03), arm


# Presets


def test_null_practice_has_no_signal() -> None:
    practice = simulate(plan(preset="null"))
    truth = practice.bookings_truth
    assert truth["no_show_probability_at_booking"].std() < 0.002
    uplift = practice.truth["arms_truth"][["uplift_wechat", "uplift_sms", "uplift_phone"]].astype(float)
    assert uplift.abs().max().max() == 0


def test_practice_without_heterogeneity_has_one_uplift() -> None:
    truth = simulate(plan(preset="no_heterogeneity")).truth["arms_truth"]
    uplift = truth["uplift_phone"].dropna().astype(float)
    assert uplift.mean() > 0.05
    assert uplift.std() < 1e-9


@pytest.mark.parametrize("kind", ["high_risk_gains", "middle_gains"])
def test_who_gains_is_a_setting(kind: str) -> None:
    rates = BaseRates()
    rates = replace(rates, contacts=replace(rates.contacts, who_gains=kind, randomised_share=1.0))  # type: ignore[arg-type]
    practice = simulate(plan(), rates)
    arms = practice.truth["arms_truth"].merge(practice.truth["patients_truth"], on="patient_id")
    arms = arms[arms["is_in_care"] & ~arms["is_negative_responder"]].dropna(subset=["uplift_phone"])
    part = np.digitize(arms["log_booking_rate"], [-0.9, 0.5])
    low, middle, high = arms["uplift_phone"].astype(float).groupby(part).mean().tolist()
    assert (low > middle > high) if kind == "high_risk_gains" else (middle > max(low, high))


def test_dirty_practice_has_second_registrations_and_gaps() -> None:
    tables = simulate(plan(preset="dirty", patients=800, years=2)).tables
    twice = tables["patients"].loc[tables["patients"]["patient_id"].str.endswith("-2"), "patient_id"]
    assert len(twice)
    assert tables["appointments"]["patient_id"].isin(set(twice)).any()
    ended = tables["appointments"]["status"].isin(["completed", "no_show"])
    assert 0.02 < tables["appointments"].loc[ended, "status_known_at"].isna().mean() < 0.08


def test_rates_of_default_are_the_base_rates() -> None:
    assert rates_of("default") == BaseRates()


# Clinics


def test_clinics_of_a_chain_are_separate() -> None:
    parts = list(simulate_clinics(plan(preset="chain", clinics=3, patients=900, years=1)))
    for name in ("patients", "appointments", "payments", "plan_items", "clinicians"):
        keys = [set(part.tables[name].iloc[:, 0]) for part in parts]
        assert len(set.union(*keys)) == sum(map(len, keys)), name
    assert len({part.tables["patients"]["patient_id"].nunique() for part in parts}) > 1


# The command


def test_chinese_export_gives_the_same_records(revisit: Callable[..., Result], tmp_path: Path) -> None:
    stored = {}
    for form in ("csv-en", "csv-zh"):
        options = ("--patients", 150, "--clinics", 2, "--years", 1, "--until", "2026-11-17T09:30", "--format", form)
        done = revisit("simulate", tmp_path / form, *options)
        assert done.exit_code == 0, done.output
        store = RecordStore(tmp_path / f"{form}-records")
        mapping = load_mapping(tmp_path / form / "mapping.toml")
        report = import_files(store, tmp_path / form, mapping, NOW)
        stored[form] = {table.table: table.stored for table in report.tables}
    assert stored["csv-en"] == stored["csv-zh"]
    assert set(stored["csv-en"]) == set(TABLES)
    assert min(stored["csv-en"].values()) > 0
    assert (tmp_path / "csv-zh" / "预约.csv").read_text(encoding="utf-8").startswith("预约编号,病历号,")


def test_command_refuses_what_cannot_be(revisit: Callable[..., Result], tmp_path: Path) -> None:
    done = revisit("simulate", tmp_path / "x", "--patients", 0)
    assert done.exit_code == 2
    assert "patients must be a whole number" in done.output
