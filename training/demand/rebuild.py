"""All of a practice's forecasts made anew, proved on its own past, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from features.demand_series import MEASURES, read_demand
from features.forecasts import (
    ACTUALS,
    BACKTEST,
    CAPACITY,
    CONSUMABLES,
    SUPPLY_MONTHS,
    WORDS,
    actuals_of,
    load,
    store,
    store_version,
)
from features.settings import Settings
from features.supplies import read_supplies
from training.demand.accuracy import QUANTILES
from training.demand.backtest import Method, backtest, methods, summary
from training.demand.blend import MEMBERS, Cache, rolling_origins
from training.demand.coherence import path_quantiles
from training.demand.covariates import calendar_months, provisional_months
from training.demand.outlook import capacity_of, stock_of, use_of_supplies
from training.demand.panel import Floats, Panel
from training.demand.practice import History, PracticeForecast, base_and_bottom, forecast_practice, history_of
from training.demand.words import LANGUAGES, fan_chart, in_words

OURS = "revisit"
PEERS = ("seasonal_naive", "theta", "ets")
BACKTEST_ORIGINS = 2
PLOTTED = ("practice", "clinic", "service_line")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild made.

    Attributes
    ----------
    made_at : datetime
    measures : tuple of str
    series : int
        Forecast, over all measures.
    provisional : pandas.PeriodIndex
        Months whose official days off are not out yet.
    words : dict of str to dict
        By measure and language: how the practice's forecasts did.
    run_id : str
        Of the MLflow run.
    """

    made_at: datetime
    measures: tuple[str, ...]
    series: int
    provisional: pd.PeriodIndex
    words: dict[str, dict[str, str]]
    run_id: str


