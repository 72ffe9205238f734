"""Who may do what: every route by every role, clinics, fields, keys, limits, and attacks on all of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import text

from features.errors import SettingsError
from features.settings import Paths, Settings
from serving import auth, pages
from serving.app import create_app
from serving.clock import now
from serving.db import ROLES
from serving.guard import is_open
from serving.keys import create_key, find_key, list_keys, revoke_key
from serving.permissions import GRANTS, OPEN, SCOPES, SIGNED_IN, needed, needs, permissions_of
from serving.rates import REFUSED_KEYS_PER_MINUTE, SIGN_INS_PER_MINUTE, Rates
from serving.sample_day import sample_day
from serving.schedule import publish_schedule
from serving.web import DEMO_ACCOUNTS, Options

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.10 asks for httpx2; httpx is what MLflow and others bring
    from fastapi.testclient import TestClient

ZONE = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 11, 23)
EVERYBODY, ANYONE_IN = "everybody", " ".join(ROLES)
# The whole table: a route that is not here fails the test, and so does a permission that changes unnoticed.
ROUTES = {
    ("GET", "/"): ANYONE_IN,
    ("GET", "/healthz"): EVERYBODY,
    ("GET", "/sign-in"): EVERYBODY,
    ("POST", "/sign-in"): EVERYBODY,
    ("POST", "/sign-out"): ANYONE_IN,
    ("GET", "/language/{code}"): EVERYBODY,
    ("GET", "/schedule"): "front_desk manager admin",
    ("GET", "/schedule/board"): "front_desk manager admin",
    ("POST", "/schedule/note"): "front_desk admin",
    ("GET", "/patients"): "front_desk admin",
    ("POST", "/patients"): "front_desk admin",
    ("GET", "/patient"): "front_desk admin",
    ("GET", "/patient/live"): "front_desk admin",
    ("POST", "/patient/contact"): "front_desk admin",
    ("POST", "/patient/booking"): "front_desk admin",
    ("POST", "/patient/change"): "front_desk admin",
    ("GET", "/recall"): "front_desk marketing manager admin",
    ("GET", "/recall/waiting"): "front_desk marketing manager admin",
    ("POST", "/recall/ask"): "marketing manager admin",
    ("POST", "/recall/start"): "marketing manager admin",
    ("POST", "/recall/note"): "front_desk marketing manager admin",
    ("POST", "/recall/undo"): "front_desk marketing manager admin",
    ("GET", "/recall/export"): "marketing admin",
    ("GET", "/forecast"): "manager admin",
    ("GET", "/metrics"): "admin",
    ("GET", "/api/v1/openapi.json"): ANYONE_IN,
    ("GET", "/api/v1/schedule"): "front_desk manager admin",
    ("GET", "/api/v1/clinics"): "front_desk manager admin",
    ("GET", "/api/v1/patients"): "front_desk admin",
    ("GET", "/api/v1/patient"): "front_desk admin",
    ("POST", "/api/v1/actions"): "front_desk admin",
    ("GET", "/api/v1/recall/lists"): "front_desk marketing manager admin",
    ("POST", "/api/v1/recall/lists"): "marketing manager admin",
    ("GET", "/api/v1/recall/lists/{list_id}"): "front_desk marketing manager admin",
    ("POST", "/api/v1/recall/lists/{list_id}/start"): "marketing manager admin",
    ("GET", "/api/v1/recall/lists/{list_id}/items"): "front_desk marketing manager admin",
    ("GET", "/api/v1/recall/lists/{list_id}/export"): "marketing admin",
    ("POST", "/api/v1/recall/outcomes"): "front_desk marketing manager admin",
    ("POST", "/api/v1/recall/outcomes/{outcome_id}/undo"): "front_desk marketing manager admin",
    ("GET", "/api/v1/forecasts"): "manager admin",
    ("GET", "/api/v1/forecasts/capacity"): "manager admin",
    ("GET", "/api/v1/forecasts/consumables"): "manager admin",
    ("GET", "/api/v1/audit"): "admin",
    ("POST", "/api/v1/events"): "",
    ("GET", "/api/v1/events"): "",
    ("POST", "/api/v1/events/open-dental"): "",
    ("GET", "/cds-services"): EVERYBODY,
    ("POST", "/cds-services/{service}"): "front_desk admin",
    ("POST", "/cds-services/{service}/feedback"): "front_desk admin",
    ("GET", "/fhir/metadata"): EVERYBODY,
    ("GET", "/fhir/RiskAssessment"): "front_desk admin",
    ("POST", "/fhir/RiskAssessment/_search"): "front_desk admin",
    ("GET", "/fhir/Flag"): "front_desk admin",
    ("POST", "/fhir/Flag/_search"): "front_desk admin",
}
HOSTILE = (
    "' OR 1=1 --",
    "1; DROP TABLE users",
    "{{7919*7907}}${7919*7907}<%= 7919*7907 %>",
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "\x00",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "<script>alert(1)</script>",
    "A" * 5000,
    "-1",
    "9" * 40,
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The application with a published day and one person per role; cheap hashing."""
    with pytest.MonkeyPatch.context() as patch:
        cheap = auth.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr(auth, "_hasher", lambda: cheap)
        auth._decoy.cache_clear()
        options = Options(requests_per_minute=100_000)
        made = create_app(Settings(paths=Paths(data=tmp_path_factory.mktemp("web"))), options)
        engine = made.state.web.engine
        sample = sample_day(DAY, ZONE)
        publish_schedule(
            engine, sample.bookings, sample.scores, sample.clinics, as_of=sample.as_of, published_at=sample.published_at
        )
        for role in ROLES:
            auth.create_user(engine, role, "correct horse", role, role)
        auth.create_user(engine, "east", "correct horse", "front_desk", "East", clinics=["east"])
        auth.create_user(engine, "none", "correct horse", "front_desk", "None", clinics=[])
        auth.create_user(engine, "shown", "correct horse", "admin", "Demo", is_demo=True)
        yield made
        engine.dispose()
        auth._decoy.cache_clear()


