"""The practice's clock and opening days, in minutes of its wall clock.

Minute 0 is local midnight of the first simulated day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, lru_cache
from itertools import accumulate

from features.opening_days import CHINA, SPRING_FESTIVAL, CalendarDay, calendar_days

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

    Public holidays are China's, as in `features.opening_days`.
    """
    listed = list(calendar_days(CHINA, first_day, first_day + timedelta(days=days - 1)))
    return Opening(
        first_day=first_day,
        is_open=tuple(not _is_festival(each) for each in listed),
        weights=tuple(_weight(each) for each in listed),
        weekdays=tuple(each.day.weekday() for each in listed),
        years=tuple(each.day.year for each in listed),
        months=tuple(each.day.month for each in listed),
    )


def _is_festival(each: CalendarDay) -> bool:
    return not each.is_workday and each.holiday == SPRING_FESTIVAL


def _weight(each: CalendarDay) -> float:
    weekday = each.day.weekday()
    if _is_festival(each):
        return 0.0
    if each.is_made_up:
        return WEEKDAY_WEIGHTS[2]
    return WEEKDAY_WEIGHTS[weekday if each.is_workday or weekday >= 5 else 6]
