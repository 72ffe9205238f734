"""Write a simulated practice as the files a practice's own system would export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from features.records.schema import Table
from features.records.tables import TABLES
from features.simulator.headers_zh import FILES_ZH, HEADERS_ZH, VALUES_ZH
from features.simulator.plan import PracticePlan
from features.simulator.practice import SimulatedPractice

INSTANT = "%Y-%m-%d %H:%M:%S"
DATE = "%Y-%m-%d"
Dialect = Literal["csv-en", "csv-zh"]


def write_export(practice: SimulatedPractice, out: Path, dialect: Dialect = "csv-en") -> list[Path]:
    """Write the export into a folder, byte for byte the same for the same plan.

    Parameters
    ----------
    practice : SimulatedPractice
        What to write.
    out : Path
        Folder; made if missing, its files of the same names overwritten.
    dialect : {"csv-en", "csv-zh"}
        Headers and values in the contract's own words, or in Chinese.

    Returns
    -------
    list of Path
        One CSV file per table of the contract, ``mapping.toml``, and the files
        of ``truth/``, which are never to be imported.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from tempfile import TemporaryDirectory
    >>> from features.simulator.plan import PracticePlan
    >>> from features.simulator.practice import simulate
    >>> plan = PracticePlan(now=datetime(2026, 11, 17, 2, tzinfo=UTC), patients=20, years=1)
    >>> with TemporaryDirectory() as folder:
    ...     [path.name for path in write_export(simulate(plan), Path(folder))][:3]
    ['clinics.csv', 'clinicians.csv', 'patients.csv']
    """
    return write_parts(practice.plan, [practice], out, dialect)


def write_parts(
    plan: PracticePlan, parts: Iterable[SimulatedPractice], out: Path, dialect: Dialect = "csv-en"
) -> list[Path]:
    """Write clinic after clinic, each behind the one before; memory holds one clinic.

    Parameters
    ----------
    plan : PracticePlan
        For the time zone of the mapping.
    parts : iterable of SimulatedPractice
        Such as `features.simulator.practice.simulate_clinics` yields.
    out, dialect
        As in `write_export`.
    """
    truth = out / "truth"
    truth.mkdir(parents=True, exist_ok=True)
    written: dict[Path, None] = {}
    mapping = out / "mapping.toml"
    for part in parts:
        for table in TABLES.values():
            path = out / _file_name(table.name, dialect)
            _write(_as_text(part.tables[table.name], table, plan.time_zone, dialect), path, path not in written)
            written[path] = None
        written[mapping] = None
        for name, frame in part.truth.items():
            path = truth / f"{name}.csv"
            _write(_truth_text(frame, plan.time_zone), path, path not in written)
            written[path] = None
        del part  # the next clinic is simulated when the loop asks for it
    mapping.write_bytes(mapping_text(plan.time_zone, dialect).encode())
    return list(written)


def mapping_text(time_zone: str, dialect: Dialect = "csv-en") -> str:
    """Mapping file of an export."""
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
        elif column.type == "boolean":
            shown = _texts(values.map({True: "true", False: "false"}), {})
        elif column.type in ("integer", "number"):
            shown = pa.array(values, from_pandas=True)
        else:
            shown = _texts(values, VALUES_ZH.get(name, {}) if dialect == "csv-zh" else {})
        columns[HEADERS_ZH[name] if dialect == "csv-zh" else name] = shown
    return pa.table(columns)


def _instants(values: pd.Series, time_zone: str) -> pa.Array:
    moments = pd.to_datetime(values, utc=True).dt.tz_convert(time_zone).dt.tz_localize(None)
    return pa.array(moments.astype("datetime64[s]"), type=pa.timestamp("s"), from_pandas=True).cast(pa.string())


def _texts(values: pd.Series, translated: Mapping[str, str]) -> pa.Array:
    shown = values.map(translated).fillna(values) if translated else values
    if shown.map(type).isin([date]).any():
        shown = shown.astype(str).where(shown.notna(), None)
    texts = pa.array(shown, type=pa.string(), from_pandas=True)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _truth_text(frame: pd.DataFrame, time_zone: str) -> pa.Table:
    columns = {}
    for name, values in frame.items():
        if isinstance(values.dtype, pd.DatetimeTZDtype):
            columns[str(name)] = _instants(values, time_zone)
        elif values.dtype == bool:
            columns[str(name)] = _texts(values.map({True: "true", False: "false"}), {})
        elif values.dtype == object:
            columns[str(name)] = _texts(values, {})
        else:
            columns[str(name)] = pa.array(values.round(6), from_pandas=True)
    return pa.table(columns)


def _write(table: pa.Table, path: Path, is_first: bool) -> None:
    # No value holds a comma, a quote or a line break, so that none needs quotes.
    options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
    with path.open("wb" if is_first else "ab") as file:
        if is_first:
            file.write((",".join(table.column_names) + "\n").encode())
        pa_csv.write_csv(table, file, options)