def client_of(app: Any, username: str | None = None, key: str | None = None) -> TestClient:
    made = TestClient(app, follow_redirects=False)
    if username:
        made.cookies.set("revisit_session", auth.sign_in(app.state.web.engine, username, "correct horse", now()))
    if key:
        made.headers["Authorization"] = f"Bearer {key}"
    return made


@pytest.fixture
def key(app: Any) -> str:
    return create_key(app.state.web.engine, "reception screen", ["schedule.view"], now())


def declared(app: Any) -> dict[tuple[str, str], Any]:
    """Every route's endpoint by method and path."""
    found, pending = {}, list(app.routes)
    while pending:
        route = pending.pop()
        pending += getattr(getattr(route, "original_router", None), "routes", [])
        if isinstance(route, APIRoute):
            found |= {(method, route.path): route.endpoint for method in route.methods}
    return found


def holders(permission: str | None) -> set[str]:
    return set(ROLES) if permission == SIGNED_IN else {role for role in ROLES if permission in permissions_of(role)}


def test_every_route_declares_what_the_table_says(app: Any) -> None:
    routes = declared(app)
    assert routes.keys() == ROUTES.keys()
    for (method, path), endpoint in routes.items():
        permission = needed(endpoint)
        assert permission is not None, path
        assert (permission == OPEN) == is_open(path.replace("{code}", "en")) == (ROUTES[method, path] == EVERYBODY)
        if permission != OPEN:
            assert holders(permission) == set(ROUTES[method, path].split()), path


@pytest.mark.parametrize("role", ROLES)
def test_every_route_by_every_role(app: Any, role: str) -> None:
    client = client_of(app, role)
    for (method, path), allowed in ROUTES.items():
        if path in ("/sign-in", "/sign-out") and method == "POST":  # tests/test_auth.py
            continue
        here = path.replace("{code}", "en").replace("{list_id}", "1").replace("{outcome_id}", "1")
        status = asked(app, client, role, method, here).status_code
        assert (status != 403) == (allowed == EVERYBODY or role in allowed.split()), path
        assert status < 500 or status == 503, path  # nothing has been forecast here
    first = client.get("/")
    assert (first.status_code, first.headers["location"]) == (303, "/recall" if role == "marketing" else "/schedule")


