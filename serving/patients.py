"""Patients as the pages show them: who they are, what their flags are made of, their scores week by week.

The scorer writes, the web worker reads. A patient's name is here and with the
bookings, and with those on recall lists; nowhere else in the application database.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Engine, Select, delete, func, insert, or_, select
from sqlalchemy.orm import Session

from serving.db import reading, writing
from serving.desk_tables import PatientCardRow, PatientRow, PatientScoreRow
from serving.explanation import Reason

LAPSE, RETURN = "lapse", "return_90d"
QUESTIONS = (LAPSE, RETURN)
Kind = Literal["model", "rule", "seed_rule"]
WEEKS_KEPT = 104
AT_ONCE = 400  # patients per statement: below the number of variables that SQLite takes
MOST_FOUND = 50


@dataclass(frozen=True)
class Patient:
    """One patient.

    Attributes
    ----------
    patient_id, clinic_id, household_id : str
        The practice's own numbers; the home clinic.
    patient_name, birth_year, departure
        As recorded.
    is_scoring_allowed : bool
        False where the patient refused to be scored.
    refused_channels : tuple of str
        Ways by which the patient must not be reached; ``all`` among them for none at all.
    days_overdue : int or None
        Days past the due date of the next recall, negative before it.
    open_items, open_cents : int
        Treatment that was proposed and is neither done nor declined.
    pending_items : int
        Of these, what the patient has not agreed to.
    unanswered : int
        Messages and calls without an answer since the patient was last heard of.
    recalls_missed : int
        Whole recall intervals since the last visit.
    family_due : int
        Others of the household who are overdue and have no booking.
    has_booking_ahead : bool
        Whether a booking stands in the future.
    as_of : datetime
        Up to when this was known.
    """

    patient_id: str
    clinic_id: str | None
    patient_name: str | None
    birth_year: int | None
    household_id: str | None
    departure: str | None
    is_scoring_allowed: bool
    refused_channels: tuple[str, ...]
    days_overdue: int | None
    open_items: int
    pending_items: int
    open_cents: int
    unanswered: int
    recalls_missed: int
    family_due: int
    has_booking_ahead: bool
    as_of: datetime


@dataclass(frozen=True)
class PatientScore:
    """What was said about one patient, the newest of a week.

    Attributes
    ----------
    patient_id, question : str
        Whom about; one of `QUESTIONS`.
    probability : float or None
        Of the question; None where the rule gives no number.
    kind : str
        ``model``; ``rule``, the number by which a practice without a model goes; ``seed_rule``, where there is none.
    model_version : str
        Of the registry; empty for the seed rule.
    is_at_risk : bool
        Whether the patient is flagged.
    reasons : tuple of Reason
        The strongest first.
    as_of, scored_at : datetime
        Up to when the records were known, and when it was said.
    """

    patient_id: str
    question: str
    probability: float | None
    kind: Kind
    model_version: str
    is_at_risk: bool
    reasons: tuple[Reason, ...]
    as_of: datetime
    scored_at: datetime


@dataclass(frozen=True)
class Standing:
    """What a patient's flags are made of."""

    patient: Patient
    scores: Mapping[str, PatientScore]


@dataclass(frozen=True)
class Dossier:
    """All that the page of one patient shows, read at one moment.

    Attributes
    ----------
    standing : Standing
        With the newest scores.
    history : mapping of str to tuple of PatientScore
        By question, oldest week first.
    card : mapping
        ``visits``, ``items``, ``contacts``, newest first (`serving.patient_cards`).
    household : tuple of Patient
        The others.
    """

    standing: Standing
    history: Mapping[str, tuple[PatientScore, ...]]
    card: Mapping[str, Any]
    household: tuple[Patient, ...]


def store_patients(
    engine: Engine,
    patients: Sequence[Patient],
    cards: Mapping[str, Mapping[str, Any]],
    scores: Sequence[PatientScore],
) -> None:
    """Write patients, their cards and this week's scores, some hundreds per transaction so that no page waits.

    Parameters
    ----------
    engine : Engine
        Of the upgraded application database.
    patients : sequence of Patient
        Whatever stood there of them is replaced.
    cards : mapping of str to mapping
        By patient.
    scores : sequence of PatientScore
        Patients without one of a question lose this week's.
    """
    by_patient: dict[str, list[PatientScore]] = {}
    for score in scores:
        by_patient.setdefault(score.patient_id, []).append(score)
    for some in _batches(patients):
        ids = [patient.patient_id for patient in some]
        with writing(engine) as session:
            for table in (PatientRow, PatientCardRow):
                session.execute(delete(table).where(table.patient_id.in_(ids)))
            weeks = {week_of(patient.as_of) for patient in some}
            session.execute(
                delete(PatientScoreRow).where(PatientScoreRow.patient_id.in_(ids), PatientScoreRow.week.in_(weeks))
            )
            session.execute(insert(PatientRow), [_patient_values(patient) for patient in some])
            session.execute(
                insert(PatientCardRow),
                [{"patient_id": p.patient_id, "card": cards.get(p.patient_id, {}), "as_of": p.as_of} for p in some],
            )
            rows = [_score_values(score) for key in ids for score in by_patient.get(key, ())]
            if rows:
                session.execute(insert(PatientScoreRow), rows)


def forget_others(engine: Engine, as_of: datetime) -> None:
    """Remove patients who are in the records no more (not written at `as_of` or since), and scores of long ago."""
    with writing(engine) as session:
        for table in (PatientRow, PatientCardRow):
            session.execute(delete(table).where(table.as_of < as_of))
        long_ago = week_of(as_of) - timedelta(weeks=WEEKS_KEPT)
        session.execute(delete(PatientScoreRow).where(PatientScoreRow.week < long_ago))


