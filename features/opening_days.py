"""Workdays, public holidays and the Spring Festival: the one place that knows a country's calendar.

China announces next year's days off and make-up workdays (调休) in autumn;
`chinesecalendar` brings the list of every year whose list was out when it was
released. Later years are provisional: the holidays fixed by law, by the lunar
calendar, and ordinary weekends. Other countries' holidays come from `holidays`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import chinese_calendar

from features.errors import SettingsError

if TYPE_CHECKING:
    import duckdb
    from holidays import HolidayBase

WORKDAYS_AHEAD = 30
CHINA = "CN"
SPRING_FESTIVAL = "Spring Festival"
# How `holidays` begins the name of what `chinesecalendar` calls otherwise.
_SAME = {
    "Chinese New Year": SPRING_FESTIVAL,
    "Tomb-Sweeping": "Tomb-sweeping Day",
    "Labor Day": "Labour Day",
    "Mid-Autumn": "Mid-autumn Festival",
}


@dataclass(frozen=True)
class CalendarDay:
    """One day of a country's calendar.

    Attributes
    ----------
    day : date
        The day.
    is_workday : bool
        True also for a weekend day that makes up for a holiday.
    holiday : str
        English name of the public holiday for which it is off; empty for others.
    is_provisional : bool
        Whether its year's official list is not known here yet.
    """

    day: date
    is_workday: bool
    holiday: str
    is_provisional: bool

    @property
    def is_made_up(self) -> bool:
        """Whether it is a Saturday or Sunday on which China works."""
        return self.is_workday and self.day.weekday() >= 5


def calendar_day(country: str, day: date) -> CalendarDay:
    """Look one day up.

    Parameters
    ----------
    country : str
        ISO 3166 code of two letters.
    day : date
        Which.

    Returns
    -------
    CalendarDay

    Raises
    ------
    SettingsError
        If the country's holidays are not known.
    """
    if country == CHINA and _is_listed(day.year):
        is_off, name = chinese_calendar.get_holiday_detail(day)
        return CalendarDay(day, not is_off, (name or "") if is_off else "", is_provisional=False)
    of_country = _holidays(country, day.year)
    is_workday = of_country.is_working_day(day)
    name = of_country.get(day, "").split(";")[0].strip().removesuffix(" (observed)")
    if country == CHINA:
        name = next((same for begin, same in _SAME.items() if name.startswith(begin)), name)
    return CalendarDay(day, is_workday, "" if is_workday else name, is_provisional=country == CHINA)


def calendar_days(country: str, first: date, last: date) -> Iterator[CalendarDay]:
    """Yield the days from `first` to `last`; see `calendar_day`."""
    return (calendar_day(country, first + timedelta(days=n)) for n in range((last - first).days + 1))


def spring_festival(country: str, year: int) -> date | None:
    """First day of the lunar year that begins in `year`, if `country` has the day off."""
    new_year = _new_year(year)
    return new_year if country == CHINA or new_year in _holidays(country, year) else None


def edition(country: str) -> str:
    """Which release of the calendar is installed: what was computed from another may differ."""
    names = ("chinesecalendar", "holidays") if country == CHINA else ("holidays",)
    return ", ".join(f"{name} {version(name)}" for name in names)


def attach_calendar(con: duckdb.DuckDBPyConnection, country: str, days: set[date]) -> None:
    """Make ``calendar``: one row per day of `days`.

    Its columns are whole numbers: ``day``, ``workdays_ahead`` (of the
    `WORKDAYS_AHEAD` days from it on), ``festival_last_day`` and
    ``festival_next_day`` (the Spring Festival's first day, the same day
    included in both; NULL where it is no holiday). Days are counted from
    1970-01-01. China's list for a year is out in the autumn before, so what
    lies a month ahead was known on each day.
    """
    workdays: dict[date, bool] = {}
    rows = []
    for day in sorted(days):
        ahead = [day + timedelta(days=n) for n in range(WORKDAYS_AHEAD)]
        for one in ahead:
            if one not in workdays:
                workdays[one] = calendar_day(country, one).is_workday
        festivals = [found for year in range(day.year - 1, day.year + 2) if (found := spring_festival(country, year))]
        before, after = [f for f in festivals if f <= day], [f for f in festivals if f >= day]
        rows.append(
            (
                _number(day),
                sum(workdays[one] for one in ahead),
                _number(before[-1]) if before else None,
                _number(after[0]) if after else None,
            )
        )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE calendar "
        "(day INTEGER, workdays_ahead INTEGER, festival_last_day INTEGER, festival_next_day INTEGER)"
    )
    if rows:
        con.executemany("INSERT INTO calendar VALUES (?, ?, ?, ?)", rows)


def _number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


@cache
def _is_listed(year: int) -> bool:
    try:
        chinese_calendar.is_workday(date(year, 1, 1))
    except NotImplementedError:
        return False
    return True


@cache
def _new_year(year: int) -> date:
    return min(day for day, name in _holidays(CHINA, year).items() if name.startswith("Chinese New Year (Spring"))


@cache
def _holidays(country: str, year: int) -> HolidayBase:
    import holidays

    try:
        return holidays.country_holidays(country, years=year, language="en_US")
    except NotImplementedError:
        raise SettingsError(
            f"[practice] country is {country!r}, whose holidays are not known; "
            "give the code of two letters by ISO 3166, such as CN, SG or DE."
        ) from None
