"""Which way in an export takes: the one place that chooses a reader by what the source is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

from features.errors import FileError, MappingError
from features.records import visits
from features.records.excel import load_excel
from features.records.files import RawTable, load_delimited
from features.records.mapping import Mapping, columns_in
from features.records.parquet import load_parquet
from features.records.plain import load_plain
from features.records.values import cents_sql, day_sql, id_sql, name_of, text_of, whole_sql

# con, path, table name, mapping, columns the mapping reads, scratch folder -> the loaded text table
Reader = Callable[[duckdb.DuckDBPyConnection, Path, str, Mapping, Sequence[str], Path], RawTable]


def reader_for(path: Path) -> Reader:
    """Choose the reader of one file by its ending.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    callable
        Loads the file into a DuckDB table of text columns, whatever it was.

    Raises
    ------
    FileError
        If nothing reads such a file.
    """
    ending = path.suffix.lower()
    if ending in READERS or path.is_dir() or not path.exists():
        return READERS.get(ending, _text_file)
    raise FileError(
        f"{path.name}: no reader for {ending or 'files without an ending'}; there are {', '.join(READERS)}."
    )


def delimiter_of(path: Path, mapping: Mapping) -> str:
    """The mapping's delimiter, or else the one that the file's ending stands for."""
    return mapping.delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")


def _text_file(
    con: duckdb.DuckDBPyConnection, path: Path, name: str, mapping: Mapping, needed: Sequence[str], scratch: Path
) -> RawTable:
    if mapping.sheet:
        raise MappingError(f"mapping {mapping.name!r} names a sheet, but {path.name} is no workbook; remove sheet.")
    if mapping.format != "delimited":
        return _with_visits(con, mapping, load_plain(con, path, name, mapping, needed, scratch))
    raw = load_delimited(
        con,
        path,
        name,
        delimiter=delimiter_of(path, mapping),
        encoding=mapping.encoding,
        needed=needed,
        scratch=scratch,
    )
    return _with_visits(con, mapping, raw)


def _workbook(
    con: duckdb.DuckDBPyConnection, path: Path, name: str, mapping: Mapping, needed: Sequence[str], scratch: Path
) -> RawTable:
    _must_be_delimited(path, mapping)
    return _with_visits(con, mapping, load_excel(con, path, name, sheet=mapping.sheet, needed=needed))


def _parquet(
    con: duckdb.DuckDBPyConnection, path: Path, name: str, mapping: Mapping, needed: Sequence[str], scratch: Path
) -> RawTable:
    _must_be_delimited(path, mapping)
    if mapping.sheet:
        raise MappingError(f"mapping {mapping.name!r} names a sheet, but {path.name} is no workbook; remove sheet.")
    return _with_visits(con, mapping, load_parquet(con, path, name, needed=needed))


def _must_be_delimited(path: Path, mapping: Mapping) -> None:
    if mapping.format != "delimited":
        raise MappingError(
            f'mapping {mapping.name!r} says format = "{mapping.format}", which is for text files; '
            f"{path.name} is none. Remove format, or give the text file."
        )


def _with_visits(con: duckdb.DuckDBPyConnection, mapping: Mapping, raw: RawTable) -> RawTable:
    """Add the columns that the short form for visits reads: numbers within patient and day, in file order."""
    given = mapping.visits
    if given is None:
        return raw
    columns = set(raw.columns)
    absent = sorted(({given.patient, given.date} | (columns_in(given.where) if given.where else set())) - columns)
    if absent:
        raise FileError(f"the mapping's [visits] reads {', '.join(absent)}, which the file does not have.")
    patient, day = id_sql(text_of(given.patient)), day_sql(mapping, text_of(given.date))
    stem = f"concat_ws('|', {patient}, strftime({day}, '%Y-%m-%d')"
    where = f"coalesce(TRY(({given.where}\n)), false)" if given.where else "true"
    amount = (cents_sql if given.unit == "major" else whole_sql)(text_of(given.amount)) if given.amount else "NULL"
    visit = "1" if given.is_one_a_day else name_of(visits.NUMBER)
    numbered = f"""SELECT *, {where} AS {name_of(visits.IS_VISIT)},
        row_number() OVER (PARTITION BY {patient}, {day}, {where} ORDER BY _row) AS {name_of(visits.NUMBER)},
        {stem}, row_number() OVER (PARTITION BY {patient}, {day} ORDER BY _row)) AS {name_of(visits.ENTRY_ID)},
        CASE WHEN {amount} < 0 THEN 'refund' ELSE 'payment' END AS {name_of(visits.KIND)} FROM {raw.name}"""
    try:
        con.execute(
            f"""CREATE OR REPLACE TEMP TABLE {raw.name} AS SELECT *, {stem}, {visit}) AS {name_of(visits.VISIT_ID)},
            CASE WHEN {name_of(visits.IS_VISIT)} THEN {stem}, {visit}) END AS {name_of(visits.PAID_FOR)}
            FROM ({numbered}) ORDER BY _row"""
        )
    except duckdb.Error:  # its text may quote a value
        raise MappingError(
            f"mapping {mapping.name!r}: the visits cannot be told apart; check where and the formats of the date."
        ) from None
    return raw


READERS: dict[str, Reader] = {
    ".csv": _text_file,
    ".txt": _text_file,
    ".tsv": _text_file,
    ".dat": _text_file,
    ".xlsx": _workbook,
    ".xlsm": _workbook,
    ".xls": _workbook,
    ".parquet": _parquet,
}
