"""The data-quality page: one HTML file that needs nothing else, headed in English and Chinese."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from features.records.level_shifts import LevelShift, Month
from features.records.quality import ColumnQuality, QualityReport
from serving.report_page import render_report

WIDTH, HEIGHT, EDGE = 640, 120, 8  # of a plot, in its own units
_MEASURES = {"bookings": "Bookings per month · 每月预约数", "no_show_share": "No-show share · 爽约率"}


@dataclass(frozen=True)
class Mark:
    """A sudden change in a plot."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Plot:
    """One clinic's figure over the months, as an SVG polyline per stretch without gaps."""

    clinic_id: str
    measure: str
    first: str
    last: str
    highest: str
    lines: tuple[str, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class TableColumns:
    """A table's columns, for the chart of missing values."""

    name: str
    rows: int
    columns: tuple[ColumnQuality, ...]


def render_quality(report: QualityReport, practice: str) -> str:
    """Render a quality report.

    Parameters
    ----------
    report : QualityReport
        What was found.
    practice : str
        The practice's name.

    Returns
    -------
    str
        A whole HTML page: no script, no request to anywhere.
    """
    tables = [
        TableColumns(name, columns[0].rows, tuple(columns))
        for name, group in groupby(report.columns, key=lambda column: column.table)
        if (columns := list(group))
    ]
    return render_report(
        "_quality.html",
        report=report,
        practice=practice,
        tables=tables,
        plots=list(plots(report.months, report.shifts)),
        measures=_MEASURES,
        width=WIDTH,
        height=HEIGHT,
    )


def plots(months: Sequence[Month], shifts: Sequence[LevelShift]) -> Iterator[Plot]:
    """Yield two plots per clinic: bookings and no-show share by month, sudden changes marked."""
    for clinic, group in groupby(months, key=lambda month: month.clinic_id):
        own = list(group)
        for measure in _MEASURES:
            values = [float(m.bookings) if measure == "bookings" else m.no_show_share for m in own]
            marked = {s.month: s for s in shifts if (s.clinic_id, s.measure) == (clinic, measure)}
            if any(value is not None for value in values):
                yield _plot(clinic, measure, own, values, marked)


def _plot(
    clinic: str, measure: str, months: Sequence[Month], values: Sequence[float | None], marked: dict[date, LevelShift]
) -> Plot:
    highest = max((value for value in values if value is not None), default=0.0) or 1.0
    places = [
        None
        if value is None
        else (
            EDGE + (WIDTH - 2 * EDGE) * index / max(len(months) - 1, 1),
            HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * value / highest,
        )
        for index, value in enumerate(values)
    ]
    lines = tuple(
        " ".join(f"{x:.1f},{y:.1f}" for x, y in filter(None, stretch))
        for is_gap, stretch in groupby(places, key=lambda place: place is None)
        if not is_gap
    )
    marks = tuple(
        Mark(*place, f"{month.month:%Y-%m}: {_shown(measure, shift.came)} ({_shown(measure, shift.usual)})")
        for month, place in zip(months, places, strict=True)
        if place is not None and (shift := marked.get(month.month)) is not None
    )
    first, last = (f"{month.month:%Y-%m}" for month in (months[0], months[-1]))
    return Plot(clinic, measure, first, last, _shown(measure, highest), lines, marks)


def _shown(measure: str, value: float) -> str:
    return f"{value:,.0f}" if measure == "bookings" else f"{value:.0%}"
