"""The simulator's weekly model, for one who reads a practice's history."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import exp

import numpy as np

from features.simulator.hazards import WEEKS_PER_YEAR, lapse_chance, response_chances
from features.simulator.observed import CHANNELS, Observed
from features.simulator.opening import DAY, Opening
from features.simulator.panel import NEVER, WEEK, seasons
from features.simulator.rates import BaseRates


@dataclass(frozen=True)
class Model:
    """What one who knows the simulator knows of all patients.

    Attributes
    ----------
    rates : BaseRates
    opening : Opening
    prices_rise : int
        Minute from which on prices are up.
    """

    rates: BaseRates
    opening: Opening
    prices_rise: int = NEVER

    @cached_property
    def seasons(self) -> dict[str, np.ndarray]:
        """Factor on booking by week, for adults and for children."""
        return seasons(self.rates.demand, self.opening)

    def leaving(self, seen: Observed, minute: int, departs: bool) -> np.ndarray:
        """Chance of each patient to leave this week; moves and deaths only if `departs`."""
        rates, events = self.rates.demand, self.rates.events
        factor = seen.stays
        for at, share in seen.unsettled.items():
            if at < minute < at + events.departure_weeks * WEEK:
                factor = factor * (1 + share * (events.departure_factor - 1))
        if self.prices_rise <= minute < self.prices_rise + events.price_weeks * WEEK:
            factor = factor * (1 + events.price_factor * seen.price)
        chance = lapse_chance(rates.lapse_per_year, factor)
        if not departs:
            return chance
        old = np.where(self.year(minute) - seen.birth_year >= 65, 10.0, 1.0)
        stays: np.ndarray = (1 - chance) * (1 - (rates.dies_per_year * old + rates.moves_per_year) / WEEKS_PER_YEAR)
        return 1 - stays

    def year(self, minute: int) -> int:
        """Calendar year of a minute; years beyond the calendar are its last."""
        return self.opening.years[min(minute // DAY, len(self.opening.years) - 1)]

    def factor(self, seen: Observed, minute: int) -> np.ndarray:
        """Season's factor on booking this week, by patient."""
        week = min(minute // WEEK, len(self.seasons["adult"]) - 1)
        is_child = self.year(minute) - seen.birth_year < 18
        factor: np.ndarray = np.where(is_child, self.seasons["child"][week], self.seasons["adult"][week])
        return factor

    def hurts(self) -> float:
        """Chance of a toothache this week."""
        return 1 - exp(-self.rates.demand.emergencies_per_year / WEEKS_PER_YEAR)

    def answers(self, log_rate: np.ndarray, age: int, recent: int) -> np.ndarray:
        """Chance that a message makes one in care book: rates x (put off or not) x channels."""
        spread = self.rates.demand.adherence_sd
        found = np.zeros((len(log_rate), 2, len(CHANNELS)))
        for place, effect in enumerate(log_rate.tolist()):
            for put_off in (False, True):
                chances = response_chances(
                    self.rates.contacts, effect / spread if spread else 0.0, age, recent, put_off
                )
                found[place, int(put_off)] = [chances[channel] for channel in CHANNELS]
        return found
