"""The audit log: who saw or exported which patient data, who signed in. Append-only.

A patient is named by a random mark whose meaning (`AuditSubjectRow`) goes when
their data are deleted; the log itself cannot be changed.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime

from anyio import to_thread
from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from starlette.requests import Request

from serving.clock import now
from serving.db import BUSY_TIMEOUT_MS, AuditRow, AuditSubjectRow, reading, writing
from serving.web import signed_in, web_of


@dataclass(frozen=True)
class Act:
    """One thing somebody did; never with a patient's name or phone in it.

    Attributes
    ----------
    at : datetime
        When.
    action : str
        Such as ``view_schedule`` or ``export_recall``; at most 64 characters.
    username : str, optional
        Who; ``key:...`` for a program, ``cli:...`` for the command line.
    clinic_id, day, row_count
        Which list, and how many patients it showed.
    model_version : str, optional
        The models behind the scores shown.
    patient_id : str, optional
        Whose data, where it was one patient's; the log keeps a mark instead.
    detail : str, optional
        Codes that say how, such as ``xlsx``; at most 200 characters.
    """

    at: datetime
    action: str
    username: str | None = None
    clinic_id: str | None = None
    day: date | None = None
    row_count: int | None = None
    model_version: str | None = None
    patient_id: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Entry:
    """One act as the log holds it; no `patient_id` if there was none, or it is deleted."""

    audit_id: int
    act: Act


_APPEND = insert(AuditRow.__table__)  # type: ignore[arg-type]
_KEPT = tuple(field.name for field in fields(Act) if field.name != "patient_id")


def record(engine: Engine, act: Act) -> None:
    """Append one act; call it before the data are shown, so that nothing is shown unrecorded."""
    if act.patient_id is None:  # of lists, which are asked for most: without the mapper, which takes far longer
        with engine.execution_options(is_writing=True).begin() as connection:
            connection.execute(_APPEND, _values(act))
        return
    with writing(engine) as session:
        add(session, act)


def add(session: Session, act: Act) -> None:
    """Append one act within a transaction of the caller's."""
    subject = None if act.patient_id is None else _subject(session, act.patient_id)
    session.add(AuditRow(subject=subject, **{name: getattr(act, name) for name in _KEPT}))


async def note(
    request: Request,
    action: str,
    *,
    clinic_id: str | None = None,
    day: date | None = None,
    row_count: int | None = None,
    model_version: str | None = None,
    patient_id: str | None = None,
    detail: str | None = None,
) -> None:
    """Append what this request does, by whoever is signed in; see `Act`."""
    who = signed_in(request)
    username = who.username if who else None
    act = Act(now(), action, username, clinic_id, day, row_count, model_version, patient_id, detail)
    engine = web_of(request).engine
    if not _recorded_at_once(engine, act):
        await to_thread.run_sync(record, engine, act)


def _recorded_at_once(engine: Engine, act: Act) -> bool:
    """Append an act where that needs no waiting: SQLite is faster than a thread starts, unless somebody is writing."""
    if engine.dialect.name != "sqlite" or act.patient_id is not None:
        return False
    with engine.connect().execution_options(is_writing=True) as connection:
        driver = connection.connection.driver_connection
        if driver is None:
            return False
        driver.execute("PRAGMA busy_timeout=0")
        try:
            with connection.begin():
                connection.execute(_APPEND, _values(act))
        except OperationalError:
            return False
        finally:
            driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    return True


def _values(act: Act) -> dict[str, object]:
    return {name: getattr(act, name) for name in _KEPT}


def _subject(session: Session, patient_id: str) -> str:
    known = session.scalar(select(AuditSubjectRow.subject).where(AuditSubjectRow.patient_id == patient_id))
    if known is None:
        known = secrets.token_hex(16)
        session.add(AuditSubjectRow(subject=known, patient_id=patient_id))
        session.flush()
    return known


def read(
    engine: Engine,
    limit: int,
    before: int | None = None,
    *,
    username: str | None = None,
    action: str | None = None,
    patient_ids: Sequence[str] = (),
) -> list[Entry]:
    """Read the log, the newest first.

    Parameters
    ----------
    engine : Engine
        Of the application database.
    limit : int
        How many entries at most.
    before : int, optional
        Only entries with a smaller number: the next page.
    username, action : str, optional
        Only theirs, only such.
    patient_ids : sequence of str
        Only acts on these patients, if any is named.
    """
    query = select(AuditRow, AuditSubjectRow.patient_id).outerjoin(
        AuditSubjectRow, AuditSubjectRow.subject == AuditRow.subject
    )
    for column, wanted in ((AuditRow.username, username), (AuditRow.action, action)):
        query = query if wanted is None else query.where(column == wanted)
    if before is not None:
        query = query.where(AuditRow.audit_id < before)
    if patient_ids:
        query = query.where(AuditSubjectRow.patient_id.in_(patient_ids))
    with reading(engine) as session:
        rows = session.execute(query.order_by(AuditRow.audit_id.desc()).limit(limit)).all()
    return [
        Entry(row.audit_id, Act(patient_id=patient_id, **{name: getattr(row, name) for name in _KEPT}))
        for row, patient_id in rows
    ]
