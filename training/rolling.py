"""Rolling origins: moments at which a model is imagined to be trained, and the rows it then answers for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

ORIGINS = 3
SPACING = pd.Timedelta(days=90)  # between origins: a season
SHARE_OVER = 0.9  # of the windows of a snapshot, to call it matured
SEED = 7


@dataclass(frozen=True)
class Effort:
    """How much is learned from and tested on.

    Attributes
    ----------
    examples : int
        Rows to learn from beside those that are tested.
    tested : int
        Rows per tested snapshot.
    origins : int
        Tested snapshots.
    """

    examples: int = 20_000
    tested: int = 10_000
    origins: int = ORIGINS


FULL, SMALL = Effort(), Effort(examples=4_000, tested=1_500, origins=2)  # the small one: for a demo, minutes matter


def window(outcomes: pd.DataFrame) -> pd.Timedelta:
    """How long it takes until nine tenths of a snapshot's windows are over, read off the older half of the snapshots.

    The newest snapshots hold short windows alone, so they would say too little.
    """
    older = outcomes[outcomes["as_of"] <= outcomes["as_of"].quantile(0.5)]
    days = (older["label_known_at"] - older["as_of"]).dt.total_seconds() / 86_400
    return pd.Timedelta(days=float(days.quantile(SHARE_OVER, interpolation="higher")))


def origins(outcomes: pd.DataFrame, now: pd.Timestamp, most: int = ORIGINS) -> list[pd.Timestamp]:
    """Snapshots to test on, newest first: matured by `now`, a season apart, with as old a window before the oldest.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        One row per patient and snapshot, with as_of and label_known_at.
    now : pandas.Timestamp
        Aware.
    most : int
        How many.

    Returns
    -------
    list of pandas.Timestamp
        Fewer than `most` where history is short, none where nothing matured.
    """
    if outcomes.empty:
        return []
    span, moments = window(outcomes), pd.DatetimeIndex(np.sort(outcomes["as_of"].unique()))
    latest, found = now - span, list[pd.Timestamp]()
    while len(found) < most:
        there = moments[(moments <= latest) & (moments - span >= moments[0])]
        if there.empty:
            break
        found.append(there[-1])
        latest = there[-1] - SPACING
    return found


def thinned(outcomes: pd.DataFrame, tested: list[pd.Timestamp], most: int, most_tested: int) -> pd.DataFrame:
    """Rows worth joining features to: up to `most_tested` per tested snapshot, and `most` of all others, at random.

    A patient's months resemble one another: beyond some tens of thousands of
    rows more of them cost time and bring next to nothing.
    """
    random = np.random.default_rng(SEED).random(len(outcomes))
    size = outcomes.groupby("as_of")["as_of"].transform("size").to_numpy()
    is_tested = outcomes["as_of"].isin(tested).to_numpy()
    share = np.where(is_tested, most_tested / size, most / max((~is_tested).sum(), 1))
    return outcomes[random < share].reset_index(drop=True)
