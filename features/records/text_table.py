"""Rows of Python text into a DuckDB table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import duckdb
import pyarrow as pa

from features.records.values import name_of

_BATCH = 50_000


def fill_text_table(
    con: duckdb.DuckDBPyConnection,
    name: str,
    header: Sequence[str],
    rows: Iterable[tuple[int, Sequence[str]]],
) -> int:
    """Make table `name` of ``_row`` and text columns.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        Where the table is made.
    name : str
        Name of the table.
    header : sequence of str
        Names of the columns.
    rows : iterable of (int, sequence of str)
        Number and values of each row.

    Returns
    -------
    int
        How many rows there were.
    """
    columns = ", ".join(f"{name_of(column)} VARCHAR" for column in header)
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} (_row BIGINT, {columns})")
    remaining, total = iter(rows), 0
    while batch := list(islice(remaining, _BATCH)):
        arrays: list[pa.Array] = [pa.array([number for number, _ in batch], pa.int64())]
        arrays += [pa.array([values[place] for _, values in batch], pa.string()) for place in range(len(header))]
        con.register("text_rows", pa.Table.from_arrays(arrays, names=["_row", *(f"c{n}" for n in range(len(header)))]))
        con.execute(f"INSERT INTO {name} SELECT * FROM text_rows")
        con.unregister("text_rows")
        total += len(batch)
    return total
