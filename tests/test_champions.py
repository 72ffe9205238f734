"""New champions while the service runs: taken in one step, or left where they are if they are of no use."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from features.contracts import NO_SHOW_BOOKING, NO_SHOW_EVENING
from features.errors import ModelError
from features.settings import Settings
from serving import auth
from serving.app import create_app
from serving.clock import now
from serving.models import CHAMPION, Champions, find_champion
from serving.schedule import read_publication
from serving.scorer import Job, Scorer, follow_champions, work
from serving.scoring import score
from serving.web import Options

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.10 asks for httpx2; httpx is what MLflow and others bring
    from fastapi.testclient import TestClient

NAME = NO_SHOW_EVENING.name


@dataclass
class Registry:
    """The trained practice's registry, to which versions are added; the alias goes back at the end."""

    settings: Settings
    client: Any
    first: str

    def add(self, *, fingerprint: str = NO_SHOW_EVENING.fingerprint, is_broken: bool = False) -> str:
        """Register the first version's model once more; its files gone if `is_broken`."""
        version = self.client.get_model_version(NAME, self.first)
        source, made = version.source, {"fingerprint": fingerprint}
        if is_broken:
            source = (self.settings.paths.mlruns / "artifacts" / "nothing").as_posix()
            Path(source).mkdir(exist_ok=True)
        return str(self.client.create_model_version(NAME, source, version.run_id, tags=made).version)

    def name(self, version: str) -> None:
        """Let the alias point to a version."""
        self.client.set_registered_model_alias(NAME, CHAMPION, version)


@pytest.fixture
def registry(trained_practice: Any) -> Iterator[Registry]:
    from training.registry import connect

    settings = trained_practice.settings
    client = connect(settings)
    champion = find_champion(settings, NO_SHOW_EVENING)
    assert champion is not None, "the fixture's seed promotes both"
    made = Registry(settings, client, champion.number)
    yield made
    made.name(champion.number)
    for version in client.search_model_versions(f"name = '{NAME}'"):
        if version.version != champion.number and int(version.version) > int(champion.number):
            client.delete_model_version(NAME, version.version)


@pytest.fixture
def moment(trained_practice: Any) -> Any:
    return trained_practice.simulated.plan.now


def test_no_request_fails_while_a_champion_changes(
    registry: Registry, moment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = registry.settings
    score(settings, moment)
    cheap = auth.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(auth, "_hasher", lambda: cheap)
    app = create_app(settings, Options(requests_per_minute=10**9))
    engine = app.state.web.engine
    if auth.find_session(engine, "x", now()) is None:
        auth.create_user(engine, f"load{registry.first}", "correct horse", "front_desk", "Load")
    token = auth.sign_in(engine, f"load{registry.first}", "correct horse", now())
    day = moment.astimezone(settings.zone).date().isoformat()  # scored the evening before
    over, statuses, seen = threading.Event(), [], set()

    def ask(path: str) -> None:
        client = TestClient(app, raise_server_exceptions=False)
        client.cookies.set("revisit_session", token)
        while not over.is_set():
            answer = client.get(path)
            statuses.append(answer.status_code)
            if path.startswith("/api"):
                for booking in answer.json()["bookings"]:
                    seen.add((booking["risk"] or {}).get("model_version"))

    asking = [threading.Thread(target=ask, args=(f"{path}?day={day}",)) for path in ("/api/v1/schedule", "/schedule")]
    for thread in asking:
        thread.start()
    try:
        scorer = Scorer(settings)
        second = registry.add()
        registry.name(second)
        follow_champions(scorer, moment)
        publication = read_publication(engine)
        assert publication is not None
        assert publication.model_versions[NAME] == second
        for useless in (registry.add(fingerprint="of another contract"), registry.add(is_broken=True)):
            registry.name(useless)
            follow_champions(scorer, moment)
            held = scorer.champions.get(NAME)
            assert held is not None
            assert held.version.number == second, "kept"
            assert f"version {useless}" in scorer.champions.problems[NAME]
            unchanged = read_publication(engine)
            assert unchanged is not None
            assert unchanged.publication_id == publication.publication_id
        report = score(settings, moment)
        assert report.scored[NAME] > 0, "the night's run goes on with the last one that was of use"
        assert len(report.problems) == 1
        again = read_publication(engine)
        assert again is not None
        assert again.model_versions[NAME] == second
        until = len(statuses) + 4
        while len(statuses) < until and all(thread.is_alive() for thread in asking):
            over.wait(0.01)
    finally:
        over.set()
        for thread in asking:
            thread.join()
        engine.dispose()
    assert len(statuses) >= 6
    assert set(statuses) == {200}
    assert {registry.first, second} <= seen


def test_scoring_goes_on_while_champions_are_exchanged(registry: Registry, trained_practice: Any) -> None:
    champions = Champions(registry.settings)
    rows = trained_practice.examples(NAME).head(3)
    over, wrong, done = threading.Event(), [], []

    def use() -> None:
        while not over.is_set():
            champion = champions.get(NAME)
            answer = champion.score(rows)["probability"] if champion else None
            done.append(1)
            if answer is None or not answer.between(0, 1).all():
                wrong.append(answer)

    users = [threading.Thread(target=use) for _ in range(2)]
    for thread in users:
        thread.start()
    try:
        for version in (registry.add(), registry.add(is_broken=True), registry.first):
            registry.name(version)
            champions.refresh()
    finally:
        over.set()
        for thread in users:
            thread.join()
    assert done
    assert wrong == []
    assert champions.refresh() == [], "nothing new"


def test_without_a_champion_before_it_a_useless_one_is_an_error(registry: Registry, moment: Any) -> None:
    registry.name(registry.add(fingerprint="of another contract"))
    champions = Champions(registry.settings)
    assert champions.get(NAME) is None
    assert champions.get(NO_SHOW_BOOKING.name) is not None, champions.problems
    with pytest.raises(ModelError, match="was trained for contract"):
        score(registry.settings, moment, champions)


def test_a_job_that_fails_ends_no_other(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    turns: list[str] = []

    def fail(_scorer: Scorer, _at: Any) -> None:
        turns.append("failed")
        raise ValueError("Li Lei")

    jobs = [Job("fails", 0.0, fail), Job("works", 0.0, lambda _scorer, _at: turns.append("worked"))]
    scorer = Scorer(registry.settings)
    work(scorer, jobs, lambda: len(turns) >= 4)
    scorer.engine.dispose()
    assert turns == ["failed", "worked"] * 2
    assert "fails failed: ValueError" in caplog.text
    assert "Li Lei" not in "".join(record.getMessage() for record in caplog.records)


def test_before_the_first_publication_there_is_nothing_to_follow(registry: Registry, tmp_path: Path) -> None:
    settings = registry.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'fresh.db'}"})
    scorer = Scorer(settings)
    follow_champions(scorer, now())
    assert read_publication(scorer.engine) is None
    scorer.engine.dispose()
