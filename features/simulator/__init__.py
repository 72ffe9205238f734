"""A seeded practice with known truth, and its export.

`simulate` runs a `PracticePlan`; `write_export` writes the result as the files
a practice's own system would export.
"""

from __future__ import annotations

from features.simulator.export import write_export, write_parts
from features.simulator.plan import PracticePlan
from features.simulator.practice import SimulatedPractice, simulate, simulate_clinics
from features.simulator.rates import BaseRates

__all__ = [
    "BaseRates",
    "PracticePlan",
    "SimulatedPractice",
    "simulate",
    "simulate_clinics",
    "write_export",
    "write_parts",
]
