"""Events of other programs: through the door, once, without what is not needed, into the flags."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from features.records.store import RecordStore
from features.settings import Paths, Settings
from serving import open_dental_events
from serving.app import create_app
from serving.auth import AccountError
from serving.clock import now
from serving.keys import create_key, find_key, revoke_key
from serving.scoring import score
from serving.web import Options

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.10 asks for httpx2; httpx is what MLflow and others bring
    from fastapi.testclient import TestClient

MARKER = "Zqmarker"
CUSTOMER_KEY = "VzkmZEaUWOjnQX2z"
ADDRESS = "/api/v1/events"
OPEN_DENTAL = f"{ADDRESS}/open-dental"
CONVENTIONS = open_dental_events.Conventions(ZoneInfo("America/Chicago"))
# As https://www.opendental.com/site/apievents.html shows it, personal values marked.
APPOINTMENT = {
    "AptNum": 18, "PatNum": 17, "AptStatus": "Scheduled", "Pattern": "//XXXX//", "Confirmed": 19,
    "confirmed": "Not Called", "TimeLocked": "false", "Op": 3, "Note": f"{MARKER} note", "ProvNum": 1,
    "provAbbr": "DOC1", "ProvHyg": 4, "AptDateTime": "2026-12-01 08:30:00", "NextAptNum": 0, "UnschedStatus": 0,
    "unschedStatus": "", "IsNewPatient": "false", "ProcDescript": f"{MARKER} Seal", "ClinicNum": 0,
    "IsHygiene": "false", "DateTStamp": "2026-11-20 08:30:12", "Priority": "Normal",
    "DateTimeArrived": "0001-01-01 00:00:00", "InsPlan1": 35, "colorOverride": "0,0,0",
}  # fmt: skip
PATIENT = {
    "PatNum": 17, "LName": MARKER, "FName": MARKER, "Birthdate": "1970-02-03", "SSN": f"{MARKER}-6789",
    "WirelessPhone": f"+1-{MARKER}", "Email": f"{MARKER}@example.org", "PatStatus": "Patient",
    "AddrNote": MARKER, "DateTStamp": "2026-11-20 09:00:00",
}  # fmt: skip


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Any]:
    made = create_app(Settings(paths=Paths(data=tmp_path)), Options())
    yield made
    made.state.web.engine.dispose()


@pytest.fixture
def client(app: Any) -> TestClient:
    made = TestClient(app)
    made.headers["Authorization"] = f"Bearer {create_key(app.state.web.engine, 'pms', ['events.write'], now())}"
    return made


def event(number: str = "e1", **changed: Any) -> dict[str, Any]:
    row = {"appointment_id": "a1", "patient_id": "p1", "status": "no_show"} | changed
    return {"id": number, "table": "appointments", "row": row}


def stored(app: Any) -> dict[str, list[dict[str, Any]]]:
    with app.state.web.engine.connect() as connection:
        return {
            name: [dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()]
            for name in ("desk_events", "received_events")
        }


def test_an_event_counts_once(app: Any, client: TestClient) -> None:
    first = client.post(ADDRESS, json={"events": [event(), event("e2", status="arrived")]})
    assert first.status_code == 202, first.text
    assert [(one["id"], one["state"], one["is_new"]) for one in first.json()["events"]] == [
        ("e1", "waiting", True),
        ("e2", "waiting", True),
    ]
    again = client.post(ADDRESS, json={"events": [event(status="completed")]})
    assert [(one["state"], one["is_new"]) for one in again.json()["events"]] == [("waiting", False)]
    found = stored(app)["desk_events"]
    assert [json.loads(row["record"])["status"] for row in found] == ["no_show", "arrived"]
    other = create_key(app.state.web.engine, "other", ["events.write"], now())
    client.headers["Authorization"] = f"Bearer {other}"
    assert client.post(ADDRESS, json={"events": [event()]}).json()["events"][0]["is_new"], "another program's e1"
    assert [one["id"] for one in client.get(ADDRESS).json()["items"]] == ["e1"]


def test_old_news_does_not_undo_newer(app: Any, client: TestClient) -> None:
    def send(number: str, happened_at: str) -> str:
        sent = event(number) | {"happened_at": happened_at}
        return str(client.post(ADDRESS, json={"events": [sent]}).json()["events"][0]["state"])

    assert send("e1", "2026-11-20T10:00:00Z") == "waiting"
    assert send("e2", "2026-11-20T09:00:00Z") == "outdated"
    assert send("e2", "2026-11-20T09:00:00Z") == "outdated"
    assert send("e3", "2026-11-20T19:00:00+08:00") == "waiting"
    assert len(stored(app)["desk_events"]) == 2
    pages, after = [], None
    while True:
        page = client.get(ADDRESS, params={"limit": 2} | ({"after": after} if after else {})).json()
        pages += [(one["id"], one["state"]) for one in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert pages == [("e3", "waiting"), ("e2", "outdated"), ("e1", "waiting")]


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"events": []},
        {"events": [event() | {"table": "contact_details"}]},
        {"events": [event() | {"extra": MARKER}]},
        {"events": [event(full_name=MARKER)]},
        {"events": [event(status=["x"])]},
        {"events": [event(status="x" * 300)]},
        {"events": [event(patient_id="")]},
        {"events": [event(patient_id=None)]},
        {"events": [event("e 1")]},
        {"events": [event() | {"happened_at": "yesterday"}]},
        {"events": [event(str(n)) for n in range(101)]},
        {"events": [event(fee_cents=2**70)]},
    ],
)
def test_what_is_no_event_is_refused(app: Any, client: TestClient, sent: Any) -> None:
    answer = client.post(ADDRESS, json=sent)
    assert answer.status_code == 422
    assert MARKER not in answer.text
    assert stored(app) == {"desk_events": [], "received_events": []}


def test_a_key_of_some_clinics_sends_nothing(app: Any, client: TestClient) -> None:
    some = create_key(app.state.web.engine, "east", ["events.write"], now(), ["east"])
    client.headers["Authorization"] = f"Bearer {some}"
    assert client.post(ADDRESS, json={"events": [event()]}).status_code == 403


def test_open_dentals_messages_leave_what_is_needed(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    engine = app.state.web.engine
    number = create_key(engine, "Open Dental", ["events.write"], now(), foreign=CUSTOMER_KEY)
    headers = {"Authorization": CUSTOMER_KEY, "Workstation": "MOLLYR", "Event-Type": "WatchTable: Appointment"}
    client = TestClient(app, headers=headers)
    with caplog.at_level(logging.DEBUG):
        answers = [
            client.post(OPEN_DENTAL, json=[APPOINTMENT, APPOINTMENT | {"AptNum": 19, "AptStatus": "Planned"}]),
            client.post(OPEN_DENTAL, json=[APPOINTMENT, {"Note": MARKER}]),
            client.post(OPEN_DENTAL, json=[PATIENT], headers={"Event-Type": "WatchTable: Patient"}),
            client.post(OPEN_DENTAL, json=PATIENT, headers={"Event-Type": "UiEventType: PatientSelected"}),
            client.post(OPEN_DENTAL, json=[{"x": MARKER}], headers={"Event-Type": "WatchTable: Operatory"}),
        ]
    counts = [{name: count for name, count in answer.json().items() if count} for answer in answers]
    assert counts == [{"taken": 1, "unused": 1}, {"known": 1, "unused": 1}, {"taken": 1}, {"taken": 1}, {"unused": 1}]
    everything = repr([stored(app), caplog.text, [answer.text for answer in answers], app.state.web.metrics.text(None)])
    assert MARKER not in everything
    assert "1970" not in everything
    for path in app.state.web.settings.paths.data.rglob("*"):
        assert not path.is_file() or MARKER.encode() not in path.read_bytes(), path
    told = stored(app)["desk_events"]
    assert {row["told_by"] for row in told} == {f"key:{number}"}
    assert [row["record_table"] for row in told] == ["appointments", "patients", "patients"]
    assert json.loads(told[0]["record"]) == {
        "appointment_id": "18",
        "patient_id": "17",
        "clinic_id": "main",
        "clinician_id": "1",
        "status": "booked",
        "duration_minutes": 40,
        "is_start_time_known": True,
        "starts_at": "2026-12-01T08:30:00+08:00",
    }
    revoke_key(engine, number, now())
    assert client.post(OPEN_DENTAL, json=APPOINTMENT).status_code == 401


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"AptStatus": "ASAP"}, "booked"),
        ({"DateTimeArrived": "2026-12-01 08:20:00"}, "arrived"),
        ({"DateTimeArrived": "2026-12-01 00:00:00"}, "booked"),
        ({"AptStatus": "Complete"}, "completed"),
        ({"AptStatus": "2"}, "completed"),
        ({"AptStatus": "Broken", "DateTStamp": "2026-11-30 08:30:00"}, "cancelled_early"),
        ({"AptStatus": "Broken", "DateTStamp": "2026-11-30 08:30:01"}, "cancelled_late"),
        ({"AptStatus": "UnschedList", "DateTStamp": "2026-12-01 08:29:59"}, "cancelled_late"),
        ({"AptStatus": "Broken", "DateTStamp": "2026-12-01 09:00:00"}, "no_show"),
    ],
)
def test_states_are_those_of_the_import(changed: dict[str, str], status: str) -> None:
    message = open_dental_events.read(APPOINTMENT | changed, "", CONVENTIONS, now())
    (sent,) = message.events
    assert sent.row["status"] == status
    assert sent.happened_at is not None
    assert sent.happened_at.tzinfo == CONVENTIONS.zone


def test_deleted_and_hygiene_and_odd_rows() -> None:
    def read(changed: dict[str, Any], kind: str = "") -> open_dental_events.Message:
        return open_dental_events.read([APPOINTMENT | changed], kind, CONVENTIONS, now())

    after = read({"DateTStamp": "2026-12-02 08:30:00"}, "WatchTable: AppointmentDeleted").events[0]
    assert after.row["status"] == "cancelled_early"
    hygiene = read({"IsHygiene": "true", "ClinicNum": 2}).events[0]
    assert (hygiene.row["clinician_id"], hygiene.row["clinic_id"]) == ("4", "2")
    for odd in ({"AptNum": "18; DROP"}, {"PatNum": 0}, {"AptNum": None}, {"PatNum": True}, {"AptNum": [1]}):
        assert (read(odd).events, read(odd).broken) == ((), 1)
    assert read({"AptDateTime": "0001-01-01 00:00:00"}).unused == 1
    for content in ("x", 1, None, [1], [[]], [{}] * 1001):
        with pytest.raises(ValueError, match="expected a row"):
            open_dental_events.read(content, "", CONVENTIONS, now())


def test_sizes_and_broken_messages(app: Any, client: TestClient) -> None:
    padded = [APPOINTMENT | {"AptNum": n, "Note": "x" * 3000} for n in range(1, 40)]
    assert len(json.dumps(padded)) > 64 * 1024
    assert client.post(OPEN_DENTAL, json=padded).json()["taken"] == 39
    as_json = {"Content-Type": "application/json"}
    assert client.post(OPEN_DENTAL, content=b"x" * (5 * 1024 * 1024), headers=as_json).status_code == 413
    for body in (b"", b"{", b"[" * 100_000, b"\xff\xfe", b'"x"', b"NaN"):
        assert client.post(OPEN_DENTAL, content=body, headers=as_json).status_code == 400, body[:10]
    pickled = {"Content-Type": "application/vnd.bentoml+pickle"}
    for address in (ADDRESS, OPEN_DENTAL):
        assert client.post(address, content=b"\x80\x04.", headers=pickled).status_code == 415
        assert client.post(address, content=b"x" * 70_000, headers=as_json).status_code in (400, 413)


def test_another_programs_key_is_no_key_of_ours(app: Any) -> None:
    engine = app.state.web.engine
    ours = create_key(engine, "ours", ["schedule.view"], now())
    secret = ours.partition(".")[2]
    assert find_key(engine, secret, now()) is None, "the secret alone"
    number = create_key(engine, "theirs", ["events.write"], now(), foreign=CUSTOMER_KEY)
    assert find_key(engine, f"Bearer {number}.{CUSTOMER_KEY}", now()) is None
    who = find_key(engine, CUSTOMER_KEY, now())
    assert who is not None
    assert (who.username, who.permissions) == (f"key:{number}", {"events.write"})
    for weak in ("short", "has a space in it..", "x" * 201, "é" * 20):
        with pytest.raises(AccountError):
            create_key(engine, "weak", ["events.write"], now(), foreign=weak)
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT * FROM api_keys")).all()
    assert CUSTOMER_KEY not in repr(kept)


@pytest.fixture
def scored(trained_practice: Any, tmp_path: Path) -> Settings:
    """The trained practice, in a copy of its own, published."""
    shutil.copytree(trained_practice.settings.paths.data, tmp_path / "data")
    paths = Paths(data=tmp_path / "data", mlruns=trained_practice.settings.paths.mlruns)
    made = Settings(paths=paths, no_show=trained_practice.settings.no_show)
    score(made, trained_practice.simulated.plan.now)
    return made


def test_an_event_is_in_the_flags_and_stays_there(
    scored: Settings, trained_practice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.scorer import Scorer, take_in_events

    before = trained_practice.simulated.plan.now
    app = create_app(scored, Options())
    engine, scorer = app.state.web.engine, Scorer(scored)
    client = TestClient(app)
    scopes = ["events.write", "schedule.view"]
    client.headers["Authorization"] = f"Bearer {create_key(engine, 'pms', scopes, now())}"
    with engine.connect() as connection:
        query = text("SELECT * FROM bookings WHERE starts_at > :after AND status = 'booked' ORDER BY starts_at")
        known = connection.execute(query, {"after": f"{now():%Y-%m-%d %H:%M:%S}"}).mappings().first()
    assert known is not None
    day = str(known["starts_at"])[:10]
    row = {"appointment_id": known["appointment_id"], "patient_id": known["patient_id"], "status": "cancelled_early"}
    fresh = {
        "appointment_id": "new-1", "patient_id": known["patient_id"], "clinic_id": known["clinic_id"],
        "status": "booked", "service_line": "hygiene", "starts_at": f"{day}T14:00:00", "duration_minutes": 30,
    }  # fmt: skip
    sent = [{"id": str(n), "table": "appointments", "row": told} for n, told in enumerate((row, fresh))]

    def shown() -> dict[str, tuple[str, bool]]:
        asked = {"clinic": known["clinic_id"], "day": day}
        rows = client.get("/api/v1/schedule", params=asked).json()["bookings"]
        return {one["appointment_id"]: (one["status"], one["risk"] is not None) for one in rows}

    def states() -> list[str]:
        return [one["state"] for one in client.get(ADDRESS).json()["items"]]

    assert client.post(ADDRESS, json={"events": sent}).status_code == 202
    monkeypatch.setattr("features.online_events.PATIENCE_S", 0.05)
    with RecordStore(scored.paths.records).importing():
        take_in_events(scorer, now())
    assert states() == ["waiting", "waiting"], "while an import keeps the records"
    take_in_events(scorer, now())
    assert states() == ["done", "done"], client.get(ADDRESS).text
    expected = {known["appointment_id"]: "cancelled_early", "new-1": "booked"}
    assert {key: shown()[key][0] for key in expected} == expected
    assert shown()["new-1"][1], "a new booking is scored"
    score(scored, before)
    assert "new-1" not in shown(), "a publication begun before knows nothing of it"
    take_in_events(scorer, now() + timedelta(seconds=1))
    assert {key: shown()[key][0] for key in expected} == expected
    engine.dispose()
    scorer.engine.dispose()
