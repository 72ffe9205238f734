"""Every feature of attendance, due dates, plans, contacts and money beside a naive recomputation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from random import Random
from statistics import mean, median, stdev
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from features.duck import connect
from features.families import FAMILIES
from features.patients import attach_patients, family_rows
from features.settings import Practice, Settings

ZONE = "Europe/Berlin"  # clocks go forward on 2026-03-29
LOCAL = ZoneInfo(ZONE)
SETTINGS = Settings(practice=Practice(time_zone=ZONE))
DEFAULT_DAYS = SETTINGS.recall.default_interval_days
FAMILY_NAMES = ("attendance", "due", "plans", "contacts", "money")
ATTENDED, MISSED, CANCELLED = (
    ("arrived", "completed"),
    ("no_show", "cancelled_late"),
    ("cancelled_early", "rescheduled"),
)
ENDED = ATTENDED + MISSED
CHANNELS = ("wechat", "sms", "phone")
KEYS = {"patients": "patient_id", "appointments": "appointment_id", "recalls": "recall_id",
        "plan_items": "plan_item_id", "communications": "communication_id", "payments": "payment_id"}  # fmt: skip
US, DAY = timedelta(microseconds=1), timedelta(days=1)
MOMENTS = [
    datetime(2026, 3, 28, 23, tzinfo=UTC),  # midnight before the clocks go forward
    datetime(2026, 3, 29, 22, tzinfo=UTC),
    datetime(2026, 7, 2, 9, 30, tzinfo=UTC),
    datetime(2026, 10, 1, 22, tzinfo=UTC),
]
FIRST = datetime(2023, 1, 1, tzinfo=UTC)
WINDOWS = (30, 90, 180, 365, 730)
PATIENTS = 50

State = dict[str, Any]
World = dict[str, list[State]]


# A tiny practice, in which much happens at the ends of windows


def some_time(random: Random) -> datetime:
    """A moment that a window ends at, a microsecond beside it, or any."""
    edge = random.choice(MOMENTS) - random.choice((0, *WINDOWS)) * DAY + random.choice((-1, 0, 0, 1)) * US
    return random.choice([edge, edge, FIRST + random.random() * (MOMENTS[-1] - FIRST)])


def told(random: Random, first: State, happened: datetime, later: list[tuple[datetime, State]]) -> Iterator[State]:
    """The states of a thing: each recorded when it happened or later, never two at once."""
    state = {**first, "known_at": happened + random.choice([0, 0, 0, 1, 40]) * DAY}
    yield state
    for moment, change in later:
        known_at = max(moment + random.choice([0, 0, 0, 2, 40]) * DAY, state["known_at"] + US)
        state = {**state, **change, "known_at": known_at}
        yield state


def tiny_world(random: Random) -> World:
    world: World = {name: [] for name in (*KEYS, "merges")}
    for number in range(PATIENTS):
        patient = {"patient_id": f"p{number}"}
        world["patients"] += told(random, patient | consents(random), FIRST, [(some_time(random), consents(random))])
        for kind, most in (("appointments", 8), ("plan_items", 6), ("communications", 8), ("payments", 7)):
            for count in range(random.randint(0, most)):
                key = f"{patient['patient_id']}-{count}"
                world[kind] += globals()[f"one_of_{kind}"](random, {KEYS[kind]: key, **patient})
        for kind in random.sample(("hygiene", "check_up"), random.randint(0, 2)):
            key = f"{patient['patient_id']}-{kind}"
            world["recalls"] += one_of_recalls(random, {"recall_id": key, "recall_type": kind, **patient})
    for number in range(0, 12, 2):
        merge = {"old_id": f"p{number}", "new_id": f"p{number + 1}", "known_at": some_time(random)}
        world["merges"].append({**merge, "recorded_at": merge["known_at"]})
    return world


def consents(random: Random) -> State:
    names = ("is_contact_allowed", *(f"is_{channel}_allowed" for channel in CHANNELS))
    return {name: random.choice([None, True, False]) for name in names}


def one_of_appointments(random: Random, state: State) -> Iterator[State]:
    starts = some_time(random)
    booked = starts - random.choice([0, 1, 20]) * DAY - random.choice([0, 1]) * DAY / 3
    state |= {"clinic_id": "c", "booked_at": booked, "starts_at": starts, "status": "booked"}
    state |= {"duration_minutes": random.choice([None, 30, 45]), "recall_type": random.choice([None, None, "hygiene"])}
    over = max(booked, starts + random.choice([-1, 0, 1, 1]) * DAY / 3)
    moved = {"starts_at": starts + DAY}
    ways: list[list[State]] = [[{"status": s}] for s in ("completed", "completed", "completed", "no_show", "arrived")]
    ways += [[{"status": s}] for s in ("cancelled_late", "cancelled_early", "rescheduled")]
    ways += [[], [], [moved], [moved, {"status": "completed"}], [{"status": "no_show"}, {"status": "completed"}]]
    return told(random, state, booked, [(over, change) for change in random.choice(ways)])


def one_of_plan_items(random: Random, state: State) -> Iterator[State]:
    at = some_time(random)
    state |= {"plan_id": "t", "proposed_at": at, "fee_cents": random.choice([None, 100, 4700])}
    state |= {"urgency": random.choice([None, "routine", "soon", "urgent"])}
    state |= {"service_line": random.choice([None, "filling", "Orthodontics", "种植体"])}
    steps = []
    for name in random.choice([(), ("declined",), ("accepted",), ("accepted", "scheduled"), ("accepted", "declined"),
                               ("accepted", "completed"), ("scheduled", "completed"), ("completed", "accepted"),
                               ("accepted", "scheduled", "completed")]):  # fmt: skip
        at += random.choice([0, 1, 88.5]) * DAY
        steps.append((at, {f"{name}_at": at}))
    return told(random, state, state["proposed_at"], steps)


def one_of_communications(random: Random, state: State) -> Iterator[State]:
    sent = some_time(random)
    state |= {"direction": random.choice(["out", "out", "out", "in"]), "sent_at": sent}
    state |= {"channel": random.choice([*CHANNELS, "email"])}
    state |= {"purpose": random.choice(["reminder", "reminder", "recall", "recall", "marketing", "other"])}
    replied = sent + random.choice([0, 1, 30]) * DAY
    outcome = random.choice([None, "confirmed", "declined", "no_answer", "opted_out"])
    answer = {"replied_at": random.choice([None, replied]), "outcome": outcome}
    return told(random, state, sent, [(replied, answer)] if random.random() < 0.5 else [])


def one_of_payments(random: Random, state: State) -> Iterator[State]:
    at, kind = some_time(random), random.choice(["charge", "charge", "payment", "payment", "refund", "adjustment"])
    listed, discount = random.choice([1000, 5500]), random.choice([0, 200])
    sign = random.choice([-1, 1]) if kind in ("refund", "adjustment") else 1
    state |= {"kind": kind, "paid_at": at, "service_line": random.choice([None, "filling", "crown"])}
    state |= {"amount_cents": sign * (listed - discount)}
    if kind == "charge":
        state |= {"list_cents": listed, "discount_cents": discount}
    corrected = [(some_time(random), {"amount_cents": sign * 77, "list_cents": None, "discount_cents": None})]
    return told(random, state, at, corrected if random.random() < 0.2 else [])


def one_of_recalls(random: Random, state: State) -> Iterator[State]:
    def said() -> State:
        return {
            "interval_days": random.choice([None, 90, 180]),
            "is_disabled": random.choice([None, None, False, True]),
            "due_on": random.choice([None, some_time(random).date()]),
            "disabled_until_on": random.choice([None, None, local_day(random.choice(MOMENTS)), date(2026, 7, 3)]),
        }

    return told(random, state | said(), some_time(random), [(some_time(random), said())])


# The oracle: plain loops, one function per feature


def local_day(moment: datetime) -> date:
    return moment.astimezone(LOCAL).date()


@dataclass(frozen=True)
class Look:
    """A patient as seen at a moment."""

    world: World
    patient_id: str
    as_of: datetime

    def known(self, table: str) -> list[State]:
        """The newest state of each of the patient's things, of those recorded before the moment."""
        merged = {merge["old_id"]: merge["new_id"] for merge in self.world["merges"] if merge["known_at"] < self.as_of}
        newest: dict[str, State] = {}
        for state in sorted(self.world[table], key=lambda state: state["known_at"]):
            if state["known_at"] < self.as_of:
                newest[state[KEYS[table]]] = state
        return [s for s in newest.values() if merged.get(s["patient_id"], s["patient_id"]) == self.patient_id]

    @cached_property
    def today(self) -> date:
        return local_day(self.as_of)

    def within(self, moment: datetime | None, days: int) -> bool:
        return moment is not None and self.as_of - days * DAY < moment <= self.as_of

    def since(self, moments: list[datetime | None], newest: Callable[..., datetime] = max) -> float | None:
        there = [moment for moment in moments if moment is not None]
        return (self.as_of - newest(there)) / DAY if there else None

    @cached_property
    def bookings(self) -> list[State]:
        """With `at`: when the visit was, or now if its outcome is known before its hour."""
        return [{**state, "at": min(state["starts_at"], self.as_of)} for state in self.known("appointments")]

    def visits(self, *statuses: str, days: int = 10**5) -> list[State]:
        return [a for a in self.bookings if a["status"] in statuses and self.within(a["at"], days)]

    @cached_property
    def kept(self) -> list[State]:
        return self.visits(*ATTENDED)

    @cached_property
    def ahead(self) -> list[State]:
        return [a for a in self.bookings if a["status"] == "booked" and a["starts_at"] > self.as_of]

    @cached_property
    def missed_in_a_row(self) -> int:
        last = max((a["at"] for a in self.kept), default=FIRST)
        return sum(a["starts_at"] > last for a in self.visits(*MISSED))

    @cached_property
    def gaps(self) -> list[int]:
        days = sorted({local_day(a["at"]) for a in self.kept})
        return [(later - earlier).days for earlier, later in pairwise(days)]

    @cached_property
    def due(self) -> dict[str, Any]:
        """Due days and intervals, None where unknown; empty without a visit."""
        if not self.kept:
            return {}
        on = [r for r in self.known("recalls") if not r["is_disabled"]]
        paused = [r for r in self.known("recalls") if r["disabled_until_on"] and r["disabled_until_on"] > self.today]
        interval = min((r["interval_days"] for r in on if r["interval_days"]), default=None)
        own = median(long) if (long := [gap for gap in self.gaps if gap >= 60]) else None
        last = max(local_day(a["at"]) for a in self.kept)
        days = [local_day(a["at"]) for a in self.kept if a["recall_type"]]
        if days and interval:
            prescribed = (self.today - max(days)).days - interval
        else:
            dates = [r["due_on"] for r in on if r["due_on"] and r not in paused]
            prescribed = (self.today - min(dates)).days if dates else None
        idle = (self.today - last).days
        found = {"prescribed": prescribed, "own": idle - own if own else None, "default": idle - DEFAULT_DAYS}
        return found | {
            "idle": idle,
            "is_prescribed": interval is not None,
            "interval": interval or own or DEFAULT_DAYS,
            "past": next(days for days in found.values() if days is not None),
            "is_disabled": bool(paused) or any(r["is_disabled"] for r in self.known("recalls")),
        }

    @cached_property
    def items(self) -> list[State]:
        names = ("accepted_at", "scheduled_at", "completed_at", "declined_at")
        return [dict.fromkeys(names) | state for state in self.known("plan_items")]

    @cached_property
    def open_items(self) -> list[State]:
        return [i for i in self.items if not i["completed_at"] and not i["declined_at"]]

    @cached_property
    def started(self) -> list[State]:
        return [i for i in self.open_items if i["accepted_at"]]

    @cached_property
    def accepted(self) -> list[State]:
        return [i for i in self.items if i["accepted_at"]]

    @cached_property
    def done(self) -> list[State]:
        return [i for i in self.items if i["completed_at"]]

    def sent(self, days: int = 10**5, **like: str) -> list[State]:
        """Messages and calls to the patient."""
        out = [m for m in self.known("communications") if m["direction"] == "out" and self.within(m["sent_at"], days)]
        return [m for m in out if all(m[name] == value for name, value in like.items())]

    def asked(self, **like: str) -> list[State]:
        return [m for m in self.sent(**like) if m["purpose"] != "marketing"]

    @cached_property
    def inbound(self) -> list[State]:
        return [m for m in self.known("communications") if m["direction"] == "in"]

    @cached_property
    def replies(self) -> list[datetime | None]:
        answered = [m for m in self.known("communications") if m["direction"] == "out" and is_answered(m)]
        return [m["sent_at"] for m in self.inbound] + [m.get("replied_at") or m["sent_at"] for m in answered]

    def unanswered(self, **like: str) -> int:
        heard = max((moment for moment in self.replies if moment), default=FIRST)
        return sum(not is_answered(m) and m["sent_at"] > heard for m in self.asked(**like))

    def consent(self, name: str) -> bool | None:
        return next(state[name] for state in self.known("patients") if state["patient_id"] == self.patient_id)  # type: ignore[no-any-return]

    def entries(self, kind: str, days: int = 10**5) -> list[State]:
        return [p for p in self.known("payments") if p["kind"] == kind and self.within(p["paid_at"], days)]

    @cached_property
    def charged_by_line(self) -> dict[str, int]:
        lines: dict[str, int] = {}
        for entry in self.entries("charge"):
            line = entry["service_line"] or ""
            lines[line] = lines.get(line, 0) + entry["amount_cents"]
        return lines


