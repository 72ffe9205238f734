"""From scores and records to an offer of help: pure functions, no clock, no database.

A flag only ever adds help: a call, an offer, a question. There is no way from
here to overbooking, refusing or moving a patient, or to a visit before the
date that a clinician has set.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from features.settings import Desk
from serving.patients import LAPSE, Standing
from serving.schedule import Booking, Score

Band = Literal["low", "medium", "high"]
Flag = Literal["no_show", "lapse", "overdue", "treatment", "unanswered", "family"]
FLAGS: tuple[Flag, ...] = ("no_show", "lapse", "overdue", "treatment", "unanswered", "family")
Action = Literal[
    "confirm_by_phone",
    "send_reminder",
    "offer_next_visit",
    "explain_plan",
    "check_contact",
    "offer_family",
    "none",
    "no_score",
]
ACTIONS: tuple[Action, ...] = (
    "confirm_by_phone",
    "send_reminder",
    "offer_next_visit",
    "explain_plan",
    "check_contact",
    "offer_family",
    "none",
    "no_score",
)
NO_ACTION: tuple[Action, ...] = ("none", "no_score")
DAYS_PER_WEEK = 7
_BY_BAND: dict[Band, Action] = {"high": "confirm_by_phone", "medium": "send_reminder", "low": "none"}
_COMING = ("booked", "arrived", "completed")


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


def is_coming(booking: Booking) -> bool:
    """Whether the patient is expected, here, or was here that day."""
    return booking.status in _COMING


def flags_of(booking: Booking, risk: Band | None, standing: Standing | None, desk: Desk) -> tuple[Flag, ...]:
    """Name what the front desk should know about a booking's patient, in the order of `FLAGS`.

    Parameters
    ----------
    booking : Booking
        One who does not come any more has no flags.
    risk : str or None
        Band of the booking's own score.
    standing : Standing or None
        The patient's records and scores, if known.
    desk : Desk
        From when on things are flagged.
    """
    if not is_coming(booking):
        return ()
    found = set() if standing is None else set(patient_flags(standing, desk))
    if is_open(booking) and risk in ("medium", "high"):
        found.add("no_show")
    return tuple(flag for flag in FLAGS if flag in found)


def patient_flags(standing: Standing, desk: Desk) -> tuple[Flag, ...]:
    """Name what the front desk should know about a patient, whatever is booked.

    Parameters
    ----------
    standing : Standing
        The patient's records and scores.
    desk : Desk
        From when on things are flagged.
    """
    patient, lapse = standing.patient, standing.scores.get(LAPSE)
    holds: dict[Flag, bool] = {
        "lapse": lapse is not None and lapse.is_at_risk,
        "overdue": patient.days_overdue is not None and patient.days_overdue > DAYS_PER_WEEK * desk.overdue_weeks,
        "treatment": patient.open_items > 0,
        "unanswered": patient.unanswered >= desk.unanswered,
        "family": patient.family_due > 0,
    }
    return tuple(flag for flag, is_so in holds.items() if is_so)


def suggested_action(
    booking: Booking,
    score: Score | None,
    risk: Band | None,
    flags: Collection[Flag] = (),
    standing: Standing | None = None,
) -> Action:
    """Suggest the one thing that would help most; first that the visit takes place, then what comes of it.

    Parameters
    ----------
    booking : Booking
        The booking.
    score : Score or None
        Its score, if it was scored.
    risk : str or None
        The score's band.
    flags : collection of str
        As `flags_of` names them.
    standing : Standing or None
        The patient's records; whom not to call, and what is not agreed to.
    """
    if not is_coming(booking):
        return "none"
    if is_open(booking) and risk is not None and _BY_BAND[risk] != "none":
        refused = standing.patient.refused_channels if standing else ()
        return "send_reminder" if "phone" in refused else _BY_BAND[risk]
    if "lapse" in flags or "overdue" in flags:
        return "offer_next_visit"
    if "treatment" in flags and standing is not None and standing.patient.pending_items:
        return "explain_plan"
    if "unanswered" in flags:
        return "check_contact"
    if "family" in flags:
        return "offer_family"
    return "no_score" if is_open(booking) and score is None else "none"


def expected_no_shows(entries: Iterable[tuple[Booking, Score | None]]) -> float:
    """Add up the probabilities of the bookings still ahead."""
    return sum(score.probability for booking, score in entries if score is not None and is_open(booking))