def asked(app: Any, client: TestClient, role: str, method: str, path: str) -> Any:
    """Ask with what a form or a program's request carries, and nothing else."""
    if method == "GET":
        return client.get(path)
    who = auth.find_session(app.state.web.engine, client.cookies["revisit_session"], now())
    assert who is not None
    if path.startswith(("/api/", "/cds-services", "/fhir")):
        return client.post(path, json={}, headers={"X-CSRF-Token": who.csrf_token})
    return client.post(path, data={"csrf_token": who.csrf_token})


def test_a_route_that_declares_nothing_is_refused(app: Any) -> None:
    @app.get("/api/v1/forgotten")
    async def forgotten() -> None: ...

    answer = client_of(app, "admin").get("/api/v1/forgotten")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")
    with pytest.raises(KeyError):
        needs("schedule.veiw")


def test_pages_of_the_navigation_need_what_their_endpoints_do(app: Any) -> None:
    routes = declared(app)
    for page in pages.IN_NAVIGATION:
        assert needed(routes["GET", page.PATH]) == page.PERMISSION
        assert page.PERMISSION in GRANTS


def test_least_fields_per_role(app: Any) -> None:
    sample = sample_day(DAY, ZONE)
    names = {str(booking.patient_name) for booking in sample.bookings if booking.patient_name}
    path = "/schedule?clinic=east&day=2026-11-23"
    desk, manager = client_of(app, "front_desk").get(path).text, client_of(app, "manager").get(path).text
    assert all(name in desk for name in names)
    assert re.search(r"age \d", desk)
    assert not any(name in manager for name in names)
    assert not re.search(r"age \d", manager)
    assert "王某" in manager


def test_a_clinic_that_is_not_theirs_is_not_there(app: Any) -> None:
    east = client_of(app, "east")
    assert east.get("/api/v1/schedule?clinic=east&day=2026-11-23").status_code == 200
    for path in ("/api/v1/schedule?clinic=north&day=2026-11-23", "/schedule?clinic=north&day=2026-11-23"):
        there, nowhere = east.get(path), east.get(path.replace("north", "nowhere"))
        assert there.status_code == nowhere.status_code == 404
        assert there.text.replace("north", "nowhere") == nowhere.text
    assert [row["clinic"] for row in east.get("/api/v1/clinics").json()["items"]] == ["east"]
    assert "North" not in east.get("/schedule?day=2026-11-23").text
    none = client_of(app, "none")
    assert none.get("/api/v1/clinics").json() == {"items": [], "next": None}
    assert none.get("/api/v1/schedule?clinic=east&day=2026-11-23").status_code == 404
    assert none.get("/schedule").status_code == 200
    assert none.get("/schedule/board").status_code == 204


def test_one_persons_board_is_not_anothers(app: Any) -> None:
    path = "/schedule/board?clinic=east&day=2026-11-23"
    desk = client_of(app, "front_desk").get(path)
    other = client_of(app, "manager").get(path, headers={"If-None-Match": desk.headers["etag"]})
    assert other.status_code == 200
    assert other.headers["etag"] != desk.headers["etag"]


def test_keys_open_what_their_scopes_say_and_no_page(app: Any, key: str) -> None:
    engine = app.state.web.engine
    client = client_of(app, key=key)
    assert client.get("/api/v1/schedule?clinic=east&day=2026-11-23").status_code == 200
    assert client.get("/api/v1/audit").status_code == 403
    assert client.get("/metrics").status_code == 403
    assert client.get("/schedule").status_code == 303, "a key is not for pages"
    with engine.connect() as connection:
        stored = [str(value) for row in connection.execute(text("SELECT * FROM api_keys")) for value in row]
        acts = connection.execute(text("SELECT DISTINCT username FROM audit_log WHERE username LIKE 'key:%'")).all()
    key_id, _, secret = key.partition(".")
    assert not any(secret in value for value in stored)
    assert (f"key:{key_id}",) in acts
    revoke_key(engine, key_id, now())
    assert client.get("/api/v1/clinics").status_code == 401
    with pytest.raises(auth.AccountError):
        revoke_key(engine, "nothing", now())
    assert any(one.key_id == key_id and one.revoked_at for one in list_keys(engine))


