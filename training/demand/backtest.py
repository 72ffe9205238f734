"""What would have been forecast at past months, against what came."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from training.demand.accuracy import QUANTILES, pinball, seasonal_scale
from training.demand.blend import MEMBERS, Blend, Cache, answer
from training.demand.forecasting import quantile_names
from training.demand.panel import Floats, Panel

Method = Callable[[Panel, pd.DataFrame | None, int], Floats]
PEERS = ("seasonal_naive", "ets", "theta")


def methods(
    names: Sequence[str] = ("blend", *PEERS),
    members: tuple[str, ...] = MEMBERS,
    groups: Sequence[object] | None = None,
    cache: Cache | None = None,
) -> dict[str, Method]:
    """Forecasters by name: ``blend``, or any of its members or peers, as functions for `backtest`."""

    def method(name: str) -> Method:
        def run(panel: Panel, calendar: pd.DataFrame | None, horizon: int) -> Floats:
            if name == "blend":
                return Blend(members, groups, cache).fit(panel, calendar, horizon).predict(horizon)
            return answer(name, panel, calendar, horizon, cache=cache)

        return run

    return {name: method(name) for name in names}


def backtest(
    panel: Panel,
    forecasters: Mapping[str, Method],
    origins: Sequence[int],
    calendar: pd.DataFrame | None = None,
    horizon: int = 12,
) -> pd.DataFrame:
    """Forecast from past origins, seeing nothing after them.

    Parameters
    ----------
    panel : Panel
    forecasters : mapping of str to callable
        From (panel, calendar, horizon) to quantiles of shape (n_series, horizon, 9); see `methods`.
    origins : sequence of int
        Months in the training part; each leaves at least one month to compare.
    calendar : pandas.DataFrame, optional
        Its future part has to be what was known at the origin: working days are, bookings are not.
    horizon : int

    Returns
    -------
    pandas.DataFrame
        One row per method, series, origin (last month known) and step: month, actual (NaN where not known), scale
        (denominator of MASE) and q10 ... q90.
    """
    tables = []
    for origin in origins:
        past = panel.until(origin)
        actual = panel.values[:, origin : origin + horizon]
        ahead = actual.shape[1]
        series = len(panel)
        keys = {
            "series": np.repeat(panel.ids.to_numpy(), ahead),
            "origin": pd.PeriodIndex([past.months[-1]] * (series * ahead)),
            "step": np.tile(np.arange(1, ahead + 1), series),
            "month": past.future(ahead)[np.tile(np.arange(ahead), series)],
            "actual": actual.ravel(),
            "scale": np.repeat(seasonal_scale(past.values), ahead),
        }
        for name, forecaster in forecasters.items():
            quantiles = forecaster(past, calendar, horizon)[:, :ahead]
            table = pd.DataFrame({"method": name, **keys})
            table[quantile_names(QUANTILES)] = quantiles.reshape(-1, len(QUANTILES))
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def summary(result: pd.DataFrame, by: Sequence[str] = ("method",), groups: pd.Series | None = None) -> pd.DataFrame:
    """Figures of a backtest.

    Parameters
    ----------
    result : pandas.DataFrame
        From `backtest`.
    by : sequence of str
        Columns to group by: method, origin, step, series, and ``level`` if `groups` is given.
    groups : pandas.Series, optional
        Level of each series (index: series).

    Returns
    -------
    pandas.DataFrame
        One row per group: mase and sql (mean of scaled months), wql, wape and bias (shares of volume), coverage_80,
        inside and months (series-months within the 80 % band, and compared).
    """
    known = result[result["actual"].notna() & result["q50"].notna()]
    if groups is not None:
        known = known.assign(level=known["series"].map(groups))
    quantiles = known[quantile_names(QUANTILES)].to_numpy()
    actual = known["actual"].to_numpy()
    error = known["q50"].to_numpy() - actual
    loss = pinball(actual, quantiles)
    cells = known[list(by)].assign(
        mase=np.abs(error) / known["scale"],
        sql=loss / known["scale"],
        wql=loss,
        wape=np.abs(error),
        bias=error,
        inside=(actual >= quantiles[:, 0]) & (actual <= quantiles[:, -1]),
        volume=actual,
        months=1,
    )
    grouped = cells.groupby(list(by), sort=True)
    sums = grouped[["wql", "wape", "bias", "inside", "volume", "months"]].sum()
    volume = sums["volume"].where(sums["volume"] > 0)
    found = grouped[["mase", "sql"]].mean()
    for name in ("wql", "wape", "bias"):
        found[name] = sums[name] / volume
    found["coverage_80"] = sums["inside"] / sums["months"]
    found[["inside", "months"]] = sums[["inside", "months"]]
    return found.reset_index()
