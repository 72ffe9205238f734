"""From a file's text to the contract's columns: typed, checked, unfolded into states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb

from features.records.files import RawTable
from features.records.mapping import ColumnSource, Mapping, TableMapping
from features.records.tables import SQL_TYPES, Column, Table

OLDEST_AGE = 120


def start(con: duckdb.DuckDBPyConnection) -> None:
    """Make the empty list of broken rows: one row per file, row, column and reason."""
    con.execute(
        """CREATE OR REPLACE TEMP TABLE broken (
            source VARCHAR, table_name VARCHAR, row_number BIGINT, column_name VARCHAR, reason VARCHAR)"""
    )


def note_rejected(con: duckdb.DuckDBPyConnection, source: str, raw: RawTable) -> None:
    """List the records whose number of fields is wrong."""
    rows = [(source, None, bad.row, None, bad.reason) for bad in raw.rejected]
    if rows:
        con.executemany("INSERT INTO broken VALUES (?, ?, ?, ?, ?)", rows)


def stage(con: duckdb.DuckDBPyConnection, mapping: Mapping, entry: TableMapping, raw: str, source: str) -> None:
    """Make ``staged_<table>``: ``_row`` plus every contract column, typed; list what breaks the contract."""
    table = entry.table
    mapped = {name: _expression(mapping, table.column(name), form) for name, form in entry.columns.items()}
    typed = [
        f"{mapped[c.name]} AS {c.name}" if c.name in mapped else f"CAST(NULL AS {SQL_TYPES[c.type]}) AS {c.name}"
        for c in table.columns
    ]
    given = [f"{_given(form)} AS _has_{name}" for name, form in entry.columns.items()]
    where = f"WHERE {entry.where}" if entry.where else ""
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE staged_{table.name} AS
        SELECT _row, {", ".join(typed + given)} FROM {raw} {where}"""
    )
    for column, condition, reason in _faults(entry):
        con.execute(
            f"""INSERT INTO broken SELECT ?, ?, _row, ?, ? FROM staged_{table.name} WHERE {condition}""",
            [source, table.name, column, reason],
        )


def unfold(con: duckdb.DuckDBPyConnection, entry: TableMapping, source: str) -> Iterator[str]:
    """Make ``incoming_<table>``: one row per state, in the order the practice learned them.

    A row of the file is stored whole or not at all: what one table finds
    broken is left out of every table of the same file.

    Yields
    ------
    str
        What had to be assumed, for the report.
    """
    table = entry.table
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE sound AS SELECT {", ".join(("_row", *table.column_names))}
        FROM staged_{table.name}
        WHERE _row NOT IN (SELECT row_number FROM broken WHERE source = ?)""",
        [source],
    )
    yield from _assume_status_times(con, table)
    states = " UNION ALL ".join(_states(table))
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE incoming_{table.name} AS
        WITH states AS ({states}),
        hashed AS (SELECT *, {content_hash(table)} AS content FROM states),
        single AS (SELECT * FROM hashed
                   QUALIFY row_number() OVER (PARTITION BY {table.key}, known_at ORDER BY step DESC, _row DESC) = 1),
        changes AS (SELECT * FROM single
                    QUALIFY lag(content) OVER (PARTITION BY {table.key} ORDER BY known_at)
                            IS DISTINCT FROM content)
        SELECT *, lead(known_at) OVER (PARTITION BY {table.key} ORDER BY known_at) IS NULL AS is_last
        FROM changes"""
    )


def content_hash(table: Table) -> str:
    """SQL of a row's content: everything but the key and the moment it became known."""
    clocks = {table.key, table.known_from if table.milestone is None else ""}
    return f"hash({', '.join(name for name in table.column_names if name not in clocks)})"


def _states(table: Table) -> Iterator[str]:
    columns = ", ".join(table.column_names)
    milestone = table.milestone
    if milestone is None:
        yield f"SELECT _row, {columns}, {table.known_from} AS known_at, 0 AS step FROM sound"
        return
    masked = ", ".join(
        f"CASE WHEN {milestone.known_at} IS NULL THEN {name} ELSE {_until_then(table, name)} END AS {name}"
        if name in milestone.columns
        else name
        for name in table.column_names
    )
    yield f"SELECT _row, {masked}, {table.known_from} AS known_at, 0 AS step FROM sound"
    yield (
        f"SELECT _row, {columns}, {milestone.known_at} AS known_at, 1 AS step FROM sound "
        f"WHERE {milestone.known_at} IS NOT NULL"
    )


