"""What training costs: CPU and memory of `train all` beside the bare LightGBM fits inside it.

Simulates practices of 6,000 and 60,000 patients, imports them, builds their
features and monthly snapshots (no CPU second of it is counted), then trains
every question. Each size runs in a process of its own; its peak of memory is
that of the whole process, what was prepared included. The fits are counted
where they happen: the CPU time inside `lightgbm.train`.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lightgbm

from benchmarks.harness import arguments, emit
from features.records.landing import import_files
from features.records.mapping import load_mapping
from features.records.store import RecordStore
from features.settings import Paths, Settings
from features.simulator import PracticePlan, simulate, write_export
from features.store import build, build_patients
from training.models import QUESTIONS, train_all
from training.rolling import FULL, SMALL

NOW = datetime(2026, 11, 17, 2, tzinfo=UTC)
SIZES = (6000, 60_000)
YEARS, QUICK_YEARS, QUICK_PATIENTS, QUICK_MONTHS = 4, 2, 250, 10
GIGABYTE = 1024**2  # in the kilobytes that Linux reports
TARGETS: dict[str, tuple[str, float]] = {"ratio_to_fits": ("<=", 3.0)}


class Fits:
    """Counts the CPU seconds spent inside LightGBM's training, and the trainings."""

    def __init__(self) -> None:
        self.cpu, self.count, self._fit = 0.0, 0, lightgbm.train

    def __call__(self, *given: Any, **named: Any) -> lightgbm.Booster:
        """Train, and count."""
        begun = time.process_time()
        made = self._fit(*given, **named)
        self.cpu, self.count = self.cpu + time.process_time() - begun, self.count + 1
        return made


def measured(patients: int, seed: int, is_quick: bool) -> dict[str, float]:
    """Prepare a practice and train everything about it, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(paths=Paths(data=Path(folder) / "data", mlruns=Path(folder) / "mlruns"))
        export, years = Path(folder) / "export", QUICK_YEARS if is_quick else YEARS
        write_export(simulate(PracticePlan(now=NOW, patients=patients, years=years, seed=seed)), export)
        import_files(RecordStore(settings.paths.records), export, load_mapping(export / "mapping.toml"), NOW)
        first = (NOW - timedelta(days=30 * QUICK_MONTHS)).date() if is_quick else None
        build_patients(settings, NOW, first)
        build(settings, NOW)
        fits = Fits()
        lightgbm.train = fits
        names = ("return_90d",) if is_quick else tuple(QUESTIONS)
        begun = time.process_time()
        outcomes = list(train_all(settings, NOW, names, effort=SMALL if is_quick else FULL))
        cpu = time.process_time() - begun
    for outcome in outcomes:
        print(f"{outcome.name}: {outcome.error or 'trained'}", file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIGABYTE
    trained = sum(outcome.training is not None for outcome in outcomes)
    return {"cpu_s": cpu, "fits_cpu_s": fits.cpu, "fits": fits.count, "peak_gb": peak, "trained": trained}


def _apart(patients: int, seed: int) -> dict[str, float]:
    called = [sys.executable, "-m", "benchmarks.training_speed", "--seed", str(seed), "--inner", str(patients)]
    told = subprocess.run(called, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(told.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Run and print; ``--inner N`` measures one size, ``--sizes N,N`` chooses them."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    inner, sizes = _taken("--inner"), _taken("--sizes")
    told = arguments(__doc__ or "")
    if inner:
        print(json.dumps(measured(int(inner), told.seed, told.quick)))
        return
    if told.quick:
        found = {QUICK_PATIENTS: measured(QUICK_PATIENTS, told.seed, is_quick=True)}
    else:
        chosen = [int(size) for size in sizes.split(",")] if sizes else list(SIZES)
        found = {size: _apart(size, told.seed) for size in chosen}
    metrics = {f"{name}_{size}": value for size, figures in found.items() for name, value in figures.items()}
    for size, figures in found.items():
        metrics[f"ratio_to_fits_{size}"] = figures["cpu_s"] / max(figures["fits_cpu_s"], 1e-9)
    metrics["ratio_to_fits"] = max(metrics[f"ratio_to_fits_{size}"] for size in found)
    emit("training_speed", metrics, {} if told.quick else TARGETS, {})


def _taken(option: str) -> str:
    """Take an option and its value off the command line."""
    if option not in sys.argv:
        return ""
    place = sys.argv.index(option)
    value = sys.argv[place + 1]
    del sys.argv[place : place + 2]
    return value


if __name__ == "__main__":
    main()
