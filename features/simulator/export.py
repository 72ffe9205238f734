"""Write a simulated practice as the files a practice's own system would export."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from features.records.schema import Table
from features.records.tables import TABLES
from features.simulator.practice import SimulatedPractice

INSTANT = "%Y-%m-%d %H:%M:%S"
DATE = "%Y-%m-%d"


def write_export(practice: SimulatedPractice, out: Path) -> list[Path]:
    """Write the export into a folder, byte for byte the same for the same plan.

    Parameters
    ----------
    practice : SimulatedPractice
        What to write.
    out : Path
        Folder; made if missing, its files of the same names overwritten.

    Returns
    -------
    list of Path
        One CSV file per table of the contract, ``mapping.toml``, and
        ``truth/bookings_truth.csv``, which is never to be imported.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from tempfile import TemporaryDirectory
    >>> from features.simulator.plan import PracticePlan
    >>> from features.simulator.practice import simulate
    >>> plan = PracticePlan(now=datetime(2026, 11, 17, 2, tzinfo=UTC), patients=20, years=1)
    >>> with TemporaryDirectory() as folder:
    ...     [path.name for path in write_export(simulate(plan), Path(folder))][:3]
    ['patients.csv', 'contact_details.csv', 'appointments.csv']
    """
    out.mkdir(parents=True, exist_ok=True)
    time_zone = practice.plan.time_zone
    written = [
        _write_csv(_as_text(practice.tables[table.name], table, time_zone), out / f"{table.name}.csv")
        for table in TABLES.values()
    ]
    mapping = out / "mapping.toml"
    mapping.write_bytes(mapping_text(time_zone).encode())
    truth = out / "truth"
    truth.mkdir(exist_ok=True)
    rounded = practice.bookings_truth.copy()
    numbers = rounded.select_dtypes("number").columns
    rounded[numbers] = rounded[numbers].round(6)
    rounded["is_new_patient"] = _booleans(rounded["is_new_patient"])
    return [*written, mapping, _write_csv(rounded, truth / "bookings_truth.csv")]


def mapping_text(time_zone: str) -> str:
    """Mapping file of an export whose headers are the contract's own names."""
    lines = [
        'name = "Simulated practice"',
        f'time_zone = "{time_zone}"',
        f'datetime_formats = ["{INSTANT}"]',
        f'date_formats = ["{DATE}"]',
    ]
    for table in TABLES.values():
        lines += ["", f"[tables.{table.name}]", f'file = "{table.name}.csv"', f"[tables.{table.name}.columns]"]
        lines += [f'{name} = "{name}"' for name in table.column_names]
    return "\n".join(lines) + "\n"


def _as_text(frame: pd.DataFrame, table: Table, time_zone: str) -> pd.DataFrame:
    shown = frame[list(table.column_names)].copy()
    for column in table.columns:
        if column.type == "instant":
            shown[column.name] = shown[column.name].dt.tz_convert(time_zone).dt.strftime(INSTANT)
        elif column.type == "boolean":
            shown[column.name] = _booleans(shown[column.name])
    return shown


def _booleans(values: pd.Series) -> pd.Series:
    return values.map({True: "true", False: "false"})


def _write_csv(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False, encoding="utf-8", lineterminator="\n")
    return path
