"""A first look at a file that no mapping describes yet: how it is written, what its columns hold."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from features.errors import FileError
from features.records.aliases import roles_of
from features.records.excel import HEADER_WITHIN, Cell, sheet_cells, sheet_names, text_of_cell
from features.records.files import RawTable, detect_encoding, must_be_a_file
from features.records.mapping import Mapping
from features.records.sources import reader_for
from features.records.values import local_sql, text_of

_DELIMITERS = (",", "\t", ";", "|")
_LARGEST_VOCABULARY = 30
_YEARS = "BETWEEN 1880 AND 2100"
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p")
_DAYS = ("%Y%m%d", "%Y.%m.%d", "%Y年%m月%d日", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y",
         "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d/%m/%y", "%m/%d/%y")  # fmt: skip
FORMATS = (*(day + clock for day in _DAYS for clock in _CLOCKS), "%Y%m%d%H%M%S", "%Y年%m月%d日%H时%M分")
_SAMPLE = 2000  # distinct values on which formats are tried


@dataclass(frozen=True)
class Dates:
    """How a column's dates are written.

    Attributes
    ----------
    formats : tuple of str
        Formats beyond year-first ones, which are read anyway.
    other_order : str
        The format with day and month exchanged, if it fits as well.
    unread : int
        Values that no format reads.
    has_clock : bool
        Whether any value holds a time of day.
    ends_in_z : bool
        Whether values end in Z, which says UTC.
    """

    formats: tuple[str, ...]
    other_order: str
    unread: int
    has_clock: bool
    ends_in_z: bool


@dataclass(frozen=True)
class Look:
    """A loaded file and the settings that its mapping needs to read it."""

    con: duckdb.DuckDBPyConnection
    raw: RawTable
    settings: dict[str, str] = field(default_factory=dict)

    def words(self, column: str) -> list[str]:
        """The distinct values of a column, the frequent first; nothing if there are many."""
        found = self.con.execute(
            f"""SELECT {text_of(column)} AS word, count(*) FROM {self.raw.name} WHERE word IS NOT NULL
            GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_LARGEST_VOCABULARY + 1}"""
        ).fetchall()
        return [word for word, _ in found] if len(found) <= _LARGEST_VOCABULARY else []

    def count(self, condition: str) -> int:
        """Rows for which an SQL condition holds."""
        return int(self.con.execute(f"SELECT count(*) FROM {self.raw.name} WHERE {condition}").fetchall()[0][0])

    def distinct(self, *columns: str) -> int:
        """Distinct combinations of values."""
        listed = ", ".join(text_of(column) for column in columns)
        return int(self.con.execute(f"SELECT count(DISTINCT ({listed})) FROM {self.raw.name}").fetchall()[0][0])

    def dates(self, column: str) -> Dates:
        """Find the formats in which a column's dates are written."""
        text, formats, other_order = text_of(column), list[str](), ""
        self.con.execute(
            f"""CREATE OR REPLACE TEMP TABLE date_sample AS
            SELECT DISTINCT {text} AS text FROM {self.raw.name} WHERE {text} IS NOT NULL LIMIT {_SAMPLE}"""
        )
        unread = self._unread(formats)
        while unread and len(formats) < 3:
            fits = {form: unread - self._unread([*formats, form]) for form in FORMATS}
            best = max(fits, key=lambda form: fits[form])
            if not fits[best]:
                break
            swapped = best.replace("%d", "%_").replace("%m", "%d").replace("%_", "%m")
            if swapped != best and fits.get(swapped) == fits[best]:
                other_order = swapped
            formats.append(best)
            unread -= fits[best]
        local = local_sql(formats or ["%Y-%m-%d"], "UTC", text)
        return Dates(
            formats=tuple(formats),
            other_order=other_order,
            unread=self.count(f"{text} IS NOT NULL AND coalesce(year({local}) {_YEARS}, false) = false"),
            has_clock=self.count(f"date_trunc('day', {local}) <> {local}") > 0,
            ends_in_z=self.count(f"{text} LIKE '%Z'") > 0,
        )

    def _unread(self, formats: Sequence[str]) -> int:
        local = local_sql(formats or ["%Y-%m-%d"], "UTC", "text")
        sql = f"SELECT count(*) FROM date_sample WHERE coalesce(year({local}) {_YEARS}, false) = false"
        return int(self.con.execute(sql).fetchall()[0][0])


def look_at(con: duckdb.DuckDBPyConnection, path: Path, scratch: Path) -> Look:
    """Load a file as it seems to be written.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        Where it is loaded.
    path : Path
        The file.
    scratch : Path
        Folder for a transcoded copy.

    Returns
    -------
    Look

    Raises
    ------
    FileError
        If it cannot be read, or its first rows name no column that is known.
    """
    must_be_a_file(path)
    reader = reader_for(path)
    ending, settings, needed = path.suffix.lower(), dict[str, str](), list[str]()
    if ending in (".xlsx", ".xlsm", ".xls"):
        settings, needed = _workbook(path)
    elif ending != ".parquet":
        settings = _text(path)
    mapping = Mapping("draft", "UTC", (), **settings)  # type: ignore[arg-type]
    raw = reader(con, path, "looked_at", mapping, needed, scratch)
    if sum(bool(roles_of(column)) for column in raw.columns) < 2:
        raise FileError(
            f"{path.name}: no row names columns that are known, so nothing can be suggested. "
            "Is there a header line? docs/examples holds mappings to start from."
        )
    return Look(con, raw, settings)


def safe_name(header: str) -> bool:
    """Whether a name of a column may be written: a file without a header has a patient's row in its place."""
    return not re.search(r"\d{5}", header)


def _workbook(path: Path) -> tuple[dict[str, str], list[str]]:
    best: tuple[int, str, list[str]] = (0, "", [])
    names = sheet_names(path)
    for sheet in names:
        for row in sheet_cells(path, sheet)[:HEADER_WITHIN]:
            known = _known(row)
            if len(known) > best[0]:
                best = len(known), sheet, known
    _, sheet, known = best
    return ({"sheet": sheet} if sheet and sheet != names[0] else {}), known


def _known(row: Sequence[Cell]) -> list[str]:
    texts = [text_of_cell(cell).strip() for cell in row]
    return [text for text in texts if roles_of(text)]


def _text(path: Path) -> dict[str, str]:
    codec = detect_encoding(path)
    with path.open(encoding=codec, newline="") as stream:
        head = stream.readline()
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    split = {delimiter: next(csv.reader([head], delimiter=delimiter), []) for delimiter in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda d: (sum(bool(roles_of(name)) for name in split[d]), len(split[d]), d == usual))
    if len(split[best]) == 1 and len(head.split()) > 1:
        return {"format": "spaces"}
    return {} if best == usual or len(split[best]) == 1 else {"delimiter": best}
