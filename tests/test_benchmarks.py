"""Benchmarks print what the design fixes: one JSON object on the last line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

NO_SHOW = (
    *(f"{metric}_{moment}" for metric in ("auc", "ap", "brier", "ece") for moment in ("booking", "evening")),
    "lift10_booking",
    "auc_booking_rolling",
    "auc_evening_rolling",
)


def test_no_show_brazil_quick(brazil_csv: Path, repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.no_show_brazil", "--quick", "--data", str(brazil_csv.parents[1])],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 1
    told = json.loads(lines[0])
    assert set(told) == {"name", "date", "metrics", "targets", "peers", "machine"}
    assert told["name"] == "no_show_brazil"
    assert set(NO_SHOW) <= set(told["metrics"])
    assert all(isinstance(told["metrics"][name], float) and math.isfinite(told["metrics"][name]) for name in NO_SHOW)
    assert 0.65 < told["metrics"]["auc_booking"] < 0.78
    assert told["metrics"]["auc_booking"] > told["peers"]["past_rate"]["auc_booking"]
    assert set(told["peers"]) == {"prior", "past_rate", "lead_time", "spline_logistic"}


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("uplift_hillstrom", ("qini_womens", "qini_mens", "qini_womens_rule", "mens_claims_ranking")),
        ("recall_share", ("recall_share_2000", "recall_share_8000", "recall_response_share_2000")),
    ],
)
def test_quick_prints_its_metrics(name: str, metrics: tuple[str, ...], shared_data: Path, repository: Path) -> None:
    if name == "uplift_hillstrom" and not (shared_data / "hillstrom_email").is_dir():
        pytest.skip("the campaign's data is not here (REVISIT_SHARED names the folder that holds data/)")
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--data", str(shared_data)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told["name"] == name
    assert all(math.isfinite(told["metrics"][metric]) for metric in metrics)


def test_forecast_hospital_quick(shared_data: Path, repository: Path) -> None:
    if not (shared_data / "hospital_monthly" / "hospital_long.csv").exists():
        pytest.skip("the public hospital series are not here")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.forecast_hospital", "--quick", "--data", str(shared_data)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.strip().splitlines()[-1])
    cost = ("cpu_s_structural", "cpu_s_blend", "cpu_ratio_to_autoets", "peak_mb", "growth_10x")
    assert {"mase", "wql", "coverage_80", *cost} <= set(told["metrics"])
    assert {"structural", "boosted", "seasonal_naive", "theta", "ets"} <= set(told["peers"])
    assert told["metrics"]["mase"] < 0.9 * told["peers"]["seasonal_naive"]["mase"]


def test_feature_build_quick(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.feature_build", "--quick"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.strip().splitlines()[-1])
    figures = [
        "cpu_s",
        "rows_per_cpu_s",
        "ratio_to_scan_sort",
        "peak_gb",
        "capped_peak_gb",
        "growth_10x",
        "ratio_to_pandas",
    ]
    assert all(told["metrics"][name] > 0 for name in figures)
    assert told["metrics"]["rows"] > told["metrics"]["patients"]
