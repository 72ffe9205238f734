"""The practice's clock and opening days, in minutes of its wall clock.

Minute 0 is local midnight of the first simulated day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, lru_cache
from itertools import accumulate

import chinese_calendar

DAY = 1440
OPENS = 9 * 60
CLOSES = 20 * 60
SLOT = 30
SLOTS = (CLOSES - OPENS) // SLOT
WAKES = 8 * 60
SLEEPS = 22 * 60
AWAKE = SLEEPS - WAKES

# Visits per weekday relative to each other, Monday first: private clinics in China are weekend-heavy
# (field.md; sizes assumed).
WEEKDAY_WEIGHTS = (0.85, 0.85, 0.90, 0.90, 0.95, 1.30, 1.15)


def waking_minutes(minute: int) -> int:
    """Minutes between 08:00 and 22:00 that passed up to `minute`."""
    day, clock = divmod(minute, DAY)
    return day * AWAKE + min(max(clock - WAKES, 0), AWAKE)


def at_waking_minute(count: int) -> int:
    """Return the minute at which `count` waking minutes have passed; inverse of `waking_minutes`."""
    day, clock = divmod(count, AWAKE)
    return day * DAY + WAKES + clock


@dataclass(frozen=True)
class Opening:
    """Opening days from `first_day` on, one entry per day in each tuple.

    Attributes
    ----------
    first_day : date
        The day of minute 0.
    is_open : tuple of bool
        False in the Spring Festival holiday.
    weights : tuple of float
        How much patients like the day, as in `WEEKDAY_WEIGHTS`; public
        holidays count as Sundays and make-up workdays as Wednesdays.
    weekdays, months, years : tuple of int
        Monday is 0; January is 1; calendar year.
    """

    first_day: date
    is_open: tuple[bool, ...]
    weights: tuple[float, ...]
    weekdays: tuple[int, ...]
    years: tuple[int, ...]
    months: tuple[int, ...] = ()

    @cached_property
    def liked(self) -> tuple[float, ...]:
        """Sum of the weights of all days before each day."""
        return (0.0, *accumulate(self.weights))

    def closed_within(self, day: int, days: int) -> bool:
        """Whether any of the `days` days from `day` on is closed."""
        return not all(self.is_open[max(day, 0) : max(day + days, 0)])

    def next_open_day(self, day: int) -> int:
        """Return `day` or the first open day after it; days beyond the calendar count as open."""
        while day < len(self.is_open) and not self.is_open[day]:
            day += 1
        return day

    def previous_open_day(self, day: int) -> int:
        """Return `day` or the last open day before it."""
        while day > 0 and not self.is_open[day]:
            day -= 1
        return day

    def desk_minute(self, day: int, chance: float) -> int:
        """Minute in the desk's hours of `day` or the next open day, at share `chance` of the hours."""
        return self.next_open_day(day) * DAY + OPENS + int(chance * (CLOSES - OPENS))


@lru_cache(maxsize=4)
def draw_up_opening(first_day: date, days: int) -> Opening:
    """Opening days of `days` days from `first_day` on.

    Public holidays come from ``chinese_calendar``; years it does not know
    have none.
    """
    dates = [first_day + timedelta(days=n) for n in range(days)]
    kinds = [_kind(day) for day in dates]
    return Opening(
        first_day=first_day,
        is_open=tuple(kind != "closed" for kind in kinds),
        weights=tuple(_weight(day, kind) for day, kind in zip(dates, kinds, strict=True)),
        weekdays=tuple(day.weekday() for day in dates),
        years=tuple(day.year for day in dates),
        months=tuple(day.month for day in dates),
    )


def _kind(day: date) -> str:
    try:
        is_off, name = chinese_calendar.get_holiday_detail(day)
    except NotImplementedError:
        return "ordinary"
    if is_off and name == chinese_calendar.Holiday.spring_festival.value:
        return "closed"
    is_weekend = day.weekday() >= 5
    if is_off and not is_weekend:
        return "holiday"
    return "workday" if is_weekend and not is_off else "ordinary"


def _weight(day: date, kind: str) -> float:
    weekday = {"closed": None, "holiday": 6, "workday": 2, "ordinary": day.weekday()}[kind]
    return 0.0 if weekday is None else WEEKDAY_WEIGHTS[weekday]
