"""How text becomes a value of the contract: SQL of moments, days, amounts, whole numbers and ids.

A value that cannot be read without guessing is NULL, so that its row is set
aside rather than stored wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from features.records.mapping import Mapping

# Year first, so that day and month cannot be mixed up; what typed cells of Excel and Parquet become as well.
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}([.]\d{1,9})?)?"
_ISO = rf"^\d{{4}}[-/]\d{{1,2}}[-/]\d{{1,2}}([ T]{_CLOCK})?$"
_ISO_WITH_OFFSET = rf"^\d{{4}}[-/]\d{{1,2}}[-/]\d{{1,2}}[ T]{_CLOCK} ?(Z|[+-]\d{{2}}(:?\d{{2}})?)$"
_NO_MOMENTS = "('epoch', 'infinity', '-infinity')"  # DuckDB reads these words whatever the format
_FULL_WIDTH, _HALF_WIDTH = "０１２３４５６７８９，．－＋（）　", "0123456789,.-+() "
_SIGNS = "[¥￥$€£元圆 ]|CNY|RMB|USD|EUR"
_WHOLE = r"^[+-]?\d+([.]0*)?$"
_AMOUNT = r"^[+-]?(\d+|\d{1,3}(,\d{3})+)([.]\d{0,2}0*)?$"


def local_sql(formats: Sequence[str], zone: str, text: str) -> str:
    """SQL of the wall-clock time that `text` shows in one of `formats`, or else year first.

    A time with an offset of its own is turned into the practice's wall-clock time.
    """
    offset = f"CASE WHEN regexp_matches({text}, {quoted(_ISO_WITH_OFFSET)}) THEN TRY_CAST({text} AS TIMESTAMPTZ) END"
    return f"coalesce({_declared(formats, text)}, {_iso(text)}, timezone({quoted(zone)}, {offset}))"


def instant_sql(formats: Sequence[str], zone: str, text: str) -> str:
    """SQL of the instant that `text` shows; a time without an offset is a wall-clock time of `zone`."""
    offset = f"CASE WHEN regexp_matches({text}, {quoted(_ISO_WITH_OFFSET)}) THEN TRY_CAST({text} AS TIMESTAMPTZ) END"
    return f"coalesce(timezone({quoted(zone)}, coalesce({_declared(formats, text)}, {_iso(text)})), {offset})"


def day_sql(mapping: Mapping, text: str) -> str:
    """SQL of the day that `text` shows, as a TIMESTAMP at midnight."""
    formats = (*mapping.date_formats, *mapping.datetime_formats)
    return f"date_trunc('day', {local_sql(formats, mapping.time_zone, text)})"


def whole_sql(text: str) -> str:
    """SQL of a whole number; 12.5 is none (a cast alone would round it)."""
    return f"CASE WHEN regexp_matches({text}, {quoted(_WHOLE)}) THEN TRY_CAST({text} AS BIGINT) END"


def cents_sql(text: str) -> str:
    """SQL of an amount shown in the currency's major unit, as whole cents.

    Currency signs, full-width digits, thousands separators and brackets around
    negative amounts are understood; an amount with fractions of a cent, or with
    a comma that separates no thousands, is none.
    """
    plain = f"translate(CAST({text} AS VARCHAR), '{_FULL_WIDTH}', '{_HALF_WIDTH}')"
    bare = f"regexp_replace({plain}, '{_SIGNS}', '', 'gi')"
    signed = f"regexp_replace({bare}, '^[(](.*)[)]$', '-\\1')"
    number = f"CAST(replace({signed}, ',', '') AS DECIMAL(38, 2))"
    return f"CASE WHEN regexp_matches({signed}, {quoted(_AMOUNT)}) THEN TRY(CAST({number} * 100 AS BIGINT)) END"


def id_sql(text: str) -> str:
    """SQL of an id: spreadsheets turn 1234 into 1234.0."""
    return rf"CASE WHEN contains({text}, '.') THEN regexp_replace({text}, '^(\d+)\.0+$', '\1') ELSE {text} END"


def list_sql(text: str) -> str:
    """SQL of a list whose items are separated by semicolons, Chinese ones too, without blanks or empty items."""
    items = f"list_transform(string_split(translate({text}, '；', ';'), ';'), lambda item: trim(item))"
    return f"nullif(array_to_string(list_filter({items}, lambda item: item <> ''), ';'), '')"


def text_of(column: str) -> str:
    """SQL of a column's text, blank as NULL."""
    return f"nullif(trim({name_of(column)}), '')"


def name_of(column: str) -> str:
    """SQL of a column's name."""
    return '"' + column.replace('"', '""') + '"'


def quoted(value: str | None) -> str:
    """SQL of a text constant."""
    return "'" + (value or "").replace("'", "''") + "'"


def _declared(formats: Sequence[str], text: str) -> str:
    parsed = f"try_strptime({text}, [{', '.join(quoted(form) for form in formats)}])"
    return f"CASE WHEN lower({text}) NOT IN {_NO_MOMENTS} THEN {parsed} END"


def _iso(text: str) -> str:
    return f"CASE WHEN regexp_matches({text}, {quoted(_ISO)}) THEN TRY_CAST({text} AS TIMESTAMP) END"
