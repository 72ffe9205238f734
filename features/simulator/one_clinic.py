"""One clinic of a plan: its size, its ids, its moments and its random streams."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd

from features.simulator.opening import DAY
from features.simulator.plan import PracticePlan

Minutes = Sequence[int | None] | np.ndarray
# Days simulated before the first exported one, so that the export begins in full swing.
RUN_UP = 400
STREAMS = ("people", "staff", "desk", "contacts", "weeks", "entry", "frames", "rates", "truth", "dirt")


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the cycle collector off: nothing becomes garbage while a clinic runs, and looking costs a tenth."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@lru_cache(maxsize=12)
def _ids(prefix: str, digits: int, count: int) -> np.ndarray:
    """Ids 1 to `count`, and empty text at the end."""
    return np.array([f"{prefix}{number:0{digits}d}" for number in range(1, count + 1)] + [""], dtype=object)


@dataclass(frozen=True)
class Span:
    """Minute 0 as a local moment, and the minutes between which visits are exported."""

    origin: datetime
    window: int
    now: int


@dataclass(frozen=True)
class Site:
    """One clinic: its number from 0 on and the count of its patients."""

    plan: PracticePlan
    number: int
    patients: int

    @property
    def tag(self) -> str:
        """The clinic's id."""
        return f"K{self.number + 1}"

    @cached_property
    def span(self) -> Span:
        """Minutes of the plan's window and of its now."""
        origin = self.plan.window_start - timedelta(days=RUN_UP)
        return Span(origin, RUN_UP * DAY, (self.plan.local_now - origin) // timedelta(minutes=1))

    def seed_for(self, concern: str) -> np.random.SeedSequence:
        """Seed of one random stream of this clinic."""
        return np.random.SeedSequence([self.plan.seed, self.number, STREAMS.index(concern)])

    def ids(self, letter: str, positions: Sequence[int] | np.ndarray, digits: int = 7) -> np.ndarray:
        """Ids by position, different from those of every other clinic; empty text for -1."""
        places = np.asarray(positions, dtype=int)
        prefix = letter if self.number == 0 else f"{self.tag}-{letter}"
        # The same ids stand in many tables: they are made once, some more than are asked for.
        count = (int(places.max(initial=0)) // 4096 + 1) * 4096
        ids: np.ndarray = _ids(prefix, digits, count)[places]
        return ids

    def instants(self, minutes: Minutes) -> pd.Series:
        """UTC moments of wall-clock minutes; None becomes NaT."""
        values = np.array(minutes, dtype=float)  # None becomes NaN
        known = ~np.isnan(values)
        ticks = np.full(len(values), np.datetime64("NaT"), dtype="datetime64[s]")
        ticks[known] = np.datetime64(self.span.origin, "s") + (values[known] * 60).astype("timedelta64[s]")
        local = pd.Series(ticks.astype("datetime64[ns]"))
        is_summer = np.ones(len(local), dtype=bool)
        zoned = local.dt.tz_localize(self.plan.time_zone, ambiguous=is_summer, nonexistent="shift_forward")
        return zoned.dt.tz_convert("UTC")

    def months(self, minutes: np.ndarray) -> pd.Series:
        """Midnight of each local month's first day, without a zone."""
        months = np.datetime64(self.span.origin, "m") + np.array(minutes, dtype="timedelta64[m]")
        return pd.Series(months.astype("datetime64[M]").astype("datetime64[s]"))

    def day(self, minute: int) -> date:
        """Local calendar day of a minute."""
        return (self.span.origin + timedelta(minutes=minute)).date()

    def days(self, minutes: Minutes) -> pd.Series:
        """Local calendar days; None stays None."""
        values = np.array(minutes, dtype=float)  # None becomes NaN
        known = ~np.isnan(values)
        days = np.full(len(values), None, dtype=object)
        first = np.datetime64(self.span.origin, "D")
        days[known] = (first + np.floor(values[known] / DAY).astype("timedelta64[D]")).astype(object)
        return pd.Series(days, dtype=object)
