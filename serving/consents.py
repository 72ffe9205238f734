"""The consent ledger: what a patient said about a channel, when, and who wrote it down.

Statements are added, never changed; the newest holds. What the practice's own
system says (``patients.is_sms_allowed`` and others) comes with the records; a
statement here is newer than what it corrects, and goes before it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from sqlalchemy import Engine, select

from features.errors import RevisitError
from features.records.tables import CHANNELS
from serving.db import ConsentRow, reading, writing

ALL = "all"  # contact by any channel


class ConsentError(RevisitError):
    """A statement cannot be taken down as given."""


@dataclass(frozen=True)
class Statement:
    """One statement.

    Attributes
    ----------
    patient_id : str
        Whose.
    channel : str
        One of `features.records.tables.CHANNELS`, or ``all``.
    is_allowed : bool
        Given, or withdrawn.
    stated_at : datetime
        When the patient said it.
    source : str
        Where it was said: ``front_desk``, ``phone``, ``form``, ``import``, ...
    recorded_by : str
        User name of whoever wrote it down.
    recorded_at : datetime
        When.
    """

    patient_id: str
    channel: str
    is_allowed: bool
    stated_at: datetime
    source: str
    recorded_by: str
    recorded_at: datetime


def take_down(engine: Engine, statement: Statement) -> None:
    """Add one statement to the ledger.

    Raises
    ------
    ConsentError
        If there is no such channel, or the statement is from the future.
    """
    if statement.channel not in (*CHANNELS, ALL):
        raise ConsentError(f"There is no channel {statement.channel!r}; expected {', '.join((*CHANNELS, ALL))}.")
    if statement.stated_at > statement.recorded_at:
        raise ConsentError("A statement cannot be taken down before it is made; check its date.")
    with writing(engine) as session:
        session.add(ConsentRow(**asdict(statement)))


def standing(engine: Engine, patient_ids: Collection[str], as_of: datetime) -> Mapping[tuple[str, str], Statement]:
    """Return the statement that holds, by patient and channel, of those made up to `as_of`.

    Parameters
    ----------
    engine : Engine
        Of the application database.
    patient_ids : collection of str
        Patients asked about; who said nothing is not in the answer.
    as_of : datetime
        Aware.
    """
    found: dict[tuple[str, str], Statement] = {}
    listed = sorted(patient_ids)
    with reading(engine) as session:
        for start in range(0, len(listed), 500):  # below the number of variables that SQLite takes
            query = (
                select(ConsentRow)
                .where(ConsentRow.patient_id.in_(listed[start : start + 500]), ConsentRow.stated_at <= as_of)
                .order_by(ConsentRow.stated_at, ConsentRow.consent_id)
            )
            for row in session.scalars(query):
                said = Statement(**{field.name: getattr(row, field.name) for field in fields(Statement)})
                found[said.patient_id, said.channel] = said
    return found
