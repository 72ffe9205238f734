"""A real browser against the real BentoML server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from features.settings import Paths, Settings
from serving import db
from serving.auth import create_user
from serving.clock import now, today
from serving.explanation import Reason
from serving.patients import Patient, PatientScore, store_patients
from serving.sample_day import sample_day
from serving.schedule import publish_schedule

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)"),
]
PASSWORD = "correct horse"


@dataclass
class Server:
    url: str
    settings: Settings
    process: subprocess.Popen[bytes]
    log: Path

    def publish(self, count: int) -> None:
        engine = db.engine(self.settings.application_database)
        sample = sample_day(today(self.settings.zone), self.settings.zone, count)
        publish_schedule(
            engine,
            sample.bookings,
            sample.scores,
            sample.clinics,
            as_of=sample.as_of,
            published_at=sample.published_at,
        )
        store_patients(engine, *_people([b.patient_id for b in sample.bookings]))
        engine.dispose()


def _people(ids: list[str]) -> tuple[list[Patient], dict[str, Any], list[PatientScore]]:
    """All are overdue; the second has a visit on record and is at risk."""
    at = now()
    people = [
        Patient(key, "east", f"Person {key}", 1980, None, None, True, (), 60, 1, 1, 5000, 0, 0, 0, True, at)
        for key in ids
    ]
    visit = {"clinician": "Dr. Lin", "clinic": "east", "has_time": True, "id": "a0", "at": 1_780_000_000}
    card = {"visits": [visit | {"status": "completed", "service": "hygiene"}], "consents": {"sms": False}}
    score = PatientScore(ids[1], "lapse", 0.6, "model", "1", True, (Reason("tenure", 1, 0.4, {"visits": 3}),), at, at)
    return people, {ids[1]: card}, [score]


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _wait(server: Server) -> None:
    for _ in range(240):
        assert server.process.poll() is None, server.log.read_text()
        try:
            urllib.request.urlopen(f"{server.url}/readyz", timeout=2).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
        else:
            return
    raise AssertionError(server.log.read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("web")
    settings = Settings(paths=Paths(data=folder / "data"))
    port, log = _free_port(), folder / "log"
    environment = os.environ | {
        "REVISIT_DATA": str(folder / "data"),
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "REVISIT_DEMO": "0",
    }
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:Revisit", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    server = Server(f"http://127.0.0.1:{port}", settings, process, log)
    try:
        _wait(server)
        engine = db.engine(settings.application_database)
        create_user(engine, "mei", PASSWORD, "front_desk", "Mei Lin")
        create_user(engine, "an", PASSWORD, "marketing", "An")
        create_user(engine, "boss", PASSWORD, "manager", "Boss")
        engine.dispose()
        server.publish(16)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


@dataclass
class Visit:
    page: Any
    trouble: list[str]
    hosts: set[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(params=["desktop", "phone"])
def visit(request: pytest.FixtureRequest, server: Server, browser: Any) -> Iterator[Visit]:
    size = {"width": 390, "height": 844} if request.param == "phone" else {"width": 1280, "height": 900}
    context = browser.new_context(viewport=size, base_url=server.url)
    page = context.new_page()
    found = Visit(page, [], set())
    page.on("console", lambda message: found.trouble.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: found.trouble.append(str(error)))
    page.on("request", lambda sent: found.hosts.add(sent.url.split("/")[2]))
    page.goto("/")
    page.fill("#username", "mei")
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/schedule*")
    yield found
    context.close()


def _rows(page: Any) -> int:
    return int(page.locator("#board tbody tr").count())


def test_a_front_desk_morning(server: Server, visit: Visit) -> None:
    page = visit.page
    assert _rows(page) == 16
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("link", name="Flagged only").click()
    page.wait_for_url("**only=flagged*")
    assert _rows(page) == 16, "all are overdue, the one who is here too"
    page.get_by_role("link", name="No-show risk").click()
    page.wait_for_url("**only=no_show*")
    assert _rows(page) == 6
    page.get_by_role("link", name="中文").click()
    page.wait_for_selector('html[lang="zh-CN"]')
    assert _rows(page) == 6, "the filter outlives the language"
    assert page.get_by_text("电话确认").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("link", name="English").click()
    page.wait_for_selector('html[lang="en"]')
    page.get_by_role("link", name="Next day").click()
    page.wait_for_selector("text=This day is not published")
    page.locator("#clinic").select_option("north")
    page.wait_for_url("**clinic=north*")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in*")
    assert visit.trouble == []
    assert visit.hosts == {server.url.split("/")[2]}


def test_polling_brings_a_new_publication(server: Server, visit: Visit) -> None:
    page = visit.page
    answers: list[int] = []
    page.on("response", lambda got: answers.append(got.status) if "/schedule/board" in got.url else None)
    poll = """htmx.ajax('GET', document.getElementById('board').getAttribute('hx-get'),
        {source: '#board', target: '#board', swap: 'outerHTML'})"""
    page.evaluate(poll)
    assert _rows(page) == 16
    server.publish(5)
    page.evaluate(poll)
    page.wait_for_function("document.querySelectorAll('#board tbody tr').length === 5")
    assert answers == [304, 200]
    server.publish(16)
    assert visit.trouble == []


def test_keyboard_and_print(server: Server, visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.emulate_media(media="print")
    assert not page.locator("#board .name").first.is_visible()
    assert page.locator("#board .initials").first.is_visible()
    assert visit.trouble == []


def _as(visit: Visit, username: str) -> Any:
    page = visit.page
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in*")
    page.goto("/")
    page.fill("#username", username)
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_load_state()
    return page


def test_a_week_of_recall(server: Server, visit: Visit, recall_list: Callable[..., int]) -> None:
    engine = db.engine(server.settings.application_database)
    recall_list(engine, now())
    engine.dispose()
    page = _as(visit, "an")
    page.wait_for_url("**/recall")
    assert page.get_by_role("navigation").get_by_role("link").all_inner_texts() == ["Recall"]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("button", name="Start this list").click()
    page.wait_for_selector("text=0 of 6 done")
    rows = page.locator("table.recall tbody tr")
    rows.nth(0).get_by_role("button", name="Booked", exact=True).click()
    page.wait_for_selector("text=1 of 6 done")
    assert rows.nth(0).locator(".status").inner_text() == "Booked"
    assert _faults(page) == []
    page.emulate_media(color_scheme="dark")
    assert _faults(page) == []
    rows.nth(0).get_by_role("button", name="Undo").press("Enter")
    page.wait_for_selector("text=0 of 6 done")
    assert rows.count() == 6
    with page.expect_download() as handed_out:
        page.get_by_role("link", name="CSV").click()
    assert handed_out.value.suggested_filename.endswith(".csv")
    assert visit.trouble == []


def test_a_managers_forecast(server: Server, visit: Visit, store_forecast: Callable[..., None]) -> None:
    store_forecast(server.settings, now())
    page = _as(visit, "boss")
    page.get_by_role("link", name="Forecast").click()
    page.wait_for_selector(".fan-chart canvas")
    before = page.locator("[data-readout]").inner_text()
    assert before.startswith("Oct 2026 · Expected: 400 (336 to 464)")
    page.locator(".fan-chart").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("[data-readout]").inner_text().startswith("Sep 2026 · What came: 583")
    inked = """() => { const c = document.querySelector('.fan-chart canvas');
        return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(value => value > 0); }"""
    assert page.evaluate(inked)
    page.locator("#series").select_option("clinic:north")
    page.wait_for_url("**series=clinic*north*")
    assert page.get_by_role("heading", level=1).inner_text() == "Visits · North Gate · 北门"
    page.get_by_text("The same as a table").click()
    assert page.locator("#months-table tbody tr").count() == 36
    assert _faults(page) == []
    page.emulate_media(color_scheme="dark")
    assert _faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert visit.trouble == []


def test_bentoml_shows_nothing_of_its_own(server: Server) -> None:
    class Still(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: Any, **kwargs: Any) -> None:
            return None

    opener = urllib.request.build_opener(Still)
    for path in (
        "/",
        "/schema.json",
        "/docs.json",
        "/metrics",
        "/schedule",
        "//schema.json",
        "/assets/index.js",
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            opener.open(server.url + path)
        if path == "/metrics":  # ours, and for a key alone
            assert caught.value.code == 401
        else:
            assert caught.value.code == 303, path
            assert caught.value.headers["location"].startswith("/sign-in")
        caught.value.close()
    log = server.log.read_text()
    for secret in ("王雨桐", "王小明", "p7919", "mei", "a002"):
        assert secret not in log


AXE = Path(__file__).parent / "axe" / "axe.min.js"


def _faults(page: Any) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA on the page as it stands, once its colours have stopped changing."""
    page.wait_for_timeout(400)
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    page.evaluate(AXE.read_text(encoding="utf-8"))  # past the policy that keeps pages from foreign scripts
    found = page.evaluate("rules => axe.run({runOnly: rules})", rules)
    return [f"{one['id']}: {one['nodes'][0]['html'][:150]}" for one in found["violations"]]


def test_the_desks_path_by_keyboard_and_without_barriers(server: Server, visit: Visit) -> None:
    page = visit.page
    assert _faults(page) == []
    done = page.get_by_role("button", name="Done: Offer the next visit before leaving").first
    done.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=/done \\d\\d:\\d\\d, mei/")
    undo = page.get_by_role("button", name="Undo").first
    assert undo.evaluate("element => element === document.activeElement"), "the hand stays where it was"
    page.keyboard.press("Enter")
    page.wait_for_selector(".settled", state="detached")
    page.get_by_role("link", name="Patients").click()
    page.fill("#words", "person p")
    page.keyboard.press("Enter")
    page.wait_for_selector("#found .people")
    assert page.url.endswith("/patients"), "nothing of a name in the address"
    assert _faults(page) == []
    page.locator("#found a").nth(1).click()
    page.wait_for_selector("text=Timeline")
    assert _faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("button", name="Note it").click()
    page.wait_for_selector("text=Being taken in")
    page.emulate_media(color_scheme="dark")
    assert _faults(page) == []
    assert visit.trouble == []
