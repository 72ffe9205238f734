"""Names and phones planted in contact details turn up where they belong, and nowhere else."""

from __future__ import annotations

import re
import sqlite3
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from serving import auth
from serving.app import create_app
from serving.clock import now
from serving.console import print_status
from serving.scoring import score
from serving.status import status
from serving.web import Options

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.10 asks for httpx2; httpx is what MLflow and others bring
    from fastapi.testclient import TestClient

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


def test_no_route_logs_or_answers_what_it_should_not(
    practice: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cheap = auth.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(auth, "_hasher", lambda: cheap)
    app = create_app(practice.settings, Options())
    engine = app.state.web.engine
    auth.create_user(engine, "prying", "correct horse", "admin", "Admin")
    client = TestClient(app, follow_redirects=False)
    client.cookies.set("revisit_session", auth.sign_in(engine, "prying", "correct horse", now()))
    pending, templates = list(app.routes), {"/nothing/{x}", "/api/v1/{x}"}
    while pending:
        route = pending.pop()
        pending += getattr(getattr(route, "original_router", None), "routes", [])
        templates |= {path for path in [getattr(route, "path", None)] if path}
    with practice.listening(), caplog.at_level("DEBUG", "revisit"):
        for template in sorted(templates):
            path = re.sub(r"\{\w+\}", f"{MARKER}-in-path", template)
            for method in ("GET", "POST", "PUT", "DELETE"):
                for sent in ({"json": {"note": f"{MARKER}-in-body"}}, {"data": {"note": f"{MARKER}-in-form"}}):
                    answer = client.request(method, path, params={"q": f"{MARKER}-in-query"}, **sent)
                    if answer.status_code >= 400:
                        assert f"{MARKER}-in-" not in re.sub(r'href="[^"]*"', "", answer.text), (method, template)
        measured = client.get("/metrics").text
    engine.dispose()
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("revisit")]
    assert "/api/v1/schedule" in measured
    assert MARKER not in measured
    assert not any(MARKER in line for line in logged)
    with sqlite3.connect(practice.settings.paths.data / "revisit.db") as con:
        audited = con.execute("SELECT * FROM audit_log").fetchall()
    con.close()
    assert audited
    assert MARKER not in repr(audited)
