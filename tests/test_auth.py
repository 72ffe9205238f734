"""Who gets in, and what a request may carry."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from features.settings import Paths, Settings
from serving import auth, db
from serving.app import create_app
from serving.clock import now
from serving.guard import MAX_BODY, SECURITY_HEADERS
from serving.web import Options, local_path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.10 asks for httpx2; httpx is what MLflow and others bring
    from fastapi.testclient import TestClient

NOW = datetime(2026, 11, 23, 1, tzinfo=UTC)
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def _cheap_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = auth.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(auth, "_hasher", lambda: cheap)
    auth._decoy.cache_clear()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(paths=Paths(data=tmp_path))


@pytest.fixture
def engine(settings: Settings) -> Iterator[Any]:
    made = db.engine(settings.application_database)
    db.upgrade(made)
    auth.create_user(made, "mei", PASSWORD, "front_desk", "Mei")
    yield made
    made.dispose()


@pytest.fixture
def client(settings: Settings, engine: object) -> Iterator[TestClient]:
    app = create_app(settings, Options())
    yield TestClient(app, follow_redirects=False)
    app.state.web.engine.dispose()


def _csrf(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def _sign_in(client: TestClient, password: str = PASSWORD, **fields: str) -> Any:
    token = _csrf(client.get("/sign-in").text)
    return client.post("/sign-in", data={"username": "mei", "password": password, "csrf_token": token} | fields)


def _paths(app: Any) -> set[str]:
    found = {"/api/v1/openapi.json", "/api/docs", "/docs", "/redoc", "/openapi.json", "/nowhere", "/schema.json"}
    pending = list(app.routes)
    while pending:
        route = pending.pop()
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        pending += list(getattr(inner, "routes", []))
        if path := getattr(route, "path", None):
            found.add(path)
    return found


def test_everything_but_the_door_needs_a_session(client: TestClient) -> None:
    paths = _paths(client.app)
    assert {"/schedule", "/schedule/board", "/sign-out", "/"} <= paths
    for path in paths:
        is_open = path in ("/sign-in", "/healthz", "/cds-services", "/fhir/metadata") or path.startswith(
            ("/static", "/language")
        )
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
            answer = client.request(method, path)
            if path.startswith(("/api", "/metrics", "/cds-services/", "/fhir")) and not is_open:
                assert answer.status_code == 401, (method, path)
                if method != "HEAD" and path.startswith("/fhir"):
                    assert answer.json()["issue"][0]["code"] == "login"
                elif method != "HEAD":
                    assert answer.json()["error"]["code"] == "not_signed_in"
            elif not is_open:
                assert answer.status_code == 303, (method, path)
                assert answer.headers["location"].startswith("/sign-in")


def test_websockets_are_refused(client: TestClient) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/schedule"):
        pass


def test_signing_in_and_out(client: TestClient) -> None:
    answer = _sign_in(client, next="/schedule?day=2026-11-23")
    assert (answer.status_code, answer.headers["location"]) == (303, "/schedule?day=2026-11-23")
    page = client.get("/schedule")
    assert page.status_code == 200
    assert client.get("/sign-in").status_code == 303
    held = client.cookies["revisit_session"]
    assert client.post("/sign-out", data={"csrf_token": _csrf(page.text)}).status_code == 303
    client.cookies.set("revisit_session", held)
    assert client.get("/schedule").status_code == 303, "the token is worth nothing after signing out"


def test_cookies_are_kept_from_scripts_and_other_sites(settings: Settings, engine: object) -> None:
    for is_secure in (False, True):
        app = create_app(settings, Options(has_secure_cookies=is_secure))
        client = TestClient(app, follow_redirects=False, base_url="https://desk.example")
        cookies = _sign_in(client).headers.get_list("set-cookie")
        session = next(cookie for cookie in cookies if cookie.startswith(app.state.web.options.session_cookie))
        for flag in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=28800"):
            assert flag in session
        assert ("Secure" in session) == is_secure == session.startswith("__Host-")
        assert ("strict-transport-security" in client.get("/sign-in").headers) == is_secure
        app.state.web.engine.dispose()


def test_a_planted_session_is_not_taken_over(client: TestClient, engine: Any) -> None:
    client.cookies.set("revisit_session", "planted")
    answer = _sign_in(client)
    issued = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("revisit_session"))
    assert "planted" not in issued
    assert auth.find_session(engine, "planted", now()) is None


def test_signing_in_again_ends_the_old_session(client: TestClient, engine: Any) -> None:
    token = _csrf(client.get("/sign-in").text)
    form_cookie = client.cookies["revisit_form"]
    _sign_in(client)
    old = client.cookies["revisit_session"]
    client.cookies.set("revisit_form", form_cookie)
    client.post("/sign-in", data={"username": "mei", "password": PASSWORD, "csrf_token": token})
    assert auth.find_session(engine, old, now()) is None


def test_tokens_are_stored_hashed_and_expire(engine: Any) -> None:
    token = auth.sign_in(engine, "MEI ", PASSWORD, NOW)
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT * FROM user_sessions")).one()
    assert token not in map(str, stored)
    assert auth.find_session(engine, token, NOW + timedelta(minutes=59)) is not None
    assert auth.find_session(engine, token, NOW + timedelta(hours=1)) is None, "it has idled out"
    for hour in range(1, 9):
        auth.note_presence(engine, token, NOW + timedelta(minutes=59 * hour))
    assert auth.find_session(engine, token, NOW + timedelta(hours=7, minutes=59)) is not None
    assert auth.find_session(engine, token, NOW + timedelta(hours=8)) is None, "nor does it last for ever"
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET is_disabled = true"))
    assert auth.find_session(engine, token, NOW) is None
    with pytest.raises(auth.SignInRefusedError):
        auth.sign_in(engine, "mei", PASSWORD, NOW)


def test_passwords_are_argon2id(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    engine = db.engine(settings.application_database)
    db.upgrade(engine)
    auth.create_user(engine, "an", "ten letters", "manager", "An")
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT password_hash FROM users")).scalar_one()
    engine.dispose()
    assert stored.startswith("$argon2id$v=19$m=65536,")


def test_accounts_out_of_bounds_are_refused(engine: Any) -> None:
    for name, password, role in (
        ("", PASSWORD, "admin"),
        ("x" * 65, PASSWORD, "admin"),
        ("an", "short", "admin"),
        ("an", PASSWORD, "owner"),
        ("MEI", PASSWORD, "admin"),
    ):
        with pytest.raises(auth.AccountError):
            auth.create_user(engine, name, password, role, "An")


@pytest.mark.parametrize("name", ["mei", "nobody"])
def test_five_failures_lock_the_name_for_five_minutes(engine: Any, name: str) -> None:
    for _ in range(auth.LOCK_AFTER):
        with pytest.raises(auth.SignInRefusedError):
            auth.sign_in(engine, name, "wrong", NOW)
    with pytest.raises(auth.SignInLockedError):
        auth.sign_in(engine, name, PASSWORD, NOW + timedelta(minutes=4, seconds=59))
    if name == "mei":
        assert auth.sign_in(engine, name, PASSWORD, NOW + timedelta(minutes=5))


def test_a_success_wipes_the_count(engine: Any) -> None:
    for _ in range(3):
        for _ in range(auth.LOCK_AFTER - 1):
            with pytest.raises(auth.SignInRefusedError):
                auth.sign_in(engine, "mei", "wrong", NOW)
        assert auth.sign_in(engine, "mei", PASSWORD, NOW)


def test_the_page_tells_neither_name_nor_password(client: TestClient) -> None:
    answers = [_sign_in(client, "wrong"), _sign_in(client, username="nobody")]
    assert {answer.status_code for answer in answers} == {401}
    for answer in answers:
        assert "The user name or the password is wrong." in answer.text
    for _ in range(4):
        last = _sign_in(client, "wrong")
    assert _sign_in(client).status_code == 429
    assert last.status_code in (401, 429)


def test_forms_need_their_token(client: TestClient) -> None:
    client.get("/sign-in")
    data = {"username": "mei", "password": PASSWORD}
    assert client.post("/sign-in", data=data).status_code == 403
    assert client.post("/sign-in", data=data | {"csrf_token": "guess"}).status_code == 403
    _sign_in(client)
    assert client.post("/sign-out", data={"csrf_token": "guess"}).status_code == 403
    assert client.get("/schedule").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}],
)
def test_other_sites_cannot_post(client: TestClient, headers: dict[str, str]) -> None:
    token = _csrf(client.get("/sign-in").text)
    data = {"username": "mei", "password": PASSWORD, "csrf_token": token}
    assert client.post("/sign-in", data=data, headers=headers).status_code == 403


def test_bodies_are_bounded_and_of_one_kind(client: TestClient) -> None:
    token = _csrf(client.get("/sign-in").text)
    assert client.post("/sign-in", data={"csrf_token": token, "x": "y" * MAX_BODY}).status_code == 413
    chunks = (b"x" * 4096 for _ in range(20))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/sign-in", content=chunks, headers=form).status_code == 413
    assert client.post("/sign-in", json={"csrf_token": token}).status_code == 415
    assert client.post("/sign-in", files={"csrf_token": b"x"}).status_code == 415
    _sign_in(client)
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = client.post("/api/v1/schedule", content=b"{}", headers={"Content-Type": media})
        assert answer.status_code == 415
        assert answer.json()["error"]["code"] == "unsupported_media_type"
    assert client.post("/api/v1/schedule", json={}).status_code == 403, "JSON needs the token in X-CSRF-Token"


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    for path in ("/sign-in", "/schedule", "/api/v1/schedule", "/static/revisit.css", "/static/none", "/healthz"):
        headers = client.get(path).headers
        for name, value in SECURITY_HEADERS.items():
            assert headers[name] == value, path
        assert headers["cache-control"] == ("public, max-age=86400" if "/static/" in path else "no-store")
    assert "unsafe" not in SECURITY_HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/a\nb", ""],
)
def test_no_link_leads_away(target: str) -> None:
    assert local_path(target) == "/"
