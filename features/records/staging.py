"""From a file's text to the contract's columns: typed, checked, unfolded into states."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import duckdb

from features.errors import MappingError
from features.records import values
from features.records.files import RawTable
from features.records.mapping import ColumnSource, Mapping, TableMapping
from features.records.schema import SQL_TYPES, Column, Milestone, Table
from features.records.values import quoted

OLDEST_AGE = 120
_LIKE_A_DATE = r"^\d{1,4}[-/.年]\d{1,2}[-/.月]\d{1,4}"


def start(con: duckdb.DuckDBPyConnection) -> None:
    """Make the empty list of broken rows: one row per file, row, column and reason."""
    con.execute(
        """CREATE OR REPLACE TEMP TABLE broken (
            source VARCHAR, table_name VARCHAR, row_number BIGINT, column_name VARCHAR, value_class VARCHAR,
            reason VARCHAR)"""
    )
    # It would lift what two computed columns share out of their TRY, and fail on the first bad row.
    con.execute("SET disabled_optimizers = 'common_subexpressions'")


def note_rejected(con: duckdb.DuckDBPyConnection, source: str, raw: RawTable) -> None:
    """List the records whose number of fields is wrong."""
    rows = [(source, None, bad.row, None, None, bad.reason) for bad in raw.rejected]
    if rows:
        con.executemany("INSERT INTO broken VALUES (?, ?, ?, ?, ?, ?)", rows)


def stage(con: duckdb.DuckDBPyConnection, mapping: Mapping, entry: TableMapping, raw: str, source: str) -> None:
    """Make ``staged_<table>``: ``_row`` plus every contract column, typed; list what breaks the contract."""
    table = entry.table
    mapped = {name: _expression(mapping, table.column(name), form) for name, form in entry.columns.items()}
    if table.key not in mapped and table.key_of:
        parts = ", ".join(f"CAST({mapped.get(name, 'NULL')} AS VARCHAR)" for name in table.key_of)
        mapped[table.key] = f"concat_ws('|', {parts})"
    typed = [
        f"{mapped[c.name]} AS {c.name}" if c.name in mapped else f"CAST(NULL AS {SQL_TYPES[c.type]}) AS {c.name}"
        for c in table.columns
    ]
    asked = {name: form for name, form in entry.columns.items() if _may_be_lost(table.column(name), form)}
    given = [f"{_given(form)} AS _has_{name}" for name, form in asked.items()]
    failed = [f"{_failed(form)} AS _failed_{name}" for name, form in entry.columns.items() if form.sql]
    try:
        con.execute(
            f"""CREATE OR REPLACE TEMP TABLE staged_{table.name} AS
            SELECT _row, {", ".join(typed + given + failed)} FROM {_trimmed_rows(entry, raw)}"""
        )
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.ParserException) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise MappingError(f"mapping {mapping.name!r}: {table.name} cannot be computed: {reason}.") from None
    except duckdb.Error:  # its text may quote a value
        raise MappingError(
            f"mapping {mapping.name!r}: {table.name} cannot be computed from {source}; "
            "check its formats, and that its where condition holds for every row (TRY_CAST instead of CAST)."
        ) from None
    for column, condition, reason in _faults(entry):
        con.execute(
            f"""INSERT INTO broken SELECT ?, ?, _row, ?, NULL, ? FROM staged_{table.name} WHERE {condition}""",
            [source, table.name, column, reason],
        )
    _classify(con, mapping, entry, raw, source)


def unfold(con: duckdb.DuckDBPyConnection, entry: TableMapping, source: str, recorded_at: datetime) -> Iterator[str]:
    """Make ``incoming_<table>``: one row per state, in the order the practice learned them.

    A row of the file is stored whole or not at all: what one table finds
    broken is left out of every table of the same file. ``sound_<table>`` holds
    the rows that are left; both are views, so that millions of rows are not
    copied again and again. Only of things that the file names more than once
    (``repeated_<table>``) are the states of several rows put in order.

    Yields
    ------
    str
        What had to be assumed, for the report.
    """
    table = entry.table
    clocks = ", ".join(f"{clock} AS {name}" for name, clock in _clocks(table, recorded_at).items())
    # Each of the many scans to come would look up its rows among the broken ones.
    is_sound = f"_row NOT IN (SELECT row_number FROM broken WHERE source = {quoted(source)})"
    (broken,) = con.execute("SELECT count(*) FROM broken WHERE source = ?", [source]).fetchall()[0]
    con.execute(
        f"""CREATE OR REPLACE TEMP VIEW sound_{table.name} AS
        SELECT {", ".join(("_row", *table.column_names))}, {clocks}
        FROM staged_{table.name} WHERE {is_sound if broken else "true"}"""
    )
    yield from _assumed_times(con, table)
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE repeated_{table.name} AS
        SELECT {table.key}, count(*) AS times FROM sound_{table.name} GROUP BY ALL HAVING count(*) > 1"""
    )
    (repeated,) = con.execute(f"SELECT count(*) FROM repeated_{table.name}").fetchall()[0]
    if not repeated:
        con.execute(f"CREATE OR REPLACE TEMP VIEW incoming_{table.name} AS {_states_of_one_row(table, '')}")
        return
    states = " UNION ALL ".join(
        f"{sql} FROM sound_{table.name} SEMI JOIN repeated_{table.name} USING ({table.key}) "
        f"WHERE known_{step} IS NOT NULL"
        for step, sql in enumerate(_states(table))
    )
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE ordered_{table.name} AS
        WITH states AS ({states}),
        single AS (SELECT * FROM states
                   QUALIFY row_number() OVER (PARTITION BY {table.key}, known_at ORDER BY step DESC, _row DESC) = 1)
        SELECT *, lead(known_at) OVER (PARTITION BY {table.key} ORDER BY known_at) IS NULL AS is_last
        FROM single"""
    )
    others = f"ANTI JOIN repeated_{table.name} USING ({table.key})"
    con.execute(
        f"""CREATE OR REPLACE TEMP VIEW incoming_{table.name} AS
        {_states_of_one_row(table, others)} UNION ALL BY NAME SELECT * FROM ordered_{table.name}"""
    )


def moment_of(mapping: Mapping, column: str) -> str:
    """SQL of a wall-clock time of the practice, in a column of a file as it is, as an instant."""
    return values.instant_sql(mapping.datetime_formats, mapping.time_zone, values.text_of(column))


def content_hash(table: Table) -> str:
    """SQL of a row's content: everything but the key and the moments that may have been assumed."""
    clocks = {milestone.known_at for milestone in table.milestones if milestone.known_default}
    if not table.milestones or table.known_default:
        clocks.add(table.known_from)
    return f"hash({', '.join(name for name in table.column_names if name not in clocks | {table.key})})"


