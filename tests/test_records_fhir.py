"""FHIR R4 in: official examples and a bulk export against an independent count, and resources full of traps."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from features.duck import connect
from features.errors import FileError, MappingError
from features.records.landing import ImportReport, import_files
from features.records.mapping import load_mapping

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
STORED = {
    "Patient": ("patients", "patient_id"),
    "Practitioner": ("clinicians", "clinician_id"),
    "Location": ("clinics", "clinic_id"),
    "Communication": ("communications", "communication_id"),
}
PATIENT = {"resourceType": "Patient", "id": "p1"}


@pytest.fixture(params=["hl7_r4_examples", "synthea_bulk"])
def published(request: pytest.FixtureRequest, shared_data: Path) -> Path:
    folder: Path = shared_data / "fhir" / request.param
    if not folder.is_dir():
        pytest.skip(f"the published FHIR data {folder} are not here (REVISIT_SHARED names the folder that holds data/)")
    return folder


def read(practice: Any, folder: Path, at: datetime = NOW, time_zone: str = "Asia/Shanghai") -> ImportReport:
    return import_files(practice.store, folder, load_mapping(Path("fhir"), time_zone), at)


def write(folder: Path, *resources: Any, name: str = "All.ndjson") -> Path:
    folder.mkdir(exist_ok=True)
    lines = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in resources]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def latest(practice: Any, table: str, key: str, columns: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = practice.rows(
        f"""SELECT {key}, {columns} FROM {table}
        QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY known_at DESC) = 1 ORDER BY 1"""
    )
    return rows


def at(moment: str) -> str:
    return f"strftime({moment}, '%Y-%m-%d %H:%M:%S')"


def booking(number: int, status: str = "booked", **fields: Any) -> dict[str, Any]:
    who = [{"actor": {"reference": "Patient/p1"}, "status": "accepted"}]
    start = {"start": "2026-03-02T09:00:00+08:00", "end": "2026-03-02T09:40:00+08:00", "created": "2026-02-01"}
    made = {"resourceType": "Appointment", "id": f"a{number}", "status": status, "participant": who} | start | fields
    return {name: value for name, value in made.items() if value is not None}


def test_fhir_published_resources_are_stored_or_quarantined_each(published: Path, practice_here: Any) -> None:
    """Whatever a plain count of the files says must be stored, quarantined by line, or named as left out."""
    report = read(practice_here, published)
    expected: Counter[str] = Counter()
    for path in published.glob("*.ndjson"):
        for line in path.read_text(encoding="utf-8").splitlines():
            expected[json.loads(line)["resourceType"]] += 1
    quarantined = Counter(
        source.split(".")[0] for source, _ in practice_here.rows("SELECT DISTINCT source, row_number FROM quarantine")
    )
    assert sum(quarantined.values()) == report.quarantined_rows
    stored = {table.table: table.stored for table in report.tables}  # without the patients and clinics derived
    for kind, (table, _) in STORED.items():
        assert stored[table] + quarantined[kind] == expected[kind], kind
    visits = dict(
        practice_here.rows(
            """SELECT CASE WHEN appointment_id LIKE 'Encounter/%' THEN 'Encounter' ELSE 'Appointment' END,
                      count(DISTINCT appointment_id) FROM appointments GROUP BY 1"""
        )
    )
    for kind in ("Appointment", "Encounter"):
        assert visits.get(kind, 0) + quarantined[kind] == expected[kind], kind
    used = {*STORED, "Appointment", "Encounter", "CarePlan", "Organization", "PractitionerRole"}
    for kind in set(expected) - used:
        assert f"{expected[kind]:,} resources of type {kind} are of no use here and were left out." in report.notes
    assert not read(practice_here, published).has_changes, "a second import changes nothing"


def test_fhir_published_care_plans_count_by_activity(shared_data: Path, practice_here: Any) -> None:
    folder = shared_data / "fhir" / "hl7_r4_examples"
    if not folder.is_dir():
        pytest.skip(f"the published FHIR data {folder} are not here")
    read(practice_here, folder)
    bad = {row for (row,) in practice_here.rows("SELECT row_number FROM quarantine WHERE source = 'CarePlan.ndjson'")}
    lines = (folder / "CarePlan.ndjson").read_text(encoding="utf-8").splitlines()
    wanted = {
        f"{plan['id']}-{index}"
        for number, plan in enumerate(map(json.loads, lines), start=1)
        if number not in bad
        for index, _ in enumerate(plan.get("activity", []), start=1)
    }
    assert {item for (item,) in practice_here.rows("SELECT DISTINCT plan_item_id FROM plan_items")} == wanted


def test_fhir_synthea_visits_find_their_people_and_places(shared_data: Path, practice_here: Any) -> None:
    """References by identifier (Practitioner?identifier=...) against a look-up written another way."""
    folder = shared_data / "fhir" / "synthea_bulk"
    if not folder.is_dir():
        pytest.skip(f"the published FHIR data {folder} are not here")
    read(practice_here, folder)
    by_identifier = {}
    for kind in ("Practitioner", "Location"):
        for line in (folder / f"{kind}.000.ndjson").read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            for identifier in one["identifier"]:
                by_identifier[f"{kind}?identifier={identifier['system']}|{identifier['value']}"] = one["id"]
    wanted = {}
    for line in (folder / "Encounter.000.ndjson").read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        if one["period"]["start"] >= "1970-01-02":
            wanted[f"Encounter/{one['id']}"] = (
                one["subject"]["reference"].removeprefix("Patient/"),
                by_identifier[one["location"][0]["location"]["reference"]],
                by_identifier[one["participant"][0]["individual"]["reference"]],
                int(datetime.fromisoformat(one["period"]["start"]).timestamp()),
            )
    rows = latest(
        practice_here, "appointments", "appointment_id", "patient_id, clinic_id, clinician_id, epoch(starts_at)::BIGINT"
    )
    stored = {row[0]: row[1:] for row in rows}
    assert {key: stored[key] for key in wanted} == wanted


def test_fhir_appointment_states(practice_here: Any, tmp_path: Path) -> None:
    def cancelled(number: int, updated: str | None, reason: str | None = None) -> dict[str, Any]:
        coded = {"coding": [{"code": reason}]} if reason else None
        return booking(number, "cancelled", meta=updated and {"lastUpdated": updated}, cancelationReason=coded)

    folder = write(
        tmp_path / "in",
        PATIENT,
        booking(1),
        booking(2, "noshow", meta={"lastUpdated": "2026-03-02T18:00:00+08:00"}),
        booking(3, "fulfilled"),
        cancelled(4, "2026-03-01T20:00:00+08:00"),
        cancelled(5, "2026-02-20T20:00:00+08:00"),
        cancelled(6, None),
        cancelled(7, "2026-03-01T20:00:00+08:00", "prov-pers"),
        cancelled(8, "2026-10-01T20:00:00+08:00"),
        booking(9, "entered-in-error"),
        booking(10, "checked-in"),
        booking(11, start=None, end=None),
        booking(12, "proposed", start="2026-03"),
        booking(13, "odd-status"),
        booking(14, participant=[{"actor": {"reference": "Group/g"}}]),
    )
    report = read(practice_here, folder)
    found = {row[0]: row[1] for row in latest(practice_here, "appointments", "appointment_id", "status")}
    assert found == {
        "a1": "booked",
        "a2": "no_show",
        "a3": "completed",
        "a4": "cancelled_late",
        "a5": "cancelled_early",
        "a6": "cancelled_early",
        "a7": "cancelled_early",
        "a8": "cancelled_early",
        "a10": "arrived",
    }
    assert "1 resources of type Appointment were entered in error and left out." in report.notes
    faults = practice_here.rows("SELECT source, row_number, column_name, reason FROM quarantine ORDER BY ALL")
    assert [fault[:3] for fault in faults] == [
        ("All.ndjson", 12, "starts_at"),
        ("All.ndjson", 13, "starts_at"),
        ("All.ndjson", 14, "status"),
        ("All.ndjson", 15, "patient_id"),
    ]
    known = practice_here.rows(
        f"""SELECT status, {at("known_at")} FROM appointments WHERE appointment_id = 'a2' ORDER BY known_at"""
    )
    # created on a day: known at its end, in the practice's zone; the outcome when it was last updated
    assert known == [("booked", "2026-02-01 15:59:59"), ("no_show", "2026-03-02 10:00:00")]


def test_fhir_encounters_are_visits_unless_an_appointment_says_so(practice_here: Any, tmp_path: Path) -> None:
    def visit(number: int, status: str = "finished", **fields: Any) -> dict[str, Any]:
        period = {"start": "2026-03-02T09:00:00+08:00", "end": "2026-03-02T09:50:00+08:00"}
        known = {"resourceType": "Encounter", "id": f"e{number}", "status": status, "period": period}
        return known | {"subject": {"reference": "Patient/p1"}} | fields

    missed = {"coding": [{"system": "http://snomed.info/sct", "code": "281399006"}]}
    folder = write(
        tmp_path / "in",
        PATIENT,
        booking(1),
        visit(1, appointment=[{"reference": "Appointment/a1"}]),
        visit(2),
        visit(3, "cancelled", reasonCode=[missed]),
        visit(4, "cancelled", meta={"lastUpdated": "2026-02-20T09:00:00+08:00"}),
        visit(5, "planned", meta={"lastUpdated": "2026-02-20T09:00:00+08:00"}),
        visit(6, "entered-in-error"),
        visit(7, "unknown"),
        visit(8, period={"end": "2026-03-02"}),
        visit(9, "in-progress", subject={"reference": "Patient/other"}, appointment=[{"reference": "Appointment/a1"}]),
        visit(10, period={"start": "2026-03-02"}, serviceProvider={"reference": "Organization/o1"}),
        {"resourceType": "Organization", "id": "o1", "name": "Dental Group"},
        {"resourceType": "Organization", "id": "o2", "name": "Insurer"},
    )
    read(practice_here, folder)
    columns = f"status, clinic_id, is_start_time_known, duration_minutes, {at('status_known_at')}"
    assert latest(practice_here, "appointments", "appointment_id", columns) == [
        ("Encounter/e10", "completed", "o1", False, None, None),
        ("Encounter/e2", "completed", "main", True, None, "2026-03-02 01:50:00"),
        ("Encounter/e3", "no_show", "main", True, None, None),
        ("Encounter/e4", "cancelled_early", "main", True, None, "2026-02-20 01:00:00"),
        ("Encounter/e5", "booked", "main", True, None, None),
        ("Encounter/e9", "arrived", "main", True, None, None),
        ("a1", "completed", "main", True, 40, "2026-03-02 01:50:00"),
    ]
    assert sorted(practice_here.rows("SELECT clinic_id FROM clinics")) == [("main",), ("o1",)]  # main is derived
    assert practice_here.rows("SELECT DISTINCT row_number FROM quarantine ORDER BY 1") == [(9,), (10,)]


def test_fhir_references_in_every_form(practice_here: Any, tmp_path: Path) -> None:
    forms: dict[str, dict[str, Any]] = {
        "relative": {"reference": "Patient/p1"},
        "versioned": {"reference": "Patient/p1/_history/3"},
        "absolute": {"reference": "https://ehr.example.org/fhir/Patient/p1"},
        "urn": {"reference": "urn:uuid:p1"},
        "typed": {"reference": "urn:uuid:p1", "type": "Patient"},
        "logical": {"identifier": {"system": "urn:s", "value": "42"}},
        "conditional": {"reference": "Patient?identifier=urn:s|42"},
        "contained": {"reference": "#me"},
        "nobody": {"reference": "Patient?identifier=urn:s|43"},
        "person": {"reference": "Practitioner/p1"},
        "group": {"reference": "urn:uuid:p1", "type": "Group"},
    }
    inside = [{"resourceType": "Patient", "id": "me", "identifier": [{"system": "urn:s", "value": "42"}]}]
    bookings = [
        booking(0, participant=[{"actor": form}], contained=inside) | {"id": name} for name, form in forms.items()
    ]
    read(practice_here, write(tmp_path / "in", PATIENT | {"identifier": inside[0]["identifier"]}, *bookings))
    found = dict(practice_here.rows("SELECT DISTINCT appointment_id, patient_id FROM appointments"))
    assert found == dict.fromkeys(set(forms) - {"nobody", "person", "group"}, "p1")


def test_fhir_patients(practice_here: Any, tmp_path: Path) -> None:
    folder = write(
        tmp_path / "in",
        PATIENT
        | {"birthDate": "1974", "gender": "female", "meta": {"lastUpdated": "2026-05-01T00:00:00Z"}}
        | {"deceasedDateTime": "2026-04-20T10:00:00Z"}
        | {"name": [{"use": "old", "text": "No"}, {"use": "official", "family": "张", "given": ["无忌"]}]}
        | {"telecom": [{"system": "phone", "value": "1"}, {"system": "phone", "value": "2", "use": "mobile"}]},
        {"resourceType": "Patient", "id": "p2", "birthDate": "1974-12", "active": False},
        {"resourceType": "Patient", "id": "p3", "deceasedBoolean": True, "gender": "unknown"},
        {"resourceType": "Patient", "id": "p4", "deceasedBoolean": False, "active": True, "deceasedDateTime": None},
        {"resourceType": "Patient", "id": "p5", "deceasedDateTime": "2015"},
        booking(1),
    )
    read(practice_here, folder)
    columns = "birth_year, sex, departure, CAST(departed_on AS VARCHAR)"
    assert latest(practice_here, "patients", "patient_id", columns) == [
        ("p1", 1974, "female", "deceased", "2026-04-20"),
        ("p2", 1974, None, "inactive", None),
        ("p3", None, "unknown", "deceased", None),
        ("p4", None, None, None, None),
        ("p5", None, None, "deceased", None),
    ]
    states = practice_here.rows(
        f"SELECT birth_year, departure, {at('known_at')} FROM patients WHERE patient_id = 'p1' ORDER BY known_at"
    )
    # known as a person from the booking on, as dead not before the record says so
    assert states == [(1974, None, "2026-02-01 15:59:59"), (1974, "deceased", "2026-05-01 00:00:00")]
    assert practice_here.rows("SELECT patient_id, full_name, phone FROM contact_details") == [("p1", "无忌 张", "2")]
    for table in ("patients", "appointments", "quarantine"):
        assert "无忌" not in str(practice_here.rows(f"SELECT * FROM {table}"))


def test_fhir_plans_and_messages(practice_here: Any, tmp_path: Path) -> None:
    def activity(status: str, **fields: Any) -> dict[str, Any]:
        return {"detail": {"status": status, "code": {"text": "Crown", "coding": [{"code": "D2740"}]}} | fields}

    subject = {"subject": {"reference": "Patient/p1"}}
    plan = {"resourceType": "CarePlan", "id": "c1", "status": "active", "created": "2026-01-10"} | subject
    message = {"resourceType": "Communication", "status": "completed", "sent": "2026-02-20T09:00:00+08:00"} | subject
    medium = {"medium": [{"coding": [{"code": "SMSWRIT"}]}]}
    folder = write(
        tmp_path / "in",
        PATIENT,
        booking(1),
        plan
        | {"meta": {"lastUpdated": "2026-03-02T02:00:00Z"}}
        | {
            "activity": [
                activity("completed"),
                activity("scheduled"),
                activity("cancelled"),
                activity("not-started"),
                activity("entered-in-error"),
                {"reference": {"reference": "Appointment/a1"}},
            ]
        },
        plan | {"id": "c2", "activity": [activity("completed")]},
        plan | {"id": "c3", "status": "entered-in-error", "activity": [activity("completed")]},
        plan | {"id": "c4"},
        message | {"id": "m1", "category": [{"coding": [{"code": "reminder"}]}]} | medium,
        message | {"id": "m2", "sender": {"reference": "Patient/p1"}, "medium": [{"text": "微信"}]},
        message | {"id": "m3"},
        message | {"id": "m4", "status": "not-done"} | medium,
    )
    report = read(practice_here, folder)
    columns = f"appointment_id, {at('scheduled_at')}, {at('completed_at')}, {at('declined_at')}"
    moment = "2026-03-02 02:00:00"
    assert latest(practice_here, "plan_items", "plan_item_id", columns) == [
        ("c1-1", None, None, moment, None),
        ("c1-2", None, moment, None, None),
        ("c1-3", None, None, None, moment),
        ("c1-4", None, None, None, None),
        ("c1-6", "a1", "2026-03-02 01:00:00", None, None),  # by the start of that booking
        ("c2-1", None, None, None, None),
    ]
    assert practice_here.rows("SELECT DISTINCT strftime(proposed_at, '%d %H:%M:%S') FROM plan_items") == [
        ("10 15:59:59",)
    ]
    assert latest(practice_here, "communications", "communication_id", "direction, channel, purpose") == [
        ("m1", "out", "sms", "reminder"),
        ("m2", "in", "wechat", "other"),
    ]
    for note in ("1 plan items are completed, but nothing tells when", "1 resources of type CarePlan hold no activity"):
        assert any(said.startswith(note) for said in report.notes)
    assert practice_here.rows("SELECT row_number, column_name FROM quarantine") == [(9, "channel")]


def test_fhir_roles_say_what_clinicians_do_where_and_until_when(practice_here: Any, tmp_path: Path) -> None:
    def role(number: int, who: str, **fields: Any) -> dict[str, Any]:
        known = {"resourceType": "PractitionerRole", "id": f"r{number}", "practitioner": {"reference": who}}
        return known | {"location": [{"reference": "Location/l1"}]} | fields

    hygienist = {"coding": [{"system": "http://snomed.info/sct", "code": "26042002"}]}
    ended = {"start": "2020-01-01", "end": "2025-06-30"}
    folder = write(
        tmp_path / "in",
        PATIENT | {"managingOrganization": {"reference": "Organization/o1"}},
        booking(1),
        {"resourceType": "Location", "id": "l1", "managingOrganization": {"reference": "Organization/o1"}},
        {"resourceType": "Organization", "id": "o1"},
        *({"resourceType": "Practitioner", "id": f"d{n}", "name": [{"text": f"Dr {n}"}]} for n in (1, 2, 3)),
        role(1, "Practitioner/d1", code=[{"text": "Orthodontist"}], period=ended | {"end": None}),
        role(
            2,
            "Practitioner/d1",
            code=[{"text": "Dental assistant"}],
            period={"start": "2015-03-01", "end": "2019-12-31"},
        ),
        role(3, "Practitioner/d2", code=[hygienist], period=ended, meta={"lastUpdated": "2025-06-01T08:00:00Z"}),
        role(4, "Practitioner/d4", code=[{"text": "Receptionist"}]),
        role(5, "Practitioner/d3", active=False, meta={"lastUpdated": "2026-01-05T08:00:00Z"}),
    )
    read(practice_here, folder)
    days = "CAST(works_from_on AS VARCHAR), CAST(left_on AS VARCHAR)"
    assert latest(practice_here, "clinicians", "clinician_id", f"clinic_id, role, {days}, {at('left_known_at')}") == [
        ("d1", "l1", "dentist", "2015-03-01", None, None),
        ("d2", "l1", "hygienist", "2020-01-01", "2025-06-30", "2025-06-01 08:00:00"),
        ("d3", "l1", None, None, "2026-01-05", None),
        ("d4", "l1", "other", None, None, None),
    ]
    assert latest(practice_here, "patients", "patient_id", "home_clinic_id") == [("p1", "l1")]


def test_fhir_linked_patients_are_merged(practice_here: Any, tmp_path: Path) -> None:
    def linked(number: str, other: str, kind: str, **fields: Any) -> dict[str, Any]:
        link = {"other": {"reference": f"Patient/{other}"}, "type": kind}
        return {"resourceType": "Patient", "id": number, "link": [link]} | fields

    folder = write(
        tmp_path / "in",
        linked("old", "new", "replaced-by", active=False, meta={"lastUpdated": "2026-03-01T00:00:00Z"}),
        linked("new", "old", "replaces"),
        linked("p3", "p4", "seealso"),
        linked("p4", "new", "replaces"),
        linked("p5", "p4", "replaces"),
        linked("p6", "p6", "replaced-by"),
        booking(1),
    )
    report = read(practice_here, folder)
    with connect() as con:
        practice_here.store.attach(con, ["patients"])
        merges = con.execute(f"SELECT old_id, new_id, {at('known_at')} FROM merges ORDER BY 1").fetchall()
    assert merges == [
        ("new", "p4", "2026-11-17 01:30:00"),
        ("old", "new", "2026-03-01 00:00:00"),
        ("p4", "p5", "2026-11-17 01:30:00"),
    ]
    assert "1 links between patients contradict others and were left out." in report.notes
    assert latest(practice_here, "patients", "patient_id", "departure")[1] == ("old", None), "not gone, but merged"
    assert not read(practice_here, folder).has_changes


def test_fhir_status_history_says_when_a_visit_was_what(practice_here: Any, tmp_path: Path) -> None:
    def since(status: str, moment: str) -> dict[str, Any]:
        return {"status": status, "period": {"start": f"2026-{moment}:00+08:00"}}

    history = [since("planned", "02-20T10:00"), since("triaged", "03-02T08:55"), since("in-progress", "03-02T09:05")]
    visit = {"resourceType": "Encounter", "subject": {"reference": "Patient/p1"}, "statusHistory": history}
    visit["period"] = {"start": "2026-03-02T09:00:00+08:00", "end": "2026-03-02T09:50:00+08:00"}
    late = {"meta": {"lastUpdated": "2026-09-01T00:00:00Z"}}
    folder = write(
        tmp_path / "in",
        PATIENT,
        booking(1),
        visit | {"id": "e1", "status": "finished"} | late,
        visit | {"id": "e2", "status": "in-progress"} | late,
        visit
        | {"id": "e3", "status": "cancelled", "statusHistory": [history[0], since("cancelled", "03-01T20:00")]}
        | late,
        visit | {"id": "e4", "status": "finished", "appointment": [{"reference": "Appointment/a1"}]},
    )
    read(practice_here, folder)
    assert practice_here.rows(
        f"SELECT appointment_id, status, {at('known_at')} FROM appointments ORDER BY 1, known_at"
    ) == [
        ("Encounter/e1", "booked", "2026-02-20 02:00:00"),
        ("Encounter/e1", "arrived", "2026-03-02 00:55:00"),
        ("Encounter/e1", "completed", "2026-03-02 01:50:00"),
        ("Encounter/e2", "booked", "2026-02-20 02:00:00"),
        ("Encounter/e2", "arrived", "2026-03-02 00:55:00"),
        ("Encounter/e3", "booked", "2026-02-20 02:00:00"),
        ("Encounter/e3", "cancelled_late", "2026-03-01 12:00:00"),
        ("a1", "booked", "2026-02-01 15:59:59"),
        ("a1", "arrived", "2026-03-02 00:55:00"),
        ("a1", "completed", "2026-03-02 01:50:00"),
    ]


def test_fhir_replies_are_kept_with_the_message_they_answer(practice_here: Any, tmp_path: Path) -> None:
    def message(number: str, minute: int, **fields: Any) -> dict[str, Any]:
        known = {"resourceType": "Communication", "id": number, "status": "completed"}
        sent = {"sent": f"2026-02-20T09:{minute:02}:00Z", "subject": {"reference": "Patient/p1"}}
        return known | sent | {"medium": [{"text": "wechat"}]} | fields

    answer = {"sender": {"reference": "Patient/p1"}, "inResponseTo": [{"reference": "Communication/m1"}]}
    unavailable = {"statusReason": {"coding": [{"code": "recipient-unavailable"}]}}
    folder = write(
        tmp_path / "in",
        PATIENT,
        message("m1", 0, category=[{"text": "recall"}]),
        message("m2", 5, reasonCode=[{"text": "confirmed"}], **answer),
        message("m3", 9, reasonCode=[{"text": "declined"}], **answer),
        message("m4", 10, status="stopped", **unavailable),
        message("m5", 11, status="stopped"),
        message("m6", 12, category=[{"text": "Follow-up"}], sender={"reference": "Patient/p1"}),
    )
    report = read(practice_here, folder)
    columns = f"direction, purpose, outcome, {at('replied_at')}"
    assert latest(practice_here, "communications", "communication_id", columns) == [
        ("m1", "out", "recall", "confirmed", "2026-02-20 09:05:00"),
        ("m3", "in", "other", "declined", None),
        ("m4", "out", "other", "no_answer", None),
        ("m6", "in", "follow_up", None, None),
    ]
    assert "1 messages answer another one and are kept with it." in report.notes
    assert "1 messages were never sent and left out." in report.notes


def test_fhir_parts_and_lines_that_are_no_resources(practice_here: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "in", PATIENT, "", "{broken", "[1]", name="Patient.000.ndjson")
    write(
        folder,
        {"resourceType": "Patient", "id": "p2"},
        {"resourceType": "Patient"},
        {"id": "x"},
        name="Patient.001.ndjson",
    )
    (folder / "Appointment.ndjson").write_bytes(b"\xef\xbb\xbf" + json.dumps(booking(1)).encode() + b"\n\xff\xfe\n")
    read(practice_here, folder)
    assert practice_here.rows("SELECT DISTINCT patient_id FROM patients ORDER BY 1") == [("p1",), ("p2",)]
    assert practice_here.rows("SELECT DISTINCT appointment_id FROM appointments") == [("a1",)]
    assert practice_here.rows("SELECT source, row_number, reason FROM quarantine ORDER BY 1, 2") == [
        ("Appointment.ndjson", 2, "the line is no JSON object in UTF-8"),
        ("Patient.000.ndjson", 3, "the line is no JSON object in UTF-8"),
        ("Patient.000.ndjson", 4, "the line is no JSON object in UTF-8"),
        ("Patient.001.ndjson", 2, "the resource has no id"),
        ("Patient.001.ndjson", 3, "the object has no resourceType"),
    ]
    write(folder, PATIENT, name="Patient.000.ndjson")
    read(practice_here, folder)
    assert practice_here.rows("SELECT count(*) FROM quarantine WHERE source = 'Patient.000.ndjson'") == [(0,)]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: folder / "absent", "does not exist"),
        (lambda folder: folder, "holds no .ndjson file"),
        (
            lambda folder: write(folder / "in", {"resourceType": "Slot", "id": "1"}),
            "holds no FHIR resource that is read",
        ),
    ],
)
def test_fhir_folder_without_resources_is_one_error(
    make: Any, expected: str, practice_here: Any, tmp_path: Path
) -> None:
    with pytest.raises(FileError, match=expected):
        read(practice_here, make(tmp_path))
    assert not practice_here.store.versions()


def test_fhir_mapping_of_ones_own_starts_from_the_built_in(
    repository: Path, tmp_path: Path, practice_here: Any
) -> None:
    own = load_mapping(repository / "docs" / "examples" / "fhir.toml")
    assert {entry.table.name for entry in own.tables} >= {"patients", "appointments", "communications"}
    (tmp_path / "m.toml").write_text(
        'format = "fhir"\ntime_zone = "UTC"\n[tables.clinics]\nfile = "clinics"\ncolumns = { clinic_id = "nothing" }\n'
    )
    with pytest.raises(MappingError, match="clinics reads nothing"):
        import_files(practice_here.store, write(tmp_path / "in", PATIENT), load_mapping(tmp_path / "m.toml"), NOW)
    assert load_mapping(Path("fhir"), "Asia/Tokyo").time_zone == "Asia/Tokyo"
    with pytest.raises(MappingError, match="time_zone must be"):
        load_mapping(Path("fhir"))


def test_fhir_command(revisit: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "in", PATIENT | {"name": [{"text": "Wilhelmina"}]}, booking(1), booking(2, "odd"))
    result = revisit("import", folder, "--mapping", "fhir")
    assert result.exit_code == 0, result.output
    assert "1 rows quarantined" in result.output
    assert "Wilhelmina" not in result.output


def mutated(rng: random.Random, value: Any) -> Any:
    """Somewhere inside a resource, put what does not belong there."""
    odd: list[Any] = [
        None,
        5,
        -1.5,
        "",
        "x" * 3000,
        "\ud800",
        [],
        {},
        [[{}]],
        True,
        "9999-99-99T99:99:99Z",
        {"a": [None]},
    ]
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        if key == "resourceType" and rng.random() < 0.7:
            return value
        if rng.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return value | {key: mutated(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        index = rng.randrange(len(value))
        return [*value[:index], mutated(rng, value[index]), *value[index + 1 :]]
    return rng.choice(odd)


def test_fhir_600_mutated_resources_are_stored_or_quarantined(
    shared_data: Path, practice_here: Any, tmp_path: Path
) -> None:
    folder = shared_data / "fhir" / "hl7_r4_examples"
    if not folder.is_dir():
        pytest.skip(f"the published FHIR data {folder} are not here")
    rng = random.Random(3)
    originals = [
        json.loads(line)
        for kind in ("Patient", "Appointment", "Encounter", "CarePlan", "Communication", "Location", "Practitioner")
        for line in (folder / f"{kind}.ndjson").read_text(encoding="utf-8").splitlines()
    ]
    for resource in originals:
        resource.pop("text", None)
    made = []
    for number in range(600):
        resource = rng.choice(originals) | {"id": f"r{number}"}
        for _ in range(rng.randint(1, 4)):
            resource = mutated(rng, resource)
        made.append(json.dumps(resource))
    cut = [line[: rng.randrange(1, len(line))] for line in made if len(line) > 500][:50]
    report = read(practice_here, write(tmp_path / "in", *made, *cut))
    assert report.quarantined_rows >= 50
    assert sum(table.stored for table in report.tables) > 100
    again = read(practice_here, tmp_path / "in")
    assert not again.has_changes
