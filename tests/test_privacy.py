"""Names and phones planted in contact details turn up where they belong, and nowhere else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from serving.console import print_status
from serving.scoring import score
from serving.status import status

MARKER = "Zqmarker"


@pytest.fixture(scope="module")
def practice(trained_practice: Any) -> Any:
    """The trained practice, scored and looked at, with everything heard that was printed or logged."""
    now = trained_practice.simulated.plan.now
    with trained_practice.listening():
        score(trained_practice.settings, now)
        print_status(status(trained_practice.settings, now))
    return trained_practice


def holding(files: Iterable[Path]) -> list[Path]:
    """The files that hold the marker, Parquet files looked into."""
    found = []
    for path in files:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            text = frame.select_dtypes(exclude="number").astype(str)
            is_there = any(text[column].str.contains(MARKER).any() for column in text)
        else:
            is_there = MARKER.encode() in path.read_bytes()
        if is_there:
            found.append(path)
    return found


def test_names_are_in_two_places_alone(practice: Any) -> None:
    root, data = practice.folder.root, practice.settings.paths.data
    files = [path for path in root.rglob("*") if path.is_file() and root / "export" not in path.parents]
    assert {path.suffix for path in files} >= {".parquet", ".db", ".png", ".json"}
    found = holding(files)
    contacts = [path for path in found if data / "records" / "contact_details" in path.parents]
    application = [path for path in found if path.name.startswith("revisit.db")]
    assert contacts
    assert application
    assert sorted(found) == sorted(contacts + application)


def test_the_application_keeps_names_with_bookings_alone(practice: Any) -> None:
    with sqlite3.connect(practice.settings.paths.data / "revisit.db") as con:
        tables = [row[0] for row in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        holds = {table: any(MARKER in str(row) for row in con.execute(f'SELECT * FROM "{table}"')) for table in tables}
        phones = any("+86-000-" in str(row) for row in con.execute("SELECT * FROM bookings"))
    con.close()
    assert [table for table, is_there in holds.items() if is_there] == ["bookings"]
    assert not phones


def test_nothing_printed_or_logged_names_anybody(practice: Any) -> None:
    said = practice.said.getvalue()
    assert "rows read" in said  # it did listen
    assert "champion" in said
    assert "Revisit" in said
    assert MARKER not in said
    assert "+86-000-" not in said
