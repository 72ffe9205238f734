"""The recall list prepared from the records: by the night's run, and by the scorer when somebody asks."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from filelock import FileLock
from sqlalchemy import Engine, delete, select

from features.as_of import attach_states, known
from features.duck import connect
from features.errors import RevisitError
from features.recall_due import due_patients
from features.recall_labels import RECALL_DAYS
from features.records.store import RecordStore
from features.settings import Settings
from serving import consents, db
from serving.db import reading, writing
from serving.recall_choice import EXCLUSIONS, Choice, Due, Limits, Place, choose, nearness, value_bands
from serving.recall_reasons import reasons
from serving.recall_tables import RecallItemRow, RecallListRow, RecallRequestRow
from serving.response_scores import Responses, response_scores

LEDGER_CHANNELS = ("phone", "wechat", "sms", "email")
LIST_LASTS = timedelta(days=7)  # a started list is worked on for a week before the night prepares another


@dataclass(frozen=True)
class Prepared:
    """A list that was prepared: how many are to be contacted, held out, waiting, excluded."""

    list_id: int
    contact: int
    hold_out: int
    waiting: int
    excluded: int


def prepare(settings: Settings, now: datetime, calls: int | None = None) -> Prepared:
    """Prepare a list; it takes the place of one that nobody has started.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    now : datetime
        Aware; nothing recorded at or after it is seen.
    calls : int, optional
        Patients to be contacted; by default those of the list whose place it
        takes, else the practice's own number.

    Returns
    -------
    Prepared

    Raises
    ------
    NotBuiltError
        If nothing has been imported.
    """
    settings.paths.data.mkdir(parents=True, exist_ok=True)
    engine = db.engine(settings.application_database)
    try:
        with FileLock(settings.paths.data / "recall.lock"):  # the night's run and the scorer may both want one
            db.upgrade(engine)
            before = _unstarted(engine)
            seed = before.seed if before else secrets.token_hex(8)
            wanted = calls or (before.calls if before else settings.recall.calls_per_week)
            frame, answers = due_patients(settings, now), response_scores(engine)
            patients = _with_own(engine, _patients(frame, answers), now)
            limits = _limits(settings, wanted)
            choice = choose(patients, limits, now, seed)
            return _store(engine, settings, choice, limits, frame, answers, seed, now)
    finally:
        engine.dispose()


def is_list_due(engine: Engine, now: datetime) -> bool:
    """Whether the night should prepare a list: none is being worked on this week."""
    with reading(engine) as session:
        row = session.scalar(select(RecallListRow).order_by(RecallListRow.list_id.desc()).limit(1))
        return row is None or row.started_at is None or now - row.started_at >= LIST_LASTS


def answer_requests(settings: Settings, engine: Engine, now: datetime) -> None:
    """Prepare the list that somebody asked for on the page, if any."""
    query = select(RecallRequestRow).where(RecallRequestRow.finished_at.is_(None))
    with reading(engine) as session:
        asked = session.scalar(query.order_by(RecallRequestRow.request_id.desc()).limit(1))
    if asked is None:
        return
    problem = None
    try:
        prepare(settings, now, asked.calls)
    except RevisitError as error:
        problem = str(error)[:400]
    except Exception as error:  # its text may quote a value
        problem = type(error).__name__
    with writing(engine) as session:
        row = session.get(RecallRequestRow, asked.request_id)
        if row is not None and row.finished_at is None:
            row.finished_at, row.problem = now, problem


def _unstarted(engine: Engine) -> RecallListRow | None:
    with reading(engine) as session:
        row = session.scalar(select(RecallListRow).order_by(RecallListRow.list_id.desc()).limit(1))
        return row if row is not None and row.started_at is None else None


def _limits(settings: Settings, calls: int) -> Limits:
    rules = settings.recall
    return Limits(
        calls=calls,
        hold_out_share=rules.hold_out_share,
        long_overdue_share=rules.long_overdue_share,
        contact_gap_days=rules.contact_gap_days,
        contacts_per_year=rules.contacts_per_year,
        channels=rules.channels,
        measured_days=RECALL_DAYS,
    )


def _patients(frame: pd.DataFrame, answers: Responses) -> list[Due]:
    typical = frame["paid_mean_cents"].median()
    visit = frame["paid_mean_cents"].fillna(typical if pd.notna(typical) else 0)
    # Whoever comes back pays one usual visit at least; last year's sum is nothing for those long gone.
    worth = frame["paid_365d_cents"].fillna(0).clip(lower=visit).clip(lower=0)
    rows = _plain(frame.assign(worth=worth))
    least = min(answers.chances.values(), default=None)  # of those whom the model does not look at any more
    return [_due(row, answers.chances.get(row["patient_id"]), least) for row in rows]


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with None where a value is missing."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _due(row: Mapping[str, Any], chance: float | None, least: float | None) -> Due:
    is_refused = row["is_profiling_allowed"] is False
    overdue, interval = int(row["days_since_due"]), max(int(row["recall_interval_days"] or 1), 1)
    known_chances = (chance, least, nearness(overdue, interval))
    return Due(
        patient_id=row["patient_id"],
        household_id=row["household_id"],
        clinic_id=row["clinic_id"] or "",
        overdue_days=overdue,
        interval_days=interval,
        value_cents=round(row["worth"] or 0),
        likelihood=next(one for one in known_chances if one is not None),
        response=None if is_refused else chance,
        allowed={channel: row[f"is_{channel}_allowed"] for channel in LEDGER_CHANNELS},
        is_departed=row["departure"] is not None,
        is_contact_refused=row["is_contact_allowed"] is False or row["opted_out_at"] is not None,
        is_recall_off=bool(row["has_disabled_recall"]),
        is_profiling_refused=is_refused,
        has_booking=bool(row["has_booking_ahead"]),
        last_contact_at=_moment(row["last_recall_at"]),
        contacts_365d=int(row["recalls_365d"] or 0),
        held_out_at=_moment(row["held_out_at"]),
    )


def _moment(value: Any) -> datetime | None:
    return None if value is None else pd.Timestamp(value).to_pydatetime()


def _with_own(engine: Engine, patients: Sequence[Due], now: datetime) -> list[Due]:
    """Add what Revisit itself knows and the records may not yet: statements of consent, lists under way."""
    said = consents.standing(engine, [due.patient_id for due in patients], now)
    drawn = _drawn_lately(engine, now)
    held_out = {row.household_id: at for row, at in drawn if row.arm == "hold_out"}
    contacted = {row.patient_id: at for row, at in drawn if row.arm == "contact"}
    by_household = {due.household_id: due.held_out_at for due in patients if due.held_out_at} | held_out
    found = []
    for due in patients:
        own = {
            channel: said[key].is_allowed for channel in LEDGER_CHANNELS if (key := (due.patient_id, channel)) in said
        }
        everything = said.get((due.patient_id, consents.ALL))
        contacts = [at for at in (due.last_contact_at, contacted.get(due.patient_id)) if at]
        found.append(
            replace(
                due,
                allowed={**due.allowed, **own},
                is_contact_refused=not everything.is_allowed if everything else due.is_contact_refused,
                last_contact_at=max(contacts, default=None),
                held_out_at=by_household.get(due.household_id),  # a household is drawn as one
            )
        )
    return found


def _drawn_lately(engine: Engine, now: datetime) -> list[tuple[RecallItemRow, datetime]]:
    query = (
        select(RecallItemRow, RecallListRow.started_at)
        .join(RecallListRow, RecallListRow.list_id == RecallItemRow.list_id)
        .where(RecallListRow.started_at > now - timedelta(days=RECALL_DAYS))
        .order_by(RecallListRow.started_at)
    )
    with reading(engine) as session:
        return [(item, at) for item, at in session.execute(query) if at is not None]


def _store(
    engine: Engine,
    settings: Settings,
    choice: Choice,
    limits: Limits,
    frame: pd.DataFrame,
    answers: Responses,
    seed: str,
    now: datetime,
) -> Prepared:
    people = _people(settings, [place.due.patient_id for place in choice.places], now)
    listed = {place.due.patient_id for place in choice.places}
    facts = {row["patient_id"]: row for row in _plain(frame[frame["patient_id"].isin(listed)])}
    bands = value_bands([place.due.value_cents for place in choice.places])
    with writing(engine) as session:
        session.execute(delete(RecallListRow).where(RecallListRow.started_at.is_(None)))
        row = RecallListRow(
            made_at=now,
            calls=limits.calls,
            hold_out_share=limits.hold_out_share,
            seed=seed,
            ranked_by=answers.question,
            model_version=answers.model_version,
            counts=_counts(choice),
        )
        session.add(row)
        session.flush()
        for place, band in zip(choice.places, bands, strict=True):
            number = place.due.patient_id
            session.add(_item(row.list_id, place, band, facts[number], people.get(number, (None, None))))
        list_id = row.list_id
    held_out = sum(place.arm == "hold_out" for place in choice.places)
    excluded = sum(map(len, choice.excluded.values()))
    return Prepared(list_id, len(choice.places) - held_out, held_out, len(choice.waiting), excluded)


def _item(
    list_id: int, place: Place, band: str, facts: Mapping[str, Any], person: tuple[str | None, str | None]
) -> RecallItemRow:
    due = place.due
    return RecallItemRow(
        list_id=list_id,
        patient_id=due.patient_id,
        place=place.place,
        arm=place.arm,
        propensity=place.propensity,
        clinic_id=due.clinic_id,
        household_id=due.household_id,
        patient_name=person[0],
        phone=person[1],
        channels=list(place.channels),
        overdue_days=due.overdue_days,
        is_long_overdue=due.is_long_overdue,
        value_cents=due.value_cents,
        value_band=band,
        response=due.response,
        last_contact_at=due.last_contact_at,
        reasons=[asdict(reason) for reason in reasons(facts, due.response, place.family_due)],
    )


def _counts(choice: Choice) -> list[dict[str, Any]]:
    arms = Counter((place.due.clinic_id, place.arm) for place in choice.places)
    waiting = Counter(due.clinic_id for due in choice.waiting)
    excluded = {reason: Counter(due.clinic_id for due in choice.excluded.get(reason, ())) for reason in EXCLUSIONS}
    clinics = {clinic for clinic, _ in arms} | set(waiting) | {c for count in excluded.values() for c in count}
    found = []
    for clinic in sorted(clinics):
        own = {reason: count[clinic] for reason, count in excluded.items() if count[clinic]}
        here = {"contact": arms[clinic, "contact"], "hold_out": arms[clinic, "hold_out"], "waiting": waiting[clinic]}
        found.append({"clinic_id": clinic, "due": sum(here.values()) + sum(own.values()), "excluded": own, **here})
    return found


def _people(settings: Settings, patient_ids: Iterable[str], now: datetime) -> dict[str, tuple[str | None, str | None]]:
    """Names and phones of those on the list, and of nobody else."""
    with connect() as con:
        RecordStore(settings.paths.records).attach(con, ["contact_details"])
        attach_states(con, "contact_details")
        found = con.execute(
            f"""SELECT patient_id, full_name, phone FROM contact_details_states c
            WHERE {known("c", "$now")} AND list_contains($ids, patient_id)""",
            {"now": now, "ids": list(patient_ids)},
        )
        return {patient_id: (name, phone) for patient_id, name, phone in found.fetchall()}
