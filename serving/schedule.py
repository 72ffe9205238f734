"""The published schedule: bookings with their scores, written whole and read by day.

The scorer writes; the web worker only reads. A publication replaces the one
before it in a single transaction, so a page shows the old or the new state and
never a mixture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Engine, delete, func, insert, select
from sqlalchemy.orm import Session

from features.errors import StoreError
from serving.db import BookingRow, ClinicRow, PublicationRow, ScoreRow, reading, writing
from serving.explanation import Reason
from serving.patients import Standing, standings

BOOKING_CONTRACT = "no_show_booking"
EVENING_CONTRACT = "no_show_evening"
CONTRACTS = (BOOKING_CONTRACT, EVENING_CONTRACT)


@dataclass(frozen=True)
class Booking:
    """One booking as the practice's system knew it when it was published."""

    appointment_id: str
    clinic_id: str
    patient_id: str
    starts_at: datetime
    booked_at: datetime
    status: str = "booked"
    clinician_id: str | None = None
    patient_name: str | None = None
    birth_year: int | None = None
    service_line: str | None = None
    is_start_time_known: bool = True
    duration_minutes: int | None = None
    clinician_name: str | None = None


@dataclass(frozen=True)
class Score:
    """What one model said about one booking, and when."""

    appointment_id: str
    contract: str
    probability: float
    model_name: str
    model_version: str
    as_of: datetime
    scored_at: datetime
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Publication:
    """The publication that pages show.

    Attributes
    ----------
    publication_id, published_at, as_of, booking_count
        Which one, when, up to when the records were known, how many bookings.
    model_versions : mapping of str to str
        By contract.
    context : mapping
        ``levels`` by contract and ``clinic_shares`` by clinic: what a single booking is scored with later.
    """

    publication_id: int
    published_at: datetime
    as_of: datetime
    booking_count: int
    model_versions: Mapping[str, str]
    context: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class DaySchedule:
    """One clinic's day, all read at the same moment; patients by number, those who are known."""

    clinic_id: str
    clinic_name: str
    day: date
    publication: Publication | None
    entries: tuple[tuple[Booking, Score | None], ...]
    patients: Mapping[str, Standing] = field(default_factory=dict)


@dataclass(frozen=True)
class Overview:
    """What is published: the clinics, the newest publication and its first and last day."""

    clinics: Mapping[str, str]
    publication: Publication | None
    first_day: date | None
    last_day: date | None


def publish_schedule(
    engine: Engine,
    bookings: Sequence[Booking],
    scores: Sequence[Score],
    clinics: Mapping[str, str],
    *,
    as_of: datetime,
    published_at: datetime,
    context: Mapping[str, Mapping[str, float]] | None = None,
) -> int:
    """Replace what is published, in one transaction.

    Parameters
    ----------
    engine : Engine
        Of the upgraded application database.
    bookings : sequence of Booking
        Every booking that pages shall show; what is not among them disappears.
    scores : sequence of Score
        At most one per booking and contract.
    clinics : mapping of str to str
        Name by clinic id; a clinic without bookings is shown with empty days.
    as_of : datetime
        Up to when the records were known.
    published_at : datetime
        This moment.
    context : mapping, optional
        As `Publication` has it.

    Returns
    -------
    int
        The publication's number.

    Raises
    ------
    StoreError
        If a score has no booking, or a contract or probability that cannot be.
    """
    _check_scores(bookings, scores)
    names = {booking.clinic_id: booking.clinic_id for booking in bookings} | dict(clinics)
    with writing(engine) as session:
        for table in (ScoreRow, BookingRow, ClinicRow):
            session.execute(delete(table))
        _insert(session, ClinicRow, ({"clinic_id": key, "name": name} for key, name in names.items()))
        _insert(session, BookingRow, ({**asdict(b), "published_at": published_at} for b in bookings))
        _insert(session, ScoreRow, (asdict(score) for score in scores))
        row = PublicationRow(
            published_at=published_at,
            as_of=as_of,
            booking_count=len(bookings),
            model_versions={score.contract: score.model_version for score in scores},
            context=dict(context or {}),
        )
        session.add(row)
        session.flush()
        return row.publication_id


def publish_again(engine: Engine, at: datetime) -> None:
    """Let pages read anew what has changed beside the bookings; before the first publication there is nothing to do."""
    with writing(engine) as session:
        add_publication(session, at)


def add_publication(session: Session, at: datetime) -> None:
    """Add a publication of what stands there now, within a transaction of the caller's.

    Pages hold what was published in memory until a newer publication appears.
    """
    newest = _newest_publication(session)
    if newest is not None:
        session.add(
            PublicationRow(
                published_at=at,
                as_of=newest.as_of,
                booking_count=session.scalar(select(func.count()).select_from(BookingRow)) or 0,
                model_versions=dict(newest.model_versions),
                context=dict(newest.context),
            )
        )


def _insert(session: Session, table: type[Any], rows: Iterable[dict[str, Any]]) -> None:
    found = list(rows)
    if found:
        session.execute(insert(table), found)


def _check_scores(bookings: Sequence[Booking], scores: Sequence[Score]) -> None:
    known = {booking.appointment_id for booking in bookings}
    strays = sorted({score.appointment_id for score in scores} - known)
    if strays:
        raise StoreError(f"{len(strays)} scores have no booking: {', '.join(strays[:5])}. Publish both together.")
    contracts = sorted({score.contract for score in scores} - set(CONTRACTS))
    if contracts:
        raise StoreError(f"Scores of {', '.join(contracts)} have no place here; expected {', '.join(CONTRACTS)}.")
    wrong = [score.appointment_id for score in scores if not 0 <= score.probability <= 1]
    if wrong:
        raise StoreError(f"{len(wrong)} probabilities are not within 0 and 1: {', '.join(wrong[:5])}.")


