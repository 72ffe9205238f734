"""Events that programs send, on their way to the scorer: each counts once, and old news does not undo newer.

What an event says goes into the desk's queue (`serving.desk_events`); here
stays what it is known by, so that one that is sent twice, or late, is told
apart without its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from features.records.tables import TABLES
from serving.db import reading, writing
from serving.desk_events import DONE, FAILED, WAITING, Told, tell
from serving.desk_tables import DeskEventRow
from serving.integration_tables import ReceivedEventRow

OUTDATED = "outdated"
STATES = (WAITING, DONE, FAILED, OUTDATED)
KEPT = timedelta(days=365)


@dataclass(frozen=True)
class Sent:
    """One event as a program sent it.

    Attributes
    ----------
    event_id : str
        The program's own number of the event, at most 100 characters.
    table : str
        One of `serving.desk_events.TABLES`, or `serving.desk_events.PATIENTS`.
    row : mapping
        Columns of the contract alone, the key and ``patient_id`` among them.
    happened_at : datetime, optional
        When the program's system recorded it.
    """

    event_id: str
    table: str
    row: Mapping[str, Any] = field(default_factory=dict)
    happened_at: datetime | None = None

    @property
    def thing_hash(self) -> str:
        """Of the key of what it is about."""
        return hashlib.sha256(json.dumps([self.table, str(self.row[TABLES[self.table].key])]).encode()).hexdigest()


@dataclass(frozen=True)
class Received:
    """What became of an event.

    Attributes
    ----------
    number : int
        In the order in which they came.
    event_id : str
        The program's own number.
    state : str
        ``waiting``, ``done``, ``failed`` (the contract refused it) or
        ``outdated`` (newer news of the same thing came before).
    problem : str or None
        Why it failed.
    received_at, finished_at : datetime
        When it came, when it was taken in or refused.
    is_new : bool
        False if the same event had come before.
    """

    number: int
    event_id: str
    state: str
    problem: str | None
    received_at: datetime
    finished_at: datetime | None
    is_new: bool = False


def receive(engine: Engine, source: str, sent: Sequence[Sent], at: datetime) -> list[Received]:
    """Take events in, in their order; one that came before is not taken in again.

    Parameters
    ----------
    engine : Engine
        Of the upgraded application database.
    source : str
        Who sent them, such as ``key:1a2b3c``.
    sent : sequence of Sent
        The events.
    at : datetime
        This moment.

    Returns
    -------
    list of Received
        One per event.
    """
    return [_receive(engine, source, event, at) for event in sent]


def _receive(engine: Engine, source: str, event: Sent, at: datetime) -> Received:
    known, is_late = _known(engine, source, event)
    if known is not None:
        return known
    # Told first, noted second: after a crash in between, the program sends it again, and telling twice changes nothing.
    told = Told(event.table, event.row, str(event.row["patient_id"]), event.row.get("clinic_id"))
    number = None if is_late else tell(engine, told, source, at)
    row = ReceivedEventRow(
        source=source,
        event_id=event.event_id,
        thing_hash=event.thing_hash,
        happened_at=event.happened_at,
        received_at=at,
        desk_event_id=number,
    )
    try:
        with writing(engine) as session:
            session.execute(delete(ReceivedEventRow).where(ReceivedEventRow.received_at < at - KEPT))
            session.add(row)
            session.flush()
            return Received(row.number, event.event_id, WAITING if number else OUTDATED, None, at, None, is_new=True)
    except IntegrityError:  # the same event came at the same time
        known, _ = _known(engine, source, event)
        if known is None:
            raise
        return known


def _known(engine: Engine, source: str, event: Sent) -> tuple[Received | None, bool]:
    """The event if it came before, and else whether newer news of the same thing did."""
    with reading(engine) as session:
        found = _read(session, ReceivedEventRow.source == source, ReceivedEventRow.event_id == event.event_id, limit=1)
        if found or event.happened_at is None:
            return (found[0] if found else None), False
        newer = select(ReceivedEventRow.number).where(
            ReceivedEventRow.thing_hash == event.thing_hash, ReceivedEventRow.happened_at > event.happened_at
        )
        return None, session.scalar(newer.limit(1)) is not None


def read_received(engine: Engine, source: str, limit: int, before: int | None = None) -> list[Received]:
    """Read what became of one program's events, the newest first.

    Parameters
    ----------
    engine : Engine
        Of the application database.
    source : str
        Who sent them.
    limit : int
        How many at most.
    before : int, optional
        Only events with a smaller number: the next page.
    """
    conditions = [ReceivedEventRow.source == source]
    if before is not None:
        conditions.append(ReceivedEventRow.number < before)
    with reading(engine) as session:
        return _read(session, *conditions, limit=limit)


def _read(session: Session, *conditions: Any, limit: int) -> list[Received]:
    query = (
        select(ReceivedEventRow, DeskEventRow)
        .outerjoin(DeskEventRow, DeskEventRow.event_id == ReceivedEventRow.desk_event_id)
        .where(*conditions)
        .order_by(ReceivedEventRow.number.desc())
        .limit(limit)
    )
    return [_received(row, told) for row, told in session.execute(query)]


def _received(row: ReceivedEventRow, told: DeskEventRow | None) -> Received:
    state = OUTDATED if row.desk_event_id is None else told.state if told else DONE  # the queue forgets, in time
    return Received(
        number=row.number,
        event_id=row.event_id,
        state=state,
        problem=told.problem if told else None,
        received_at=row.received_at,
        finished_at=told.finished_at if told else None,
    )
