"""A practice's demand ahead: every level, in futures that sum up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.demand_series import DemandRecords
from training.demand.accuracy import QUANTILES
from training.demand.backtest import methods
from training.demand.blend import MEMBERS, Cache
from training.demand.book import learn_signal, surprises
from training.demand.coherence import (
    choose_rule,
    error_variance,
    path_quantiles,
    to_bottom,
)
from training.demand.forecasting import Forecast, forecast, quantile_names
from training.demand.futures import bottom_futures
from training.demand.hierarchy import Hierarchy
from training.demand.panel import Floats, Panel
from training.demand.shares import after_peers, clinician_shares, split

PATHS = 400
DUST = 1e-9
LEAST_OPEN = 0.25  # share of its days; a month in which a clinic was open less says nothing about its demand
NEW_CLINIC = "no history: after the chair hours and the other clinics"


@dataclass(frozen=True)
class History:
    """One measure by clinic and service line.

    Attributes
    ----------
    hierarchy : Hierarchy
    bottom : ndarray of shape (n_bottom, n_months)
        As if never closed out of turn; NaN before a clinic's first month and where it was closed.
    months : pandas.PeriodIndex
    book : ndarray of shape (n_moments, n_bottom, n_steps), optional
        Bookings for the first months ahead; the first moment is the one after `months`, each later one a month
        earlier.
    """

    hierarchy: Hierarchy
    bottom: Floats
    months: pd.PeriodIndex
    book: Floats | None = None

    @property
    def panel(self) -> Panel:
        """All levels' series."""
        return self.hierarchy.panel(self.bottom, self.months)

    def until(self, months: int) -> History:
        """The history as it stood after its first `months` months, with the book of that time."""
        book = None if self.book is None else self.book[len(self.months) - months :]
        return History(self.hierarchy, self.bottom[:, :months], self.months[:months], book)


def history_of(records: DemandRecords, measure: str) -> History:
    """Arrange one measure of the records."""
    table = records.series
    bottom = table[["clinic", "service_line"]].drop_duplicates().sort_values(["clinic", "service_line"])
    wide = table.pivot_table(index=["clinic", "service_line"], columns="month", values=measure, aggfunc="sum")
    wide = wide.reindex(index=pd.MultiIndex.from_frame(bottom), columns=records.months).fillna(0.0)
    clinics = bottom["clinic"].to_numpy()
    began = table.groupby("clinic")["month"].min().reindex(clinics)
    values = wide.to_numpy(dtype=float)
    values[records.months.to_numpy()[None, :] < began.to_numpy()[:, None]] = np.nan
    open_share = _by_clinic(records, "open_share", clinics, records.months)
    values = np.where(open_share >= LEAST_OPEN, values / np.maximum(open_share, LEAST_OPEN), np.nan)
    return History(Hierarchy.of(bottom), values, records.months, _book_of(records, bottom))


def _book_of(records: DemandRecords, bottom: pd.DataFrame) -> Floats | None:
    if records.book.empty:
        return None
    shape = [records.book["months_back"].max() + 1, len(bottom), records.book["step"].max()]
    rows = pd.MultiIndex.from_frame(bottom)
    place = rows.get_indexer(pd.MultiIndex.from_frame(records.book[["clinic", "service_line"]]))
    known = records.book[place >= 0]
    found = np.zeros(shape)
    found[known["months_back"], place[place >= 0], known["step"] - 1] = known["booked"]
    return found


def _by_clinic(records: DemandRecords, column: str, clinics: Floats, months: pd.PeriodIndex) -> Floats:
    wide = records.opening.pivot_table(index="clinic", columns="month", values=column, dropna=False)
    return np.asarray(wide.reindex(index=clinics, columns=months).to_numpy(dtype=float))


