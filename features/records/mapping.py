"""Mapping files: how the columns of an export become the contract's columns.

A mapping is TOML. ``docs/how-to/import.md`` explains it with examples; every
column of a table takes one of these forms::

    patient_id  = "PatientId"                                   a column as it is
    sex         = { column = "Gender", values = { F = "female" } }   with its values translated
    birth_year  = { age = "Age", at = "AppointmentDay" }        an age at a date
    direction   = { value = "out" }                             the same for every row
    starts_at   = { day = "date" }                              the day alone, at midnight
    fee_cents   = { column = "实收", unit = "major" }            an amount in yuan rather than fen
    starts_at   = { sql = "..." }                               computed from the row's columns

A file that holds visits alone has a short form, ``[visits]`` (`features.records.visits`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import sqlglot
from sqlglot import exp

from features.errors import MappingError
from features.records.formats import SYSTEM_FORMATS, SYSTEM_SETTINGS, built_in, with_built_in, wrong_system_settings
from features.records.merging import MergeSource, parse_merges
from features.records.schema import Table
from features.records.tables import TABLES
from features.records.visits import DERIVED, Visits, expand


@dataclass(frozen=True)
class ColumnSource:
    """Where one contract column comes from; exactly one of the first five is set."""

    column: str | None = None
    value: str | None = None
    sql: str | None = None
    age: str | None = None
    day: str | None = None
    at: str | None = None
    unit: str = ""
    values: MappingType[str, str] = field(default_factory=dict)

    @property
    def reads(self) -> frozenset[str]:
        """Columns of the file that this needs."""
        named = {name for name in (self.column, self.age, self.day, self.at) if name}
        return frozenset((named | (columns_in(self.sql) if self.sql else set())) - DERIVED)


@dataclass(frozen=True)
class TableMapping:
    """How one table of the contract is read from one file."""

    table: Table
    columns: MappingType[str, ColumnSource]
    file: str | None = None
    where: str | None = None
    query: str | None = None

    @property
    def reads(self) -> frozenset[str]:
        """Columns of the file that this table needs."""
        used = set().union(*(source.reads for source in self.columns.values()))
        return frozenset((used | (columns_in(self.where) if self.where else set())) - DERIVED)


@dataclass(frozen=True)
class Mapping:
    """A whole mapping file.

    Attributes
    ----------
    name, time_zone : str
        Of the practice; the zone of its wall-clock times.
    tables : tuple of TableMapping
        How each table is filled.
    delimiter : str
        Of a delimited file; empty: a tab for ``.tsv``, else a comma.
    encoding : str
        Of a text file; found out by default.
    format : str
        Of a text file: ``delimited``, ``spaces`` or ``fixed``.
    sheet : str
        Of a workbook; its first sheet by default.
    skip_lines : int
        Lines before the header (``spaces``) or before the first row (``fixed``).
    fixed : mapping of str to pair of int
        First and last character of each column, from 1, for ``fixed``.
    datetime_formats, date_formats : tuple of str
        Tried in order; what is written year first is read in any case.
    visits : Visits, optional
        The short form for visits, if the mapping has it.
    """

    name: str
    time_zone: str
    tables: tuple[TableMapping, ...]
    delimiter: str = ""
    encoding: str = "auto"
    datetime_formats: tuple[str, ...] = (
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%d",
    )
    date_formats: tuple[str, ...] = ("%Y-%m-%d",)
    # One of `features.records.formats.FORMATS`; files of columns, or a whole system.
    format: str = "delimited"
    sheet: str = ""
    skip_lines: int = 0
    fixed: MappingType[str, tuple[int, int]] = field(default_factory=dict)
    visits: Visits | None = None
    merges: MergeSource | None = None
    parameters: MappingType[str, Any] = field(default_factory=dict)
    left_out: MappingType[str, str] = field(default_factory=dict)

    @property
    def is_iso(self) -> bool:
        """Whether moments are ISO 8601 text, with or without an offset, whatever the formats say."""
        return self.format in SYSTEM_FORMATS

    @property
    def files(self) -> tuple[str | None, ...]:
        """File names the mapping speaks of; ``(None,)`` where it describes one file of any name."""
        return tuple(dict.fromkeys(table.file for table in self.tables))


_OPTIONS = {"delimiter", "encoding", "datetime_formats", "date_formats", "sheet", "skip_lines"} | SYSTEM_SETTINGS
_TOP = _OPTIONS | {"name", "time_zone", "fixed", "visits", "tables", "merges"}
_ENTRY = {"columns", "file", "where", "query"}
_FORMS = {"column", "value", "sql", "age", "at", "day", "unit", "values"}


def load_mapping(path: Path, time_zone: str | None = None) -> Mapping:
    """Read and check a mapping file.

    Parameters
    ----------
    path : Path
        A TOML file, or the name of a built-in mapping (``fhir``, ``open_dental``).
    time_zone : str, optional
        The practice's zone, for a mapping that names none.

    Returns
    -------
    Mapping

    Raises
    ------
    MappingError
        If it is not TOML, names a table or column that the contract does not
        have, or leaves a required column without a source. All problems of the
        file are named together.
    """
    content = _content(path, time_zone)
    problems: list[str] = [f"unknown setting {name!r}" for name in content if name not in _TOP]
    problems.extend(_wrong_settings(content))
    problems.extend(wrong_system_settings(content))
    sections, visits = _section(content.get("tables")), None
    if "visits" in content:
        visits, expanded = expand(content["visits"], problems)
        if visits and visits.where:
            _must_parse("visits.where", visits.where, problems)
        problems.extend(f"[visits] fills {name}; drop [tables.{name}]" for name in expanded if name in sections)
        sections = {**expanded, **sections}
    tables = [_table(name, entry, problems) for name, entry in sections.items()]
    if not tables:
        problems.append("no [tables.NAME] section; say which table the file fills, e.g. [tables.appointments]")
    merges = parse_merges(content.get("merges"), problems)
    if problems:
        raise MappingError(f"mapping {path}: " + "; ".join(problems) + ".")
    options: dict[str, Any] = {
        key: tuple(content[key]) if isinstance(content[key], list) else content[key]
        for key in _OPTIONS
        if key in content
    }
    return Mapping(
        name=content.get("name", path.stem),
        time_zone=content["time_zone"],
        tables=tuple(table for table in tables if table),
        merges=merges,
        fixed={name: (span[0], span[1]) for name, span in content.get("fixed", {}).items()},
        visits=visits,
        **options,
    )


def _content(path: Path, time_zone: str | None) -> dict[str, Any]:
    try:
        given = built_in(str(path)) if not path.exists() else None
        return with_built_in(given or tomllib.loads(path.read_text(encoding="utf-8")), time_zone)
    except FileNotFoundError:
        raise MappingError(f"mapping {path} does not exist; docs/examples holds mappings to start from.") from None
    except IsADirectoryError:
        raise MappingError(f"mapping {path} is a folder; expected a TOML file.") from None
    except OSError as error:
        raise MappingError(f"mapping {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"mapping {path} is not TOML: {error}") from None


def columns_in(sql: str) -> set[str]:
    """Names of the columns that a computed column reads.

    Raises
    ------
    MappingError
        If `sql` is not one expression over the columns of a row.
    """
    try:
        trees = sqlglot.parse(sql, dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise MappingError(f"computed column {sql!r} is not an SQL expression: {reason}") from None
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, exp.Condition) or tree.find(exp.Query, exp.Table, exp.AggFunc, exp.Window):
        raise MappingError(f"computed column {sql!r} must be one expression over the row's columns, not a query")
    return {column.name for column in tree.find_all(exp.Column)}


def _wrong_settings(content: dict[str, Any]) -> Iterator[str]:
    if content.get("time_zone") not in sorted(available_timezones()):
        yield "time_zone must be a zone of the IANA database, such as Asia/Shanghai"
    if not isinstance(content.get("name", ""), str):
        yield "name must be text"
    delimiter = content.get("delimiter", ",")
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        yield "delimiter must be one character"
    encoding = content.get("encoding", "auto")
    if not isinstance(encoding, str) or not encoding:
        yield 'encoding must be "auto" or the name of one, such as gb18030'
    if not isinstance(content.get("sheet", ""), str):
        yield "sheet must be the name of a sheet"
    skip = content.get("skip_lines", 0)
    if not isinstance(skip, int) or isinstance(skip, bool) or skip < 0:
        yield "skip_lines must be a whole number"
    yield from _wrong_spans(content)
    for name in ("datetime_formats", "date_formats"):
        formats = content.get(name, ["%Y"])
        if not isinstance(formats, list) or not formats or not all(isinstance(form, str) for form in formats):
            yield f'{name} must be a list of formats, such as ["%Y-%m-%d"]'
    if not isinstance(content.get("tables", {}), dict):
        yield "tables must be sections, such as [tables.appointments]"


def _wrong_spans(content: dict[str, Any]) -> Iterator[str]:
    spans = content.get("fixed", {})
    if (content.get("format") == "fixed") != bool(spans):
        yield 'format = "fixed" and a section [fixed] with the position of every column belong together'
    for name, span in spans.items() if isinstance(spans, dict) else [("", None)]:
        if not (
            isinstance(span, list)
            and len(span) == 2
            and all(type(place) is int for place in span)
            and 1 <= span[0] <= span[1]
        ):
            yield f"fixed.{name} must be the column's first and last character, counted from 1, such as [2, 6]"


def _section(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _table(name: str, given: Any, problems: list[str]) -> TableMapping | None:
    if name not in TABLES:
        problems.append(f"unknown table {name!r} (the contract has {', '.join(TABLES)})")
        return None
    table, entry = TABLES[name], _section(given)
    columns = _section(entry.get("columns"))
    for key in ("file", "where", "query"):
        if not isinstance(entry.get(key, ""), str):
            problems.append(f"{name}: {key} must be text")
            entry = {**entry, key: None}
    if entry.get("where"):
        _must_parse(f"{name}.where", entry["where"], problems)
    unknown = sorted(set(columns) - set(table.column_names))
    if unknown:
        problems.append(f"{name} has no column {', '.join(unknown)} (it has {', '.join(table.column_names)})")
    keyed = {table.key} if table.key_of else set()
    missing = [c.name for c in table.columns if c.required and c.name not in {*columns, *keyed}]
    if missing:
        problems.append(f"{name} needs a source for {', '.join(missing)}")
    problems.extend(f"{name}: unknown setting {key!r}" for key in entry if key not in _ENTRY)
    sources = {key: _source(f"{name}.{key}", form, problems) for key, form in columns.items() if key not in unknown}
    # A table read by a query of its own is a source of its own.
    file = entry.get("file", name if entry.get("query") else None)
    return TableMapping(table, sources, file=file, where=entry.get("where"), query=entry.get("query"))


def _source(where: str, form: str | dict[str, Any], problems: list[str]) -> ColumnSource:
    if isinstance(form, str):
        form = {"column": form}
    if not isinstance(form, dict) or set(form) - _FORMS:
        problems.append(f"{where} must be a column name or a table with {', '.join(sorted(_FORMS))}")
        return ColumnSource()
    form = dict(form)
    if sum(key in form for key in ("column", "value", "sql", "day", "age")) != 1 or ("age" in form) != ("at" in form):
        problems.append(f"{where} needs exactly one of column, value, sql, day, or age together with at")
    if form.get("unit", "minor") not in ("major", "minor") or ("unit" in form and not where.endswith("_cents")):
        problems.append(f'{where}: unit is "major" or "minor", for columns that end in _cents')
    if "day" in form and not where.endswith(("_at", "_on")):
        problems.append(f"{where}: day is for columns that end in _at or _on")
    values = form.pop("values", {})
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        problems.append(f'{where}: values must be pairs of text, such as {{ F = "female" }}')
        values = {}
    if any(form.get(key) == "" for key in ("column", "sql", "age", "at", "day")):
        problems.append(f"{where} names an empty column or expression")
    source = ColumnSource(**{key: str(value) for key, value in form.items()}, values=values)
    if source.sql:
        _must_parse(where, source.sql, problems)
    return source


def _must_parse(where: str, sql: str, problems: list[str]) -> None:
    try:
        columns_in(sql)
    except MappingError as error:
        problems.append(f"{where}: {error}")
