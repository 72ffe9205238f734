"""Keeping: one Delta table per table of the contract, one manifest over all of them.

Tables are only ever appended to. ``manifest.json`` names the version of every
table that counts; it is replaced in one step after all tables are written, so a
reader sees an import whole or not at all, and what a crash left behind in a
table is rolled back by the next import.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from filelock import FileLock, Timeout

from features.errors import StoreError
from features.records.schema import SQL_TYPES
from features.records.tables import TABLES

KEPT_COLUMNS: Mapping[str, str] = {"known_at": "TIMESTAMPTZ", "recorded_at": "TIMESTAMPTZ"}
QUARANTINE = "quarantine"
QUARANTINE_COLUMNS: Mapping[str, str] = {
    "source": "VARCHAR",
    "table_name": "VARCHAR",
    "row_number": "BIGINT",
    "column_name": "VARCHAR",
    "reason": "VARCHAR",
}
_NOT_IN_DELTA_PATHS = "[]^|%\\"
# Delta's log would quote the smallest and largest name and phone of every file, and
# would be tidied after a month, old versions with it.
_KEPT_WHOLE_AND_QUIET = {"delta.dataSkippingNumIndexedCols": "0", "delta.enableExpiredLogCleanup": "false"}


def columns_of(table: str) -> Mapping[str, str]:
    """Names and SQL types of a stored table's columns."""
    if table == QUARANTINE:
        return QUARANTINE_COLUMNS
    return {column.name: SQL_TYPES[column.type] for column in TABLES[table].columns} | dict(KEPT_COLUMNS)


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
        if not self._manifest.exists():
            return {}
        content = json.loads(self._manifest.read_text(encoding="utf-8"))
        return {str(name): int(version) for name, version in content["versions"].items()}

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Hold the store for one import; a second one is refused.

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
            with lock.acquire(timeout=0):
                yield
        except Timeout:
            raise StoreError(f"another import into {self.root} is running; wait until it has finished.") from None

    def attach(
        self,
        con: duckdb.DuckDBPyConnection,
        tables: Sequence[str],
        versions: Mapping[str, int] | None = None,
    ) -> None:
        """Make each of `tables` a view in `con`, at the pinned versions.

        Parameters
        ----------
        con : duckdb.DuckDBPyConnection
            Where the views are made.
        tables : sequence of str
            Table names; one that was never imported becomes an empty view.
        versions : mapping of str to int, optional
            Versions to read; those of the last finished import by default.
        """
        pinned = self.versions() if versions is None else versions
        for name in tables:
            con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {self._select(name, pinned.get(name))}")

    def commit(self, changes: Mapping[str, pa.Table], replaced: Sequence[str] = (QUARANTINE,)) -> dict[str, int]:
        """Write one import's rows, all tables or none.

        Parameters
        ----------
        changes : mapping of str to pyarrow.Table
            New rows per table, in the columns of `columns_of`.
        replaced : sequence of str
            Tables whose content `changes` replaces; the others are appended to.

        Returns
        -------
        dict of str to int
            The version of every table from now on.
        """
        versions = self.versions()
        for name, rows in changes.items():
            path = self.root / name
            self._drop_leftovers(path, versions.get(name))
            mode = "overwrite" if name in replaced else "append"
            write_deltalake(path, rows, mode=mode, configuration=_KEPT_WHOLE_AND_QUIET)
            versions[name] = DeltaTable(path).version()
        fresh = self._manifest.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as stream:
            json.dump({"versions": versions}, stream, indent=1, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self._manifest)
        return versions

    def _select(self, name: str, version: int | None) -> str:
        columns = columns_of(name)
        path = self.root / name
        try:
            files = [] if version is None else DeltaTable(path, version=version).file_uris()
        except Exception as error:
            raise StoreError(
                f"version {version} of table {name} cannot be opened in {path} ({type(error).__name__}). "
                "Restore the folder from a backup, or import again into an empty REVISIT_DATA."
            ) from error
        if not files:
            empty = ", ".join(f"CAST(NULL AS {kind}) AS {column}" for column, kind in columns.items())
            return f"SELECT {empty} WHERE false"
        names = [glob.escape(str(path / Path(file).name)) for file in files]  # Delta's own paths are URL-encoded
        listed = ", ".join("'" + file.replace("'", "''") + "'" for file in names)
        return f"SELECT {', '.join(columns)} FROM read_parquet([{listed}])"

    def _drop_leftovers(self, path: Path, version: int | None) -> None:
        """Roll a table back to the manifest: a crashed import may have written ahead of it."""
        if not DeltaTable.is_deltatable(str(path)):
            return
        table = DeltaTable(path)
        if version is None:
            table.delete()
        elif table.version() != version:
            table.restore(version)