def week_of(moment: datetime) -> date:
    """The Monday of the week (UTC) that a moment lies in."""
    return moment.date() - timedelta(days=moment.weekday())


def standings(session: Session, patient_ids: Collection[str]) -> dict[str, Standing]:
    """Read what flags are made of, by patient; who is not known is left out."""
    found: dict[str, Standing] = {}
    for ids in _batches(sorted(patient_ids)):
        newest = (
            select(PatientScoreRow.patient_id, PatientScoreRow.question, func.max(PatientScoreRow.week).label("week"))
            .where(PatientScoreRow.patient_id.in_(ids))
            .group_by(PatientScoreRow.patient_id, PatientScoreRow.question)
            .subquery()
        )
        on = [PatientScoreRow.__table__.c[name] == newest.c[name] for name in ("patient_id", "question", "week")]
        scores: dict[str, dict[str, PatientScore]] = {}
        for row in session.scalars(select(PatientScoreRow).join(newest, on[0] & on[1] & on[2])):
            scores.setdefault(row.patient_id, {})[row.question] = _score(row)
        for one in session.scalars(select(PatientRow).where(PatientRow.patient_id.in_(ids))):
            found[one.patient_id] = Standing(_patient(one), scores.get(one.patient_id, {}))
    return found


def has_patients(engine: Engine) -> bool:
    """Whether any patient is stored."""
    with reading(engine) as session:
        return session.scalar(select(PatientRow.patient_id).limit(1)) is not None


def read_patient(engine: Engine, patient_id: str) -> Patient | None:
    """Read one patient; None if there is no such."""
    with reading(engine) as session:
        row = session.get(PatientRow, patient_id)
        return _patient(row) if row else None


def read_dossier(engine: Engine, patient_id: str) -> Dossier | None:
    """Read all that the page of one patient shows; None if there is no such patient."""
    with reading(engine) as session:
        found = standings(session, [patient_id]).get(patient_id)
        if found is None:
            return None
        card = session.get(PatientCardRow, patient_id)
        rows = session.scalars(
            select(PatientScoreRow).where(PatientScoreRow.patient_id == patient_id).order_by(PatientScoreRow.week)
        ).all()
        home = found.patient.household_id
        others = (
            session.scalars(
                select(PatientRow)
                .where(PatientRow.household_id == home, PatientRow.patient_id != patient_id)
                .order_by(PatientRow.birth_year, PatientRow.patient_id)
                .limit(MOST_FOUND)
            ).all()
            if home
            else ()
        )
        return Dossier(
            standing=found,
            history={name: tuple(_score(row) for row in rows if row.question == name) for name in QUESTIONS},
            card=card.card if card else {},
            household=tuple(_patient(row) for row in others),
        )


def search(
    engine: Engine, words: str, clinics: frozenset[str] | None, *, by_name: bool, limit: int = MOST_FOUND
) -> list[Patient]:
    """Find patients by the beginning of their number, or by part of their name.

    Parameters
    ----------
    engine : Engine
        Of the application database.
    words : str
        What was typed.
    clinics : frozenset of str or None
        Whose patients may be found; None is all. Patients without a clinic belong to everybody's.
    by_name : bool
        Whether names may be searched.
    limit : int
        How many at most.
    """
    wanted = folded(words)
    if not wanted:
        return []
    escaped = wanted.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    matches = [func.lower(PatientRow.patient_id).like(f"{escaped}%", escape="\\")]
    if by_name:
        matches.append(PatientRow.search_name.like(f"%{escaped}%", escape="\\"))
    query = _of_clinics(select(PatientRow).where(or_(*matches)), clinics)
    with reading(engine) as session:
        rows = session.scalars(query.order_by(PatientRow.search_name, PatientRow.patient_id).limit(limit)).all()
        return [_patient(row) for row in rows]


def list_patients(engine: Engine, clinics: frozenset[str] | None, limit: int, after: str | None) -> list[Standing]:
    """Read a page of patients by their number, from behind `after`."""
    query = _of_clinics(select(PatientRow.patient_id), clinics).order_by(PatientRow.patient_id).limit(limit)
    with reading(engine) as session:
        ids = session.scalars(query if after is None else query.where(PatientRow.patient_id > after)).all()
        found = standings(session, ids)
        return [found[key] for key in ids]


def folded(text: str) -> str:
    """A name as it is searched for: small letters, single spaces."""
    return " ".join(text.replace("\x00", " ").split()).casefold()


def _of_clinics(query: Select[Any], clinics: frozenset[str] | None) -> Select[Any]:
    if clinics is None:
        return query
    return query.where(or_(PatientRow.clinic_id.in_(sorted(clinics)), PatientRow.clinic_id.is_(None)))


def _patient_values(patient: Patient) -> dict[str, Any]:
    values = asdict(patient) | {"refused_channels": list(patient.refused_channels)}
    return values | {"search_name": folded(patient.patient_name or "")}


def _score_values(score: PatientScore) -> dict[str, Any]:
    return asdict(score) | {"week": week_of(score.as_of), "reasons": [asdict(reason) for reason in score.reasons]}


def _patient(row: PatientRow) -> Patient:
    values = {field.name: getattr(row, field.name) for field in fields(Patient)}
    return Patient(**values | {"refused_channels": tuple(row.refused_channels or ())})


def _score(row: PatientScoreRow) -> PatientScore:
    values = {field.name: getattr(row, field.name) for field in fields(PatientScore)}
    return PatientScore(**values | {"reasons": tuple(Reason(**reason) for reason in row.reasons)})


def _batches(things: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(things), AT_ONCE):
        yield things[start : start + AT_ONCE]
