"""A process whose output is our own lines alone."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

# Libraries whose remarks are about their own insides; a user could do nothing about them.
_TALKATIVE = ("feast", "ibis", "mlflow")


def quiet() -> None:
    """Leave the screen to our own lines: no remarks of MLflow, Feast and Ibis, no beacons, no progress bars.

    They are told before they are imported. Their warnings are dropped where
    they would be shown, because Feast sets filters of its own over any of ours.
    """
    for name, value in (
        ("BENTOML_DO_NOT_TRACK", "true"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        ("MLFLOW_LOGGING_LEVEL", "ERROR"),
    ):
        os.environ.setdefault(name, value)
    show = warnings.showwarning

    def show_ours(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        if not any(part in _TALKATIVE for part in Path(filename).parts):
            show(message, category, filename, *rest, **more)

    warnings.showwarning = show_ours
