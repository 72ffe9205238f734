"""The state of one practice's installation, in a few lines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from features.contracts import CONTRACTS
from features.duck import connect
from features.records.store import QUARANTINE, RecordStore
from features.records.tables import TABLES
from features.settings import Settings
from features.store import last_build
from serving import db
from serving.models import find_champion, newest_runs
from serving.nightly import FAILED, newest_run
from serving.schedule import read_publication


@dataclass(frozen=True)
class Line:
    """One line of the screen: step, thing, amount, moment, age."""

    step: str
    what: str
    how_much: str = ""
    when: str = ""
    age: str = ""


@dataclass(frozen=True)
class Status:
    """All lines, and what to do next."""

    lines: tuple[Line, ...]
    advice: tuple[str, ...]


def status(settings: Settings, now: datetime) -> Status:
    """Look at records, features, models and the publication.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    now : datetime
        Aware; ages are counted from it.

    Returns
    -------
    Status
    """
    nightly = _run_nightly(settings, now)
    parts: tuple[tuple[list[Line], list[str]], ...] = (
        _stored(settings, now),
        _built(settings, now),
        _trained(settings, now),
        _served(settings, now),
        (nightly[0], []),
    )
    return Status(
        lines=tuple(line for lines, _ in parts for line in lines),
        advice=tuple(advice for advices in (nightly[1], *(part[1] for part in parts)) for advice in advices)[:1],
    )


def _stored(settings: Settings, now: datetime) -> tuple[list[Line], list[str]]:
    store = RecordStore(settings.paths.records)
    versions = store.versions()
    if not versions:
        return [Line("stored", "nothing yet")], ["revisit import FILE --mapping MAPPING"]
    lines = []
    with connect() as con:
        store.attach(con, list(versions))
        for name in versions:
            if name == QUARANTINE:
                (count,) = con.execute("SELECT count(DISTINCT (source, row_number)) FROM quarantine").fetchall()[0]
                lines.append(Line("stored", "quarantine", f"{count:,} rows"))
                continue
            if name not in TABLES:
                continue
            count, newest = con.execute(
                f"SELECT count(DISTINCT {TABLES[name].key}), max(recorded_at) FROM {name}"
            ).fetchall()[0]
            lines.append(_line("stored", f"{name} (version {versions[name]})", f"{count:,}", newest, settings, now))
    return lines, []


def _built(settings: Settings, now: datetime) -> tuple[list[Line], list[str]]:
    build = last_build(settings)
    if build is None:
        return [Line("built", "no features yet")], ["revisit features build"]
    until = datetime.fromisoformat(build.until)
    advice = []
    if build.records != RecordStore(settings.paths.records).versions():
        advice.append("revisit features build (records have changed since)")
    return [_line("built", "schedule features", f"{build.rows:,} rows", until, settings, now)], advice


def _trained(settings: Settings, now: datetime) -> tuple[list[Line], list[str]]:
    lines, advice = [], []
    newest = newest_runs(settings, list(CONTRACTS.values()))
    for name, contract in CONTRACTS.items():
        version = find_champion(settings, contract)
        if version is None:
            tried = newest.get(name)
            what = f"{name}: version {tried.number} not promoted" if tried else f"{name}: not trained"
            lines.append(Line("trained", what))
            advice += [] if tried else ["revisit train"]
            continue
        what = f"{name} version {version.number} (champion)"
        if version.fingerprint != contract.fingerprint:
            what += ", of an older contract"
            advice.append("revisit train (the contract has changed since)")
        how_much = f"AUC {version.metrics.get('auc', float('nan')):.3f}"
        lines.append(_line("trained", what, how_much, version.created_at, settings, now))
    return lines, advice


def _served(settings: Settings, now: datetime) -> tuple[list[Line], list[str]]:
    engine = _application(settings)
    publication = read_publication(engine) if engine else None
    if publication is None:
        return [Line("served", "nothing published yet")], ["revisit score"]
    models = ", ".join(f"{name}/{version}" for name, version in publication.model_versions.items()) or "no model"
    line = _line(
        "served", f"schedule by {models}", f"{publication.booking_count:,} bookings", publication.as_of, settings, now
    )
    old = now - publication.as_of > timedelta(days=1)
    return [line], ["revisit features build && revisit score (scores are older than a day)"] if old else [
        "revisit serve"
    ]


def _run_nightly(settings: Settings, now: datetime) -> tuple[list[Line], list[str]]:
    engine = _application(settings)
    run = newest_run(engine) if engine else None
    if run is None:
        return [], []
    lines = [
        _line("nightly", f"{step.name}: {step.state}", "", step.finished_at or step.started_at, settings, now)
        for step in run.steps
    ]
    failed = [step for step in run.steps if step.state == FAILED]
    if failed:
        return lines, [f"revisit nightly (it goes on with {failed[0].name}: {failed[0].note})"]
    return lines, [] if run.finished_at else ["revisit nightly (the last run broke off; it goes on from there)"]


def _application(settings: Settings) -> Engine | None:
    """The application database, if there is one; looking makes none."""
    if not settings.database_url and not (settings.paths.data / "revisit.db").exists():
        return None
    engine = db.engine(settings.application_database)
    db.upgrade(engine)
    return engine


def _line(step: str, what: str, how_much: str, moment: datetime | None, settings: Settings, now: datetime) -> Line:
    if moment is None:
        return Line(step, what, how_much)
    moment = moment.astimezone(UTC)
    return Line(step, what, how_much, f"{moment.astimezone(settings.zone):%Y-%m-%d %H:%M}", age(now - moment))


def age(span: timedelta) -> str:
    """Say how long ago, in the largest fitting unit.

    Examples
    --------
    >>> age(timedelta(hours=50))
    '2 days'
    >>> age(timedelta(seconds=20))
    'just now'
    """
    seconds = span.total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "just now"
