"""Keeping: one Delta table per table of the contract, one manifest over all of them.

Tables are only ever appended to. ``manifest.json`` is a small log of finished
states: each names the version of every table that counts, the last one being
what is read. It is replaced in one step after all tables are written, so a
reader sees an import whole or not at all, and what a crash left behind in a
table is rolled back by the next import.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
from deltalake import ColumnProperties, DeltaTable, WriterProperties, write_deltalake
from filelock import FileLock, Timeout

from features.errors import StoreError
from features.records.schema import SQL_TYPES
from features.records.tables import TABLES

Rows: TypeAlias = pa.Table | pa.RecordBatchReader | duckdb.DuckDBPyRelation

KEPT_COLUMNS: Mapping[str, str] = {"known_at": "TIMESTAMPTZ", "recorded_at": "TIMESTAMPTZ"}
QUARANTINE = "quarantine"
QUARANTINE_COLUMNS: Mapping[str, str] = {
    "mapping": "VARCHAR",
    "source": "VARCHAR",
    "table_name": "VARCHAR",
    "row_number": "BIGINT",
    "column_name": "VARCHAR",
    "value_class": "VARCHAR",
    "reason": "VARCHAR",
}
# Clinics, clinicians and patients that others refer to but that no table brought: their ids alone.
DERIVED = "derived"
DERIVABLE = ("clinics", "clinicians", "patients")
# Patient `old_id` is `new_id` from `known_at` on.
MERGES = "merges"
SURVIVORS = "survivors"  # whose history a merged number belongs to (`features.records.merging`)
OWN_TABLES: Mapping[str, Mapping[str, str]] = {
    QUARANTINE: QUARANTINE_COLUMNS,
    DERIVED: {"table_name": "VARCHAR", "id": "VARCHAR", **KEPT_COLUMNS},
    MERGES: {"old_id": "VARCHAR", "new_id": "VARCHAR", **KEPT_COLUMNS},
}
EVENT = "event"
REPLACED = frozenset({QUARANTINE, DERIVED})  # written anew, where all others are appended to
BATCH_ROWS = 100_000
_NOT_IN_DELTA_PATHS = "[]^|%\\"
# Delta's log would quote the smallest and largest name and phone of every file, and
# would be tidied after a month, old versions with it.
_KEPT_WHOLE_AND_QUIET = {"delta.dataSkippingNumIndexedCols": "0", "delta.enableExpiredLogCleanup": "false"}


def columns_of(table: str) -> Mapping[str, str]:
    """Names and SQL types of a stored table's columns."""
    if table in OWN_TABLES:
        return OWN_TABLES[table]
    return {column.name: SQL_TYPES[column.type] for column in TABLES[table].columns} | dict(KEPT_COLUMNS)