def rebuild(
    settings: Settings,
    now: datetime,
    horizon: int = 12,
    members: tuple[str, ...] = MEMBERS,
    peers: tuple[str, ...] = PEERS,
    progress: Progress | None = None,
) -> Rebuilt:
    """Forecast every measure and level from the records, with backtest, capacity and consumables; keep it all.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    now : datetime
        Aware; nothing recorded at or after it is seen.
    horizon : int
        Months after the last whole month.
    members, peers : tuple of str
        Of the blend; beside it in the backtest.
    progress : callable, optional
        Told the number of finished and of all steps.
    """
    records = read_demand(settings, now, horizon)
    span = pd.period_range(records.months[0], records.months[-1] + horizon, freq="M")
    calendar = calendar_months(settings.practice.country, span)
    provisional = provisional_months(settings.practice.country, span[-horizon:])
    measures = tuple(name for name in MEASURES if name in records.series and records.series[name].any())
    steps, forecasts, backtests = 2 * len(measures), {}, []
    for number, measure in enumerate(measures):
        cache: Cache = {}
        _tell(progress, 2 * number, steps)
        forecasts[measure] = forecast_practice(records, measure, calendar, horizon, members, cache)
        _tell(progress, 2 * number + 1, steps)
        tested = backtest_practice(history_of(records, measure), calendar, horizon, members, peers, cache)
        backtests.append(tested.assign(measure=measure))
    table = pd.concat([forecast.frame() for forecast in forecasts.values()], ignore_index=True)
    table["is_provisional"] = table["month"].isin(provisional)
    tested = pd.concat(backtests, ignore_index=True)
    words = said_of(tested, table)
    store(settings, ACTUALS, actuals_of(records.series, list(measures)))
    store(settings, BACKTEST, tested)
    store(settings, WORDS, words)
    if "chair_hours" in forecasts:
        store(settings, CAPACITY, capacity_of(forecasts["chair_hours"], records.opening))
    stock, use = read_supplies(settings, now)
    used = use_of_supplies(stock, use, forecasts["visits"])
    store(settings, SUPPLY_MONTHS, used.frame())
    store(settings, CONSUMABLES, stock_of(used, settings.zone))
    _draw(settings, table, measures)
    of_practice = words[words["series"] == "practice"]
    told = {
        str(measure): dict(zip(rows["language"], rows["text"], strict=True))
        for measure, rows in of_practice.groupby("measure")
    }
    run_id = _log(settings, now, forecasts, figures(tested), told)
    store_version(settings, now, table)  # last: a version that is there is whole
    _tell(progress, steps, steps)
    return Rebuilt(now, measures, len(table) // horizon, provisional, told, run_id)


def said_of(tested: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """How past forecasts did, in words: one row per measure, series of the levels plotted, and language."""
    shown = table.loc[table["level"].isin(PLOTTED), ["measure", "series"]].drop_duplicates()
    by_series = dict(iter(tested.groupby(["measure", "series"])))
    rows = [
        (measure, series, language, in_words(by_series.get((measure, series), tested.iloc[:0]), series, language))
        for measure, series in shown.itertuples(index=False)
        for language in LANGUAGES
    ]
    return pd.DataFrame(rows, columns=["measure", "series", "language", "text"])


def coherent_method(history: History, members: tuple[str, ...], cache: Cache | None = None) -> Method:
    """What is delivered, as a function for `backtest`: forecasts of all nodes that agree."""
    summing = history.hierarchy.summing

    def run(panel: Panel, calendar: pd.DataFrame | None, horizon: int) -> Floats:
        own = history.until(len(panel.months))
        _, bottom, _, _ = base_and_bottom(own, calendar, horizon, members, cache)
        return path_quantiles(np.einsum("nb,pbh->pnh", summing, bottom))

    return run


def backtest_practice(
    history: History,
    calendar: pd.DataFrame | None,
    horizon: int = 12,
    members: tuple[str, ...] = MEMBERS,
    peers: tuple[str, ...] = PEERS,
    cache: Cache | None = None,
) -> pd.DataFrame:
    """What would have been forecast at past moments; empty where the history is too short.

    Returns
    -------
    pandas.DataFrame
        As `training.demand.backtest.backtest` gives it, with the level of each series; our method is ``revisit``.
    """
    panel = history.panel
    origins = rolling_origins(len(panel.months), horizon)[-BACKTEST_ORIGINS:]
    known = {OURS: coherent_method(history, members, cache), **methods(peers, cache=cache)}
    if not origins:
        columns = ["method", "series", "origin", "step", "month", "actual", "scale", "level"]
        return pd.DataFrame(columns=[*columns, *(f"q{100 * q:g}" for q in QUANTILES)])
    levels = history.hierarchy.nodes.set_index("series")["level"]
    found = backtest(panel, known, origins, calendar, horizon)
    return found.assign(level=found["series"].map(levels))


def figures(tested: pd.DataFrame) -> pd.DataFrame:
    """MASE, SQL, WQL, WAPE, bias and coverage by measure, method and level."""
    return pd.concat(
        [summary(table, ("method", "level")).assign(measure=name) for name, table in tested.groupby("measure")]
        or [pd.DataFrame()],
        ignore_index=True,
    )


def _draw(settings: Settings, table: pd.DataFrame, measures: tuple[str, ...]) -> None:
    folder = settings.paths.forecasts / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    actuals = load(settings, ACTUALS).set_index(["measure", "series", "month"])["actual"].sort_index()
    for (measure, series), ahead in table[table["level"].isin(PLOTTED)].groupby(["measure", "series"], sort=False):
        is_there = (measure, series) in actuals.index
        past = actuals.xs((measure, series)) if is_there else pd.Series(dtype=float, index=pd.PeriodIndex([], freq="M"))
        if not (past > 0).any() and not (ahead["q90"] > 0).any():
            continue  # nothing ever, nothing expected
        safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in str(series))
        fan_chart(f"{series} · {measure}", past, ahead).savefig(folder / f"{measure}-{safe}.png", dpi=100)


def _log(
    settings: Settings,
    now: datetime,
    forecasts: dict[str, PracticeForecast],
    told: pd.DataFrame,
    words: dict[str, dict[str, str]],
) -> str:
    """Keep the backtest in MLflow; returns the run."""
    import mlflow

    from training.registry import EXPERIMENTS, connect

    connect(settings)
    mlflow.set_experiment(EXPERIMENTS["clinic"])
    with mlflow.start_run(run_name="demand") as run:
        mlflow.log_params({f"rule_{name}": forecast.rule for name, forecast in forecasts.items()})
        mlflow.log_params(
            {f"weight_{name}_{m}": w for name, forecast in forecasts.items() for m, w in forecast.base.weights.items()}
        )
        mlflow.set_tag("made_at", now.isoformat())
        for row in told.to_dict("records"):
            values = {name: row[name] for name in ("mase", "sql", "wql", "wape", "bias", "coverage_80")}
            kept = {name: float(value) for name, value in values.items() if np.isfinite(value)}
            mlflow.log_metrics({f"{row['measure']}.{row['method']}.{row['level']}.{k}": v for k, v in kept.items()})
        mlflow.log_text(told.to_csv(index=False), "backtest.csv")
        mlflow.log_dict(words, "words.json")
        return str(run.info.run_id)


def _tell(progress: Progress | None, finished: int, of: int) -> None:
    if progress is not None:
        progress(finished, of)
