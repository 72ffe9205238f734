"""What was forecast when, and what came of it: Parquet files under ``data/forecasts``, for whoever shows them.

=================  ====================================================================================================
``made/STAMP``     one row per measure, series and month of a forecast; see `read_version`. One file per forecast made.
``actuals``        one row per measure, series and whole month: level, actual.
``backtest``       one row per measure, method, series, origin (last month known) and step: month, level, actual, scale
                   (denominator of MASE), q10 ... q90. Ours is the method ``revisit``; the others are named after peers.
``words``          one row per measure, series (of practice, clinic, service_line) and language (en, zh): text.
``capacity``       one row per clinic and month: needed, needed_q90, available, usable, add_hours (all chair hours),
                   overload (probability that more is needed than usable), is_closure_assumed.
``supply_months``  one row per clinic, supply and month: supply_name, unit, mean, q10 ... q90 (units used).
``consumables``    one row per clinic and supply: supply_name, unit, in_stock, needed_month, reorder_point, months_left,
                   order (units), alert (``order now``, ``order soon`` or empty).
=================  ====================================================================================================

Series are named by level: ``practice``, ``clinic:A``, ``service_line:hygiene``, ``clinic_line:A/hygiene``,
``clinician:A/7``. Measures are those of `features.demand_series.MEASURES`. Months are first days in the files and
monthly periods in what `load` gives.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd

from features.errors import NotBuiltError
from features.settings import Settings

NODE = ["series", "level", "clinic", "service_line", "clinician"]
ACTUALS, BACKTEST, WORDS = "actuals", "backtest", "words"
CAPACITY, SUPPLY_MONTHS, CONSUMABLES = "capacity", "supply_months", "consumables"


def store(settings: Settings, name: str, table: pd.DataFrame) -> Path:
    """Write a table (``made/STAMP``, ``actuals``, ``backtest``, ...) whole or not at all; periods become first days."""
    path = settings.paths.forecasts / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = table.copy()
    for column in plain.columns[[isinstance(kind, pd.PeriodDtype) for kind in plain.dtypes]]:
        plain[column] = plain[column].dt.to_timestamp()
    fresh = path.with_suffix(".new")
    plain.to_parquet(fresh, index=False)
    fresh.replace(path)
    return path


def load(settings: Settings, name: str) -> pd.DataFrame:
    """Read a table that `store` wrote; ``month`` and ``origin`` are monthly periods again.

    Raises
    ------
    NotBuiltError
        There is none yet.
    """
    path = settings.paths.forecasts / f"{name}.parquet"
    if not path.is_file():
        raise NotBuiltError("there is no forecast yet; run `revisit forecast` first.")
    table = pd.read_parquet(path)
    for column in {"month", "origin"} & set(table.columns):
        table[column] = table[column].dt.to_period("M")
    return table


def store_version(settings: Settings, made_at: datetime, table: pd.DataFrame) -> Path:
    """Keep a forecast under the moment at which it was made; earlier ones stay."""
    return store(settings, f"made/{_stamp(made_at)}", table.assign(made_at=pd.Timestamp(made_at)))


def versions(settings: Settings) -> list[str]:
    """Stamps (UTC) of all forecasts kept, oldest first."""
    return sorted(path.stem for path in (settings.paths.forecasts / "made").glob("*.parquet"))


def read_version(settings: Settings, stamp: str | None = None) -> pd.DataFrame:
    """A forecast beside what came.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    stamp : str, optional
        One of `versions`; the newest by default.

    Returns
    -------
    pandas.DataFrame
        One row per measure, series and month: made_at, measure, series, level, clinic, service_line, clinician, note,
        month, step, is_provisional, mean, q10 ... q90, and actual (NaN until the month is over).

    Raises
    ------
    NotBuiltError
        There is none.
    """
    kept = versions(settings)
    table = load(settings, f"made/{stamp or (kept[-1] if kept else 'none')}")
    actuals = load(settings, ACTUALS)[["measure", "series", "month", "actual"]]
    return table.merge(actuals, on=["measure", "series", "month"], how="left")


def past_forecasts(settings: Settings, measure: str, series: str) -> pd.DataFrame:
    """Every version's rows of one series, oldest version first; columns as in `read_version`."""
    found = [read_version(settings, stamp) for stamp in versions(settings)]
    rows = [table[(table["measure"] == measure) & (table["series"] == series)] for table in found]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def actuals_of(series: pd.DataFrame, measures: list[str]) -> pd.DataFrame:
    """Sum the records' series at every level: one row per measure, series and month."""
    groups = {
        "practice": [],
        "clinic": ["clinic"],
        "service_line": ["service_line"],
        "clinic_line": ["clinic", "service_line"],
        "clinician": ["clinic", "clinician"],
    }
    tables = []
    for level, keys in groups.items():
        table = series.groupby([*keys, "month"])[measures].sum().reset_index()
        table["series"] = level + (":" + table[keys].agg("/".join, axis=1) if keys else "")
        table["level"] = level
        tables.append(table.melt(["series", "level", "month"], measures, "measure", "actual"))
    return pd.concat(tables, ignore_index=True)


def _stamp(made_at: datetime) -> str:
    return f"{pd.Timestamp(made_at).tz_convert('UTC'):%Y%m%dT%H%M%SZ}"
