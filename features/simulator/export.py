"""Write a simulated practice as the files a practice's own system would export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from features.records.schema import Table
from features.records.tables import TABLES
from features.simulator.export_fhir import write_ndjson
from features.simulator.headers_zh import FILES_ZH, HEADERS_ZH, VALUES_ZH
from features.simulator.plan import PracticePlan, plan_text
from features.simulator.practice import SimulatedPractice

INSTANT = "%Y-%m-%d %H:%M:%S"
DATE = "%Y-%m-%d"
PLAN_FILE = "plan.json"
BATCH = 16_384  # rows that are formatted at a time
Dialect = Literal["csv-en", "csv-zh", "fhir", "open-dental"]


def write_export(practice: SimulatedPractice, out: Path, dialect: Dialect = "csv-en", database: str = "") -> list[Path]:
    """Write the export into a folder, byte for byte the same for the same plan.

    Parameters
    ----------
    practice : SimulatedPractice
        What to write.
    out : Path
        Folder; made if missing, its files of the same names overwritten.
    dialect : {"csv-en", "csv-zh", "fhir", "open-dental"}
        Headers and values in the contract's own words, or in Chinese; FHIR R4
        NDJSON; a database of Open Dental's shape.
    database : str
        URL of the empty database to fill, for ``open-dental`` alone.

    Returns
    -------
    list of Path
        The export's files (one CSV file per table of the contract, one NDJSON
        file per resource type, none for a database), ``mapping.toml``, and the
        files of ``truth/``, which are never to be imported.

    Raises
    ------
    FileError
        If the database is missing, cannot be reached, or holds tables already.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from tempfile import TemporaryDirectory
    >>> from features.simulator.plan import PracticePlan, plan_text
    >>> from features.simulator.practice import simulate
    >>> plan = PracticePlan(now=datetime(2026, 11, 17, 2, tzinfo=UTC), patients=20, years=1)
    >>> with TemporaryDirectory() as folder:
    ...     [path.name for path in write_export(simulate(plan), Path(folder))][:3]
    ['clinics.csv', 'clinicians.csv', 'patients.csv']
    """
    return write_parts(practice.plan, [practice], out, dialect, database)


def write_parts(
    plan: PracticePlan,
    parts: Iterable[SimulatedPractice],
    out: Path,
    dialect: Dialect = "csv-en",
    database: str = "",
) -> list[Path]:
    """Write clinic after clinic, each behind the one before; memory holds one clinic.

    Parameters
    ----------
    plan : PracticePlan
        For the time zone of the mapping.
    parts : iterable of SimulatedPractice
        Such as `features.simulator.practice.simulate_clinics` yields.
    out, dialect, database
        As in `write_export`.
    """
    truth = out / "truth"
    truth.mkdir(parents=True, exist_ok=True)
    written: dict[Path, None] = {}
    mapping = out / "mapping.toml"
    with _writer(out, dialect, database) as write:
        for part in parts:
            is_first = mapping not in written
            paths, numbers = write(part, is_first)
            written |= dict.fromkeys((*paths, mapping))
            for name, frame in (part.truth | numbers).items():
                path = truth / f"{name}.csv"
                _write(_truth_text(frame, plan.time_zone), path, path not in written)
                written[path] = None
            del part  # the next clinic is simulated when the loop asks for it
    mapping.write_bytes(mapping_text(plan.time_zone, dialect).encode())
    (truth / PLAN_FILE).write_bytes(plan_text(plan).encode())
    return [*written, truth / PLAN_FILE]


# Writes one part, told whether it is the first; returns the files, and what `truth/` gets beside the truth.
PartWriter = Callable[[SimulatedPractice, bool], tuple[list[Path], dict[str, pd.DataFrame]]]


@contextmanager
def _writer(out: Path, dialect: Dialect, database: str) -> Iterator[PartWriter]:
    if dialect == "open-dental":
        from features.simulator.export_open_dental import filling  # loads the database libraries

        with filling(database) as fill:
            yield fill
    elif dialect == "fhir":
        yield lambda part, is_first: (write_ndjson(part, out, is_first), {})
    else:
        yield lambda part, is_first: (_write_tables(part, out, dialect, is_first), {})


def _write_tables(part: SimulatedPractice, out: Path, dialect: Dialect, is_first: bool) -> list[Path]:
    paths = []
    for table in TABLES.values():
        paths.append(out / _file_name(table.name, dialect))
        _write(_as_text(part.tables[table.name], table, part.plan.time_zone, dialect), paths[-1], is_first)
    return paths


def mapping_text(time_zone: str, dialect: Dialect = "csv-en") -> str:
    """Mapping file of an export."""
    if dialect == "fhir":
        return f'format = "fhir"\nname = "Simulated practice"\ntime_zone = "{time_zone}"\n'
    if dialect == "open-dental":
        from features.simulator.export_open_dental import open_dental_mapping

        return open_dental_mapping(time_zone)
    lines = [
        'name = "Simulated practice"',
        f'time_zone = "{time_zone}"',
        f'datetime_formats = ["{INSTANT}"]',
        f'date_formats = ["{DATE}"]',
    ]
    for table in TABLES.values():
        file = _file_name(table.name, dialect)
        lines += ["", f"[tables.{table.name}]", f'file = "{file}"', f"[tables.{table.name}.columns]"]
        lines += [f"{name} = {_source(name, dialect)}" for name in table.column_names]
    return "\n".join(lines) + "\n"


def _file_name(table: str, dialect: Dialect) -> str:
    return f"{FILES_ZH[table] if dialect == 'csv-zh' else table}.csv"


def _source(column: str, dialect: Dialect) -> str:
    if dialect == "csv-en":
        return f'"{column}"'
    values = VALUES_ZH.get(column, {})
    header = HEADERS_ZH[column]
    if not values:
        return f'"{header}"'
    pairs = ", ".join(f'"{shown}" = "{value}"' for value, shown in values.items())
    return f'{{ column = "{header}", values = {{ {pairs} }} }}'


def _as_text(frame: pd.DataFrame, table: Table, time_zone: str, dialect: Dialect) -> pa.Table:
    columns = {}
    for column in table.columns:
        values, name = frame[column.name], column.name
        if column.type == "instant":
            shown = _instants(values, time_zone)
        elif column.type == "date":
            shown = _dates(values)
        elif column.type == "boolean":
            shown = _booleans(values)
        elif column.type in ("integer", "number"):
            shown = pa.array(values, from_pandas=True)
        else:
            shown = _texts(values, VALUES_ZH.get(name, {}) if dialect == "csv-zh" else {})
        columns[HEADERS_ZH[name] if dialect == "csv-zh" else name] = shown
    for name in frame.columns[len(table.columns) :]:  # what the mapping sets aside
        columns[HEADERS_ZH[name] if dialect == "csv-zh" else name] = _texts(frame[name], {})
    return pa.table(columns)


def _instants(values: pd.Series, time_zone: str) -> pa.Array:
    known = values if isinstance(values.dtype, pd.DatetimeTZDtype) else pd.to_datetime(values, utc=True)
    moments = known.dt.tz_convert(time_zone).dt.tz_localize(None)
    return pa.array(moments.astype("datetime64[s]"), type=pa.timestamp("s"), from_pandas=True).cast(pa.string())


def _dates(values: pd.Series) -> pa.Array:
    return pa.array(values.astype(object), type=pa.date32(), from_pandas=True).cast(pa.string())


def _booleans(values: pd.Series) -> pa.Array:
    return pa.array(values.astype(object), type=pa.bool_(), from_pandas=True).cast(pa.string())


def _texts(values: pd.Series, translated: Mapping[str, str]) -> pa.Array:
    shown = values.map(translated).fillna(values) if translated else values
    return pa.array(shown, type=pa.string(), from_pandas=True)


def _truth_text(frame: pd.DataFrame, time_zone: str) -> pa.Table:
    columns = {}
    for name, values in frame.items():
        if isinstance(values.dtype, pd.DatetimeTZDtype):
            columns[str(name)] = _instants(values, time_zone)
        elif str(name).endswith("_on"):
            columns[str(name)] = _dates(values)
        elif values.dtype == bool:
            columns[str(name)] = _booleans(values)
        elif values.dtype == object:
            columns[str(name)] = _texts(values, {})
        else:
            columns[str(name)] = pa.array(values.round(6), from_pandas=True)
    return pa.table(columns)


def _write(table: pa.Table, path: Path, is_first: bool) -> None:
    # No value holds a comma, a quote or a line break, so that none needs quotes.
    options = pa_csv.WriteOptions(include_header=False, quoting_style="none", batch_size=BATCH)
    with path.open("wb" if is_first else "ab") as file:
        if is_first:
            file.write((",".join(table.column_names) + "\n").encode())
        pa_csv.write_csv(table, file, options)
