"""The night's run: import, features, scores, and what else is due, one step after another.

What has been done is written down in the application database after each
step, so that a run that broke off goes on where it ended. Every step can be
done twice without harm: a crash may fall between its end and the note of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from features.errors import RevisitError, SettingsError, StoreError
from features.settings import Settings
from serving import db
from serving.db import NightlyRunRow, NightlyStepRow, reading, writing

RESUMED_WITHIN = timedelta(hours=20)  # an older run that broke off is last night's: begin anew
RUNNING, DONE, FAILED, SKIPPED = "running", "done", "failed", "skipped"


@dataclass(frozen=True)
class Step:
    """One step of the night.

    Attributes
    ----------
    name : str
        At most 32 characters; the key under which it is noted.
    run : callable
        Does it, given the settings and this moment, and says in one line what came of it, without personal data.
    is_due : callable
        Whether it is due, given this moment and the moment it was last done (None: never).
    """

    name: str
    run: Callable[[Settings, datetime], str]
    is_due: Callable[[datetime, datetime | None], bool] = lambda _now, _last: True


def import_sources(settings: Settings, now: datetime) -> str:
    """Import what ``[nightly] sources`` names."""
    from features.records.landing import import_files
    from features.records.mapping import load_mapping
    from features.records.sources import as_source
    from features.records.store import RecordStore

    store, said = RecordStore(settings.paths.records), []
    for source in settings.nightly.sources:
        mapping = load_mapping(Path(source.mapping), settings.practice.time_zone)
        report = import_files(store, as_source(_expanded(source.path)), mapping, now)
        changes = sum(table.stored + table.changed for table in report.tables)
        said.append(f"{mapping.name}: {report.rows:,} rows, {changes:,} new, {report.quarantined_rows:,} set aside")
    return "; ".join(said) or "no source is configured"


def build_features(settings: Settings, now: datetime) -> str:
    """Build the features and register them."""
    from features.store import build, build_patients, register

    snapshots = build_patients(settings, now)
    made = build(settings, now)
    register(settings)
    return f"{made.rows:,} rows of bookings, {snapshots.computed:,} snapshots of patients"


def score_bookings(settings: Settings, now: datetime) -> str:
    """Score every booking ahead and publish the schedule."""
    from serving.scoring import score

    report = score(settings, now)
    kept = f"; {len(report.problems)} new champions of no use" if report.problems else ""
    return f"{report.bookings:,} bookings, {sum(report.scored.values()):,} scored{kept}"


def score_everybody(settings: Settings, now: datetime) -> str:
    """Store every patient with flags and scores."""
    from serving.patient_scoring import score_patients

    report = score_patients(settings, now)
    said = [f"{count:,} by {report.kinds[name]} for {name}" for name, count in report.scored.items()]
    return f"{report.patients:,} patients; scored: {', '.join(said)}"


def prepare_recall(settings: Settings, now: datetime) -> str:
    """Bring draws and outcomes back into the records, then prepare a recall list unless one is being worked on."""
    from serving.recall_build import is_list_due, prepare
    from serving.recall_returns import bring_back

    engine = db.engine(settings.application_database)
    try:
        draws, outcomes = bring_back(settings, engine, now)
        brought = f"{draws:,} draws and {outcomes:,} outcomes brought back"
        if not is_list_due(engine, now):
            return f"{brought}; this week's list is being worked on"
    finally:
        engine.dispose()
    made = prepare(settings, now)
    return f"{brought}; {made.contact:,} to contact, {made.hold_out:,} held out, {made.waiting:,} wait"


def forecast_step(settings: Settings, forecast: Callable[[Settings, datetime], str]) -> Step:
    """The step that forecasts when another month is over; handed in, because serving does not import training."""

    def is_due(now: datetime, last: datetime | None) -> bool:
        months = [(at.year, at.month) for at in (now, last) if at for at in [at.astimezone(settings.zone)]]
        return len(months) == 1 or months[0] != months[1]

    return Step("forecast", forecast, is_due)


STEPS = (
    Step("import", import_sources),
    Step("features", build_features),
    Step("patients", score_everybody),
    Step("scores", score_bookings),
    Step("recall", prepare_recall),
)


@dataclass(frozen=True)
class StepState:
    """What became of a step; `state` is running, done, failed or skipped."""

    name: str
    state: str
    attempts: int
    started_at: datetime
    finished_at: datetime | None
    note: str


@dataclass(frozen=True)
class Run:
    """The newest night's run, and its steps in order."""

    run_id: int
    started_at: datetime
    finished_at: datetime | None
    steps: tuple[StepState, ...]