def _clocks(table: Table, recorded_at: datetime) -> dict[str, str]:
    """SQL of the moments at which a row (``known_0``) and its milestones (``known_1``, ...) became known.

    A moment that the export does not give is the latest honest bound that the
    contract names, or else the import's own.
    """
    clocks = {"known_0": f"coalesce({table.known_from}, {table.known_default or '$moment::TIMESTAMPTZ'})"}
    for number, milestone in enumerate(table.milestones, start=1):
        default = f", {milestone.known_default}" if milestone.known_default else ""
        learned = f"coalesce({milestone.known_at}{default})"
        clocks[f"known_{number}"] = f"CASE WHEN {learned} IS NOT NULL THEN greatest({learned}, {clocks['known_0']}) END"
    moment = quoted(recorded_at.isoformat())
    return {name: clock.replace("$moment", moment) for name, clock in clocks.items()}


def _states(table: Table) -> Iterator[str]:
    """SQL of the row as known at first, and as known from each milestone on."""
    for step in range(len(table.milestones) + 1):
        now = f"known_{step}"
        shown = {name: name for name in table.column_names}
        for number, milestone in enumerate(table.milestones, start=1):
            reached = "true" if number == step else f"known_{number} IS NULL OR known_{number} <= {now}"
            for name in milestone.columns:
                shown[name] = f"CASE WHEN {reached} THEN {name} ELSE {_until_then(table, milestone, name)} END"
        clock = table.known_from if step == 0 else table.milestones[step - 1].known_at
        yield (
            f"SELECT _row, {', '.join(f'{sql} AS {name}' for name, sql in shown.items())}, {now} AS known_at, "
            f"{step} AS step, sound_{table.name}.{clock} IS NULL AS is_assumed"
        )


def _states_of_one_row(table: Table, others: str) -> str:
    """SQL of the states of things that one row tells all about; of several at one moment the last step counts."""
    parts = []
    steps = range(len(table.milestones) + 1)
    for step, sql in enumerate(_states(table)):
        repeats = [f"known_{later} IS NOT DISTINCT FROM known_{step}" for later in steps if later > step]
        later = [f"coalesce(known_{other} > known_{step}, false)" for other in steps if other != step]
        parts.append(
            f"{sql}, NOT ({' OR '.join(later) or 'false'}) AS is_last FROM sound_{table.name} {others} "
            f"WHERE known_{step} IS NOT NULL AND NOT ({' OR '.join(repeats) or 'false'})"
        )
    return " UNION ALL ".join(parts)