def is_answered(message: State) -> bool:
    outcome = message.get("outcome")
    if outcome in ("confirmed", "declined", "opted_out"):
        return True
    return message.get("replied_at") is not None and outcome != "no_answer"


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def total(things: list[State], name: str) -> int:
    return sum(thing.get(name) or 0 for thing in things)


def of(things: list[State], name: str) -> list[Any]:
    return [thing[name] for thing in things]


Oracle = Callable[[Look], float | bool | None]

ATTENDANCE: dict[str, Oracle] = {
    "visits_kept_count_ever": lambda k: len(k.kept),
    "visit_days_kept_count_ever": lambda k: len({local_day(a["at"]) for a in k.kept}),
    "days_since_last_visit": lambda k: k.since(of(k.kept, "at")),
    "days_since_first_visit": lambda k: k.since(of(k.kept, "at"), min),
    "days_since_last_miss": lambda k: k.since(of(k.visits(*MISSED), "at")),
    "days_since_last_booking": lambda k: k.since(of(k.bookings, "booked_at")),
    "visits_missed_count_365d": lambda k: len(k.visits(*MISSED, days=365)),
    "visits_missed_share_365d": lambda k: share(len(k.visits(*MISSED, days=365)), len(k.visits(*ENDED, days=365))),
    "visits_missed_share_ever": lambda k: share(len(k.visits(*MISSED)), len(k.visits(*ENDED))),
    "visits_missed_row_count_ever": lambda k: k.missed_in_a_row,
    "visits_cancelled_late_share_ever": lambda k: share(len(k.visits("cancelled_late")), len(k.bookings)),
    "bookings_cancelled_count_365d": lambda k: len(k.visits(*CANCELLED, days=365)),
    "bookings_cancelled_share_ever": lambda k: share(len(k.visits(*CANCELLED)), len(k.bookings)),
    "bookings_moved_share_ever": lambda k: share(len(k.visits("rescheduled")), len(k.bookings)),
    "has_booking_ahead": lambda k: bool(k.ahead),
    "bookings_ahead_count_ever": lambda k: len(k.ahead),
    "days_until_next_booking": lambda k: (min(of(k.ahead, "starts_at")) - k.as_of) / DAY if k.ahead else None,
    "bookings_lead_mean_ever_days": lambda k: (
        mean((local_day(a["starts_at"]) - local_day(a["booked_at"])).days for a in k.kept) if k.kept else None
    ),
    "visits_kept_sum_365d_minutes": lambda k: total(k.visits(*ATTENDED, days=365), "duration_minutes"),
    "visits_weekend_share_ever": lambda k: share(
        sum(local_day(a["starts_at"]).weekday() >= 5 for a in k.kept), len(k.kept)
    ),
    "visits_gap_median_ever_days": lambda k: median(k.gaps) if k.gaps else None,
    "visits_gap_mean_ever_days": lambda k: mean(k.gaps) if k.gaps else None,
    "visits_gap_spread_ever_days": lambda k: stdev(k.gaps) if len(k.gaps) > 1 else None,
    "visits_gap_max_ever_days": lambda k: max(k.gaps, default=None),
    "visits_gap_last_max_ever_days": lambda k: k.gaps[-1] if k.gaps else None,
    "visits_gap_current_ratio_ever": lambda k: k.since(of(k.kept, "at")) / median(k.gaps) if k.gaps else None,  # type: ignore[operator]
}
ATTENDANCE |= {
    f"visits_kept_count_{days}d": lambda k, days=days: len(k.visits(*ATTENDED, days=days))  # type: ignore[misc]
    for days in (90, 180, 365, 730)
}

