"""Quality: what is missing, impossible, doubled, suddenly different; what is in quarantine."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from features.errors import NotBuiltError
from features.records.level_shifts import Month, level_shifts
from features.records.quality import assess
from features.records.quarantine import quarantine_counts, quarantine_rows

MAPPING = """
name = "desk"
time_zone = "UTC"
datetime_formats = ["%Y-%m-%d %H:%M"]
[tables.patients.columns]
patient_id = "patient"
birth_year = "born"
sex = { column = "sex", values = { F = "female", M = "male" } }
household_id = "house"
known_from_at = "booked"
[tables.contact_details.columns]
patient_id = "patient"
full_name = "name"
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = { value = "c" }
booked_at = "booked"
starts_at = "starts"
status = "status"
status_known_at = "since"
duration_minutes = "minutes"
"""
HEADER = "id,patient,born,sex,house,name,booked,starts,status,since,minutes\n"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def line(number: int, patient: str, *, who: str = ",,", starts: str = "2026-02-01 10:00", status: str = "completed",
         since: str = "", minutes: str = "30", booked: str = "2026-01-01 10:00") -> str:  # fmt: skip
    return f"{number},{patient},{who},Li Lei,{booked},{starts},{status},{since},{minutes}\n"


LINES = (
    line(1, "p1", who="1980,F,h1", since="2026-02-01 12:00")
    + line(2, "p2", who="1980,F,h1", since="2026-01-20 12:00", status="no_show")
    + line(3, "p3", who="1980,M,h1", starts="2026-03-01 10:00")
    + line(4, "p3", who="1980,M,h1", starts="2026-03-01 10:00", minutes="")
    + line(5, "p3", who="1980,M,h1", starts="2026-03-01 10:00", status="cancelled_early")
    + line(6, "p4", who="2030,M,", status="booked")
)


def test_assessment_finds_what_was_put_in(practice_here: Any) -> None:
    practice_here.load(MAPPING, HEADER + LINES, at=NOW)
    report = assess(practice_here.store, "UTC", NOW + timedelta(days=1))
    shares = {(c.table, c.column): (c.rows, c.missing) for c in report.columns}
    assert shares["appointments", "duration_minutes"] == (6, 1)
    assert shares["patients", "household_id"] == (4, 1)
    assert shares["clinics", "clinic_id"] == (1, 0)
    assert {one.reason: one.rows for one in report.impossible} == {
        "a visit's outcome was known before the visit began": 1,
        "the booking is older than the patient": 1,
    }
    bookings, patients = report.duplicates
    assert (bookings.groups, bookings.things, bookings.examples) == (1, 2, (("3", "4"),))
    assert (patients.groups, patients.examples) == (1, (("p1", "p2"),))
    assert {(s.status, s.rows, s.missing) for s in report.status_times} == {
        ("completed", 3, 2), ("no_show", 1, 0), ("cancelled_early", 1, 1),
    }  # fmt: skip
    assert report.overdue == 1
    months = [(m.month.month, m.bookings, m.missed, m.ended) for m in report.months]
    assert months == [(2, 3, 1, 2), (3, 3, 0, 2), (4, 0, 0, 0), (5, 0, 0, 0)]


def test_nothing_imported_is_said(practice_here: Any) -> None:
    with pytest.raises(NotBuiltError, match="no records yet"):
        assess(practice_here.store, "UTC", NOW)


# Level shifts


def series(counts: list[int], missed: list[int] | None = None) -> list[Month]:
    months = [date(2020 + index // 12, index % 12 + 1, 1) for index in range(len(counts))]
    return [
        Month("c", month, count, lost, count)
        for month, count, lost in zip(months, counts, missed or [0] * len(counts), strict=True)
    ]


def test_lasting_shift_is_named_once_where_it_begins() -> None:
    steady = [200 + step % 7 for step in range(18)]
    (found,) = level_shifts(series([*steady, *(count // 2 for count in steady)]))
    assert (found.month, found.measure, found.usual) == (date(2021, 7, 1), "bookings", pytest.approx(203, abs=2))
    assert found.z < -4


def test_month_without_bookings_is_a_shift_and_the_return_is_none() -> None:
    found = list(level_shifts(series([150] * 12 + [0] + [150] * 6)))
    assert [(one.month, one.z < 0) for one in found] == [(date(2021, 1, 1), True)]


def test_jump_of_the_no_show_share() -> None:
    found = list(level_shifts(series([300] * 20, [30 + step % 5 for step in range(14)] + [110] * 6)))
    assert [(one.measure, one.month) for one in found] == [("no_show_share", date(2021, 3, 1))]


def test_chance_alone_is_rarely_an_alarm() -> None:
    draw = random.Random(7)
    alarms = 0
    for _ in range(200):
        counts = [sum(draw.random() < 0.4 for _ in range(100)) for _ in range(36)]
        alarms += len(list(level_shifts(series(counts, [sum(draw.random() < 0.1 for _ in range(n)) for n in counts]))))
    assert alarms <= 4  # of 12,000 months


# The page


class Page(HTMLParser):
    """Collects tags and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_page_needs_nothing_else_and_shows_no_name(revisit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text(MAPPING)
    steady = "".join(
        line(1000 + n, f"q{n}", starts=f"202{4 + m // 12}-{m % 12 + 1:02}-15 10:00", booked="2024-01-01 10:00")
        for m in range(20)
        for n in range(40 * m, 40 * m + (40 if m < 15 else 5))
    )
    (tmp_path / "desk.csv").write_text(HEADER + LINES + steady + line(9, "<b>x</b>", who="1990,?,"), encoding="utf-8")
    assert revisit("import", tmp_path / "desk.csv", "-m", tmp_path / "mapping.toml").exit_code == 0
    done = revisit("quality", "--html", tmp_path / "quality.html")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "quality.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    tags = [tag for tag, _ in page.tags]
    assert {"script", "link", "img", "iframe"}.isdisjoint(tags)
    assert not any({"src", "href"} & set(given) for _, given in page.tags)
    assert "http" not in text
    assert "url(" not in text
    assert tags.count("polyline") >= 2
    assert "circle" in tags
    for heading in ("Sudden changes of level · 水平突变", "Quarantine · 隔离区", "Duplicates · 疑似重复"):
        assert heading in text
    assert "Li Lei" not in text


# Quarantine

BROKEN = (
    line(1, "p1", since="never", who="x,F,")
    + line(2, "p2", starts="31/02/2026", minutes="-5")
    + line(3, "", status="7")
    + line(4, "p4", status="2026-01-01")
)


def test_quarantine_tells_the_kind_of_value_not_the_value(practice_here: Any) -> None:
    practice_here.load(MAPPING, HEADER + BROKEN, at=NOW)
    kinds = {(f.row, f.column): f.value_class for f in quarantine_rows(practice_here.store)}
    assert kinds == {
        (1, "birth_year"): "text",
        (1, "status_known_at"): "text",
        (2, "starts_at"): "date",
        (2, "duration_minutes"): "number",
        (3, "patient_id"): "blank",
        (3, "status"): "number",
        (4, "status"): "date",
    }


def test_quarantine_is_kept_per_mapping_and_file(practice_here: Any) -> None:
    other = MAPPING.replace('name = "desk"', 'name = "other"')
    for mapping in (MAPPING, other):
        practice_here.load(mapping, HEADER + BROKEN, at=NOW)
    counts = quarantine_counts(practice_here.store)
    assert {(c.mapping, c.source) for c in counts} == {("desk", "export.csv"), ("other", "export.csv")}
    (status,) = [c for c in counts if c.column == "status" and c.mapping == "desk"]
    assert (status.table, status.rows) == ("appointments", 2)
    practice_here.load(MAPPING, HEADER + LINES, at=NOW)
    assert {c.mapping for c in quarantine_counts(practice_here.store)} == {"other"}


def test_quarantine_commands(revisit: Callable[..., Any], tmp_path: Path) -> None:
    assert "no row is in quarantine" in revisit("quarantine").stdout
    (tmp_path / "mapping.toml").write_text(MAPPING)
    (tmp_path / "desk.csv").write_text(HEADER + BROKEN)
    revisit("import", tmp_path / "desk.csv", "-m", tmp_path / "mapping.toml")
    assert "the value cannot be read as a date and time" in revisit("quarantine").stdout
    by_row = revisit("quarantine", "--rows").stdout
    assert "desk.csv, row 3, appointments.patient_id (blank): a required value is missing" in by_row
    revisit("quarantine", "--csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["source"] for row in rows} == {"desk.csv"}
    assert list(rows[0]) == ["mapping", "source", "row", "table", "column", "value_class", "reason"]
    assert "Li Lei" not in (tmp_path / "out.csv").read_text(encoding="utf-8-sig") + by_row
