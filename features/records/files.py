"""Text files in: their encoding, their delimiter, their header, their rows."""

from __future__ import annotations

import csv
import glob
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from features.errors import FileError
from features.records.values import quoted

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_FAULTS = {"MISSING COLUMNS": "too few fields", "TOO MANY COLUMNS": "too many fields"}
_ARCHIVE = b"PK\x03\x04"  # .xlsx, .ods, .zip
_MIXED_SHARE = 0.1  # share of UTF-8 lines among non-ASCII ones from which on a file counts as mixed


@dataclass(frozen=True)
class Rejected:
    """A record that does not have the header's number of fields."""

    row: int
    reason: str


@dataclass(frozen=True)
class RawTable:
    """A file as loaded into DuckDB: table `name`, ``_row`` plus text columns."""

    name: str
    columns: tuple[str, ...]
    rows: int
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...] = ()


def detect_encoding(path: Path) -> str:
    """Tell the encoding of a text file: UTF-8, UTF-16 or GB18030.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        A codec name.

    Raises
    ------
    FileError
        If the bytes fit none of them, or lines of two encodings are mixed.
    """
    with path.open("rb") as stream:
        head = stream.read(4)
        for mark, codec in _BYTE_ORDER_MARKS:
            if head.startswith(mark):
                return codec
        if head.startswith(_ARCHIVE):
            raise FileError(
                f"{path.name} is an Excel workbook or another archive; give it the ending .xlsx, "
                "or save its sheet as CSV (UTF-8)."
            )
    if _is_plain(path):
        return "utf-8"
    broken, utf8_lines, other_lines, is_mixed = None, 0, 0, False
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if b"\0" in line:
                raise FileError(
                    f"{path.name}, line {number}: zero bytes; this is no text file, or UTF-16 without its mark. "
                    "Save it as CSV (UTF-8), or name its encoding in the mapping (encoding = ...)."
                )
            if line.isascii():
                continue
            if _decodes(line, "utf-8"):
                utf8_lines += 1
                is_mixed = is_mixed or _is_surely_utf8(line)
            else:
                broken = broken or number
                other_lines += 1
                if not _decodes(line, "gb18030"):
                    raise FileError(
                        f"{path.name}, line {number}: the bytes are neither UTF-8 nor GB18030. "
                        "Save the file as UTF-8, or name its encoding in the mapping (encoding = ...)."
                    )
    if broken is None:
        return "utf-8"
    if is_mixed or utf8_lines > _MIXED_SHARE * (utf8_lines + other_lines):
        raise FileError(
            f"{path.name} mixes encodings: {utf8_lines} lines are UTF-8, {other_lines} are not (first: line {broken}). "
            "Export the file again in one encoding, or name its encoding in the mapping (encoding = ...)."
        )
    return "gb18030"


def load_delimited(
    con: duckdb.DuckDBPyConnection,
    path: Path,
    name: str,
    *,
    delimiter: str,
    encoding: str,
    needed: Sequence[str],
    scratch: Path,
) -> RawTable:
    """Load a delimited text file into a DuckDB table of text columns.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        Where the table is made.
    path : Path
        The file.
    name : str
        Name of the table; it gets ``_row`` (number of the record after the
        header, from 1) and one VARCHAR column per column of the file.
    delimiter : str
        One character.
    encoding : str
        A codec name, or ``"auto"``.
    needed : sequence of str
        Columns the mapping reads.
    scratch : Path
        Folder for a transcoded copy, where one is needed.

    Returns
    -------
    RawTable

    Raises
    ------
    FileError
        If the file is missing, a folder, empty, of another encoding or
        delimiter, or lacks a needed column.
    """
    must_be_a_file(path)
    codec = detect_encoding(path) if encoding == "auto" else encoding
    readable = path if (encoding, codec) == ("auto", "utf-8") else _transcoded(path, codec, scratch)
    header = _header(readable, path.name, delimiter)
    must_have(path.name, header, needed, delimiter)
    must_differ(path.name, header)
    try:
        _read(con, readable, name, header, delimiter)
    except duckdb.Error:  # its text quotes the line, which may hold a name
        raise FileError(f"{path.name} is not delimited text: check its quotes and its encoding.") from None
    rejected = tuple(_rejected(con, path.name, len(header)))
    _renumber(con, name, rejected)
    rows = con.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
    if rows + len(rejected) == 0:
        raise FileError(f"{path.name} has a header but no rows; nothing to import.")
    return RawTable(name, tuple(header), rows + len(rejected), rejected, guessed_note(path, encoding, codec))


