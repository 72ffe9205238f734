"""Landing: mapped rows are checked, unfolded into states and added to what is known.

The steps are SQL over DuckDB tables: ``raw_*`` (the file's text) ->
``staged_*`` (contract columns) -> ``broken`` (row, column, reason) ->
``incoming_*`` (states) -> ``fresh_*`` (states not yet known). Nothing is
written before all of them have succeeded.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from features.duck import connect
from features.errors import FileError, MappingError
from features.records import derived, merging, staging
from features.records.derived import MissingReference
from features.records.erasure import ErasedPatients
from features.records.files import RawTable
from features.records.mapping import Mapping, TableMapping
from features.records.sources import Loaded, load_system, locate, reader_for
from features.records.store import (
    BATCH_ROWS,
    DERIVABLE,
    DERIVED,
    MERGES,
    QUARANTINE,
    QUARANTINE_COLUMNS,
    Made,
    RecordStore,
    Rows,
    columns_of,
)
from features.records.tables import TABLES

# What DuckDB may keep in memory; it spills the rest. Delta's writer needs half a gigabyte beside it.
MEMORY = "2000MB"
SORTED_AT_ONCE = 5_000_000  # states
LINKED = "fhir_merges"  # table of the patients that a FHIR export links


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
    missing : tuple of MissingReference
        References of the imported rows to things that no table brought.
    locked : dict of str to str
        Tables that the records do not have, and what each would unlock.
    """

    rows: int
    quarantined: dict[str, int]
    quarantined_rows: int
    tables: tuple[TableReport, ...]
    notes: tuple[str, ...] = field(default=())
    missing: tuple[MissingReference, ...] = ()
    locked: dict[str, str] = field(default_factory=dict)

    @property
    def has_changes(self) -> bool:
        """Whether anything was added."""
        return any(table.stored or table.changed for table in self.tables)


def import_files(
    store: RecordStore, source: Path | str, mapping: Mapping, recorded_at: datetime, practice_zone: str = ""
) -> ImportReport:
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
    practice_zone : str
        The practice's time zone; the report notes a mapping that says another.

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
        con.execute(f"SET memory_limit = '{MEMORY}'")
        loaded = load_system(con, source, mapping) if mapping.is_iso else _loaded(con, mapping, paths, Path(folder))
        erased = ErasedPatients(store.root)
        rows = _stage(con, mapping, loaded, erased)
        notes = [*_other_zone(mapping, practice_zone), *loaded.notes]
        for entry in mapping.tables:
            notes += staging.unfold(con, entry, loaded.names[entry.file], recorded_at)
        store.attach(con, _needed(mapping), is_derived_shown=False)
        reports, changes = fresh_states(con, mapping, recorded_at)
        merges = _merges(con, mapping, source, Path(folder), recorded_at, erased)
        if merges is not None:
            reports.append(merges)
            changes |= {MERGES: con.sql("SELECT * FROM fresh_merges")} if merges.stored else {}
        missing = tuple(derived.missing_references(con, [entry.table for entry in mapping.tables]))
        changes |= _derived_and_set_aside(con, mapping, loaded, has_merges=merges is not None)
        if changes:
            counts = {report.table: (report.stored, report.changed) for report in reports}
            store.commit(changes, Made("import", recorded_at, tuple(loaded.sources), counts))
        return ImportReport(
            rows, *_set_aside(con), tuple(reports), tuple(notes), missing, derived.unlocked_by([*store.versions()])
        )


def _derived_and_set_aside(
    con: duckdb.DuckDBPyConnection, mapping: Mapping, loaded: Loaded, *, has_merges: bool
) -> dict[str, Rows]:
    """What an import changes beside the tables it brings: derived things, and the quarantine."""
    changes: dict[str, Rows] = {}
    found = derived.derive(con, [entry.table for entry in mapping.tables], "fresh_merges" if has_merges else None)
    if found is not None:
        changes[DERIVED] = found
    locate(con, loaded.parts)
    quarantine = _quarantine(con, mapping.name, loaded.sources)
    if quarantine is not None:
        changes[QUARANTINE] = quarantine
    return changes


def _loaded(con: duckdb.DuckDBPyConnection, mapping: Mapping, paths: dict[str | None, Path], scratch: Path) -> Loaded:
    raws = {name: _load(con, mapping, name, path, index, scratch) for index, (name, path) in enumerate(paths.items())}
    notes = tuple(note for raw in raws.values() for note in raw.notes)
    return Loaded(raws, {name: path.name for name, path in paths.items()}, notes=notes)


def _other_zone(mapping: Mapping, practice_zone: str) -> Iterator[str]:
    if practice_zone and mapping.time_zone != practice_zone:
        yield (
            f"the mapping reads times as of {mapping.time_zone}, but the practice's time_zone is {practice_zone}; "
            "if that is no purpose, correct one of the two and import again into an empty REVISIT_DATA."
        )


