"""A whole practice, clinic by clinic, from its plan to the day of its export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.simulator.columns import booking_columns
from features.simulator.one_clinic import Site, collector_off
from features.simulator.plan import PracticePlan
from features.simulator.rates import BaseRates
from features.simulator.running import run_site, sites_of
from features.simulator.tables import collect, truth_tables
from features.simulator.truth import return_truth


@dataclass(frozen=True)
class SimulatedPractice:
    """A simulated practice's records at `plan.now`, and the truth behind them.

    Attributes
    ----------
    plan : PracticePlan
        What was simulated.
    tables : dict of str to DataFrame
        By name of the contract's table, with the contract's columns; instants
        in UTC, empty text or NaT where nothing is recorded. A key may have
        several states, each with its own known-from moment.
    truth : dict of str to DataFrame
        What only the simulator knows; see `features.simulator.tables.truth_tables`.
    """

    plan: PracticePlan
    tables: dict[str, pd.DataFrame]
    truth: dict[str, pd.DataFrame]

    @property
    def bookings_truth(self) -> pd.DataFrame:
        """One row per booking."""
        return self.truth["bookings_truth"]


def simulate(plan: PracticePlan, rates: BaseRates | None = None) -> SimulatedPractice:
    """Simulate a practice day by day up to `plan.now`.

    Parameters
    ----------
    plan : PracticePlan
        Size, years, seed and moment of the export.
    rates : BaseRates, optional
        Base rates; by default those of the plan's preset.

    Returns
    -------
    SimulatedPractice
        The same for the same plan.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> practice = simulate(PracticePlan(now=datetime(2026, 11, 17, 2, tzinfo=UTC), patients=20, years=1))
    >>> practice.tables["patients"]["patient_id"].nunique()
    20
    """
    parts = list(simulate_clinics(plan, rates))
    if len(parts) == 1:
        return parts[0]
    return SimulatedPractice(plan, _joined(parts, "tables"), _joined(parts, "truth"))


def simulate_clinics(
    plan: PracticePlan, rates: BaseRates | None = None, truth_runs: int = 0
) -> Iterator[SimulatedPractice]:
    """Yield one clinic's part after the other; only one is ever in memory.

    Each clinic has random streams of its own.

    Parameters
    ----------
    plan, rates
        As in `simulate`.
    truth_runs : int
        Runs per snapshot for ``return_truth``; none by default.
    """
    for site in sites_of(plan):
        with collector_off():
            part = _part(plan, site, rates, truth_runs)
        yield part
        del part


def _part(plan: PracticePlan, site: Site, rates: BaseRates | None, truth_runs: int) -> SimulatedPractice:
    world, people = run_site(site, rates)
    bookings = booking_columns(world, site)
    truth = truth_tables(world, people, bookings, site)
    tables = collect(world, people, bookings, site, np.random.default_rng(site.seed_for("frames")))
    world.take_apart()
    if truth_runs:
        truth |= return_truth(site, rates, truth_runs)
    return SimulatedPractice(plan, tables, truth)


def _joined(parts: list[SimulatedPractice], kind: str) -> dict[str, pd.DataFrame]:
    names = getattr(parts[0], kind)
    return {name: pd.concat([getattr(part, kind)[name] for part in parts], ignore_index=True) for name in names}
