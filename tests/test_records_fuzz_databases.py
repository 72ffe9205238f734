"""Damaged rows of databases: stored, quarantined or refused in one sentence; the rows beside them stay as they are."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from features.errors import RevisitError
from features.records.landing import ImportReport, import_files
from features.records.mapping import Mapping, load_mapping
from features.simulator import PracticePlan, simulate, write_export
from features.simulator.open_dental_schema import layout

sqlalchemy = pytest.importorskip("sqlalchemy", reason="reading databases needs revisit[sql]")

SERVER = os.environ.get("REVISIT_TEST_MARIADB", "mysql+pymysql://root@127.0.0.1:3306")
NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
ROUNDS, ROWS = 2, 40  # imports, and rows damaged in each; one more round hits tables that all share
OWNED = ("patient", "appointment", "histappointment", "procedurelog", "paysplit", "recall", "commlog", "proctp")
SHARED = ("provider", "clinic", "procedurecode", "definition", "recalltype", "referral", "refattach", "treatplan")
ODD = {
    "date": ["0000-00-00", "0001-01-01", "9999-12-31", "1582-10-10", "2026-02-29", "2150-01-01", "1899-12-31"],
    "int": [0, -1, 1, 7, 99, 127, 255, 2**31 - 1, 2**62],
    "double": [0, -1.0, 0.005, -0.01, 1e12, 1e300, 123456789.995],
    "text": ["", " ", "x" * 200, "’); --", "王小明", "D", "D9986", "\t", "NULL", "😀"],
}


def odd(kind: str, dice: random.Random) -> Any:
    plain = re.split(r"\W", kind)[0]
    if plain in ("date", "datetime", "timestamp"):
        return dice.choice(ODD["date"]) + ("" if plain == "date" else dice.choice([" 00:00:00", " 23:59:59"]))
    if plain == "double":
        return dice.choice(ODD["double"])
    return dice.choice(ODD["int"] if plain.endswith("int") else ODD["text"])


@pytest.fixture(scope="module")
def open_dental(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Mapping]]:
    pytest.importorskip("pymysql", reason="writing MariaDB needs revisit[sql]")
    name, folder = f"revisit_fuzz_{os.getpid()}", tmp_path_factory.mktemp("fuzz")
    server = sqlalchemy.create_engine(SERVER, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": 3})
    try:
        with server.begin() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    except sqlalchemy.exc.OperationalError:
        pytest.skip("no MariaDB answers on 127.0.0.1:3306 (REVISIT_TEST_MARIADB names another)")
    try:
        plan = PracticePlan(now=NOW, patients=30, years=1)
        write_export(simulate(plan), folder, "open-dental", f"{SERVER}/{name}")
        yield f"{SERVER}/{name}", load_mapping(folder / "mapping.toml")
    finally:
        with server.begin() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")


def bookings(practice: Any) -> dict[str, tuple[Any, ...]]:
    rows = practice.rows(
        """SELECT appointment_id, patient_id, status, starts_at FROM appointments
        QUALIFY row_number() OVER (PARTITION BY appointment_id ORDER BY known_at DESC) = 1"""
    )
    return {row[0]: row[1:] for row in rows}


def ends_well(practice: Any, source: str, mapping: Mapping, told: str) -> ImportReport | None:
    """Import; a refusal is one sentence and leaves nothing, and what was imported is the same when it comes again."""
    before = practice.store.versions()
    try:
        report = import_files(practice.store, source, mapping, NOW)
    except RevisitError as error:
        text = str(error)
        assert text, told
        assert "\n" not in text, told
        assert "王小明" not in text, told
        assert practice.store.versions() == before, told
        return None
    except Exception as error:
        pytest.fail(f"{told}: {type(error).__name__}: {str(error)[:300]}")
    assert report.quarantined_rows <= report.rows, told
    return report


def damage(
    connection: Any, tables: tuple[str, ...], read: str, dice: random.Random
) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    """Put odd values into columns that the importer reads; yield table, row as it was, and the row's patient."""
    hit: set[tuple[str, Any]] = set()
    while len(hit) < ROWS:
        table = dice.choice(tables)
        columns = layout()[table]
        key = columns[0][0]
        rows = connection.exec_driver_sql(f"SELECT * FROM `{table}`").mappings().fetchall()
        row = dice.choice(rows)
        if (table, row[key]) in hit and len(rows) > ROWS:
            continue
        hit.add((table, dice.random() if len(rows) <= ROWS else row[key]))
        usable = [(name, kind) for name, kind in columns[1:] if re.search(rf"\b{name}\b", read)]
        for name, kind in dice.sample(usable, min(len(usable), dice.randint(1, 3))):
            value = odd(kind, dice)
            connection.exec_driver_sql(
                f"UPDATE IGNORE `{table}` SET `{name}` = %s WHERE `{key}` = %s", (value, row[key])
            )
        yield table, tuple(row.values()), row.get("PatNum")


