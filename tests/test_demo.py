"""The demo as a newcomer meets it: a process in an empty folder, its screen, its page, its end."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from serving.demo import QUESTIONS

ARGUMENTS = ("demo", "--patients", "500", "--years", "3")
STEPS = (
    "simulate a practice and import it",
    "build features and register them in Feast",
    "train and prove the models, track them in MLflow",
    "score the bookings ahead and publish the schedule",
    "prepare a recall list",
    "forecast the months ahead",
    "add the demo accounts",
)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "serving.cli", *arguments]


def environment() -> dict[str, str]:
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("REVISIT_", "MLFLOW_", "PROMETHEUS_"))
    }
    # At its end Feast leaves the files of its own metrics to the interpreter to close.
    return ours | {"COLUMNS": "200", "PYTHONWARNINGS": "default,ignore::ResourceWarning"}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        command(*ARGUMENTS, "--no-serve"), cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    return folder, done


def counts(folder: Path) -> tuple[int, int, float]:
    """Models registered, publications, and when the features were built."""
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as con:
        versions = con.execute("SELECT count(DISTINCT name) FROM model_versions").fetchone()[0]
    with closing(sqlite3.connect(folder / "data" / "revisit.db")) as con:
        publications = con.execute("SELECT count(*) FROM publications").fetchone()[0]
    return versions, publications, (folder / "data" / "features" / "build.json").stat().st_mtime


def test_ends_well_and_shows_our_own_lines_alone(first: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = first
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    for number, step in enumerate(STEPS):
        assert re.fullmatch(rf"✓ {re.escape(step)} \(\d+\.\d s\)", lines[2 * number])
        assert lines[2 * number + 1].startswith("  ")
    assert re.fullmatch(rf"ready after \d+ s, records and models in {re.escape(str(folder / 'data'))}", lines[14])
    assert len(lines) == 15
    assert {path.name for path in folder.iterdir()} == {"data", "mlruns"}
    assert counts(folder)[:2] == (len(QUESTIONS), 1)


class Served:
    """A command that serves, in a session of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.output = folder / "output.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command(*arguments, "--port", str(self.port)),
                cwd=folder,
                env=environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def wait_for(self, there: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not there():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until, self.said
            time.sleep(0.1)

    def answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def members(self) -> list[int]:
        """Processes of the session that have not ended."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(stat.parent.name))
        return found

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        code = self.process.wait(timeout=30)
        until = time.monotonic() + 5
        while self.members() and time.monotonic() < until:
            time.sleep(0.1)
        return code

    def sweep(self) -> None:
        for number in self.members():
            os.kill(number, signal.SIGKILL)


def test_second_run_changes_nothing_and_serves_until_it_is_ended(
    first: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = first
    before = counts(folder)
    served = Served(folder, *ARGUMENTS)
    try:
        served.wait_for(lambda: "is running" in served.said)
        said = served.said
        assert f"Open http://127.0.0.1:{served.port}/ and sign in as demo with demo-front-desk" in said
        assert said.count("already there") == 6
        assert served.answers("/sign-in")
        assert served.answers("/readyz")
        assert counts(folder) == before
        assert len(served.members()) > 1
        assert served.end(signal.SIGTERM) == 0
        assert served.members() == []
        assert "Traceback" not in served.said
    finally:
        served.sweep()


def test_serve_ends_with_an_interrupt(first: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = first
    served = Served(folder, "serve")
    try:
        served.wait_for(lambda: served.answers("/readyz"))
        assert served.answers("/sign-in")
        is_heard = signal.getsignal(signal.SIGINT) != signal.SIG_IGN  # a suite in the background hands deafness on
        assert served.end(signal.SIGINT if is_heard else signal.SIGTERM) == 0
        assert served.members() == []
        assert "Traceback" not in served.said
    finally:
        served.sweep()
