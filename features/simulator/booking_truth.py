"""The true probabilities of every booking, from what was noted when it was made."""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.simulator.attendance import ReminderState, Truth, truth_at_booking, truth_in_the_evening
from features.simulator.bookings import AFTER_BOOKING, BEFORE_START
from features.simulator.columns import BookingColumns
from features.simulator.one_clinic import Site
from features.simulator.opening import AWAKE, DAY, WAKES
from features.simulator.rates import AttendanceRates
from features.simulator.reminders import channel_shares
from features.simulator.world import World


def bookings_truth_frame(world: World, bookings: BookingColumns, site: Site) -> pd.DataFrame:
    """One row per booking: what only the simulator knows.

    ``*_at_booking`` hold among bookings that are not given up 24 hours ahead
    or more; ``*_evening_before`` hold among those that still stood at the
    evening-before hour, and are empty for others and for evenings to come.
    ``missed`` counts late cancellations with the no-shows.
    """
    at_booking, evening = _at_booking_truth(world, bookings), _evening_truth(world, bookings)
    hour = (bookings.start // DAY - 1) * DAY + world.rates.attendance.evening_hour * 60
    ended = np.where(np.isnan(bookings.known), np.inf, bookings.known)
    is_told = (bookings.booked < hour) & (hour <= site.span.now) & (ended > hour)
    effects = np.array([person.personal_effect for person in world.people])
    return pd.DataFrame(
        {
            "appointment_id": site.ids("A", np.arange(len(bookings))),
            "no_show_probability_at_booking": at_booking.no_show,
            "no_show_probability_evening_before": np.where(is_told, evening.no_show, np.nan),
            "missed_probability_at_booking": at_booking.missed,
            "missed_probability_evening_before": np.where(is_told, evening.missed, np.nan),
            "personal_effect": effects[bookings.person],
            "no_show_logit": bookings.logit,
            "reminder_state": np.where(is_told, bookings.reminder, ""),
            "is_new_patient": bookings.is_new,
        }
    )


def _at_booking_truth(world: World, bookings: BookingColumns) -> Truth:
    """Truth as of the booking, one entry per booking."""
    rates = world.rates.contacts
    can_be_reminded = bookings.start // DAY - bookings.booked // DAY >= 2
    is_reached = np.array([bool(channel_shares(rates, person)) for person in world.people], dtype=bool)
    confirms = np.array([person.confirms for person in world.people])[bookings.person]
    sent = rates.reminded * (can_be_reminded & is_reached[bookings.person])
    states: dict[ReminderState, np.ndarray] = {
        "none": 1 - sent,
        "unanswered": sent * (1 - confirms),
        "confirmed": sent * confirms,
    }
    return truth_at_booking(world.rates.attendance, bookings.logit, bookings.late, states)


def _evening_truth(world: World, bookings: BookingColumns) -> Truth:
    rates = world.rates.attendance
    left = late_window_left(rates, bookings.booked, bookings.start)
    return truth_in_the_evening(rates, bookings.logit, bookings.late, bookings.reminder, left)


def late_window_left(rates: AttendanceRates, booked: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Share of the late-cancellation window that lies after the evening before; arguments in minutes."""
    evening = (start // DAY - 1) * DAY + rates.evening_hour * 60
    since = _waking(np.maximum(booked + AFTER_BOOKING, start - DAY + 1))
    until = _waking(start - BEFORE_START)
    share: np.ndarray = (until - np.maximum(since, _waking(evening + 1))) / np.maximum(until - since, 1)
    return share


def _waking(minutes: np.ndarray) -> np.ndarray:
    """`features.simulator.opening.waking_minutes` of many."""
    counts: np.ndarray = minutes // DAY * AWAKE + np.clip(minutes % DAY - WAKES, 0, AWAKE)
    return counts
