"""The real export of the Brazilian clinics, through the command line, beside an independent reading of it."""

from __future__ import annotations

import csv
import re
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from features.duck import connect
from features.records.store import RecordStore

LOCAL = ZoneInfo("America/Sao_Paulo")
TABLES = ["patients", "appointments", "communications"]


def instant(text: str) -> datetime:
    """The file's times are local, whatever the Z says."""
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=LOCAL)


@pytest.fixture(scope="module")
def raw(brazil_csv: Path) -> list[dict[str, str]]:
    with brazil_csv.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def faults(raw: list[dict[str, str]]) -> dict[int, str]:
    """Row number (from 1, after the header) to reason, by a loop of our own."""
    found = {}
    for number, row in enumerate(raw, start=1):
        if not 0 <= int(row["Age"]) <= 120:
            found[number] = "age"
        elif row["AppointmentDay"][:10] < row["ScheduledDay"][:10]:
            found[number] = "before its booking"
    return found


@pytest.fixture(scope="module")
def imported(
    brazil_csv: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RecordStore, list[Result], list[dict[str, int]], list[bytes]]:
    """The store after two imports of the file; what each printed; versions and manifest after each."""
    from serving.cli import main

    folder = tmp_path_factory.mktemp("brazil")
    mapping = repository / "docs" / "examples" / "no_show_brazil.toml"
    store, printed, versions, manifests = RecordStore(folder / "data" / "records"), [], [], []
    for _ in range(2):
        environment = {"REVISIT_DATA": str(folder / "data"), "COLUMNS": "200"}
        printed.append(CliRunner(env=environment).invoke(main, ["import", str(brazil_csv), "-m", str(mapping)]))
        versions.append(store.versions())
        manifests.append((store.root / "manifest.json").read_bytes())
    return store, printed, versions, manifests


def query(store: RecordStore, sql: str) -> list[tuple[object, ...]]:
    with connect() as con:
        store.attach(con, [*TABLES, "quarantine"])
        return con.execute(sql).fetchall()


def test_import_reads_all_and_stores_the_sound(imported, raw, faults) -> None:  # type: ignore[no-untyped-def]
    store, (first, _), _, _ = imported
    assert (first.exit_code, first.stderr) == (0, "")
    assert len(raw) == 110_527
    assert "110,527 rows read" in first.stdout
    assert "6 rows quarantined" in first.stdout
    assert query(store, "SELECT count(DISTINCT appointment_id) FROM appointments") == [(110_521,)]
    assert len(faults) == 6


def test_quarantine_names_the_right_rows(imported, faults) -> None:  # type: ignore[no-untyped-def]
    store = imported[0]
    found: dict[int, set[str]] = {}
    for number, reason in query(store, "SELECT row_number, reason FROM quarantine"):
        found.setdefault(number, set()).add(str(reason))  # type: ignore[arg-type]
    assert set(found) == set(faults)
    for number, reason in faults.items():
        assert any(reason in text for text in found[number])


def test_stored_things_match_an_independent_reading(imported, raw, faults) -> None:  # type: ignore[no-untyped-def]
    store = imported[0]
    sound = [row for number, row in enumerate(raw, start=1) if number not in faults]
    patients = {row["PatientId"].removesuffix(".0") for row in sound}
    assert set(query(store, "SELECT DISTINCT patient_id FROM patients")) == {(patient,) for patient in patients}
    reminded = {row["AppointmentID"] for row in sound if row["SMS_received"] == "1"}
    assert set(query(store, "SELECT communication_id FROM communications")) == {(number,) for number in reminded}
    assert query(store, "SELECT count(*) FROM communications") == [(len(reminded),)]


def test_states_match_an_independent_reading(imported, raw, faults) -> None:  # type: ignore[no-untyped-def]
    expected = set()
    for number, row in enumerate(raw, start=1):
        if number in faults:
            continue
        booked, day = instant(row["ScheduledDay"]), instant(row["AppointmentDay"])
        starts = booked if booked.date() == day.date() else day
        over = (day.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=LOCAL)
        status = {"Yes": "no_show", "No": "completed"}[row["No-show"]]
        expected.add((row["AppointmentID"], "booked", starts.timestamp(), booked.timestamp()))
        expected.add((row["AppointmentID"], status, starts.timestamp(), over.timestamp()))
    stored = query(imported[0], "SELECT appointment_id, status, epoch(starts_at), epoch(known_at) FROM appointments")
    assert set(stored) == expected
    assert len(stored) == len(expected)


def test_second_import_changes_nothing(imported) -> None:  # type: ignore[no-untyped-def]
    _, (_, second), versions, manifests = imported
    assert second.exit_code == 0
    assert "nothing new" in second.stdout
    assert re.search(r"appointments\W+0\W+0\W+110,521", second.stdout)
    assert versions[0] == versions[1]
    assert manifests[0] == manifests[1]
