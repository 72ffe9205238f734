"""One patient's data on request: all of it handed out, or all of it deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, delete, select, text

from features.errors import StoreError
from features.records.erasure import erase_person, person_records
from features.records.store import RecordStore
from features.settings import Settings
from features.store import forget
from serving import audit, db, desk_tables, recall_tables  # noqa: F401 - their tables are a patient's too
from serving.db import Base, ScoreRow, reading, writing
from serving.schedule import add_publication

_OWNED = [table for table in Base.metadata.sorted_tables if "patient_id" in table.columns]


@dataclass(frozen=True)
class Deleted:
    """Rows removed from the records and from the application database, by table."""

    records: dict[str, int]
    application: dict[str, int]


def export_patient(settings: Settings, patient_id: str, now: datetime, by: str) -> str:
    """Return all that is kept about one patient, as JSON.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    patient_id : str
        Any of the patient's numbers.
    now : datetime
        Aware.
    by : str
        Who asks, for the audit log.

    Returns
    -------
    str
        ``records``: every state of every record, by table; ``application``:
        bookings with scores and reasons, consents and more, by table;
        ``audit``: who saw them.

    Raises
    ------
    StoreError
        If there is no such patient.
    """
    records = person_records(RecordStore(settings.paths.records), patient_id)
    numbers = _numbers(records, patient_id)
    with _application(settings) as engine:
        with reading(engine) as session:
            application: dict[str, list[dict[str, Any]]] = {
                table.name: [dict(row) for row in session.execute(query).mappings()]
                for table in _OWNED
                for query in [select(table).where(table.columns["patient_id"].in_(numbers))]
            }
            ids = [row["appointment_id"] for row in application["bookings"]]
            scores = select(ScoreRow.__table__).where(ScoreRow.appointment_id.in_(ids))
            application["scores"] = [dict(row) for row in session.execute(scores).mappings()]
        if not records and not any(application.values()):
            raise StoreError(f"there is no patient {patient_id!r}; nothing was exported.")
        count = sum(len(rows) for rows in (*records.values(), *application.values()))
        act = audit.Act(now, "export_patient", by, row_count=count, patient_id=patient_id, detail="json")
        audit.record(engine, act)
        seen = audit.read(engine, 100_000, patient_ids=numbers)
    content = {
        "patient_id": patient_id,
        "exported_at": now,
        "records": records,
        "application": {name: rows for name, rows in application.items() if rows},
        "audit": [vars(entry.act) for entry in seen],
    }
    return json.dumps(content, ensure_ascii=False, indent=1, default=_as_text)


def delete_patient(settings: Settings, patient_id: str, now: datetime, by: str) -> Deleted:
    """Delete one patient from records, features, online store and application database.

    What is left is made of other people's data: features and scores are to be
    built again (`revisit nightly`). Repeating it changes nothing.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    patient_id : str
        Any of the patient's numbers.
    now : datetime
        Aware.
    by : str
        Who asks, for the audit log.

    Returns
    -------
    Deleted

    Raises
    ------
    StoreError
        If there is no such patient, or an import is running.
    """
    erased = erase_person(RecordStore(settings.paths.records), patient_id, now)
    if erased.rows:
        forget(settings)
    with _application(settings) as engine:
        application = _delete_rows(engine, erased.numbers, now, by)
        _wipe(engine)
    return Deleted(erased.rows, application)


@contextmanager
def _application(settings: Settings) -> Iterator[Engine]:
    engine = db.engine(settings.application_database)
    try:
        db.upgrade(engine)
        yield engine
    finally:
        engine.dispose()


def _numbers(records: dict[str, list[dict[str, Any]]], patient_id: str) -> list[str]:
    merged = {number for row in records.get("merges", ()) for number in (row["old_id"], row["new_id"])}
    return sorted(merged | {patient_id})


def _delete_rows(engine: Engine, numbers: tuple[str, ...], now: datetime, by: str) -> dict[str, int]:
    with writing(engine) as session:
        counts = {}
        # The act stays, and with the mark's meaning gone it names nobody.
        audit.add(session, audit.Act(now, "delete_patient", by, patient_id=numbers[0]))
        session.flush()
        for table in reversed(_OWNED):
            gone = session.execute(delete(table).where(table.columns["patient_id"].in_(numbers)))
            counts[table.name] = int(getattr(gone, "rowcount", 0))
        if counts["bookings"]:
            add_publication(session, now)
    return {name: count for name, count in counts.items() if count}


def _wipe(engine: Engine) -> None:
    """Write the database's files anew: what is deleted stays in them until something is written over it."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in (*_OWNED, ScoreRow.__table__):
                connection.execute(text(f'VACUUM FULL "{table.name}"'))  # type: ignore[attr-defined]
        return
    raw = engine.raw_connection()  # VACUUM runs outside of transactions alone
    try:
        for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            cursor = raw.cursor()
            cursor.execute(statement)
            cursor.close()
    finally:
        raw.close()


def _as_text(value: object) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
