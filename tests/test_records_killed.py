"""Killed at every step, refused while another runs: no change of the records loses anything, or is half done."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from features.duck import connect
from features.errors import StoreError
from features.records.history import clean, restore
from features.records.landing import import_files
from features.records.mapping import load_mapping
from features.records.merging import merge
from features.records.store import RecordStore

MAPPING = """
time_zone = "UTC"
datetime_formats = ["%Y-%m-%d %H:%M"]
[tables.patients.columns]
patient_id = "patient"
known_from_at = "booked"
membership = "plan"
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = { value = "c" }
booked_at = "booked"
starts_at = "starts"
status = "status"
status_known_at = "since"
"""
HEADER = "id,patient,plan,booked,starts,status,since\n"
TIMES = "2026-01-01 10:00,2026-02-01 10:00"
FIRST = HEADER + f"1,p1,,{TIMES},booked,\n2,p2,,{TIMES},booked,\n"
SECOND = HEADER + f"1,p1,gold,{TIMES},no_show,2026-02-01 18:00\n3,p3,,{TIMES},booked,\n4,p4\n"
START = datetime(2026, 1, 10, tzinfo=UTC)
TABLES = ("patients", "appointments", "quarantine", "merges")


def import_second(root: Path, at: datetime) -> None:
    import_files(records(root), root / "second.csv", load_mapping(root / "mapping.toml"), at)


WAYS: dict[str, Callable[[Path, datetime], object]] = {
    "import": import_second,
    "merge": lambda root, at: merge(records(root), "p1", "p2", at),
    "restore": lambda root, at: restore(records(root), 1, at),
    "clean": lambda root, at: clean(records(root), timedelta(0), at),
}

# Modules are loaded once; each line of input is one forked child, which is killed before or after its nth write.
NURSERY = """
import importlib.util, itertools, os, signal, sys
from datetime import datetime
from pathlib import Path
import deltalake
from deltalake.table import TableOptimizer
from features.records import store

spec = importlib.util.spec_from_file_location("killed", sys.argv[1])
killed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(killed)

def dangerous(owner, name, nth, calls):
    original = getattr(owner, name)
    def run(*arguments, **options):
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        made = original(*arguments, **options)
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return made
    setattr(owner, name, run)

for line in sys.stdin:
    way, nth, at, root = line.rstrip().split(maxsplit=3)
    child = os.fork()
    if not child:
        calls = itertools.count()
        for owner, name in [(store, "write_deltalake"), (Path, "replace"), (TableOptimizer, "compact"),
                            *((deltalake.DeltaTable, name) for name in ("restore", "delete", "vacuum"))]:
            dangerous(owner, name, int(nth), calls)
        try:
            killed.WAYS[way](Path(root), datetime.fromisoformat(at))
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def records(root: Path) -> RecordStore:
    return RecordStore(root / "data" / "records")


def snapshot(practice: Any, versions: Any = None) -> list[list[tuple[object, ...]]]:
    with connect() as con:
        practice.store.attach(con, TABLES, versions)
        return [con.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in TABLES]


@pytest.fixture(scope="module")
def run_killed() -> Iterator[Callable[..., int]]:
    """Run one way in a process that is killed at its nth step; gives its exit code, 0 if it had no such step."""
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None

        def run(way: str, nth: int, at: datetime, root: Path) -> int:
            nursery.stdin.write(f"{way} {nth} {at.isoformat()} {root}\n")  # type: ignore[union-attr]
            nursery.stdin.flush()  # type: ignore[union-attr]
            return int(nursery.stdout.readline())  # type: ignore[union-attr]

        yield run
        nursery.stdin.close()


@pytest.fixture(scope="module")
def three_states(practice_at: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A practice after an import, a merge and another import, with the next export beside it."""
    practice = practice_at(tmp_path_factory.mktemp("before"))
    practice.load(MAPPING, FIRST, at=START)
    merge(practice.store, "p2", "p1", START + timedelta(days=1))
    restore(practice.store, 1, START + timedelta(days=2))
    practice.load(MAPPING, FIRST + f"5,p5,,{TIMES},booked,\n", at=START + timedelta(days=3))
    (practice.root / "second.csv").write_text(SECOND)
    return practice.root


@pytest.mark.parametrize(("way", "least"), [("import", 8), ("merge", 4), ("restore", 2), ("clean", 8)])
def test_killed_at_every_step_leaves_the_old_or_the_new(
    way: str, least: int, three_states: Path, practice_at: Any, tmp_path: Path, run_killed: Any
) -> None:
    """Each child meets what those before it left, and tables whose head a restore has left behind."""
    at = START + timedelta(days=40)
    base, calm = practice_at(tmp_path / "base"), practice_at(tmp_path / "calm")
    shutil.copytree(three_states, base.root)
    if way != "restore":
        restore(base.store, 1, START + timedelta(days=4))
    shutil.copytree(base.root, calm.root)
    before, states = snapshot(base), {entry.number: snapshot(base, entry.versions) for entry in base.store.entries()}
    WAYS[way](calm.root, at)
    after = snapshot(calm)
    for nth in itertools.count():
        code = run_killed(way, nth, at, base.root)
        assert snapshot(base) in (before, after), nth
        if code == 0:
            break
        assert code == -signal.SIGKILL, nth
    assert nth >= least
    for entry in base.store.entries():
        assert snapshot(base, entry.versions) == states.get(entry.number, after), entry.number
    WAYS[way](base.root, at)
    assert snapshot(base) == after


@pytest.mark.parametrize("way", WAYS)
def test_second_change_at_once_is_refused(way: str, three_states: Path, practice_at: Any, tmp_path: Path) -> None:
    practice = practice_at(tmp_path / "busy")
    shutil.copytree(three_states, practice.root)
    entries = practice.store.entries()
    with practice.store.importing(), pytest.raises(StoreError, match="another import"):
        WAYS[way](practice.root, START)
    assert practice.store.entries() == entries
    WAYS[way](practice.root, START + timedelta(days=40))
