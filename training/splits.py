"""Time-ordered splits: what is tested lies after everything that was learned from."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Split:
    """Examples known before a moment, and the visits from it on.

    Attributes
    ----------
    train : pandas.DataFrame
        Examples whose label was known by ``start``.
    test : pandas.DataFrame
        Examples of visits from ``start`` on.
    start : pandas.Timestamp
        The moment at which the model is imagined to be trained.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    start: pd.Timestamp


def split_at(examples: pd.DataFrame, start: pd.Timestamp) -> Split:
    """Split examples at `start`.

    Parameters
    ----------
    examples : pandas.DataFrame
        One row per example, with ``starts_at`` and ``label_known_at``.
    start : pandas.Timestamp
        Aware.

    Returns
    -------
    Split
        An example that had begun but was not known by `start` is in neither.
    """
    return Split(
        train=examples[examples["label_known_at"] <= start],
        test=examples[examples["starts_at"] >= start],
        start=start,
    )


def newest_share(examples: pd.DataFrame, share: float) -> pd.Timestamp:
    """The start of the local day from which on about `share` of the visits lie."""
    begun = examples["starts_at"].sort_values()
    moment: pd.Timestamp = begun.iloc[min(len(begun) - 1, int(len(begun) * (1 - share)))]
    return moment.floor("D")