@dataclass(frozen=True)
class PracticeForecast:
    """One measure's futures at every level.

    Attributes
    ----------
    measure : str
    nodes : pandas.DataFrame
        One row per series: series, level, clinic, service_line, clinician (empty where summed over), note (empty,
        or how it was taken, such as a clinic without history).
    months : pandas.PeriodIndex
    paths : ndarray of shape (n_paths, n_nodes, horizon)
        Coherent in every future.
    rule : str
        bottom_up or wls_var.
    errors : dict of str to float
        What the rule was chosen by; see `choose_rule`.
    base : Forecast
        The models' own forecasts, before they were made to agree.
    """

    measure: str
    nodes: pd.DataFrame
    months: pd.PeriodIndex
    paths: Floats
    rule: str
    errors: dict[str, float]
    base: Forecast

    def frame(self) -> pd.DataFrame:
        """One row per series and month: the node's columns, measure, month, step, mean, q10 ... q90."""
        horizon = len(self.months)
        table = self.nodes.loc[self.nodes.index.repeat(horizon)].reset_index(drop=True)
        table.insert(0, "measure", self.measure)
        table["month"] = self.months[np.tile(np.arange(horizon), len(self.nodes))]
        table["step"] = np.tile(np.arange(1, horizon + 1), len(self.nodes))
        table["mean"] = self.paths.mean(axis=0).ravel()
        table[quantile_names(QUANTILES)] = path_quantiles(self.paths).reshape(-1, len(QUANTILES))
        return table

    def at(self, level: str) -> tuple[pd.DataFrame, Floats]:
        """Nodes of one level and their futures, shape (n_paths, n_nodes_of_level, horizon)."""
        rows = (self.nodes["level"] == level).to_numpy()
        return self.nodes[rows], self.paths[:, rows]


def base_and_bottom(
    history: History,
    calendar: pd.DataFrame | None,
    horizon: int,
    members: tuple[str, ...] = MEMBERS,
    cache: Cache | None = None,
    seed: int = 7,
) -> tuple[Forecast, Floats, str, dict[str, float]]:
    """Forecast all levels and make them agree: base forecast, bottom futures, rule, its errors."""
    panel, summing = history.panel, history.hierarchy.summing
    levels = history.hierarchy.nodes["level"].tolist()
    base = forecast(panel, calendar, horizon, members=members, groups=levels, cache=cache)
    quantiles = np.nan_to_num(_with_book(history, base, calendar, cache))
    rule, errors = choose_rule(panel, summing, methods(["structural"], cache=cache)["structural"], calendar, horizon)
    mapping = to_bottom(rule, summing, error_variance(quantiles))
    drawn = bottom_futures(history.hierarchy, quantiles, base.unit, mapping, base.along, PATHS, seed)
    return base, _without_dust(drawn), rule, errors


def _with_book(history: History, base: Forecast, calendar: pd.DataFrame | None, cache: Cache | None) -> Floats:
    """Quantiles of all nodes after what stands in the book, where that helped in the past."""
    if history.book is None:
        return base.quantiles
    booked = np.einsum("nb,mbs->mns", history.hierarchy.summing, history.book)
    panel, level = history.panel, history.hierarchy.nodes["level"].to_numpy(dtype=object)
    signal = learn_signal(booked, panel, calendar, level, cache)
    if signal is None:
        return base.quantiles
    surprise = surprises(booked, panel, base.quantiles[..., base.levels.index(0.5)])
    return signal.applied(base.quantiles, surprise, level, base.unit)


def _without_dust(paths: Floats) -> Floats:
    """Zero where the logarithm and back again left next to nothing: a series that stopped is zero, not almost."""
    return np.where(paths < DUST, 0.0, paths)


def forecast_practice(
    records: DemandRecords,
    measure: str,
    calendar: pd.DataFrame | None = None,
    horizon: int = 12,
    members: tuple[str, ...] = MEMBERS,
    cache: Cache | None = None,
    seed: int = 7,
) -> PracticeForecast:
    """Forecast one measure at every level: practice, clinic, service line, both, clinician.

    Parameters
    ----------
    records : DemandRecords
        From `features.demand_series.read_demand`.
    measure : str
        visits, chair_hours, revenue or new_patients.
    calendar : pandas.DataFrame, optional
        From `training.demand.covariates.calendar_months`; covers history and horizon.
    horizon : int
        Months after the last whole month of the records.
    members, cache
        See `training.demand.blend.Blend`.
    seed : int
        Of the futures drawn.
    """
    history = history_of(records, measure)
    base, bottom, rule, errors = base_and_bottom(history, calendar, horizon, members, cache, seed)
    rng = np.random.default_rng(seed)
    months = base.months
    known = history.hierarchy.bottom
    clinics = known["clinic"].to_numpy()
    bottom = bottom * np.nan_to_num(_by_clinic(records, "open_share", clinics, months), nan=1.0)
    new, paths_of_new = _new_clinics(records, known, bottom, months, rng)
    bottom = np.concatenate([bottom, paths_of_new], axis=1)
    full = Hierarchy.of(pd.concat([known, new]))
    notes = dict(base.notes) | {f"clinic:{name}": NEW_CLINIC for name in new["clinic"]}
    notes |= {f"clinic_line:{c}/{s}": NEW_CLINIC for c, s in zip(new["clinic"], new["service_line"], strict=True)}
    doctors, paths_of_doctors = _clinicians(records, measure, full, bottom, months, rng)
    nodes = pd.concat([full.nodes.assign(clinician=""), doctors], ignore_index=True)
    nodes["note"] = nodes["series"].map(notes).fillna("")
    paths = np.concatenate([np.einsum("nb,pbh->pnh", full.summing, bottom), paths_of_doctors], axis=1)
    return PracticeForecast(measure, nodes, months, paths, rule, errors, base)


