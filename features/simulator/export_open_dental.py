"""A simulated practice as a database of Open Dental's shape.

Open Dental numbers everything; which number each thing got is written beside
the truth (``open_dental_numbers``), so that an import can be measured against
it. Bookings have their earlier states in ``histappointment``; of everything
else the database holds the newest state. What it has no column for, and what
therefore does not come back from an import, is listed in
``docs/how-to/simulate.md`` and asserted in ``tests/test_simulator_round_trip.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from features.errors import FileError
from features.records.sql import connecting
from features.simulator.export_fhir import Row
from features.simulator.open_dental_rows import Numbers, PartRows
from features.simulator.open_dental_schema import create_statements
from features.simulator.practice import SimulatedPractice

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MAPPING = """# Reads the database that `revisit simulate --format open-dental` filled.
format = "open_dental"
name = "Simulated practice"
time_zone = "{time_zone}"

[tables.clinics]
query = "SELECT ClinicNum AS clinic_id, Description AS clinic_name, City AS region FROM clinic ORDER BY ClinicNum"
[tables.clinics.columns]
clinic_id = "clinic_id"
clinic_name = "clinic_name"
region = "region"
"""

Filler = Callable[[SimulatedPractice, bool], tuple[list[Path], dict[str, pd.DataFrame]]]


def open_dental_mapping(time_zone: str) -> str:
    """Return the mapping that reads a filled database."""
    return _MAPPING.format(time_zone=time_zone)


@contextmanager
def filling(database: str) -> Iterator[Filler]:
    """Make the tables of an Open Dental database; give what fills them with one part of a practice after the other.

    Parameters
    ----------
    database : str
        URL of an empty MariaDB or MySQL database.

    Yields
    ------
    callable
        Fills in a part; returns no files, and the table ``open_dental_numbers``: one row per thing, with
        its id and the key under which an import stores it. All parts are committed together, at the end.

    Raises
    ------
    FileError
        If the database cannot be reached, or holds tables already.
    """
    with connecting(database, ("mysql", "mariadb")) as connection:
        if connection.exec_driver_sql("SHOW TABLES").fetchone():
            raise FileError("the database holds tables already; give an empty one, so that nothing is overwritten.")
        for statement in create_statements():
            connection.exec_driver_sql(statement)
        numbers = Numbers()

        def fill(practice: SimulatedPractice, is_first: bool) -> tuple[list[Path], dict[str, pd.DataFrame]]:
            for table, rows in PartRows(practice, numbers).made(is_first).items():
                _insert(connection, table, rows)
            return [], {"open_dental_numbers": numbers.taken()}

        yield fill
        connection.commit()


def _insert(connection: Connection, table: str, rows: list[Row]) -> None:
    names = list(rows[0])
    columns, marks = ", ".join(f"`{name}`" for name in names), ", ".join(["%s"] * len(names))
    values = [tuple(row[name] for name in names) for row in rows]
    connection.exec_driver_sql(f"INSERT INTO `{table}` ({columns}) VALUES ({marks})", values)
