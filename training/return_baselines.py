"""What a model of returning has to beat: the last visit, logistic regression on three numbers, the processes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.metrics import Floats


class LastSeenRule:
    """The share of training examples that came back after as long a silence, read off a line in log days.

    Parameters
    ----------
    history : sequence of str
        Features that hold the number of visits so far, the days since the
        first and the days since the last of them.
    """

    name = "last_seen"

    def __init__(self, history: Sequence[str]) -> None:
        self.history = tuple(history)

    def fit(self, frame: pd.DataFrame, label: Floats) -> Self:
        """Learn from one row per example."""
        self.model_ = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(self._read(frame), label)
        return self

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Probability of a visit within the horizon of the labels, one per row."""
        return np.asarray(self.model_.predict_proba(self._read(frame))[:, 1])

    def _read(self, frame: pd.DataFrame) -> Floats:
        return np.asarray(np.log1p(frame[[self.history[2]]].to_numpy(float)))


class LogisticRFM(LastSeenRule):
    """Logistic regression on the logs of frequency, recency and tenure, what was paid per visit, and two products.

    Parameters
    ----------
    history : sequence of str
        As for `LastSeenRule`.
    paid : str, optional
        Feature that holds what was paid in all.
    """

    name = "logistic_rfm"

    def __init__(self, history: Sequence[str], paid: str | None = None) -> None:
        super().__init__(history)
        self.paid = paid

    def _read(self, frame: pd.DataFrame) -> Floats:
        visits, tenure, silence = (np.log1p(frame[name].to_numpy(float)) for name in self.history)
        columns = [visits, silence, tenure, visits * silence, silence * tenure]
        if self.paid:
            columns.append(np.log1p(np.maximum(frame[self.paid], 0) / np.maximum(frame[self.history[0]], 1)))
        return np.column_stack(columns)
