"""Working days and the Spring Festival as monthly covariates of the demand models."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import pandas as pd

from features.opening_days import calendar_day, calendar_days, spring_festival
from training.demand.panel import MONTHS_A_YEAR, Floats

# Days from the first day of the lunar year: the rush before, the days off, the slow return (Bell and Hillmer 1983).
# They cover China's winter school holidays, which move with it; those of summer are July and August in every year and
# so part of the season. Windows of their own for schools (-14 to 15) and universities (-20 to 21) were tried on five
# simulated histories: past pinball loss within 1 % either way, so they are left out.
WINDOWS = {"before": (-10, -1), "during": (0, 6), "after": (7, 20)}
LONG_RUN = range(1990, 2030)  # years whose mean share of each month is taken off, so that the season stays the season


def calendar_months(country: str, months: pd.PeriodIndex) -> pd.DataFrame:
    """Covariates of months, known long before them.

    Parameters
    ----------
    country : str
        ISO 3166 code of two letters.
    months : pandas.PeriodIndex
        Past and to come.

    Returns
    -------
    pandas.DataFrame
        One row per month: ``workdays`` (make-up workdays counted, public holidays not) and, where the Spring
        Festival is a holiday, ``festival_before``, ``festival_during`` and ``festival_after``: the share of each
        window that falls in the month, less that month's mean over many years.

    Raises
    ------
    SettingsError
        The country's holidays are not known.
    """
    days = calendar_days(country, months[0].start_time.date(), months[-1].end_time.date())
    worked = [(pd.Period(day.day, "M"), day.is_workday) for day in days]
    table = pd.DataFrame(worked, columns=["month", "workdays"]).groupby("month").sum().reindex(months).astype(float)
    if spring_festival(country, months[-1].year) is None:
        return table
    for name, window in WINDOWS.items():
        usual = _long_run(country, window)
        table[f"festival_{name}"] = [
            _share(country, window, month.year, month.month) - usual[month.month - 1] for month in months
        ]
    return table


def provisional_months(country: str, months: pd.PeriodIndex) -> pd.PeriodIndex:
    """Those of `months` whose official list of days off is not out yet (as far as the installed calendar knows)."""
    return months[[calendar_day(country, month.start_time.date()).is_provisional for month in months]]


@lru_cache(maxsize=8)
def _long_run(country: str, window: tuple[int, int]) -> Floats:
    shares = [[_share(country, window, year, month + 1) for month in range(MONTHS_A_YEAR)] for year in LONG_RUN]
    return np.asarray(np.mean(shares, axis=0))


def _share(country: str, window: tuple[int, int], year: int, month: int) -> float:
    """Share of the window's days about the festival of `year` that fall in `month` of it."""
    if month > 3:  # 20 February is the latest New Year's Day; 12 March ends its windows, 11 January begins the first
        return 0.0
    first = spring_festival(country, year)
    if first is None:
        return 0.0
    days: list[date] = [first + timedelta(days=n) for n in range(window[0], window[1] + 1)]
    return sum(day.month == month for day in days) / len(days)
