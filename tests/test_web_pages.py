"""The pages: their contexts, their languages, their empty states, their escaping."""

from __future__ import annotations

import hashlib
import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from sqlalchemy import text

import serving
from features.settings import NoShow, Paths, Settings
from serving import auth, pages
from serving.app import create_app
from serving.clock import now
from serving.day_strip import HEIGHT, WIDTH, strip
from serving.render import PageContext, Renderer, context_values
from serving.sample_day import sample_day
from serving.schedule import publish_schedule
from serving.web import Options

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.10 asks for httpx2; httpx is what MLflow and others bring
    from fastapi.testclient import TestClient

ZONE = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 11, 23)
HERE = Path(serving.__file__).parent
HOSTILE = "<script>alert('x')</script>\" onload=\"y"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Any]:
    made = create_app(Settings(paths=Paths(data=tmp_path)), Options(is_demo=True))
    yield made
    made.state.web.engine.dispose()


@pytest.fixture
def client(app: Any, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    engine = app.state.web.engine
    cheap = auth.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(auth, "_hasher", lambda: cheap)
    auth.create_user(engine, "mei", "correct horse", "front_desk", "Mei & Co")
    made = TestClient(app, follow_redirects=False)
    made.cookies.set("revisit_session", auth.sign_in(engine, "mei", "correct horse", now()))
    return made


def _publish(app: Any, day: date = DAY, name: str | None = None) -> None:
    sample = sample_day(day, ZONE)
    bookings = [replace(b, patient_name=name or b.patient_name) for b in sample.bookings]
    publish_schedule(
        app.state.web.engine,
        bookings,
        sample.scores,
        sample.clinics,
        as_of=sample.as_of,
        published_at=sample.published_at,
    )


def _text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_a_page_is_a_dataclass_and_a_template_of_the_same_name() -> None:
    names = {path.stem for path in (HERE / "templates").glob("*.html") if not path.name.startswith("_")}
    assert names == {page.__name__.rpartition(".")[2] for page in pages.PAGES}
    for page in pages.PAGES:
        contexts = [
            found
            for _, found in inspect.getmembers(page, inspect.isclass)
            if issubclass(found, PageContext) and found is not PageContext
        ]
        assert len(contexts) == 1, page.__name__
        assert is_dataclass(contexts[0])
        assert contexts[0].__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_templates_get_the_fields_and_nothing_else(
    app: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[str]] = {}
    partial = Renderer.partial

    def spy(self: Renderer, code: str, template: str, values: dict[str, Any]) -> str:
        seen[template] = set(values)
        return partial(self, code, template, values)

    monkeypatch.setattr(Renderer, "partial", spy)
    _publish(app)
    client.get("/schedule?day=2026-11-23")
    client.get("/nothing")
    client.cookies.clear()
    client.get("/sign-in")
    for page, context in (("schedule", "SchedulePage"), ("error", "ErrorPage"), ("sign_in", "SignInPage")):
        module = next(found for found in pages.PAGES if found.__name__.endswith(f".{page}"))
        assert seen[f"{page}.html"] == {field.name for field in fields(getattr(module, context))}
    assert context_values.__doc__


def test_every_used_sentence_is_in_the_catalog() -> None:
    keywords = {"_": None, "gettext": None, "ngettext": (1, 2), "text": None, "count": (1, 2)}
    methods = [("templates/**.html", "jinja2"), ("**.py", "python")]
    options = {"templates/**.html": {"silent": "false"}}
    found = extract_from_dir(
        str(HERE), methods, options, keywords=keywords, directory_filter=lambda path: "migrations" not in path
    )
    used = {message[0] if isinstance(message, tuple) else message for _, _, message, _, _ in found}
    with (HERE / "locale/zh/LC_MESSAGES/messages.po").open("rb") as source:
        catalog = read_po(source, locale="zh")
    known = {entry.id[0] if isinstance(entry.id, tuple) else entry.id for entry in catalog if entry.id}
    assert used - known == set(), "without translation"
    assert known - used == set(), "no longer used"
    for entry in catalog:
        said = entry.string if isinstance(entry.string, tuple) else (entry.string,)
        assert all(said), entry.id
        holes = re.findall(r"%\(\w+\)", str(entry.id))
        assert set(holes) == set(re.findall(r"%\(\w+\)", str(entry.string))), entry.id
    assert not [entry.id for entry in catalog if entry.fuzzy]


def test_nothing_english_is_left_on_chinese_pages(app: Any, client: TestClient) -> None:
    _publish(app, name="王小明")
    client.cookies.set("revisit_language", "zh")
    allowed = r"Revisit demo practice|English|East Lake|North Gate|Mei|Co|amp|Dr|Lin|Xu|RDH|no_show_\w+|v3|demo[-\w]*"
    allowed += r"|revisit score"
    for path in (
        "/schedule?day=2026-11-23&clinic=east",
        "/schedule?day=2027-01-01",
        "/nothing",
        "/schedule?day=x",
    ):
        words = re.findall(r"[A-Za-z]{2,}", re.sub(allowed, "", _text(client.get(path).text)))
        assert words == [], path
    client.cookies.delete("revisit_session")
    page = client.get("/sign-in").text
    assert re.findall(r"[A-Za-z]{2,}", re.sub(allowed, "", _text(page))) == []
    assert 'lang="zh-CN"' in page


def test_the_day_in_words(app: Any, client: TestClient) -> None:
    _publish(app)
    page = client.get("/schedule?clinic=east&day=2026-11-23").text
    said = _text(page)
    for words in (
        "Monday, 23 November",
        "王雨桐",
        "42%",
        "Missed 2 of the last 5 visits",
        "Confirm by phone",
        "Send a reminder",
        "Not scored yet",
        "Arrived",
        "Scores as of 22 Nov, 21:00",
        "no_show_evening v3",
        "A flag is an offer of help, not a verdict on the patient.",
        "Mei &amp; Co",
    ):
        assert words in said
    assert page.count('role="row"') == 17
    assert "<title>Monday, 23 November" in page
    expected = sum(s.probability for s in sample_day(DAY, ZONE).scores if s.contract == "no_show_evening")
    assert f"<dd>{expected + 0.51 * 1.2 + 0.11 * 1.2:.1f}</dd>" in page


def test_filter_and_order(app: Any, client: TestClient) -> None:
    _publish(app)
    flagged = client.get("/schedule?clinic=east&day=2026-11-23&only=flagged&sort=risk").text
    chances = [int(found) for found in re.findall(r"<b>(\d+)%</b>", flagged)]
    assert len(chances) == 6
    assert chances == sorted(chances, reverse=True)
    assert 'name="only" value="flagged"' in flagged, "kept when the day changes"
    assert "Nothing to do" not in flagged


def test_the_first_clinic_is_shown_and_others_can_be_chosen(app: Any, client: TestClient) -> None:
    _publish(app)
    assert '<option value="east" selected>' in client.get("/schedule?day=2026-11-23").text
    assert "No bookings on this day" in client.get("/schedule?day=2026-11-23&clinic=north").text
    missing = client.get("/schedule?clinic=nowhere")
    assert missing.status_code == 404
    assert "This clinic is not published here." in missing.text
    assert client.get("/schedule?day=tomorrow").status_code == 400


def test_empty_states_say_what_to_do(app: Any, client: TestClient) -> None:
    nothing = client.get("/schedule").text
    assert "Nothing is published yet" in nothing
    assert "<code>revisit score</code>" in nothing
    assert client.get("/schedule/board").status_code == 204
    _publish(app)
    outside = _text(client.get(f"/schedule?day={DAY + timedelta(days=9)}").text)
    assert "Bookings are published for Monday, 23 November." in outside
    sample = sample_day(DAY, ZONE)
    calm = [replace(score, probability=0.01) for score in sample.scores]
    publish_schedule(
        app.state.web.engine, sample.bookings, calm, {}, as_of=sample.as_of, published_at=sample.published_at
    )
    assert "Nobody is flagged" in client.get("/schedule?day=2026-11-23&only=flagged").text


def test_polling_costs_nothing_while_nothing_changes(app: Any, client: TestClient) -> None:
    _publish(app)
    page = client.get("/schedule?clinic=east&day=2026-11-23").text
    href = re.search(r'hx-get="([^"]+)"', page)
    token = re.search(r"hx-headers='\{\"If-None-Match\": \"\\\"(\w+)\\\"\"\}'", page)
    assert href is not None
    assert token is not None
    path, etag = href[1].replace("&amp;", "&"), f'"{token[1]}"'
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
    client.cookies.set("revisit_language", "zh")
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 200
    client.cookies.delete("revisit_language")
    _publish(app)
    changed = client.get(path, headers={"If-None-Match": etag, "HX-Request": "true"})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag
    assert changed.text.lstrip().startswith('<section id="board"')
    with app.state.web.engine.connect() as connection:
        acts = connection.execute(text("SELECT action FROM audit_log")).scalars().all()
    assert acts == ["view_schedule", "refresh_schedule", "refresh_schedule"], "a 304 shows nobody anything"


def test_polling_after_the_session_ended_goes_to_the_door(app: Any, client: TestClient) -> None:
    client.cookies.clear()
    answer = client.get("/schedule/board?day=2026-11-23", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["hx-redirect"] == "/sign-in?next=%2Fschedule"


def test_a_hostile_name_is_only_a_name(app: Any, client: TestClient) -> None:
    _publish(app, name=HOSTILE)
    page = client.get("/schedule?clinic=east&day=2026-11-23").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert '" onload="' not in page


@pytest.mark.parametrize("path", ["/schedule?clinic=east&day=2026-11-23", "/nothing", "/sign-in"])
def test_nothing_inline_that_the_policy_would_stop(app: Any, client: TestClient, path: str) -> None:
    _publish(app)
    if path == "/sign-in":
        client.cookies.clear()
    page = client.get(path).text
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|hx-on|https?://", page)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page))
    assert page.count("<h1") == 1
    assert '<a class="skip" href="#main">' in page


def test_the_demo_account_is_shown_in_demo_mode_only(app: Any, tmp_path: Path) -> None:
    assert "<code>demo-front-desk</code>" in TestClient(app).get("/sign-in").text
    plain = create_app(Settings(paths=Paths(data=tmp_path)), Options())
    assert "demo-front-desk" not in TestClient(plain).get("/sign-in").text
    plain.state.web.engine.dispose()


def test_the_practice_language_is_the_default(tmp_path: Path) -> None:
    settings = Settings.model_validate({"practice": {"language": "zh"}, "paths": {"data": tmp_path}})
    app = create_app(settings, Options())
    client = TestClient(app)
    assert "登录" in client.get("/sign-in").text
    switched = client.get("/language/en?next=/sign-in")
    assert "Sign in" in switched.text
    assert client.get("/language/xx", follow_redirects=False).status_code == 404
    app.state.web.engine.dispose()


def test_vendored_files_are_what_they_say() -> None:
    folder = HERE / "static" / "vendor"
    for line in (folder / "vendor.txt").read_text().splitlines():
        if line.startswith("sha256"):
            _, digest, name = line.split()
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_a_day_is_read_once_per_publication(app: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving import published

    reads: list[str] = []
    read = published.read_schedule
    monkeypatch.setattr(published, "read_schedule", lambda *args: [reads.append(args[1]), read(*args)][1])
    _publish(app)
    path = "/schedule?clinic=east&day=2026-11-23"
    assert client.get(path).text == client.get(path).text
    assert reads == ["east"]
    _publish(app, name="Somebody Else")
    assert "Somebody Else" in client.get(path).text
    assert reads == ["east", "east"]


def test_old_scores_say_so(app: Any, client: TestClient) -> None:
    _publish(app, DAY - timedelta(days=900))
    past = (DAY - timedelta(days=900)).isoformat()
    assert "hours old" not in client.get(f"/schedule?clinic=east&day={past}").text
    assert "hours old" in client.get("/schedule?clinic=east").text
    _publish(app, now().astimezone(ZONE).date())
    assert "hours old" not in client.get("/schedule?clinic=east").text


@pytest.mark.parametrize("hour", [0, 3, 12, 22])
@pytest.mark.parametrize("count", [1, 16, 80])
def test_the_strip_holds_one_block_per_booking(hour: int, count: int) -> None:
    sample = sample_day(DAY, ZONE, 16)
    opens = sample.bookings[0].starts_at - timedelta(hours=8, minutes=30) + timedelta(hours=hour)
    scores = {score.appointment_id: score for score in sample.scores}
    bookings = [replace(sample.bookings[n % 16], starts_at=opens + timedelta(minutes=n % 110)) for n in range(count)]
    drawn = strip([(b, scores.get(b.appointment_id)) for b in bookings], ZONE, NoShow())
    assert drawn is not None
    assert len(drawn.blocks) == count
    assert len(drawn.hours) >= 4
    for block in drawn.blocks:
        assert 0 <= block.x <= block.x + block.width <= WIDTH
        assert 0 <= block.y <= block.y + block.height <= HEIGHT
        assert block.width > 0 < block.height
    assert strip([], ZONE, NoShow()) is None