DUE: dict[str, Oracle] = {
    "days_since_due": lambda k: k.due.get("past"),
    "days_since_due_prescribed": lambda k: k.due.get("prescribed"),
    "days_since_due_personal": lambda k: k.due.get("own"),
    "days_since_due_default": lambda k: k.due.get("default"),
    "recall_interval_mean_ever_days": lambda k: k.due.get("interval", DEFAULT_DAYS),
    "days_since_due_ratio_ever": lambda k: k.due["past"] / k.due["interval"] if k.due else None,
    "recalls_missed_row_count_ever": lambda k: k.due["idle"] // k.due["interval"] if k.due else 0,
    "has_prescribed_interval": lambda k: k.due.get("is_prescribed", False),
    "has_disabled_recall": lambda k: k.due.get("is_disabled", False),
    "is_overdue": lambda k: k.due.get("past", 0) > 0,
}

PLANS: dict[str, Oracle] = {
    "plan_items_proposed_count_ever": lambda k: len(k.items),
    "plan_items_proposed_count_365d": lambda k: sum(k.within(i["proposed_at"], 365) for i in k.items),
    "plan_items_open_count_ever": lambda k: len(k.open_items),
    "plan_items_open_sum_ever_cents": lambda k: total(k.open_items, "fee_cents"),
    "plan_items_pending_count_ever": lambda k: len(k.open_items) - len(k.started),
    "plan_items_started_count_ever": lambda k: len(k.started),
    "plan_items_started_sum_ever_cents": lambda k: total(k.started, "fee_cents"),
    "plan_items_unscheduled_count_ever": lambda k: sum(not i["scheduled_at"] for i in k.started),
    "plan_items_urgent_count_ever": lambda k: sum(i["urgency"] in ("soon", "urgent") for i in k.open_items),
    "has_open_plan": lambda k: bool(k.open_items),
    "plan_items_accepted_share_ever": lambda k: share(len(k.accepted), len(k.items)),
    "plan_items_declined_share_ever": lambda k: share(sum(bool(i["declined_at"]) for i in k.items), len(k.items)),
    "plan_items_completed_share_ever": lambda k: share(
        sum(bool(i["completed_at"]) for i in k.accepted), len(k.accepted)
    ),
    "plan_items_completed_count_90d": lambda k: sum(k.within(i["completed_at"], 90) for i in k.done),
    "plan_items_completed_sum_ever_cents": lambda k: total(k.done, "fee_cents"),
    "plan_items_completed_mean_ever_days": lambda k: (
        mean(taken)
        if (
            taken := [
                d for i in k.done if i["accepted_at"] and (d := (i["completed_at"] - i["accepted_at"]) / DAY) >= 0
            ]
        )
        else None
    ),
    "days_since_plan_proposed": lambda k: k.since(of(k.items, "proposed_at")),
    "days_since_plan_accepted": lambda k: k.since(of(k.items, "accepted_at")),
    "days_since_plan_progress": lambda k: k.since(of(k.items, "completed_at")),
    "days_since_plan_started": lambda k: k.since(of(k.started, "accepted_at"), min),
    "days_since_plan_moved": lambda k: (
        k.since([i[f"{step}_at"] for i in k.items for step in ("proposed", "accepted", "scheduled", "completed")])
        if k.open_items
        else None
    ),
    "plan_items_pace_ratio_ever": lambda k: (
        sum(bool(i["completed_at"]) for i in k.accepted) / (days / 30)
        if (days := k.since(of(k.accepted, "accepted_at"), min))
        else None
    ),
    "has_long_treatment_open": lambda k: any(i["service_line"] in ("Orthodontics", "种植体") for i in k.open_items),
}

