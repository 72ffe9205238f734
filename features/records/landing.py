"""Landing: mapped rows are checked, unfolded into states and added to what is known.

The steps are SQL over DuckDB tables: ``raw_*`` (the file's text) ->
``staged_*`` (contract columns) -> ``broken`` (row, column, reason) ->
``incoming_*`` (states) -> ``fresh_*`` (states not yet known). Nothing is
written before all of them have succeeded.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from features.duck import connect
from features.errors import FileError, MappingError
from features.records import staging
from features.records.files import RawTable
from features.records.mapping import Mapping, TableMapping
from features.records.sources import Loaded, load_system, locate, reader_for
from features.records.store import QUARANTINE, QUARANTINE_COLUMNS, RecordStore, columns_of


@dataclass(frozen=True)
class TableReport:
    """What became of one table's things (bookings, patients, ...) in an import."""

    table: str
    stored: int
    changed: int
    unchanged: int


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes
    ----------
    rows : int
        Records read from all files.
    quarantined : dict of str to int
        Records set aside, by reason. A record with two faults counts under both.
    quarantined_rows : int
        Distinct records set aside.
    tables : tuple of TableReport
        Counts per table.
    notes : tuple of str
        What the importer had to assume.
    """

    rows: int
    quarantined: dict[str, int]
    quarantined_rows: int
    tables: tuple[TableReport, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def has_changes(self) -> bool:
        """Whether anything was added."""
        return any(table.stored or table.changed for table in self.tables)


def import_files(store: RecordStore, source: Path | str, mapping: Mapping, recorded_at: datetime) -> ImportReport:
    """Import one export into the records.

    Parameters
    ----------
    store : RecordStore
        Where the records are kept.
    source : Path or str
        A file; a folder, where the mapping names its files or its format is
        ``fhir``; or a database's URL.
    mapping : Mapping
        How its columns become the contract's.
    recorded_at : datetime
        The moment of the import (aware). A change that carries no time of its
        own counts as known from here on.

    Returns
    -------
    ImportReport

    Raises
    ------
    FileError, MappingError
        If a file cannot be read as the mapping says. Nothing is stored then.
    StoreError
        If another import is running.
    """
    paths = {} if mapping.is_iso else _paths(source, mapping)
    with (
        store.importing(),
        tempfile.TemporaryDirectory(prefix="revisit-import-") as folder,
        connect(Path(folder)) as con,
    ):
        if mapping.is_iso:
            loaded = load_system(con, source, mapping)
        else:
            raws = {
                name: _load(con, mapping, name, path, index, Path(folder))
                for index, (name, path) in enumerate(paths.items())
            }
            loaded = Loaded(raws, {name: path.name for name, path in paths.items()})
        return _import(con, store, mapping, loaded, recorded_at)


def _import(
    con: duckdb.DuckDBPyConnection,
    store: RecordStore,
    mapping: Mapping,
    loaded: Loaded,
    recorded_at: datetime,
) -> ImportReport:
    raws, names = loaded.raws, loaded.names
    staging.start(con)
    for name, raw in raws.items():
        staging.note_rejected(con, names[name], raw)
    for entry in mapping.tables:
        staging.stage(con, mapping, entry, raws[entry.file].name, names[entry.file])
    notes = list(loaded.notes)
    for entry in mapping.tables:
        notes += staging.unfold(con, entry, names[entry.file], recorded_at)
    locate(con, loaded.parts)
    store.attach(con, [QUARANTINE, *(entry.table.name for entry in mapping.tables)])
    changes: dict[str, pa.Table] = {}
    reports = []
    for entry in mapping.tables:
        reports.append(_compare(con, entry, recorded_at))
        rows = _fresh_rows(con, entry.table.name)
        if rows.num_rows:
            changes[entry.table.name] = rows
    quarantine = _quarantine(con, loaded.sources)
    if quarantine is not None:
        changes[QUARANTINE] = quarantine
    if changes:
        store.commit(changes)
    reasons = con.execute("SELECT reason, count(DISTINCT (source, row_number)) FROM broken GROUP BY 1").fetchall()
    bad_rows = con.execute("SELECT count(DISTINCT (source, row_number)) FROM broken").fetchall()[0][0]
    return ImportReport(
        rows=sum(raw.rows for raw in raws.values()),
        quarantined=dict(Counter(dict(reasons)).most_common()),
        quarantined_rows=bad_rows,
        tables=tuple(reports),
        notes=tuple(notes),
    )


def _paths(source: Path | str, mapping: Mapping) -> dict[str | None, Path]:
    if isinstance(source, str):
        raise MappingError(f'mapping {mapping.name!r} reads files; a database needs one with format = "sql".')
    if mapping.files == (None,):
        return {None: source}
    if None in mapping.files:
        raise MappingError(f"mapping {mapping.name!r}: give every table a file, or none.")
    if not source.is_dir():
        raise FileError(
            f"{source} is not a folder; this mapping reads {', '.join(map(str, mapping.files))} from a folder."
        )
    return {name: source / str(name) for name in mapping.files}


def _load(
    con: duckdb.DuckDBPyConnection, mapping: Mapping, file: str | None, path: Path, index: int, scratch: Path
) -> RawTable:
    needed: set[str] = set()
    for entry in mapping.tables:
        if entry.file == file:
            needed |= entry.reads
    return reader_for(path)(con, path, f"raw_{index}", mapping, sorted(needed), scratch)


def _compare(con: duckdb.DuckDBPyConnection, entry: TableMapping, recorded_at: datetime) -> TableReport:
    """Make ``fresh_<table>``: the incoming states that the records do not hold yet.

    A state whose moment is not taken yet is kept, even where it repeats the one
    before it: an older export may still bring what lay between the two. Only
    where the moment itself is assumed, a repetition says nothing.

    A row whose last state differs from the newest one known, though not by a
    newer time of its own, tells of a change that carries no time: it counts
    from `recorded_at` on, so that the last import wins. If a later state is
    known by a time of its own, the row is older than that, and changes nothing.
    """
    table, key = entry.table, entry.table.key
    content = staging.content_hash(table)
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE stored AS
        SELECT {key}, known_at, {content} AS content,
               row_number() OVER (PARTITION BY {key} ORDER BY known_at DESC) = 1 AS is_latest,
               max(known_at) FILTER (known_at <> recorded_at) OVER (PARTITION BY {key}) AS newest_own_time
        FROM {table.name} SEMI JOIN incoming_{table.name} USING ({key})"""
    )
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE fresh_{table.name} AS
        WITH judged AS (
            SELECT i.*, before.content AS content_before, same.known_at IS NOT NULL AS is_moment_taken,
                   latest.content AS latest_content, latest.known_at AS latest_at, latest.newest_own_time
            FROM incoming_{table.name} i
            ASOF LEFT JOIN stored before ON before.{key} = i.{key} AND before.known_at <= i.known_at
            LEFT JOIN stored same ON same.{key} = i.{key} AND same.known_at = i.known_at
            LEFT JOIN stored latest ON latest.{key} = i.{key} AND latest.is_latest)
        SELECT *, $moment::TIMESTAMPTZ AS recorded_at, content_before IS DISTINCT FROM content AS is_change
        FROM judged
        WHERE NOT is_moment_taken AND (NOT is_assumed OR content_before IS DISTINCT FROM content)
        UNION ALL BY NAME
        SELECT * REPLACE (greatest($moment::TIMESTAMPTZ, latest_at + INTERVAL 1 MICROSECOND) AS known_at),
               $moment::TIMESTAMPTZ AS recorded_at, true AS is_change
        FROM judged
        WHERE is_last AND latest_at >= known_at AND latest_content IS DISTINCT FROM content
          AND known_at >= coalesce(newest_own_time, known_at)""",
        {"moment": recorded_at},
    )
    total, stored, changed = con.execute(
        f"""SELECT count(*), count(*) FILTER (is_fresh AND NOT is_known), count(*) FILTER (is_fresh AND is_known)
        FROM (SELECT {key}, {key} IN (SELECT {key} FROM fresh_{table.name} WHERE is_change) AS is_fresh,
                     {key} IN (SELECT {key} FROM stored) AS is_known
              FROM incoming_{table.name} GROUP BY {key})"""
    ).fetchall()[0]
    return TableReport(table.name, stored=stored, changed=changed, unchanged=total - stored - changed)


def _fresh_rows(con: duckdb.DuckDBPyConnection, table: str) -> pa.Table:
    columns = ", ".join(columns_of(table))
    order = "patient_id, known_at" if "patient_id" in columns_of(table) else "known_at"
    return con.sql(f"SELECT {columns} FROM fresh_{table} ORDER BY {order}").to_arrow_table()


def _quarantine(con: duckdb.DuckDBPyConnection, sources: Sequence[str]) -> pa.Table | None:
    """The quarantine after this import: these files' rows replaced, all others kept; None if it stays as it is."""
    columns = ", ".join(QUARANTINE_COLUMNS)
    named = ", ".join("'" + source.replace("'", "''") + "'" for source in sources)
    merged = f"""SELECT {columns} FROM {QUARANTINE} WHERE source NOT IN ({named})
                 UNION ALL SELECT {columns} FROM broken"""
    differing = con.execute(
        f"""SELECT count(*) FROM (
            (SELECT {columns} FROM {QUARANTINE} EXCEPT ALL ({merged})) UNION ALL
            (({merged}) EXCEPT ALL SELECT {columns} FROM {QUARANTINE}))"""
    ).fetchall()[0][0]
    if not differing:
        return None
    return con.sql(f"{merged} ORDER BY source, row_number, table_name, column_name").to_arrow_table()
