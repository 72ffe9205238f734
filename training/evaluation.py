"""Is one model better than another, and how sure is that?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from training.amounts import deviance_gain, error_gain
from training.metrics import Floats, weighted_auc, weighted_gain

MORE_IS_BETTER: Mapping[str, Callable[[Floats, Floats, Floats], float]] = {
    "auc": weighted_auc,
    "log_loss": weighted_gain,
    "deviance": deviance_gain,
    "rmse": error_gain,
}
REPETITIONS = 400
SEED = 20160530


@dataclass(frozen=True)
class Comparison:
    """A paired difference; positive means that the model is better.

    Attributes
    ----------
    metric : str
        ``"auc"`` (difference), or ``"log_loss"``, ``"deviance"``, ``"rmse"`` (how much lower).
    difference : float
        On the examples as they are.
    lower, upper : float
        95 % interval by the bootstrap over patients.
    """

    metric: str
    difference: float
    lower: float
    upper: float

    @property
    def is_better(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.lower > 0


def compare(
    metric: str,
    label: Floats,
    model: Floats,
    peer: Floats,
    patients: Sequence[object] | pd.Series,
    repetitions: int = REPETITIONS,
) -> Comparison:
    """Compare two sets of predictions on the same examples.

    Whole patients are drawn with replacement, because a patient's bookings are
    alike (cluster bootstrap: Field and Welsh, JRSS B 2007).

    Parameters
    ----------
    metric : str
        Key of `MORE_IS_BETTER`.
    label, model, peer : ndarray of shape (n_examples,)
        Outcomes and the two predictions.
    patients : sequence of shape (n_examples,)
        Who each example is about.
    repetitions : int
        Bootstrap draws.

    Returns
    -------
    Comparison
    """
    gain = MORE_IS_BETTER[metric]
    codes, known = pd.factorize(np.asarray(patients))
    random = np.random.default_rng(SEED)
    differences = np.empty(repetitions)
    for index in range(repetitions):
        drawn = np.bincount(random.integers(len(known), size=len(known)), minlength=len(known))
        weight = drawn[codes].astype(float)
        there = weight > 0
        y, w = label[there], weight[there]
        differences[index] = gain(y, model[there], w) - gain(y, peer[there], w)
    one = np.ones(len(label))
    lower, upper = np.quantile(differences, [0.025, 0.975])
    return Comparison(metric, gain(label, model, one) - gain(label, peer, one), float(lower), float(upper))
