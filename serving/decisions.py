"""From a score to an offer of help: pure functions, no clock, no database.

A score only ever adds help, a call or a message. There is no way from here to
overbooking, refusing or moving a patient.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from serving.schedule import Booking, Score

Band = Literal["low", "medium", "high"]
Action = Literal["confirm_by_phone", "send_reminder", "none", "no_score"]
ACTIONS: tuple[Action, ...] = ("confirm_by_phone", "send_reminder", "none", "no_score")
_BY_BAND: dict[Band, Action] = {"high": "confirm_by_phone", "medium": "send_reminder", "low": "none"}


def band(probability: float, medium: float, high: float) -> Band:
    """Name the band of a probability as pages show it, in whole percent; a threshold belongs to the band above it.

    Parameters
    ----------
    probability : float
        Of the booking being missed.
    medium, high : float
        Thresholds from ``Settings.no_show``.

    Examples
    --------
    >>> band(0.146, 0.15, 0.30), band(0.294, 0.15, 0.30), band(0.30, 0.15, 0.30)
    ('medium', 'medium', 'high')
    """
    shown = round(probability, 2)
    if shown >= high:
        return "high"
    return "medium" if shown >= medium else "low"


def is_open(booking: Booking) -> bool:
    """Whether the booking is still ahead: nobody arrived, cancelled or stayed away yet."""
    return booking.status == "booked"


def suggested_action(booking: Booking, score: Score | None, risk: Band | None) -> Action:
    """Suggest what the front desk may do; a booking that is over needs nothing.

    Parameters
    ----------
    booking : Booking
        The booking.
    score : Score or None
        Its score, if it was scored.
    risk : str or None
        The score's band.
    """
    if not is_open(booking):
        return "none"
    if score is None or risk is None:
        return "no_score"
    return _BY_BAND[risk]


def expected_no_shows(entries: Iterable[tuple[Booking, Score | None]]) -> float:
    """Add up the probabilities of the bookings still ahead."""
    return sum(score.probability for booking, score in entries if score is not None and is_open(booking))