def read_overview(engine: Engine, zone: ZoneInfo) -> Overview:
    """Read which clinics and days are published."""
    with reading(engine) as session:
        rows = session.execute(select(ClinicRow.clinic_id, ClinicRow.name).order_by(ClinicRow.name)).all()
        span = select(func.min(BookingRow.starts_at), func.max(BookingRow.starts_at))
        first, last = session.execute(span).one()
        return Overview(
            clinics={row.clinic_id: row.name for row in rows},
            publication=_newest_publication(session),
            first_day=first.astimezone(zone).date() if first else None,
            last_day=last.astimezone(zone).date() if last else None,
        )


def read_publication(engine: Engine) -> Publication | None:
    """Read the newest publication, the cheap question that polling asks."""
    with reading(engine) as session:
        return _newest_publication(session)


def read_schedule(engine: Engine, clinic_id: str, day: date, zone: ZoneInfo) -> DaySchedule | None:
    """Read one clinic's day; None if the clinic is not published."""
    with reading(engine) as session:
        name = session.scalar(select(ClinicRow.name).where(ClinicRow.clinic_id == clinic_id))
        if name is None:
            return None
        entries = tuple(_entries(session, clinic_id, day, zone))
        return DaySchedule(
            clinic_id=clinic_id,
            clinic_name=name,
            day=day,
            publication=_newest_publication(session),
            entries=entries,
            patients=standings(session, {booking.patient_id for booking, _ in entries}),
        )


def read_booking(engine: Engine, appointment_id: str) -> Booking | None:
    """Read one published booking; None if there is no such."""
    with reading(engine) as session:
        row = session.get(BookingRow, appointment_id)
        return _booking(row) if row else None


def read_scores(engine: Engine, appointment_ids: Sequence[str]) -> list[Score]:
    """Read all published scores of some bookings."""
    found: list[Score] = []
    with reading(engine) as session:
        for start in range(0, len(appointment_ids), 500):  # below the number of variables that SQLite takes
            some = ScoreRow.appointment_id.in_(appointment_ids[start : start + 500])
            found += [_score(row) for row in session.scalars(select(ScoreRow).where(some))]
    return found


@dataclass(frozen=True)
class Choices:
    """What published bookings are made of: clinicians by number, service lines."""

    clinicians: Mapping[str, str]
    services: tuple[str, ...]


def read_choices(engine: Engine) -> Choices:
    """Read what a new booking can be made of."""
    people = select(BookingRow.clinician_id, func.max(BookingRow.clinician_name)).group_by(BookingRow.clinician_id)
    lines = select(BookingRow.service_line).distinct()
    with reading(engine) as session:
        found = {key: name or key for key, name in session.execute(people) if key}
        services = sorted(line for line in session.scalars(lines) if line)
    return Choices(dict(sorted(found.items(), key=lambda pair: pair[1])), tuple(services))


def read_day(engine: Engine, clinic_id: str, local_day: date, zone: ZoneInfo) -> list[tuple[Booking, Score | None]]:
    """Read one clinic's bookings of a local day, by start time.

    Parameters
    ----------
    engine : Engine
        Of the application database.
    clinic_id : str
        The clinic.
    local_day : date
        The day by the practice's clock.
    zone : ZoneInfo
        The practice's time zone.

    Returns
    -------
    list of (Booking, Score or None)
        The evening score where there is one, else the score made at booking.
    """
    with reading(engine) as session:
        return _entries(session, clinic_id, local_day, zone)


def _entries(session: Session, clinic_id: str, day: date, zone: ZoneInfo) -> list[tuple[Booking, Score | None]]:
    begins = datetime.combine(day, time(), tzinfo=zone)
    ends = datetime.combine(day + timedelta(days=1), time(), tzinfo=zone)
    return entries_where(
        session,
        BookingRow.clinic_id == clinic_id,
        BookingRow.starts_at >= begins.astimezone(UTC),
        BookingRow.starts_at < ends.astimezone(UTC),
    )


def entries_where(session: Session, *conditions: ColumnElement[bool]) -> list[tuple[Booking, Score | None]]:
    """Read the bookings that fulfil all conditions, by start time, each with the score to show."""
    joined = BookingRow.__table__.outerjoin(ScoreRow.__table__, ScoreRow.appointment_id == BookingRow.appointment_id)
    query = (
        select(BookingRow, ScoreRow)
        .select_from(joined)
        .where(*conditions)
        .order_by(BookingRow.starts_at, BookingRow.appointment_id)
    )
    found = []
    for _, group in groupby(session.execute(query), key=lambda pair: pair[0].appointment_id):
        pairs = list(group)
        scores = {row.contract: row for _, row in pairs if row is not None}
        row = scores.get(EVENING_CONTRACT) or scores.get(BOOKING_CONTRACT)
        found.append((_booking(pairs[0][0]), _score(row) if row else None))
    return found


def _booking(row: BookingRow) -> Booking:
    return Booking(**{name: getattr(row, name) for name in Booking.__dataclass_fields__})


def _score(row: ScoreRow) -> Score:
    fields = {name: getattr(row, name) for name in Score.__dataclass_fields__ if name != "reasons"}
    return Score(**fields, reasons=tuple(Reason(**reason) for reason in row.reasons))


def _newest_publication(session: Session) -> Publication | None:
    newest = select(PublicationRow).order_by(PublicationRow.publication_id.desc()).limit(1)
    row = session.scalar(newest)
    if row is None:
        return None
    return Publication(**{name: getattr(row, name) for name in Publication.__dataclass_fields__})
