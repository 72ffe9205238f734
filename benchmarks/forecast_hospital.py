"""Monthly patient counts of a hospital: 767 series of 84 months, the panel of the published forecasting tables.

Single window: trained on 72 months, tested on the last 12. Four windows: trained on 36, 48, 60 and 72. ``mase`` and
the like are the blend's, as delivered; members and peers run in the same process on the same windows (AutoETS, a
minute of CPU a window, on the single one). The number of weekdays of each month is the calendar. Growth: the
structural model on 10,000 series (the panel repeated with its values scaled), CPU seconds over those of a tenth.
"""

from __future__ import annotations

import logging
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.harness import arguments, emit
from training.demand.accuracy import accuracy, seasonal_scale
from training.demand.backtest import methods
from training.demand.blend import Cache
from training.demand.panel import Floats, Panel
from training.demand.structural import PooledStructural

HORIZON = 12
WINDOWS = (36, 48, 60, 72)
OURS = ("structural", "boosted", "blend")
PEERS = ("seasonal_naive", "theta", "ets")
QUICK_SERIES = 40
GROWN = 10_000
TARGETS: dict[str, tuple[str, float]] = {
    "mase": ("<=", 0.725),
    "wql": ("<=", 0.0465),
    "coverage_80": (">=", 0.78),
    "mase_4w": ("<=", 0.845),
    "sql_4w": ("<=", 0.668),
    "wql_4w": ("<=", 0.069),
    "cpu_s_structural": ("<=", 2),
    "cpu_s_blend": ("<=", 20),
    "peak_mb": ("<=", 400),
    "growth_10x": ("<=", 11),
}


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    panel = read(told.data / "hospital_monthly" / "hospital_long.csv")
    if told.quick:
        panel = panel.take(np.linspace(0, len(panel) - 1, QUICK_SERIES).astype(int))
    calendar = weekdays(panel.months)
    windows = WINDOWS[-1:] if told.quick else WINDOWS
    _load(panel, calendar)
    before = _peak_mb()
    # The blend first: its peak of memory and its CPU time are its own, with nothing kept from elsewhere.
    figures = {"blend": _evaluate("blend", panel, calendar, windows)}
    peak = _peak_mb() - before
    figures |= {name: _evaluate(name, panel, calendar, windows) for name in ("structural", "boosted", *PEERS[:2])}
    figures["ets"] = _evaluate("ets", panel, calendar, windows[-1:])
    blend, cpu = figures["blend"], {name: figure.pop("cpu_s") for name, figure in figures.items()}
    metrics = {
        **blend,
        "cpu_s_structural": cpu["structural"],
        "cpu_s_blend": cpu["blend"],
        "cpu_ratio_to_autoets": cpu["structural"] / cpu["ets"],
        "peak_mb": peak,
        "growth_10x": growth(panel, calendar, GROWN // (50 if told.quick else 1)),
    }
    metrics |= {f"{metric}_{name}": figures[name][metric] for name in OURS for metric in ("mase", "wql")}
    without = _evaluate("structural", panel, None, windows[-1:])
    metrics |= {"mase_structural_no_calendar": without["mase"], "wql_structural_no_calendar": without["wql"]}
    peers = {name: {**_rounded(figures[name]), "cpu_s": round(cpu[name], 2)} for name in figures if name != "blend"}
    emit("forecast_hospital", metrics, {} if told.quick else TARGETS, peers)


def read(path: Path) -> Panel:
    """The panel; the published names repeat, so a series is 84 rows of the file."""
    table = pd.read_csv(path)
    series = (table["month"] < table["month"].shift(fill_value="")).cumsum()
    return Panel.from_frame(table.assign(series=series), value="patients")


def weekdays(months: pd.PeriodIndex) -> pd.DataFrame:
    """Mondays to Fridays of each month."""
    starts = [run.to_timestamp().to_numpy().astype("datetime64[D]") for run in (months, months + 1)]
    return pd.DataFrame({"weekdays": np.busday_count(*starts)}, index=months)


def growth(panel: Panel, calendar: pd.DataFrame, series: int) -> float:
    """CPU of `series` series over that of a tenth."""
    return _cpu(lambda: _structural(repeated(panel, series), calendar)) / max(
        1e-9, _cpu(lambda: _structural(repeated(panel, series // 10), calendar))
    )


def repeated(panel: Panel, series: int) -> Panel:
    """A panel of `series` series: the same ones again, each on a scale of its own."""
    rows = np.arange(series) % len(panel)
    scale = 1 + 0.5 * np.sin(np.arange(series))[:, None]
    return Panel(pd.RangeIndex(series), panel.months[:72], panel.values[rows, :72] * scale)


def _evaluate(name: str, panel: Panel, calendar: pd.DataFrame | None, windows: tuple[int, ...]) -> dict[str, float]:
    """Figures of the last window, of the mean over all (``_4w``), and CPU seconds of the last."""
    cache: Cache = {}
    found = []
    cpu = 0.0
    # The last window first: what it takes from the cache it has put there itself.
    for origin in sorted(windows, reverse=True):
        past = panel.until(origin)
        start = time.process_time()
        quantiles = methods([name], cache=cache)[name](past, calendar, HORIZON)
        cpu = cpu or time.process_time() - start
        found.append(accuracy(panel.values[:, origin : origin + HORIZON], quantiles, seasonal_scale(past.values)))
    last = {key: found[0][key] for key in ("mase", "wql", "sql", "wape", "smape", "coverage_80")}
    mean = (
        {}
        if len(windows) == 1
        else {f"{key}_4w": float(np.mean([one[key] for one in found])) for key in ("mase", "sql", "wql", "coverage_80")}
    )
    return {**last, **mean, "cpu_s": cpu}


def _structural(panel: Panel, calendar: pd.DataFrame) -> Floats:
    return PooledStructural().fit(panel, calendar).predict(HORIZON)


def _load(panel: Panel, calendar: pd.DataFrame) -> None:
    """Import and compile what is loaded on first use, so that it counts neither as time nor as memory."""
    few = panel.take(np.arange(4)).until(60)
    for forecaster in methods(("structural", "boosted", "theta", "ets")).values():
        forecaster(few, calendar, HORIZON)


def _cpu(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 5) for key, value in figures.items()}


if __name__ == "__main__":
    main()
