"""The known truth about attendance: plain functions from facts to probabilities.

A booking is given up early (24 hours ahead or more) or not; then reminded or
not, and the reminder confirmed or not; then cancelled late or not; then kept
or missed. Each step's probability is known, so those of the whole are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log1p
from typing import Literal, NamedTuple, get_args

import numpy as np

from features.simulator.rates import AttendanceRates

ReminderState = Literal["none", "unanswered", "confirmed"]
REMINDER_STATES: tuple[ReminderState, ...] = get_args(ReminderState)
LATE_AT_MOST = 0.5  # probability of a late cancellation


def logistic(value: float) -> float:
    """Probability of a logit."""
    return 1 / (1 + exp(-value))


@dataclass(slots=True)
class Circumstances:
    """What the truth depends on, as of the booking.

    Attributes
    ----------
    personal_effect : float
        The patient's lasting tendency, on the logit.
    lead_days : float
        Days between booking and visit, with fractions.
    age : int
        Years, from the calendar years alone.
    is_early, is_monday, is_new : bool
        Start before 10:00; on a Monday; no completed visit yet.
    """

    personal_effect: float
    lead_days: float
    age: int
    is_early: bool
    is_monday: bool
    is_new: bool


def no_show_logit(rates: AttendanceRates, facts: Circumstances) -> float:
    """Logit of a no-show without a reminder, given that the booking stands until its start."""
    young, senior = 16 <= facts.age <= 30, facts.age >= 60
    return (
        rates.base
        + facts.personal_effect
        + rates.lead_slope * log1p(facts.lead_days)
        + rates.young * young
        + rates.senior * senior
        + rates.early * facts.is_early
        + rates.monday * facts.is_monday
        + rates.new * facts.is_new
    )


def miss_chance(rates: AttendanceRates, logit: float, state: ReminderState) -> float:
    """Probability of a no-show, given the reminder and that the booking stands until its start."""
    return logistic(logit + reminder_effect(rates, state))


def reminder_effect(rates: AttendanceRates, state: ReminderState) -> float:
    """What a reminder adds to the logit of a no-show."""
    return 0.0 if state == "none" else rates.confirmed if state == "confirmed" else rates.unanswered


def early_exit_chance(rates: AttendanceRates, facts: Circumstances) -> float:
    """Probability to cancel or move at least 24 hours ahead."""
    by_lead = rates.early_exit * (1 - exp(-facts.lead_days / rates.early_exit_days))
    return min(0.6, by_lead * exp(rates.early_exit_personal * facts.personal_effect))


def late_exit_weight(rates: AttendanceRates, facts: Circumstances) -> float:
    """Chance to cancel inside the last 24 hours without a confirmation, before it is capped."""
    short = rates.late_exit_short if facts.lead_days < 1 else 1.0
    return rates.late_exit * short * exp(rates.late_exit_personal * facts.personal_effect)


def late_exit_chance(rates: AttendanceRates, weight: float, state: ReminderState) -> float:
    """Probability to cancel inside the last 24 hours; `weight` is that of `late_exit_weight`."""
    return min(LATE_AT_MOST, weight * (rates.late_exit_confirmed if state == "confirmed" else 1.0))


class Truth(NamedTuple):
    """True probabilities of bookings at one moment, one entry per booking.

    Attributes
    ----------
    no_show : ndarray
        Missed without a word.
    missed : ndarray
        Missed without a word or cancelled inside the last 24 hours.
    """

    no_show: np.ndarray
    missed: np.ndarray


def truth_at_booking(
    rates: AttendanceRates, logit: np.ndarray, weight: np.ndarray, states: Mapping[ReminderState, np.ndarray]
) -> Truth:
    """Truth among bookings that are not given up early.

    Parameters
    ----------
    rates : AttendanceRates
    logit, weight : ndarray, shape (bookings,)
        Of `no_show_logit` and `late_exit_weight`.
    states : mapping of str to ndarray
        Probability of each reminder state; they sum to 1.
    """
    no_show, missed = np.zeros(len(logit)), np.zeros(len(logit))
    for state, share in states.items():
        late, here = _ends(rates, logit, weight, state)
        no_show += share * here
        missed += share * (late + here)
    return Truth(no_show, missed)


def truth_in_the_evening(
    rates: AttendanceRates, logit: np.ndarray, weight: np.ndarray, states: np.ndarray, share_left: np.ndarray
) -> Truth:
    """Truth among bookings that still stand on the evening before.

    Parameters
    ----------
    rates, logit, weight
        As above.
    states : ndarray of str
        The reminder's state, which is known by then.
    share_left : ndarray
        Share of the late-cancellation window that lies after the evening.
    """
    no_show, missed = np.zeros(len(logit)), np.zeros(len(logit))
    for state in REMINDER_STATES:
        late, here = _ends(rates, logit, weight, state)
        standing = 1 - late + late * share_left
        no_show = np.where(states == state, here / standing, no_show)
        missed = np.where(states == state, (here + late * share_left) / standing, missed)
    return Truth(no_show, missed)


def _ends(
    rates: AttendanceRates, logit: np.ndarray, weight: np.ndarray, state: ReminderState
) -> tuple[np.ndarray, np.ndarray]:
    """P(cancelled late) and P(neither cancelled late nor kept)."""
    confirmed = rates.late_exit_confirmed if state == "confirmed" else 1.0
    late = np.minimum(weight * confirmed, LATE_AT_MOST)
    return late, (1 - late) / (1 + np.exp(-logit - reminder_effect(rates, state)))