CONTACTS: dict[str, Oracle] = {
    "messages_recall_count_365d": lambda k: len(k.sent(365, purpose="recall")),
    "messages_marketing_count_365d": lambda k: len(k.sent(365, purpose="marketing")),
    "messages_answered_share_ever": lambda k: share(sum(map(is_answered, k.asked())), len(k.asked())),
    "messages_recall_answered_share_ever": lambda k: share(
        sum(map(is_answered, k.sent(purpose="recall"))), len(k.sent(purpose="recall"))
    ),
    "reminders_confirmed_share_ever": lambda k: share(
        sum(m.get("outcome") == "confirmed" for m in k.sent(purpose="reminder")), len(k.sent(purpose="reminder"))
    ),
    "messages_unanswered_row_count_ever": lambda k: k.unanswered(),
    "messages_recall_unanswered_row_count_ever": lambda k: k.unanswered(purpose="recall"),
    "messages_refused_count_ever": lambda k: sum(
        m.get("outcome") in ("declined", "opted_out") for m in k.known("communications")
    ),
    "messages_inbound_count_365d": lambda k: sum(k.within(m["sent_at"], 365) for m in k.inbound),
    "days_since_message_sent": lambda k: k.since(of(k.sent(), "sent_at")),
    "days_since_message_recall": lambda k: k.since(of(k.sent(purpose="recall"), "sent_at")),
    "days_since_message_reply": lambda k: k.since(k.replies),
    "days_since_message_inbound": lambda k: k.since(of(k.inbound, "sent_at")),
    "messages_fatigue_ratio_365d": lambda k: len(k.sent(30)) / (1 + len(k.sent(365)) / 12),
    "is_contact_allowed": lambda k: k.consent("is_contact_allowed"),
}
CONTACTS |= {f"messages_sent_count_{days}d": lambda k, days=days: len(k.sent(days)) for days in (30, 90, 365)}  # type: ignore[misc]
for way in CHANNELS:
    CONTACTS |= {
        f"messages_{way}_count_365d": lambda k, way=way: len(k.sent(365, channel=way)),  # type: ignore[misc]
        f"messages_{way}_answered_share_ever": lambda k, way=way: share(  # type: ignore[misc]
            sum(map(is_answered, k.asked(channel=way))), len(k.asked(channel=way))
        ),
        f"is_{way}_allowed": lambda k, way=way: k.consent(f"is_{way}_allowed"),  # type: ignore[misc]
    }

