"""Monthly series side by side: one row per series, one column per month."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import NotEnoughDataError, RevisitError

Floats = NDArray[np.float64]
MONTHS_A_YEAR = 12
LONGEST = 1200  # months; a typing error in a year must not ask for a million columns


class SeriesError(RevisitError):
    """The table is not one of monthly series."""


@dataclass(frozen=True)
class Panel:
    """Monthly series on one common run of months.

    Attributes
    ----------
    ids : pandas.Index
        Name of each series.
    months : pandas.PeriodIndex
        Every month from the first to the last, none left out.
    values : ndarray of shape (n_series, n_months)
        Zero or more; NaN where a month is not known (before the series began, closed).
    notes : tuple of (series, str)
        What was found in a series and how it was taken.
    """

    ids: pd.Index
    months: pd.PeriodIndex
    values: Floats
    notes: tuple[tuple[Hashable, str], ...] = field(default=())

    def __post_init__(self) -> None:
        """Hold what the rest of the package takes for granted."""
        if self.values.shape != (len(self.ids), len(self.months)):
            raise SeriesError(
                f"A panel of {len(self.ids)} series over {len(self.months)} months needs values of that shape, "
                f"not {self.values.shape}."
            )
        if np.any(self.values < 0) or np.any(np.isinf(self.values)):
            raise SeriesError("A panel holds values from zero up; leave out months that are negative or infinite.")

    def __len__(self) -> int:
        """Count the series."""
        return len(self.ids)

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, series: str = "series", month: str = "month", value: str = "value"
    ) -> Panel:
        """Read a long table.

        Parameters
        ----------
        frame : pandas.DataFrame
            One row per series and month, in any order. A month may be a period, a date in it, or text such as
            ``2026-01``. Rows that are missing, empty or negative are months not known.
        series, month, value : str
            The columns.

        Raises
        ------
        SeriesError
            A column is missing, a month or value cannot be read, a month comes twice, or the steps are not months.
        NotEnoughDataError
            There is no value at all.
        """
        _need_columns(frame, (series, month, value))
        frame = frame.reset_index(drop=True)
        months = _months(frame[month], month)
        values = _numbers(frame[value], value)
        if frame[series].isna().any():
            raise SeriesError(f"Every row needs a series: {int(frame[series].isna().sum())} have an empty {series!r}.")
        if not values.notna().any():
            raise NotEnoughDataError(f"Column {value!r} holds no number; a forecast needs at least one month.")
        twice = pd.DataFrame({"series": frame[series], "month": months}).duplicated()
        if twice.any():
            where = int(twice.to_numpy().argmax())
            raise SeriesError(
                f"Expected one row per series and month, but series {frame[series].iloc[where]!r} has "
                f"{months.iloc[where]} "
                f"more than once ({int(twice.sum())} rows too many). Sum daily or weekly rows by month first."
            )
        _need_monthly_steps(frame[series], months)
        run = pd.period_range(months.min(), months.max(), freq="M")
        if len(run) > LONGEST:
            raise SeriesError(f"The months run from {run[0]} to {run[-1]}; check column {month!r} for a wrong year.")
        negative = values < 0
        wide = pd.DataFrame({"series": frame[series], "month": months, "value": values.mask(negative)}).pivot(
            index="series", columns="month", values="value"
        )
        wide = wide.reindex(columns=run)
        notes = [
            (name, f"{count} negative month(s) taken as not known")
            for name, count in frame.loc[negative, series].value_counts(sort=False).items()
        ]
        return cls(wide.index, run, wide.to_numpy(dtype=float), tuple(notes))

    def until(self, months: int) -> Panel:
        """The panel as it stood after its first `months` months."""
        return Panel(self.ids, self.months[:months], self.values[:, :months], self.notes)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Panel:
        """Some of the series."""
        return Panel(self.ids[rows], self.months, self.values[rows], self.notes)

    def future(self, horizon: int) -> pd.PeriodIndex:
        """The `horizon` months after the last."""
        return pd.period_range(self.months[-1] + 1, periods=horizon, freq="M")


def covariates_of(calendar: pd.DataFrame | None, months: pd.PeriodIndex) -> Floats:
    """Covariates of `months` as an array of shape (n_months, n_covariates).

    Parameters
    ----------
    calendar : pandas.DataFrame or None
        One row per month (index: monthly periods), one column per covariate, such as working days.
    months : pandas.PeriodIndex
        The months wanted.

    Raises
    ------
    SeriesError
        The calendar lacks a month, or holds something that is not a number.
    """
    if calendar is None or calendar.shape[1] == 0:
        return np.empty((len(months), 0))
    if not isinstance(calendar.index, pd.PeriodIndex):
        raise SeriesError(f"A calendar is indexed by monthly periods, not by {type(calendar.index).__name__}.")
    found = calendar.reindex(months).to_numpy(dtype=float)
    missing = months[~np.isfinite(found).all(axis=1)]
    if len(missing):
        raise SeriesError(f"The calendar lacks {len(missing)} month(s) from {missing[0]} on; it has to reach the end.")
    return found


def _need_columns(frame: pd.DataFrame, wanted: Iterable[str]) -> None:
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise SeriesError(f"Expected column(s) {missing}; the table has {[str(name) for name in frame.columns]}.")


def _months(column: pd.Series, name: str) -> pd.Series:
    if isinstance(column.dtype, pd.PeriodDtype):
        return pd.Series(column.dt.asfreq("M"))
    if pd.api.types.is_numeric_dtype(column):
        column = column.astype("Int64").astype("string")  # 202601 is a month, not nanoseconds
    compact = bool(column.astype("string").str.fullmatch(r"\d{6}").all())
    try:
        moments = pd.to_datetime(column, format="%Y%m" if compact else "ISO8601")
    except (ValueError, TypeError) as error:
        raise SeriesError(f"Column {name!r} should hold months such as 2026-01; it holds something else.") from error
    if moments.isna().any():
        raise SeriesError(f"Column {name!r} should hold months such as 2026-01; {int(moments.isna().sum())} are empty.")
    return moments.dt.tz_localize(None).dt.to_period("M")


def _numbers(column: pd.Series, name: str) -> pd.Series:
    values = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = (values.isna() & column.notna() & (column.astype("string").str.strip() != "")) | np.isinf(values)
    if wrong.any():
        raise SeriesError(f"Column {name!r} should hold numbers; {int(wrong.sum())} row(s) hold something else.")
    return values


def _need_monthly_steps(series: pd.Series, months: pd.Series) -> None:
    """Refuse quarters and years: most steps within a series have to be one month."""
    ordinal = months.dt.year * MONTHS_A_YEAR + months.dt.month
    steps = ordinal.sort_values().groupby(series).diff().dropna()
    if len(steps) and steps.median() > 1:
        raise SeriesError(
            f"Expected monthly steps, but rows of a series are typically {int(steps.median())} months apart. "
            "Forecasts are by month; bring monthly values."
        )
