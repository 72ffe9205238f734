"""Parquet in: typed columns as text that loses nothing."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

import duckdb

from features.errors import FileError
from features.records.files import RawTable, must_be_a_file, must_differ, must_have
from features.records.values import name_of, quoted


def load_parquet(con: duckdb.DuckDBPyConnection, path: Path, name: str, *, needed: Sequence[str]) -> RawTable:
    """Load a Parquet file into a DuckDB table of text columns.

    Moments with a zone become text with their offset, those without stay
    without; decimals and long numbers keep every digit.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        Where the table is made.
    path : Path
        The file.
    name : str
        Name of the table.
    needed : sequence of str
        Columns the mapping reads.

    Returns
    -------
    RawTable

    Raises
    ------
    FileError
        If it is no whole Parquet file, or lacks a needed column.
    """
    must_be_a_file(path)
    source = f"read_parquet({quoted(glob.escape(str(path)))}, binary_as_string=true)"
    try:
        must_differ(path.name, _names(con, path))
        types = {row[0]: row[1] for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        must_have(path.name, list(types), needed)
        columns = ", ".join(f"{_text(column, kind)} AS {name_of(column)}" for column, kind in types.items())
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT row_number() OVER () AS _row, {columns} FROM {source}"
        )
    except (duckdb.Error, UnicodeDecodeError):  # its text may quote a value
        raise FileError(
            f"{path.name} is no whole Parquet file (damaged, cut short or encrypted); export it again."
        ) from None
    rows = con.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
    if not rows:
        raise FileError(f"{path.name} has columns but no rows; nothing to import.")
    return RawTable(name, tuple(types), rows, ())


def _names(con: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    """Names of the columns as the file has them; `read_parquet` renames what stands twice."""
    elements = con.execute(
        "SELECT name, coalesce(num_children, 0) FROM parquet_schema(?)", [glob.escape(str(path))]
    ).fetchall()
    names, inside = [], [0]
    for name, children in elements[1:]:  # depth first; the first is the root
        if len(inside) == 1:
            names.append(str(name).strip())
        else:
            inside[-1] -= 1
        inside.append(int(children))
        while len(inside) > 1 and inside[-1] == 0:
            inside.pop()
    return names


def _text(column: str, kind: str) -> str:
    text = f"CAST({name_of(column)} AS VARCHAR)"
    if kind in ("FLOAT", "DOUBLE"):  # NaN is how pandas writes nothing (DuckDB folds isnan() by the file's statistics)
        return f"nullif({text}, 'nan')"
    return text
