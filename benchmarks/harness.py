"""What every benchmark shares: its arguments, its last line, the machine it ran on."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Arguments:
    """What a benchmark is told."""

    quick: bool
    data: Path
    seed: int


def arguments(description: str) -> Arguments:
    """Read ``--quick``, ``--data DIR`` and ``--seed N``; the shared data is beside the repository by default."""
    shared = Path(os.environ.get("REVISIT_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="the small setting that the test suite runs")
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the public data")
    parser.add_argument("--seed", type=int, default=7)
    told = parser.parse_args()
    return Arguments(told.quick, told.data, told.seed)


def emit(
    name: str,
    metrics: Mapping[str, float],
    targets: Mapping[str, tuple[str, float]],
    peers: Mapping[str, Mapping[str, float | list[float]]],
) -> None:
    """Print the result as one JSON object on one line, the last one.

    Parameters
    ----------
    name : str
        Of the benchmark.
    metrics : mapping of str to float
        Ours, under the names that stay fixed.
    targets : mapping of str to (operator, number)
        What was aimed for.
    peers : mapping of str to mapping
        The same figures of the peers, measured in the same run.
    """
    print(
        json.dumps(
            {
                "name": name,
                "date": f"{datetime.now(UTC):%Y-%m-%d}",  # noqa: TID251 - a benchmark is dated
                "metrics": {key: round(value, 5) for key, value in metrics.items()},
                "targets": {key: list(value) for key, value in targets.items()},
                "peers": peers,
                "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "arch": platform.machine()},
            }
        )
    )
