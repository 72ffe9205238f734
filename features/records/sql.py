"""Any SQL database in: the mapping's queries, read in one read-only transaction, streamed into DuckDB as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from features.errors import FileError, MappingError
from features.records.files import RawTable
from features.records.mapping import Mapping, TableMapping

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Result, TextClause

BATCH_ROWS = 20_000
CONNECT_SECONDS = 10
_URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+_.-]*://")
_KNOW_CONNECT_TIMEOUT = ("mysql+pymysql", "mariadb+pymysql", "postgresql+psycopg", "postgresql+psycopg2")
# What a driver says, and what it means. Nothing else of its text is repeated: it may quote values or a password.
_CANNOT_CONNECT = (
    (r"access denied|authentication failed|\b(1045|28P01|1698)\b", "refuses this user name or password"),
    (r"role .* does not exist", "does not know this user"),
    (r"unknown database|database .* does not exist|\b1049\b", "has no database of this name"),
    (r"timed? ?out|timeout", "does not answer"),
    (r"getaddrinfo|name or service|translate host|resolve", "is a host name that cannot be found"),
    (r"refused|can't connect|unreachable|\b2003\b", "cannot be reached; is the server running, and the port right?"),
)
_WRONG_QUERY = (
    r"table '[^']*' doesn't exist",
    r"unknown column '[^']*'",
    r'(relation|column|function) "?[\w.]+"?(\([^)]*\))? does not exist',
    r"no such (table|column|function): \S+",
    r"\w+ command denied",
    r"permission denied for \w+ \w+",
    r'syntax error at or near "\w+"',
    r'near "\w+": syntax error',
    r"error in your SQL syntax",
)


def is_database_url(source: str) -> bool:
    """Whether `source` names a database (``dialect+driver://...``) rather than a file."""
    return bool(_URL.match(source))


def load_queries(
    con: duckdb.DuckDBPyConnection, source: str, mapping: Mapping
) -> tuple[dict[str | None, RawTable], str, tuple[str, ...]]:
    """Run every query of `mapping` and keep its rows as DuckDB text tables.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        Where the tables are made.
    source : str
        URL of the database.
    mapping : Mapping
        With a query per table; all are run in one read-only transaction.

    Returns
    -------
    dict of str to RawTable
        One per table of the mapping.
    str
        What the database is called in reports: its name, no host, user or password.
    tuple of str
        How much was left out, for the report.

    Raises
    ------
    FileError
        If the database cannot be reached or read.
    MappingError
        If a query is wrong, or does not return what the mapping reads.
    """
    url = _url(source)
    shown = Path(url.database or url.get_backend_name()).name
    with _reading(url) as connection:
        raws: dict[str | None, RawTable] = {
            entry.file: _load(con, connection, mapping, entry, f"raw_{index}")
            for index, entry in enumerate(mapping.tables)
        }
        notes = tuple(_left_out(connection, mapping))
    if not any(raw.rows for raw in raws.values()):
        raise FileError(f"no query of mapping {mapping.name!r} finds a row in {shown}; nothing to import.")
    return raws, shown, notes


def _url(source: str) -> URL:
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError
    except ModuleNotFoundError:
        raise FileError("reading a database needs SQLAlchemy; install it with: pip install 'revisit[sql]'.") from None
    try:
        return make_url(source)
    except (ArgumentError, ValueError):
        raise FileError(
            "the database URL cannot be read; expected dialect+driver://user:password@host:port/database "
            "with special characters of the password written as %40 (@), %2F (/), %3A (:)."
        ) from None


@contextmanager
def _reading(url: URL) -> Iterator[Connection]:
    """Open the database for one read-only transaction that sees one state of it."""
    with _opened(url) as connection:
        _begin(connection, url.get_backend_name(), _place(url))
        yield connection


@contextmanager
def connecting(source: str, kinds: tuple[str, ...]) -> Iterator[Connection]:
    """Open a database of one of `kinds` (SQLAlchemy's names) to write to it; what is not committed is undone.

    Raises
    ------
    FileError
        If `source` names no such database, or it cannot be reached.
    """
    url = _url(source)
    if url.get_backend_name() not in kinds:
        raise FileError(f"expected a database of {' or '.join(kinds)}, came one of {url.get_backend_name()}.")
    with _opened(url) as connection:
        yield connection


@contextmanager
def _opened(url: URL) -> Iterator[Connection]:
    from sqlalchemy import create_engine, exc
    from sqlalchemy.pool import NullPool

    kind, place = url.get_backend_name(), _place(url)
    if kind == "sqlite" and not Path(url.database or "").is_file():
        raise FileError(f"the SQLite database {place} does not exist.")
    timeout = {"connect_timeout": CONNECT_SECONDS} if url.drivername in _KNOW_CONNECT_TIMEOUT else {}
    try:
        # hide_parameters: no value of a query ever stands in a message or a log.
        engine = create_engine(url, poolclass=NullPool, connect_args=timeout, hide_parameters=True)
        connection = engine.connect()
    except (exc.NoSuchModuleError, ModuleNotFoundError):
        raise FileError(
            f"no driver for {url.drivername!r} is installed; revisit[sql] brings mysql+pymysql and postgresql+psycopg, "
            "others are installed by their own name."
        ) from None
    except Exception as error:  # each driver has errors of its own
        raise FileError(f"the database {place} {_first(_CANNOT_CONNECT, error) or _unnamed(error)}.") from None
    try:
        yield connection
    finally:
        connection.close()
        engine.dispose()


def _begin(connection: Connection, kind: str, place: str) -> None:
    """Start the transaction; where the dialect cannot make it read-only, it is never committed."""
    from sqlalchemy.exc import SQLAlchemyError

    statements = {
        "postgresql": ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",),
        "sqlite": ("PRAGMA query_only = ON",),
        "mysql": (
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ),
    }
    try:
        for statement in statements.get("mysql" if kind == "mariadb" else kind, ()):
            connection.exec_driver_sql(statement)
    except SQLAlchemyError as error:
        raise FileError(f"the database {place} cannot be read: {_unnamed(error)}.") from None


def _load(
    con: duckdb.DuckDBPyConnection, connection: Connection, mapping: Mapping, entry: TableMapping, name: str
) -> RawTable:
    where = f"mapping {mapping.name!r}: the query of {entry.table.name}"
    with closing(_run(connection, entry.query or "", mapping, where)) as result:
        columns = list(result.keys())
        _must_have(columns, entry, where)
        declared = ", ".join(["_row BIGINT", *('"' + column.replace('"', '""') + '" VARCHAR' for column in columns)])
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({declared})")
        rows = 0
        for batch in _batches(result, where):
            texts = [pa.array([as_text(row[i]) for row in batch], pa.string()) for i in range(len(columns))]
            numbers = pa.array(range(rows + 1, rows + len(batch) + 1), pa.int64())
            con.register("incoming_batch", pa.Table.from_arrays([numbers, *texts], names=["_row", *columns]))
            con.execute(f"INSERT INTO {name} SELECT * FROM incoming_batch")
            con.unregister("incoming_batch")
            rows += len(batch)
    return RawTable(name, tuple(columns), rows, ())


def _must_have(columns: Sequence[str], entry: TableMapping, where: str) -> None:
    lowered = [column.lower() for column in columns]
    if len(set(lowered)) < len(columns) or "_row" in lowered:
        raise MappingError(f"{where} returns a column name twice, or one called _row; name each with AS.")
    missing = sorted(entry.reads - set(columns))
    if missing:
        raise MappingError(f"{where} does not return {', '.join(missing)}; it returns {', '.join(columns)}.")


def _run(connection: Connection, query: str, mapping: Mapping, where: str) -> Result[Any]:
    statement = _statement(query, mapping, where)
    try:
        result = connection.execution_options(stream_results=True, max_row_buffer=BATCH_ROWS).execute(statement)
    except Exception as error:  # drivers also fail on values: a date of the year 10000, bytes that are no text
        raise MappingError(f"{where} fails: {_safe_reason(error)}.") from None
    if not result.returns_rows:
        raise MappingError(f"{where} returns no rows; expected one SELECT.")
    return result


def _statement(query: str, mapping: Mapping, where: str) -> TextClause:
    """Bind the mapping's parameters that the query names; a list becomes the list of an IN."""
    from sqlalchemy import bindparam, text

    lists = [name for name, value in mapping.parameters.items() if isinstance(value, list)]
    for name in lists:  # SQLAlchemy brings the brackets of an IN along
        query = re.sub(rf"\(\s*:{re.escape(name)}\s*\)", f":{name}", query)
    statement = text(query)
    named = list(statement.compile().params)
    missing = [name for name in named if name not in mapping.parameters]
    if missing:
        raise MappingError(f"{where} asks for :{', :'.join(missing)}; set it under [parameters] in the mapping.")
    return statement.bindparams(
        *(bindparam(name, value=mapping.parameters[name], expanding=name in lists) for name in named)
    )


def _batches(result: Result[Any], where: str) -> Iterator[Sequence[Any]]:
    parts = result.partitions(BATCH_ROWS)
    while True:
        try:
            batch = next(parts, None)
        except Exception as error:  # as above: rows are read as they are asked for
            raise MappingError(f"{where} fails while its rows are read: {_safe_reason(error)}.") from None
        if batch is None:
            return
        yield batch


def _left_out(connection: Connection, mapping: Mapping) -> Iterator[str]:
    for what, query in mapping.left_out.items():
        where = f"mapping {mapping.name!r}: the query of left_out {what!r}"
        with closing(_run(connection, query, mapping, where)) as result:
            row = result.fetchone()
        count = row[0] if row else 0
        if count:
            yield f"{count:,} {what} left out."


def as_text(value: Any) -> str | None:
    """Write a database value as the text that a mapping reads; empty dates (year 1 or 0) as nothing."""
    if value is None or isinstance(value, str):
        return None if value and value.startswith("0000-00-00") else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (datetime, date)):
        if value.year <= 1:
            return None
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", errors="replace")
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value.isoformat() if isinstance(value, time) else str(value)


def _place(url: URL) -> str:
    """Host and database, never user or password."""
    host = f"{url.host}{f':{url.port}' if url.port else ''}/" if url.host else ""
    return f"{host}{url.database or ''}" or url.get_backend_name()


def _first(patterns: Sequence[tuple[str, str]], error: Exception) -> str | None:
    text = str(getattr(error, "orig", None) or error)
    return next((meaning for pattern, meaning in patterns if re.search(pattern, text, re.IGNORECASE)), None)


def _safe_reason(error: Exception) -> str:
    """What a driver says about names in the query; never its text about values."""
    text = str(getattr(error, "orig", None) or error)
    found = next((match for pattern in _WRONG_QUERY if (match := re.search(pattern, text, re.IGNORECASE))), None)
    if found:
        return found.group(0)
    return f"{_unnamed(error)}; if a value is the cause, cast its column to text in the query"


def _unnamed(error: Exception) -> str:
    kind = type(getattr(error, "orig", None) or error).__name__
    return f"the driver reports {kind}"
