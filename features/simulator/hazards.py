"""The known truth about coming and leaving, week by week: plain functions over arrays.

One week is one step. In it a person who is in care leaves with `lapse_chance`,
and one who has no recall visit booked books one with `booking_chance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from features.simulator.attendance import logistic
from features.simulator.rates import ContactRates, DemandRates

WEEKS_PER_YEAR = 365.25 / 7
# Nobody is surer than this to do something in a given week.
SUREST = 0.9
WEEK = 7 * 1440  # minutes
WINDOW_WEEKS = 8  # a recall's effect is judged after this long


def due_profile(rates: DemandRates, weeks_since_due: np.ndarray) -> np.ndarray:
    """Weekly chance of the mean person to book unasked, by weeks since the due date."""
    starts, chances = _due_steps(rates.due_hazard, rates.due_ahead_weeks)
    profile: np.ndarray = chances[np.searchsorted(starts, weeks_since_due, side="right")]
    return profile


def first_week(rates: DemandRates) -> int:
    """Weeks since the due date before which nobody books unasked."""
    return rates.due_hazard[0][0] - rates.due_ahead_weeks


@cache
def _due_steps(due_hazard: tuple[tuple[int, float], ...], ahead_weeks: int) -> tuple[np.ndarray, np.ndarray]:
    """Weeks since the due date at which the chance changes; the chance before the first, and from each on."""
    starts = np.array([start for start, _ in due_hazard]) - ahead_weeks
    return starts, np.array([0.0, *[chance for _, chance in due_hazard]])


def booking_chance(rates: DemandRates, weeks_since_due: np.ndarray, rate: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Chance to book the recall visit this week.

    Parameters
    ----------
    rates : DemandRates
        For the profile of the mean person.
    weeks_since_due : ndarray
        Whole weeks; negative before the due date.
    rate : ndarray
        Personal factor, lasting.
    factor : ndarray
        Season, and annoyance by messages.
    """
    hazard = due_profile(rates, weeks_since_due) * rate * factor
    chance: np.ndarray = np.minimum(1 - np.exp(-hazard), SUREST)
    return chance


def stay_factor(rates: DemandRates, is_referred: np.ndarray, is_member: np.ndarray) -> np.ndarray:
    """Personal factor on both lapse processes; what it depends on stands in the patients table."""
    return np.where(is_referred, rates.referred_factor, 1.0) * np.where(is_member, rates.member_factor, 1.0)


def lapse_chance(per_year: float, factor: np.ndarray) -> np.ndarray:
    """Chance to leave for good this week."""
    chance: np.ndarray = np.minimum(1 - np.exp(-per_year / WEEKS_PER_YEAR * factor), SUREST)
    return chance


def response_chances(rates: ContactRates, z: float, age: int, recent: int, is_negative: bool) -> Mapping[str, float]:
    """Chance that a recall message on the due date makes a person in care book, by channel.

    Parameters
    ----------
    rates : ContactRates
    z : float
        Personal log rate of coming unasked, in standard deviations; low is at risk.
    age : int
        Years.
    recent : int
        Recall messages of the last 180 days.
    is_negative : bool
        Whether messages put this person off.
    """
    if is_negative:
        return dict.fromkeys(rates.recall_books, 0.0)
    # Both are scaled to a mean of about 1 over standard normal z.
    by_kind = {
        "high_risk_gains": float(np.exp(-0.6 * z - 0.18)),
        "middle_gains": 0.15 + 1.20 * float(np.exp(-(z**2) / 2)),
        "equal": 1.0,
    }
    gain = by_kind[rates.who_gains] * rates.fatigue**recent
    old, young = rates.age_matters * (age >= 60), rates.age_matters * (age < 35)
    tilt = {
        "wechat": 1 - 0.4 * old + 0.2 * young,
        "sms": 1 - 0.2 * old,
        "phone": 1 + 0.3 * old - 0.3 * young,
    }
    return {channel: min(base * gain * tilt[channel], 0.6) for channel, base in rates.recall_books.items()}


def stale_factor(rates: ContactRates, minutes_past_due: int) -> float:
    """Factor on the response to a message so long past due."""
    return float(rates.stale ** (max(minutes_past_due, 0) / WEEK))


def window_truth(
    books: float,
    chances: np.ndarray,
    leaves: np.ndarray,
    attends: np.ndarray,
) -> tuple[float, float]:
    """P(booked) and P(attended by the first booking) within the weeks given.

    Exact for the weekly model: a message at the start books at once with
    `books`; else each week brings leaving, then booking.

    Parameters
    ----------
    books : float
        Chance that the message books; 0 in the hold-out.
    chances, leaves : ndarray, shape (weeks,)
        Weekly chances to book and to leave.
    attends : ndarray, shape (weeks,)
        P(attended before the window's end | booked in week k).
    """
    booked, attended, here = books, books * attends[0], 1 - books
    for book, leave, attend in zip(chances.tolist(), leaves.tolist(), attends.tolist(), strict=True):
        here *= 1 - leave
        booked += here * book
        attended += here * book * attend
        here *= 1 - book
    return booked, attended


@cache
def attends_by(median: float, spread: float, kept: float, weeks: int) -> np.ndarray:
    """P(attended before the window's end | booked in week k), first booking alone.

    The lead is lognormal in days; bookings fall evenly within their week, so
    the middle of the week stands for all.
    """
    left = np.maximum((weeks - np.arange(weeks)) * 7 - 3.5, 0.5)
    # A logistic curve stands for the normal distribution's; it is off by 0.01 at most.
    share = np.array([logistic(1.702 * float(np.log(days / median)) / spread) for days in left])
    attends: np.ndarray = kept * share
    attends.flags.writeable = False  # kept for the next caller
    return attends
