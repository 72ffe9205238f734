"""Open Dental over a real MariaDB: a database of its shape, a small practice full of traps."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from features.duck import connect
from features.errors import MappingError
from features.records.landing import ImportReport, import_files
from features.records.mapping import load_mapping
from features.records.sql import load_queries
from features.simulator.open_dental_schema import columns_of, create_statements, layout

sqlalchemy = pytest.importorskip("sqlalchemy", reason="reading databases needs revisit[sql]")

SERVER = os.environ.get("REVISIT_TEST_MARIADB", "mysql+pymysql://root@127.0.0.1:3306")
DATABASE = f"revisit_open_dental_{os.getpid()}"
NOW = datetime(2026, 11, 17, 15, 30, tzinfo=UTC)
NAME, PHONE = "Wilhelmina", "3125550147"

PROVIDERS = [
    {"ProvNum": 1, "Abbr": "DOC1"},
    {"ProvNum": 2, "Abbr": "HYG1", "IsSecondary": 1},
    {"ProvNum": 3, "Abbr": "DOC2", "DateTerm": "2025-06-30"},
    {"ProvNum": 4, "Abbr": "OFFICE", "IsNotPerson": 1},
]
PATIENTS = [
    {
        "PatNum": 1,
        "FName": NAME,
        "LName": "Fane",
        "WirelessPhone": PHONE,
        "Guarantor": 1,
        "Gender": 1,
        "Birthdate": "1980-05-06",
        "SecDateEntry": "2024-01-10",
        "DateTStamp": "2026-01-05 08:00:00",
    },
    {
        "PatNum": 2,
        "FName": "Son",
        "Guarantor": 1,
        "Birthdate": "2010-01-01",
        "TxtMsgOk": 2,
        "SecDateEntry": "2024-02-10",
        "DateTStamp": "2026-01-05 08:00:00",
    },
    {
        "PatNum": 3,
        "Guarantor": 3,
        "PatStatus": 5,
        "Birthdate": "1940-01-01",
        "DateTimeDeceased": "2025-03-03 00:00:00",
        "SecDateEntry": "2020-02-10",
        "DateTStamp": "2025-03-10 09:00:00",
    },
    {"PatNum": 4, "Guarantor": 4, "PatStatus": 4},
    {"PatNum": 5, "Guarantor": 5, "PatStatus": 2},
    {"PatNum": 6, "Guarantor": 6, "PatStatus": 3},
    {"PatNum": 7, "Guarantor": 1, "PatNumCloneFrom": 1},
    {"PatNum": 8, "Guarantor": 8, "PatStatus": 1},
    {"PatNum": 9, "Guarantor": 9, "PatStatus": 6, "Gender": 2},
]
APPOINTMENT = {"ProvNum": 1, "Pattern": "XXXXXXXX//", "AptStatus": 1}
# number, patient, status, start, last change
APPOINTMENTS = [
    (100, 1, 2, "2025-02-03 15:00:00", "2025-02-03 16:10:00"),
    (101, 1, 5, "2025-03-03 10:00:00", "2025-03-03 10:30:00"),
    (102, 2, 5, "2025-03-04 10:00:00", "2025-03-04 07:00:00"),
    (103, 2, 5, "2025-03-20 10:00:00", "2025-03-15 10:00:00"),
    (104, 2, 5, "2025-04-01 10:00:00", "2025-04-01 18:00:00"),
    (105, 1, 6, "2025-04-02 10:00:00", "2025-01-01 10:00:00"),
    (106, 2, 3, "0001-01-01 00:00:00", "2025-01-01 10:00:00"),
    (107, 4, 2, "2025-01-08 10:00:00", "2025-01-08 11:00:00"),
    (108, 7, 2, "2025-01-09 10:00:00", "2025-01-09 11:00:00"),
    (109, 1, 7, "2025-01-10 10:00:00", "2025-01-10 11:00:00"),
    (110, 9, 1, "2026-12-01 10:00:00", "2026-11-01 11:00:00"),
    (111, 2, 3, "0001-01-01 00:00:00", "2025-05-05 08:00:00"),
    (113, 1, 2, "2025-06-20 09:00:00", "2025-06-20 10:00:00"),
]
# number, patient, what was done (0 created, 1 changed, 2 missed, 3 cancelled, 4 deleted), status, start, when
HISTORY = [
    (100, 1, 0, 1, "2025-02-01 10:00:00", "2025-01-02 09:00:00"),
    (100, 1, 1, 1, "2025-02-03 15:00:00", "2025-01-20 12:00:00"),
    (100, 1, 1, 2, "2025-02-03 15:00:00", "2025-02-03 16:10:00"),
    (101, 1, 0, 1, "2025-03-03 10:00:00", "2025-01-02 09:00:00"),
    (101, 1, 1, 5, "2025-03-03 10:00:00", "2025-03-03 10:30:00"),
    (102, 2, 0, 1, "2025-03-04 10:00:00", "2025-01-02 09:00:00"),
    (102, 2, 1, 5, "2025-03-04 10:00:00", "2025-03-04 07:00:00"),
    (103, 2, 0, 1, "2025-03-20 10:00:00", "2025-01-02 09:00:00"),
    (103, 2, 3, 5, "2025-03-20 10:00:00", "2025-03-15 10:00:00"),
    (111, 2, 0, 1, "2025-05-05 10:00:00", "2025-04-20 10:00:00"),
    (111, 2, 1, 3, "0001-01-01 00:00:00", "2025-05-05 08:00:00"),
    (112, 2, 0, 1, "2025-05-08 10:00:00", "2025-04-20 10:00:00"),
    (112, 2, 4, 1, "2025-05-08 10:00:00", "2025-05-05 10:00:00"),
    (113, 1, 0, 1, "2025-06-10 09:00:00", "2025-05-20 10:00:00"),
    (113, 1, 2, 5, "2025-06-10 09:00:00", "2025-06-10 09:40:00"),
    (113, 1, 1, 1, "2025-06-20 09:00:00", "2025-06-11 10:00:00"),
    (113, 1, 1, 2, "2025-06-20 09:00:00", "2025-06-20 10:00:00"),
]
CODES = {1: "D9986", 2: "D9987", 3: "D0120", 4: "D2740"}
PROCEDURES = [
    {"ProcNum": 1, "PatNum": 1, "CodeNum": 1, "ProcDate": "2025-03-03", "ProcStatus": 2},
    {"ProcNum": 2, "PatNum": 2, "CodeNum": 2, "ProcDate": "2025-03-04", "ProcStatus": 2},
    {"ProcNum": 3, "PatNum": 1, "CodeNum": 1, "ProcDate": "2025-06-10", "ProcStatus": 2},
    {
        "ProcNum": 4,
        "PatNum": 1,
        "CodeNum": 3,
        "AptNum": 100,
        "ProcDate": "2025-02-03",
        "ProcStatus": 2,
        "ProcFee": 65.5,
    },
    {"ProcNum": 10, "PatNum": 1, "CodeNum": 4, "DateTP": "2025-02-03", "ProcStatus": 1, "ProcFee": 1200.0},
    {
        "ProcNum": 11,
        "PatNum": 1,
        "CodeNum": 4,
        "DateTP": "2025-02-03",
        "SecDateEntry": "2025-02-03 15:20:00",
        "ProcStatus": 2,
        "ProcFee": 900.25,
        "DateComplete": "2025-06-20",
        "ProcDate": "2025-06-20",
        "AptNum": 113,
        "DateTStamp": "2025-06-20 10:00:00",
    },
    {"ProcNum": 12, "PatNum": 1, "CodeNum": 4, "DateTP": "2025-02-03", "ProcStatus": 6},
    {
        "ProcNum": 13,
        "PatNum": 1,
        "CodeNum": 4,
        "DateTP": "2025-02-03",
        "ProcStatus": 5,
        "DateTStamp": "2025-07-01 09:00:00",
    },
    {"ProcNum": 14, "PatNum": 7, "CodeNum": 4, "DateTP": "2025-02-04", "ProcStatus": 1},
]
OTHER = {
    "definition": [
        {"DefNum": 1, "Category": 27, "ItemName": "Recall"},
        {"DefNum": 2, "Category": 27, "ItemName": "Appt", "ItemValue": "APPT"},
        {"DefNum": 3, "Category": 27, "ItemName": "Misc"},
        {"DefNum": 4, "Category": 11, "ItemName": "Crowns"},
    ],
    "treatplan": [{"TreatPlanNum": 1, "PatNum": 1, "DateTP": "2025-02-03", "DateTSigned": "2025-02-10 11:00:00"}],
    "treatplanattach": [{"TreatPlanAttachNum": 1, "TreatPlanNum": 1, "ProcNum": 11}],
    "proctp": [
        {"ProcTPNum": 1, "TreatPlanNum": 1, "PatNum": 1, "ProcNumOrig": 11, "ProcCode": "D2740", "FeeAmt": 900.25},
        {"ProcTPNum": 2, "TreatPlanNum": 1, "PatNum": 1, "ProcNumOrig": 999, "ProcCode": "D2750", "FeeAmt": 800.0},
    ],
    "recalltype": [{"RecallTypeNum": 1, "Description": "Prophy", "DefaultInterval": 6 << 16}],
    "recall": [
        {
            "RecallNum": 1,
            "PatNum": 1,
            "RecallTypeNum": 1,
            "RecallInterval": (1 << 24) | (6 << 16) | (2 << 8) | 3,
            "DateDueCalc": "2025-08-03",
            "DateTStamp": "2025-02-03 16:10:00",
        },
        {
            "RecallNum": 2,
            "PatNum": 2,
            "RecallTypeNum": 1,
            "RecallInterval": 6 << 16,
            "DateDue": "2025-09-03",
            "IsDisabled": 1,
            "DisableUntilDate": "2025-12-01",
            "DateTStamp": "2025-02-03 16:10:00",
        },
        {"RecallNum": 3, "PatNum": 4, "RecallTypeNum": 1},
    ],
    "commlog": [
        {
            "CommlogNum": 1,
            "PatNum": 1,
            "CommType": 1,
            "Mode_": 5,
            "SentOrReceived": 1,
            "CommDateTime": "2025-07-20 09:00:00",
        },
        {
            "CommlogNum": 2,
            "PatNum": 1,
            "CommType": 2,
            "Mode_": 3,
            "SentOrReceived": 2,
            "CommDateTime": "2025-07-20 10:00:00",
        },
        {
            "CommlogNum": 3,
            "PatNum": 1,
            "CommType": 3,
            "Mode_": 0,
            "SentOrReceived": 0,
            "CommDateTime": "2025-07-20 11:00:00",
        },
        {
            "CommlogNum": 4,
            "PatNum": 1,
            "CommType": 3,
            "Mode_": 4,
            "SentOrReceived": 1,
            "CommDateTime": "2025-07-20 12:00:00",
        },
        {
            "CommlogNum": 5,
            "PatNum": 7,
            "CommType": 3,
            "Mode_": 1,
            "SentOrReceived": 1,
            "CommDateTime": "2025-07-20 13:00:00",
        },
    ],
    "paysplit": [
        {"SplitNum": 1, "PatNum": 1, "SplitAmt": 65.5, "DatePay": "2025-02-03", "ProcNum": 4},
        {"SplitNum": 2, "PatNum": 1, "SplitAmt": -20.1, "ProcDate": "2025-02-04"},
        {"SplitNum": 3, "PatNum": 1, "SplitAmt": 900.25, "DatePay": "2025-06-20", "ProcNum": 11},
    ],
    "referral": [
        {"ReferralNum": 1, "PatNum": 1, "LName": "Fane"},
        {"ReferralNum": 2, "NotPerson": 1, "LName": "Radio"},
        {"ReferralNum": 3, "IsDoctor": 1, "LName": "Surgeon"},
    ],
    "refattach": [
        {"RefAttachNum": 1, "ReferralNum": 1, "PatNum": 2, "RefType": 1},
        {"RefAttachNum": 2, "ReferralNum": 2, "PatNum": 1, "RefType": 1},
        {"RefAttachNum": 3, "ReferralNum": 3, "PatNum": 5, "RefType": 0},  # referred out
    ],
}


def test_open_dental_tables_are_those_of_its_public_schema(shared_data: Path) -> None:
    published = shared_data / "formats" / "open_dental.md"
    if not published.is_file():
        pytest.skip(f"Open Dental's layout {published} is not here (REVISIT_SHARED names the folder that holds data/)")
    listed = re.findall(r"^- \*\*(\w+)\*\*: (.*)$", published.read_text(encoding="utf-8"), re.MULTILINE)
    expected = {table: columns_of(columns) for table, columns in listed}
    made = layout()
    assert made.pop("clinic")[:2] == [("ClinicNum", "bigint(20)"), ("Description", "varchar(255)")]
    assert made == expected


def booking(number: int, patient: int, status: int, start: str) -> dict[str, Any]:
    known = {"AptNum": number, "PatNum": patient, "AptStatus": status, "AptDateTime": start}
    return APPOINTMENT | known | {"SecDateTEntry": "2025-01-02 09:00:00"}


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    pytest.importorskip("pymysql", reason="reading MariaDB needs revisit[sql]")
    server = sqlalchemy.create_engine(SERVER, poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": 3})
    try:
        with server.begin() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
    except sqlalchemy.exc.OperationalError:
        pytest.skip("no MariaDB answers on 127.0.0.1:3306 (REVISIT_TEST_MARIADB names another)")
    url = f"{SERVER}/{DATABASE}"
    tables: dict[str, list[dict[str, Any]]] = {
        "provider": PROVIDERS,
        "patient": PATIENTS,
        "appointment": [booking(*row[:4]) | {"DateTStamp": row[4]} for row in APPOINTMENTS],
        "histappointment": [
            booking(number, patient, status, start)
            | {"HistApptNum": index, "HistApptAction": act, "HistDateTStamp": when}
            for index, (number, patient, act, status, start, when) in enumerate(HISTORY, start=1)
        ],
        "procedurecode": [{"CodeNum": n, "ProcCode": code, "ProcCat": 4} for n, code in CODES.items()],
        "procedurelog": PROCEDURES,
        **OTHER,
    }
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            for statement in create_statements():
                connection.exec_driver_sql(statement)
            for table, rows in tables.items():
                for row in rows:
                    names = ", ".join(f"`{name}`" for name in row)
                    marks = ", ".join(["%s"] * len(row))
                    connection.exec_driver_sql(f"INSERT INTO `{table}` ({names}) VALUES ({marks})", tuple(row.values()))
        yield url
    finally:
        with server.begin() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {DATABASE}")


@pytest.fixture(scope="module")
def imported(
    database: str, repository: Path, practice_at: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, ImportReport]:
    practice = practice_at(tmp_path_factory.mktemp("open_dental"))
    return practice, run(practice, database, repository)


def run(practice: Any, database: str, repository: Path) -> ImportReport:
    mapping = load_mapping(repository / "docs" / "examples" / "open_dental.toml")
    return import_files(practice.store, database, mapping, NOW)


def seen(practice: Any, appointment: int, local: str) -> tuple[str, str] | None:
    """Status and start of a booking as known at a wall-clock moment of the practice."""
    rows = practice.rows(
        f"""SELECT status, strftime(timezone('America/Chicago', starts_at), '%m-%d %H:%M') FROM appointments
        WHERE appointment_id = '{appointment}' AND known_at <= timezone('America/Chicago', TIMESTAMP '{local}')
        ORDER BY known_at DESC LIMIT 1"""
    )
    return rows[0] if rows else None


@pytest.mark.parametrize(
    ("appointment", "moment", "expected"),
    [
        (100, "2025-01-02 08:59:59", None),
        (100, "2025-01-02 09:00:00", ("booked", "02-01 10:00")),
        (100, "2025-01-20 11:59:59", ("booked", "02-01 10:00")),
        (100, "2025-01-20 12:00:00", ("booked", "02-03 15:00")),
        (100, "2025-02-03 16:09:59", ("booked", "02-03 15:00")),
        (100, "2025-02-03 16:10:00", ("completed", "02-03 15:00")),
        (101, "2025-03-03 10:29:59", ("booked", "03-03 10:00")),
        (101, "2025-03-03 10:30:00", ("no_show", "03-03 10:00")),
        (102, "2025-03-04 06:59:59", ("booked", "03-04 10:00")),
        (102, "2025-03-04 07:00:00", ("cancelled_late", "03-04 10:00")),
        (103, "2025-03-15 10:00:00", ("cancelled_early", "03-20 10:00")),
        (104, "2025-04-01 18:00:00", ("no_show", "04-01 10:00")),
        (110, "2026-11-17 10:00:00", ("booked", "12-01 10:00")),
        (111, "2025-05-05 07:59:59", ("booked", "05-05 10:00")),
        (111, "2025-05-05 08:00:00", ("cancelled_late", "05-05 10:00")),
        (112, "2025-05-04 12:00:00", ("booked", "05-08 10:00")),
        (112, "2025-05-05 10:00:00", ("cancelled_early", "05-08 10:00")),
        (113, "2025-06-10 09:39:59", ("booked", "06-10 09:00")),
        (113, "2025-06-10 09:40:00", ("no_show", "06-10 09:00")),
        (113, "2025-06-11 10:00:00", ("booked", "06-20 09:00")),
        (113, "2025-06-20 10:00:00", ("completed", "06-20 09:00")),
    ],
)
def test_open_dental_bookings_as_known_at_a_moment(
    imported: tuple[Any, ImportReport], appointment: int, moment: str, expected: tuple[str, str] | None
) -> None:
    assert seen(imported[0], appointment, moment) == expected


def test_open_dental_what_is_no_visit_is_left_out_and_counted(imported: tuple[Any, ImportReport]) -> None:
    practice, report = imported
    stored = {row[0] for row in practice.rows("SELECT DISTINCT appointment_id FROM appointments")}
    assert stored == {str(n) for n in (100, 101, 102, 103, 104, 108, 110, 111, 112, 113)}
    said = " ".join(report.notes)
    for what in ("1 planned", "1 notes on the schedule", "1 entries of the unscheduled", "1 clones", "1 deleted pat"):
        assert what in said
    assert "2 communications without a channel" in said
    assert report.quarantined_rows == 0


def test_open_dental_codes_come_from_the_mapping(
    database: str, repository: Path, practice_here: Any, tmp_path: Path
) -> None:
    text = (repository / "docs" / "examples" / "open_dental.toml").read_text(encoding="utf-8")
    (tmp_path / "own.toml").write_text(
        text.replace('["D9986"]', '["D9987", "OWN1"]').replace(
            'cancelled_codes = ["D9987"]', 'cancelled_codes = ["D9986"]'
        ),
        encoding="utf-8",
    )
    import_files(practice_here.store, database, load_mapping(tmp_path / "own.toml"), NOW)
    assert seen(practice_here, 101, "2026-01-01") == ("cancelled_late", "03-03 10:00")
    assert seen(practice_here, 102, "2026-01-01") == ("no_show", "03-04 10:00")


def test_open_dental_people(imported: tuple[Any, ImportReport]) -> None:
    practice, _ = imported
    last = practice.rows(
        """SELECT patient_id, departure, CAST(departed_on AS VARCHAR), birth_year, referred_by_id, source_channel,
                  household_id, is_sms_allowed
        FROM patients QUALIFY row_number() OVER (PARTITION BY patient_id ORDER BY known_at DESC) = 1 ORDER BY 1"""
    )
    assert last == [
        ("1", None, None, 1980, None, "Radio", "1", None),
        ("2", None, None, 2010, "1", "referral", "1", False),
        ("3", "deceased", "2025-03-03", 1940, None, None, "3", None),
        ("5", "inactive", None, None, None, None, "5", None),
        ("6", "inactive", None, None, None, None, "6", None),
        ("9", None, None, None, None, None, "9", None),
    ]
    alive = "SELECT departure FROM patients WHERE patient_id = '3' AND known_at < '2025-03-10 14:00:00+00'"
    assert practice.rows(alive) == [(None,)], "the death was recorded on 10 March"
    assert practice.rows("SELECT patient_id FROM appointments WHERE appointment_id = '108'")[0] == ("1",), "of a clone"
    assert practice.rows("SELECT full_name, phone FROM contact_details WHERE patient_id = '1'") == [
        (f"{NAME} Fane", PHONE)
    ]
    assert practice.rows(
        "SELECT clinician_id, role, max(CAST(left_on AS VARCHAR)) FROM clinicians GROUP BY 1, 2 ORDER BY 1"
    ) == [("1", "dentist", None), ("2", "hygienist", None), ("3", "dentist", "2025-06-30")]


def test_open_dental_plans_money_recalls_and_messages(imported: tuple[Any, ImportReport]) -> None:
    practice, _ = imported
    items = practice.rows(
        """SELECT plan_item_id, patient_id, plan_id, fee_cents, accepted_at IS NOT NULL, appointment_id,
                  strftime(timezone('America/Chicago', completed_at), '%Y-%m-%d'), declined_at IS NOT NULL
        FROM plan_items QUALIFY row_number() OVER (PARTITION BY plan_item_id ORDER BY known_at DESC) = 1 ORDER BY 1"""
    )
    assert items == [
        ("10", "1", None, 120000, False, None, None, False),
        ("11", "1", "1", 90025, True, "113", "2025-06-20", False),
        ("13", "1", None, 0, False, None, None, True),
        ("14", "1", None, 0, False, None, None, False),
        ("proctp-2", "1", "1", 80000, True, None, None, False),
    ]
    assert practice.rows("SELECT payment_id, kind, amount_cents, plan_item_id FROM payments ORDER BY 1") == [
        ("1", "payment", 6550, None),
        ("2", "refund", -2010, None),
        ("3", "payment", 90025, "11"),
        ("charge-11", "charge", 90025, "11"),
        ("charge-4", "charge", 6550, None),
    ]
    # 1 year, 6 months, 2 weeks and 3 days: 365.25 + 182.625 + 14 + 3
    assert practice.rows(
        "SELECT recall_id, interval_days, CAST(due_on AS VARCHAR), is_disabled FROM recalls ORDER BY 1"
    ) == [("1", 565, "2025-08-03", False), ("2", 183, "2025-09-03", True)]
    assert practice.rows(
        "SELECT communication_id, patient_id, direction, channel, purpose FROM communications ORDER BY 1"
    ) == [
        ("1", "1", "out", "sms", "recall"),
        ("2", "1", "in", "phone", "reminder"),
        ("5", "1", "out", "email", "other"),
    ]


def test_open_dental_procedures_say_what_a_visit_is_for(
    imported: tuple[Any, ImportReport], database: str, practice_here: Any, repository: Path, tmp_path: Path
) -> None:
    practice, _ = imported
    lines = """SELECT appointment_id, service_line, fee_cents FROM appointments
        WHERE appointment_id IN ('100', '101', '113')
        QUALIFY row_number() OVER (PARTITION BY appointment_id ORDER BY known_at DESC) = 1 ORDER BY 1"""
    assert practice.rows(lines) == [
        ("100", "examination", 6550),
        ("101", "treatment", None),  # no procedure but the one that says it was missed
        ("113", "crown", 90025),
    ]
    early = "SELECT service_line FROM appointments WHERE appointment_id = '100' AND status = 'booked'"
    assert set(practice.rows(early)) == {("treatment",)}, "the procedure was entered on the day of the visit"
    assert practice.rows("SELECT DISTINCT service_line FROM plan_items ORDER BY 1") == [("crown",), (None,)]
    charges = (
        "SELECT appointment_id, service_line, list_cents, discount_cents FROM payments WHERE kind = 'charge' ORDER BY 1"
    )
    assert practice.rows(charges) == [("100", "examination", 6550, 0), ("113", "crown", 90025, 0)]
    text = (repository / "docs" / "examples" / "open_dental.toml").read_text(encoding="utf-8")
    own = text.replace("[parameters]", '[parameters]\nprocedure_lines = "D01 check, D0120 six_monthly"')
    (tmp_path / "own.toml").write_text(own, encoding="utf-8")
    import_files(practice_here.store, database, load_mapping(tmp_path / "own.toml"), NOW)
    assert practice_here.rows(lines) == [
        ("100", "six_monthly", 6550),
        ("101", "treatment", None),
        ("113", "Crowns", 90025),  # the category of the code, as the practice calls it
    ]


def test_open_dental_again_changes_nothing_and_a_change_keeps_the_past(
    database: str, repository: Path, practice_here: Any
) -> None:
    run(practice_here, database, repository)
    versions = practice_here.store.versions()
    assert not run(practice_here, database, repository).has_changes
    assert practice_here.store.versions() == versions
    engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE appointment SET AptStatus = 2, DateTStamp = '2026-12-01 11:00:00' WHERE AptNum = 110"
        )
    try:
        mapping = load_mapping(repository / "docs" / "examples" / "open_dental.toml")
        later = datetime(2026, 12, 2, 15, 0, tzinfo=UTC)
        report = import_files(practice_here.store, database, mapping, later)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE appointment SET AptStatus = 1, DateTStamp = '2026-11-01 11:00:00' WHERE AptNum = 110"
            )
    assert [(t.table, t.changed) for t in report.tables if t.changed] == [("appointments", 1)]
    assert seen(practice_here, 110, "2026-12-01 10:59:59") == ("booked", "12-01 10:00")
    assert seen(practice_here, 110, "2026-12-01 11:00:00") == ("completed", "12-01 10:00")


def test_open_dental_is_never_written_to(database: str, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(
        """
format = "sql"
time_zone = "UTC"
[tables.patients]
query = "DELETE FROM recall WHERE RecallNum > 0 RETURNING PatNum"
[tables.patients.columns]
patient_id = "PatNum"
""",
        encoding="utf-8",
    )
    with connect() as con, pytest.raises(MappingError, match="the query of patients fails"):
        load_queries(con, database, load_mapping(tmp_path / "m.toml"))


def test_open_dental_from_the_command_line_tells_no_secret(
    database: str, revisit: Any, repository: Path, tmp_path: Path
) -> None:
    result = revisit("import", database, "-m", repository / "docs" / "examples" / "open_dental.toml")
    assert result.exit_code == 0, result.output
    wrong = database.replace("root@", "root:s3cret-word@")
    refused = revisit("import", wrong, "-m", "open_dental")
    assert refused.exit_code == 2
    assert "refuses this user name or password" in refused.stderr
    for secret in ("s3cret-word", "root", NAME, PHONE):
        assert secret not in refused.output
        assert secret not in result.output
    kept = [p.read_bytes() for p in (tmp_path / "data").rglob("*.json")]
    assert not any(word in content for content in kept for word in (b"mysql", NAME.encode(), PHONE.encode()))
