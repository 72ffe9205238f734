"""Clinicians, what they do, and the diary of their time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.simulator.opening import SLOTS

# Half-hour slots and fee in yuan by service line (assumed, order of magnitude of a city clinic).
SERVICE_LINES: dict[str, tuple[int, int]] = {
    "hygiene": (2, 300),
    "examination": (1, 80),
    "filling": (2, 480),
    "root_canal": (3, 1200),
    "crown": (2, 2400),
    "orthodontics": (1, 900),
    "implant": (3, 6500),
    "whitening": (2, 1600),
}
GENERAL = ("examination", "hygiene", "filling", "root_canal", "crown")
# In hiring order; the first four cover every line.
POSTS: tuple[tuple[str, ...], ...] = (
    GENERAL,
    ("hygiene", "whitening"),
    ("orthodontics", "examination"),
    ("implant", "crown", "filling", "examination"),
    GENERAL,
    (*GENERAL, "orthodontics"),
)


@dataclass(frozen=True)
class Clinician:
    """One clinician: a number over all clinics, and the weekdays off (Monday is 0)."""

    number: int
    name: str
    clinic: int
    lines: frozenset[str]
    days_off: frozenset[int]


def hire(clinics: int, patients: int) -> tuple[Clinician, ...]:
    """Four to six clinicians per clinic, about one for 600 patients."""
    posts = min(max(round(patients / clinics / 600), 4), len(POSTS))
    return tuple(
        Clinician(
            number=clinic * posts + post,
            name=f"K{clinic + 1}-D{post + 1}",
            clinic=clinic,
            lines=frozenset(POSTS[post]),
            days_off=frozenset({post % 5, (post + 2) % 5}),
        )
        for clinic in range(clinics)
        for post in range(posts)
    )


class Diary:
    """Taken half-hour slots, one bit each, by clinician and day."""

    def __init__(self) -> None:
        self._taken: dict[tuple[int, int], int] = {}

    def find(self, clinician: int, day: int, wish: int, length: int, earliest: int) -> int | None:
        """First free start at or after slot `wish`, else the nearest before it from `earliest` on."""
        taken = self._taken.get((clinician, day), 0)
        block = (1 << length) - 1
        later = range(max(wish, earliest), SLOTS - length + 1)
        sooner = range(min(wish, SLOTS - length + 1) - 1, earliest - 1, -1)
        for choices in (later, sooner):
            for slot in choices:
                if not taken & (block << slot):
                    return slot
        return None

    def take(self, clinician: int, day: int, slot: int, length: int) -> None:
        """Mark `length` slots as taken."""
        key = (clinician, day)
        self._taken[key] = self._taken.get(key, 0) | ((1 << length) - 1) << slot

    def free(self, clinician: int, day: int, slot: int, length: int) -> None:
        """Give `length` slots back."""
        self._taken[clinician, day] &= ~(((1 << length) - 1) << slot)


def by_clinic_and_line(staff: Sequence[Clinician]) -> dict[tuple[int, str], tuple[Clinician, ...]]:
    """Clinicians who offer a line at a clinic, in hiring order."""
    keys = sorted({(who.clinic, line) for who in staff for line in who.lines})
    return {key: tuple(who for who in staff if who.clinic == key[0] and key[1] in who.lines) for key in keys}
