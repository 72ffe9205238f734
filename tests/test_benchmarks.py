"""Benchmarks print what the design fixes: one JSON object on the last line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

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