def _until_then(table: Table, milestone: Milestone, name: str) -> str:
    value = milestone.until_then.get(name)
    return f"CAST({'NULL' if value is None else quoted(value)} AS {SQL_TYPES[table.column(name).type]})"


def _assumed_times(con: duckdb.DuckDBPyConnection, table: Table) -> Iterator[str]:
    """Say how many moments were assumed, and how."""
    first = con.execute(f"SELECT count(*) FROM sound_{table.name} WHERE {table.known_from} IS NULL").fetchall()[0][0]
    if first and not table.known_default:
        yield f"{first:,} rows of {table.name} do not say since when they are known; they count from this import on."
    for number, milestone in enumerate(table.milestones, start=1):
        assumed = f"{milestone.known_at} IS NULL AND known_{number} IS NOT NULL"
        count = con.execute(f"SELECT count(*) FROM sound_{table.name} WHERE {assumed}").fetchall()[0][0]
        if count and table.name == "appointments":
            yield (
                f"{count:,} outcomes carry no time of recording; they count as known 24 hours after the start of the "
                "appointment (for a day without a time: at the end of that day), or from this import on if that is "
                "earlier."
            )
        elif count:
            yield f"{count:,} rows of {table.name} do not give {milestone.known_at}; its latest bound was taken."


def _expression(mapping: Mapping, column: Column, form: ColumnSource) -> str:
    zone = mapping.time_zone
    if form.age and form.at:
        at = values.local_sql(mapping.datetime_formats, zone, values.text_of(form.at))
        return f"TRY(year({at}) - CASE WHEN {_age(form)} BETWEEN 0 AND {OLDEST_AGE} THEN {_age(form)} END)"
    if form.day:
        day = values.day_sql(mapping, values.text_of(form.day))
        return f"CAST({day} AS DATE)" if column.type == "date" else f"timezone({quoted(zone)}, {day})"
    text = _raw(form)
    if form.values:
        arms = " ".join(f"WHEN {quoted(given)} THEN {quoted(meant)}" for given, meant in form.values.items())
        text = f"CASE {text} {arms} ELSE {text} END"
    if mapping.is_iso and column.type in ("instant", "date"):
        return _iso(mapping, column, text)
    if form.unit == "major":
        return values.cents_sql(text)
    if form.sql and column.type == "instant":
        return f"TRY(timezone({quoted(zone)}, CAST({text} AS TIMESTAMP)))"
    if form.sql and column.type != "id":
        return f"TRY(CAST({text} AS {SQL_TYPES[column.type]}))"
    return _typed(mapping, column, text)


def _typed(mapping: Mapping, column: Column, text: str) -> str:
    if column.type == "instant":
        return values.instant_sql(mapping.datetime_formats, mapping.time_zone, text)
    if column.type == "date":
        return f"CAST({values.local_sql(mapping.date_formats, mapping.time_zone, text)} AS DATE)"
    if column.type == "id":
        return values.id_sql(text)
    if column.is_list:
        return values.list_sql(text)
    if column.type == "integer":
        return values.whole_sql(text)
    return f"TRY_CAST({text} AS {SQL_TYPES[column.type]})"


def _raw(form: ColumnSource) -> str:
    """The column's text, blank as NULL."""
    if form.value is not None:
        return quoted(form.value)
    if form.sql:
        return f"TRY({_computed(form)})"
    return _trimmed(form.column) if form.column else values.text_of(form.day or "")


def _trimmed(column: str) -> str:
    """Name under which `_trimmed_rows` gives a column without the blanks around it."""
    return values.name_of(f"trimmed {column}")


def _trimmed_rows(entry: TableMapping, raw: str) -> str:
    """SQL of the file's rows, each column that is taken as it is trimmed once; blank is NULL.

    Trimming looks at every character. ASCII text (as many bytes as characters) that neither begins nor
    ends with a blank is spared that: most of the time that staging takes.
    """
    columns = dict.fromkeys(form.column for form in entry.columns.values() if form.column)
    trimmed = "".join(
        f", CASE WHEN unicode({name}) > 32 AND NOT suffix({name}, ' ') AND strlen({name}) = length({name}) "
        f"THEN {name} ELSE nullif(trim({name}), '') END AS {_trimmed(column)}"
        for column, name in ((column, values.name_of(column)) for column in columns)
    )
    where = f"WHERE ({entry.where}\n)" if entry.where else ""
    return f"(SELECT *{trimmed} FROM {raw} {where}) AS trimmed_rows"


def _may_be_lost(column: Column, form: ColumnSource) -> bool:
    """Whether the file may hold something for the column that its type cannot."""
    return bool(form.sql) or column.type not in ("id", "text")


