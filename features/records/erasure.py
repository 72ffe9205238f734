"""One person's records: handed out on request, or erased for good.

Erasing writes every table anew without the person and removes all files of
earlier states, which could not be restored without bringing the person back.
A salted hash of the person's numbers stays, so that no later import of the
practice's system does either.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable, write_deltalake

from features.duck import connect
from features.errors import StoreError
from features.records.history import vacuum
from features.records.store import BATCH_ROWS, DERIVED, MERGES, Made, RecordStore, columns_of
from features.records.tables import TABLES

MEMORY = "2000MB"
_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Erased:
    """What erasing removed.

    Attributes
    ----------
    numbers : tuple of str
        The person's numbers, those merged into one another included.
    rows : dict of str to int
        States removed, by table; empty where the person was gone already.
    """

    numbers: tuple[str, ...]
    rows: dict[str, int]


class ErasedPatients:
    """Salted hashes of erased patients' numbers, in a file beside the tables.

    Parameters
    ----------
    root : Path
        The record store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / "erased.json"
        found = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}
        self._salt: str = found.get("salt") or secrets.token_hex(16)
        self._hashes: dict[str, bool] = found.get("patients", {})

    def is_pending(self, number: str) -> bool:
        """Whether erasing this number was begun and not finished."""
        return self._hashes.get(self._hash(number)) is False

    def __contains__(self, number: str) -> bool:
        return self._hash(number) in self._hashes

    def note(self, numbers: Sequence[str], *, is_done: bool) -> None:
        """Write down that these numbers are being erased, or are."""
        self._hashes |= {self._hash(number): is_done for number in numbers}
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as stream:
            json.dump({"salt": self._salt, "patients": self._hashes}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self._path)

    def leave_out(self, con: duckdb.DuckDBPyConnection, table: str) -> None:
        """Remove erased patients' rows from ``staged_<table>``, and references to them."""
        if not self._hashes:
            return
        hashes = "[" + ", ".join(f"'{one}'" for one in self._hashes) + "]"
        for column in [name for name in ("patient_id", *_references(table)) if name in columns_of(table)]:
            is_erased = f"list_contains({hashes}, sha256('{self._salt}' || {column}))"
            if column == "patient_id":
                con.execute(f"DELETE FROM staged_{table} WHERE {is_erased}")
            else:
                con.execute(f"UPDATE staged_{table} SET {column} = {self.instead_of(column)} WHERE {is_erased}")

    def instead_of(self, column: str) -> str:
        """SQL of what stands where another person's row named an erased one; a household stays one."""
        return f"'erased-' || left(sha256('{self._salt}' || {column}), 8)" if column == "household_id" else "NULL"

    def _hash(self, number: str) -> str:
        return hashlib.sha256((self._salt + number).encode()).hexdigest()


