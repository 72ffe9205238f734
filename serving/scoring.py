"""The scorer: features online, champions, reasons, and one publication for the pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from filelock import FileLock
from sqlalchemy import Engine

from features.as_of import attach_states, known
from features.contracts import CONTRACTS, ModelContract
from features.duck import connect
from features.errors import ModelError, NotBuiltError
from features.labels import attach_no_show
from features.level import level_shift
from features.records.store import RecordStore
from features.settings import Settings
from features.store import last_build, read_online, register, training_set, write_online
from serving import db
from serving.decisions import is_open
from serving.desk_records import bookings as read_bookings
from serving.desk_records import clinic_names, desk_records
from serving.explaining import reasons
from serving.models import Champion, Champions
from serving.schedule import Booking, Score, publish_schedule, read_publication, read_scores

if TYPE_CHECKING:
    from feast import FeatureStore

DAYS_OF_CLINIC_SHARE = 90  # as the feature of the clinic's level counts


@dataclass(frozen=True)
class ScoringReport:
    """What a scoring run published.

    Attributes
    ----------
    bookings : int
        Bookings shown, the last days' included.
    scored : dict of str to int
        Bookings scored, by contract.
    without_model : tuple of str
        Contracts that have no champion; their bookings are shown unscored.
    problems : tuple of str
        Why a newest champion was not used, and the one before it was.
    """

    bookings: int
    scored: dict[str, int]
    without_model: tuple[str, ...]
    problems: tuple[str, ...] = ()


def score(settings: Settings, now: datetime, champions: Champions | None = None) -> ScoringReport:
    """Score every booking ahead and publish the schedule.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    now : datetime
        Aware; nothing recorded at or after it is used.
    champions : Champions, optional
        Those to score with; by default the registry's, or where one of them is
        of no use the one behind the newest publication.

    Returns
    -------
    ScoringReport

    Raises
    ------
    NotBuiltError
        If features have not been built.
    ModelError
        If a champion is of no use and there is none before it.
    """
    if last_build(settings) is None:
        raise NotBuiltError("there are no features yet; run `revisit features build` first.")
    engine = db.engine(settings.application_database)
    db.upgrade(engine)
    champions = champions or Champions(settings, last_used(engine))
    for name, problem in champions.problems.items():
        if champions.get(name) is None:
            raise ModelError(problem)
    with _one_at_a_time(settings):
        return _publish(settings, engine, champions, now)


def last_used(engine: Engine) -> Mapping[str, str]:
    """Return the model version behind the newest publication, by contract."""
    publication = read_publication(engine)
    return publication.model_versions if publication else {}


def _one_at_a_time(settings: Settings) -> FileLock:
    # The night's run and a new champion may both want to write; the later one waits.
    settings.paths.data.mkdir(parents=True, exist_ok=True)
    return FileLock(settings.paths.data / "scoring.lock")


def _publish(settings: Settings, engine: Engine, champions: Champions, now: datetime) -> ScoringReport:
    store = register(settings)
    ahead = write_online(settings, store, now)
    with desk_records(settings) as con:
        bookings, names = read_bookings(con, now), clinic_names(con, now)
    by_id = {booking.appointment_id: booking for booking in bookings}
    shares = _clinic_shares(settings, now)
    scores: list[Score] = []
    levels: dict[str, float] = {}
    for name, contract in CONTRACTS.items():
        due = ahead[(ahead["moment"] == contract.moment) & ahead["appointment_id"].isin(set(by_id))]
        champion = champions.get(name)
        if champion is not None and len(due):
            features = read_online(store, contract, due["appointment_id"].tolist())
            shift = levels[name] = _level(settings, store, champion, now)
            moments = zip(due["appointment_id"], due["as_of"], strict=True)
            as_of = {str(key): moment.to_pydatetime() for key, moment in moments}
            scores += scores_of(champion, features, shift, as_of, by_id, shares, now)
    # Made at the desk since features were built: scored then, and to be looked at again by night.
    newer = {b.appointment_id for b in bookings if is_open(b)} - set(ahead["appointment_id"])
    scores += [score for score in read_scores(engine, sorted(newer)) if champions.get(score.contract) is not None]
    clinics = {booking.clinic_id: names.get(booking.clinic_id, booking.clinic_id) for booking in bookings}
    context = {"levels": levels, "clinic_shares": shares}
    publish_schedule(engine, bookings, scores, clinics, as_of=now, published_at=now, context=context)
    return ScoringReport(
        bookings=len(bookings),
        scored={name: sum(score.contract == name for score in scores) for name in CONTRACTS},
        without_model=tuple(name for name in CONTRACTS if champions.get(name) is None),
        problems=tuple(champions.problems.values()),
    )


def _level(settings: Settings, store: FeatureStore, champion: Champion, now: datetime) -> float:
    """How far outcomes have run from the champion's predictions since it was trained."""
    build = last_build(settings)  # newer records have no features yet
    examples = training_set(settings, store, champion.contract, now, build.records if build else {})
    since = examples[examples["label_known_at"] >= pd.Timestamp(champion.version.trained_until)]
    if since.empty:
        return 0.0
    shift = level_shift(
        since["label"].to_numpy(float),
        champion.score(since)["probability"].to_numpy(float),
        since["label_known_at"].to_numpy("datetime64[us]"),
        np.array([pd.Timestamp(now).tz_convert(None)], dtype="datetime64[us]"),
    )
    return float(shift[0])


def scores_of(
    champion: Champion,
    features: pd.DataFrame,
    shift: float,
    as_of: Mapping[str, datetime],
    bookings: Mapping[str, Booking],
    clinic_shares: Mapping[str, float],
    now: datetime,
) -> Iterator[Score]:
    """Score bookings and say why.

    Parameters
    ----------
    champion : Champion
        Of a contract about bookings.
    features : pandas.DataFrame
        One row per booking, by its number.
    shift : float
        The level, on the logit.
    as_of : mapping of str to datetime
        Decision moment by booking.
    bookings : mapping of str to Booking
        By number.
    clinic_shares : mapping of str to float
        Share of each clinic's recent visits that were missed.
    now : datetime
        This moment.
    """
    contract: ModelContract = champion.contract
    answers = champion.score(features, shift)
    for key in features.index:
        part, row, booking = answers.loc[key], features.loc[key], bookings[key]
        share = clinic_shares.get(booking.clinic_id)
        yield Score(
            appointment_id=key,
            contract=contract.name,
            probability=float(part["probability"]),
            model_name=contract.name,
            model_version=champion.version.number,
            as_of=as_of[key],
            scored_at=now,
            reasons=reasons(contract, row.to_dict(), part.to_dict(), booking.service_line, share),
        )


def _clinic_shares(settings: Settings, now: datetime) -> dict[str, float]:
    """Share of each clinic's visits that were missed, of those whose outcome became known lately."""
    with connect() as con:
        RecordStore(settings.paths.records).attach(con, ["appointments"])
        attach_states(con, "appointments")
        attach_no_show(con, now)
        found = con.execute(
            f"""SELECT b.clinic_id, avg(l.label)
            FROM no_show_label l
            JOIN appointments_states b ON b.appointment_id = l.appointment_id AND {known("b", "$now")}
            WHERE l.label_known_at >= $since GROUP BY b.clinic_id""",
            {"now": now, "since": now - timedelta(days=DAYS_OF_CLINIC_SHARE)},
        )
        return dict(found.fetchall())
