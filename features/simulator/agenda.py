"""Things to come in a simulation, in the order of their minute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple

from features.simulator.opening import DAY

if TYPE_CHECKING:
    from features.simulator.world import World

Action = Callable[[Any, Any, int], None]
Entry = tuple[int, int, Action, Any]


class Planned(NamedTuple):
    """One thing to come: ``action(world, subject, minute)`` will be called."""

    minute: int
    action: Action
    subject: Any


class Agenda:
    """Things to come, in the order of their minute; ties in the order of entry.

    Each day to come is an unsorted list, and the current one a heap, so that
    the heap stays small however far ahead things are planned.
    """

    def __init__(self) -> None:
        self._entries = 0
        self._day = -1
        self._today: list[Entry] = []
        self._later: defaultdict[int, list[Entry]] = defaultdict(list)

    def at(self, minute: int, action: Action, subject: object) -> None:
        """Have ``action(world, subject, minute)`` called at `minute`."""
        self._entries += 1
        day = minute // DAY
        if day > self._day:
            self._later[day].append((minute, self._entries, action, subject))
        else:
            heappush(self._today, (minute, self._entries, action, subject))

    def run(self, world: World, until: int) -> None:
        """Do everything up to and including minute `until`; the rest stays planned."""
        last = until // DAY
        while True:
            today = self._today
            while today and today[0][0] <= until:
                minute, _, action, subject = heappop(today)
                action(world, subject, minute)
            if self._day >= last:
                return
            self._day += 1
            self._today = self._later.pop(self._day, [])
            self._today.sort()

    def strike(self, is_void: Callable[[Action, Any], bool], minute: int | None = None) -> list[Planned]:
        """Take back what `is_void` says of (action, subject), on all days or on that of `minute`; in order."""
        days = sorted(self._later) if minute is None else [minute // DAY]
        lists = [self._today if day <= self._day else self._later[day] for day in days]
        if minute is None:
            lists.insert(0, self._today)
        struck: list[Entry] = []
        for planned in lists:
            struck += (entry for entry in planned if is_void(entry[2], entry[3]))
            planned[:] = [entry for entry in planned if not is_void(entry[2], entry[3])]
        heapify(self._today)
        return [Planned(entry[0], entry[2], entry[3]) for entry in sorted(struck)]
