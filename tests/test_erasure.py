"""One patient's data on request: all of it handed out, none of it left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from click.testing import Result
from sqlalchemy import text

from features import schedule
from features.errors import StoreError
from features.families import FAMILIES
from features.online_events import record_event
from features.online_packing import slot_of
from features.online_rows import open_rows
from features.online_sync import rows_of, write_patients_online
from features.records.erasure import ErasedPatients, erase_person
from features.records.history import restore
from features.records.merging import merge
from features.settings import Online
from features.store import build, build_patients, open_feast, register, write_online
from serving import audit, consents, db
from serving.desk_actions import note_done
from serving.desk_events import Told, tell
from serving.patient_data import delete_patient, export_patient
from serving.patients import Patient, PatientScore, store_patients
from serving.sample_day import sample_day
from serving.schedule import publish_schedule, read_publication

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
GONE = "Zqgone"  # part of the number, name, phone and e-mail of the patient who leaves, and of nothing else
PREFIX = f"t{os.getpid()}"
MAPPING = """
name = "Desk"
time_zone = "Asia/Shanghai"
datetime_formats = ["%Y-%m-%d %H:%M"]
[tables.patients]
file = "patients.csv"
columns = { patient_id = "id", birth_year = "born", referred_by_id = "by", household_id = "home" }
[tables.contact_details]
file = "patients.csv"
columns = { patient_id = "id", full_name = "name", phone = "phone", email = "mail" }
[tables.appointments]
file = "visits.csv"
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = "clinic"
booked_at = "booked"
starts_at = "starts"
status = "status"
"""
PATIENTS = f"""id,born,by,home,name,phone,mail
P1,1980,,P1,Anna Berg,+86-1,a@example.org
{GONE}1,1990,P1,P1,{GONE} Li,+86-{GONE},{GONE}@example.org
P3,1970,{GONE}1,{GONE}1,Carl Do,+86-3,c@example.org
"""
VISITS = f"""id,patient,clinic,booked,starts,status
A1,P1,east,2026-01-05 09:00,2026-01-12 10:00,completed
A2,{GONE}1,east,2026-01-05 09:30,2026-01-12 11:00,no_show
A3,P3,east,2026-01-05 09:30,2026-11-23 11:00,booked
A4,{GONE}1,east,2026-01-05 09:30,2026-11-23 12:00,booked
"""


@pytest.fixture
def practice(practice_here: Any) -> Any:
    """Two imports and a merge: the leaving patient's rows are in old versions, in new ones, and under two numbers."""
    write(practice_here.root, PATIENTS, VISITS)
    bring(practice_here, NOW)
    write(
        practice_here.root,
        PATIENTS.replace("1990", "1991"),
        VISITS + f"A5,{GONE}2,east,2026-02-05 09:30,2026-02-23 12:00,completed\n",
    )
    bring(practice_here, NOW + timedelta(hours=1))
    merge(practice_here.store, f"{GONE}2", f"{GONE}1", NOW + timedelta(hours=2))
    return practice_here


def write(root: Path, patients: str, visits: str) -> None:
    (root / "export").mkdir(parents=True, exist_ok=True)
    (root / "export" / "patients.csv").write_text(patients)
    (root / "export" / "visits.csv").write_text(visits)
    (root / "m.toml").write_text(MAPPING)


def bring(practice: Any, at: datetime) -> None:
    from features.records.landing import import_files
    from features.records.mapping import load_mapping

    import_files(practice.store, practice.root / "export", load_mapping(practice.root / "m.toml"), at)


def served(practice: Any) -> Any:
    """The application with a booking of the leaving patient, a consent, and a look at them."""
    engine = db.engine(practice.settings.application_database)
    db.upgrade(engine)
    sample = sample_day(date(2026, 11, 23), ZoneInfo("Asia/Shanghai"))
    first = sample.bookings[0]
    theirs = replace(first, patient_id=f"{GONE}1", patient_name=f"{GONE} Li")
    for bookings in ((theirs, *sample.bookings[1:]), (theirs, *sample.bookings[1:])):
        publish_schedule(engine, bookings, sample.scores, sample.clinics, as_of=NOW, published_at=NOW)
    person = Patient(
        f"{GONE}1", "east", f"{GONE} Li", 1990, None, None, True, (), 30, 1, 0, 900, 0, 0, 0, True, NOW
    )  # fmt: skip
    score = PatientScore(f"{GONE}1", "lapse", 0.4, "model", "1", True, (), NOW, NOW)
    store_patients(engine, [person], {f"{GONE}1": {"visits": [{"id": f"{GONE}v"}]}}, [score])
    note_done(engine, theirs, date(2026, 11, 23), "send_reminder", "mei", NOW)
    tell(engine, Told("communications", {"communication_id": f"{GONE}c"}, f"{GONE}1", "east"), "mei", NOW)
    consents.take_down(engine, consents.Statement(f"{GONE}1", "sms", False, NOW, "phone", "mei", NOW))
    consents.take_down(engine, consents.Statement("P1", "sms", True, NOW, "phone", "mei", NOW))
    audit.record(engine, audit.Act(NOW, "view_patient", "mei", patient_id=f"{GONE}1"))
    audit.record(engine, audit.Act(NOW, "view_patient", "mei", patient_id="P1"))
    return engine