def _stage(con: duckdb.DuckDBPyConnection, mapping: Mapping, loaded: Loaded, erased: ErasedPatients) -> int:
    """Make ``staged_<table>`` of every table and ``broken``; say how many rows were read."""
    con.execute("SET preserve_insertion_order = false")  # rows are numbered by now
    staging.start(con)
    for name, raw in loaded.raws.items():
        staging.note_rejected(con, loaded.names[name], raw)
        for entry in mapping.tables:
            if entry.file == name:
                staging.stage(con, mapping, entry, raw.name, loaded.names[name])
        con.execute(f"DROP TABLE {raw.name}")
    for entry in mapping.tables:
        erased.leave_out(con, entry.table.name)
    return sum(raw.rows for raw in loaded.raws.values())


def _needed(mapping: Mapping) -> list[str]:
    """Stored tables that an import looks at: its own, and those that they refer to."""
    own = [entry.table for entry in mapping.tables]
    referred = [column.refers_to for table in own for column in derived.references(table)]
    return list(dict.fromkeys((QUARANTINE, DERIVED, *DERIVABLE, *(table.name for table in own), *referred)))


def fresh_states(
    con: duckdb.DuckDBPyConnection, mapping: Mapping, recorded_at: datetime
) -> tuple[list[TableReport], dict[str, Rows]]:
    """Make ``fresh_<table>`` of every table; give the counts, and the rows to be added."""
    reports, changes = [], {}
    for entry in mapping.tables:
        reports.append(_compare(con, entry, recorded_at))
        rows = _fresh_rows(con, entry.table.name)
        if rows is not None:
            changes[entry.table.name] = rows
    return reports, changes


def _merges(
    con: duckdb.DuckDBPyConnection,
    mapping: Mapping,
    source: Path | str,
    scratch: Path,
    recorded_at: datetime,
    erased: ErasedPatients,
) -> TableReport | None:
    """Make ``fresh_merges`` out of the mapping's ``[merges]``, if it has any."""
    told = mapping.merges
    if told is None:
        return None
    raw = LINKED if mapping.format == "fhir" and told.file == "merges" else "raw_merges"
    if told.file and raw != LINKED:
        if isinstance(source, str):
            raise MappingError(f"mapping {mapping.name!r}: [merges] names a file, but the source is a database.")
        path = (source if source.is_dir() else source.parent) / told.file
        needed = sorted(filter(None, (told.old, told.new, told.merged_at)))
        reader_for(path)(con, path, raw, mapping, needed, scratch)
    moments = staging.moment_of(mapping, told.merged_at) if told.merged_at else "NULL"
    merges = merging.merges_in(con, told, raw, moments, recorded_at)
    if raw == LINKED and not merges:
        return None
    merges = [m for m in merges if m.old_id not in erased and m.new_id not in erased]
    fresh = merging.news(merging.stored_merges(con), merges)
    merging.put_merges(con, "fresh_merges", fresh, recorded_at)
    return TableReport(MERGES, stored=len(fresh), changed=0, unchanged=len(merges) - len(fresh))


def _set_aside(con: duckdb.DuckDBPyConnection) -> tuple[dict[str, int], int]:
    """Count the quarantined records by reason, and all."""
    reasons = con.execute("SELECT reason, count(DISTINCT (source, row_number)) FROM set_aside GROUP BY 1").fetchall()
    (rows,) = con.execute("SELECT count(DISTINCT (source, row_number)) FROM set_aside").fetchall()[0]
    return dict(Counter(dict(reasons)).most_common()), rows


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

    All states of a thing that the records do not know are fresh. Of the others
    (``judged_<table>``), a state whose moment is not taken yet is kept, even
    where it repeats the one before it: an older export may still bring what lay
    between the two. Only where the moment itself is assumed, a repetition says
    nothing.

    A row whose last state differs from the newest one known, though not by a
    newer time of its own, tells of a change that carries no time: it counts
    from `recorded_at` on, so that the last import wins. If a later state is
    known by a time of its own, the row is older than that, and changes nothing.
    """
    name, key = entry.table.name, entry.table.key
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE stored_{name} AS
        SELECT {key}, known_at, {staging.content_hash(entry.table)} AS content,
               row_number() OVER (PARTITION BY {key} ORDER BY known_at DESC) = 1 AS is_latest,
               max(known_at) FILTER (known_at <> recorded_at) OVER (PARTITION BY {key}) AS newest_own_time
        FROM {name} SEMI JOIN sound_{name} USING ({key})"""
    )
    moment = f"TIMESTAMPTZ '{recorded_at.isoformat()}'"
    columns = ", ".join(columns_of(name))
    fresh = f"SELECT *, {moment} AS recorded_at FROM incoming_{name}"
    (known,) = con.execute(f"SELECT count(DISTINCT {key}) FROM stored_{name}").fetchall()[0]
    changed = _judge(con, entry, moment) if known else 0
    if known:
        fresh += f" ANTI JOIN stored_{name} USING ({key}) UNION ALL BY NAME SELECT * FROM judged_{name}"
    con.execute(f"CREATE OR REPLACE TEMP VIEW fresh_{name} AS SELECT {columns} FROM ({fresh})")
    (total,) = con.execute(
        f"""SELECT (SELECT count(*) FROM sound_{name}) - coalesce(sum(times - 1), 0)::BIGINT FROM repeated_{name}"""
    ).fetchall()[0]
    return TableReport(name, stored=total - known, changed=changed, unchanged=known - changed)


