"""Things known only by being referred to; what is missing; what it would unlock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

from features.records.tables import TABLES

TIMES = 'time_zone = "UTC"\ndatetime_formats = ["%Y-%m-%d %H:%M"]\n'
BOOKINGS = """
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = "clinic"
clinician_id = "doctor"
booked_at = "booked"
starts_at = { sql = "'2026-03-01 10:00:00'" }
status = { value = "booked" }
"""
PATIENTS = """
[tables.patients.columns]
patient_id = "patient"
home_clinic_id = "clinic"
known_from_at = "since"
"""
MESSAGES = """
[tables.communications.columns]
communication_id = "id"
patient_id = "patient"
appointment_id = "booking"
direction = { value = "out" }
channel = { value = "sms" }
purpose = { value = "reminder" }
sent_at = "sent"
"""
FILES = {
    "bookings": (
        BOOKINGS,
        (
            "id,patient,clinic,doctor,booked\n"
            "1,p1,c1,d1,2026-01-02 10:00\n2,p2,c1,,2026-01-01 10:00\n3,p2,c2,d1,2026-01-05 10:00\n"
        ),
    ),
    "patients": (PATIENTS, "patient,clinic,since\np1,c9,2026-01-03 10:00\n"),
    "messages": (MESSAGES, "id,patient,booking,sent\n1,p3,1,2026-01-04 10:00\n2,p2,77,2025-12-31 10:00\n"),
}
NOW = datetime(2026, 2, 1, tzinfo=UTC)


def at(day: str) -> datetime:
    return datetime.fromisoformat(f"{day} 10:00").replace(tzinfo=UTC)


def things(practice: Any) -> dict[str, list[tuple[object, ...]]]:
    return {
        name: practice.rows(f"SELECT {TABLES[name].key}, known_at FROM {name} ORDER BY ALL")
        for name in ("clinics", "clinicians", "patients")
    }


def test_any_order_of_tables_derives_the_same(practice_at: Any, tmp_path: Any) -> None:
    for number, order in enumerate(permutations(FILES)):
        practice = practice_at(tmp_path / str(number))
        for days, name in enumerate(order):
            practice.load(TIMES + FILES[name][0], FILES[name][1], at=NOW + timedelta(days=days), name=f"{name}.csv")
        assert things(practice) == {
            "clinics": [("c1", at("2026-01-01")), ("c2", at("2026-01-05")), ("c9", at("2026-01-03"))],
            "clinicians": [("d1", at("2026-01-02"))],
            "patients": [("p1", at("2026-01-03")), ("p2", at("2025-12-31")), ("p3", at("2026-01-04"))],
        }
        versions = practice.store.versions()
        practice.load(
            TIMES + FILES["bookings"][0], FILES["bookings"][1], at=NOW + timedelta(days=9), name="bookings.csv"
        )
        assert practice.store.versions() == versions


def test_report_counts_what_is_missing(practice_here: Any) -> None:
    practice_here.load(TIMES + BOOKINGS, FILES["bookings"][1], at=NOW)
    report = practice_here.load(TIMES + MESSAGES, FILES["messages"][1], at=NOW)
    assert [(m.table, m.column, m.refers_to, m.things, m.rows, m.is_derived) for m in report.missing] == [
        ("communications", "patient_id", "patients", 2, 2, True),
        ("communications", "appointment_id", "appointments", 1, 1, False),
    ]
    assert report.quarantined_rows == 0
    assert report.locked == {
        name: table.unlocks for name, table in TABLES.items() if name not in ("appointments", "communications")
    }


def test_orphans_are_stored(practice_here: Any) -> None:
    practice_here.load(TIMES + MESSAGES, FILES["messages"][1], at=NOW)
    assert practice_here.rows("SELECT appointment_id FROM communications ORDER BY 1") == [("1",), ("77",)]


def test_what_a_table_brings_replaces_what_was_derived(practice_here: Any) -> None:
    practice_here.load(TIMES + BOOKINGS, FILES["bookings"][1], at=NOW)
    old = practice_here.store.versions()
    practice_here.load(TIMES + PATIENTS, FILES["patients"][1], at=NOW)
    rows = practice_here.rows("SELECT patient_id, home_clinic_id FROM patients ORDER BY 1")
    assert rows == [("p1", "c9"), ("p2", None)]
    assert practice_here.rows("SELECT count(*) FROM patients WHERE home_clinic_id IS NOT NULL", old) == [(0,)]
