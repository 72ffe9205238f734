"""The histories that benchmarks build on keep the contract and its clocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from benchmarks.bulk_history import NOW, THINGS, write_history
from features.duck import connect
from features.records.store import RecordStore
from features.records.tables import TABLES

PATIENTS = 400


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_history(tmp_path_factory.mktemp("bulk"), PATIENTS, seed=3).paths.records


@pytest.fixture(scope="module")
def con(history: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as con:
        RecordStore(history).attach(con, list(THINGS))
        yield con


def count(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    (found,) = con.execute(f"SELECT count(*) FROM ({sql})").fetchall()[0]
    return int(found)


@pytest.mark.parametrize("name", list(THINGS))
def test_every_state_keeps_the_contract(con: duckdb.DuckDBPyConnection, name: str) -> None:
    table = TABLES[name]
    assert count(con, f"FROM {name}")
    assert not count(con, f"SELECT 1 FROM {name} GROUP BY {table.key}, known_at HAVING count(*) > 1")
    assert not count(con, f"SELECT 1 FROM {name} WHERE known_at > TIMESTAMPTZ '{NOW.isoformat()}'")
    for rule in table.rules:
        assert not count(con, f"SELECT 1 FROM {name} WHERE NOT ({rule.sql})"), rule.reason
    for column in table.columns:
        bad = []
        if column.required:
            bad.append(f"{column.name} IS NULL")
        if column.values:
            bad.append(f"{column.name} NOT IN {column.values}")
        if column.minimum is not None:
            bad.append(f"{column.name} < {column.minimum}")
        if column.refers_to:
            keys = f"SELECT {TABLES[column.refers_to].key} FROM {column.refers_to}"
            bad.append(f"{column.name} IS NOT NULL AND {column.name} NOT IN ({keys})")
        for condition in bad:
            assert not count(con, f"SELECT 1 FROM {name} WHERE {condition}"), condition


def test_bookings_tell_their_end_only_when_it_is_known(con: duckdb.DuckDBPyConnection) -> None:
    first = "SELECT * FROM appointments QUALIFY row_number() OVER (PARTITION BY appointment_id ORDER BY known_at) = 1"
    assert not count(con, f"SELECT 1 FROM ({first}) WHERE status <> 'booked' OR known_at <> booked_at")
    assert not count(con, "SELECT 1 FROM appointments WHERE status <> 'booked' AND known_at <> status_known_at")
    states = "SELECT count(*) AS states FROM appointments GROUP BY appointment_id"
    assert count(con, f"SELECT 1 FROM ({states}) WHERE states = 3")
    moved = "SELECT 1 FROM appointments GROUP BY appointment_id HAVING count(DISTINCT starts_at) = 2"
    assert 0.01 < count(con, moved) / count(con, states) < 0.15


def test_size_is_what_the_benchmarks_need(con: duckdb.DuckDBPyConnection) -> None:
    def per_patient(name: str) -> float:
        return count(con, f"SELECT DISTINCT {TABLES[name].key} FROM {name}") / PATIENTS

    assert 20 < per_patient("appointments") < 32
    assert 4 < per_patient("plan_items") < 7
    assert 40 < per_patient("communications") < 64


def test_same_seed_gives_the_same_records(history: Path, tmp_path: Path) -> None:
    again = write_history(tmp_path, PATIENTS, seed=3).paths.records
    for name in THINGS:
        rows = []
        for root in (history, again):
            with connect() as con:
                RecordStore(root).attach(con, [name])
                rows.append(con.sql(f"FROM {name} ORDER BY ALL").fetchall())
        assert rows[0] == rows[1], name
