"""Fresh at the desk: one event is recorded, and the features it changes go online at once.

The event is checked, unfolded and stored as a row of an import would be; what
it changes is computed by the statements of the snapshots, over the records of
those whom it concerns alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import duckdb

from features.duck import connect
from features.errors import EventError, NotBuiltError
from features.online_mirror import MIRRORED, Mirror
from features.online_refresh import refresh_online
from features.records import derived, staging
from features.records.landing import fresh_states
from features.records.mapping import ColumnSource, TableMapping
from features.records.mapping import Mapping as Reading
from features.records.schema import Table
from features.records.store import DERIVABLE, DERIVED, EVENT, Made, RecordStore
from features.records.tables import TABLES
from features.settings import Settings

PATIENCE_S = 20.0  # for an import that is running
SOURCE = "event"


@dataclass(frozen=True)
class Recorded:
    """What came of an event.

    Attributes
    ----------
    is_new : bool
        Whether the thing was not known before.
    is_change : bool
        False if the records said so already.
    patients, bookings : int
        How many had their features computed and put online.
    """

    is_new: bool
    is_change: bool
    patients: int = 0
    bookings: int = 0


def record_event(settings: Settings, table: str, row: Mapping[str, Any], now: datetime) -> Recorded:
    """Add or change one thing, and put online what that changes.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    table : str
        One of `MIRRORED`: tables about patients, without names and phones.
    row : mapping of str to value
        Columns of the contract, the key among them; of a thing that is known,
        those that changed are enough. Moments are aware datetimes, or ISO 8601
        text by the practice's clock. What carries no moment counts from `now`.
    now : datetime
        Aware.

    Returns
    -------
    Recorded

    Raises
    ------
    EventError
        If the row breaks the contract; nothing is stored then.
    StoreError
        If an import keeps the records for long.
    """
    if table not in MIRRORED:
        raise EventError(f"events of {table!r} cannot be recorded; there are {', '.join(MIRRORED)}.")
    store = RecordStore(settings.paths.records)
    if not store.versions():
        raise NotBuiltError("there are no records yet; run `revisit import FILE --mapping MAPPING` first.")
    key = _key(TABLES[table], row)
    with _desk() as con:
        with store.importing(PATIENCE_S):
            mirror = Mirror(con, settings)
            patients = mirror.owners(table, [key])
            mirror.load(table, patients)
            _stage(con, settings, TABLES[table], _completed(con, TABLES[table], key, row, now), now)
            store.attach(con, (*DERIVABLE, DERIVED), is_derived_shown=False)
            (report,), changes = fresh_states(con, _reading(settings, TABLES[table]), now)
            if not changes:
                return Recorded(is_new=False, is_change=False)
            first = f"SELECT min(known_at), list(DISTINCT patient_id) FROM fresh_{table}"
            since, also = con.execute(first).fetchall()[0]
            found = derived.derive(con, [TABLES[table]], None)
            changes |= {DERIVED: found} if found is not None else {}
            store.commit(changes, Made(EVENT, now, (), {table: (report.stored, report.changed)}))
        mirror.append(table)
        con.execute("RESET disabled_optimizers")
        affected, bookings = refresh_online(con, settings, mirror, {*patients, *also}, since, now)
    return Recorded(bool(report.stored), is_change=True, patients=affected, bookings=bookings)


def _desk() -> duckdb.DuckDBPyConnection:
    """A connection of its own for little; what was read of the copied records' layout serves the next event too."""
    con = _database().cursor()
    con.execute("SET TimeZone = 'UTC'")
    return con


@cache
def _database() -> duckdb.DuckDBPyConnection:
    con = connect()
    con.execute("SET threads = 1")  # threads would take longer to agree than to work
    con.execute("SET parquet_metadata_cache = true")
    return con


def _key(table: Table, row: Mapping[str, Any]) -> str:
    unknown = sorted(set(row) - set(table.column_names))
    if unknown:
        raise EventError(f"{table.name} have no {', '.join(unknown)}; there are {', '.join(table.column_names)}.")
    if not row.get(table.key):
        raise EventError(f"an event of {table.name} needs {table.key}: the practice's own number.")
    return str(row[table.key])


def _completed(
    con: duckdb.DuckDBPyConnection, table: Table, key: str, row: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The whole row: what is known of the thing, changed as told; news without a moment of their own are of now."""
    known = con.sql(f"SELECT * FROM {table.name}")
    found = con.execute(
        f"SELECT * FROM {table.name} WHERE {table.key} = ? ORDER BY known_at DESC, recorded_at DESC LIMIT 1", [key]
    ).fetchall()
    before = dict(zip(known.columns, found[0], strict=True)) if found else {}
    whole = {name: before.get(name) for name in table.column_names} | dict(row)
    if not before and whole[table.known_from] is None:
        whole[table.known_from] = now
    for milestone in table.milestones:
        news = [name for name in milestone.columns if name in row and row[name] not in (before.get(name), None)]
        is_first_state = not before and all(row[name] == milestone.until_then.get(name) for name in news)
        if news and milestone.known_at not in row and not is_first_state:
            whole[milestone.known_at] = now
    return whole


def _stage(
    con: duckdb.DuckDBPyConnection, settings: Settings, table: Table, row: Mapping[str, Any], now: datetime
) -> None:
    """Make ``incoming_<table>`` of the row, as an import does; refuse what breaks the contract."""
    names = ", ".join(f"{name} VARCHAR" for name in table.column_names)
    con.execute(f"CREATE OR REPLACE TEMP TABLE raw_event (_row BIGINT, {names})")
    texts = [_text(row[name]) for name in table.column_names]
    con.execute(f"INSERT INTO raw_event VALUES (1, {', '.join('?' * len(texts))})", texts)
    reading = _reading(settings, table)
    staging.start(con)
    staging.stage(con, reading, reading.tables[0], "raw_event", SOURCE)
    broken = con.execute("SELECT DISTINCT column_name, reason FROM broken ORDER BY ALL").fetchall()
    if broken:
        problems = "; ".join(f"{column}: {reason}" for column, reason in broken)
        raise EventError(f"the event breaks the contract of {table.name}: {problems}.")
    list(staging.unfold(con, reading.tables[0], SOURCE, now))
    (latest,) = con.execute(f"SELECT max(known_at) FROM incoming_{table.name}").fetchall()[0]
    if latest > now:
        raise EventError(
            f"the event of {table.name} is said to be known from a moment that lies ahead; what is recorded now can be "
            f"known since now at the latest ({', '.join((table.known_from, *(m.known_at for m in table.milestones)))})."
        )


def _reading(settings: Settings, table: Table) -> Reading:
    columns = {name: ColumnSource(column=name) for name in table.column_names}
    zone = settings.practice.time_zone
    return Reading(name=SOURCE, time_zone=zone, tables=(TableMapping(table, columns),), format="sql")


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
