"""Sudden changes of level: months in which a clinic's figures leave what was usual."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from statistics import median

USUAL_MONTHS = 6  # a month is compared with the median of those before it
ALARM = 4.0  # robust standard deviations
LEAST = 0.25  # smaller changes, as a share of what is usual, are not worth a look, however sure
_TO_SIGMA = 1.4826  # median absolute deviation of a normal distribution to its standard deviation


@dataclass(frozen=True)
class Month:
    """Bookings that start in a month at a clinic; of those that took place or not, how many were missed."""

    clinic_id: str
    month: date
    bookings: int
    missed: int
    ended: int

    @property
    def no_show_share(self) -> float | None:
        """Share of missed visits; None without any visit."""
        return self.missed / self.ended if self.ended else None


@dataclass(frozen=True)
class LevelShift:
    """A month in which a clinic's `measure` left its level: what was usual, what came, how unlikely (robust z)."""

    clinic_id: str
    month: date
    measure: str
    usual: float
    came: float
    z: float


@dataclass(frozen=True)
class _Point:
    month: date
    value: float
    level: float  # on a scale where chance is the same for small and large values (Anscombe 1948)
    noise: float  # standard deviation of `level` by chance alone


def level_shifts(months: Sequence[Month]) -> Iterator[LevelShift]:
    """Find the months in which bookings or the no-show share of a clinic suddenly changed.

    A month's level is compared with the median of the six before it. The yardstick
    is the usual size of that difference at the clinic (median absolute deviation),
    and at least chance. Of a change that lasts, the first month is named.

    Parameters
    ----------
    months : sequence of Month
        Ordered by clinic and month, without gaps.

    Yields
    ------
    LevelShift
    """
    for clinic, group in groupby(months, key=lambda month: month.clinic_id):
        own = list(group)
        yield from _shifts(clinic, "bookings", [_bookings(month) for month in own])
        yield from _shifts(clinic, "no_show_share", [_no_shows(month) for month in own if month.ended])


def _bookings(month: Month) -> _Point:
    return _Point(month.month, month.bookings, 2 * math.sqrt(month.bookings + 3 / 8), 1.0)


def _no_shows(month: Month) -> _Point:
    level = 2 * math.asin(math.sqrt((month.missed + 3 / 8) / (month.ended + 3 / 4)))
    return _Point(month.month, month.missed / month.ended, level, 1 / math.sqrt(month.ended))


def _shifts(clinic: str, measure: str, points: Sequence[_Point]) -> Iterator[LevelShift]:
    steps = []
    for index in range(USUAL_MONTHS, len(points)):
        before = points[index - USUAL_MONTHS : index]
        steps.append((points[index], median(p.value for p in before), median(p.level for p in before)))
    if not steps:
        return
    usual_step = _TO_SIGMA * median(abs(point.level - level) for point, _, level in steps)
    last_sign = 0
    for point, usual, level in steps:
        step = point.level - level
        z = step / max(usual_step, point.noise * math.sqrt(1 + math.pi / 2 / USUAL_MONTHS))
        is_large = abs(z) >= ALARM and abs(point.value - usual) >= LEAST * usual
        sign = int(math.copysign(1, step)) if is_large else 0
        if sign and sign != last_sign:
            yield LevelShift(clinic, point.month, measure, usual, point.value, z)
        last_sign = sign
