"""The night's run: each step once, one run at a time, on from where a crash ended."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from filelock import FileLock

from features.errors import SettingsError, StoreError
from features.settings import Nightly, Paths, Settings, Source
from serving import db
from serving.clock import now
from serving.nightly import STEPS, Step, import_sources, newest_run, run_nightly
from serving.schedule import read_publication
from serving.status import status

KILLED = """
import os, signal, sys
from dataclasses import replace
from serving.clock import now
from serving.nightly import STEPS, Step, run_nightly
from features.settings import load_settings
def dying(step):
    def run(settings, at):
        said = step.run(settings, at)
        if step.name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGKILL)  # done, and not yet written down
        return said
    return replace(step, run=run)
light = [Step(name, lambda settings, at: "done") for name in sys.argv[2:]]
run_nightly(load_settings(), now, [dying(step) for step in light or STEPS])
"""


@pytest.fixture
def practice(small_practice: Any, tmp_path: Path) -> Settings:
    """The small practice's export, configured and not yet imported."""
    shutil.copytree(small_practice.root / "export", tmp_path / "export")
    (tmp_path / "practice.toml").write_text(
        '[nightly]\nsources = [{ path = "$DESK_EXPORT", mapping = "export/mapping.toml" }]\n'
    )
    return Settings(
        paths=Paths(data=tmp_path / "data", mlruns=tmp_path / "mlruns"),
        nightly=Nightly(sources=(Source(path="$DESK_EXPORT", mapping=str(tmp_path / "export" / "mapping.toml")),)),
    )


def run_of(settings: Settings) -> Any:
    engine = db.engine(settings.application_database)
    found = newest_run(engine)
    engine.dispose()
    return found


def test_a_killed_run_goes_on_where_it_ended(
    practice: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revisit: Callable[..., Result]
) -> None:
    monkeypatch.setenv("DESK_EXPORT", str(tmp_path / "export"))
    killed(tmp_path, "features")
    broken = run_of(practice)
    assert (broken.run_id, broken.finished_at) == (1, None)
    assert [(found.name, found.state) for found in broken.steps] == [("import", "done"), ("features", "running")]
    assert status(practice, now()).advice == ("revisit nightly (the last run broke off; it goes on from there)",)
    ended = revisit("nightly")
    assert ended.exit_code == 0, ended.output
    assert ended.output.count("done before") == 1
    run = run_of(practice)
    assert run.run_id == 1
    assert run.finished_at is not None
    assert [(step.name, step.state, step.attempts) for step in run.steps] == [
        ("import", "done", 1),
        ("features", "done", 2),
        *((name, "done", 1) for name in [*(step.name for step in STEPS[2:]), "forecast"]),
    ]
    assert "scores: done" in revisit("status").output
    engine = db.engine(practice.application_database)
    publication = read_publication(engine)
    engine.dispose()
    assert publication is not None
    assert publication.booking_count > 0


def killed(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_killed_at_any_step_the_ones_before_stay_done(
    practice: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVISIT_DATA", str(practice.paths.data))
    names = [step.name for step in STEPS]
    for number, name in enumerate(names):
        killed(tmp_path, name, *names)
        states = {step.name: step.state for step in run_of(practice).steps}
        assert states == dict.fromkeys(names[:number], "done") | {name: "running"}
    again: list[str] = []
    assert run_nightly(practice, now, [Step(name, note) for name in names], say=again.append)
    assert (practice.paths.data / "order.txt").read_text() == "x", "only the last was left"
    assert {step.name: step.attempts for step in run_of(practice).steps} == dict.fromkeys(names, 2)


def test_importing_twice_is_importing_once(practice: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK_EXPORT", str(tmp_path / "export"))
    assert ", 0 new" not in import_sources(practice, now())
    assert ", 0 new" in import_sources(practice, now())


def note(settings: Settings, _at: datetime) -> str:
    with (settings.paths.data / "order.txt").open("a") as stream:
        stream.write("x")
    return "noted"


def failing(_settings: Settings, _at: datetime) -> str:
    raise StoreError("the disk is full; make room.")


def broken(_settings: Settings, _at: datetime) -> str:
    raise ValueError("Li Lei, +86-13800000000")


def test_a_failed_step_stops_the_night_and_is_tried_again(practice: Settings) -> None:
    said: list[str] = []
    moment = datetime(2026, 11, 22, 22, tzinfo=practice.zone)
    steps = [Step("first", note), Step("second", failing), Step("third", note)]
    assert not run_nightly(practice, lambda: moment, steps, say=said.append)
    assert said[-1] == "[2/3] second: failed: the disk is full; make room."
    assert status(practice, moment).advice[0].endswith("second: the disk is full; make room.)")
    steps[1] = Step("second", note)
    assert run_nightly(practice, lambda: moment + timedelta(hours=1), steps, say=said.append)
    assert (practice.paths.data / "order.txt").read_text() == "xxx"
    assert run_of(practice).run_id == 1
    assert run_nightly(practice, lambda: moment + timedelta(hours=2), steps, say=said.append)
    assert run_of(practice).run_id == 2, "a finished night is followed by a new one"


def test_what_breaks_says_no_more_than_its_kind(practice: Settings) -> None:
    moment = datetime(2026, 11, 22, 22, tzinfo=practice.zone)
    with pytest.raises(ValueError, match="Li Lei"):
        run_nightly(practice, lambda: moment, [Step("import", broken)], say=lambda _text: None)
    assert [(step.state, step.note) for step in run_of(practice).steps] == [("failed", "ValueError")]
    assert run_nightly(practice, lambda: moment + timedelta(hours=21), [Step("import", note)], say=lambda _text: None)
    assert run_of(practice).run_id == 2, "last night's run is not gone on with"


def test_steps_wait_until_they_are_due(practice: Settings) -> None:
    monthly = Step("forecast", note, lambda at, last: last is None or (last.year, last.month) != (at.year, at.month))
    first = datetime(2026, 11, 22, 22, tzinfo=practice.zone)
    states = []
    for days in (0, 1, 9):
        assert run_nightly(practice, lambda days=days: first + timedelta(days=days), [monthly], say=lambda _text: None)
        states.append(run_of(practice).steps[0].state)
    assert states == ["done", "skipped", "done"]


def test_one_run_at_a_time(practice: Settings) -> None:
    practice.paths.data.mkdir(parents=True)
    begun, over = threading.Event(), threading.Event()

    def hold() -> None:
        with FileLock(practice.paths.data / "nightly.lock"):
            begun.set()
            over.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    begun.wait(10)
    with pytest.raises(StoreError, match="another nightly run"):
        run_nightly(practice, now, [Step("first", note)])
    over.set()
    holder.join()
    assert run_nightly(practice, now, [Step("first", note)], say=lambda _text: None)


def test_a_secret_of_the_environment_must_be_there(practice: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DESK_EXPORT", raising=False)
    with pytest.raises(SettingsError, match="no \\$DESK_EXPORT"):
        import_sources(practice, now())
    assert import_sources(Settings(paths=practice.paths), now()) == "no source is configured"
