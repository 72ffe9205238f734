"""The gate a model passes before it is used: better than every rule, honest in level, no alarm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from training.alarms import Alarm, ringing
from training.evaluation import Comparison
from training.metrics import Floats

HONEST_RATIO = (0.9, 1.1)  # observed over expected, between which a model counts as calibrated


def failures(
    label: Floats,
    model: Floats,
    comparisons: Mapping[str, Mapping[str, Comparison]],
    must_beat: Iterable[str],
    alarms: Sequence[Alarm] = (),
    score: str = "log_loss",
    relative_error: float | None = None,
) -> tuple[str, ...]:
    """Why a model may not be used; empty if it may.

    Parameters
    ----------
    label, model : ndarray of shape (n_examples,)
        Outcomes of the test and what the model said.
    comparisons : mapping
        Per rule and metric: the model minus the rule, with its interval.
    must_beat : iterable of str
        Rules that it has to beat on `score`, the whole interval above zero.
    alarms : sequence of Alarm
        None of which may ring.
    score : str
        The proper score.
    relative_error : float, optional
        Standard error of observed over expected, relative; that of a count of
        cases by default.

    Returns
    -------
    tuple of str
        One sentence per reason.
    """
    found = [
        f"not surely better than {rule} on {score.replace('_', ' ')} (95 % from {c.lower:+.4f} to {c.upper:+.4f})"
        for rule in must_beat
        if not (c := comparisons[rule][score]).is_better
    ]
    ratio = float(label.mean() / model.mean())
    error = 1 / np.sqrt(max(label.sum(), 1)) if relative_error is None else relative_error
    spread = np.exp(1.96 * error)
    low, high = HONEST_RATIO
    if ratio * spread < low or ratio / spread > high:
        found.append(f"observed over expected is {ratio:.2f}, surely outside {low} to {high}")
    return (*found, *ringing(alarms))
