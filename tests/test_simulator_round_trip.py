"""Simulate, export in every format, import: the records of the direct path, but for what a format cannot carry.

What it cannot carry is written here as SQL over the direct path's rows and compared for equality,
so that a column that starts (or stops) to come back fails the test.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from features.duck import connect
from features.errors import FileError
from features.records.landing import import_files
from features.records.mapping import load_mapping
from features.records.tables import TABLES
from features.simulator import PracticePlan, SimulatedPractice, simulate, write_export

sqlalchemy = pytest.importorskip("sqlalchemy", reason="writing databases needs revisit[sql]")

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
SERVER = os.environ.get("REVISIT_TEST_MARIADB", "mysql+pymysql://root@127.0.0.1:3306")
CLINIC_ONLY = {"campaign_arms", "capacity", "chart_notes", "closures", "ledger", "supplies", "supply_use"}
CLOCKS = {"known_from_at"}  # compared for bookings, whose states are compared one by one
NEVER = "NULL"
# A plan's item was put into its booking by the time of its last change, or by the start of that booking.
SCHEDULED = """CASE WHEN appointment_id IS NOT NULL THEN
    least(coalesce(completed_at, declined_at, scheduled_at),
          (SELECT min(b.starts_at) FROM appointments b WHERE b.appointment_id = plan_items.appointment_id)) END"""
END_OF = "timezone('Asia/Shanghai', timezone('Asia/Shanghai', {})::DATE + INTERVAL 86399 SECOND)"
GONE = "CASE WHEN departure IN ('moved', 'transferred') THEN 'inactive' ELSE departure END"
DIED_ON = "CASE WHEN departure = 'deceased' THEN departed_on END"
FHIR_ABSENT = CLINIC_ONLY | {"recalls", "payments"}
FHIR = {
    "clinics": {"opened_on": NEVER},
    "patients": dict.fromkeys(
        (
            *("household_id", "referred_by_id", "source_channel", "membership", "tags", "is_contact_allowed"),
            *("is_wechat_allowed", "is_sms_allowed", "is_phone_allowed", "is_email_allowed", "is_profiling_allowed"),
            "first_seen_on",
        ),
        NEVER,
    )
    | {"departure": GONE, "departed_on": DIED_ON},
    "appointments": {"fee_cents": NEVER, "is_requested_clinician": NEVER},
    "plan_items": {
        "plan_item_id": "plan_id || '-' || plan_item_id",
        "clinic_id": NEVER,
        "urgency": NEVER,
        "fee_cents": NEVER,
        "scheduled_at": SCHEDULED,
    },
    "communications": {
        "campaign_id": NEVER,
        "delivered_at": "CASE WHEN outcome IS DISTINCT FROM 'no_answer' THEN delivered_at END",
        "replied_at": "CASE WHEN outcome IS DISTINCT FROM 'no_answer' THEN replied_at END",
    },
}
OPEN_DENTAL = {
    "clinics": {"opened_on": NEVER},
    "clinicians": {"clinic_id": NEVER, "works_from_on": NEVER, "left_known_at": NEVER},
    "patients": dict.fromkeys(
        (
            *("membership", "tags", "is_contact_allowed", "is_wechat_allowed", "is_email_allowed"),
            "is_profiling_allowed",
        ),
        NEVER,
    )
    | {
        "departure": GONE,
        "departed_on": DIED_ON,
        "is_phone_allowed": "CASE WHEN NOT is_phone_allowed THEN false END",
        "household_id": """CASE WHEN household_id IS NULL THEN patient_id
            ELSE min(patient_id::INT) OVER (PARTITION BY household_id)::VARCHAR END""",  # everybody has a guarantor
    },
    "appointments": {
        "status": """CASE WHEN status <> 'rescheduled' THEN status
            WHEN status_known_at <= starts_at - INTERVAL 24 HOUR THEN 'cancelled_early' ELSE 'cancelled_late' END""",
        "recall_type": NEVER,
        "is_requested_clinician": NEVER,
    },
    "plan_items": {
        "urgency": NEVER,
        "scheduled_at": SCHEDULED,
        "completed_at": END_OF.format("completed_at"),
    },
    "communications": {
        "channel": "CASE WHEN channel = 'wechat' THEN 'sms' ELSE channel END",
        **dict.fromkeys(("appointment_id", "campaign_id", "outcome", "delivered_at", "replied_at"), NEVER),
    },
    "payments": {"method": NEVER, "paid_at": END_OF.format("paid_at")},
}


@pytest.fixture(scope="module")
def simulated() -> SimulatedPractice:
    return simulate(PracticePlan(now=NOW, patients=75, years=1))


@pytest.fixture(scope="module")
def bring(
    simulated: SimulatedPractice, practice_at: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    def run(dialect: Any, database: str = "") -> Any:
        practice = practice_at(tmp_path_factory.mktemp(dialect))
        export = practice.root / "export"
        write_export(simulated, export, dialect, database)
        import_files(practice.store, database or export, load_mapping(export / "mapping.toml"), NOW)
        assert practice.rows("SELECT count(*) FROM quarantine") == [(0,)]
        return practice

    return run


@pytest.fixture(scope="module")
def direct(bring: Callable[..., Any]) -> Any:
    return bring("csv-en")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    pytest.importorskip("pymysql", reason="writing MariaDB needs revisit[sql]")
    name = f"revisit_round_trip_{os.getpid()}"
    server = sqlalchemy.create_engine(SERVER, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": 3})
    try:
        with server.begin() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    except sqlalchemy.exc.OperationalError:
        pytest.skip("no MariaDB answers on 127.0.0.1:3306 (REVISIT_TEST_MARIADB names another)")
    try:
        yield f"{SERVER}/{name}"
    finally:
        with server.begin() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")


Rows = list[tuple[Any, ...]]


def states(rows: Callable[[str], Rows], table: str, columns: dict[str, str]) -> Rows:
    """All states of the bookings, and the last state of everything else, as `columns` (SQL over them) show it."""
    every = table == "appointments"
    newest = f"QUALIFY row_number() OVER (PARTITION BY {TABLES[table].key} ORDER BY known_at DESC) = 1"
    shown = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
    return rows(
        f"""SELECT {"known_at, " if every else ""}{shown}
        FROM (SELECT * FROM {table} {"" if every else newest}) AS {table} ORDER BY ALL"""
    )


def compared(table: str) -> dict[str, str]:
    return {name: name for name in TABLES[table].column_names if name not in CLOCKS}


@contextmanager
def numbered(practice: Any, numbers: Path) -> Iterator[Callable[[str], Rows]]:
    """Query the records of the direct path with every id replaced by the key that the database gives it."""
    with connect() as con, connect() as shown:
        practice.store.attach(con, [*TABLES])
        con.execute("CREATE TEMP TABLE numbers AS SELECT * FROM read_csv(?, all_varchar = true)", [str(numbers)])
        known = {name for (name,) in con.execute("SELECT DISTINCT table_name FROM numbers").fetchall()}
        for name, table in TABLES.items():
            of = {table.key: name, "plan_id": "plans"} | {c.name: c.refers_to for c in table.columns if c.refers_to}
            swapped = [
                f"""(SELECT n.open_dental_key FROM numbers n
                WHERE n.table_name = '{of[column]}' AND n.id = direct.{column}) AS {column}"""
                for column in table.column_names
                if of.get(column) in known
            ]
            replaced = f"REPLACE ({', '.join(swapped)})" if swapped else ""
            shown.register(name, con.sql(f"SELECT direct.* {replaced} FROM {name} AS direct").to_arrow_table())
        yield lambda sql: shown.execute(sql).fetchall()


def test_round_trip_in_chinese_is_the_direct_path(bring: Callable[..., Any], direct: Any) -> None:
    chinese = bring("csv-zh")
    for table in TABLES:
        every = "SELECT * FROM {} ORDER BY ALL"
        assert chinese.rows(every.format(table)) == direct.rows(every.format(table)), table
    assert direct.rows("SELECT count(DISTINCT appointment_id) > 200 FROM appointments") == [(True,)]


def test_round_trip_over_fhir(bring: Callable[..., Any], direct: Any) -> None:
    fhir = bring("fhir")
    for table in TABLES:
        expected = [] if table in FHIR_ABSENT else states(direct.rows, table, compared(table) | FHIR.get(table, {}))
        assert states(fhir.rows, table, compared(table)) == expected, table


def test_round_trip_over_open_dental(
    bring: Callable[..., Any], direct: Any, simulated: SimulatedPractice, database: str, tmp_path: Path
) -> None:
    there = bring("open-dental", database)
    numbers = there.root / "export" / "truth" / "open_dental_numbers.csv"
    with numbered(direct, numbers) as rows:
        for table in TABLES:
            changed = compared(table) | OPEN_DENTAL.get(table, {})
            expected = [] if table in CLINIC_ONLY else states(rows, table, changed)
            assert states(there.rows, table, compared(table)) == expected, table
    before = dump(database)
    with pytest.raises(FileError, match="holds tables already"):
        write_export(simulated, tmp_path / "again", "open-dental", database)
    assert dump(database) == before, "what is there is never overwritten"
    empty(database)
    write_export(simulated, tmp_path / "again", "open-dental", database)
    assert dump(database) == before, "the same seed gives the same rows"


def dump(database: str) -> dict[str, list[Any]]:
    engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        tables = [row[0] for row in connection.exec_driver_sql("SHOW TABLES")]
        return {name: list(connection.exec_driver_sql(f"SELECT * FROM `{name}` ORDER BY 1")) for name in tables}


def empty(database: str) -> None:
    engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        for (name,) in connection.exec_driver_sql("SHOW TABLES").fetchall():
            connection.exec_driver_sql(f"DROP TABLE `{name}`")


# Elements of R4 that the published examples happen not to show; they show no PractitionerRole at all.
UNSHOWN = {
    "Appointment": {"str": "appointmentType.text cancelationReason.text meta.lastUpdated serviceType.text"},
    "CarePlan": {"str": "activity.id meta.lastUpdated"},
    "Communication": {
        "list": "inResponseTo reasonCode statusReason.coding",
        "str": """about.reference inResponseTo.reference reasonCode.text statusReason.coding.code
            statusReason.coding.system""",
    },
    "Encounter": {"str": "serviceType.text"},
    "PractitionerRole": {
        "bool": "active",
        "list": "code code.coding location",
        "str": """resourceType id code.coding.code code.coding.display code.coding.system code.text location.reference
            organization.reference period.start practitioner.reference""",
    },
}
CODES = {  # required bindings of R4
    ("Appointment", "status"): "proposed pending booked arrived fulfilled cancelled noshow checked-in waitlist",
    ("Appointment", "participant.status"): "accepted declined tentative needs-action",
    ("Encounter", "status"): "planned arrived triaged in-progress onleave finished cancelled",
    ("CarePlan", "status"): "draft active on-hold revoked completed",
    ("CarePlan", "intent"): "proposal plan order option",
    ("CarePlan", "activity.detail.status"): "not-started scheduled in-progress on-hold completed cancelled stopped",
    ("CarePlan", "activity.detail.kind"): "Appointment CommunicationRequest DeviceRequest ServiceRequest Task",
    ("Communication", "status"): "preparation in-progress not-done on-hold stopped completed",
    ("Patient", "gender"): "male female other unknown",
    ("Patient", "telecom.system"): "phone fax email pager url sms other",
    ("Location", "status"): "active suspended inactive",
}
REQUIRED = {
    "Appointment": {"status", "participant", "participant.status"},
    "Encounter": {"status", "class", "location.location"},
    "CarePlan": {"status", "intent", "subject", "activity.detail.status", "activity.progress.text"},
    "Communication": {"status"},
}
IDENTIFIER = re.compile(r"^[A-Za-z0-9.-]{1,64}$")


def elements(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Path, JSON type and value of everything in a resource; a list counts as ``list`` and by its items."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from elements(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield path, "list", None
        for item in value:
            yield from elements(item, path)
    else:
        yield path, type(value).__name__, value


def test_fhir_export_is_shaped_like_the_published_resources(
    simulated: SimulatedPractice, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "fhir"
    if not folder.is_dir():
        pytest.skip(f"the published FHIR data {folder} are not here (REVISIT_SHARED names the folder that holds data/)")
    shown: dict[str, set[tuple[str, str]]] = {}
    for path in folder.rglob("*.ndjson"):
        for line in path.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            shown.setdefault(one["resourceType"], set()).update((where, kind) for where, kind, _ in elements(one))
    write_export(simulated, tmp_path, "fhir")
    unknown, numbers = set(), Counter[tuple[str, str]]()
    for path in tmp_path.glob("*.ndjson"):
        for line in path.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            kind = one["resourceType"]
            assert kind == path.stem
            assert IDENTIFIER.match(one["id"]), one["id"]
            numbers[kind, one["id"]] += 1
            found = list(elements(one))
            unknown |= {(kind, where, what) for where, what, _ in found if (where, what) not in shown.get(kind, set())}
            for where, _, value in found:
                allowed = CODES.get((kind, where))
                assert allowed is None or value is None or value in allowed.split(), (kind, where, value)
            parents = {where for where, _, _ in found} | {where.split(".")[0] for where, _, _ in found}
            for needed in REQUIRED.get(kind, ()):
                outer = needed.rpartition(".")[0]
                if not outer or any(where.startswith(f"{outer}.") for where, _, _ in found):
                    assert any(w == needed or w.startswith(f"{needed}.") for w in parents), (kind, one["id"], needed)
    assert max(numbers.values()) == 1, "an id names one resource of its type"
    assert unknown == {
        (kind, where, what)
        for kind, types in UNSHOWN.items()
        for what, paths in types.items()
        for where in paths.split()
    }


def test_fhir_export_has_the_same_bytes_for_the_same_plan(simulated: SimulatedPractice, tmp_path: Path) -> None:
    once, again = tmp_path / "once", tmp_path / "again"
    for folder in (once, again):
        write_export(simulated, folder, "fhir")
    names = sorted(path.name for path in once.glob("*.*"))
    assert "Patient.ndjson" in names
    assert all((once / name).read_bytes() == (again / name).read_bytes() for name in names)
    assert json.loads((once / "Patient.ndjson").read_text(encoding="utf-8").splitlines()[0])["id"] == "P000001"
