"""How every feature is distributed over a practice's patients, at the newest snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import numpy.typing as npt

from features.errors import NotBuiltError
from features.families import FAMILIES
from features.settings import Settings
from features.snapshots import built, partition_of
from features.spec import Family, Feature

BINS = 24
TAIL = 0.01  # what lies beyond on each side is counted in the outermost bin


@dataclass(frozen=True)
class Distribution:
    """One feature over all patients of a snapshot.

    Attributes
    ----------
    feature : Feature
        Whose values.
    missing : float
        Share of patients without one.
    mean : float or None
        Of the values; of a flag, the share of patients who have it. None if all are missing.
    low, median, high : float or None
        First percentile, median and 99th percentile.
    bars : tuple of int
        Patients per bin, from `low` to `high`; empty if all are missing.
    """

    feature: Feature
    missing: float
    mean: float | None
    low: float | None
    median: float | None
    high: float | None
    bars: tuple[int, ...]


@dataclass(frozen=True)
class Catalogue:
    """Every family's features at one snapshot."""

    as_of: datetime
    patients: int
    families: Mapping[str, tuple[Distribution, ...]]


def catalogue(settings: Settings, families: Mapping[str, Family] = FAMILIES) -> Catalogue:
    """Describe all features over the newest snapshot that every family has.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    families : mapping of str to Family
        By name.

    Returns
    -------
    Catalogue

    Raises
    ------
    NotBuiltError
        If there is no snapshot of all families with patients in it.
    """
    snapshots = built(settings).snapshots
    shared = set.intersection(*(set(snapshots.get(name, ())) for name in families))
    for as_of in sorted(shared, reverse=True):
        if partition_of(settings, next(iter(families)), as_of).exists():
            found = {name: _family(settings, family, as_of) for name, family in families.items()}
            patients = max(count for count, _ in found.values())
            return Catalogue(datetime.fromisoformat(as_of), patients, {n: one for n, (_, one) in found.items()})
    raise NotBuiltError("there are no snapshots of all features yet; run `revisit features build` first.")


def _family(settings: Settings, family: Family, as_of: str) -> tuple[int, tuple[Distribution, ...]]:
    files = (partition_of(settings, family.name, as_of) / "*.parquet").as_posix().replace("'", "''")
    with duckdb.connect() as con:
        names = ", ".join(feature.name for feature in family.features)
        columns = con.sql(f"SELECT {names} FROM read_parquet('{files}')").fetchnumpy()
    values: list[npt.NDArray[np.float64]] = [
        np.ma.filled(np.ma.asarray(columns[f.name], float), np.nan) for f in family.features
    ]
    return len(values[0]), tuple(distribution(*pair) for pair in zip(family.features, values, strict=True))


def distribution(feature: Feature, values: npt.NDArray[np.float64]) -> Distribution:
    """Describe one feature's values, one per patient; NaN where there is none."""
    there = values[~np.isnan(values)]
    if not there.size:
        return Distribution(feature, 1.0, None, None, None, None, ())
    low, median, high = np.quantile(there, [TAIL, 0.5, 1 - TAIL], method="nearest")
    ends = (0.0, 1.0) if feature.unit == "flag" else (low, high)
    bars, _ = np.histogram(np.clip(there, low, high), bins=_edges(*ends, is_whole=bool(np.all(there % 1 == 0))))
    return Distribution(
        feature=feature,
        missing=1 - there.size / values.size,
        mean=float(there.mean()),
        low=float(low),
        median=float(median),
        high=float(high),
        bars=tuple(int(bar) for bar in bars),
    )


def _edges(low: float, high: float, *, is_whole: bool) -> npt.NDArray[np.float64]:
    """Up to `BINS` bins of one width; whole numbers are counted as many to a bin as to any other."""
    if is_whole:
        width = -(-(high - low + 1) // BINS)
        return np.arange(low, high + width + 1, width) - 0.5
    return np.linspace(low, high, BINS + 1) if high > low else np.array([low, low + 1])
