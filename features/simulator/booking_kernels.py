"""How the bookings of each patient end, those that stand and those to come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.simulator.booking_life import (
    AGAIN_WITHIN,
    DAYS,
    LONGEST,
    BookingLife,
    age_group,
    booking_life,
    emergency_visit_chance,
    recall_leads,
)
from features.simulator.care_model import Model
from features.simulator.care_state import COMES_AGAIN, Care
from features.simulator.observed import Observed
from features.simulator.opening import DAY


@dataclass(frozen=True)
class Kernels:
    """How each patient's bookings end: P(by then), over the days after the booking or after today.

    Attributes
    ----------
    visited, failed : ndarray, shape (patients, days)
        Of a new recall booking.
    open_visited, open_failed : ndarray, shape (patients, days)
        Of the recall visit that is booked.
    again_visited, again_failed : ndarray, shape (patients, days)
        Of the booking that follows a missed one.
    other : ndarray, shape (patients, days)
        By any other open booking, of one in care.
    other_gone : ndarray, shape (patients, days)
        By any open booking, of one who left.
    toothache : ndarray of float
        P(a toothache ends in a visit).
    """

    visited: np.ndarray
    failed: np.ndarray
    open_visited: np.ndarray
    open_failed: np.ndarray
    again_visited: np.ndarray
    again_failed: np.ndarray
    other: np.ndarray
    other_gone: np.ndarray
    toothache: np.ndarray


def kernels_of(seen: Observed, care: Care, model: Model, effects: np.ndarray, shares: np.ndarray) -> Kernels:
    """Mix how bookings end over each patient's personal effect on missing.

    Parameters
    ----------
    effects : ndarray, shape (grid,)
        Personal effects.
    shares : ndarray, shape (patients, grid)
        Posterior of each.
    """
    alive, gone = (booking_life(model.rates, effects.tolist(), comes) for comes in (True, False))
    kinds = age_group(model.year(seen.now) - seen.birth_year)[:, None] * len(effects) + np.arange(len(effects))
    leads = recall_leads()

    def mix(table: np.ndarray) -> np.ndarray:
        mixed: np.ndarray = np.einsum("ne,ne...->n...", shares, table[kinds])
        return mixed

    size, today = len(seen.ids), seen.now // DAY
    blank = np.zeros((size, DAYS + 1))
    open_visited, open_failed, again_visited, again_failed = (blank.copy() for _ in range(4))
    other, other_gone = np.ones_like(blank), np.ones_like(blank)
    has_recall = np.zeros(size, bool)
    for booking in seen.open:
        n, left = booking.person, booking.start // DAY - today
        lead = booking.start // DAY - booking.booked // DAY
        gone_by = min((seen.now - booking.booked) / max(booking.start - DAY - booking.booked, 1), 1.0)
        visited, failed = _of(alive, kinds[n], shares[n], left, lead, gone_by)
        other_gone[n] *= 1 - np.cumsum(_of(gone, kinds[n], shares[n], left, lead, gone_by)[0])
        if booking.is_recall and care.is_booked[n] and not has_recall[n]:
            open_visited[n], open_failed[n], has_recall[n] = visited, failed, True
        else:
            other[n] *= 1 - np.cumsum(visited)
    # A visit that is under way is neither open nor over: the next round is about to begin.
    care.is_booked &= has_recall
    for n in np.flatnonzero(care.weight[:, COMES_AGAIN].sum(axis=(1, 2)) > 0).tolist():
        again_visited[n], again_failed[n] = _again(seen, care, alive, n, kinds[n], shares[n])
    return Kernels(
        visited=np.cumsum(mix(np.einsum("l,kld->kd", leads, alive.whole_visited)), axis=1),
        failed=np.cumsum(mix(np.einsum("l,kld->kd", leads, alive.whole_failed)), axis=1),
        open_visited=np.cumsum(open_visited, axis=1),
        open_failed=np.cumsum(open_failed, axis=1),
        again_visited=np.cumsum(again_visited, axis=1),
        again_failed=np.cumsum(again_failed, axis=1),
        other=1 - other,
        other_gone=1 - other_gone,
        toothache=mix(emergency_visit_chance(alive)),
    )


def _of(
    life: BookingLife, kinds: np.ndarray, shares: np.ndarray, left: int, lead: int, gone_by: float
) -> tuple[np.ndarray, np.ndarray]:
    visited, failed = life.standing(kinds, left, lead, gone_by)
    return shares @ visited, shares @ failed


def _again(
    seen: Observed, care: Care, life: BookingLife, n: int, kinds: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Densities of the visit and of failure, of a booking still to be made after a missed one."""
    since = int((seen.now - care.gap_at[n]) // DAY)
    span = int(care.gap_span[n])
    lead = int(min(round(care.gap_lead[n]), LONGEST if care.gap_is_recall[n] else 10))
    days = range(1, max(min(span, AGAIN_WITHIN) - since, 1) + 1)
    visited, failed = (
        np.mean([np.concatenate([np.zeros(day), density[:-day]]) for day in days], axis=0)
        for density in (shares @ table[kinds, max(lead, 0)] for table in (life.whole_visited, life.whole_failed))
    )
    return visited, failed