def _classify(con: duckdb.DuckDBPyConnection, mapping: Mapping, entry: TableMapping, raw: str, source: str) -> None:
    """Say of every broken row what kind of value stood there, since the value itself is not to be shown."""
    mine = "source = $source AND table_name = $table"
    told = {"source": source, "table": entry.table.name}
    for (name,) in con.execute(f"SELECT DISTINCT column_name FROM broken WHERE {mine}", told).fetchall():
        form = entry.columns.get(name)
        if form is None:
            continue
        text = values.text_of(form.age) if form.age else f"CAST({_raw(form)} AS VARCHAR)"
        day = values.local_sql((*mapping.datetime_formats, *mapping.date_formats), mapping.time_zone, text)
        con.execute(
            f"""UPDATE broken SET value_class = CASE
                WHEN given.text IS NULL THEN 'blank' WHEN TRY_CAST(given.text AS DOUBLE) IS NOT NULL THEN 'number'
                WHEN given.is_day OR regexp_matches(given.text, {quoted(_LIKE_A_DATE)}) THEN 'date' ELSE 'text' END
            FROM (SELECT _row, {text} AS text, {day} IS NOT NULL AS is_day FROM {_trimmed_rows(entry, raw)}
                  WHERE _row IN (SELECT row_number FROM broken WHERE {mine} AND column_name = $column)) AS given
            WHERE {mine} AND column_name = $column AND row_number = given._row""",
            told | {"column": name},
        )


def _given(form: ColumnSource) -> str:
    """Whether the file holds anything for the column in this row."""
    if form.age:
        return f"({values.text_of(form.age)} IS NOT NULL)"
    if form.column or form.day or form.sql:
        return f"({_raw(form)} IS NOT NULL)"
    return "true" if form.value is not None else "false"


def _computed(form: ColumnSource) -> str:
    return f"({form.sql}\n)"  # the line may end in a comment


def _failed(form: ColumnSource) -> str:
    """Whether computing the column fails in this row: a failure, unlike NULL, takes a struct around it along."""
    return f"TRY(struct_pack(value := {_computed(form)})) IS NULL" if form.sql else "false"


def _age(form: ColumnSource) -> str:
    return f"TRY_CAST(regexp_replace({values.text_of(form.age or '')}, '岁$', '') AS INTEGER)"


def _iso(mapping: Mapping, column: Column, text: str) -> str:
    """A moment in ISO 8601: with its offset as it is, without one in the practice's zone; of a date, its day."""
    text = f"CAST({text} AS VARCHAR)"
    if column.type == "date":
        return f"TRY_CAST(left({text}, 10) AS DATE)"
    has_offset = rf"regexp_matches({text}, ':\d\d.*(Z|[+-]\d\d(:?\d\d)?)$')"
    zone = quoted(mapping.time_zone)
    return (
        f"CASE WHEN {has_offset} THEN TRY_CAST({text} AS TIMESTAMPTZ) "
        f"ELSE timezone({zone}, TRY_CAST({text} AS TIMESTAMP)) END"
    )


def _faults(entry: TableMapping) -> Iterator[tuple[str, str, str]]:
    """Yield (column, condition that must not hold, reason) for all that the contract asks."""
    for name, form in entry.columns.items():
        column = entry.table.column(name)
        if form.age:
            yield name, f"_has_{name} AND {name} IS NULL", f"the age is no number of years from 0 to {OLDEST_AGE}"
        elif column.values:
            allowed = ", ".join(quoted(value) for value in column.values)
            yield name, f"{name} NOT IN ({allowed})", f"the value is none of {', '.join(column.values)}"
        elif _may_be_lost(column, form):
            what = {"instant": "a date and time", "date": "a date", "integer": "a whole number"}.get(
                column.type, f"a {column.type}"
            )
            what = "an amount of money" if form.unit == "major" else what
            yield name, f"_has_{name} AND {name} IS NULL", f"the value cannot be read as {what}"
        for bound, sign in ((column.minimum, "<"), (column.maximum, ">")):
            if bound is not None:
                word = "below" if sign == "<" else "above"
                yield name, f"{name} {sign} {bound:g}", f"the value is {word} {bound:g}"
        if form.sql:
            yield name, f"_failed_{name}", "the value cannot be computed"
        if column.required:
            there = f" AND NOT _has_{name}" if _may_be_lost(column, form) else ""
            failed = f" AND NOT _failed_{name}" if form.sql else ""
            yield name, f"{name} IS NULL{there}{failed}", "a required value is missing"
    for rule in entry.table.rules:
        yield rule.column, f"NOT ({rule.sql})", rule.reason
