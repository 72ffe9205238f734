"""Find room in the diary for a request."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

from features.simulator.opening import DAY, OPENS, SLOT, SLOTS
from features.simulator.staff import SERVICE_LINES, Clinician
from features.simulator.world import Request, World

LONGEST_LEAD = 60  # days
# Days that are tried after the wished one before the patient gives up.
PATIENCE = 21
# Minutes that even an emergency needs to come in.
WAY = 45

# How much patients like each half hour from 09:00 to 19:30, summed up: after work on weekdays, mornings when free.
WEEKDAY_WISHES = (0, *accumulate((2, 3, 5, 5, 5, 4, 3, 2, 2, 3, 4, 4, 4, 5, 6, 6, 6, 6, 6, 5, 4, 2)))
FREE_DAY_WISHES = (0, *accumulate((3, 5, 7, 7, 7, 6, 5, 3, 3, 4, 5, 6, 6, 6, 6, 5, 5, 4, 4, 3, 2, 1)))


class Place(NamedTuple):
    """Room that is free: who, when, and how many half hours."""

    clinician: Clinician
    day: int
    slot: int
    length: int


def find_place(world: World, request: Request, minute: int) -> Place | None:
    """Find the free place nearest to what is wished; None if all are taken for weeks.

    Parameters
    ----------
    world : World
        For the diary and the opening days.
    request : Request
        What is wished.
    minute : int
        When it is asked for.
    """
    day = _wished_day(world, request, minute // DAY) if request.day is None else request.day
    for _ in range(PATIENCE):
        if world.opening.is_open[day]:
            place = _place_on(world, request, day, minute)
            if place is not None:
                return place
        day += 1
    return None


def _place_on(world: World, request: Request, day: int, minute: int) -> Place | None:
    """First clinician, the favourite before the others, who has room on the day."""
    opening, find = world.opening, world.diary.find
    ready = minute + WAY - day * DAY - OPENS
    earliest = 0 if ready <= 0 else -(-ready // SLOT)
    wish = earliest
    if request.purpose != "emergency":
        # Days that are liked more than any weekday are weekends and holidays.
        wish = world.desk.place(FREE_DAY_WISHES if opening.weights[day] > 1 else WEEKDAY_WISHES, 0, SLOTS)
    length, weekday = SERVICE_LINES[request.line][0], opening.weekdays[day]
    posts = world.staff[request.line]
    first = request.person.favourite
    for turn in range(len(posts)):
        for clinician in posts[(first + turn) % len(posts)]:
            if clinician.works(day, weekday):
                slot = find(clinician.number, day, wish, length, earliest)
                if slot is not None:
                    return Place(clinician, day, slot, length)
    return None


def _wished_day(world: World, request: Request, today: int) -> int:
    """Nearest liked day around the wished lead; weekends draw visits from the days beside them."""
    lead = min(round(request.lead_days), LONGEST_LEAD)
    if lead <= 1:
        return today + lead
    spread = min(3, lead - 1)
    first, last = today + lead - spread, today + lead + spread + 1
    liked = world.opening.liked
    if liked[last] == liked[first]:
        return world.opening.next_open_day(first)
    return world.desk.place(liked, first, last)
