"""How good an expected amount is: Tweedie deviance, error, ranking, level."""

from __future__ import annotations

import numpy as np

from training.metrics import Floats

POWER = 1.5  # of the Tweedie family: many pay nothing, few pay much (between Poisson, 1, and gamma, 2)
SMALLEST_SHARE = 0.001  # of the mean; an expected amount is kept above, since the deviance of nothing is infinite


def deviance_gain(amount: Floats, expected: Floats, weight: Floats) -> float:
    """Negative mean Tweedie deviance, amounts in units of their mean: a proper score of means; more is better.

    Amounts below 0, where more was paid back than paid, count as 0.

    Parameters
    ----------
    amount, expected, weight : ndarray of shape (n_examples,)

    Examples
    --------
    >>> one = np.ones(2)
    >>> deviance_gain(np.array([0.0, 2.0]), np.array([0.5, 1.5]), one) > deviance_gain(np.array([0.0, 2.0]), one, one)
    True
    """
    y, mu = _scaled(amount, expected, weight)
    deviance = 2 * (
        y ** (2 - POWER) / ((1 - POWER) * (2 - POWER))
        - y * mu ** (1 - POWER) / (1 - POWER)
        + mu ** (2 - POWER) / (2 - POWER)
    )
    return -float(np.average(deviance, weights=weight))


def error_gain(amount: Floats, expected: Floats, weight: Floats) -> float:
    """Negative root mean squared error, in units of the mean amount; more is better."""
    y, mu = _scaled(amount, expected, weight)
    return -float(np.sqrt(np.average((y - mu) ** 2, weights=weight)))


def concentration(amount: Floats, expected: Floats) -> float:
    """Gini index of the amounts as `expected` ranks them: 0 at random, higher is better.

    Twice the area between the share of all money gathered down the ranking and
    the diagonal; ties are in the order given.
    """
    order = np.argsort(-expected, kind="stable")
    gathered = np.cumsum(np.maximum(amount[order], 0.0))
    return float(2 * gathered.mean() / gathered[-1] - 1 - 1 / len(amount)) if gathered[-1] > 0 else float("nan")


def share_at(amount: Floats, expected: Floats, share: float = 0.1) -> float:
    """Share of all the money that the `share` with the highest expected amounts paid."""
    count = max(1, int(len(amount) * share))
    paid = np.maximum(amount, 0.0)
    return float(paid[np.argsort(-expected, kind="stable")[:count]].sum() / paid.sum())


def amount_scores(amount: Floats, expected: Floats) -> dict[str, float]:
    """All figures of one set of expected amounts.

    Returns
    -------
    dict of str to float
        deviance and rmse (in units of the mean amount), gini, share10 (paid by
        the tenth expected to pay most), observed_to_expected.
    """
    one = np.ones(len(amount))
    return {
        "deviance": -deviance_gain(amount, expected, one),
        "rmse": -error_gain(amount, expected, one),
        "gini": concentration(amount, expected),
        "share10": share_at(amount, expected),
        "observed_to_expected": float(amount.mean() / expected.mean()),
    }


def _scaled(amount: Floats, expected: Floats, weight: Floats) -> tuple[Floats, Floats]:
    mean = max(float(np.average(amount, weights=weight)), 1e-9)
    return np.maximum(amount, 0.0) / mean, np.maximum(expected / mean, SMALLEST_SHARE)
