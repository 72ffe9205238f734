"""How fast, and in how much memory, `revisit simulate` writes a practice.

A practice is simulated clinic by clinic and written as CSV, truth included, without truth runs;
once as one clinic, once as eight of that size. CPU seconds are user and system time of a fresh
process, its imports included; memory is its highest resident size. The yardstick is pyarrow
reading every file of the export and writing it once more.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import arguments, emit

PATIENTS, QUICK_PATIENTS = 6_000, 200  # of one clinic
CLINICS, QUICK_CLINICS = 8, 2
YEARS = 4
NOW = datetime.fromisoformat("2026-11-17T09:30:00+08:00")
TARGETS: dict[str, tuple[str, float]] = {"cpu_s_per_million": ("<=", 60.0), "memory_ratio_to_one_clinic": ("<=", 1.15)}


class Used(NamedTuple):
    """What a step took, and the rows that it wrote."""

    cpu_s: float
    peak_gb: float
    rows: int


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    patients, clinics = (QUICK_PATIENTS, QUICK_CLINICS) if told.quick else (PATIENTS, CLINICS)
    with tempfile.TemporaryDirectory(prefix="simulate-speed-") as name:
        folder = Path(name)
        one = measured(write, folder / "one", patients, 1, told.seed)
        many = measured(write, folder / "many", patients, clinics, told.seed)
        again = measured(copy, folder / "many")
    metrics = {
        "cpu_s_per_million": many.cpu_s / many.rows * 1e6,
        "cpu_s_per_million_one_clinic": one.cpu_s / one.rows * 1e6,
        "appointments": many.rows,
        "peak_gb_1_clinic": one.peak_gb,
        f"peak_gb_{clinics}_clinics": many.peak_gb,
        "memory_ratio_to_one_clinic": many.peak_gb / one.peak_gb,
        "ratio_to_pyarrow_csv": many.cpu_s / again.cpu_s,
    }
    peers = {"pyarrow_read_and_write_csv": {"cpu_s": again.cpu_s, "peak_gb": again.peak_gb}}
    emit("simulate_speed", metrics, {} if told.quick else TARGETS, peers)


def measured(step: Callable[..., int], *given: Any) -> Used:
    """Run `step` in a fresh process and say what it took."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_run, args=(theirs, step, given))
    child.start()
    theirs.close()
    used: Used = ours.recv()
    child.join()
    return used


def _run(pipe: Any, step: Callable[..., int], given: tuple[Any, ...]) -> None:
    import resource

    rows = step(*given)
    used = resource.getrusage(resource.RUSAGE_SELF)
    pipe.send(Used(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024**2, rows))


def write(folder: Path, patients: int, clinics: int, seed: int) -> int:
    """Simulate and write as the command does; count the appointments."""
    from features.simulator import PracticePlan, simulate_clinics, write_parts

    plan = PracticePlan(now=NOW, patients=patients * clinics, clinics=clinics, years=YEARS, seed=seed)
    write_parts(plan, simulate_clinics(plan), folder)
    with (folder / "appointments.csv").open("rb") as lines:
        return sum(1 for _ in lines) - 1


def copy(folder: Path) -> int:
    """Do what any writer must at least do."""
    from pyarrow import csv

    options = csv.WriteOptions(quoting_style="none")
    files = sorted(folder.rglob("*.csv"))
    for path in files:
        csv.write_csv(csv.read_csv(path), path.with_suffix(".again"), options)
    return len(files)


if __name__ == "__main__":
    main()
