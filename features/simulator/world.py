"""The state of a running simulation: its people, their bookings, and what is noted of them."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from features.simulator.agenda import Agenda
from features.simulator.attendance import ReminderState
from features.simulator.opening import Opening
from features.simulator.panel import Panel
from features.simulator.rates import BaseRates
from features.simulator.staff import Clinician, Diary


class Stream:
    """A random stream that hands out numbers one by one, at a tenth of the cost of numpy's scalars."""

    def __init__(self, seed: np.random.SeedSequence) -> None:
        numbers = random.Random(int.from_bytes(seed.generate_state(8).tobytes(), "little"))  # noqa: S311 - a simulation
        self.uniform = numbers.random  # from 0 (included) to 1 (excluded)
        self._gauss = numbers.gauss

    def normal(self) -> float:
        """Return a standard normal number."""
        return self._gauss(0.0, 1.0)

    def happens(self, chance: float) -> bool:
        """Return True with probability `chance`."""
        return self.uniform() < chance

    def between(self, low: int, high: int) -> int:
        """Return a whole number from `low` (included) to `high` (excluded)."""
        return low + int(self.uniform() * (high - low))

    def place(self, sums: Sequence[float], first: int, last: int) -> int:
        """Return a position from `first` to `last` - 1 with the odds by which `sums` grows from there to the next."""
        low = sums[first]
        return bisect(sums, low + self.uniform() * (sums[last] - low), first + 1, last) - 1

    def pick(self, shares: Mapping[str, float]) -> str:
        """Return one key with the odds `shares`."""
        left, key = self.uniform() * sum(shares.values()), ""
        for key, share in shares.items():  # noqa: B007 - the last one if rounding left a crumb
            left -= share
            if left < 0:
                break
        return key


@dataclass(slots=True)
class Person:
    """One patient: lasting traits, then what changes as time goes by.

    Attributes
    ----------
    shares, confirms : mapping, float
        Share of each channel and chance of a confirmation; kept once computed.
    is_alive : bool
        Whether the person still makes bookings (latent).
    departed, departure : int, str
        When and why the person is known to be gone; 0 and empty if not.
    round : int
        Counts due dates; what was planned for an earlier one is void.
    is_rebooked : bool
        Whether this round's recall visit is booked.
    steps : list of PlanItem
        The treatment still to come.
    standing : list of Booking
        Those that stand, and a few that have ended.
    recalled : list of int
        Minutes of recall messages.
    """

    index: int
    clinic: int
    birth_year: int
    interval_months: int
    personal_effect: float
    log_delay: float
    responsiveness: float
    stays: float
    is_contact_allowed: bool
    favourite: int
    household: int = 0
    price: float = 0.0
    is_negative: bool = False
    channels: tuple[str, ...] = ("wechat", "sms", "phone")
    membership: str = ""
    shares: Mapping[str, float] | None = None
    confirms: float = 0.0
    is_alive: bool = False
    departed: int = 0
    departure: str = ""
    opted_out: int | None = None
    visits: int = 0
    first_visit_ended: int | None = None
    round: int = 0
    is_rebooked: bool = False
    had_braces: bool = False
    steps: list[PlanItem] = field(default_factory=list)
    standing: list[Booking] = field(default_factory=list)
    recalled: list[int] = field(default_factory=list)


@dataclass(slots=True)
class PlanItem:
    """One visit's worth of a treatment plan; minutes of its milestones."""

    person: Person
    plan: int
    proposed_by: str
    line: str
    days: int
    urgency: str
    fee_cents: int
    proposed: int
    accepted: int | None = None
    scheduled: int | None = None
    completed: int | None = None
    declined: int | None = None
    booking: Booking | None = None


@dataclass(slots=True)
class Arm:
    """One draw of the randomised stratum, with its truth.

    Attributes
    ----------
    truth : dict of str to (float, float)
        By arm, P(booked) and P(attended) within eight weeks.
    """

    person: Person
    campaign: str
    arm: str
    propensity: float
    assigned: int
    is_alive: bool
    truth: dict[str, tuple[float, float]]


@dataclass(slots=True)
class Due:
    """One state of a person's recall."""

    person: Person
    known: int
    due: int


@dataclass(slots=True)
class Request:
    """What a person asks the desk for; `lead_days` is the wish, in days; `day` a fixed one."""

    person: Person
    line: str
    purpose: str
    lead_days: float
    recall_type: str = ""
    item: PlanItem | None = None
    day: int | None = None


@dataclass(slots=True)
class Booking:
    """One booking; minutes are of the practice's wall clock.

    Attributes
    ----------
    reminder : str
        State in which the reminder will be at the start (latent until then).
    logit, late : float
        True logit of a no-show, and weight of a late cancellation, without a reminder.
    ends : int
        Minute at which the agenda ends the booking or lets it begin (latent until then).
    """

    number: int
    request: Request
    clinician: Clinician
    booked: int
    start: int
    slots: int
    is_requested: bool
    is_new: bool
    logit: float = 0.0
    late: float = 0.0
    ends: int = 0
    status: str = "booked"
    known: int | None = None
    list_cents: int = 0
    fee_cents: int | None = None
    reminder: ReminderState = "none"
    message: Message | None = None

    @property
    def end(self) -> int:
        """Planned end."""
        return self.start + 30 * self.slots


@dataclass(slots=True)
class Message:
    """One message or call to a patient."""

    person: Person
    channel: str
    purpose: str
    sent: int
    booking: Booking | None = None
    replied: int | None = None
    outcome: str = ""
    campaign: str = ""


@dataclass
class World:
    """Everything a running simulation knows.

    Attributes
    ----------
    desk, contacts : Stream
        One random stream per concern, so that a change in one leaves the
        other's draws alone.
    panel, rng : Panel, Generator
        Everybody's state in arrays, and the randomness of the weekly step.
    homes : mapping of int to list of int
        Members of each household with several.
    spells : list of (int, int, bool)
        Person, minute, and whether the person was in care from then on (latent).
    visits : list of (int, int, str)
        Person, minute and line of visits, in truth runs alone.
    on_ended : list of callable
        Called with (world, booking, minute) when a visit ends, is missed or
        is cancelled; keeps bookings ignorant of why people book.
    on_due_set : list of callable
        Called with (world, person, due minute) when a recall date is set.
    """

    rates: BaseRates
    opening: Opening
    staff: Mapping[str, tuple[tuple[Clinician, ...], ...]]
    desk: Stream
    contacts: Stream
    panel: Panel
    rng: np.random.Generator
    clinicians: tuple[Clinician, ...] = ()
    homes: Mapping[int, list[int]] = field(default_factory=dict)
    people: list[Person] = field(default_factory=list)
    diary: Diary = field(default_factory=Diary)
    agenda: Agenda = field(default_factory=Agenda)
    bookings: list[Booking] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    items: list[PlanItem] = field(default_factory=list)
    dues: list[Due] = field(default_factory=list)
    arms: list[Arm] = field(default_factory=list)
    spells: list[tuple[int, int, bool]] = field(default_factory=list)
    plans: int = 0
    visits: list[tuple[int, int, str]] = field(default_factory=list)
    on_ended: list[Callable[[World, Booking, int], None]] = field(default_factory=list)
    on_due_set: list[Callable[[World, Person, int], None]] = field(default_factory=list)

    def take_apart(self) -> None:
        """Cut the circles among people, bookings and messages; their memory is then free at once."""
        for booking in self.bookings:
            booking.message = None
        for item in self.items:
            item.booking = None
        for person in self.people:
            person.steps, person.standing = [], []
