"""What a practice saw of its patients, one event after the other, from its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

# The next treatment visit is booked within this many minutes of a visit, at the desk.
AT_THE_DESK = 10
ENDED = ("completed", "no_show", "cancelled_late", "cancelled_early")


@dataclass(frozen=True)
class Event:
    """One thing that the practice saw.

    Attributes
    ----------
    minute : int
    kind : str
        ``visit``, ``due``, ``gap``, ``booking``, ``message``, ``arm`` or ``opt_out``.
    person : int
    facts : mapping of str to object
        Depend on the kind.
    """

    minute: int
    kind: str
    person: int
    facts: Mapping[str, Any]


def rows(frame: pd.DataFrame, *names: str) -> Iterator[tuple[Any, ...]]:
    """Rows of some columns, as plain values."""
    return zip(*(frame[name].tolist() for name in names), strict=True)


def due_events(dues: pd.DataFrame) -> list[Event]:
    """One event per state of a recall."""
    return [
        Event(int(minute), "opt_out" if is_off else "due", person, {"due": int(due)})
        for minute, person, due, is_off in rows(dues, "minute", "person", "due", "is_disabled")
    ]


def booking_events(bookings: pd.DataFrame, messages: pd.DataFrame, homes: np.ndarray) -> list[Event]:
    """One event per booking, saying how it came about as far as can be seen."""
    moves = set(rows(bookings[bookings["status"] == "rescheduled"], "person", "known"))
    said_yes = messages[(messages["purpose"] == "recall") & (messages["outcome"] == "confirmed")]
    answers = set(rows(said_yes, "person", "replied"))
    events, led = [], set()
    for person, booked, is_recall, lead in rows(bookings, "person", "booked", "is_recall", "lead"):
        home = homes[person]
        if (person, booked) in moves:
            how = "move"
        elif (person, booked) in answers:
            how = "answer"
        elif is_recall and home and (home, booked) in led:
            how = "along"
        else:
            how = "own"
            if is_recall:
                led.add((home, booked))
        events.append(Event(int(booked), "booking", person, {"how": how, "is_recall": is_recall, "lead": lead}))
    return events


def end_events(bookings: pd.DataFrame, dues: pd.DataFrame, items: pd.DataFrame) -> list[Event]:
    """One event per visit, and per booking that came to nothing."""
    began = dict(rows(dues.drop_duplicates("person"), "person", "minute"))
    steps = _steps_left(items)
    at_desk = {
        (person, booked - wait)
        for person, booked in rows(bookings, "person", "booked")
        for wait in range(1, AT_THE_DESK)
    }
    ended = bookings[bookings["status"].isin(ENDED)]
    events = []
    for person, start, known, status, is_recall, lead in rows(
        ended, "person", "start", "known", "status", "is_recall", "lead"
    ):
        minute = int(start if np.isnan(known) else known)
        if status != "completed":
            facts = {"is_no_show": status == "no_show", "is_recall": is_recall, "lead": lead}
            events.append(Event(minute, "gap", person, facts))
            continue
        went_on = True if (person, minute) in at_desk else steps.get((person, minute))
        is_first = began.get(person) == minute > 0
        events.append(Event(minute, "visit", person, {"is_first": is_first, "went_on": went_on}))
    return events


def _steps_left(items: pd.DataFrame) -> dict[tuple[int, int], bool]:
    """False by person and minute of each visit that began or went on with a plan and left steps undone."""
    plans: dict[str, list[tuple[Any, ...]]] = {}
    for plan, *step in rows(items, "plan_id", "person", "accepted", "completed", "declined"):
        plans.setdefault(plan, []).append(tuple(step))
    found = {}
    for steps in plans.values():
        for minute in {at for _, accepted, completed, _ in steps for at in (accepted, completed) if at == at}:
            if any(a <= minute and not c <= minute and not d <= minute for _, a, c, d in steps):
                found[steps[0][0], int(minute)] = False
    return found


def message_events(messages: pd.DataFrame) -> list[Event]:
    """One event per recall message."""
    recall = messages[messages["purpose"] == "recall"]
    return [
        Event(
            int(minute),
            "message",
            person,
            {
                "channel": channel,
                "is_answered": outcome == "confirmed",
                "is_random": campaign.startswith("TRIAL"),
            },
        )
        for minute, person, channel, outcome, campaign in rows(
            recall, "minute", "person", "channel", "outcome", "campaign_id"
        )
    ]


def arm_events(arms: pd.DataFrame) -> list[Event]:
    """One event per draw of the randomised stratum."""
    return [
        Event(int(minute), "arm", person, {"is_held": arm == "hold_out"})
        for minute, person, arm in rows(arms, "minute", "person", "arm")
    ]