def person_records(store: RecordStore, patient_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return every state of every record of one person, by table; empty if there is no such patient."""
    with connect() as con:
        _attach(store, con)
        numbers = _numbers(con, patient_id)
        found = {}
        for name in store.versions():
            where = _is_of_person(name)
            if where:
                rows = con.execute(f"SELECT * FROM {name} WHERE {where}", {"numbers": numbers})
                names = [column[0] for column in rows.description or ()]
                found[name] = [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
    return {name: rows for name, rows in found.items() if rows}


def erase_person(store: RecordStore, patient_id: str, at: datetime) -> Erased:
    """Remove one person from the records and from every earlier state of them.

    Other people's rows that name the person (who recommended whom, who shares
    a household) lose the name. A crash leaves the records as before or without
    the person; calling again finishes what was left.

    Parameters
    ----------
    store : RecordStore
        Of the practice.
    patient_id : str
        Any of the person's numbers.
    at : datetime
        Now (aware).

    Returns
    -------
    Erased

    Raises
    ------
    StoreError
        If there is no such patient, or an import is running.
    """
    with store.importing(), tempfile.TemporaryDirectory() as folder, connect(Path(folder)) as con:
        con.execute(f"SET memory_limit = '{MEMORY}'")
        _attach(store, con)
        erased, numbers = ErasedPatients(store.root), _numbers(con, patient_id)
        counts = {name: _count(con, name, numbers) for name in store.versions()}
        rows = {name: count for name, count in counts.items() if count}
        is_left = bool(rows) or erased.is_pending(patient_id) or _is_in_history(store, numbers)
        if not is_left and patient_id not in erased:
            raise StoreError(f"there is no patient {patient_id!r} in the records; nothing was deleted.")
        if is_left:
            erased.note(numbers, is_done=False)
            versions = dict(store.versions())
            for name in versions:
                if rows.get(name) or _count_references(con, name, numbers):
                    versions[name] = _rewrite(store, con, name, numbers, erased)
            store.publish(versions, Made("erase", at), since=_EVER)
            for path in sorted(store.root.iterdir()):
                if (path / "_delta_log").is_dir():
                    vacuum(store, path)
            erased.note(numbers, is_done=True)
        return Erased(tuple(numbers), rows)


def _attach(store: RecordStore, con: duckdb.DuckDBPyConnection) -> None:
    store.attach(con, [*store.versions()], is_derived_shown=False)


def _is_in_history(store: RecordStore, numbers: list[str]) -> bool:
    """Whether an earlier state, such as one before a restore, knows the person."""
    with connect() as con:
        for entry in store.entries()[:-1]:
            store.attach(con, [*entry.versions], entry.versions, is_derived_shown=False)
            if any(_count(con, name, numbers) for name in entry.versions):
                return True
    return False


def _numbers(con: duckdb.DuckDBPyConnection, patient_id: str) -> list[str]:
    """All numbers of the person: those merged into one another, in either direction."""
    pairs = con.execute("SELECT old_id, new_id FROM merges").fetchall()
    numbers = {patient_id}
    while grown := {n for pair in pairs if numbers & set(pair) for n in pair} - numbers:
        numbers |= grown
    return sorted(numbers)


def _patient_columns(table: str) -> list[str]:
    """Columns that hold a patient's number."""
    if table not in TABLES:
        return []
    return [c.name for c in TABLES[table].columns if c.refers_to == "patients" or c.name == "patient_id"]


def _is_of_person(table: str) -> str:
    """SQL condition: the row is the person's; empty where no row can be."""
    if table == DERIVED:
        return "table_name = 'patients' AND list_contains($numbers, id)"
    if table == MERGES:
        return "list_contains($numbers, old_id) OR list_contains($numbers, new_id)"
    return "list_contains($numbers, patient_id)" if "patient_id" in _patient_columns(table) else ""


def _references(table: str) -> list[str]:
    """Columns in which other people's rows may name the person; a household is often called after its payer."""
    others = [column for column in _patient_columns(table) if column != "patient_id"]
    return [*others, *(["household_id"] if "household_id" in columns_of(table) else [])]


def _count(con: duckdb.DuckDBPyConnection, table: str, numbers: list[str]) -> int:
    where = _is_of_person(table)
    if not where:
        return 0
    (count,) = con.execute(f"SELECT count(*) FROM {table} WHERE {where}", {"numbers": numbers}).fetchall()[0]
    return int(count)


def _count_references(con: duckdb.DuckDBPyConnection, table: str, numbers: list[str]) -> int:
    where = " OR ".join(f"list_contains($numbers, {column})" for column in _references(table))
    if not where:
        return 0
    (count,) = con.execute(f"SELECT count(*) FROM {table} WHERE {where}", {"numbers": numbers}).fetchall()[0]
    return int(count)


def _rewrite(
    store: RecordStore, con: duckdb.DuckDBPyConnection, table: str, numbers: list[str], erased: ErasedPatients
) -> int:
    """Write a table anew without the person; return its new version.

    Delta's own DELETE would quote its condition, and so the number, in the log for good.
    """
    listed = "[" + ", ".join("'" + number.replace("'", "''") + "'" for number in numbers) + "]"
    kept = {
        name: f"CASE WHEN list_contains({listed}, {name}) THEN {erased.instead_of(name)} ELSE {name} END"
        for name in _references(table)
    }
    columns = ", ".join(f"{kept[name]} AS {name}" if name in kept else name for name in columns_of(table))
    where = _is_of_person(table).replace("$numbers", listed)
    sql = f"SELECT {columns} FROM {table}" + (f" WHERE NOT coalesce({where}, false)" if where else "")
    store.roll_back(table, store.versions()[table])
    path = store.root / table
    write_deltalake(path, con.sql(sql).to_arrow_reader(BATCH_ROWS), mode="overwrite")
    return int(DeltaTable(path).version())
