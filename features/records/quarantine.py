"""Quarantine: rows that broke the contract, by file, row, column, kind of value and reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from features.duck import connect
from features.records.store import QUARANTINE, RecordStore


@dataclass(frozen=True)
class Faults:
    """Rows of one file set aside for one reason."""

    reason: str
    table: str
    column: str
    source: str
    mapping: str
    rows: int


@dataclass(frozen=True)
class Fault:
    """One row of a file and what is wrong with it; `value_class` is blank, text, number or date."""

    mapping: str
    source: str
    row: int
    table: str
    column: str
    value_class: str
    reason: str


def counts(con: duckdb.DuckDBPyConnection) -> tuple[Faults, ...]:
    """Count what is in quarantine by reason, table, column and file, the most frequent first.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With ``quarantine`` attached.
    """
    found = con.execute(
        f"""SELECT reason, coalesce(table_name, ''), coalesce(column_name, ''), source,
                   coalesce(mapping, ''), count(DISTINCT row_number) AS rows
        FROM {QUARANTINE} GROUP BY ALL ORDER BY rows DESC, 1, 2, 3, 4, 5"""
    )
    return tuple(Faults(*row) for row in found.fetchall())


def quarantine_counts(store: RecordStore) -> tuple[Faults, ...]:
    """Count what is in a practice's quarantine."""
    with connect() as con:
        store.attach(con, [QUARANTINE])
        return counts(con)


def quarantine_rows(store: RecordStore) -> Iterator[Fault]:
    """Yield every fault in a practice's quarantine, in the order of files and rows."""
    with connect() as con:
        store.attach(con, [QUARANTINE])
        found = con.execute(
            f"""SELECT coalesce(mapping, ''), source, row_number, coalesce(table_name, ''), coalesce(column_name, ''),
                       coalesce(value_class, ''), reason
            FROM {QUARANTINE} ORDER BY ALL"""
        )
        for row in found.fetchall():
            yield Fault(*row)
