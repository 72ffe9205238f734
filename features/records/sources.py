"""Which way in an export takes: the one place that chooses a reader by what the source is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

from features.errors import FileError
from features.records.files import RawTable, load_delimited
from features.records.mapping import Mapping

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