MONEY: dict[str, Oracle] = {
    "spend_paid_sum_ever_cents": lambda k: total(k.entries("payment"), "amount_cents"),
    "spend_paid_mean_ever_cents": lambda k: share(
        total(k.entries("payment"), "amount_cents"), len(k.entries("payment"))
    ),
    "spend_paid_max_ever_cents": lambda k: max(of(k.entries("payment"), "amount_cents"), default=None),
    "payments_made_count_365d": lambda k: len(k.entries("payment", 365)),
    "spend_charged_sum_ever_cents": lambda k: total(k.entries("charge"), "amount_cents"),
    "spend_charged_sum_365d_cents": lambda k: total(k.entries("charge", 365), "amount_cents"),
    "spend_charged_mean_ever_cents": lambda k: share(
        total(k.entries("charge"), "amount_cents"), len({local_day(p["paid_at"]) for p in k.entries("charge")})
    ),
    "spend_line_share_ever": lambda k: share(
        max(k.charged_by_line.values(), default=0), sum(k.charged_by_line.values())
    ),
    "spend_discount_share_ever": lambda k: (
        total(k.entries("charge"), "discount_cents") / listed
        if (listed := total(k.entries("charge"), "list_cents"))
        else None
    ),
    "has_refund": lambda k: bool(k.entries("refund")),
    "spend_owed_sum_ever_cents": lambda k: (
        total(k.entries("charge"), "amount_cents")
        - total(k.entries("payment"), "amount_cents")
        + sum(abs(p["amount_cents"]) for p in k.entries("refund"))
        + total(k.entries("adjustment"), "amount_cents")
    ),
    "days_since_payment": lambda k: k.since(of(k.entries("payment"), "paid_at")),
}
MONEY |= {
    f"spend_paid_sum_{days}d_cents": lambda k, days=days: total(k.entries("payment", days), "amount_cents")  # type: ignore[misc]
    for days in (90, 365, 730)
}

