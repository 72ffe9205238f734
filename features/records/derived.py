"""Derived things: clinics, clinicians and patients known only because others refer to them.

An export often brings bookings without a list of patients. Whoever is referred
to but brought by no table is kept by its number alone, known from the first
mention; as soon as a table brings it, that is what counts. So it does not
matter in which order the tables come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb

from features.records.schema import Column, Table
from features.records.store import DERIVABLE, DERIVED
from features.records.tables import TABLES


@dataclass(frozen=True)
class MissingReference:
    """Rows of an import that refer to things which no table brought.

    Attributes
    ----------
    table, column : str
        Where the references stand.
    refers_to : str
        Table in which the things are not.
    things, rows : int
        How many distinct things, and in how many rows.
    is_derived : bool
        Whether their numbers alone are kept in `refers_to`.
    """

    table: str
    column: str
    refers_to: str
    things: int
    rows: int
    is_derived: bool


def references(table: Table) -> Iterator[Column]:
    """Yield the columns of `table` that hold the key of another."""
    return (column for column in table.columns if column.refers_to)


def missing_references(con: duckdb.DuckDBPyConnection, tables: Sequence[Table]) -> Iterator[MissingReference]:
    """Count what the incoming rows refer to and neither they nor the records hold.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With ``incoming_<table>`` of each of `tables`, and every table that is
        referred to as a view of its stored rows.
    tables : sequence of Table
        Those that the import brings.

    Yields
    ------
    MissingReference
    """
    brought = {table.name for table in tables}
    for table in tables:
        columns = list(references(table))
        if not columns:
            continue
        con.execute(
            f"""CREATE OR REPLACE TEMP TABLE mentions AS
            {_by_reference(columns, "count(*) AS rows")} FROM sound_{table.name} {_sets(columns)}"""
        )
        for column in columns:
            known = _keys(column.refers_to, f"incoming_{column.refers_to}" if column.refers_to in brought else "")
            things, rows = con.execute(
                f"""SELECT count(*), coalesce(sum(rows), 0)::BIGINT
                FROM (SELECT id, rows FROM mentions WHERE column_name = '{column.name}' AND id IS NOT NULL)
                ANTI JOIN ({known}) USING (id)"""
            ).fetchall()[0]
            if things:
                derived = column.refers_to in DERIVABLE
                yield MissingReference(table.name, column.name, column.refers_to, things, rows, derived)


def derive(
    con: duckdb.DuckDBPyConnection, tables: Sequence[Table], merges: str | None
) -> duckdb.DuckDBPyRelation | None:
    """Find the whole content of the table of derived things after an import.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With ``fresh_<table>`` of each of `tables`, and as views the stored rows
        of `DERIVABLE` tables and of ``derived``.
    tables : sequence of Table
        Those that the import brings.
    merges : str, optional
        Name of a table of new merges; the patients they name are mentions too.

    Returns
    -------
    duckdb.DuckDBPyRelation or None
        None if it stays as it is.
    """
    told = {table.name: [c for c in references(table) if c.refers_to in DERIVABLE] for table in tables}
    firsts = "min(known_at) AS known_at, min(recorded_at) AS recorded_at"
    mentions = [
        f"SELECT table_name, id, known_at, recorded_at "
        f"FROM ({_by_reference(columns, firsts)} FROM fresh_{name} {_sets(columns)}) WHERE id IS NOT NULL"
        for name, columns in told.items()
        if columns
    ]
    if merges:
        mentions += [
            f"SELECT 'patients' AS table_name, {side} AS id, known_at, recorded_at FROM {merges}"
            for side in ("old_id", "new_id")
        ]
    brought = {table.name for table in tables}
    known = " UNION ALL ".join(
        f"SELECT '{name}' AS table_name, id FROM ({_keys(name, f'fresh_{name}' if name in brought else '')})"
        for name in DERIVABLE
    )
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE derived_now AS
        SELECT table_name, id, {firsts} FROM ({" UNION ALL ".join((f"SELECT * FROM {DERIVED}", *mentions))}) AS mentions
        ANTI JOIN ({known}) AS known USING (table_name, id) GROUP BY table_name, id"""
    )
    (differing,) = con.execute(
        f"""SELECT count(*) FROM (SELECT table_name, id, known_at FROM derived_now) now
        FULL JOIN {DERIVED} before USING (table_name, id)
        WHERE now.known_at IS DISTINCT FROM before.known_at"""
    ).fetchall()[0]
    return con.sql("SELECT * FROM derived_now ORDER BY table_name, id") if differing else None


def unlocked_by(stored: Sequence[str]) -> dict[str, str]:
    """What each table that the records do not have would unlock."""
    return {name: table.unlocks for name, table in TABLES.items() if name not in stored}


def _by_reference(columns: Sequence[Column], counted: str) -> str:
    """SQL of what a table's rows say of each thing that they refer to; together with `_sets`, in one pass."""
    told = " ".join(
        f"WHEN grouping({c.name}) = 0 THEN {{'column_name': '{c.name}', 'table_name': '{c.refers_to}'}}"
        for c in columns
    )
    ids = ", ".join(c.name for c in columns)
    return f"SELECT unnest(CASE {told} END), coalesce({ids}) AS id, {counted}"


def _sets(columns: Sequence[Column]) -> str:
    return f"GROUP BY GROUPING SETS ({', '.join(f'({c.name})' for c in columns)})"


def _keys(table: str, also: str) -> str:
    """SQL of the keys that the records, and the import, hold."""
    key = TABLES[table].key
    incoming = f" UNION SELECT {key} FROM {also}" if also else ""
    return f"SELECT {key} AS id FROM {table}{incoming}"
