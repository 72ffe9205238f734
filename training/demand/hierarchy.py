"""Clinics and service lines, and what they sum up to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from training.demand.panel import Floats, Panel

LEVELS: dict[str, list[str]] = {
    "practice": [],
    "clinic": ["clinic"],
    "service_line": ["service_line"],
    "clinic_line": ["clinic", "service_line"],  # the bottom
}
FEWEST_KNOWN = 0.5  # share of a sum's usual volume that has to be known for the rest to be filled in


@dataclass(frozen=True)
class Hierarchy:
    """Series that sum up.

    Attributes
    ----------
    nodes : pandas.DataFrame
        One row per series: series (its name), level, clinic, service_line (empty where summed over); the bottom
        level comes last.
    summing : ndarray of shape (n_nodes, n_bottom)
        1 where a bottom series is part of a node.
    """

    nodes: pd.DataFrame
    summing: Floats

    @property
    def bottom(self) -> pd.DataFrame:
        """The rows of the bottom level."""
        return self.nodes.iloc[-self.summing.shape[1] :]

    @classmethod
    def of(cls, bottom: pd.DataFrame) -> Hierarchy:
        """Build all levels from the bottom's clinics and service lines (one row each)."""
        bottom = bottom[["clinic", "service_line"]].reset_index(drop=True)
        nodes, rows = [], []
        for level, keys in LEVELS.items():
            groups = bottom.groupby(keys, sort=True).indices if keys else {(): np.arange(len(bottom))}
            for key, members in groups.items():
                named = dict(zip(keys, key if isinstance(key, tuple) else (key,), strict=True))
                name = ":".join([level, "/".join(named.values())]) if named else level
                nodes.append({"series": name, "level": level, "clinic": "", "service_line": "", **named})
                rows.append(np.isin(np.arange(len(bottom)), members).astype(float))
        ordered = np.array(rows)
        # groupby sorts: put the bottom back into the order of `bottom`, so that its block is the identity.
        ends = len(nodes) - len(bottom)
        order = [*range(ends), *(ends + np.argsort(ordered[ends:].argmax(axis=1)))]
        return cls(pd.DataFrame(nodes).iloc[order].reset_index(drop=True), ordered[order])

    def panel(self, bottom: Floats, months: pd.PeriodIndex) -> Panel:
        """All nodes' history from the bottom's, shape (n_bottom, n_months), NaN where not known.

        Where some members are not known (a clinic closed, or not yet open), a sum is scaled up by their usual share,
        so that it is comparable with months in which all are; below half of the usual volume it is not known.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a series without any month
            usual = np.nan_to_num(np.nanmean(bottom, axis=1))
        is_known = np.isfinite(bottom) & (usual > 0)[:, None]
        volume = self.summing @ usual
        share = (self.summing @ (is_known * usual[:, None])) / np.where(volume > 0, volume, 1)[:, None]
        any_known = self.summing @ np.isfinite(bottom).astype(float) > 0
        share = np.where((volume == 0)[:, None] & any_known, 1.0, share)
        sums = self.summing @ np.nan_to_num(bottom)
        enough = share >= FEWEST_KNOWN
        values = np.where(enough, sums / np.where(enough, share, 1.0), np.nan)
        return Panel(pd.Index(self.nodes["series"]), months, values)