ORACLES = dict(zip(FAMILY_NAMES, (ATTENDANCE, DUE, PLANS, CONTACTS, MONEY), strict=True))


# Comparing

Row = tuple[str, datetime]


@pytest.fixture(scope="module")
def compared(fill_tables: Callable[..., None]) -> dict[str, dict[Row, tuple[State, Look]]]:
    """Per family, its rows and the same patients as the oracle sees them, of two practices."""
    found: dict[str, dict[Row, tuple[State, Look]]] = {name: {} for name in FAMILY_NAMES}
    for seed in (1, 2):
        world = tiny_world(Random(seed))
        with connect() as con:
            con.execute("SET threads = 1")
            fill_tables(con, world)
            own = {f"p{number}": part_of(world, f"p{number}") for number in range(PATIENTS)}
            for name, rows in computed(con).items():
                for row in rows:
                    look = Look(own[row["patient_id"]], row["patient_id"], row["as_of"].astimezone(UTC))
                    found[name][f"{seed} {look.patient_id}", look.as_of] = (row, look)
    return found


def part_of(world: World, patient: str) -> World:
    """What was ever about a patient and those who turned out to be the same."""
    whose = {patient, *(merge["old_id"] for merge in world["merges"] if merge["new_id"] == patient)}
    own = {table: [state for state in world[table] if state["patient_id"] in whose] for table in KEYS}
    return {**own, "merges": world["merges"]}


