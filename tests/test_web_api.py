"""The JSON API, and what the web worker may load."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from features.errors import NotBuiltError
from features.settings import Paths, Settings
from serving import auth
from serving.app import create_app
from serving.clock import now, today
from serving.permissions import OPEN, SIGNED_IN, needs
from serving.sample_day import SampleDay, sample_day
from serving.schedule import publish_schedule
from serving.web import Options

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.10 asks for httpx2; httpx is what MLflow and others bring
    from fastapi.testclient import TestClient

ZONE = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 11, 23)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(paths=Paths(data=tmp_path))


@pytest.fixture
def app(settings: Settings) -> Iterator[Any]:
    made = create_app(settings, Options())
    yield made
    made.state.web.engine.dispose()


@pytest.fixture
def client(app: Any, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    engine = app.state.web.engine
    cheap = auth.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(auth, "_hasher", lambda: cheap)
    auth.create_user(engine, "mei", "correct horse", "front_desk", "Mei")
    made = TestClient(app, follow_redirects=False, raise_server_exceptions=False)
    made.cookies.set("revisit_session", auth.sign_in(engine, "mei", "correct horse", now()))
    return made


def _publish(app: Any, day: date = DAY, clinics: dict[str, str] | None = None) -> SampleDay:
    sample = sample_day(day, ZONE)
    publish_schedule(
        app.state.web.engine,
        sample.bookings,
        sample.scores,
        sample.clinics if clinics is None else clinics,
        as_of=sample.as_of,
        published_at=sample.published_at,
    )
    return sample


def test_a_day_as_other_programs_see_it(app: Any, client: TestClient) -> None:
    sample = _publish(app)
    answer = client.get("/api/v1/schedule", params={"clinic": "east", "day": "2026-11-23"})
    assert answer.status_code == 200
    body = answer.json()
    assert {key: body[key] for key in ("clinic", "day", "timezone")} == {
        "clinic": "east",
        "day": "2026-11-23",
        "timezone": "Asia/Shanghai",
    }
    assert body["as_of"] == "2026-11-22T21:00:00+08:00"
    assert body["published_at"] == "2026-11-22T21:04:00+08:00"
    assert len(body["bookings"]) == len(sample.bookings)
    flagged = body["bookings"][2]
    assert flagged == {
        "appointment_id": "a002",
        "patient_id": sample.bookings[2].patient_id,
        "starts_at": "2026-11-23T09:30:00+08:00",
        "duration_minutes": 60,
        "service_line": "orthodontics",
        "clinician_id": "RDH Mei",
        "status": "booked",
        "risk": {
            "probability": 0.42,
            "band": "high",
            "contract": "no_show_evening",
            "model_version": "3",
            "as_of": "2026-11-22T21:00:00+08:00",
        },
        "flags": ["no_show"],
        "reasons": [
            {"code": "missed_visits", "direction": 1, "text": "Missed 2 of the last 5 visits"},
            {"code": "lead_time", "direction": 1, "text": "Booked 17 days ahead"},
            {"code": "time_slot", "direction": 1, "text": "Monday, 09:00 slot"},
        ],
        "suggested_action": "confirm_by_phone",
    }
    unscored = body["bookings"][-2]
    assert (unscored["risk"], unscored["reasons"], unscored["suggested_action"]) == (None, [], "no_score")


def test_names_and_ages_stay_inside(app: Any, client: TestClient) -> None:
    sample = _publish(app)
    content = client.get("/api/v1/schedule?clinic=east&day=2026-11-23").text
    for booking in sample.bookings:
        assert str(booking.patient_name) not in content
    assert "birth" not in content


def test_reasons_in_chinese(app: Any, client: TestClient) -> None:
    _publish(app)
    body = client.get("/api/v1/schedule?clinic=east&day=2026-11-23&lang=zh").json()
    assert body["bookings"][2]["reasons"][0]["text"] == "5 次就诊中爽约 2 次"


def test_today_and_the_only_clinic_are_the_defaults(app: Any, client: TestClient) -> None:
    here = today(ZONE)
    _publish(app, here, clinics={"east": "East"})
    body = client.get("/api/v1/schedule").json()
    assert (body["clinic"], body["day"], len(body["bookings"])) == ("east", here.isoformat(), 16)


@pytest.mark.parametrize(
    ("query", "status", "code", "message"),
    [
        ("clinic=nowhere&day=2026-11-23", 404, "not_found", "This clinic is not published here."),
        ("clinic=east&day=23.11.2026", 400, "bad_request", "The day must be written like 2026-11-21."),
        ("clinic=east&day=20261123", 400, "bad_request", "The day must be written like 2026-11-21."),
        ("clinic=east&day=9999-12-31", 400, "bad_request", "The day must be written like 2026-11-21."),
        ("day=2026-11-23", 400, "bad_request", "Say which clinic: east, north."),
        (
            "clinic=east&lang=SECRET",
            422,
            "not_valid",
            "The request does not fit: lang: Input should be 'en' or 'zh'.",
        ),
    ],
)
def test_every_error_has_one_shape(
    app: Any, client: TestClient, query: str, status: int, code: str, message: str
) -> None:
    _publish(app)
    answer = client.get(f"/api/v1/schedule?{query}")
    assert answer.status_code == status
    assert answer.json() == {"error": {"code": code, "message": message}}


def test_nothing_published_and_nothing_there(client: TestClient) -> None:
    answer = client.get("/api/v1/schedule")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert "`revisit score`" in answer.json()["error"]["message"]
    assert client.get("/api/nothing").json()["error"]["code"] == "not_found"
    token = re.search(r'csrf_token" value="([^"]+)"', client.get("/schedule").text)
    assert token is not None
    wrong = client.post("/api/v1/schedule", json={}, headers={"X-CSRF-Token": token[1]})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


def test_errors_of_ours_keep_their_status(app: Any, client: TestClient) -> None:
    @app.get("/api/early")
    @needs(SIGNED_IN)
    async def early() -> None:
        raise NotBuiltError("Run `revisit features` first.")

    answer = client.get("/api/early")
    assert answer.status_code == 503
    assert answer.json()["error"] == {"code": "not_ready", "message": "Run `revisit features` first."}


def test_what_breaks_inside_tells_nothing(app: Any, client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/api/broken/{patient}")
    @needs(OPEN)
    async def broken(patient: str) -> None:
        raise ValueError(f"王小明 {patient}")

    with caplog.at_level(logging.INFO):
        answer = client.get("/api/broken/p-777")
    assert answer.status_code == 500
    assert answer.json() == {"error": {"code": "internal_error", "message": "Something broke on our side."}}
    assert "ValueError" in caplog.text
    assert "/api/broken/{patient}" in caplog.text
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name == "revisit.web")
    assert "王小明" not in logged
    assert "p-777" not in logged


def test_looking_is_recorded(app: Any, client: TestClient) -> None:
    _publish(app)
    client.get("/api/v1/schedule?clinic=east&day=2026-11-23")
    with app.state.web.engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM audit_log ORDER BY audit_id DESC")).mappings().first()
    assert row is not None
    assert (row["username"], row["action"], row["clinic_id"]) == ("mei", "api_schedule", "east")
    assert (str(row["day"]), row["row_count"]) == ("2026-11-23", 16)
    assert row["model_version"] == "no_show_booking v3, no_show_evening v3"


def test_openapi_describes_the_answers(client: TestClient) -> None:
    schema = client.get("/api/v1/openapi.json").json()
    assert {"/api/v1/schedule", "/api/v1/clinics", "/api/v1/audit", "/api/v1/recall/lists"} <= set(schema["paths"])
    responses = schema["paths"]["/api/v1/schedule"]["get"]["responses"]
    assert responses["200"]["content"]["application/json"]["schema"]["$ref"].endswith("ScheduleAnswer")
    for status in ("400", "401", "404", "422", "503"):
        assert responses[status]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorAnswer")


def test_a_day_outside_summer_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone = ZoneInfo("Europe/Berlin")
    settings = Settings.model_validate({"practice": {"time_zone": "Europe/Berlin"}, "paths": {"data": tmp_path}})
    app = create_app(settings, Options())
    engine = app.state.web.engine
    auth.create_user(engine, "mei", "correct horse", "front_desk", "Mei")
    client = TestClient(app)
    client.cookies.set("revisit_session", auth.sign_in(engine, "mei", "correct horse", now()))
    sample = sample_day(date(2026, 10, 25), zone, 4)
    publish_schedule(engine, sample.bookings, [], {}, as_of=sample.as_of, published_at=sample.published_at)
    body = client.get("/api/v1/schedule?day=2026-10-25").json()
    engine.dispose()
    assert body["bookings"][0]["starts_at"] == "2026-10-25T08:30:00+01:00"
    assert timedelta(0) < sample.published_at - sample.as_of


def test_the_web_worker_stays_light(tmp_path: Path) -> None:
    code = """
import sys
from features.settings import load_settings
import serving.service
assert not any(name.startswith("serving.app") for name in sys.modules), "made at import"
serving.service.pages.open()
heavy = {"feast", "mlflow", "lightgbm", "sklearn", "pandas", "duckdb", "numpy", "deltalake", "training"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    environment = {
        "REVISIT_DATA": str(tmp_path / "data"),
        "BENTOML_HOME": str(tmp_path / "home"),
        "PATH": "/usr/bin",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]"
