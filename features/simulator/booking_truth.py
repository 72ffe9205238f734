"""The true probabilities of every booking, from what was noted when it was made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from features.simulator.attendance import ReminderState, Truth, truth_at_booking, truth_in_the_evening
from features.simulator.bookings import AFTER_BOOKING, BEFORE_START
from features.simulator.one_clinic import Site
from features.simulator.opening import AWAKE, DAY, WAKES
from features.simulator.rates import AttendanceRates
from features.simulator.reminders import channel_shares
from features.simulator.world import Booking, World


def bookings_truth_frame(world: World, bookings: Sequence[Booking], site: Site) -> pd.DataFrame:
    """One row per booking: what only the simulator knows.

    ``*_at_booking`` hold among bookings that are not given up 24 hours ahead
    or more; ``*_evening_before`` hold among those that still stood at the
    evening-before hour, and are empty for others and for evenings to come.
    ``missed`` counts late cancellations with the no-shows.
    """
    booked, start = _minutes(bookings)
    reminder = np.array([booking.reminder for booking in bookings], dtype=object)
    at_booking, evening = _at_booking_truth(world, bookings), _evening_truth(world, bookings, reminder)
    hour = (start // DAY - 1) * DAY + world.rates.attendance.evening_hour * 60
    ended = np.array([np.inf if booking.known is None else booking.known for booking in bookings])
    is_told = (booked < hour) & (hour <= site.span.now) & (ended > hour)
    return pd.DataFrame(
        {
            "appointment_id": site.ids("A", range(len(bookings))),
            "no_show_probability_at_booking": at_booking.no_show,
            "no_show_probability_evening_before": np.where(is_told, evening.no_show, np.nan),
            "missed_probability_at_booking": at_booking.missed,
            "missed_probability_evening_before": np.where(is_told, evening.missed, np.nan),
            "personal_effect": [booking.request.person.personal_effect for booking in bookings],
            "no_show_logit": [booking.logit for booking in bookings],
            "reminder_state": np.where(is_told, reminder, ""),
            "is_new_patient": [booking.is_new for booking in bookings],
        }
    )


def _at_booking_truth(world: World, bookings: Sequence[Booking]) -> Truth:
    """Truth as of the booking, one entry per booking."""
    rates = world.rates.contacts
    booked, start = _minutes(bookings)
    can_be_reminded = start // DAY - booked // DAY >= 2
    is_reached = np.array([bool(channel_shares(rates, booking.request.person)) for booking in bookings], dtype=bool)
    confirms = np.array([booking.request.person.confirms for booking in bookings])
    sent = rates.reminded * (can_be_reminded & is_reached)
    states: dict[ReminderState, np.ndarray] = {
        "none": 1 - sent,
        "unanswered": sent * (1 - confirms),
        "confirmed": sent * confirms,
    }
    return truth_at_booking(world.rates.attendance, *_weights(bookings), states)


def _evening_truth(world: World, bookings: Sequence[Booking], reminder: np.ndarray) -> Truth:
    booked, start = _minutes(bookings)
    rates = world.rates.attendance
    return truth_in_the_evening(rates, *_weights(bookings), reminder, late_window_left(rates, booked, start))


def late_window_left(rates: AttendanceRates, booked: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Share of the late-cancellation window that lies after the evening before; arguments in minutes."""
    evening = (start // DAY - 1) * DAY + rates.evening_hour * 60
    since = _waking(np.maximum(booked + AFTER_BOOKING, start - DAY + 1))
    until = _waking(start - BEFORE_START)
    share: np.ndarray = (until - np.maximum(since, _waking(evening + 1))) / np.maximum(until - since, 1)
    return share


def _minutes(bookings: Sequence[Booking]) -> tuple[np.ndarray, np.ndarray]:
    booked = np.array([booking.booked for booking in bookings], dtype=int)
    return booked, np.array([booking.start for booking in bookings], dtype=int)


def _weights(bookings: Sequence[Booking]) -> tuple[np.ndarray, np.ndarray]:
    logit = np.array([booking.logit for booking in bookings], dtype=float)
    return logit, np.array([booking.late for booking in bookings], dtype=float)


def _waking(minutes: np.ndarray) -> np.ndarray:
    """`features.simulator.opening.waking_minutes` of many."""
    counts: np.ndarray = minutes // DAY * AWAKE + np.clip(minutes % DAY - WAKES, 0, AWAKE)
    return counts