def _read(con: duckdb.DuckDBPyConnection, path: Path, name: str, header: Sequence[str], delimiter: str) -> None:
    columns = ", ".join(f"{quoted(column)}: 'VARCHAR'" for column in header)
    con.execute("DROP TABLE IF EXISTS reject_errors")
    con.execute("DROP TABLE IF EXISTS reject_scans")
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE {name} AS
        SELECT row_number() OVER () AS _row, * FROM read_csv(
            {quoted(glob.escape(str(path)))}, auto_detect=false, header=true, delim={quoted(delimiter)}, quote='"',
            escape='"', columns={{{columns}}}, null_padding=false, store_rejects=true, rejects_limit=0)"""
    )


def _is_plain(path: Path) -> bool:
    """Whether a file is ASCII text throughout: most of the large ones are, and this is soon seen."""
    with path.open("rb") as stream:
        return all(block.isascii() and b"\0" not in block for block in iter(lambda: stream.read(1 << 20), b""))


def _is_surely_utf8(line: bytes) -> bool:
    """Pairs of GB18030 now and then pass for accented letters of UTF-8, hardly ever for a line of its Chinese ones."""
    return all(character >= "\u0800" for character in line.decode("utf-8") if not character.isascii())


def guessed_note(path: Path, encoding: str, codec: str) -> tuple[str, ...]:
    """What the report says of an encoding that the bytes allow but do not prove."""
    if encoding != "auto" or codec != "gb18030":
        return ()
    note = (
        f"{path.name} was read as GB18030, which is a guess: other 8-bit encodings can pass for it. "
        'If its names look wrong, set the encoding in the mapping, such as encoding = "cp1252".'
    )
    return (note,)


def _decodes(line: bytes, codec: str) -> bool:
    try:
        line.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def must_be_a_file(path: Path) -> None:
    """Refuse a folder, a missing file and an empty one."""
    if path.is_dir():
        raise FileError(f"{path} is a folder; this mapping describes one file. Give the file's path.")
    if not path.exists():
        raise FileError(f"{path} does not exist.")
    if path.stat().st_size == 0:
        raise FileError(f"{path.name} is empty; expected a header line and rows.")


def _transcoded(path: Path, codec: str, scratch: Path) -> Path:
    copy = scratch / f"{path.stem}.utf-8{path.suffix}"
    try:
        with (
            path.open(encoding="utf-8-sig" if codec.lower() in ("utf-8", "utf8") else codec, newline="") as source,
            copy.open("w", encoding="utf-8", newline="") as target,
        ):
            shutil.copyfileobj(source, target)
    except (UnicodeError, LookupError) as error:
        reason = getattr(error, "reason", None) or f"unknown encoding {codec!r}"
        raise FileError(f"{path.name} cannot be read as {codec}: {reason}. Set encoding in the mapping.") from None
    return copy


def _header(path: Path, shown: str, delimiter: str) -> list[str]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header = [name.strip() for name in next(csv.reader(stream, delimiter=delimiter), [])]
    except csv.Error:
        raise FileError(f"{shown}: the first line cannot be read as column names; check its quotes.") from None
    if not any(header):
        raise FileError(f"{shown}: the first line is blank; expected the column names.")
    return named_columns(header)


def named_columns(header: Sequence[str]) -> list[str]:
    """The header, with ``column N`` for what is blank in it."""
    return [name or f"column {number}" for number, name in enumerate(header, start=1)]


def must_differ(shown: str, header: Sequence[str]) -> None:
    """Refuse repeated names; DuckDB does not tell upper and lower case apart."""
    times = Counter(name.lower() for name in header)
    repeated = [name for name in header if times[name.lower()] > 1]
    if repeated:
        named = f"column {', '.join(repeated)}" if not any(re.search(r"\d{4}", name) for name in header) else "a column"
        raise FileError(f"{shown}: {named} stands more than once in the header.")


def must_have(shown: str, header: Sequence[str], needed: Sequence[str], delimiter: str = "") -> None:
    """Refuse a header that lacks a needed column; say so without quoting what may be a patient's row."""
    missing = [name for name in needed if name not in header]
    if not missing:
        return
    if len(header) == 1 and delimiter:
        for other, word in _DELIMITERS.items():
            if other != delimiter and other in header[0]:
                raise FileError(
                    f"{shown}: expected columns separated by {_DELIMITERS.get(delimiter, delimiter)!r}, "
                    f"but the header looks separated by {word!r}. Set delimiter = {other!r} in the mapping."
                )
    # The line may be a patient's rather than a header: then it is not quoted.
    if len(missing) * 2 > len(needed) or any("\n" in name for name in header):
        raise FileError(
            f"{shown}: the first line does not name the columns that the mapping reads ({', '.join(missing)}). "
            "Export the file with a header line, or choose the mapping made for it."
        )
    # A lost line end joins the header with a patient's row: names of columns hold no long numbers.
    is_header = not any(re.search(r"\d{4}", name) for name in header)
    listed = f"The file has: {', '.join(header)}. " if is_header else ""
    raise FileError(
        f"{shown}: the mapping reads {', '.join(missing)}, which the file does not have. "
        f"{listed}Correct the mapping, or export the missing column."
    )


def _rejected(con: duckdb.DuckDBPyConnection, shown: str, fields: int) -> Iterator[Rejected]:
    """Records DuckDB set aside; the offending line itself is never read (it holds personal data)."""
    seen = con.execute(
        """SELECT line, any_value(CAST(error_type AS VARCHAR)), bool_or(contains(csv_line, chr(10)))
        FROM reject_errors GROUP BY line ORDER BY line"""
    ).fetchall()
    for line, kind, is_many_lines in seen:
        if kind == "UNQUOTED VALUE" and is_many_lines:
            raise FileError(
                f"{shown}, row {line - 1}: a quote is opened and never closed; the rows after it cannot be told apart. "
                "Correct the row, or export the file again."
            )
        what = _FAULTS.get(kind)
        yield Rejected(
            row=line - 1, reason=f"the row has {what} ({fields} expected)" if what else "the row's quotes do not match"
        )


def _renumber(con: duckdb.DuckDBPyConnection, name: str, rejected: Sequence[Rejected]) -> None:
    """Make ``_row`` count the records of the file, the rejected ones included."""
    if not rejected:
        return
    good_before = ", ".join(f"({bad.row - 1 - index})" for index, bad in enumerate(rejected))
    con.execute(
        f"""UPDATE {name} SET _row = _row + (
            SELECT count(*) FROM (VALUES {good_before}) AS rejects(good_before) WHERE rejects.good_before < _row)"""
    )
