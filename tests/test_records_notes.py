"""What the report of an import says was assumed, and lists that are stored without blanks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.records.tables import TABLES

MAPPING = """
time_zone = "Asia/Shanghai"
[tables.patients.columns]
patient_id = "id"
known_from_at = "since"
tags = "tags"
"""
HEADER = "id,since,tags\n"


@pytest.mark.parametrize(
    ("encoding", "setting", "is_guessed"),
    [
        ("utf-8", "", False),
        ("utf-16", "", False),
        ("gb18030", "", True),
        ("cp1252", "", True),
        ("gb18030", 'encoding = "gb18030"', False),
        ("cp1252", 'encoding = "cp1252"', False),
    ],
)
def test_guessed_encoding_is_named(encoding: str, setting: str, is_guessed: bool, practice_here: Any) -> None:
    tag = "Müßig" if encoding == "cp1252" else "老客户"  # as GB18030: M黶ig
    report = practice_here.load(setting + MAPPING, (HEADER + f"1,2026-01-01,{tag}\n").encode(encoding))
    notes = [note for note in report.notes if "GB18030" in note]
    assert len(notes) == is_guessed
    assert all("export.csv" in note and "encoding = " in note for note in notes)
    is_right = not is_guessed or encoding == "gb18030"
    assert (practice_here.rows("SELECT tags FROM patients") == [(tag,)]) == is_right


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (" vip ; nervous;", "vip;nervous"),
        ("会员； 怕疼 ；;", "会员;怕疼"),
        (" ; ", None),
        ("", None),
        ("vip", "vip"),
    ],
)
def test_tags_are_stored_without_blanks(given: str, stored: str | None, practice_here: Any) -> None:
    practice_here.load(MAPPING, HEADER + f'1,2026-01-01,"{given}"\n')
    assert practice_here.rows("SELECT tags FROM patients") == [(stored,)]


def test_zone_other_than_the_practices_is_noted(revisit: Callable[..., Any], tmp_path: Path) -> None:
    for zone, is_noted in (("Asia/Shanghai", False), ("Europe/Berlin", True)):
        (tmp_path / "m.toml").write_text(MAPPING.replace("Asia/Shanghai", zone))
        (tmp_path / "e.csv").write_text(HEADER + "1,2026-01-01,\n")
        said = revisit("import", tmp_path / "e.csv", "-m", tmp_path / "m.toml")
        assert said.exit_code == 0
        assert ("reads times as of Europe/Berlin, but" in " ".join(said.stdout.split())) == is_noted


def test_visits_alone_name_what_every_other_table_would_unlock(practice_here: Any) -> None:
    visits = 'time_zone = "UTC"\n[visits]\npatient_id = "id"\ndate = "since"\n'
    report = practice_here.load(visits, HEADER + "1,2026-01-01,\n")
    assert {table.table for table in report.tables} == {"patients", "appointments"}
    assert report.locked == {n: t.unlocks for n, t in TABLES.items() if n not in ("patients", "appointments")}
    assert all(report.locked.values()), "each says what it would unlock"