@dataclass(frozen=True)
class Made:
    """What made a state of the records.

    Attributes
    ----------
    kind : str
        ``import``, ``event``, ``merge``, ``restore``, ``clean`` or ``erase``.
    at : datetime
        When (aware).
    sources : tuple of str
        Names of the files; or which state was restored.
    counts : mapping of str to (int, int)
        Things stored and changed, per table.
    """

    kind: str
    at: datetime
    sources: tuple[str, ...] = ()
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One finished state of the records: its number, what made it, the version of every table."""

    number: int
    made: Made
    versions: Mapping[str, int]


class RecordStore:
    """The records of one practice, under one folder.

    Parameters
    ----------
    root : Path
        Folder of the Delta tables and their manifest; made on the first import.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._manifest = root / "manifest.json"

    def versions(self) -> dict[str, int]:
        """Version of every table, as of the last finished import."""
        return {str(name): int(version) for name, version in self._content().get("versions", {}).items()}

    def entries(self) -> tuple[Entry, ...]:
        """Finished states that can be read, oldest first; the last one is what is read by default."""
        return tuple(
            Entry(
                number=entry["number"],
                made=Made(
                    kind=entry["kind"],
                    at=datetime.fromisoformat(entry["at"]),
                    sources=tuple(entry["sources"]),
                    counts={name: (stored, changed) for name, (stored, changed) in entry["counts"].items()},
                ),
                versions=entry["versions"],
            )
            for entry in self._content().get("entries", ())
        )

    @contextmanager
    def importing(self, patience: float = 0) -> Iterator[None]:
        """Hold the store for one import; a second one is refused.

        Parameters
        ----------
        patience : float
            Seconds to wait for the one that is running.

        Raises
        ------
        StoreError
            If another import is running, or the folder's name is none that Delta can take.
        """
        odd = sorted(set(self.root.absolute().as_posix()) & set(_NOT_IN_DELTA_PATHS))
        if odd:
            raise StoreError(f"{self.root} holds {' '.join(odd)}, which Delta tables cannot; set another REVISIT_DATA.")
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / "import.lock")
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            raise StoreError(f"another import into {self.root} is running; wait until it has finished.") from None
        try:
            yield
        finally:
            lock.release()

    def attach(
        self,
        con: duckdb.DuckDBPyConnection,
        tables: Sequence[str],
        versions: Mapping[str, int] | None = None,
        *,
        is_derived_shown: bool = True,
    ) -> None:
        """Make each of `tables` a view in `con`, at the pinned versions, and ``merges`` with them.

        Parameters
        ----------
        con : duckdb.DuckDBPyConnection
            Where the views are made.
        tables : sequence of str
            Table names; one that was never imported becomes an empty view.
        versions : mapping of str to int, optional
            Versions to read; those of the last finished import by default.
        is_derived_shown : bool
            Whether things that are only known by being referred to are in.
        """
        pinned = self.versions() if versions is None else versions
        for name in dict.fromkeys((*tables, MERGES)):
            sql = self._select(name, pinned.get(name))
            if is_derived_shown and name in DERIVABLE and DERIVED in pinned:
                sql += (
                    f" UNION ALL BY NAME SELECT id AS {TABLES[name].key}, known_at, recorded_at "
                    f"FROM ({self._select(DERIVED, pinned[DERIVED])}) WHERE table_name = '{name}'"
                )
            con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {sql}")
        con.execute(f"DROP TABLE IF EXISTS {SURVIVORS}")  # whoever needs it makes it of these merges

    def commit(self, changes: Mapping[str, Rows], made: Made) -> Entry:
        """Write one import's rows, all tables or none.

        Parameters
        ----------
        changes : mapping of str to pyarrow.Table, pyarrow.RecordBatchReader or duckdb.DuckDBPyRelation
            New rows per table, in the columns of `columns_of`; the whole content for `REPLACED` tables.
        made : Made
            For the log.

        Returns
        -------
        Entry
            The state from now on.
        """
        versions = self.versions()
        for name, rows in changes.items():
            path = self.root / name
            self.roll_back(name, versions.get(name))
            mode = "overwrite" if name in REPLACED else "append"
            stream = rows.to_arrow_reader(BATCH_ROWS) if isinstance(rows, duckdb.DuckDBPyRelation) else rows
            write_deltalake(
                path,
                stream,
                mode=mode,
                schema_mode="overwrite" if name in REPLACED else "merge",  # the contract may have grown since
                configuration=_KEPT_WHOLE_AND_QUIET,
                writer_properties=_written(name),
            )
            versions[name] = DeltaTable(path).version()
        return self.publish(versions, made)

    def publish(self, versions: Mapping[str, int], made: Made, since: datetime | None = None) -> Entry:
        """Make `versions` what is read from now on, in one step.

        Parameters
        ----------
        versions : mapping of str to int
            Of every table.
        made : Made
            For the log.
        since : datetime, optional
            Entries before it are struck from the log.

        Returns
        -------
        Entry
        """
        before = self.entries()
        entry = Entry(before[-1].number + 1 if before else 1, made, dict(versions))
        kept = [old for old in before if since is None or old.made.at >= since]
        if kept and made.kind == kept[-1].made.kind == EVENT and made.at.date() == kept[-1].made.at.date():
            kept.pop()  # a day's events are one state: there are thousands
        content = {"versions": entry.versions, "entries": [_as_json(one) for one in (*kept, entry)]}
        fresh = self._manifest.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=1, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self._manifest)
        return entry

    def roll_back(self, name: str, version: int | None) -> None:
        """Bring a table's head back to `version`: a crashed import, or a restored state, may be behind it."""
        path = self.root / name
        if not DeltaTable.is_deltatable(str(path)):
            return
        table = DeltaTable(path)
        if version is None:
            table.delete()
        elif table.version() != version and set(table.file_uris()) != set(self.files(name, version)):
            table.restore(version)

    def files(self, name: str, version: int) -> list[str]:
        """Files of a table's version.

        Raises
        ------
        StoreError
            If the version, or one of its files, is not there any more.
        """
        return self._opened(name, version)[0]

    def _opened(self, name: str, version: int) -> tuple[list[str], set[str]]:
        """Files of a table's version, and the columns that it had."""
        path = self.root / name
        try:
            table = DeltaTable(path, version=version)
            uris: list[str] = table.file_uris()
            gone = [uri for uri in uris if not (path / Path(uri).name).exists()]
            if gone:
                raise FileNotFoundError(gone[0])
        except Exception as error:
            raise StoreError(
                f"version {version} of table {name} cannot be opened in {path} ({type(error).__name__}). "
                "Restore the folder from a backup, or import again into an empty REVISIT_DATA."
            ) from error
        return uris, {field.name for field in table.schema().fields}

    def _content(self) -> dict[str, Any]:
        if not self._manifest.exists():
            return {}
        content: dict[str, Any] = json.loads(self._manifest.read_text(encoding="utf-8"))
        return content

    def _select(self, name: str, version: int | None) -> str:
        files, present = ([], None) if version is None else self._opened(name, version)
        return parquet_sql(self.root, name, files, present)


def parquet_sql(root: Path, name: str, files: Sequence[str], present: Collection[str] | None = None) -> str:
    """SQL of the rows of a table that stand in `files` of its folder under `root`; `present` are the columns it had."""
    columns = columns_of(name)
    if not files:
        empty = ", ".join(f"CAST(NULL AS {kind}) AS {column}" for column, kind in columns.items())
        return f"SELECT {empty} WHERE false"
    names = [glob.escape(str(root / name / Path(file).name)) for file in files]  # Delta URL-encodes its own
    listed = ", ".join("'" + file.replace("'", "''") + "'" for file in names)
    known = columns if present is None else present
    shown = (c if c in known else f"CAST(NULL AS {kind}) AS {c}" for c, kind in columns.items())
    return f"SELECT {', '.join(shown)} FROM read_parquet([{listed}], union_by_name=true)"


def _written(table: str) -> WriterProperties:
    """Keys and moments hardly repeat: a dictionary of them costs a fifth of the writing and saves no space."""
    key = {TABLES[table].key} if table in TABLES else set()
    distinct = key | {name for name, kind in columns_of(table).items() if kind == "TIMESTAMPTZ"} - {"recorded_at"}
    plain = ColumnProperties(dictionary_enabled=False)
    return WriterProperties(compression="SNAPPY", column_properties=dict.fromkeys(distinct, plain))


def _as_json(entry: Entry) -> dict[str, Any]:
    made = asdict(entry.made) | {"at": entry.made.at.isoformat()}
    return {"number": entry.number, **made, "versions": dict(entry.versions)}
