"""What happened in a clinic, column by column, for the tables to be built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from features.simulator.one_clinic import Site
from features.simulator.world import World


def columns_of(rows: Sequence[object], *names: str) -> list[tuple[Any, ...]]:
    """Attributes of many objects, one tuple per name; ``a.b`` is the attribute of an attribute.

    Every object is visited once: they lie scattered in memory, and that is what reading them costs.
    """
    read = attrgetter(*names) if len(names) > 1 else lambda row: (getattr(row, names[0]),)
    return list(zip(*map(read, rows), strict=True)) or [()] * len(names)


def texts(values: Sequence[str]) -> np.ndarray:
    """Array of text that pandas takes as it is."""
    return np.array(values, dtype=object)


@dataclass(frozen=True)
class BookingColumns:
    """Bookings whose visit lies in the exported years or after them, in the order of booking.

    Attributes
    ----------
    number, booked, start, person, minutes, list_cents : ndarray of int
        Number in the simulation; minutes of the wall clock; position of the patient; duration.
    known, fee_cents : ndarray of float
        Minute of the status, and charge; NaN while there is none.
    clinician, line, recall_type, status, reminder : ndarray of str
    is_requested, is_new : ndarray of bool
    logit, late : ndarray of float
        As in `Booking`.
    position : ndarray of int
        Position among the exported bookings by number in the simulation; -1 for others, and at the end.
    """

    number: np.ndarray
    booked: np.ndarray
    start: np.ndarray
    minutes: np.ndarray
    known: np.ndarray
    person: np.ndarray
    clinician: np.ndarray
    line: np.ndarray
    recall_type: np.ndarray
    status: np.ndarray
    reminder: np.ndarray
    is_requested: np.ndarray
    is_new: np.ndarray
    list_cents: np.ndarray
    fee_cents: np.ndarray
    logit: np.ndarray
    late: np.ndarray
    position: np.ndarray

    def __len__(self) -> int:
        return len(self.number)


TEXTS = {
    "clinician": "clinician.name",
    "line": "request.line",
    "recall_type": "request.recall_type",
    "status": "status",
    "reminder": "reminder",
}
WHOLE = {
    "number": "number",
    "booked": "booked",
    "start": "start",
    "minutes": "slots",
    "person": "request.person.index",
    "list_cents": "list_cents",
}
REALS = {"known": "known", "fee_cents": "fee_cents", "logit": "logit", "late": "late"}
FLAGS = {"is_requested": "is_requested", "is_new": "is_new"}


def booking_columns(world: World, site: Site) -> BookingColumns:
    """Read the exported bookings of one clinic."""
    bookings = [booking for booking in world.bookings if booking.start >= site.span.window]
    sources = TEXTS | WHOLE | REALS | FLAGS
    read = dict(zip(sources, columns_of(bookings, *sources.values()), strict=True))
    kinds = {"O": TEXTS, "i8": WHOLE, "f8": REALS, "?": FLAGS}  # as real number, None becomes NaN
    arrays: dict[str, np.ndarray] = {
        name: np.array(read[name], dtype=kind) for kind, names in kinds.items() for name in names
    }
    arrays["minutes"] = arrays["minutes"] * 30
    position = np.full(len(world.bookings) + 1, -1)
    position[arrays["number"]] = np.arange(len(bookings))
    return BookingColumns(**arrays, position=position)
