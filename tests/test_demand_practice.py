"""Forecasts of a practice: levels that agree, clinics without history, capacity, words, versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from features.demand_series import DemandRecords
from training.demand.accuracy import QUANTILES
from training.demand.backtest import methods
from training.demand.capacity import chair_load, stock_outlook, supplies_needed
from training.demand.coherence import choose_rule, node_mean, node_variance, path_quantiles, to_bottom
from training.demand.futures import bottom_futures, shared_errors
from training.demand.hierarchy import Hierarchy
from training.demand.practice import NEW_CLINIC, forecast_practice, history_of
from training.demand.rebuild import backtest_practice
from training.demand.shares import clinician_shares
from training.demand.words import fan_chart, in_words

MONTHS = pd.period_range("2022-01", periods=40, freq="M")
LINES = ("hygiene", "filling")


def practice(clinics: int = 3, lines: tuple[str, ...] = LINES, months: pd.PeriodIndex = MONTHS) -> DemandRecords:
    """Clinics whose chair hours and visits grow with their number; a last one without a visit, twice the first."""
    rng = np.random.default_rng(4)
    rows = []
    for clinic in range(clinics):
        for line in lines:
            for number, month in enumerate(months):
                season = 1 + 0.3 * np.sin(2 * np.pi * month.month / 12)
                for clinician, share in (("ann", 0.7), ("bo", 0.3)):
                    visits = rng.poisson(100 * (clinic + 1) * share * season)
                    rows.append((f"K{clinic}", line, f"K{clinic}-{clinician}", month, float(visits), number))
    series = pd.DataFrame(rows, columns=["clinic", "service_line", "clinician", "month", "visits", "number"])
    names = [f"K{clinic}" for clinic in range(clinics)]
    span = pd.period_range(months[0], months[-1] + 12, freq="M")
    hours = dict(zip([*names, "new"], [100.0 * (n + 1) for n in range(clinics)] + [200.0], strict=True))
    opening = pd.DataFrame(
        [
            {"clinic": name, "month": month, "open_share": 1.0, "chair_hours": hours[name], "is_assumed": False}
            for name in hours
            for month in span
        ]
    )
    clinics_table = pd.DataFrame({"clinic": [*names, "new"], "opened_on": [pd.NaT] * (len(names) + 1)})
    clinicians = pd.DataFrame({"clinician": ["K0-ann"], "left_on": pd.to_datetime(["2025-05-31"])})
    book = pd.DataFrame(columns=["months_back", "step", "clinic", "service_line", "booked"])
    return DemandRecords(series.drop(columns="number"), book, opening, clinics_table, clinicians, months)


@pytest.fixture(scope="module")
def made() -> Any:
    return forecast_practice(practice(), "visits", None, members=("structural",))


def test_every_future_sums_up_at_every_level(made: Any) -> None:
    total = made.at("practice")[1][:, 0]
    for level in ("clinic", "service_line", "clinic_line"):
        assert np.abs(made.at(level)[1].sum(axis=1) - total).max() < 1e-6
    known = ~made.at("clinic")[0]["clinic"].eq("new").to_numpy()
    doctors = made.at("clinician")[1].sum(axis=1)
    assert np.abs(doctors - made.at("clinic")[1][:, known].sum(axis=1)).max() < 1e-6
    assert (made.paths >= 0).all()
    table = made.frame()
    assert (np.diff(table[[f"q{100 * q:g}" for q in QUANTILES]], axis=1) >= 0).all()
    assert len(table) == len(made.nodes) * 12


def test_a_clinic_without_history_is_forecast_after_its_chair_hours_and_marked(made: Any) -> None:
    nodes, paths = made.at("clinic")
    mean = dict(zip(nodes["clinic"], paths.mean(axis=(0, 2)), strict=True))
    assert mean["new"] == pytest.approx(mean["K1"], rel=0.1)  # as many chair hours as K1
    assert dict(zip(nodes["clinic"], nodes["note"], strict=True)) == {"K0": "", "K1": "", "K2": "", "new": NEW_CLINIC}
    spread = dict(zip(nodes["clinic"], paths.std(axis=0).mean(axis=1), strict=True))
    assert spread["new"] > spread["K1"]


def test_two_months_borrow_the_panels_season() -> None:
    records = practice()
    late = (records.series["clinic"] == "K2") & (records.series["month"] < MONTHS[-2])
    short = DemandRecords(
        records.series[~late], records.book, records.opening, records.clinics, records.clinicians, MONTHS
    )
    found = forecast_practice(short, "visits", None, members=("structural",))
    nodes, paths = found.at("clinic")
    ahead = paths.mean(axis=0)[nodes["clinic"].tolist().index("K2")]
    expected = np.array([2 * 300 * (1 + 0.3 * np.sin(2 * np.pi * month.month / 12)) for month in found.months])
    assert np.abs(ahead / expected - 1).mean() < 0.15


def test_who_has_left_has_no_share_afterwards(made: Any) -> None:
    nodes, paths = made.at("clinician")
    mean = dict(zip(nodes["clinician"], paths.mean(axis=0), strict=True))
    assert made.months[0] == pd.Period("2025-05")
    assert mean["K0-ann"][0] > mean["K0-bo"][0]
    assert mean["K0-ann"][1:].max() < 1e-6 < mean["K0-bo"][1:].min()
    history = pd.DataFrame({"x": [3.0] * 6, "y": [1.0] * 6})
    names, shares, concentration = clinician_shares(history, pd.Series(dtype="datetime64[ns]"), MONTHS[:2])
    assert list(names) == ["x", "y"]
    np.testing.assert_allclose(shares, [[0.75, 0.75], [0.25, 0.25]])
    assert concentration == 200.0


def grid(clinics: int, lines: int) -> Hierarchy:
    return Hierarchy.of(
        pd.DataFrame(
            [(f"c{i}", f"l{j}") for i in range(clinics) for j in range(lines)], columns=["clinic", "service_line"]
        )
    )


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_coherent_means_of_any_hierarchy(clinics: int, lines: int, seed: int) -> None:
    shuffled = grid(clinics, lines).bottom.sample(frac=1, random_state=seed)
    hierarchy = Hierarchy.of(shuffled)
    summing, parts = hierarchy.summing, clinics * lines
    np.testing.assert_array_equal(summing[-parts:], np.eye(parts))
    rng = np.random.default_rng(seed)
    truth = summing @ rng.uniform(1, 9, (parts, 3))
    for rule in ("bottom_up", "wls_var"):
        # What is coherent stays as it is.
        mapping = to_bottom(rule, summing, rng.uniform(0.1, 5, len(summing)))
        np.testing.assert_allclose(mapping @ truth, truth[-parts:], atol=1e-8)


def test_sums_spread_as_their_own_forecasts_say() -> None:
    hierarchy = grid(4, 3)
    parts = np.array([0.3, 0.2, 0.1])[:, None]  # of the practice, of clinics, of lines
    clinic, line = np.divmod(np.arange(12), 3)
    same = [np.ones((12, 12)), clinic[:, None] == clinic, line[:, None] == line]
    sd = np.linspace(4, 8, 12)
    correlation = sum(p * s for p, s in zip(parts[:, 0], same, strict=True)) + (1 - parts.sum()) * np.eye(12)
    variance = np.einsum("ni,ij,nj->n", hierarchy.summing, np.outer(sd, sd) * correlation, hierarchy.summing)[:, None]
    np.testing.assert_allclose(shared_errors(hierarchy, variance), parts, atol=1e-6)
    mean = hierarchy.summing @ np.full(12, 100.0)
    quantiles = mean[:, None, None] + np.sqrt(variance)[..., None] * ndtri(np.asarray(QUANTILES))
    mapping = to_bottom("bottom_up", hierarchy.summing, variance[:, 0])
    paths = bottom_futures(hierarchy, quantiles, np.ones(len(mean)), mapping, np.eye(1), 20_000, seed=1)
    sums = path_quantiles(np.einsum("nb,pbh->pnh", hierarchy.summing, paths))
    np.testing.assert_allclose(sums, quantiles, rtol=0.01)


def test_futures_move_to_the_coherent_mean() -> None:
    hierarchy = grid(2, 1)
    own = np.where(hierarchy.nodes["level"] == "clinic_line", 100.0, hierarchy.summing.sum(axis=1) * 130)
    quantiles = own[:, None, None] * np.exp(0.1 * ndtri(np.asarray(QUANTILES)))
    mapping = to_bottom("wls_var", hierarchy.summing, node_variance(quantiles)[:, 0])
    paths = bottom_futures(hierarchy, quantiles, np.ones(len(own)), mapping, np.eye(1), 20_000, seed=2)
    coherent = mapping @ node_mean(quantiles)
    assert (coherent > 101).all()
    np.testing.assert_allclose(paths.mean(axis=0), coherent, rtol=0.01)


def test_weighing_helps_where_the_sum_is_surer_than_its_parts() -> None:
    rng = np.random.default_rng(2)
    hierarchy = Hierarchy.of(pd.DataFrame({"clinic": ["a", "b", "c"], "service_line": "x"}))
    truth = hierarchy.summing @ rng.uniform(50, 90, (3, 200))
    sd = np.where(hierarchy.nodes["level"] == "practice", 1.0, 10.0)
    told = truth + rng.normal(size=truth.shape) * sd[:, None]
    error = {
        rule: np.abs((to_bottom(rule, hierarchy.summing, sd**2) @ told).sum(axis=0) - truth[0]).mean()
        for rule in ("bottom_up", "wls_var")
    }
    assert error["wls_var"] < 0.3 * error["bottom_up"]


def test_the_rule_chosen_is_no_worse_for_the_total_in_its_own_past() -> None:
    history = history_of(practice(), "visits")
    rule, errors = choose_rule(
        history.panel, history.hierarchy.summing, methods(["structural"])["structural"], None, 12
    )
    assert errors[f"{rule}_total"] <= errors["bottom_up_total"]
    assert choose_rule(
        history.panel.until(10), history.hierarchy.summing, methods(["structural"])["structural"], None, 12
    ) == ("bottom_up", {})


def test_sums_do_not_dip_where_a_part_is_not_known() -> None:
    hierarchy = Hierarchy.of(pd.DataFrame({"clinic": ["a", "b"], "service_line": "x"}))
    bottom = np.full((2, 24), 100.0)
    bottom[1, 10:13] = np.nan
    panel = hierarchy.panel(bottom, MONTHS[:24])
    np.testing.assert_allclose(panel.values[0], 200.0)


def test_a_clinic_closed_for_three_months_of_ten_years() -> None:
    months = pd.period_range("2015-01", periods=120, freq="M")
    records = practice(1, ("hygiene",), months)
    shut = records.series["month"].isin(months[100:103])
    hole = records.series.assign(visits=records.series["visits"].mask(shut, 0.0))
    found = forecast_practice(
        DemandRecords(hole, records.book, records.opening, records.clinics, records.clinicians, months),
        "visits", None, members=("structural",),
    )  # fmt: skip
    whole = forecast_practice(records, "visits", None, members=("structural",))
    ratio = found.at("practice")[1].mean() / whole.at("practice")[1].mean()
    assert ratio == pytest.approx(1, abs=0.05)


def test_chair_hours_against_capacity() -> None:
    paths = np.array([[80.0, 10.0], [120.0, 10.0], [90.0, 10.0], [200.0, 10.0]])
    found = chair_load(paths, np.array([100.0, np.nan]), usable=1.0)
    assert found["overload"][0] == 0.5
    assert found["needed"].tolist() == [122.5, 10.0]
    assert found["add_hours"][0] == pytest.approx(np.quantile(paths[:, 0], 0.9) - 100)
    assert np.isnan(found["overload"][1])


def test_supplies_follow_visits_and_ring_in_time() -> None:
    visits = np.full((50, 2, 4), 10.0)  # ten of each line a month
    use = pd.DataFrame(
        {"supply": ["gloves", "gloves", "paste"], "service_line": ["a", "b", "a"], "quantity": [2.0, 1.0, 0.5]}
    )
    needed = supplies_needed(visits, ["a", "b"], use)
    np.testing.assert_allclose(needed["gloves"], 30.0)
    np.testing.assert_allclose(needed["paste"], 5.0)
    alerts = [stock_outlook(needed["gloves"], stock)["alert"] for stock in (20.0, 45.0, 300.0)]
    assert alerts == ["order now", "order soon", ""]
    outlook = stock_outlook(needed["gloves"], 75.0, reorder_at=80.0)
    assert (outlook["reorder_point"], outlook["months_left"], outlook["alert"]) == (30.0, 2, "order now")
    assert outlook["order"] == 15.0


def past_year(inside: int) -> pd.DataFrame:
    actual = np.where(np.arange(12) < inside, 100.0, 200.0)
    table = pd.DataFrame({"series": "practice", "origin": pd.Period("2025-01"), "actual": actual})
    ours = table.assign(method="revisit", q10=90.0, q50=100.0, q90=110.0)
    return pd.concat([ours, ours.assign(method="seasonal_naive", q50=50.0)])


def test_managers_read_how_it_did() -> None:
    english, chinese = (in_words(past_year(10), "practice", language) for language in ("en", "zh"))
    assert english.startswith("In the last 12 months, 10 of 12 fell inside the band")
    assert "14% too low" in english
    assert "75% smaller" in english
    assert "12 个月中，有 10 个月" in chinese
    assert in_words(past_year(10), "clinic:none", "en") == "There is no past month yet to compare a forecast with."


def test_a_backtest_sees_nothing_ahead() -> None:
    history = history_of(practice(2), "visits")
    first = backtest_practice(history, None, 12, ("structural",), ("seasonal_naive",))
    assert set(first["method"]) == {"revisit", "seasonal_naive"}
    assert first["level"].notna().all()
    doubled = history.bottom.copy()
    doubled[:, -12:] *= 2
    again = backtest_practice(type(history)(history.hierarchy, doubled, MONTHS), None, 12, ("structural",), ())
    last = first["origin"].max()
    ours = first[(first["method"] == "revisit") & (first["origin"] == last)]["q50"].to_numpy()
    assert again[again["origin"] == last]["q50"].to_numpy() == pytest.approx(ours)


def test_a_fan_chart_shows_past_and_bands(made: Any, tmp_path: Path) -> None:
    ahead = made.frame().query("series == 'practice'")
    actual = practice().series.groupby("month")["visits"].sum()
    figure = fan_chart("practice", actual, ahead)
    assert len(figure.axes[0].collections) == 4
    figure.savefig(tmp_path / "fan.png")
    assert (tmp_path / "fan.png").read_bytes().startswith(b"\x89PNG")