def _until_then(table: Table, name: str) -> str:
    value = table.milestone.until_then.get(name) if table.milestone else None
    return f"CAST({_text(value) if value is not None else 'NULL'} AS {SQL_TYPES[table.column(name).type]})"


def _assume_status_times(con: duckdb.DuckDBPyConnection, table: Table) -> Iterator[str]:
    """Give outcomes without a recorded time the latest honest bound: the end of the booked day (UTC + 1 day)."""
    if table.name != "appointments":
        return
    missing = "status NOT IN ('booked') AND status_known_at IS NULL"
    count = con.execute(f"SELECT count(*) FROM sound WHERE {missing}").fetchall()[0][0]
    if count:
        con.execute(f"UPDATE sound SET status_known_at = starts_at + INTERVAL 24 HOUR WHERE {missing}")
        yield (
            f"{count:,} outcomes carry no time of recording; they count as known 24 hours after the start "
            "of the appointment (for a day without a time: at the end of that day)."
        )


def _expression(mapping: Mapping, column: Column, form: ColumnSource) -> str:
    if form.age and form.at:
        return (
            f"TRY(year({_instant(mapping, _name(form.at))}) - "
            f"CASE WHEN {_age(form)} BETWEEN 0 AND {OLDEST_AGE} THEN {_age(form)} END)"
        )
    text = _raw(form)
    if form.values:
        arms = " ".join(f"WHEN {_text(given)} THEN {_text(meant)}" for given, meant in form.values.items())
        text = f"CASE {text} {arms} ELSE {text} END"
    if form.sql and column.type in ("instant", "date"):
        return f"TRY(CAST({_zoned(mapping, text) if column.type == 'instant' else text} AS {SQL_TYPES[column.type]}))"
    if column.type == "instant":
        return _zoned(mapping, _local(mapping.datetime_formats, text))
    if column.type == "date":
        return f"CAST({_local(mapping.date_formats, text)} AS DATE)"
    if column.type == "id":  # spreadsheets turn 1234 into 1234.0
        return rf"regexp_replace({text}, '^(\d+)\.0+$', '\1')"
    return f"TRY_CAST({text} AS {SQL_TYPES[column.type]})"


def _raw(form: ColumnSource) -> str:
    """The column's text, blank as NULL."""
    if form.value is not None:
        return _text(form.value)
    if form.sql:
        return f"({form.sql})"
    return f"nullif(trim({_name(form.column or '')}), '')"


def _given(form: ColumnSource) -> str:
    """Whether the file holds anything for the column in this row."""
    if form.column:
        return f"({_raw(form)} IS NOT NULL)"
    return "true" if form.value is not None or form.age else "false"


def _age(form: ColumnSource) -> str:
    return f"TRY_CAST({_name(form.age or '')} AS INTEGER)"


def _instant(mapping: Mapping, text: str) -> str:
    return _local(mapping.datetime_formats, f"nullif(trim({text}), '')")


def _local(formats: Sequence[str], text: str) -> str:
    return f"try_strptime({text}, [{', '.join(_text(form) for form in formats)}])"


def _zoned(mapping: Mapping, local: str) -> str:
    """A wall-clock time of the practice as an instant."""
    return f"timezone({_text(mapping.time_zone)}, CAST({local} AS TIMESTAMP))"


def _faults(entry: TableMapping) -> Iterator[tuple[str, str, str]]:
    """Yield (column, condition that must not hold, reason) for all that the contract asks."""
    for name, form in entry.columns.items():
        column = entry.table.column(name)
        if form.age:
            yield name, f"{name} IS NULL", f"the age is missing or outside 0 to {OLDEST_AGE}"
        elif column.values:
            allowed = ", ".join(_text(value) for value in column.values)
            yield name, f"{name} NOT IN ({allowed})", f"the value is none of {', '.join(column.values)}"
        else:
            what = {"instant": "a date and time", "date": "a date"}.get(column.type, f"a {column.type}")
            yield name, f"_has_{name} AND {name} IS NULL", f"the value cannot be read as {what}"
        for bound, sign in ((column.minimum, "<"), (column.maximum, ">")):
            if bound is not None:
                word = "below" if sign == "<" else "above"
                yield name, f"{name} {sign} {bound:g}", f"the value is {word} {bound:g}"
        if column.required:
            empty = f"{name} IS NULL" + (f" AND NOT _has_{name}" if not column.values else "")
            yield name, empty, "a required value is missing"
    for rule in entry.table.rules:
        yield rule.column, f"NOT ({rule.sql})", rule.reason


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _text(value: str | None) -> str:
    return "'" + (value or "").replace("'", "''") + "'"
