"""What the front desk noted as done about a booking, and took back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Engine, Update, func, select, update

from serving.db import reading, writing
from serving.desk_tables import DeskActionRow
from serving.schedule import Booking


@dataclass(frozen=True)
class Done:
    """One thing done: what, about which booking, by whom and when."""

    action_id: int
    appointment_id: str
    patient_id: str
    clinic_id: str
    day: date
    action: str
    done_by: str
    done_at: datetime


@dataclass(frozen=True)
class DayOfDone:
    """What stands as done on a clinic's day; `revision` changes with every note and every undoing."""

    revision: tuple[int, int]
    by_booking: Mapping[str, Done]


def note_done(engine: Engine, booking: Booking, day: date, action: str, by: str, at: datetime) -> None:
    """Note that something was done; what was noted before about the booking and still stands is taken back.

    Parameters
    ----------
    engine : Engine
        Of the application database.
    booking : Booking
        What it was about.
    day : date
        The booking's, by the practice's clock.
    action : str
        One of `serving.decisions.ACTIONS`.
    by : str
        User name.
    at : datetime
        Aware.
    """
    with writing(engine) as session:
        session.execute(_taking_back(booking.appointment_id, by, at))
        session.add(
            DeskActionRow(
                appointment_id=booking.appointment_id,
                patient_id=booking.patient_id,
                clinic_id=booking.clinic_id,
                day=day,
                action=action,
                done_by=by,
                done_at=at,
            )
        )


def undo(engine: Engine, appointment_id: str, by: str, at: datetime) -> bool:
    """Take back what stands as done about a booking; False if nothing does."""
    with writing(engine) as session:
        changed = session.execute(_taking_back(appointment_id, by, at))
        return bool(getattr(changed, "rowcount", 0))


def done_on(engine: Engine, clinic_id: str, day: date) -> DayOfDone:
    """Read what stands as done on a clinic's day."""
    ours = (DeskActionRow.clinic_id == clinic_id, DeskActionRow.day == day)
    with reading(engine) as session:
        newest, undone = func.coalesce(func.max(DeskActionRow.action_id), 0), func.count(DeskActionRow.undone_at)
        revision = session.execute(select(newest, undone).where(*ours)).one()
        rows = session.scalars(select(DeskActionRow).where(*ours, DeskActionRow.undone_at.is_(None))).all()
        found = {row.appointment_id: _done(row) for row in rows}
    return DayOfDone((revision[0], revision[1]), found)


def done_about(engine: Engine, patient_id: str, limit: int = 20) -> list[Done]:
    """Read what stands as done about a patient, the newest first."""
    query = (
        select(DeskActionRow)
        .where(DeskActionRow.patient_id == patient_id, DeskActionRow.undone_at.is_(None))
        .order_by(DeskActionRow.action_id.desc())
        .limit(limit)
    )
    with reading(engine) as session:
        return [_done(row) for row in session.scalars(query)]


def _taking_back(appointment_id: str, by: str, at: datetime) -> Update:
    return (
        update(DeskActionRow)
        .where(DeskActionRow.appointment_id == appointment_id, DeskActionRow.undone_at.is_(None))
        .values(undone_by=by, undone_at=at)
    )


def _done(row: DeskActionRow) -> Done:
    return Done(**{name: getattr(row, name) for name in Done.__dataclass_fields__})