def _new_clinics(
    records: DemandRecords, known: pd.DataFrame, bottom: Floats, months: pd.PeriodIndex, rng: np.random.Generator
) -> tuple[pd.DataFrame, Floats]:
    """Clinics with chair hours ahead but no visit yet: their lines and futures."""
    empty = known.iloc[:0][["clinic", "service_line"]], np.empty((len(bottom), 0, len(months)))
    names = sorted(set(records.clinics["clinic"]) - set(known["clinic"]))
    peers = sorted(set(known["clinic"]))
    hours = _by_clinic(records, "chair_hours", np.array([*peers, *names]), months)
    peer_hours, own = hours[: len(peers)], np.nan_to_num(hours[len(peers) :])
    usable = np.isfinite(peer_hours).all(axis=1) & (peer_hours > 0).all(axis=1)
    if not usable.any() or not own.any():
        return empty
    lines = sorted(set(known["service_line"]))
    by_peer = np.zeros((len(bottom), len(peers), len(lines), len(months)))
    for i, (clinic, line) in enumerate(zip(known["clinic"], known["service_line"], strict=True)):
        by_peer[:, peers.index(clinic), lines.index(line)] = bottom[:, i]
    opened = records.clinics.set_index("clinic")["opened_on"]
    tables, paths = [], []
    for name, available in zip(names, own, strict=True):
        if available.any():
            begins = opened.get(name)
            is_open = np.array([pd.isna(begins) or month.end_time >= pd.Timestamp(begins) for month in months])
            paths.append(after_peers(by_peer[:, usable], peer_hours[usable], available * is_open, rng))
            tables.append(pd.DataFrame({"clinic": name, "service_line": lines}))
    return pd.concat(tables, ignore_index=True), np.concatenate(paths, axis=1)


def _clinicians(
    records: DemandRecords, measure: str, full: Hierarchy, bottom: Floats, months: pd.PeriodIndex,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, Floats]:  # fmt: skip
    """Divide every clinic's lines among its clinicians, and sum by clinician."""
    table = records.series[records.series["clinician"] != ""]
    left = records.clinicians.set_index("clinician")["left_on"]
    sums: dict[tuple[str, str], Floats] = {}
    for i, (clinic, line) in enumerate(zip(full.bottom["clinic"], full.bottom["service_line"], strict=True)):
        own = table[(table["clinic"] == clinic) & (table["service_line"] == line)]
        wide = own.pivot_table(index="month", columns="clinician", values=measure, aggfunc="sum")
        wide = wide.reindex(records.months, fill_value=0.0).fillna(0.0)
        if wide.empty or not wide.iloc[-6:].to_numpy().any():
            continue
        names, shares, concentration = clinician_shares(wide, left, months)
        for name, part in zip(names, np.moveaxis(split(bottom[:, i], shares, concentration, rng), 1, 0), strict=True):
            sums[clinic, name] = sums.get((clinic, name), 0.0) + part
    keys = sorted(sums)
    nodes = pd.DataFrame(
        [
            {"series": f"clinician:{clinic}/{name}", "level": "clinician", "clinic": clinic, "clinician": name}
            for clinic, name in keys
        ],
        columns=["series", "level", "clinic", "service_line", "clinician"],
    ).fillna("")
    paths = np.stack([sums[key] for key in keys], axis=1) if keys else np.empty((len(bottom), 0, len(months)))
    return nodes, paths
