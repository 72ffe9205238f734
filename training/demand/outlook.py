"""What a practice's forecast asks of every clinic's chairs and shelves."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from training.demand.accuracy import QUANTILES
from training.demand.capacity import chair_load, stock_outlook, supplies_needed
from training.demand.coherence import path_quantiles
from training.demand.forecasting import quantile_names
from training.demand.panel import Floats
from training.demand.practice import PracticeForecast

ITEM = ["clinic", "supply", "supply_name", "unit"]


def capacity_of(forecast: PracticeForecast, opening: pd.DataFrame) -> pd.DataFrame:
    """Chair hours needed against available: one row per clinic and month; see `chair_load`.

    Parameters
    ----------
    forecast : PracticeForecast
        Of chair_hours.
    opening : pandas.DataFrame
        From `features.opening_hours.opening_months`.
    """
    nodes, paths = forecast.at("clinic")
    hours = opening.set_index(["clinic", "month"])
    tables = []
    for number, clinic in enumerate(nodes["clinic"]):
        ahead = hours.loc[clinic].reindex(forecast.months)
        load = chair_load(paths[:, number], ahead["chair_hours"].to_numpy(dtype=float))
        assumed = ahead["is_assumed"].fillna(False).to_numpy()
        tables.append(load.assign(clinic=clinic, month=forecast.months, is_closure_assumed=assumed))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class SupplyUse:
    """Units of every supply used in every future.

    Attributes
    ----------
    items : pandas.DataFrame
        One row per clinic and supply: clinic, supply, supply_name, unit, stock_quantity, reorder_quantity, counted_at.
    months : pandas.PeriodIndex
    paths : ndarray of shape (n_paths, n_items, horizon)
    """

    items: pd.DataFrame
    months: pd.PeriodIndex
    paths: Floats

    def frame(self) -> pd.DataFrame:
        """One row per clinic, supply and month: supply_name, unit, mean, q10 ... q90."""
        horizon = len(self.months)
        table = self.items[ITEM].loc[self.items.index.repeat(horizon)].reset_index(drop=True)
        table["month"] = self.months[np.tile(np.arange(horizon), len(self.items))]
        table["mean"] = self.paths.mean(axis=0).ravel()
        table[quantile_names(QUANTILES)] = path_quantiles(self.paths).reshape(-1, len(QUANTILES))
        return table


def use_of_supplies(stock: pd.DataFrame, use: pd.DataFrame, forecast: PracticeForecast) -> SupplyUse:
    """Turn forecast visits into supplies through the bill of materials.

    Parameters
    ----------
    stock, use : pandas.DataFrame
        From `features.supplies.read_supplies`; supplies that no visit uses are left out.
    forecast : PracticeForecast
        Of visits.
    """
    nodes, paths = forecast.at("clinic_line")
    rows, futures = [], []
    for clinic, own in stock.groupby("clinic"):
        here = (nodes["clinic"] == clinic).to_numpy()
        needed = supplies_needed(
            paths[:, here], nodes.loc[here, "service_line"].tolist(), use[use["supply"].isin(own["supply"])]
        )
        known = own[own["supply"].astype(str).isin(needed)]
        rows.append(known)
        futures += [needed[str(name)] for name in known["supply"]]
    items = pd.concat(rows, ignore_index=True) if rows else stock.iloc[:0]
    whole = np.stack(futures, axis=1) if futures else np.empty((len(paths), 0, len(forecast.months)))
    return SupplyUse(items, forecast.months, whole)


def stock_of(used: SupplyUse, zone: ZoneInfo) -> pd.DataFrame:
    """Stock, reorder point and alert: one row per clinic and supply whose stock was counted; see `stock_outlook`.

    Of the first month only what comes after the count draws on it.
    """
    rows = []
    left = _shares_left(used.items["counted_at"], used.months[0], zone)
    for number, item in enumerate(used.items.to_dict("records")):
        if pd.isna(item["stock_quantity"]):
            continue
        needed = used.paths[:, number].copy()
        needed[:, 0] *= left[number]
        reorder = None if pd.isna(item["reorder_quantity"]) else float(item["reorder_quantity"])
        outlook = stock_outlook(needed, float(item["stock_quantity"]), reorder)
        rows.append({key: item[key] for key in ITEM} | outlook)
    return pd.DataFrame(rows, columns=None if rows else [*ITEM, "alert"])


def _shares_left(counted_at: pd.Series, month: pd.Period, zone: ZoneInfo) -> Floats:
    """Share of a month that lies after each count; all of it where the count is older or its time not known."""
    counted = counted_at.dt.tz_convert(zone).dt.tz_localize(None)
    share = (month.end_time - counted) / (month.end_time - month.start_time)
    return np.asarray(share.fillna(1.0).clip(0.0, 1.0), dtype=float)
