"""Who buys again: CDNOW, 23,570 customers who first bought in early 1997.

Imports the file as a practice's visits, takes everybody's state at every month
start, trains on what was known at the test date and asks about everybody seen
before it: 180 days from 1998-01-01, 90 days from 1998-04-01.
"""

from __future__ import annotations

import logging
import warnings
from datetime import UTC, date, datetime

import pandas as pd

from benchmarks.harness import arguments, emit
from benchmarks.returns import QUICK_REPETITIONS, Data, frames, merged, report, run
from training.evaluation import REPETITIONS

ZONE = "America/New_York"
TESTS = {180: "1998-01-01", 90: "1998-04-01"}
QUICK = 80  # every eightieth customer
TARGETS: dict[str, tuple[str, float]] = {
    "auc_180d": (">=", 0.808),
    "auc_90d": (">=", 0.842),
    "logloss_180d": ("<=", 0.411),
    "logloss_90d": ("<=", 0.297),
    "auc_180d_leak_alarm": ("<=", 0.82),
    "auc_90d_leak_alarm": ("<=", 0.855),
}


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    source = told.data / "cdnow" / "CDNOW_master.txt"
    data = Data(source, "visits_cdnow.toml", ZONE, datetime(1998, 7, 4, tzinfo=UTC), date(1998, 4, 1))
    snapshots = frames(data, tuple(TESTS), QUICK if told.quick else 1)
    parts, draws = [], QUICK_REPETITIONS if told.quick else REPETITIONS
    for horizon, day in TESTS.items():
        outcome = run(snapshots[horizon], horizon, pd.Timestamp(day, tz=ZONE).tz_convert("UTC"))
        parts.append(report([outcome], f"{horizon}d", draws))
    metrics, peers = merged(parts)
    metrics |= {f"auc_{horizon}d_leak_alarm": metrics[f"auc_{horizon}d"] for horizon in TESTS}
    emit("return_cdnow", metrics, {} if told.quick else TARGETS, peers)


if __name__ == "__main__":
    main()
