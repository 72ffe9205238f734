"""Benchmarks print what the design fixes: one JSON object on the last line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NO_SHOW = (
    *(f"{metric}_{moment}" for metric in ("auc", "ap", "brier", "ece") for moment in ("booking", "evening")),
    "lift10_booking",
    "auc_booking_rolling",
    "auc_evening_rolling",
)


NOT_HERE = "the real data {} are not here (REVISIT_SHARED names the folder that holds data/)"


def test_no_show_brazil_quick(brazil_csv: Path, benchmark: Callable[..., dict[str, Any]]) -> None:
    told = benchmark("no_show_brazil", brazil_csv.parents[1])
    assert set(NO_SHOW) <= set(told["metrics"])
    assert all(isinstance(told["metrics"][name], float) and math.isfinite(told["metrics"][name]) for name in NO_SHOW)
    assert 0.65 < told["metrics"]["auc_booking"] < 0.78
    assert told["metrics"]["auc_booking"] > told["peers"]["past_rate"]["auc_booking"]
    assert set(told["peers"]) == {"prior", "past_rate", "lead_time", "spline_logistic"}


@pytest.mark.parametrize(
    ("name", "source", "metrics"),
    [
        (
            "uplift_hillstrom",
            "hillstrom_email",
            ("qini_womens", "qini_mens", "qini_womens_rule", "mens_claims_ranking"),
        ),
        ("recall_share", ".", ("recall_share_2000", "recall_share_8000", "recall_response_share_2000")),
    ],
)
def test_quick_prints_its_metrics(
    name: str, source: str, metrics: tuple[str, ...], shared_data: Path, benchmark: Callable[..., dict[str, Any]]
) -> None:
    if not (shared_data / source).exists():
        pytest.skip(NOT_HERE.format(shared_data / source))
    told = benchmark(name, shared_data)
    assert all(math.isfinite(told["metrics"][metric]) for metric in metrics)


@pytest.mark.parametrize(
    ("name", "source", "spans"),
    [
        ("return_cdnow", "cdnow/CDNOW_master.txt", {"180d": (0.6, 0.93), "90d": (0.6, 0.95)}),
        (
            "return_tcm_clinic",
            "tcm_clinic_guangzhou/visits_with_dates.csv",
            {"90d": (0.65, 0.96), "180d": (0.65, 0.96)},
        ),
    ],
)
def test_returns_quick(
    name: str,
    source: str,
    spans: dict[str, tuple[float, float]],
    shared_data: Path,
    benchmark: Callable[..., dict[str, Any]],
) -> None:
    if not (shared_data / source).is_file():
        pytest.skip(NOT_HERE.format(shared_data / source))
    metrics = benchmark(name, shared_data)["metrics"]
    for suffix, (low, high) in spans.items():
        assert all(math.isfinite(metrics[f"{metric}_{suffix}"]) for metric in ("auc", "logloss", "brier"))
        assert low < metrics[f"auc_{suffix}"] < high


def test_forecast_hospital_quick(shared_data: Path, benchmark: Callable[..., dict[str, Any]]) -> None:
    if not (shared_data / "hospital_monthly" / "hospital_long.csv").exists():
        pytest.skip(NOT_HERE.format(shared_data / "hospital_monthly"))
    told = benchmark("forecast_hospital", shared_data)
    cost = ("cpu_s_structural", "cpu_s_blend", "cpu_ratio_to_autoets", "peak_mb", "growth_10x")
    assert {"mase", "wql", "coverage_80", *cost} <= set(told["metrics"])
    assert {"structural", "boosted", "seasonal_naive", "theta", "ets"} <= set(told["peers"])
    assert told["metrics"]["mase"] < 0.9 * told["peers"]["seasonal_naive"]["mase"]


def test_feature_build_quick(repository: Path) -> None:
    """In a process of its own, because it copies itself: Delta's threads, once begun, would not survive that."""
    command = [sys.executable, "-m", "benchmarks.feature_build", "--quick"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout.splitlines()[-1])["metrics"]
    figures = ["cpu_s", "rows_per_cpu_s", "ratio_to_scan_sort", "peak_gb", "capped_peak_gb", "growth_10x"]
    assert all(metrics[name] > 0 for name in (*figures, "ratio_to_pandas"))
    assert metrics["rows"] > metrics["patients"]
