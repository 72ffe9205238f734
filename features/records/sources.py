"""Which way in an export takes: the one place that chooses a reader by what the source is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from features.errors import FileError, MappingError
from features.records import visits
from features.records.excel import load_excel
from features.records.fhir import load_fhir
from features.records.files import RawTable, load_delimited
from features.records.formats import DATABASE_FORMATS
from features.records.mapping import Mapping, columns_in
from features.records.parquet import load_parquet
from features.records.plain import load_plain
from features.records.sql import is_database_url, load_queries
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


@dataclass(frozen=True)
class Loaded:
    """Everything one source holds, as text tables.

    Attributes
    ----------
    raws : dict of str to RawTable
        By the mapping's `file`.
    names : dict of str to str
        What each is called in the quarantine.
    parts : tuple of (str, int)
        Where records of several files are numbered through: each file's name,
        and the number before its first record.
    notes : tuple of str
        What the reader left out or assumed.
    """

    raws: dict[str | None, RawTable]
    names: dict[str | None, str]
    parts: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sources(self) -> list[str]:
        """Names under which rows of this source are quarantined."""
        return [name for name, _ in self.parts] or list(dict.fromkeys(self.names.values()))


def as_source(text: str) -> Path | str:
    """Tell a database URL, which stays text, from a path."""
    return text if is_database_url(text) else Path(text)


def load_system(con: duckdb.DuckDBPyConnection, source: Path | str, mapping: Mapping) -> Loaded:
    """Load a source whose mapping has a format of its own: a FHIR folder, or a database.

    Raises
    ------
    FileError
        If `source` is not what the format needs, or cannot be read.
    """
    if mapping.format in DATABASE_FORMATS:
        if isinstance(source, Path):
            raise FileError(
                f"mapping {mapping.name!r} reads a database; give its URL, such as mysql+pymysql://user@host/database."
            )
        queried, shown, notes = load_queries(con, source, mapping)
        return Loaded(queried, {name: f"{shown}: {name}" for name in queried}, notes=notes)
    if isinstance(source, str):
        raise FileError(f"mapping {mapping.name!r} reads a folder of NDJSON files, not a database.")
    folder = load_fhir(con, source, mapping.time_zone)
    raws = folder.raws
    unknown = [entry.file for entry in mapping.tables if entry.file not in raws]
    if unknown:
        raise MappingError(f"mapping {mapping.name!r}: FHIR gives {', '.join(map(str, raws))}, not {unknown[0]}.")
    for entry in mapping.tables:
        missing = sorted(entry.reads - set(raws[entry.file].columns))
        if missing:
            raise MappingError(
                f"mapping {mapping.name!r}: {entry.table.name} reads {', '.join(missing)}, "
                f"which {entry.file} does not have."
            )
    return Loaded(raws, dict.fromkeys(raws, "fhir"), folder.parts, folder.notes)


def locate(con: duckdb.DuckDBPyConnection, parts: Sequence[tuple[str, int]]) -> None:
    """Make ``set_aside``: the broken rows, under their own file's name and number where files were numbered through."""
    if not parts:
        con.execute("CREATE OR REPLACE TEMP VIEW set_aside AS SELECT * FROM broken")
        return
    con.execute("CREATE OR REPLACE TEMP TABLE parts (file VARCHAR, before BIGINT)")
    con.executemany("INSERT INTO parts VALUES (?, ?)", list(parts))
    con.execute(
        """CREATE OR REPLACE TEMP TABLE set_aside AS
        SELECT broken.* REPLACE (parts.file AS source, row_number - before AS row_number)
        FROM broken ASOF JOIN parts ON broken.row_number > parts.before"""
    )


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