def holding(root: Path) -> list[str]:
    """Files that hold the mark, compressed columns looked into."""
    found = []
    for path in (path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            rows: Iterable[Any] = duckdb.sql(f"SELECT * FROM read_parquet('{path.as_posix()}')").fetchall()
            content += repr(list(rows)).encode()
        if GONE.encode() in content:
            found.append(path.relative_to(root).as_posix())
    return found


def test_nothing_is_left_in_any_file(practice: Any) -> None:
    settings = practice.settings
    build(settings, NOW + timedelta(hours=3))
    write_online(settings, register(settings), NOW + timedelta(hours=3))
    engine = served(practice)
    before = holding(settings.paths.data)
    assert any("contact_details" in name for name in before)
    assert any(name.startswith("revisit.db") for name in before)
    done = delete_patient(settings, f"{GONE}2", NOW + timedelta(days=1), "cli:test")
    assert done.records["contact_details"] == 1
    assert done.records["appointments"] == 5
    assert done.records["merges"] == 1
    owned = ("patients", "patient_cards", "patient_scores", "desk_actions", "desk_events")
    assert done.application == dict.fromkeys(("bookings", "consents", "audit_subjects", *owned), 1)
    engine.dispose()
    assert holding(settings.paths.data) == []
    assert not (settings.paths.feast / "online.db").exists()
    open_feast(settings)  # as if nothing had been


@pytest.mark.parametrize(
    "online",
    [
        Online(prefix=PREFIX),
        Online(store="redis", url="redis://127.0.0.1:6379/0", prefix=PREFIX),
        Online(store="postgres", url="postgresql://root@127.0.0.1:5432/test", prefix=PREFIX),
    ],
    ids=lambda online: online.store,
)
def test_nobody_is_left_online(practice: Any, online: Online) -> None:
    """Neither rows of the night, nor of an event at the desk, nor the copy by patient that events are read from."""
    settings, now = practice.settings.model_copy(update={"online": online}), NOW + timedelta(days=1)
    build(settings, now)
    build_patients(settings, now, first=now.date())
    store = register(settings)
    write_online(settings, store, now)
    write_patients_online(settings, store, now)
    rows_of(store).close()
    event = {
        "appointment_id": "A6",
        "patient_id": f"{GONE}1",
        "clinic_id": "east",
        "starts_at": now + timedelta(days=1),
        "status": "booked",
    }
    assert record_event(settings, "appointments", event, now).patients == 2
    views = {family.name: [feature.name for feature in family.features] for family in FAMILIES.values()}
    views["schedule"] = [feature.name for feature in schedule.FEATURES]
    keys = [f"{GONE}1", "P1", "A4", "A6"]
    with closing(open_rows(online, settings.paths.feast / "online.db")) as rows:
        found = {view: set(rows.read(slot_of(view, names), keys)) for view, names in views.items()}
    assert found == {view: {"A4", "A6"} if view == "schedule" else {f"{GONE}1", "P1"} for view in views}
    assert any("features/mirror" in name for name in holding(settings.paths.data))
    delete_patient(settings, f"{GONE}1", now + timedelta(hours=1), "cli:test")
    with closing(open_rows(online, settings.paths.feast / "online.db")) as rows:
        assert not any(rows.read(slot_of(view, names), keys) for view, names in views.items())
    assert holding(settings.paths.data) == []


def test_everybody_else_stays(practice: Any) -> None:
    engine = served(practice)
    newest = read_publication(engine)
    delete_patient(practice.settings, f"{GONE}1", NOW + timedelta(days=1), "cli:test")
    assert practice.rows("SELECT patient_id FROM contact_details ORDER BY 1") == [("P1",), ("P3",)]
    assert [row[0] for row in practice.rows("SELECT DISTINCT appointment_id FROM appointments ORDER BY 1")] == [
        "A1",
        "A3",
    ]
    ((by, home),) = practice.rows("SELECT referred_by_id, household_id FROM patients WHERE patient_id = 'P3'")
    assert by is None
    assert str(home).startswith("erased-")
    assert practice.rows("SELECT household_id FROM patients WHERE patient_id = 'P1'") == [("P1",)]
    after = read_publication(engine)
    assert newest is not None
    assert after is not None
    assert after.publication_id > newest.publication_id, "pages hold what was published in memory"
    assert after.booking_count == newest.booking_count - 1
    assert consents.standing(engine, ["P1", f"{GONE}1"], NOW).keys() == {("P1", "sms")}
    entries = audit.read(engine, 10)
    assert [entry.act.patient_id for entry in entries if entry.act.action == "view_patient"] == ["P1", None]
    assert entries[0].act.action == "delete_patient"
    engine.dispose()


def test_deleting_again_changes_nothing_and_imports_do_not_bring_them_back(practice: Any) -> None:
    settings, at = practice.settings, NOW + timedelta(days=1)
    delete_patient(settings, f"{GONE}1", at, "cli:test")
    state = practice.store.entries()
    again = delete_patient(settings, f"{GONE}1", at, "cli:test")
    assert (again.records, again.application) == ({}, {"audit_subjects": 1})
    assert practice.store.entries() == state
    assert [entry.made.kind for entry in state] == ["erase"]
    with pytest.raises(StoreError):
        restore(practice.store, 1, at)
    bring(practice, at + timedelta(hours=1))
    assert holding(settings.paths.data) == []
    with pytest.raises(StoreError, match="no patient 'P9'"):
        delete_patient(settings, "P9", at, "cli:test")
    assert len(practice.store.entries()) == 1


@pytest.mark.parametrize("where", ["publish", "vacuum"])
def test_a_crash_halfway_is_finished_by_the_next_try(
    practice: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from features.records import erasure

    def crash(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if where == "publish":
            patch.setattr(practice.store, "publish", crash)
        else:
            patch.setattr(erasure, "vacuum", crash)
        with pytest.raises(KeyboardInterrupt):
            erase_person(practice.store, f"{GONE}1", NOW + timedelta(days=1))
    assert ErasedPatients(practice.store.root).is_pending(f"{GONE}1")
    theirs = practice.rows(f"SELECT count(*) FROM appointments WHERE patient_id = '{GONE}1'")
    assert (theirs == [(0,)]) == (where == "vacuum"), "before or after, and nothing between"
    erase_person(practice.store, f"{GONE}1", NOW + timedelta(days=1))
    assert holding(practice.settings.paths.records) == []
    assert not ErasedPatients(practice.store.root).is_pending(f"{GONE}1")


def test_all_of_one_patient_is_handed_out(practice: Any) -> None:
    engine = served(practice)
    given = json.loads(export_patient(practice.settings, f"{GONE}2", NOW + timedelta(days=1), "cli:test"))
    assert given["records"]["contact_details"][0]["phone"] == f"+86-{GONE}"
    assert {row["appointment_id"] for row in given["records"]["appointments"]} == {"A2", "A4", "A5"}
    assert given["application"]["bookings"][0]["patient_name"] == f"{GONE} Li"
    assert given["application"]["scores"]
    assert given["application"]["consents"][0]["is_allowed"] is False
    assert [act["action"] for act in given["audit"]] == ["export_patient", "view_patient"]
    assert "Anna" not in json.dumps(given)
    with pytest.raises(StoreError):
        export_patient(practice.settings, "P9", NOW, "cli:test")
    engine.dispose()


def test_by_the_command_line(practice: Any, revisit: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    out = practice.root / "given.json"
    assert revisit("patient", "export", f"{GONE}1", "--out", out).exit_code == 0
    assert GONE in out.read_text()
    out.unlink()
    assert revisit("patient", "delete", f"{GONE}1").exit_code == 1, "asked, and not answered"
    done = revisit("patient", "delete", f"{GONE}1", "--yes")
    assert done.exit_code == 0, done.output
    assert "contact_details: 1 rows deleted" in done.output
    assert "nothing was left" in revisit("patient", "delete", f"{GONE}1", "--yes").output
    listed = revisit("audit").output
    assert "delete_patient" in listed
    assert GONE not in listed


def test_consents_are_a_ledger(practice: Any) -> None:
    engine = served(practice)
    later = NOW + timedelta(days=2)
    consents.take_down(engine, consents.Statement("P1", "sms", False, later, "front_desk", "an", later))
    assert consents.standing(engine, ["P1"], NOW)["P1", "sms"].is_allowed
    assert not consents.standing(engine, ["P1"], later)["P1", "sms"].is_allowed
    with pytest.raises(Exception, match="never rewritten"), engine.begin() as connection:
        connection.execute(text("UPDATE consents SET is_allowed = true"))
    for channel, stated in (("fax", NOW), ("sms", later + timedelta(days=1))):
        with pytest.raises(consents.ConsentError):
            consents.take_down(engine, consents.Statement("P1", channel, True, stated, "x", "an", later))
    engine.dispose()
