"""Everybody's state in arrays, and the week's step: who leaves, who hurts, who books."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from features.simulator.hazards import WEEKS_PER_YEAR, booking_chance, lapse_chance
from features.simulator.opening import DAY, Opening
from features.simulator.people import People
from features.simulator.rates import BaseRates, DemandRates

WEEK = 7 * DAY
NEVER = 2**62
Minutes = int | np.ndarray
Who = int | slice | np.ndarray


@dataclass
class Panel:
    """One entry per person in every array; the changing ones are written by events.

    Attributes
    ----------
    rate, stays, price, birth_year : ndarray
        Personal factor on booking; on leaving; price sensitivity; year.
    in_care : ndarray of bool
        Entered and not left (latent, never exported).
    due : ndarray of int
        Minute of the due date.
    is_booked : ndarray of bool
        Whether this round's recall visit is booked.
    annoyed_until, leaves_until : ndarray of int
        Until when messages put the person off; until when the departure of the
        clinician makes leaving likelier.
    """

    rate: np.ndarray
    stays: np.ndarray
    price: np.ndarray
    birth_year: np.ndarray
    in_care: np.ndarray
    due: np.ndarray
    is_booked: np.ndarray
    annoyed_until: np.ndarray
    leaves_until: np.ndarray
    season: dict[str, np.ndarray] = field(default_factory=dict)
    shock: int = NEVER

    def booking(self, rates: BaseRates, minute: Minutes, year: int, who: Who = slice(None)) -> np.ndarray:
        """Chance to book unasked in the week of `minute`; several weeks may be asked for one person."""
        week = minute // WEEK
        weeks_since_due = (minute - self.due[who]) // WEEK
        is_child = year - self.birth_year[who] < 18
        factor = np.where(is_child, self.season["child"][week], self.season["adult"][week])
        factor = np.where(self.annoyed_until[who] > minute, factor * rates.contacts.annoyed, factor)
        return booking_chance(rates.demand, weeks_since_due, self.rate[who], factor)

    def leaving(self, rates: BaseRates, minute: Minutes, who: Who = slice(None)) -> np.ndarray:
        """Chance to leave for good in the week of `minute`, moves and deaths apart."""
        events = rates.events
        factor = np.where(self.leaves_until[who] > minute, self.stays[who] * events.departure_factor, self.stays[who])
        is_shocked = (self.shock <= minute) & (minute < self.shock + events.price_weeks * WEEK)
        if np.any(is_shocked):
            factor = factor * (1 + events.price_factor * self.price[who] * is_shocked)
        return lapse_chance(rates.demand.lapse_per_year, factor)

    def departing(self, rates: DemandRates, year: int, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Chances to die and to move away this week."""
        old = np.where(year - self.birth_year[who] >= 65, 10.0, 1.0)
        dies = rates.dies_per_year * old / WEEKS_PER_YEAR
        return dies, np.full(len(old), rates.moves_per_year / WEEKS_PER_YEAR)


def panel_of(people: People, rates: BaseRates, opening: Opening) -> Panel:
    """Panel before anyone has entered."""
    size = len(people.joined)
    return Panel(
        rate=np.exp(-people.log_delay),
        stays=people.stays,
        price=people.price_sensitivity,
        birth_year=people.birth_year,
        in_care=np.zeros(size, bool),
        due=np.full(size, NEVER),
        is_booked=np.zeros(size, bool),
        annoyed_until=np.zeros(size, int),
        leaves_until=np.zeros(size, int),
        season=seasons(rates.demand, opening),
    )


def seasons(rates: DemandRates, opening: Opening) -> dict[str, np.ndarray]:
    """Factor on booking by week from minute 0, for adults and for children."""
    adult, child = [], []
    for week in range(len(opening.is_open) // 7 + 1):
        days = range(week * 7, min(week * 7 + 7, len(opening.is_open)))
        month = opening.months[min(week * 7 + 3, len(opening.is_open) - 1)]
        ahead = opening.closed_within(week * 7, 21)
        behind = opening.closed_within(week * 7 - 14, 14)
        everyone = (rates.december if month == 12 else 1.0) * (rates.year_end if month in (11, 12) else 1.0)
        if ahead and not behind:
            everyone *= rates.before_festival
        elif behind and days:
            everyone *= rates.after_festival
        at_home = month in (7, 8) or (ahead and not behind)
        adult.append(everyone)
        child.append(everyone * (rates.school_holiday if at_home else 1.0))
    return {"adult": np.array(adult), "child": np.array(child)}
