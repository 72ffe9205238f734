"""Bad series end in a clear error or a sensible forecast, never in a crash of the panel."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from features.errors import NotEnoughDataError, RevisitError
from training.demand.forecasting import forecast
from training.demand.kinds import Kind, prepare
from training.demand.panel import Panel, SeriesError, covariates_of
from training.demand.peers import EachSeries
from training.demand.structural import PooledStructural


def long(values: dict[str, list[float | None]], start: str = "2020-01") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"series": name, "month": str(month), "value": value}
            for name, series in values.items()
            for month, value in zip(pd.period_range(start, periods=len(series), freq="M"), series, strict=True)
        ]
    )


def panel_of(values: np.ndarray) -> Panel:
    months = pd.period_range("2019-01", periods=values.shape[1], freq="M")
    return Panel(pd.Index([f"s{i}" for i in range(len(values))]), months, values)


def test_order_does_not_matter_and_gaps_stay_unknown() -> None:
    table = long({"a": [1, 2, 3, 4], "b": [5, 6, None, 8]})
    panel = Panel.from_frame(table.sample(frac=1, random_state=1))
    np.testing.assert_array_equal(panel.values, [[1, 2, 3, 4], [5, 6, np.nan, 8]])
    later = Panel.from_frame(table.drop(index=[1]))
    np.testing.assert_array_equal(later.values[0], [1, np.nan, 3, 4])


@pytest.mark.parametrize("months", [["2020-01", "2020-02"], ["2020-01-31", "2020-02-29"], [202001, 202002]])
def test_months_are_read_as_written(months: list[object]) -> None:
    panel = Panel.from_frame(pd.DataFrame({"series": "a", "month": months, "value": [1, 2]}))
    assert [str(month) for month in panel.months] == ["2020-01", "2020-02"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: pd.concat([t, t.iloc[:1]]), "more than once"),
        (lambda t: t.rename(columns={"value": "visits"}), r"Expected column\(s\) \['value'\]"),
        (lambda t: t.assign(month="soon"), "should hold months"),
        (lambda t: t.assign(value="many"), "should hold numbers"),
        (lambda t: t.assign(value=np.inf), "should hold numbers"),
        (lambda t: t.assign(month=pd.period_range("2000-01", periods=len(t), freq="3M").astype(str)), "3 months apart"),
        (lambda t: t.assign(series=None), "needs a series"),
        (lambda t: t.assign(month=["1820-01", *t["month"][1:]]), "wrong year"),
    ],
)  # fmt: skip
def test_tables_that_are_no_monthly_series_are_refused(change, says: str) -> None:
    with pytest.raises(SeriesError, match=says):
        Panel.from_frame(change(long({"a": [1, 2, 3, 4, 5]})))


def test_a_table_without_numbers_is_not_enough() -> None:
    with pytest.raises(NotEnoughDataError):
        Panel.from_frame(long({"a": [None, None]}))


def test_negative_revenue_is_a_month_not_known_and_said_so() -> None:
    panel = Panel.from_frame(long({"a": [100.0, -20.0, 110.0], "b": [1.0, 2.0, 3.0]}))
    assert np.isnan(panel.values[0, 1])
    assert panel.notes == (("a", "1 negative month(s) taken as not known"),)


def test_a_calendar_has_to_reach_the_last_month() -> None:
    panel = panel_of(np.full((1, 30), 5.0))
    calendar = pd.DataFrame({"workdays": 21.0}, index=panel.months)
    assert covariates_of(calendar, panel.months).shape == (30, 1)
    with pytest.raises(SeriesError, match="lacks 12"):
        forecast(panel, calendar, members=("structural",))
    with pytest.raises(RevisitError, match="horizon"):
        forecast(panel, horizon=0)
    with pytest.raises(RevisitError, match="include"):
        forecast(panel, quantiles=(0.1, 0.9))


def test_a_closed_clinic_is_not_a_clinic_without_demand() -> None:
    rng = np.random.default_rng(1)
    values = rng.poisson(100, (6, 120)).astype(float)
    values[0, 60:63] = 0
    prepared = prepare(panel_of(values))
    assert list(np.flatnonzero(np.isnan(prepared.values[0]))) == [60, 61, 62]
    assert prepared.notes == (("s0", "3 month(s) of zero taken as closed"),)
    left_out = values.copy()
    left_out[0, 60:63] = np.nan
    given_zero, given_nothing = (PooledStructural().fit(panel_of(v)).predict(3) for v in (values, left_out))
    np.testing.assert_allclose(given_zero, given_nothing)
    assert 85 < given_zero[0, 0, 4] < 115


def test_a_panel_of_odd_series_is_forecast_whole() -> None:
    rng = np.random.default_rng(2)
    values = rng.poisson(50, (12, 40)).astype(float)
    values[0] = 0  # nothing ever
    values[1] = 30  # always the same
    values[2, :-1] = np.nan  # one month
    values[3, ::3] = np.nan  # gaps
    values[4] = rng.poisson(0.4, 40)  # mostly zero
    values[5] = np.nan  # nothing known
    values[6, :-2] = np.nan  # two months
    values[7, 30:] = 0  # gone
    values[8] = values[8] * 1e6  # another size altogether
    values[9, 12] = 50_000  # a typing error
    told = forecast(panel_of(values), members=("structural",))
    assert list(told.kinds[[0, 1, 4, 5, 7]]) == [
        Kind.STOPPED, Kind.REGULAR, Kind.INTERMITTENT, Kind.EMPTY, Kind.STOPPED,
    ]  # fmt: skip
    medians = told.quantiles[:, :, 4]
    assert np.isnan(medians[5]).all()
    assert np.isfinite(np.delete(told.quantiles, 5, axis=0)).all()
    assert (np.delete(told.quantiles, 5, axis=0) >= 0).all()
    assert (np.diff(np.delete(told.quantiles, 5, axis=0), axis=2) >= -1e-9).all()
    assert (medians[[0, 7]] == 0).all()
    np.testing.assert_allclose(medians[1], 30, rtol=0.1)
    np.testing.assert_allclose(medians[[2, 6]], np.nanmean(values[[2, 6]], axis=1)[:, None] * np.ones(12), rtol=0.25)
    assert (medians[9] < 80).all()
    frame = told.frame()
    assert list(frame.columns) == ["series", "month", "step", "kind", *(f"q{level}" for level in range(10, 100, 10))]
    assert len(frame) == 12 * 12


def test_statistical_methods_fall_back_where_they_cannot() -> None:
    values = np.random.default_rng(3).poisson(20, (4, 30)).astype(float)
    values[0, :-3] = np.nan
    values[1] = 7
    values[2, 5:9] = np.nan
    values[3] = 0
    for method in ("theta", "ets"):
        assert np.isfinite(EachSeries(method).fit(panel_of(values)).predict(4)).all()


@settings(max_examples=10, deadline=None)
@given(
    arrays(
        float,
        st.tuples(st.integers(1, 5), st.integers(1, 14)),
        elements=st.one_of(st.just(np.nan), st.just(0.0), st.floats(0, 1e6), st.integers(0, 9).map(float)),
    )
)
def test_any_panel_is_forecast_without_a_crash(values: np.ndarray) -> None:
    found = PooledStructural().fit(panel_of(values)).predict(3)
    known = np.isfinite(values).any(axis=1)
    assert np.isfinite(found[known]).all()
    assert (found[known] >= 0).all()
    assert np.isnan(found[~known]).all()
