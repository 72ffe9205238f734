"""Whom a recall list holds: exclusions, order, the share for the long overdue, the random hold-out.

Pure functions. At risk and worth calling are two different scores: the list is
ordered by what a patient's coming back is worth times how likely they are to
come, never by how likely they are to be lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Literal

Channel = Literal["phone", "wechat", "sms", "email"]
Arm = Literal["contact", "hold_out"]
# Messages need a consent on record; a call to one's own patient needs that it was not refused.
NEEDS_CONSENT: frozenset[str] = frozenset({"wechat", "sms", "email"})
# In the order in which they count: a patient is counted under the first that holds.
EXCLUSIONS = (
    "departed",
    "do_not_contact",
    "recall_off",
    "booked",
    "hold_out",
    "contacted_lately",
    "no_channel",
    "no_profiling",
    "same_household",
)
BANDS = ("high", "medium", "low")


@dataclass(frozen=True)
class Limits:
    """What a list may hold.

    Attributes
    ----------
    calls : int
        Patients to be contacted.
    hold_out_share : float
        Of all chosen households, drawn by chance and left alone.
    long_overdue_share : float
        At least this share is for patients who are a whole interval past due or more.
    contact_gap_days, contacts_per_year : int
        Nobody is contacted sooner again, or more often.
    channels : tuple of str
        In order of preference.
    measured_days : int
        For how long a hold-out is left alone.
    """

    calls: int = 40
    hold_out_share: float = 0.1
    long_overdue_share: float = 0.2
    contact_gap_days: int = 28
    contacts_per_year: int = 6
    channels: tuple[Channel, ...] = ("phone", "wechat", "sms", "email")
    measured_days: int = 56


@dataclass(frozen=True)
class Due:
    """One patient past the due date.

    Attributes
    ----------
    overdue_days, interval_days : int
        Past the due date; usual time between visits.
    value_cents : int
        What coming back is worth over a year.
    likelihood : float
        What the worth is multiplied by: the chance to come, or what stands in for it.
    response : float or None
        The chance itself; None where nobody has been scored, or this patient may not be.
    allowed : mapping of str to (bool or None)
        Consent by channel; None where nothing is on record.
    last_contact_at : datetime or None
        Of the last recall or marketing contact.
    held_out_at : datetime or None
        Drawn into a hold-out whose outcome is still measured.
    """

    patient_id: str
    household_id: str
    clinic_id: str
    overdue_days: int
    interval_days: int
    value_cents: int
    likelihood: float
    response: float | None
    allowed: Mapping[str, bool | None]
    is_departed: bool = False
    is_contact_refused: bool = False
    is_recall_off: bool = False
    is_profiling_refused: bool = False
    has_booking: bool = False
    last_contact_at: datetime | None = None
    contacts_365d: int = 0
    held_out_at: datetime | None = None

    @property
    def is_long_overdue(self) -> bool:
        """Whether another whole interval has gone by since the due date."""
        return self.overdue_days >= self.interval_days

    @property
    def priority(self) -> float:
        """What ranks: worth times likelihood."""
        return self.value_cents * self.likelihood


@dataclass(frozen=True)
class Place:
    """One patient of a list; `place` 1 is called first, 0 is of the hold-out; `propensity` is that of the arm."""

    due: Due
    place: int
    arm: Arm
    propensity: float
    channels: tuple[str, ...]
    family_due: int


@dataclass(frozen=True)
class Choice:
    """A chosen list.

    Attributes
    ----------
    places : tuple of Place
        To be contacted first, in order; then the hold-out.
    excluded : mapping of str to tuple of Due
        By reason, of `EXCLUSIONS`.
    waiting : tuple of Due
        Could be contacted, and there was no room.
    """

    places: tuple[Place, ...]
    excluded: Mapping[str, tuple[Due, ...]]
    waiting: tuple[Due, ...]


def channels_of(due: Due, order: Sequence[str]) -> tuple[str, ...]:
    """Return the channels by which a patient may be reached, the preferred first."""
    return tuple(c for c in order if may_use(c, due.allowed.get(c)))


def may_use(channel: str, is_allowed: bool | None) -> bool:
    """Whether what is on record lets a channel be used.

    Examples
    --------
    >>> may_use("phone", None), may_use("sms", None), may_use("sms", True), may_use("phone", False)
    (True, False, True, False)
    """
    return is_allowed is True or (is_allowed is None and channel not in NEEDS_CONSENT)


def exclusion(due: Due, limits: Limits, now: datetime) -> str | None:
    """Return why a patient may not be put on a list now; None if they may."""
    gap = timedelta(days=limits.contact_gap_days)
    is_recent = due.last_contact_at is not None and now - due.last_contact_at < gap
    measured = timedelta(days=limits.measured_days)
    holds = {
        "departed": due.is_departed,
        "do_not_contact": due.is_contact_refused,
        "recall_off": due.is_recall_off,
        "booked": due.has_booking,
        "hold_out": due.held_out_at is not None and now - due.held_out_at < measured,
        "contacted_lately": is_recent or due.contacts_365d >= limits.contacts_per_year,
        "no_channel": not channels_of(due, limits.channels),
        "no_profiling": due.is_profiling_refused,
    }
    return next((reason for reason in EXCLUSIONS if holds.get(reason)), None)


def choose(patients: Iterable[Due], limits: Limits, now: datetime, seed: str) -> Choice:
    """Choose a list.

    Of a household one member is contacted: the one who ranks first. The
    hold-out is drawn among all who were chosen, by household, each with the
    same odds; who it is depends on `seed` and the household alone, so that a
    longer or shorter list holds out largely the same.

    Parameters
    ----------
    patients : iterable of Due
        Everybody past the due date.
    limits : Limits
        Sizes and caps.
    now : datetime
        Aware.
    seed : str
        Of the draw.

    Returns
    -------
    Choice
    """
    excluded: dict[str, list[Due]] = {reason: [] for reason in EXCLUSIONS}
    free: list[Due] = []
    for due in patients:
        reason = exclusion(due, limits, now)
        (free if reason is None else excluded[reason]).append(due)
    free.sort(key=_rank)
    family: dict[str, int] = {}
    first: list[Due] = []
    for due in free:
        family[due.household_id] = family.get(due.household_id, 0) + 1
        (first if family[due.household_id] == 1 else excluded["same_household"]).append(due)
    chosen = _with_long_overdue(first, round(limits.calls / (1 - limits.hold_out_share)), limits.long_overdue_share)
    held_out = _drawn([due.household_id for due in chosen], limits.hold_out_share, seed)
    kept = {due.patient_id for due in chosen}
    return Choice(
        places=_places(chosen, held_out, limits, family),
        excluded={reason: tuple(found) for reason, found in excluded.items() if found},
        waiting=tuple(due for due in first if due.patient_id not in kept),
    )


def nearness(overdue_days: int, interval_days: int) -> float:
    """How near the due date still is, 1 on the day: the rule that stands in where there is no model.

    Examples
    --------
    >>> nearness(0, 180), nearness(180, 180)
    (1.0, 0.5)
    """
    return interval_days / (interval_days + overdue_days)


def value_bands(values: Sequence[int]) -> list[str]:
    """Name each value's third among all: high, medium, low; equal values say nothing and are all medium."""
    ordered = sorted(values, reverse=True)
    if not ordered or ordered[0] == ordered[-1]:
        return ["medium"] * len(ordered)
    return [BANDS[3 * ordered.index(value) // len(ordered)] for value in values]


def _rank(due: Due) -> tuple[float, int, str]:
    return (-due.priority, due.overdue_days, due.patient_id)


def _with_long_overdue(ranked: Sequence[Due], size: int, share: float) -> list[Due]:
    """The best `size`, the last of them giving way to the best long overdue until these have their share."""
    chosen, others = list(ranked[:size]), ranked[size:]
    missing = ceil(share * len(chosen)) - sum(due.is_long_overdue for due in chosen)
    coming = [due for due in others if due.is_long_overdue][: max(missing, 0)]
    leaving = [due for due in reversed(chosen) if not due.is_long_overdue][: len(coming)]
    gone = {due.patient_id for due in leaving}
    return sorted([due for due in chosen if due.patient_id not in gone] + coming, key=_rank)


def _drawn(households: Sequence[str], share: float, seed: str) -> Collection[str]:
    """The households held out: their number is fixed, which they are is chance."""
    count = min(round(share * len(households)), len(households) - 1)
    return set(sorted(households, key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).digest())[: max(count, 0)])


def _places(
    chosen: Sequence[Due], held_out: Collection[str], limits: Limits, family: Mapping[str, int]
) -> tuple[Place, ...]:
    odds = len(held_out) / len(chosen) if chosen else 0.0
    made = [
        Place(due, 0, "hold_out", odds, channels, family[due.household_id] - 1)
        if due.household_id in held_out
        else Place(due, 0, "contact", 1 - odds, channels, family[due.household_id] - 1)
        for due in chosen
        for channels in [channels_of(due, limits.channels)]
    ]
    to_contact = [place for place in made if place.arm == "contact"]
    numbered = [replace(place, place=number) for number, place in enumerate(to_contact, start=1)]
    return (*numbered, *(place for place in made if place.arm == "hold_out"))
