"""Visits alone (patient, day): real files against plain csv, and what the short form says about one day."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from features.errors import MappingError
from features.records.landing import import_files
from features.records.mapping import load_mapping

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
HEAD = 'name = "v"\ntime_zone = "Asia/Shanghai"\n[visits]\npatient_id = "p"\ndate = "d"\n'
SAME_DAY = "p,d,w,v\n1,2026-01-05,x,10\n1,2026-01-05 09:30,x,-2.5\n1,2026-01-05,top-up,100\n2,2026/1/5,x,\n"


def real(shared_data: Path, name: str) -> Path:
    path = shared_data / name
    if not path.is_file():
        pytest.skip(f"the real data set {path} is not here (REVISIT_SHARED names the folder that holds data/)")
    return path


def test_clinic_of_visits_equals_csv(practice_here, shared_data: Path, repository: Path) -> None:  # type: ignore[no-untyped-def]
    path = real(shared_data, "tcm_clinic_guangzhou/visits_with_dates.csv")
    with path.open(newline="") as stream:
        expected = Counter((row["ID"], row["date"]) for row in csv.DictReader(stream))
    mapping = load_mapping(repository / "docs/examples/visits_tcm_clinic.toml")
    report = import_files(practice_here.store, path, mapping, NOW)
    assert (report.rows, report.quarantined_rows) == (6853, 0)
    assert {table.table: table.stored for table in report.tables} == {"patients": 2469, "appointments": 6853}
    found = practice_here.rows(
        """SELECT patient_id, CAST(CAST(timezone('Asia/Shanghai', starts_at) AS DATE) AS VARCHAR), count(*)
        FROM appointments WHERE status = 'completed' AND starts_at = booked_at AND NOT is_start_time_known
        GROUP BY ALL"""
    )
    assert {(patient, day): count for patient, day, count in found} == expected
    assert not import_files(practice_here.store, path, mapping, NOW).has_changes


def test_fixed_width_purchases_equal_split_lines(practice_here, shared_data: Path, repository: Path) -> None:  # type: ignore[no-untyped-def]
    path = real(shared_data, "cdnow/CDNOW_master.txt")
    lines = [line.split() for line in path.read_text().splitlines()[1:]]
    report = import_files(practice_here.store, path, load_mapping(repository / "docs/examples/visits_cdnow.toml"), NOW)
    assert (report.rows, report.quarantined_rows) == (len(lines), 0) == (69659, 0)
    assert {table.table: table.stored for table in report.tables} == {
        "patients": 23570,
        "appointments": 69659,
        "payments": 69659,
    }
    expected = Counter((words[0], words[1], int(Decimal(words[3]) * 100)) for words in lines)
    found = practice_here.rows(
        """SELECT p.patient_id, strftime(timezone('America/New_York', starts_at), '%Y%m%d'), amount_cents, count(*)
        FROM payments p JOIN (SELECT DISTINCT appointment_id, starts_at FROM appointments) USING (appointment_id)
        GROUP BY ALL"""
    )
    assert {tuple(row[:3]): row[3] for row in found} == expected


def test_purchases_read_between_spaces_are_the_same(  # type: ignore[no-untyped-def]
    practice_at, tmp_path: Path, shared_data: Path, repository: Path
) -> None:  # type: ignore[no-untyped-def]
    lines = real(shared_data, "cdnow/CDNOW_master.txt").read_text().splitlines(keepends=True)[:3000]
    fixed = (repository / "docs/examples/visits_cdnow.toml").read_text()
    spaced = "\n".join(line for line in fixed.splitlines() if not line.startswith(("fixed", "skip_lines")))
    for ours, theirs in (('format = "fixed"', 'format = "spaces"'), ('"customer"', '"customer_id"')):
        spaced = spaced.replace(ours, theirs)
    spaced = spaced.replace('"dollars"', '"dollar_value"')
    stored = []
    for folder, mapping in (("a", fixed), ("b", spaced)):
        practice = practice_at(tmp_path / folder)
        practice.load(mapping, "".join(lines), name="purchases.txt")
        stored.append([practice.rows(f"SELECT * FROM {name} ORDER BY ALL") for name in ("appointments", "payments")])
    assert stored[0] == stored[1]
    assert len(stored[0][1]) == 2999


@pytest.mark.parametrize(("same_day", "visits"), [("", 4), ('same_day = "one"\n', 2)])
def test_rows_of_one_day_are_visits_each_or_one(same_day: str, visits: int, practice_here) -> None:  # type: ignore[no-untyped-def]
    practice_here.load(HEAD + same_day, SAME_DAY)
    assert practice_here.rows("SELECT count(DISTINCT appointment_id) FROM appointments") == [(visits,)]
    assert not practice_here.load(HEAD + same_day, SAME_DAY).has_changes


def test_rows_that_are_no_visits_are_payments(practice_here) -> None:  # type: ignore[no-untyped-def]
    mapping = HEAD + 'amount = "v"\nwhere = "w <> \'top-up\'"\nsame_day = "one"\n'
    assert practice_here.load(mapping, SAME_DAY).quarantined_rows == 0
    day = "1|2026-01-05|1"
    assert practice_here.rows("SELECT kind, amount_cents, appointment_id FROM payments ORDER BY payment_id") == [
        ("payment", 1000, day),
        ("refund", -250, day),
        ("payment", 10000, None),
    ]
    assert practice_here.rows("SELECT DISTINCT appointment_id FROM appointments ORDER BY 1") == [
        (day,),
        ("2|2026-01-05|1",),
    ]


def test_visit_is_known_completed_at_the_end_of_its_day(practice_here) -> None:  # type: ignore[no-untyped-def]
    practice_here.load(HEAD, "p,d\n1,2026-01-05\n")
    assert practice_here.rows("SELECT status, CAST(known_at AS VARCHAR) FROM appointments ORDER BY known_at") == [
        ("booked", "2026-01-04 16:00:00+00"),
        ("completed", "2026-01-05 16:00:00+00"),
    ]


def test_growing_file_adds_what_is_new(practice_here) -> None:  # type: ignore[no-untyped-def]
    practice_here.load(HEAD, "p,d\n1,2026-01-05\n")
    report = practice_here.load(HEAD, "p,d\n1,2026-01-05\n1,2026-01-05\n2,2026-01-06\n")
    assert {t.table: (t.stored, t.changed) for t in report.tables} == {"patients": (1, 0), "appointments": (2, 0)}


def test_fixed_width_rows_that_are_too_short_are_set_aside(practice_here) -> None:  # type: ignore[no-untyped-def]
    mapping = HEAD.replace("[visits]", 'format = "fixed"\nfixed = { p = [1, 2], d = [4, 13] }\n[visits]')
    report = practice_here.load(mapping, "王1 2026-01-05\n\n2\n13 2026-01-06\n", name="v.txt")
    assert (report.rows, report.quarantined_rows) == (3, 1)
    assert practice_here.rows("SELECT row_number, reason FROM quarantine") == [
        (2, "the row is too short (4 characters or more expected)")
    ]
    assert practice_here.rows("SELECT DISTINCT patient_id FROM patients ORDER BY 1") == [("13",), ("王1",)]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (HEAD.replace('date = "d"\n', ""), "date"),
        (HEAD + "shoe_size = 4\n", "shoe_size"),
        (HEAD + 'status = "w"\n', "status"),
        (HEAD + 'same_day = "two"\n', "same_day"),
        (HEAD + 'amount = "v"\nunit = "yuan"\n', "unit"),
        (HEAD + 'where = "w ="\n', "where"),
        (HEAD + '[tables.appointments.columns]\nstatus = "x"\n', "drop"),
        (HEAD.replace("[visits]", 'format = "fixed"\n[visits]'), "[fixed]"),
        (HEAD.replace("[visits]", 'format = "fixed"\nfixed = { p = [3, 1] }\n[visits]'), "fixed.p"),
        ('time_zone = "Asia/Shanghai"\nvisits = 3\n', "section"),
        (HEAD.replace('"d"', '"d"\nfee_cents = { column = "v", unit = "euro" }'), "major"),
        (HEAD + 'clinician_id = { day = "d" }\n', "day is for"),
    ],
)
def test_wrong_short_form_is_refused(wrong: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(wrong, encoding="utf-8")
    with pytest.raises(MappingError, match="(?i)" + expected.replace("[", r"\[")):
        load_mapping(tmp_path / "m.toml")