def _judge(con: duckdb.DuckDBPyConnection, entry: TableMapping, moment: str) -> int:
    """Make ``judged_<table>``: fresh states of things that the records know; say how many things changed."""
    name, key = entry.table.name, entry.table.key
    content = staging.content_hash(entry.table)
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE judged_{name} AS
        WITH met AS (SELECT *, {content} AS content FROM incoming_{name} SEMI JOIN stored_{name} USING ({key})),
        judged AS (
            SELECT i.*, before.content AS content_before, same.known_at IS NOT NULL AS is_moment_taken,
                   latest.content AS latest_content, latest.known_at AS latest_at, latest.newest_own_time
            FROM met i
            ASOF LEFT JOIN stored_{name} before ON before.{key} = i.{key} AND before.known_at <= i.known_at
            LEFT JOIN stored_{name} same ON same.{key} = i.{key} AND same.known_at = i.known_at
            LEFT JOIN stored_{name} latest ON latest.{key} = i.{key} AND latest.is_latest)
        SELECT *, {moment} AS recorded_at, content_before IS DISTINCT FROM content AS is_change
        FROM judged
        WHERE NOT is_moment_taken AND (NOT is_assumed OR content_before IS DISTINCT FROM content)
        UNION ALL BY NAME
        SELECT * REPLACE (greatest({moment}, latest_at + INTERVAL 1 MICROSECOND) AS known_at),
               {moment} AS recorded_at, true AS is_change
        FROM judged
        WHERE is_last AND latest_at >= known_at AND latest_content IS DISTINCT FROM content
          AND known_at >= coalesce(newest_own_time, known_at)"""
    )
    changed: int = con.execute(f"SELECT count(DISTINCT {key}) FROM judged_{name} WHERE is_change").fetchall()[0][0]
    return changed


def _fresh_rows(con: duckdb.DuckDBPyConnection, table: str) -> pa.RecordBatchReader | None:
    """The rows to be added, a patient's together; read only when they are written, and never all at once."""
    (count,) = con.execute(f"SELECT count(*) FROM fresh_{table}").fetchall()[0]
    if not count:
        return None
    names = columns_of(table)
    owner = "patient_id" if "patient_id" in names else TABLES[table].key
    parts = -(-count // SORTED_AT_ONCE)

    def batches() -> Iterator[pa.RecordBatch]:
        for part in range(parts):
            where = f"WHERE hash({owner}) % {parts} = {part}" if parts > 1 else ""
            sql = f"SELECT {', '.join(names)} FROM fresh_{table} {where} ORDER BY {owner}, known_at"
            yield from con.sql(sql).to_arrow_reader(BATCH_ROWS)

    schema = con.sql(f"SELECT {', '.join(names)} FROM fresh_{table} LIMIT 0").to_arrow_table().schema
    return pa.RecordBatchReader.from_batches(schema, batches())


def _quarantine(con: duckdb.DuckDBPyConnection, mapping: str, sources: Sequence[str]) -> Rows | None:
    """The quarantine after this import: these files' rows replaced, all others kept; None if it stays as it is."""
    columns = ", ".join(QUARANTINE_COLUMNS)
    ours = mapping.replace("'", "''")
    named = ", ".join("'" + source.replace("'", "''") + "'" for source in sources)
    merged = f"""SELECT {columns} FROM {QUARANTINE} WHERE mapping <> '{ours}' OR source NOT IN ({named})
                 UNION ALL SELECT {columns} FROM (SELECT *, '{ours}' AS mapping FROM set_aside)"""
    differing = con.execute(
        f"""SELECT count(*) FROM (
            (SELECT {columns} FROM {QUARANTINE} EXCEPT ALL ({merged})) UNION ALL
            (({merged}) EXCEPT ALL SELECT {columns} FROM {QUARANTINE}))"""
    ).fetchall()[0][0]
    if not differing:
        return None
    return con.sql(f"SELECT * FROM ({merged}) ORDER BY mapping, source, row_number, table_name, column_name")
