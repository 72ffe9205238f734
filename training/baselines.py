"""Rules of thumb, as models: what every model has to beat before it is used."""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.metrics import Floats


class PriorRule:
    """Everybody gets the share seen in the training examples."""

    name = "prior"

    def fit(self, features: pd.DataFrame, label: Floats) -> Self:
        """Remember the share of 1 in `label`."""
        self.share_ = float(np.mean(label))
        return self

    def predict(self, features: pd.DataFrame) -> Floats:
        """Return the same probability for every row of `features`."""
        return np.full(len(features), self.share_)


class PastRateRule:
    """The patient's own past share of missed visits, the desk's usual rule.

    A patient with no or few past visits is drawn towards everybody's share by
    `strength` imagined visits, chosen on the training examples.
    """

    name = "past_rate"
    strengths = (0.5, 1, 2, 5, 10, 20, 50, 100)

    def fit(self, features: pd.DataFrame, label: Floats) -> Self:
        """Choose the strength with the lowest log loss on the training examples."""
        self.share_ = float(np.mean(label))
        losses = {strength: _loss(label, self._share(features, strength)) for strength in self.strengths}
        self.strength_ = min(losses, key=lambda strength: losses[strength])
        return self

    def predict(self, features: pd.DataFrame) -> Floats:
        """Probability per row of `features`."""
        return self._share(features, self.strength_)

    def _share(self, features: pd.DataFrame, strength: float) -> Floats:
        missed = features["visits_missed_count_ever"].to_numpy(float)
        ended = features["visits_ended_count_ever"].to_numpy(float)
        return np.asarray((missed + strength * self.share_) / (ended + strength))


class LeadTimeRule:
    """The share missed among training bookings made as many days ahead."""

    name = "lead_time"
    edges = (0, 1, 2, 3, 5, 8, 15, 22, 31, 61)

    def fit(self, features: pd.DataFrame, label: Floats) -> Self:
        """Learn one share per band of days, drawn towards everybody's by 20 bookings."""
        share, groups = float(np.mean(label)), self._band(features)
        counts = np.bincount(groups, minlength=len(self.edges) + 1)
        missed = np.bincount(groups, weights=label, minlength=len(self.edges) + 1)
        self.shares_ = (missed + 20 * share) / (counts + 20)
        return self

    def predict(self, features: pd.DataFrame) -> Floats:
        """Probability per row of `features`."""
        return np.asarray(self.shares_[self._band(features)])

    def _band(self, features: pd.DataFrame) -> NDArray[np.intp]:
        days = features["days_until_visit" if "days_until_visit" in features else "days_since_booking"]
        return np.asarray(np.digitize(days.to_numpy(float), self.edges))


BASELINES = (PriorRule, PastRateRule, LeadTimeRule)


def _loss(label: Floats, probability: Floats) -> float:
    return float(-np.mean(np.where(label == 1, np.log(probability), np.log(1 - probability))))
