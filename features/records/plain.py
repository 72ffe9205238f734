"""Text files without a delimiter: columns at fixed places, or words between spaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import duckdb

from features.errors import FileError
from features.records.files import (
    RawTable,
    Rejected,
    detect_encoding,
    guessed_note,
    must_be_a_file,
    must_differ,
    must_have,
)
from features.records.mapping import Mapping
from features.records.text_table import fill_text_table


def load_plain(
    con: duckdb.DuckDBPyConnection, path: Path, name: str, mapping: Mapping, needed: Sequence[str], scratch: Path
) -> RawTable:
    """Load a text file whose mapping says ``format = "fixed"`` or ``"spaces"``.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        Where the table is made.
    path : Path
        The file.
    name : str
        Name of the table.
    mapping : Mapping
        Its `fixed` places (from 1, both ends included), `skip_lines` and `encoding`.
    needed : sequence of str
        Columns the mapping reads.
    scratch : Path
        Not needed: nothing is copied.

    Returns
    -------
    RawTable

    Raises
    ------
    FileError
        If the file is missing, empty, of another encoding, or lacks a needed column.
    """
    must_be_a_file(path)
    codec = detect_encoding(path) if mapping.encoding == "auto" else mapping.encoding
    try:
        with path.open(encoding=codec) as stream:
            lines = (line.rstrip("\n") for line in stream)
            for _ in range(mapping.skip_lines):
                next(lines, None)
            header = list(mapping.fixed) if mapping.format == "fixed" else next(lines, "").split()
            must_differ(path.name, header)
            must_have(path.name, header, needed)
            split = _at_places(mapping) if mapping.format == "fixed" else _at_spaces(len(header))
            rejected: list[Rejected] = []
            rows = fill_text_table(con, name, header, _split(lines, split, rejected))
    except (UnicodeError, LookupError):
        raise FileError(f"{path.name} cannot be read as {codec}. Set encoding in the mapping.") from None
    if rows + len(rejected) == 0:
        raise FileError(f"{path.name} has no rows after its header; nothing to import.")
    return RawTable(
        name, tuple(header), rows + len(rejected), tuple(rejected), guessed_note(path, mapping.encoding, codec)
    )


def _split(
    lines: Iterator[str], split: Callable[[str], list[str] | str], rejected: list[Rejected]
) -> Iterator[tuple[int, Sequence[str]]]:
    number = 0
    for line in lines:
        if not line.strip():
            continue
        number += 1
        found = split(line)
        if isinstance(found, str):
            rejected.append(Rejected(number, found))
        else:
            yield number, found


def _at_places(mapping: Mapping) -> Callable[[str], list[str] | str]:
    spans = list(mapping.fixed.values())
    shortest = max(first for first, _ in spans)

    def split(line: str) -> list[str] | str:
        if len(line) < shortest:
            return f"the row is too short ({shortest} characters or more expected)"
        return [line[first - 1 : last].strip() for first, last in spans]

    return split


def _at_spaces(count: int) -> Callable[[str], list[str] | str]:
    def split(line: str) -> list[str] | str:
        words = line.split()
        if len(words) == count:
            return words
        return f"the row has too {'few' if len(words) < count else 'many'} fields ({count} expected)"

    return split
