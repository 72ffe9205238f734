"""Clinicians, what they do, and the diary of their time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    """One clinician of a clinic.

    Attributes
    ----------
    number : int
        Position among the clinic's clinicians.
    post : int
        Who follows on somebody has the same post.
    days_off : frozenset of int
        Weekdays; Monday is 0.
    since, until : int
        First day of work, and the day after the last.
    """

    number: int
    post: int
    name: str
    lines: frozenset[str]
    days_off: frozenset[int]
    since: int = 0
    until: int = 2**31

    def works(self, day: int, weekday: int) -> bool:
        """Whether they see patients on a day."""
        return self.since <= day < self.until and weekday not in self.days_off


def hire(tag: str, patients: int, days: int, stays_years: float, rng: np.random.Generator) -> tuple[Clinician, ...]:
    """Clinicians of one clinic: at least four posts, about one for 600 patients, and who follows on them.

    Parameters
    ----------
    tag : str
        The clinic's id.
    patients, days : int
        Size, and days that are simulated.
    stays_years : float
        Mean years until somebody leaves; the next one starts on the day after.
    rng : Generator
        Source of randomness.
    """
    staff: list[Clinician] = []
    for post in range(max(round(patients / 600), 4)):
        since, count = 0, 0
        while since < days:
            until = since + 200 + round(rng.exponential(stays_years * 365.25))
            suffix = "" if count == 0 else "abcdefgh"[min(count - 1, 7)]
            staff.append(
                Clinician(
                    number=len(staff),
                    post=post,
                    name=f"{tag}-D{post + 1}{suffix}",
                    lines=frozenset(POSTS[post % len(POSTS)]),
                    days_off=frozenset({post % 5, (post + 2) % 5}),
                    since=since,
                    until=until if until < days else 2**31,
                )
            )
            since, count = until, count + 1
    return tuple(staff)


ALL_FREE = (1 << SLOTS) - 1


class Diary:
    """Taken half-hour slots, one bit each, by clinician and day."""

    def __init__(self) -> None:
        self._taken: dict[tuple[int, int], int] = {}

    def find(self, clinician: int, day: int, wish: int, length: int, earliest: int) -> int | None:
        """First free start at or after slot `wish`, else the nearest before it from `earliest` on."""
        starts = free = ALL_FREE & ~self._taken.get((clinician, day), 0)
        for ahead in range(1, length):
            starts &= free >> ahead
        starts = starts >> earliest << earliest
        later = starts >> wish
        if later:
            return wish + (later & -later).bit_length() - 1
        return starts.bit_length() - 1 if starts else None

    def take(self, clinician: int, day: int, slot: int, length: int) -> None:
        """Mark `length` slots as taken."""
        key = (clinician, day)
        self._taken[key] = self._taken.get(key, 0) | ((1 << length) - 1) << slot

    def free(self, clinician: int, day: int, slot: int, length: int) -> None:
        """Give `length` slots back."""
        self._taken[clinician, day] &= ~(((1 << length) - 1) << slot)


def by_line(staff: Sequence[Clinician]) -> dict[str, tuple[tuple[Clinician, ...], ...]]:
    """For each line the posts that offer it, each with those who held it, in order."""
    lines = sorted({line for who in staff for line in who.lines})
    posts = {post: tuple(who for who in staff if who.post == post) for post in sorted({who.post for who in staff})}
    return {line: tuple(held for held in posts.values() if line in held[0].lines) for line in lines}