def test_keys_end_and_keep_to_their_clinics(app: Any) -> None:
    engine, at = app.state.web.engine, now()
    made = create_key(engine, "one day", ["schedule.view"], at, ["north"], at + timedelta(days=1))
    who = find_key(engine, f"Bearer {made}", at)
    assert who is not None
    assert (who.clinics, who.permissions) == (frozenset({"north"}), frozenset({"schedule.view"}))
    assert find_key(engine, f"Bearer {made}", at + timedelta(days=1)) is None
    assert find_key(engine, f"Basic {made}", at) is None
    assert client_of(app, key=made).get("/api/v1/schedule?clinic=east").status_code == 404
    for scopes in ([], ["schedule.view", "see.names"], ["admin"]):
        with pytest.raises(auth.AccountError):
            create_key(engine, "too much", scopes, at)
    assert {"see.names", "see.phones", "recall.export"}.isdisjoint(SCOPES)


def test_a_wrong_key_is_not_helped_by_a_session(app: Any, key: str) -> None:
    client = client_of(app, "admin", key=key + "x")
    assert client.get("/api/v1/clinics").status_code == 401
    for wrong in ("", "Bearer", "Bearer .", "Bearer é.x", "Bearer " + "a" * 3000, "Basic YTpi"):
        answer = TestClient(app).get("/api/v1/clinics", headers={"Authorization": wrong.encode("latin-1", "replace")})
        assert answer.status_code == 401


def test_demo_accounts_open_in_demo_mode_alone(app: Any, tmp_path: Path) -> None:
    engine = app.state.web.engine
    with pytest.raises(auth.SignInRefusedError):
        auth.sign_in(engine, "shown", "correct horse", now())
    token = auth.sign_in(engine, "shown", "correct horse", now(), is_demo=True)
    assert auth.find_session(engine, token, now(), is_demo=True) is not None
    assert auth.find_session(engine, token, now()) is None
    assert {role for _, _, role in DEMO_ACCOUNTS} == set(ROLES)
    assert all(len(password) >= auth.MIN_PASSWORD for _, password, _ in DEMO_ACCOUNTS)


def test_polling_keeps_no_session_alive(app: Any) -> None:
    engine = app.state.web.engine
    client = client_of(app, "front_desk")
    token = client.cookies["revisit_session"]
    long_ago = now() - timedelta(minutes=50)
    auth.note_presence(engine, token, long_ago)
    polling = {"HX-Request": "true", "If-None-Match": '"x"'}
    assert client.get("/schedule/board?day=2026-11-23", headers=polling).status_code == 200
    assert auth.find_session(engine, token, long_ago + auth.IDLE_LASTS) is None
    client.get("/schedule?day=2026-11-23")
    assert auth.find_session(engine, token, long_ago + auth.IDLE_LASTS) is not None


def test_limits(tmp_path: Path) -> None:
    rates = Rates(3)
    assert [rates.may_ask("mei") for _ in range(5)] == [True, True, True, False, False]
    assert rates.may_ask("an")
    assert sum(rates.may_sign_in("::1") for _ in range(SIGN_INS_PER_MINUTE + 5)) == SIGN_INS_PER_MINUTE
    for _ in range(REFUSED_KEYS_PER_MINUTE):
        assert rates.may_show_key("::1")
        rates.note_refused_key("::1")
    assert not rates.may_show_key("::1")
    with pytest.raises(SettingsError):
        Options.from_environment({"REVISIT_REQUESTS_PER_MINUTE": "many"})


