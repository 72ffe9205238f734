"""Imports of many rows: the benchmark runs, and large and small ways of writing give the same records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from features.records import landing

MAPPING = """
time_zone = "UTC"
datetime_formats = ["%Y-%m-%d %H:%M"]
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = { value = "c" }
booked_at = "booked"
starts_at = { sql = "'2026-03-01 10:00:00'" }
status = "status"
"""
STATUS = ("booked", "completed", "no_show")


def export() -> str:
    """A thousand rows; every tenth booking stands there twice, with another status."""
    rows = [f"{n % 900},p{n % 70},2026-01-01 10:{n % 60:02},{STATUS[n % 3]}\n" for n in range(1000)]
    return "id,patient,booked,status\n" + "".join(rows)


def test_writing_in_parts_gives_the_same_records(
    practice_at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = []
    for at_once in (10_000, 100):
        monkeypatch.setattr(landing, "SORTED_AT_ONCE", at_once)
        practice = practice_at(tmp_path / str(at_once))
        report = practice.load(MAPPING, export())
        assert [(t.stored, t.changed, t.unchanged) for t in report.tables] == [(900, 0, 0)]
        stored.append(practice.rows("SELECT * FROM appointments ORDER BY ALL"))
    assert stored[0] == stored[1]


def test_benchmark_prints_its_figures(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.import_speed", "--quick"],
        cwd=repository, capture_output=True, text=True, check=True,
    )  # fmt: skip
    metrics = json.loads(done.stdout.splitlines()[-1])["metrics"]
    assert {"rows_per_cpu_s", "ratio_to_duckdb", "incremental_share", "peak_gb"} <= set(metrics)
