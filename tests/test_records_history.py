"""History: states listed and brought back, versions cleaned away, crashes in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from features.errors import StoreError
from features.records.history import clean, restore

MAPPING = """
time_zone = "UTC"
datetime_formats = ["%Y-%m-%d %H:%M"]
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = { value = "c" }
booked_at = "booked"
starts_at = "starts"
status = "status"
"""
HEADER = "id,patient,booked,starts,status\n"
START = datetime(2026, 2, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def line(number: int, status: str = "booked") -> str:
    return f"{number},p{number},2026-01-01 10:00,2026-03-01 10:00,{status}\n"


def three_imports(practice: Any) -> list[list[tuple[object, ...]]]:
    """Import on three days; return what was known after each."""
    seen = []
    for days, lines in enumerate((line(1), line(1, "cancelled_early") + line(2), line(2) + line(3) + "4,p4\n")):
        practice.load(MAPPING, HEADER + lines, at=START + days * DAY)
        seen.append(known(practice))
    return seen


def known(practice: Any, versions: Any = None) -> list[tuple[object, ...]]:
    return [
        *practice.rows("SELECT appointment_id, status, known_at FROM appointments ORDER BY ALL", versions),
        *practice.rows("SELECT patient_id, known_at FROM patients ORDER BY ALL", versions),
        *practice.rows("SELECT source, row_number, reason FROM quarantine ORDER BY ALL", versions),
    ]


def parquet_files(practice: Any) -> set[Path]:
    return set(practice.store.root.rglob("*.parquet"))


def test_history_says_what_each_import_brought(practice_here: Any) -> None:
    three_imports(practice_here)
    entries = practice_here.store.entries()
    assert [entry.number for entry in entries] == [1, 2, 3]
    assert [entry.made.at for entry in entries] == [START + days * DAY for days in range(3)]
    assert [entry.made.counts["appointments"] for entry in entries] == [(1, 0), (1, 1), (1, 0)]
    assert {entry.made.sources for entry in entries} == {("export.csv",)}
    assert entries[-1].versions == practice_here.store.versions()


def test_import_that_says_nothing_new_leaves_no_entry(practice_here: Any) -> None:
    three_imports(practice_here)
    before = (practice_here.store.root / "manifest.json").read_bytes()
    practice_here.load(MAPPING, HEADER + line(2) + line(3) + "4,p4\n", at=START + 9 * DAY)
    assert (practice_here.store.root / "manifest.json").read_bytes() == before


def test_every_state_can_be_restored_and_left_again(practice_here: Any) -> None:
    seen = three_imports(practice_here)
    for count, number in enumerate((1, 3, 2), start=4):
        assert restore(practice_here.store, number, START + count * DAY).number == count
        assert known(practice_here) == seen[number - 1]
    for entry, state in zip(practice_here.store.entries(), [*seen, seen[0], seen[2], seen[1]], strict=True):
        assert known(practice_here, entry.versions) == state


def test_import_after_restore_starts_from_what_was_restored(
    practice_here: Any, practice_at: Any, tmp_path: Path
) -> None:
    seen = three_imports(practice_here)
    restore(practice_here.store, 1, START + 4 * DAY)
    practice_here.load(MAPPING, HEADER + line(5), at=START + 5 * DAY)
    other = practice_at(tmp_path / "other")
    other.load(MAPPING, HEADER + line(1), at=START)
    other.load(MAPPING, HEADER + line(5), at=START + 5 * DAY)
    assert known(practice_here) == known(other)
    assert known(practice_here, practice_here.store.entries()[2].versions) == seen[2]


def test_restoring_before_a_table_existed_empties_it(practice_here: Any) -> None:
    practice_here.load(MAPPING, HEADER + line(1), at=START)
    practice_here.load(MAPPING, HEADER + line(1) + "4,p4\n", at=START + DAY)
    restore(practice_here.store, 1, START + 2 * DAY)
    assert practice_here.rows("SELECT count(*) FROM quarantine") == [(0,)]
    practice_here.load(MAPPING, HEADER + line(1) + line(2) + "5\n", at=START + 3 * DAY)
    assert practice_here.rows("SELECT row_number FROM quarantine") == [(3,)]


def test_restoring_the_present_or_the_unknown(practice_here: Any) -> None:
    with pytest.raises(StoreError, match="nothing has been imported"):
        restore(practice_here.store, 1, START)
    three_imports(practice_here)
    assert restore(practice_here.store, 3, START + 4 * DAY).number == 3
    with pytest.raises(StoreError, match=r"no state 7 to restore; there are 1, 2, 3"):
        restore(practice_here.store, 7, START)


# Cleaning


def test_cleaning_keeps_the_present_and_the_recent(practice_here: Any) -> None:
    seen = three_imports(practice_here)
    done = clean(practice_here.store, timedelta(days=1.5), START + 3 * DAY)
    assert (done.entries, known(practice_here)) == (2, seen[2])
    kept = {entry.number: entry for entry in practice_here.store.entries()}
    assert set(kept) == {3, 4}
    assert known(practice_here, kept[3].versions) == seen[2]
    with pytest.raises(StoreError, match="no state 1"):
        restore(practice_here.store, 1, START + 4 * DAY)
    again = clean(practice_here.store, timedelta(days=1.5), START + 3 * DAY)
    assert (again.entries, again.compacted, again.removed) == (0, 0, 0)


def test_cleaning_with_nothing_kept_leaves_one_file_a_table(practice_here: Any) -> None:
    three_imports(practice_here)
    before = parquet_files(practice_here)
    first = practice_here.store.versions()
    for days in range(4, 7):
        practice_here.load(MAPPING, HEADER + line(days), at=START + days * DAY)
    present = known(practice_here)
    done = clean(practice_here.store, timedelta(0), START + 9 * DAY)
    assert done.removed > 0
    assert known(practice_here) == present
    assert sorted(path.parent.name for path in parquet_files(practice_here)) == ["appointments", "derived"]
    assert not before & parquet_files(practice_here)
    with pytest.raises(StoreError, match="cannot be opened"):
        known(practice_here, first)
    practice_here.load(MAPPING, HEADER + line(9), at=START + 10 * DAY)
    assert [entry.number for entry in practice_here.store.entries()] == [7, 8]


def test_cleaning_removes_what_a_crash_left(practice_here: Any) -> None:
    seen = three_imports(practice_here)
    stray = practice_here.store.root / "appointments" / "part-00000-left-by-a-crash.parquet"
    stray.write_bytes(b"half")
    clean(practice_here.store, 99 * DAY, START + 3 * DAY)
    assert not stray.exists()
    assert known(practice_here) == seen[2]
    assert [known(practice_here, e.versions) for e in practice_here.store.entries()][:3] == seen


# The command line


def test_commands(revisit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text(MAPPING)
    for number, text in enumerate((line(1), line(1, "arrived") + line(2))):
        (tmp_path / f"export{number}.csv").write_text(HEADER + text)
        assert revisit("import", tmp_path / f"export{number}.csv", "-m", tmp_path / "mapping.toml").exit_code == 0
    listed = revisit("history").stdout
    assert "export0.csv" in listed
    assert "appointments +1 ~1" in listed
    assert "this is state 3" in revisit("restore", 1).stdout
    wrong = revisit("restore", 8)
    assert (wrong.exit_code, "there are 1, 2, 3" in wrong.stderr) == (2, True)
    cleaned = revisit("history", "--clean", "--keep-days", 0).stdout
    assert "struck from the history" in cleaned
    assert "export1.csv" not in cleaned