def test_brute_force_is_slowed_by_address_too(tmp_path: Path) -> None:
    app = create_app(Settings(paths=Paths(data=tmp_path)), Options(requests_per_minute=60))
    client = TestClient(app, follow_redirects=False)
    with_key = [
        client.get("/api/v1/clinics", headers={"Authorization": f"Bearer a.{n}"}).status_code for n in range(40)
    ]
    assert with_key == [401] * REFUSED_KEYS_PER_MINUTE + [429] * 10
    statuses = [client.get("/sign-in").status_code for _ in range(40)]
    assert set(statuses) == {200, 429}
    assert sum(status == 200 for status in statuses) == 60 - REFUSED_KEYS_PER_MINUTE
    app.state.web.engine.dispose()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_values_are_values(app: Any, hostile: str) -> None:
    client = client_of(app, "admin")
    for name in ("clinic", "day", "lang", "after", "username", "action", "limit", "only", "sort", "next"):
        for path in ("/api/v1/schedule", "/api/v1/audit", "/api/v1/clinics", "/schedule", "/sign-in"):
            answer = client.get(path, params={name: hostile})
            assert answer.status_code < 500, (path, name)
            assert "<script>alert" not in answer.text
            assert "62615533" not in answer.text
    for folder in ("/static", "/language", "", "/api/v1"):
        answer = client.get(f"{folder}/{quote(hostile, safe='/%')}")
        assert answer.status_code < 500, folder
        assert "root:" not in answer.text
    fresh = TestClient(app, follow_redirects=False)
    token = re.search(r'name="csrf_token" value="([^"]+)"', fresh.get("/sign-in").text)
    assert token is not None
    sent = {"username": hostile, "password": hostile, "csrf_token": token[1], "next": hostile}
    assert fresh.post("/sign-in", data=sent).status_code in (401, 429)
    with app.state.web.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM users")).scalar() == len(ROLES) + 3


@pytest.mark.parametrize(
    "media",
    ["application/vnd.bentoml+pickle", "application/octet-stream", "application/x-python-pickle", "text/plain", ""],
)
def test_pickles_and_their_like_are_refused(app: Any, key: str, media: str) -> None:
    client = client_of(app, key=key)
    body = b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR."
    for path in ("/api/v1/schedule", "/api/v1/clinics", "/metrics", "/schema.json"):
        answer = client.post(path, content=body, headers={"Content-Type": media})
        assert answer.status_code in (415, 303), path
    malformed = client.post("/api/v1/schedule", content=b"{" * 20_000, headers={"Content-Type": "application/json"})
    assert malformed.status_code == 405
    assert (
        client.post("/api/v1/schedule", headers={"Content-Length": "²".encode("latin-1")}, content=b"").status_code
        == 413
    )


def test_too_many_fields_are_refused(app: Any) -> None:
    client = client_of(app)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/sign-in", content="&".join(f"f{n}=1" for n in range(60)), headers=form).status_code == 400


def test_pages_of_the_audit_log(app: Any) -> None:
    client = client_of(app, "admin")
    for _ in range(3):
        client.get("/api/v1/schedule?clinic=east&day=2026-11-23")
    whole = client.get("/api/v1/audit?limit=200").json()["items"]
    got, after = [], None
    while True:
        page = client.get("/api/v1/audit", params={"limit": 7} | ({"after": after} if after else {})).json()
        assert len(page["items"]) <= 7
        got += page["items"]
        after = page["next"]
        if after is None:
            break
    assert got == whole
    assert whole == sorted(whole, key=lambda act: -act["audit_id"])
    assert client.get("/api/v1/audit?action=api_schedule&username=admin&limit=2").json()["items"] == whole[:2]
    assert client.get("/api/v1/audit?after=WyJ4Il0").status_code == 400


def test_metrics_name_templates_alone(app: Any) -> None:
    admin = client_of(app, "admin")
    admin.get("/api/v1/schedule?clinic=east&day=2026-11-23")
    admin.get("/nothing/Zqmarker")
    admin.get("/language/Zqmarker")
    said = admin.get("/metrics").text
    assert 'route="/api/v1/schedule",status="200"' in said
    assert 'route="/language/{code}",status="404"' in said
    assert "revisit_publication_bookings 16.0" in said
    assert "Zqmarker" not in said
    assert "east" not in said
