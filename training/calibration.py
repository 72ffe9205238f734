"""Calibration: bring predicted shares to those seen in the newest matured window."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from training.metrics import Floats, sigmoid

# Below this many labels only the intercept is moved: Platt's slope and, far more so,
# isotonic regression lost to it on every public set tried.
FEWEST_FOR_SLOPE = 500


def calibrate(label: Floats, log_odds: Floats) -> tuple[float, float]:
    """Intercept and slope that fit predicted log odds to outcomes (Platt 1999).

    Parameters
    ----------
    label : ndarray of shape (n_examples,)
        Outcomes of the window.
    log_odds : ndarray of shape (n_examples,)
        What was predicted for them.

    Returns
    -------
    intercept, slope : float
        Slope 1 where there are too few labels for more.
    """
    if len(label) < FEWEST_FOR_SLOPE:
        return _intercept(label, log_odds), 1.0
    model = LogisticRegression(C=np.inf).fit(log_odds.reshape(-1, 1), label)
    return float(model.intercept_[0]), float(model.coef_[0, 0])


def _intercept(label: Floats, log_odds: Floats) -> float:
    """The shift at which the predicted share is the observed one, by Newton's method."""
    shift = 0.0
    for _ in range(50):
        probability = sigmoid(log_odds + shift)
        step = float(np.sum(label - probability) / np.sum(probability * (1 - probability)))
        shift += step
        if abs(step) < 1e-10:
            break
    return shift
