"""The known truth about attendance: plain functions from facts to probabilities.

A booking is given up early (24 hours ahead or more) or not; then reminded or
not, and the reminder confirmed or not; then cancelled late or not; then kept
or missed. Each step's probability is known, so those of the whole are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log1p
from typing import Literal

from features.simulator.rates import AttendanceRates

ReminderState = Literal["none", "unanswered", "confirmed"]


def logistic(value: float) -> float:
    """Probability of a logit."""
    return 1 / (1 + exp(-value))


@dataclass(frozen=True)
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
    effects = {"none": 0.0, "unanswered": rates.unanswered, "confirmed": rates.confirmed}
    return logistic(logit + effects[state])


def early_exit_chance(rates: AttendanceRates, facts: Circumstances) -> float:
    """Probability to cancel or move at least 24 hours ahead."""
    by_lead = rates.early_exit * (1 - exp(-facts.lead_days / rates.early_exit_days))
    return min(0.6, by_lead * exp(rates.early_exit_personal * facts.personal_effect))


def late_exit_chance(rates: AttendanceRates, facts: Circumstances, state: ReminderState) -> float:
    """Probability to cancel inside the last 24 hours."""
    short = rates.late_exit_short if facts.lead_days < 1 else 1.0
    confirmed = rates.late_exit_confirmed if state == "confirmed" else 1.0
    personal = exp(rates.late_exit_personal * facts.personal_effect)
    return min(0.5, rates.late_exit * short * confirmed * personal)


@dataclass(frozen=True)
class Truth:
    """True probabilities of one booking at one moment.

    Attributes
    ----------
    no_show : float
        Missed without a word.
    missed : float
        Missed without a word or cancelled inside the last 24 hours.
    """

    no_show: float
    missed: float


def truth_at_booking(rates: AttendanceRates, facts: Circumstances, states: Mapping[ReminderState, float]) -> Truth:
    """Truth among bookings that are not given up early; `states` are probabilities that sum to 1."""
    logit = no_show_logit(rates, facts)
    no_show = missed = 0.0
    for state, share in states.items():
        late = late_exit_chance(rates, facts, state)
        no_show_here = (1 - late) * miss_chance(rates, logit, state)
        no_show += share * no_show_here
        missed += share * (late + no_show_here)
    return Truth(no_show, missed)


def truth_in_the_evening(
    rates: AttendanceRates, facts: Circumstances, state: ReminderState, share_left: float
) -> Truth:
    """Truth among bookings that still stand on the evening before.

    Parameters
    ----------
    rates, facts, state
        As above; the reminder's state is known by then.
    share_left : float
        Share of the late-cancellation window that lies after the evening.
    """
    late = late_exit_chance(rates, facts, state)
    standing = 1 - late + late * share_left
    no_show = (1 - late) * miss_chance(rates, no_show_logit(rates, facts), state) / standing
    return Truth(no_show, no_show + late * share_left / standing)
