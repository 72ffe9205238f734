"""The tables of an Open Dental database, as SQL: what the simulator fills and the tests build."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import resources

# What Open Dental stores where there is nothing; timestamps cannot hold the year 1.
_EMPTY = {
    "date": "'0001-01-01'",
    "datetime": "'0001-01-01 00:00:00'",
    "time": "'00:00:00'",
    "timestamp": "'2020-01-01'",
}


def layout() -> dict[str, list[tuple[str, str]]]:
    """Return name and MySQL type of every column, by table; the first column is the key."""
    text = resources.files("features.simulator").joinpath("open_dental_tables.toml").read_text(encoding="utf-8")
    return {table: columns_of(columns) for table, columns in tomllib.loads(text).items()}


def columns_of(listed: str) -> list[tuple[str, str]]:
    """Split ``PatNum bigint(20), LName varchar(100)`` into names and types."""
    pairs = (column.strip().split(" ", 1) for column in re.split(r",\s+(?=\w+ [a-z])", listed.strip()))
    return [(name, kind) for name, kind in pairs]


def create_statements() -> Iterator[str]:
    """Yield a ``CREATE TABLE`` per table; nothing is nullable but text, as in Open Dental."""
    for table, columns in layout().items():
        declared = []
        for name, kind in columns:
            plain = re.split(r"\W", kind)[0]
            default = _EMPTY.get(plain, "''" if "char" in plain else "0")
            declared.append(f"`{name}` {kind}" + ("" if plain == "text" else f" NOT NULL DEFAULT {default}"))
        yield f"CREATE TABLE `{table}` ({', '.join(declared)}, PRIMARY KEY (`{columns[0][0]}`))"