def test_damaged_rows_of_open_dental(
    open_dental: tuple[str, Mapping], practice_at: Any, repository: Path, tmp_path: Path
) -> None:
    url, mapping = open_dental
    read = (repository / "features" / "records" / "mappings" / "open_dental.toml").read_text(encoding="utf-8")
    sound = practice_at(tmp_path / "sound")
    assert ends_well(sound, url, mapping, "sound")
    expected, quarantined, damaged = bookings(sound), 0, 0
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET SESSION sql_mode = ''")  # lets out-of-range values in, as old versions did
        for number in range(ROUNDS + 1):
            dice, is_shared = random.Random(number), number == ROUNDS
            hurt = list(damage(connection, SHARED if is_shared else OWNED, read, dice))
            connection.commit()
            practice = practice_at(tmp_path / str(number))
            report = ends_well(practice, url, mapping, f"round {number}")
            damaged += len(hurt)
            if report:
                quarantined += report.quarantined_rows
                touched = {str(patient) for _, _, patient in hurt}
                kept = {key: row for key, row in expected.items() if row[0] not in touched}
                found = bookings(practice)
                assert is_shared or {key: found.get(key) for key in kept} == kept, f"round {number}"
                assert is_shared or kept
            for table, row, _ in reversed(hurt):
                marks = ", ".join(["%s"] * len(row))
                connection.exec_driver_sql(f"REPLACE INTO `{table}` VALUES ({marks})", row)
            connection.commit()
    assert damaged >= 100
    assert quarantined > 0
    again = import_files(sound.store, url, mapping, NOW)
    assert not again.has_changes, "all damage was undone"


SQL = """
format = "sql"
time_zone = "Asia/Shanghai"
[tables.appointments]
query = "SELECT * FROM booking"
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = "site"
status = { column = "state", values = { done = "completed", open = "booked" } }
duration_minutes = "minutes"
fee_cents = { column = "price", unit = "major" }
booked_at = "made_at"
starts_at = "begins_at"
[tables.patients]
query = "SELECT DISTINCT patient, born, seen FROM booking"
[tables.patients.columns]
patient_id = "patient"
birth_year = "born"
first_seen_on = "seen"
"""
COLUMNS = ("id", "patient", "site", "state", "minutes", "price", "made_at", "begins_at", "born", "seen")
SOUND = ("p1", "east", "done", 30, 120.5, "2025-01-01 09:00:00", "2025-02-01 09:00:00", 1980, "2025-02-01")
CELLS = [
    *(
        None,
        "",
        " ",
        0,
        -1,
        2**62,
        1e300,
        float("inf"),
        0.005,
        b"\xff\xfe",
        b"",
        "x" * 3000,
        "2025-02-30",
        "9999-12-31",
    ),
    *(
        "0000-00-00",
        "0001-01-01 00:00:00",
        "2025-02-01T09:00:00+25:00",
        "294247-01-11",
        "王小明",
        "\x00",
        "NaN",
        "1,5",
        "'",
    ),
]


def test_damaged_rows_of_any_sql_database(practice_here: Any, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(SQL, encoding="utf-8")
    mapping = load_mapping(tmp_path / "m.toml")
    path = tmp_path / "clinic.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.NullPool)
    dice, rows = random.Random(5), []
    for number in range(120):
        row: list[Any] = [number, *SOUND]
        if number >= 10:
            for place in dice.sample(range(1, len(row)), dice.randint(1, 3)):
                row[place] = dice.choice(CELLS)
        rows.append(tuple(row))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE booking ({', '.join(COLUMNS)})")  # SQLite keeps any type anywhere
        for row in rows:
            connection.exec_driver_sql(f"INSERT INTO booking VALUES ({', '.join('?' * len(row))})", row)
    report = ends_well(practice_here, f"sqlite:///{path}", mapping, "sqlite")
    assert report is not None
    stored = {number for (number,) in practice_here.rows("SELECT DISTINCT appointment_id::INT FROM appointments")}
    aside = {
        number
        for (number,) in practice_here.rows(
            "SELECT DISTINCT row_number - 1 FROM quarantine WHERE source LIKE '%: appointments'"
        )
    }
    assert stored | aside == set(range(120)), "every row is stored or set aside"
    assert not stored & aside
    assert stored >= set(range(10)), "sound rows are stored"
    assert len(aside) > 30
    assert not import_files(practice_here.store, f"sqlite:///{path}", mapping, NOW).has_changes
