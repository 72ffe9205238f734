"""The scorer: a process beside the web worker that scores while the service runs.

It holds the models, which the web worker does not, and does its jobs one after
another: it takes in what was told at the desk, follows the registry, and scores
anew when a champion changes.
Pages read what is published, so none of them fails or waits meanwhile.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from features.settings import Settings, load_settings
from features.store import open_feast
from serving import db
from serving.clock import now
from serving.desk_events import patients_since, waiting
from serving.models import Champions
from serving.patient_scoring import Answerers, last_used_of_patients, score_patients
from serving.patients import has_patients
from serving.quiet import quiet
from serving.recall_build import answer_requests
from serving.recall_returns import bring_back
from serving.schedule import publish_again, read_publication
from serving.scoring import last_used, score
from serving.taking_in import show_again, take_in

if TYPE_CHECKING:
    from feast import FeatureStore

logger = logging.getLogger("revisit.scorer")
TICK_SECONDS = 0.1
OVERLAP = timedelta(minutes=1)  # an event that is being taken in when a publication is begun


class Scorer:
    """What the jobs share.

    Parameters
    ----------
    settings : Settings
        Of the practice.

    Attributes
    ----------
    engine : Engine
        Of the application database.
    champions : Champions
        Loaded; a job that scores one booking takes them from here.
    answerers : Answerers
        The same of the questions about patients.
    said : dict of str to str
        Problems of champions that were logged already.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine: Engine = db.engine(settings.application_database)
        db.upgrade(self.engine)
        self.champions = Champions(settings, last_used(self.engine))
        self.answerers = Answerers(settings, last_used_of_patients(self.engine))
        self.said: dict[str, str] = {}
        self.caught_up_with: datetime | None = None  # publications made up to then
        self._store: FeatureStore | None = None

    @property
    def store(self) -> FeatureStore:
        """Feast, opened once: that takes longer than an event."""
        if self._store is None:
            self._store = open_feast(self.settings)
        return self._store

    def is_published_by_others(self) -> bool:
        """Whether the newest publication was scored by models other than those in use now."""
        used = last_used(self.engine)
        held = {name: champion.version.number for name in used if (champion := self.champions.get(name))}
        return any(number != used[name] for name, number in held.items())


def follow_champions(scorer: Scorer, at: datetime) -> None:
    """Publish anew if a champion has changed; before the first publication there is nothing to do."""
    changed = scorer.champions.refresh()
    if scorer.said != scorer.champions.problems:
        scorer.said = dict(scorer.champions.problems)
        for problem in scorer.said.values():
            logger.warning("not in use: %s", problem)
    if read_publication(scorer.engine) and (changed or scorer.is_published_by_others()):
        score(scorer.settings, at, scorer.champions)


def follow_patients(scorer: Scorer, at: datetime) -> None:
    """Score patients anew if what answers a question about them has changed; before the first night there are none."""
    if scorer.answerers.refresh() and has_patients(scorer.engine):
        score_patients(scorer.settings, at, scorer.answerers)
        publish_again(scorer.engine, at)


def take_in_events(scorer: Scorer, at: datetime) -> None:
    """Take in what was told; and after the night's publication, what it had not known of yet."""
    if waiting(scorer.engine, 1):
        take_in(scorer.settings, scorer.engine, scorer.store, scorer.champions, scorer.answerers, at)
    publication = read_publication(scorer.engine)
    if publication and publication.as_of != scorer.caught_up_with:
        for patient in patients_since(scorer.engine, publication.as_of - OVERLAP):
            show_again(scorer.settings, scorer.engine, scorer.store, scorer.champions, scorer.answerers, patient, at)
        scorer.caught_up_with = publication.as_of


@dataclass(frozen=True)
class Job:
    """Something the scorer does again and again, `every` so many seconds."""

    name: str
    every: float
    run: Callable[[Scorer, datetime], None]


def prepare_recall(scorer: Scorer, at: datetime) -> None:
    """Prepare the recall list that somebody asked for."""
    answer_requests(scorer.settings, scorer.engine, at)


def bring_back_recall(scorer: Scorer, at: datetime) -> None:
    """Write draws and outcomes of recall lists into the records."""
    bring_back(scorer.settings, scorer.engine, at)


JOBS = (
    Job("take in events", TICK_SECONDS, take_in_events),
    Job("follow champions", 5.0, follow_champions),
    Job("follow patients' champions", 5.0, follow_patients),
    Job("prepare recall lists", 1.0, prepare_recall),
    Job("bring back recall outcomes", 60.0, bring_back_recall),
)


def work(scorer: Scorer, jobs: Sequence[Job], is_over: Callable[[], bool]) -> None:
    """Do the jobs until it is over; one that fails is logged and tried again at its next turn."""
    due = dict.fromkeys((job.name for job in jobs), 0.0)
    while not is_over():
        for job in jobs:
            if time.monotonic() < due[job.name]:
                continue
            try:
                job.run(scorer, now())
            except Exception as error:  # its text may quote a value
                logger.error("%s failed: %s", job.name, type(error).__name__)
            due[job.name] = time.monotonic() + job.every
        time.sleep(TICK_SECONDS)


def main() -> None:
    """Work until the process that started this one ends."""
    quiet()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal interrupts all; whoever started us ends us
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    parent = os.getppid()
    work(Scorer(load_settings()), JOBS, lambda: os.getppid() != parent)


if __name__ == "__main__":
    main()
