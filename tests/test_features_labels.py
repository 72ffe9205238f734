"""What counts as missed, from when on it is known, and when a booking is decided upon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from features import schedule
from features.as_of import attach_states
from features.duck import connect
from features.labels import attach_no_show
from features.settings import NoShow, Practice, Settings

LOCAL = ZoneInfo("Asia/Shanghai")
BOOKED = datetime(2026, 3, 2, 9, tzinfo=LOCAL)
STARTS = datetime(2026, 3, 10, 14, tzinfo=LOCAL)
EVENING = datetime(2026, 3, 9, 21, tzinfo=LOCAL)
LATER = datetime(2026, 4, 1, tzinfo=LOCAL)
MOMENT = timedelta(microseconds=1)
SETTINGS = Settings(practice=Practice(time_zone="Asia/Shanghai"), no_show=NoShow(evening_hour=21))


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as opened:
        yield opened


def state(status: str, known_at: datetime, **changes: Any) -> dict[str, Any]:
    row = {"appointment_id": "a", "patient_id": "p", "clinic_id": "c", "booked_at": BOOKED, "starts_at": STARTS}
    return {**row, "status": status, "known_at": known_at, **changes}


def labels(con: duckdb.DuckDBPyConnection, until: datetime) -> list[tuple[Any, ...]]:
    attach_states(con, "appointments")
    attach_no_show(con, until)
    return con.execute("SELECT label, label_known_at FROM no_show_label").fetchall()


def moments(con: duckdb.DuckDBPyConnection, settings: Settings = SETTINGS) -> list[tuple[str, datetime]]:
    schedule.build_spine(con, settings)
    found = con.execute("SELECT moment, as_of FROM spine ORDER BY as_of").fetchall()
    return [(moment, as_of.astimezone(UTC)) for moment, as_of in found]


@pytest.mark.parametrize(
    ("status", "label"),
    [
        ("completed", 0),
        ("arrived", 0),
        ("no_show", 1),
        ("cancelled_late", 1),
        ("cancelled_early", None),
        ("rescheduled", None),
        ("booked", None),
    ],
)
def test_label_of_every_status(
    con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None], status: str, label: int | None
) -> None:
    over = STARTS + timedelta(hours=1)
    fill_tables(con, {"appointments": [state("booked", BOOKED), state(status, over)]})
    assert labels(con, LATER) == ([] if label is None else [(label, over)])


def test_outcome_is_unknown_until_it_was_recorded(
    con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None]
) -> None:
    over = STARTS + timedelta(hours=1)
    fill_tables(con, {"appointments": [state("booked", BOOKED), state("no_show", over)]})
    assert labels(con, over - MOMENT) == []
    assert labels(con, over) == []
    assert labels(con, over + MOMENT) == [(1, over)]


def test_label_is_the_newest_outcome_known(con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None]) -> None:
    first, second = STARTS + timedelta(hours=1), STARTS + timedelta(days=1)
    fill_tables(con, {"appointments": [state("booked", BOOKED), state("no_show", first), state("completed", second)]})
    assert labels(con, second) == [(1, first)]
    assert labels(con, LATER) == [(0, second)]


def test_booking_has_two_moments(con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None]) -> None:
    fill_tables(con, {"appointments": [state("booked", BOOKED), state("completed", STARTS)]})
    assert moments(con) == [("booking", BOOKED + timedelta(minutes=1)), ("evening", EVENING)]
    earlier = Settings(practice=SETTINGS.practice, no_show=NoShow(evening_hour=18))
    assert moments(con, earlier)[1] == ("evening", EVENING - timedelta(hours=3))


@pytest.mark.parametrize(
    ("states", "has_evening"),
    [
        ([state("booked", BOOKED), state("cancelled_early", EVENING - MOMENT)], False),
        ([state("booked", BOOKED), state("cancelled_late", EVENING)], True),
        ([state("booked", EVENING - MOMENT)], True),
        ([state("booked", EVENING)], False),
        ([state("booked", EVENING + MOMENT)], False),
        ([state("completed", STARTS)], False),
        ([state("booked", BOOKED), state("booked", EVENING - MOMENT, starts_at=STARTS + timedelta(days=9))], True),
    ],
    ids=["cancelled before", "cancelled after", "made before", "made at", "made after", "walk-in", "moved"],
)
def test_evening_sees_what_stands_then(
    con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None], states: list[dict[str, Any]], has_evening: bool
) -> None:
    fill_tables(con, {"appointments": states})
    evenings = [as_of for moment, as_of in moments(con) if moment == "evening"]
    moved = any(row["starts_at"] != STARTS for row in states)
    assert evenings == ([EVENING + timedelta(days=9 if moved else 0)] if has_evening else [])


def test_evening_follows_the_clock_over_a_change_of_hours(
    con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None]
) -> None:
    berlin = ZoneInfo("Europe/Berlin")  # clocks go forward in the night to 2026-03-29
    starts = datetime(2026, 3, 29, 10, tzinfo=berlin)
    fill_tables(con, {"appointments": [state("booked", BOOKED, starts_at=starts)]})
    settings = Settings(practice=Practice(time_zone="Europe/Berlin"))
    assert moments(con, settings)[1] == ("evening", datetime(2026, 3, 28, 21, tzinfo=berlin).astimezone(UTC))


def test_walk_in_has_no_booking_moment(con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None]) -> None:
    fill_tables(con, {"appointments": [state("completed", BOOKED, starts_at=BOOKED)]})
    assert moments(con) == []
