"""Who comes back: an outpatient clinic in Guangzhou, 2,469 patients in 2018 and 2019.

Imports the file as a practice's visits, takes everybody's state at every month
start (the file's dates are exact to the month), trains on what was known at the
test date and asks about everybody seen in the 365 days before it: 90 days from
2019-07-01 and from 2019-10-01, 180 days from 2019-07-01.
"""

from __future__ import annotations

import logging
import warnings
from datetime import UTC, date, datetime

import pandas as pd

from benchmarks.harness import arguments, emit
from benchmarks.returns import QUICK_REPETITIONS, Data, frames, merged, report, run
from training.evaluation import REPETITIONS

ZONE = "Asia/Shanghai"
TESTS = {90: ("2019-07-01", "2019-10-01"), 180: ("2019-07-01",)}
LONGEST_SILENCE = 365
QUICK = 4  # every fourth patient
TARGETS: dict[str, tuple[str, float]] = {
    "auc_90d": (">=", 0.846),
    "auc_180d": (">=", 0.850),
    "brier_90d": ("<=", 0.095),
    "brier_180d": ("<=", 0.112),
    "auc_90d_leak_alarm": ("<=", 0.87),
    "auc_180d_leak_alarm": ("<=", 0.87),
}


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    source = told.data / "tcm_clinic_guangzhou" / "visits_with_dates.csv"
    data = Data(source, "visits_tcm_clinic.toml", ZONE, datetime(2020, 1, 4, tzinfo=UTC), date(2019, 10, 1))
    snapshots = frames(data, tuple(TESTS), QUICK if told.quick else 1)
    parts, draws = [], QUICK_REPETITIONS if told.quick else REPETITIONS
    for horizon, starts in TESTS.items():
        moments = [pd.Timestamp(day, tz=ZONE).tz_convert("UTC") for day in starts]
        outcomes = [run(snapshots[horizon], horizon, moment, LONGEST_SILENCE) for moment in moments]
        parts.append(report(outcomes, f"{horizon}d", draws))
    metrics, peers = merged(parts)
    metrics |= {f"auc_{horizon}d_leak_alarm": metrics[f"auc_{horizon}d"] for horizon in TESTS}
    emit("return_tcm_clinic", metrics, {} if told.quick else TARGETS, peers)


if __name__ == "__main__":
    main()