def run_nightly(
    settings: Settings,
    clock: Callable[[], datetime],
    steps: Sequence[Step] = STEPS,
    *,
    is_again: bool = False,
    say: Callable[[str], None] = print,
) -> bool:
    """Do all steps, or those that a run which broke off has left.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    clock : callable
        Says what time it is.
    steps : sequence of Step
        In order.
    is_again : bool
        Begin anew, even if the last run broke off halfway.
    say : callable
        Told of each step as it begins and ends.

    Returns
    -------
    bool
        Whether all steps came to their end.

    Raises
    ------
    StoreError
        If another run is going on.
    """
    settings.paths.data.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.paths.data / "nightly.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError("another nightly run is going on; wait until it has finished (revisit status).") from None
    engine = db.engine(settings.application_database)
    try:
        db.upgrade(engine)
        run_id, done = _begin(engine, clock(), is_again=is_again)
        for number, step in enumerate(steps, start=1):
            title = f"[{number}/{len(steps)}] {step.name}"
            if step.name in done:
                say(f"{title}: done before")
            elif not _do(engine, run_id, step, settings, clock, partial(_say, say, title)):
                return False
        _finish(engine, run_id, clock())
        return True
    finally:
        engine.dispose()
        lock.release()


def newest_run(engine: Engine) -> Run | None:
    """Read the newest run; None before the first."""
    with reading(engine) as session:
        row = session.scalar(select(NightlyRunRow).order_by(NightlyRunRow.run_id.desc()).limit(1))
        if row is None:
            return None
        found = session.scalars(
            select(NightlyStepRow)
            .where(NightlyStepRow.run_id == row.run_id)
            .order_by(NightlyStepRow.started_at, NightlyStepRow.name)
        )
        steps = tuple(
            StepState(**{name: getattr(step, name) for name in StepState.__dataclass_fields__}) for step in found
        )
        return Run(row.run_id, row.started_at, row.finished_at, steps)


def _begin(engine: Engine, at: datetime, *, is_again: bool) -> tuple[int, set[str]]:
    """Return the run to go on with and what it has done, or a new run."""
    last = newest_run(engine)
    if last and not last.finished_at and at - last.started_at < RESUMED_WITHIN and not is_again:
        return last.run_id, {step.name for step in last.steps if step.state in (DONE, SKIPPED)}
    with writing(engine) as session:
        row = NightlyRunRow(started_at=at, finished_at=None)
        session.add(row)
        session.flush()
        return row.run_id, set()


def _do(
    engine: Engine,
    run_id: int,
    step: Step,
    settings: Settings,
    clock: Callable[[], datetime],
    say: Callable[[str], None],
) -> bool:
    at = clock()
    if not step.is_due(at, _last_done(engine, step.name)):
        _note(engine, run_id, step.name, SKIPPED, at, at, "not due")
        say("not due")
        return True
    _note(engine, run_id, step.name, RUNNING, at, None, "")
    say("...")
    try:
        what = step.run(settings, at)
    except RevisitError as error:
        _note(engine, run_id, step.name, FAILED, at, clock(), str(error))
        say(f"failed: {error}")
        return False
    except Exception as error:  # its text may quote a value
        _note(engine, run_id, step.name, FAILED, at, clock(), type(error).__name__)
        raise
    _note(engine, run_id, step.name, DONE, at, clock(), what)
    say(what)
    return True


def _say(say: Callable[[str], None], title: str, text: str) -> None:
    say(f"{title}: {text}")


def _note(
    engine: Engine, run_id: int, name: str, state: str, started_at: datetime, finished_at: datetime | None, note: str
) -> None:
    with writing(engine) as session:
        row = session.get(NightlyStepRow, (run_id, name))
        if row is None:
            row = NightlyStepRow(run_id=run_id, name=name, attempts=0)
            session.add(row)
        row.attempts += state in (RUNNING, SKIPPED)
        row.state, row.started_at, row.finished_at, row.note = state, started_at, finished_at, note


def _last_done(engine: Engine, name: str) -> datetime | None:
    query = (
        select(NightlyStepRow.finished_at)
        .where(NightlyStepRow.name == name, NightlyStepRow.state == DONE)
        .order_by(NightlyStepRow.run_id.desc())
        .limit(1)
    )
    with reading(engine) as session:
        found: datetime | None = session.scalar(query)
        return found


def _finish(engine: Engine, run_id: int, at: datetime) -> None:
    with writing(engine) as session:
        _of(session, run_id).finished_at = at


def _of(session: Session, run_id: int) -> NightlyRunRow:
    row = session.get(NightlyRunRow, run_id)
    if row is None:
        raise StoreError(f"nightly run {run_id} is not in the application database any more; run it again.")
    return row


def _expanded(path: str) -> str:
    full = os.path.expandvars(path)
    if full.startswith("$"):
        raise SettingsError(f"[nightly] sources: the environment has no {path}; set it, or write the path itself.")
    return full
