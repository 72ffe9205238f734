"""The audit log: who looked at which clinic's day, who signed in. Append-only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime

from sqlalchemy import Engine

from serving.db import AuditRow, writing


@dataclass(frozen=True)
class Act:
    """One thing somebody did; never with a patient's name or number in it."""

    at: datetime
    action: str
    username: str | None = None
    clinic_id: str | None = None
    day: date | None = None
    row_count: int | None = None
    model_version: str | None = None


def record(engine: Engine, act: Act) -> None:
    """Append one act."""
    with writing(engine) as session:
        session.add(AuditRow(**asdict(act)))
