"""Recall lists as the pages and the API read them, and what people do with them.

A list is prepared by `serving.recall_build`, looked at, started once, and
worked through. Whoever was drawn into the hold-out is never shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Engine, Select, func, or_, select, update
from sqlalchemy.orm import Session

from features.errors import RevisitError
from serving import consents
from serving.db import BookingRow, ConsentRow, reading, writing
from serving.explanation import Reason
from serving.names import _
from serving.recall_choice import may_use
from serving.recall_tables import RecallItemRow, RecallListRow, RecallOutcomeRow, RecallRequestRow

Outcome = Literal["reached", "booked", "declined", "no_answer", "stop"]
OUTCOMES: tuple[Outcome, ...] = ("booked", "reached", "no_answer", "declined", "stop")
MOST_CALLS = 500
UNDO_LASTS = timedelta(minutes=15)  # then the outcome goes into the records
NOT_THERE = _("This list is not there.")
_TOO_MANY = _("A list holds 1 to 500 patients.")
_NOT_ON_IT = _("This patient is not on the list.")
_ALREADY = _("This list has been started already.")
_OLD = _("A newer list has taken the place of this one.")
NOT_STARTED = _("Start the list first; then outcomes can be noted.")
_TOO_LATE = _("This outcome is in the records by now; note a new one instead.")
_STOP_SOURCE = "recall"


class RecallError(RevisitError):
    """Something cannot be done with a recall list."""

    http_status = 409


class NoRecallListError(RevisitError):
    """There is no such list, patient or outcome, or it is not theirs to see."""

    http_status = 404


@dataclass(frozen=True)
class Counts:
    """How many patients of some clinics were due, and what became of them."""

    due: int = 0
    contact: int = 0
    hold_out: int = 0
    waiting: int = 0
    excluded: Mapping[str, int] = field(default_factory=dict)

    @property
    def kept_off(self) -> int:
        """Patients who were due and may not be contacted now."""
        return sum(self.excluded.values())


@dataclass(frozen=True)
class RecallList:
    """One list; `ranked_by` is ``recall``, ``return_90d`` or ``rule``."""

    list_id: int
    made_at: datetime
    calls: int
    hold_out_share: float
    ranked_by: str
    model_version: str | None
    counts: Counts
    campaign_id: str | None
    started_at: datetime | None
    started_by: str | None


@dataclass(frozen=True)
class Noted:
    """What came of a contact."""

    outcome_id: int
    outcome: Outcome
    channel: str
    noted_at: datetime
    noted_by: str
    can_be_undone: bool


@dataclass(frozen=True)
class Item:
    """One patient to be contacted.

    Attributes
    ----------
    channels : tuple of str
        By which they may still be reached, the preferred first.
    obstacle : str or None
        Why they may no longer be contacted: ``do_not_contact``, ``no_channel``
        or ``booked``, learned after the list was made.
    """

    list_id: int
    patient_id: str
    place: int
    clinic_id: str
    patient_name: str | None
    phone: str | None
    channels: tuple[str, ...]
    overdue_days: int
    is_long_overdue: bool
    value_cents: int
    value_band: str
    response: float | None
    last_contact_at: datetime | None
    reasons: tuple[Reason, ...]
    noted: Noted | None
    obstacle: str | None


@dataclass(frozen=True)
class Request:
    """The newest wish for a list; `finished_at` is null while the scorer is at it."""

    request_id: int
    asked_at: datetime
    calls: int
    finished_at: datetime | None
    problem: str | None


Clinics = Collection[str] | None  # None: all of them


def ask(engine: Engine, calls: int, by: str, at: datetime) -> int:
    """Ask the scorer for a list of so many patients; a wish that is still open is taken back.

    Raises
    ------
    RecallError
        If the number is out of range.
    """
    if not 1 <= calls <= MOST_CALLS:
        raise RecallError(_TOO_MANY)
    with writing(engine) as session:
        is_open = RecallRequestRow.finished_at.is_(None)
        session.execute(update(RecallRequestRow).where(is_open).values(finished_at=at, problem="replaced"))
        row = RecallRequestRow(asked_at=at, asked_by=by, calls=calls, finished_at=None, problem=None)
        session.add(row)
        session.flush()
        return row.request_id


def newest_request(engine: Engine) -> Request | None:
    """Read the newest wish."""
    with reading(engine) as session:
        row = session.scalar(select(RecallRequestRow).order_by(RecallRequestRow.request_id.desc()).limit(1))
        return None if row is None else Request(**{name: getattr(row, name) for name in Request.__dataclass_fields__})


def read_lists(engine: Engine, clinics: Clinics, limit: int, before: int | None = None) -> list[RecallList]:
    """Read lists, the newest first.

    Parameters
    ----------
    engine : Engine
        Of the application database.
    clinics : collection of str, optional
        Those to be counted; all by default.
    limit : int
        How many at most.
    before : int, optional
        Only lists with a smaller number: the next page.
    """
    query = select(RecallListRow).order_by(RecallListRow.list_id.desc()).limit(limit)
    if before is not None:
        query = query.where(RecallListRow.list_id < before)
    with reading(engine) as session:
        return [_list(row, clinics) for row in session.scalars(query)]


def read_list(engine: Engine, list_id: int, clinics: Clinics) -> RecallList:
    """Read one list.

    Raises
    ------
    NoRecallListError
        If there is none of that number.
    """
    with reading(engine) as session:
        return _list(_row(session, list_id), clinics)


def read_items(engine: Engine, list_id: int, clinics: Clinics, at: datetime) -> list[Item]:
    """Read whom a list says to contact, in order, with what was noted and what has changed since it was made.

    Parameters
    ----------
    engine : Engine
        Of the application database.
    list_id : int
        Of the list.
    clinics : collection of str, optional
        Only patients of these.
    at : datetime
        Consents and bookings are looked at as of now.
    """
    query = _to_contact(list_id, clinics)
    with reading(engine) as session:
        rows = list(session.scalars(query.order_by(RecallItemRow.place)))
        noted = _noted(session, list_id, at)
        booked = _booked(session, [row.patient_id for row in rows], at)
    said = consents.standing(engine, [row.patient_id for row in rows], at)
    return [_item(row, noted.get(row.patient_id), said, row.patient_id in booked) for row in rows]


def start(engine: Engine, list_id: int, by: str, at: datetime) -> RecallList:
    """Start a list: from now on its patients are contacted, and the draw of the hold-out stands.

    Raises
    ------
    NoRecallListError
        If there is none of that number.
    RecallError
        If it was started, or a newer one is there.
    """
    with writing(engine) as session:
        row = _row(session, list_id)
        if row.started_at is not None:
            raise RecallError(_ALREADY)
        if session.scalar(select(func.max(RecallListRow.list_id))) != list_id:
            raise RecallError(_OLD)
        row.started_at, row.started_by = at, by
        row.campaign_id = f"RECALL-{at:%Y%m%d}-{list_id}"
        session.flush()
        return _list(row, None)


def note(
    engine: Engine, list_id: int, patient_id: str, outcome: Outcome, by: str, at: datetime, clinics: Clinics
) -> int:
    """Note what came of a contact; the newest outcome of a patient counts. Returns its number.

    ``stop`` is also taken down in the consent ledger: no contact by any channel.

    Raises
    ------
    NoRecallListError
        If the patient is not on the list.
    RecallError
        If the list was not started.
    """
    with writing(engine) as session:
        if _row(session, list_id).started_at is None:
            raise RecallError(NOT_STARTED)
        item = session.scalar(_to_contact(list_id, clinics).where(RecallItemRow.patient_id == patient_id))
        if item is None:
            raise NoRecallListError(_NOT_ON_IT)
        row = RecallOutcomeRow(
            list_id=list_id,
            patient_id=patient_id,
            channel=item.channels[0],
            outcome=outcome,
            noted_at=at,
            noted_by=by,
            undone_at=None,
            undone_by=None,
            recorded_at=None,
        )
        session.add(row)
        if outcome == "stop":
            session.add(_statement(patient_id, by, at, is_allowed=False))
        session.flush()
        return row.outcome_id


def undo(engine: Engine, outcome_id: int, by: str, at: datetime, clinics: Clinics) -> tuple[int, str]:
    """Take an outcome back; doing so twice changes nothing. Returns the list's number and the patient's.

    Raises
    ------
    NoRecallListError
        If there is no such outcome.
    RecallError
        If it has gone into the records.
    """
    with writing(engine) as session:
        row = session.get(RecallOutcomeRow, outcome_id)
        if row is None or not session.scalar(
            _to_contact(row.list_id, clinics).where(RecallItemRow.patient_id == row.patient_id)
        ):
            raise NoRecallListError(_NOT_ON_IT)
        if row.undone_at is None:
            if row.recorded_at is not None:
                raise RecallError(_TOO_LATE)
            row.undone_at, row.undone_by = at, by
            if row.outcome == "stop":
                session.add(_statement(row.patient_id, by, at, is_allowed=True))
        return row.list_id, row.patient_id


def _statement(patient_id: str, by: str, at: datetime, *, is_allowed: bool) -> ConsentRow:
    return ConsentRow(
        patient_id=patient_id,
        channel=consents.ALL,
        is_allowed=is_allowed,
        stated_at=at,
        source=_STOP_SOURCE if not is_allowed else f"{_STOP_SOURCE}_undone",
        recorded_by=by,
        recorded_at=at,
    )


def _row(session: Session, list_id: int) -> RecallListRow:
    row = session.get(RecallListRow, list_id)
    if row is None:
        raise NoRecallListError(NOT_THERE)
    return row


def _to_contact(list_id: int, clinics: Clinics) -> Select[RecallItemRow]:
    query = select(RecallItemRow).where(RecallItemRow.list_id == list_id, RecallItemRow.arm == "contact")
    return query if clinics is None else query.where(RecallItemRow.clinic_id.in_(sorted(clinics)))


def _list(row: RecallListRow, clinics: Clinics) -> RecallList:
    shared = {name: getattr(row, name) for name in RecallList.__dataclass_fields__ if name != "counts"}
    return RecallList(counts=_sum(row.counts, clinics), **shared)


def _sum(counts: Iterable[Mapping[str, Any]], clinics: Clinics) -> Counts:
    own = [one for one in counts if clinics is None or one["clinic_id"] in clinics]
    excluded: dict[str, int] = {}
    for one in own:
        for reason, number in one["excluded"].items():
            excluded[reason] = excluded.get(reason, 0) + number
    names = ("due", "contact", "hold_out", "waiting")
    return Counts(**{name: sum(one[name] for one in own) for name in names}, excluded=excluded)


def _noted(session: Session, list_id: int, at: datetime) -> dict[str, Noted]:
    query = (
        select(RecallOutcomeRow)
        .where(RecallOutcomeRow.list_id == list_id, RecallOutcomeRow.undone_at.is_(None))
        .order_by(RecallOutcomeRow.outcome_id)
    )
    return {
        row.patient_id: Noted(
            row.outcome_id,
            row.outcome,  # type: ignore[arg-type]
            row.channel,
            row.noted_at,
            row.noted_by,
            can_be_undone=row.recorded_at is None,
        )
        for row in session.scalars(query)
    }


def _booked(session: Session, patient_ids: Sequence[str], at: datetime) -> set[str]:
    query = select(BookingRow.patient_id).where(
        BookingRow.patient_id.in_(patient_ids),
        BookingRow.status == "booked",
        or_(BookingRow.starts_at > at, BookingRow.booked_at > at),
    )
    return set(session.scalars(query))


def _item(row: RecallItemRow, noted: Noted | None, said: Mapping[tuple[str, str], Any], is_booked: bool) -> Item:
    def is_open(channel: str) -> bool:
        statement = said.get((row.patient_id, channel))
        return statement is None or may_use(channel, statement.is_allowed)

    everything = said.get((row.patient_id, consents.ALL))
    channels = tuple(channel for channel in row.channels if is_open(channel))
    obstacle = "booked" if is_booked else None
    if not channels:
        obstacle = "no_channel"
    if everything is not None and not everything.is_allowed:
        channels, obstacle = (), "do_not_contact"
    skipped = ("channels", "reasons", "noted", "obstacle")
    return Item(
        channels=channels,
        reasons=tuple(Reason(**reason) for reason in row.reasons),
        noted=noted,
        obstacle=obstacle,
        **{name: getattr(row, name) for name in Item.__dataclass_fields__ if name not in skipped},
    )
