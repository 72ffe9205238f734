"""Events told at the desk or by another system: waiting for the scorer, taken in, or refused.

The web worker writes them down and answers at once; the scorer takes them in
one after the other, in the order in which they were told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, delete, select

from serving.db import reading, writing
from serving.desk_tables import DeskEventRow

WAITING, DONE, FAILED = "waiting", "done", "failed"
TABLES = ("appointments", "communications", "plan_items")
PATIENTS = "patients"  # nothing to record: look at the patient again
KEPT = timedelta(days=30)  # the records keep what was told; this is the way in


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes
    ----------
    event_id : int
        In the order in which they were told.
    patient_id, clinic_id : str
        Whom it concerns; the clinic where it is known.
    record_table, record
        Table of the records, and the columns told, without names and free text.
    told_by, told_at
        Who and when.
    state : str
        ``waiting``, ``done`` or ``failed``.
    problem : str or None
        Why it was refused.
    finished_at : datetime or None
        When it was taken in or refused.
    """

    event_id: int
    patient_id: str
    clinic_id: str | None
    record_table: str
    record: Mapping[str, Any]
    told_by: str
    told_at: datetime
    state: str
    problem: str | None
    finished_at: datetime | None


@dataclass(frozen=True)
class Told:
    """What is told: columns of a table of the records, and whom it concerns.

    Attributes
    ----------
    record_table : str
        One of `TABLES`, or `PATIENTS`.
    record : mapping of str to value
        Columns of the contract as text, numbers or booleans, moments in ISO 8601.
    patient_id, clinic_id : str
        Whom it concerns; the clinic where it is known.
    """

    record_table: str
    record: Mapping[str, Any]
    patient_id: str
    clinic_id: str | None


def tell(engine: Engine, told: Told, by: str, at: datetime) -> int:
    """Write an event down for the scorer; return its number.

    Parameters
    ----------
    engine : Engine
        Of the application database.
    told : Told
        What happened.
    by : str
        User name.
    at : datetime
        Aware.
    """
    with writing(engine) as session:
        row = DeskEventRow(
            patient_id=told.patient_id,
            clinic_id=told.clinic_id,
            record_table=told.record_table,
            record=dict(told.record),
            told_by=by,
            told_at=at,
            state=WAITING,
        )
        session.add(row)
        session.flush()
        return row.event_id


def waiting(engine: Engine, limit: int = 20) -> list[Event]:
    """Read what waits, the oldest first."""
    query = select(DeskEventRow).where(DeskEventRow.state == WAITING).order_by(DeskEventRow.event_id).limit(limit)
    with reading(engine) as session:
        return [_event(row) for row in session.scalars(query)]


def read_event(engine: Engine, event_id: int) -> Event | None:
    """Read one event; None if there is no such, or it is long past."""
    with reading(engine) as session:
        row = session.get(DeskEventRow, event_id)
        return _event(row) if row else None


def newest_about(engine: Engine, patient_id: str) -> Event | None:
    """Read the newest event about a patient."""
    query = select(DeskEventRow).where(DeskEventRow.patient_id == patient_id).order_by(DeskEventRow.event_id.desc())
    with reading(engine) as session:
        row = session.scalar(query.limit(1))
        return _event(row) if row else None


def patients_since(engine: Engine, moment: datetime) -> list[str]:
    """Patients of events that were taken in at a moment or later."""
    query = select(DeskEventRow.patient_id).where(DeskEventRow.state == DONE, DeskEventRow.finished_at >= moment)
    with reading(engine) as session:
        return sorted(set(session.scalars(query)))


def finish(engine: Engine, event_id: int, at: datetime, problem: str | None = None) -> None:
    """Note that an event was taken in, or why not; forget those of long ago."""
    with writing(engine) as session:
        row = session.get(DeskEventRow, event_id)
        if row is not None:
            row.state, row.problem, row.finished_at = (FAILED if problem else DONE), problem, at
        session.execute(delete(DeskEventRow).where(DeskEventRow.finished_at < at - KEPT))


def _event(row: DeskEventRow) -> Event:
    return Event(**{name: getattr(row, name) for name in Event.__dataclass_fields__})
