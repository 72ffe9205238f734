"""What the scorer does with an event: into the records, online, scored anew, shown.

Two seconds at most from telling it to the flag that changes; so one booking
and one household are scored, with the level and the clinic's share that the
newest publication was made with.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Engine, delete, insert, select

from features.contracts import CONTRACTS
from features.errors import RevisitError, StoreError
from features.online_events import record_event
from features.records.tables import TABLES
from features.schedule import SECONDS_AFTER_BOOKING
from features.settings import Settings
from features.store import read_online
from serving import desk_records
from serving.db import BookingRow, ClinicRow, ScoreRow, reading, writing
from serving.decisions import is_open
from serving.desk_events import PATIENTS, Event, finish, waiting
from serving.desk_tables import PatientRow
from serving.models import Champions
from serving.patient_scoring import Answerers, score_again
from serving.schedule import (
    BOOKING_CONTRACT,
    Booking,
    Publication,
    Score,
    add_publication,
    read_publication,
    read_scores,
)
from serving.scoring import scores_of

if TYPE_CHECKING:
    from feast import FeatureStore

logger = logging.getLogger("revisit.scorer")
PATIENCE = timedelta(minutes=30)  # for an import; a large one takes minutes
WAIT_FOR_FEATURES = timedelta(seconds=SECONDS_AFTER_BOOKING)


def take_in(
    settings: Settings, engine: Engine, store: FeatureStore, champions: Champions, answerers: Answerers, now: datetime
) -> int:
    """Take in what waits; return how many events were looked at.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    engine : Engine
        Of the application database.
    store : feast.FeatureStore
        Kept open; opening it takes longer than an event.
    champions : Champions
        Of the questions about bookings.
    answerers : Answerers
        Of those about patients.
    now : datetime
        Aware.
    """
    found = waiting(engine)
    for event in found:
        problem = None
        try:
            _take_in(settings, engine, store, champions, answerers, event, now)
        except StoreError as error:  # an import keeps the records; the event keeps its place
            if now - event.told_at < PATIENCE:
                break
            problem = str(error)
        except RevisitError as error:  # its text names columns and rules, never a value
            problem = str(error)
        except Exception as error:
            problem = "The event could not be taken in; whoever runs Revisit finds the reason in the log."
            logger.error("event %d of %s failed: %s", event.event_id, event.record_table, type(error).__name__)
        finish(engine, event.event_id, now, problem)
    return len(found)


def _take_in(
    settings: Settings,
    engine: Engine,
    store: FeatureStore,
    champions: Champions,
    answerers: Answerers,
    event: Event,
    now: datetime,
) -> None:
    if event.record_table != PATIENTS:  # of whom there is nothing to record, but who is looked at again
        names = TABLES[event.record_table].column_names
        columns = {name: value for name, value in event.record.items() if name in names}
        record_event(settings, event.record_table, columns, now)
    show_again(settings, engine, store, champions, answerers, event.patient_id, now)


def show_again(
    settings: Settings,
    engine: Engine,
    store: FeatureStore,
    champions: Champions,
    answerers: Answerers,
    patient_id: str,
    now: datetime,
) -> None:
    """Score a patient and the household anew, and publish their bookings as they are known now."""
    household = _household(engine, patient_id)
    seen_at = now + timedelta(microseconds=1)  # what is known since now is seen from the next moment on
    with desk_records.desk_records(settings, household) as con:
        people = desk_records.people(con, seen_at)
        cards = desk_records.cards(con, people, seen_at)
        bookings = desk_records.bookings(con, seen_at)
    score_again(settings, engine, store, people, cards, answerers, seen_at)
    _publish(engine, store, champions, bookings, household, now)


def _household(engine: Engine, patient_id: str) -> set[str]:
    with reading(engine) as session:
        home = select(PatientRow.household_id).where(PatientRow.patient_id == patient_id).scalar_subquery()
        found = session.scalars(select(PatientRow.patient_id).where(PatientRow.household_id == home)).all()
    return {patient_id, *found}


def _publish(
    engine: Engine,
    store: FeatureStore,
    champions: Champions,
    bookings: Iterable[Booking],
    patients: Collection[str],
    now: datetime,
) -> None:
    """Replace the bookings of `patients` in what is published; keep scores that were made, score what is new."""
    publication = read_publication(engine)
    if publication is None:  # nothing is shown yet; the night's run will
        return
    fresh = list(bookings)
    ids = [booking.appointment_id for booking in fresh]
    kept = read_scores(engine, ids)
    known = {score.appointment_id for score in kept}
    unscored = {b.appointment_id: b for b in fresh if b.appointment_id not in known and is_open(b)}
    with writing(engine) as session:
        scores = [*kept, *_scores(store, champions, publication, unscored, now)]
        session.execute(delete(BookingRow).where(BookingRow.patient_id.in_(sorted(patients))))
        session.execute(delete(BookingRow).where(BookingRow.appointment_id.in_(ids)))
        clinics = set(session.scalars(select(ClinicRow.clinic_id)))
        for clinic in {booking.clinic_id for booking in fresh} - clinics:
            session.add(ClinicRow(clinic_id=clinic, name=clinic))
        session.flush()
        if fresh:
            session.execute(insert(BookingRow), [asdict(booking) | {"published_at": now} for booking in fresh])
        if scores:
            session.execute(insert(ScoreRow), [asdict(score) for score in scores])
        add_publication(session, now)


def _scores(
    store: FeatureStore,
    champions: Champions,
    publication: Publication,
    unscored: dict[str, Booking],
    now: datetime,
) -> list[Score]:
    """Score bookings that were just made; without features online they stay unscored until the night."""
    champion = champions.get(BOOKING_CONTRACT)
    if champion is None or not unscored:
        return []
    features = read_online(store, CONTRACTS[BOOKING_CONTRACT], list(unscored)).dropna(how="all")
    as_of = {key: unscored[key].booked_at + WAIT_FOR_FEATURES for key in features.index}
    shift = publication.context.get("levels", {}).get(BOOKING_CONTRACT, 0.0)
    shares = publication.context.get("clinic_shares", {})
    return list(scores_of(champion, features, shift, as_of, unscored, shares, now)) if len(features) else []
