"""What kind of series it is decides which model speaks for it."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from training.demand.panel import Floats, Panel

CLOSED_SHARE, CLOSED_SPREAD = 0.2, 0.4  # a count that varies this little (mean above about 6) is not 0 by chance
INTERMITTENT_SHARE = 0.1  # zeros from which on a log scale no longer describes the series
STOPPED_MONTHS = 6
NOTHING, NOTHING_SHARE = 1e-6, 1e-6  # below this, and below this share of a series' largest month, is zero
NO_HISTORY, STOPPED = "no history", "stopped"


class Kind(StrEnum):
    """How a series is forecast."""

    REGULAR = "regular"
    INTERMITTENT = "intermittent"
    STOPPED = "stopped"
    EMPTY = "empty"


@dataclass(frozen=True)
class Prepared:
    """A panel with the months in which a clinic was closed taken out.

    Attributes
    ----------
    values : ndarray of shape (n_series, n_months)
        NaN where not known or closed.
    offset : ndarray of shape (n_series,)
        Added before the logarithm; 0 unless a regular series holds zeros.
    kind : ndarray of Kind, shape (n_series,)
    notes : tuple of (series, str)
    """

    values: Floats
    offset: Floats
    kind: NDArray[np.object_]
    notes: tuple[tuple[Hashable, str], ...]


def prepare(panel: Panel) -> Prepared:
    """Tell apart closed months, series that stopped, intermittent series and the rest.

    Zeros of a series that is never near zero otherwise are months in which it was closed: not known, not demand.
    Six months of zeros at the end, or nothing but zeros, are a series that stopped: its forecast is zero. Where at
    least a tenth of the other months are zero, a log scale makes these outliers and its median lies above what is
    seen, so whether and how much are modelled apart (see `training.demand.intermittent`). A few zeros are left in,
    half the smallest positive value added to all.
    """
    values = panel.values.copy()
    largest = np.nan_to_num(values).max(axis=1, keepdims=True, initial=0)
    values[values < np.maximum(NOTHING_SHARE * largest, NOTHING)] = 0.0
    known = np.isfinite(values)
    count = known.sum(axis=1)
    zeros = values == 0
    share = zeros.sum(axis=1) / np.maximum(count, 1)
    positive = np.where(values > 0, values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a series without any positive month
        spread = np.nanstd(positive, axis=1) / np.nanmean(positive, axis=1)
        smallest = np.nan_to_num(np.nanmin(positive, axis=1), nan=1.0)
    kind = np.full(len(panel), Kind.REGULAR, dtype=object)
    stopped = (count > 0) & ((share == 1) | ((count > STOPPED_MONTHS) & _zero_at_the_end(values)))
    closed = (share > 0) & (share < CLOSED_SHARE) & (spread < CLOSED_SPREAD) & ~stopped
    values[closed[:, None] & zeros] = np.nan
    share = np.where(closed, 0.0, share)
    kind[share >= INTERMITTENT_SHARE] = Kind.INTERMITTENT
    kind[stopped] = Kind.STOPPED
    kind[count == 0] = Kind.EMPTY
    names = panel.ids.tolist()
    notes = [(names[i], f"{int(zeros[i].sum())} month(s) of zero taken as closed") for i in np.flatnonzero(closed)]
    notes += [(names[i], "zero at the end of the history: forecast as stopped") for i in np.flatnonzero(stopped)]
    notes += [(names[i], "no history: needs a level from capacity or peers") for i in np.flatnonzero(count == 0)]
    offset = np.where((share > 0) & (kind == Kind.REGULAR), smallest / 2, 0.0)
    return Prepared(values, offset, kind, (*panel.notes, *notes))


def _zero_at_the_end(values: Floats) -> NDArray[np.bool_]:
    """Whether the last six known months are all zero."""
    later = np.cumsum(np.isfinite(values[:, ::-1]), axis=1)[:, ::-1]  # known months from here on
    last = np.isfinite(values) & (later <= STOPPED_MONTHS)
    return np.asarray((np.where(last, values, 0) == 0).all(axis=1))
