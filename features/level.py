"""The level: how far outcomes have run from what was predicted, as known at a moment.

A clinic's share of missed visits drifts by season, weather and reminders, and a
model learns of it only when it is trained again. In between, every score is
shifted by what the outcomes known so far say about the predictions made for them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# How far the log odds of a practice are expected to drift between two trainings, one
# standard deviation. It decides how many outcomes it takes to be believed: with 0.02,
# some 15,000 visits at a share of 20 % for half of the shift they ask for.
EXPECTED_DRIFT = 0.02


def level_shift(
    label: NDArray[np.float64],
    probability: NDArray[np.float64],
    known_at: NDArray[np.datetime64],
    asked_at: NDArray[np.datetime64],
) -> NDArray[np.float64]:
    """Shift on the logit scale for each moment asked.

    One Newton step of a logistic regression with offset towards the observed
    share, under a normal prior of `EXPECTED_DRIFT` around no shift.

    Parameters
    ----------
    label, probability : ndarray of shape (n_outcomes,)
        What happened since the training, and what was predicted.
    known_at : ndarray of shape (n_outcomes,)
        When each outcome became known.
    asked_at : ndarray of shape (n_scores,)
        Only outcomes known before it count.

    Returns
    -------
    ndarray of shape (n_scores,)

    Examples
    --------
    >>> day = np.array(["2026-01-01", "2026-01-03"], dtype="datetime64[us]")
    >>> level_shift(np.array([1.0, 1.0]), np.array([0.5, 0.5]), day, day).round(4)
    array([0.    , 0.0002])
    """
    order = np.argsort(known_at, kind="stable")
    surprise = np.concatenate([[0.0], np.cumsum((label - probability)[order])])
    weight = np.concatenate([[0.0], np.cumsum((probability * (1 - probability))[order])])
    known = np.searchsorted(known_at[order], asked_at, side="left")
    return np.asarray(surprise[known] / (weight[known] + EXPECTED_DRIFT**-2))
