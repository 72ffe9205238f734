"""A forecast of a panel of monthly series: quantiles, and what they rest on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import RevisitError
from training.demand.accuracy import QUANTILES
from training.demand.blend import MEMBERS, Blend, Cache
from training.demand.intervals import log_unit
from training.demand.kinds import prepare
from training.demand.panel import Floats, Panel


@dataclass(frozen=True)
class Forecast:
    """What is expected of every series in the months to come.

    Attributes
    ----------
    ids : pandas.Index
    months : pandas.PeriodIndex
        The months forecast.
    levels : tuple of float
        Probabilities of the quantiles, ascending.
    quantiles : ndarray of shape (n_series, horizon, n_levels)
        Zero or more; NaN for series without a single known month.
    kinds : ndarray of Kind, shape (n_series,)
        Which model spoke: the blend for regular series, see `training.demand.kinds` for the others.
    weights, losses : dict of str to float
        Of the members; see `Blend`.
    factors : dict of (level, block) to float
        How much the intervals were stretched.
    along : ndarray of shape (horizon, horizon)
        Correlation of a series' errors between months ahead.
    unit : ndarray of shape (n_series,)
        Added before logarithms.
    notes : tuple of (series, str)
        What was found in a series and how it was taken.
    """

    ids: pd.Index
    months: pd.PeriodIndex
    levels: tuple[float, ...]
    quantiles: Floats
    kinds: NDArray[np.object_]
    weights: dict[str, float]
    losses: dict[str, float]
    factors: dict[tuple[object, int], float]
    along: Floats
    unit: Floats
    notes: tuple[tuple[Hashable, str], ...]

    def frame(self) -> pd.DataFrame:
        """One row per series and month: series, month, step (1 = next month), kind, and a column per quantile (q50)."""
        series, horizon = len(self.ids), len(self.months)
        table = pd.DataFrame(
            {
                "series": np.repeat(self.ids.to_numpy(), horizon),
                "month": self.months[np.tile(np.arange(horizon), series)],
                "step": np.tile(np.arange(1, horizon + 1), series),
                "kind": np.repeat([str(kind) for kind in self.kinds], horizon),
            }
        )
        columns = self.quantiles.reshape(series * horizon, len(self.levels))
        return pd.concat([table, pd.DataFrame(columns, columns=quantile_names(self.levels))], axis=1)


def forecast(
    panel: Panel,
    calendar: pd.DataFrame | None = None,
    horizon: int = 12,
    quantiles: tuple[float, ...] = QUANTILES,
    members: tuple[str, ...] = MEMBERS,
    groups: Sequence[object] | None = None,
    cache: Cache | None = None,
) -> Forecast:
    """Forecast every series of a panel; only the panel and the calendar are looked at, never the clock.

    Parameters
    ----------
    panel : Panel
        One kind of quantity (visits, chair hours, revenue, ...), zero or more.
    calendar : pandas.DataFrame, optional
        One row per month from the first to the last forecast (monthly periods), one column per covariate.
    horizon : int
        Months ahead.
    quantiles : tuple of float
        Ascending, between 0 and 1, with .5 among them.
    members, groups, cache
        See `Blend`.

    Raises
    ------
    RevisitError
        The horizon or the quantiles make no sense, or the calendar lacks a month.
    """
    if horizon < 1:
        raise RevisitError(f"A forecast reaches at least one month ahead; the horizon given is {horizon}.")
    if list(quantiles) != sorted(set(quantiles)) or 0.5 not in quantiles or not 0 < quantiles[0] <= quantiles[-1] < 1:
        raise RevisitError(f"Quantiles rise from above 0 to below 1 and include .5; given were {quantiles}.")
    model = Blend(members, groups, cache).fit(panel, calendar, horizon)
    prepared = prepare(panel)
    return Forecast(
        ids=panel.ids,
        months=panel.future(horizon),
        levels=quantiles,
        quantiles=model.predict(horizon, quantiles),
        kinds=prepared.kind,
        weights=model.weights_,
        losses=model.loss_,
        factors=model.factors_,
        along=model.along_,
        unit=log_unit(panel.values),
        notes=prepared.notes,
    )


def quantile_names(levels: Sequence[float]) -> list[str]:
    """Columns of the quantiles: q10 ... q90."""
    return [f"q{100 * level:g}" for level in levels]
