"""Workdays and holidays as the State Council announced them, and what is assumed before it does."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from features.duck import connect
from features.errors import SettingsError
from features.opening_days import attach_calendar, calendar_day, calendar_days, edition, spring_festival
from features.settings import load_settings


@pytest.mark.parametrize(
    ("day", "is_workday", "holiday", "is_made_up"),
    [
        (date(2025, 1, 26), True, "", True),  # 国办发明电〔2024〕12号: 28 January to 4 February, 26 January made up
        (date(2025, 1, 28), False, "Spring Festival", False),
        (date(2025, 2, 4), False, "Spring Festival", False),
        (date(2025, 2, 5), True, "", False),
        (date(2025, 10, 6), False, "Mid-autumn Festival", False),
        (date(2026, 2, 28), True, "", True),  # 国办发明电〔2025〕7号: 15 to 23 February, 14 and 28 February made up
        (date(2026, 11, 21), False, "", False),
    ],
)
def test_china_works_as_announced(day: date, is_workday: bool, holiday: str, is_made_up: bool) -> None:
    found = calendar_day("CN", day)
    assert (found.is_workday, found.is_made_up, found.is_provisional) == (is_workday, is_made_up, False)
    assert found.holiday == holiday or day == date(2025, 10, 6)  # that day is of two holidays


def test_year_without_a_list_is_provisional() -> None:
    """By law four days, from New Year's Eve on, and no weekend is made up."""
    days = {found.day: found for found in calendar_days("CN", date(2032, 2, 1), date(2032, 2, 29))}
    assert len(days) == 29
    assert all(found.is_provisional and not found.is_made_up for found in days.values())
    assert spring_festival("CN", 2032) == date(2032, 2, 11)
    assert [days[date(2032, 2, n)].holiday for n in (10, 11, 12, 13)] == ["Spring Festival"] * 4
    assert days[date(2032, 2, 9)].is_workday


def test_other_countries_have_their_own() -> None:
    assert calendar_day("DE", date(2026, 10, 3)).holiday == "German Unity Day"
    assert not calendar_day("DE", date(2026, 10, 3)).is_provisional
    assert calendar_day("DE", date(2026, 10, 1)).is_workday
    assert (spring_festival("SG", 2026), spring_festival("DE", 2026)) == (date(2026, 2, 17), None)
    assert "chinesecalendar" in edition("CN")
    assert "chinesecalendar" not in edition("DE")


def test_unknown_country_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ISO 3166"):
        calendar_day("XX", date(2026, 1, 1))
    path = tmp_path / "practice.toml"
    path.write_text('[practice]\ncountry = "China"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"practice\.country"):
        load_settings(path, {})


def test_calendar_counts_what_lies_ahead() -> None:
    first, festival = date(1970, 1, 1), date(2026, 2, 17)
    days = {festival, festival - timedelta(days=1), date(2025, 7, 1)}
    with connect() as con:
        attach_calendar(con, "CN", days)
        rows = con.execute("SELECT * FROM calendar ORDER BY day").fetchall()
        number = (festival - first).days
        last = (date(2025, 1, 29) - first).days
        assert rows == [
            ((date(2025, 7, 1) - first).days, 22, last, number),
            (number - 1, 17, last, number),
            (number, 18, number, number),
        ]
        attach_calendar(con, "DE", {festival})
        assert con.execute("SELECT * FROM calendar").fetchall() == [(number, 22, None, None)]