def computed(con: duckdb.DuckDBPyConnection) -> dict[str, list[State]]:
    families = {name: FAMILIES[name] for name in FAMILY_NAMES}
    attach_patients(con, SETTINGS, families.values(), MOMENTS)
    return {name: family_rows(con, family).to_arrow_table().to_pylist() for name, family in families.items()}


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_feature_of_a_patient_has_an_oracle(family: str) -> None:
    assert {feature.name for feature in FAMILIES[family].features} == set(ORACLES[family])


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_features_of_patients_match_naive_loops(
    compared: dict[str, dict[Row, tuple[State, Look]]], family: str
) -> None:
    for name, oracle in ORACLES[family].items():
        seen = set()
        for place, (row, look) in compared[family].items():
            expected, value = oracle(look), row[name]
            seen.add(value)
            if expected is None or value is None:
                assert value is expected is None, (name, place, value, expected)
            else:
                assert value == pytest.approx(float(expected), rel=1e-12, abs=1e-12), (name, place)
        assert len(seen) > 1, f"{name} is the same for all: nothing was compared"


def test_merged_patients_leave_the_spine(compared: dict[str, dict[Row, tuple[State, Look]]]) -> None:
    rows = compared["attendance"]
    assert len(rows) < 2 * PATIENTS * len(MOMENTS)
    for row, look in rows.values():
        gone = {m["old_id"] for m in look.world["merges"] if m["known_at"] < look.as_of}
        assert row["patient_id"] not in gone
