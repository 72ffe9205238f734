"""Excel workbooks in: one sheet, its header row, its cells as text."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import python_calamine

from features.errors import FileError
from features.records.files import RawTable, must_be_a_file, must_differ, must_have, named_columns
from features.records.text_table import fill_text_table

HEADER_WITHIN = 50  # rows from the top among which the header is looked for
_MOST_BYTES = 2 * 1024**3  # of an unpacked workbook
_MOST_CELLS = 60_000_000  # the reader holds the whole rectangle around the filled cells
_ROW, _WIDE = re.compile(rb'<row [^>]*?\br="(\d{1,9})"'), re.compile(rb' r="([A-Z]{2,4})\d')
_NARROW = 26

Cell = str | float | int | bool | date | datetime | time | timedelta


def load_excel(con: duckdb.DuckDBPyConnection, path: Path, name: str, *, sheet: str, needed: Sequence[str]) -> RawTable:
    """Load one sheet of a workbook into a DuckDB table of text columns.

    The header is the first row that holds all needed columns, so that blank
    rows and a title may stand above it. ``_row`` counts the rows below the
    header. Cells merged downwards count for all their rows.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        Where the table is made.
    path : Path
        The workbook.
    name : str
        Name of the table.
    sheet : str
        Name of the sheet; the first one if empty.
    needed : sequence of str
        Columns the mapping reads.

    Returns
    -------
    RawTable

    Raises
    ------
    FileError
        If it is no workbook, has no such sheet, or no row names the needed columns.
    """
    cells = sheet_cells(path, sheet)
    place = _header_row(path.name, cells, needed)
    header = named_columns(_trimmed(cells, place))
    must_differ(path.name, header)
    rows = fill_text_table(con, name, header, _rows(cells[place + 1 :], len(header)))
    if not rows:
        raise FileError(f"{path.name} has a header but no rows; nothing to import.")
    return RawTable(name, tuple(header), rows, ())


def sheet_cells(path: Path, sheet: str) -> list[list[Cell]]:
    """Read all cells of a sheet, from its first row and column on.

    Raises
    ------
    FileError
        If it is no workbook, too large, protected, or has no such sheet.
    """
    with _opened(path) as workbook:
        if sheet and sheet not in workbook.sheet_names:
            raise FileError(
                f"{path.name} has no sheet {sheet!r}; it has {', '.join(workbook.sheet_names)}. "
                "Correct sheet in the mapping."
            )
        chosen = workbook.get_sheet_by_name(sheet) if sheet else workbook.get_sheet_by_index(0)
        cells: list[list[Cell]] = chosen.to_python(skip_empty_area=False)
        _fill_merged(cells, chosen.merged_cell_ranges or [])
        return cells


def sheet_names(path: Path) -> list[str]:
    """Names of a workbook's sheets, in its order."""
    with _opened(path) as workbook:
        return list(workbook.sheet_names)


@contextmanager
def _opened(path: Path) -> Iterator[python_calamine.CalamineWorkbook]:
    must_be_a_file(path)
    content = path.read_bytes()
    _must_fit(path.name, content)
    try:
        with python_calamine.load_workbook(io.BytesIO(content)) as workbook:
            yield workbook
    except python_calamine.PasswordError:
        raise FileError(f"{path.name} is protected by a password; save it without one.") from None
    except FileError:
        raise
    except BaseException as error:
        # Rust's panics are no Exceptions; the reader's messages may quote a cell.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise FileError(
            f"{path.name} is no whole Excel workbook; open it in Excel and save it again as .xlsx, or as CSV (UTF-8)."
        ) from None


def text_of_cell(cell: Cell) -> str:
    """A cell as text: dates year first, whole numbers without a point, at most the 15 digits that Excel holds."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, (int, float)):
        return f"{Decimal(f'{cell:.15g}'):f}" if cell == cell and abs(cell) != float("inf") else ""
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    if isinstance(cell, timedelta):
        return str(Decimal(str(cell.total_seconds() / 86400)))
    return cell.isoformat()


def _must_fit(shown: str, content: bytes) -> None:
    """Refuse what would not fit in memory: a small archive can unpack to, or a stray cell span, any size."""
    if not content.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sheets = [entry for entry in archive.infolist() if entry.filename.startswith("xl/worksheets/")]
            unpacked = sum(entry.file_size for entry in archive.infolist())
            cells = 0 if unpacked > _MOST_BYTES else max((_area(archive.read(entry)) for entry in sheets), default=0)
    except Exception:  # whatever is wrong with the archive, the reader says that it is no workbook
        return
    if unpacked > _MOST_BYTES or cells > _MOST_CELLS:
        raise FileError(
            f"{shown} is too large for a workbook to be read whole (or a stray cell lies far outside its table); "
            "save the table as CSV (UTF-8)."
        )


def _area(sheet: bytes) -> int:
    """Cells in the rectangle from the first cell to the outermost one."""
    rows = max((int(row) for row in _ROW.findall(sheet)), default=1)
    columns = _NARROW
    for letters in set(_WIDE.findall(sheet)):
        number = 0
        for letter in letters:
            number = number * 26 + letter - 64
        columns = max(columns, number)
    return rows * columns


def _fill_merged(cells: list[list[Cell]], ranges: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    budget = sum(len(row) for row in cells)
    for (top, left), (bottom, right) in ranges:
        if left != right or top >= len(cells):
            continue
        last = min(bottom, len(cells) - 1)
        budget -= max(last - top, 0)
        if budget < 0:  # overlapping ranges: no workbook that Excel wrote
            return
        for row in cells[top + 1 : last + 1]:
            if left < len(row):
                row[left] = cells[top][left]


def _header_row(shown: str, cells: Sequence[Sequence[Cell]], needed: Sequence[str]) -> int:
    best, most = -1, 0
    for place, row in enumerate(cells[:HEADER_WITHIN]):
        names = {text_of_cell(cell).strip() for cell in row} - {""}
        held = len(names & set(needed)) if needed else len(names)
        if held > most:
            best, most = place, held
        if names and held >= len(set(needed)):
            return place
    if best < 0 or most * 2 < len(needed):
        raise FileError(
            f"{shown}: none of the first {HEADER_WITHIN} rows of the sheet names the columns that the mapping reads "
            f"({', '.join(needed)}). Choose another sheet, or the mapping made for this file."
        )
    header = [name for name in (text_of_cell(cell).strip() for cell in cells[best]) if name]
    must_have(f"{shown}, row {best + 1}", header, needed)
    return best


def _trimmed(cells: Sequence[Sequence[Cell]], place: int) -> list[str]:
    """The header without the blank columns at its end that no row fills."""
    header = [text_of_cell(cell).strip() for cell in cells[place]]
    while header and not header[-1]:
        last = len(header) - 1
        if any(len(row) > last and text_of_cell(row[last]).strip() for row in cells[place + 1 :]):
            break
        header.pop()
    return header


def _rows(cells: Sequence[Sequence[Cell]], width: int) -> Iterator[tuple[int, list[str]]]:
    for number, row in enumerate(cells, start=1):
        texts = [text_of_cell(cell) for cell in row[:width]]
        if any(text.strip() for text in texts):
            yield number, texts + [""] * (width - len(texts))
