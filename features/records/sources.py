"""Which way in an export takes: the one place that chooses a reader by what the source is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from features.errors import FileError, MappingError
from features.records.fhir import load_fhir
from features.records.files import RawTable, load_delimited
from features.records.formats import DATABASE_FORMATS
from features.records.mapping import Mapping
from features.records.sql import is_database_url, load_queries

# con, path, table name, mapping, columns the mapping reads, scratch folder -> the loaded text table
Reader = Callable[[duckdb.DuckDBPyConnection, Path, str, Mapping, Sequence[str], Path], RawTable]


def reader_for(path: Path) -> Reader:
    """Choose the reader of one file by its ending.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    callable
        Loads the file into a DuckDB table of text columns, whatever it was.

    Raises
    ------
    FileError
        If nothing reads such a file.
    """
    ending = path.suffix.lower()
    if ending in READERS or path.is_dir() or not path.exists():
        return READERS.get(ending, _delimited)
    raise FileError(
        f"{path.name}: no reader for {ending or 'files without an ending'}; there are {', '.join(READERS)}."
    )


def _delimited(
    con: duckdb.DuckDBPyConnection, path: Path, name: str, mapping: Mapping, needed: Sequence[str], scratch: Path
) -> RawTable:
    return load_delimited(
        con,
        path,
        name,
        delimiter=mapping.delimiter,
        encoding=mapping.encoding,
        needed=needed,
        scratch=scratch,
    )


READERS: dict[str, Reader] = {".csv": _delimited, ".txt": _delimited, ".tsv": _delimited, ".dat": _delimited}


@dataclass(frozen=True)
class Loaded:
    """Everything one source holds, as text tables.

    Attributes
    ----------
    raws : dict of str to RawTable
        By the mapping's `file`.
    names : dict of str to str
        What each is called in the quarantine.
    parts : tuple of (str, int)
        Where records of several files are numbered through: each file's name,
        and the number before its first record.
    notes : tuple of str
        What the reader left out or assumed.
    """

    raws: dict[str | None, RawTable]
    names: dict[str | None, str]
    parts: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sources(self) -> list[str]:
        """Names under which rows of this source are quarantined."""
        return [name for name, _ in self.parts] or list(dict.fromkeys(self.names.values()))


def as_source(text: str) -> Path | str:
    """Tell a database URL, which stays text, from a path."""
    return text if is_database_url(text) else Path(text)


def load_system(con: duckdb.DuckDBPyConnection, source: Path | str, mapping: Mapping) -> Loaded:
    """Load a source whose mapping has a format of its own: a FHIR folder, or a database.

    Raises
    ------
    FileError
        If `source` is not what the format needs, or cannot be read.
    """
    if mapping.format in DATABASE_FORMATS:
        if isinstance(source, Path):
            raise FileError(
                f"mapping {mapping.name!r} reads a database; give its URL, such as mysql+pymysql://user@host/database."
            )
        queried, shown, notes = load_queries(con, source, mapping)
        return Loaded(queried, {name: f"{shown}: {name}" for name in queried}, notes=notes)
    if isinstance(source, str):
        raise FileError(f"mapping {mapping.name!r} reads a folder of NDJSON files, not a database.")
    folder = load_fhir(con, source, mapping.time_zone)
    raws = folder.raws
    unknown = [entry.file for entry in mapping.tables if entry.file not in raws]
    if unknown:
        raise MappingError(f"mapping {mapping.name!r}: FHIR gives {', '.join(map(str, raws))}, not {unknown[0]}.")
    for entry in mapping.tables:
        missing = sorted(entry.reads - set(raws[entry.file].columns))
        if missing:
            raise MappingError(
                f"mapping {mapping.name!r}: {entry.table.name} reads {', '.join(missing)}, "
                f"which {entry.file} does not have."
            )
    return Loaded(raws, dict.fromkeys(raws, "fhir"), folder.parts, folder.notes)


def locate(con: duckdb.DuckDBPyConnection, parts: Sequence[tuple[str, int]]) -> None:
    """Give quarantined records their own file's name and number, where files were numbered through."""
    if not parts:
        return
    con.execute("CREATE OR REPLACE TEMP TABLE parts (file VARCHAR, before BIGINT)")
    con.executemany("INSERT INTO parts VALUES (?, ?)", list(parts))
    con.execute(
        """CREATE OR REPLACE TEMP TABLE broken AS
        SELECT broken.* REPLACE (parts.file AS source, row_number - before AS row_number)
        FROM broken ASOF JOIN parts ON broken.row_number > parts.before"""
    )
