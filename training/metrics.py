"""How good a probability is: discrimination, calibration, use at capacity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

Floats = NDArray[np.float64]
CALIBRATION_BINS = 15
SMALLEST = 1e-6  # probabilities are kept away from 0 and 1 by this much


def logit(probability: Floats) -> Floats:
    """Log odds of a probability, finite at 0 and 1."""
    clipped = np.clip(probability, SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(clipped / (1 - clipped)))


def sigmoid(log_odds: Floats) -> Floats:
    """Probability of log odds."""
    return np.asarray(1 / (1 + np.exp(-log_odds)))


def calibration_error(label: Floats, probability: Floats, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error over bins of equal mass (Naeini et al., AAAI 2015).

    Parameters
    ----------
    label, probability : ndarray of shape (n_examples,)
        Outcomes (0 or 1) and what was predicted.
    bins : int
        Number of bins.

    Returns
    -------
    float
        Mean distance between predicted and observed share, weighted by bin size.

    Examples
    --------
    >>> round(calibration_error(np.array([0.0, 1.0]), np.array([0.2, 0.9]), bins=1), 3)
    0.05
    """
    groups = np.array_split(np.argsort(probability, kind="stable"), bins)
    gaps = [abs(label[g].mean() - probability[g].mean()) * len(g) for g in groups if len(g)]
    return float(sum(gaps) / len(label))


def lift_at(label: Floats, probability: Floats, share: float = 0.1) -> float:
    """How many times the average rate the riskiest `share` of examples holds."""
    count = max(1, int(len(label) * share))
    riskiest = np.argsort(-probability, kind="stable")[:count]
    return float(label[riskiest].mean() / label.mean())


def calibration_slope(label: Floats, probability: Floats) -> float:
    """Slope of the outcome on the predicted log odds; 1 is neither too bold nor too timid (Cox 1958)."""
    if np.ptp(probability) == 0:
        return float("nan")
    model = LogisticRegression(C=np.inf).fit(logit(probability).reshape(-1, 1), label)
    return float(model.coef_[0, 0])


def scores(label: Floats, probability: Floats) -> dict[str, float]:
    """All figures of one set of predictions.

    Returns
    -------
    dict of str to float
        auc, ap, brier, log_loss, ece, lift10, observed_to_expected, slope.
    """
    return {
        "auc": float(roc_auc_score(label, probability)),
        "ap": float(average_precision_score(label, probability)),
        "brier": float(brier_score_loss(label, probability)),
        "log_loss": float(log_loss(label, np.clip(probability, SMALLEST, 1 - SMALLEST))),
        "ece": calibration_error(label, probability),
        "lift10": lift_at(label, probability),
        "observed_to_expected": float(label.mean() / probability.mean()),
        "slope": calibration_slope(label, probability),
    }


def weighted_auc(label: Floats, probability: Floats, weight: Floats) -> float:
    """AUC with a weight per example, ties counted half.

    The same number as scikit-learn's, without its checks: the bootstrap asks for it thousands of times.
    """
    values, rank = np.unique(probability, return_inverse=True)
    missed = np.bincount(rank, weights=weight * label, minlength=len(values))
    kept = np.bincount(rank, weights=weight * (1 - label), minlength=len(values))
    below = np.cumsum(kept) - kept / 2
    return float(missed @ below / (missed.sum() * kept.sum()))


def weighted_gain(label: Floats, probability: Floats, weight: Floats) -> float:
    """Negative log loss with a weight per example: more is better."""
    clipped = np.clip(probability, SMALLEST, 1 - SMALLEST)
    return float(np.average(np.where(label == 1, np.log(clipped), np.log(1 - clipped)), weights=weight))
