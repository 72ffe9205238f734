# ruff: noqa: DTZ001 -- cells without a zone are what is tested
"""Parquet: typed columns in, the same records as from text, nothing lost."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.duck import connect
from features.errors import FileError, MappingError
from features.records.parquet import load_parquet

SHANGHAI = ZoneInfo("Asia/Shanghai")
STARTS = [datetime(2026, 2, 1, 10, 0, 0, 123456), datetime(2026, 2, 2, 10, 30), None]
TABLE = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "patient": pa.array([12345678.0, 2.0, 3.0], pa.float64()),
        "clinic": pa.array(["东店", "东店", "西店"]).dictionary_encode(),
        "booked": pa.array([datetime(2026, 1, day, 2, tzinfo=UTC) for day in (1, 2, 3)], pa.timestamp("us", "UTC")),
        "starts": pa.array([*STARTS[:2], datetime(2026, 2, 3)], pa.timestamp("us")),
        "status": pa.array(["completed", "no_show", "booked"]).dictionary_encode(),
        "fee": pa.array([Decimal("1234.50"), Decimal("0.30"), None], pa.decimal128(12, 2)),
        "born": pa.array([date(1990, 5, 15), None, date(1985, 12, 1)]),
        "weight": pa.array([float("nan"), 1e300, 0.1]),
        "tags": pa.array([["a"], [], None], pa.list_(pa.string())),
    }
)
MAPPING = """
name = "p"
time_zone = "Asia/Shanghai"
datetime_formats = ["%d.%m.%Y"]
[tables.patients.columns]
patient_id = "patient"
known_from_at = "booked"
first_seen_on = "born"
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = "clinic"
booked_at = "booked"
starts_at = "starts"
status = "status"
fee_cents = { column = "fee", unit = "major" }
"""


def parquet(table: pa.Table = TABLE, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def test_typed_columns_become_records(practice_here) -> None:  # type: ignore[no-untyped-def]
    report = practice_here.load(MAPPING, parquet(), name="f.parquet")
    assert (report.rows, report.quarantined) == (3, {})
    assert practice_here.rows(
        """SELECT appointment_id, patient_id, clinic_id, booked_at, starts_at, status, fee_cents FROM appointments
        QUALIFY row_number() OVER (PARTITION BY appointment_id ORDER BY known_at DESC) = 1 ORDER BY 1"""
    ) == [
        ("1", "12345678", "东店", TABLE["booked"][0].as_py(), STARTS[0].replace(tzinfo=SHANGHAI), "completed", 123450),
        ("2", "2", "东店", TABLE["booked"][1].as_py(), STARTS[1].replace(tzinfo=SHANGHAI), "no_show", 30),
        ("3", "3", "西店", TABLE["booked"][2].as_py(), datetime(2026, 2, 3, tzinfo=SHANGHAI), "booked", None),
    ]
    assert practice_here.rows("SELECT first_seen_on FROM patients ORDER BY 1") == [
        (date(1985, 12, 1),), (date(1990, 5, 15),), (None,),
    ]  # fmt: skip
    assert not practice_here.load(MAPPING, parquet(), name="f.parquet").has_changes


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "none"},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"row_group_size": 1},
        {"version": "1.0", "coerce_timestamps": "us"},
        {"use_dictionary": False, "store_schema": False},
    ],
)
def test_how_it_was_written_does_not_matter(options: dict[str, object], practice_at, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    stored = []
    for folder, source in (("a", parquet()), ("b", parquet(TABLE, **options))):
        practice = practice_at(tmp_path / folder)
        practice.load(MAPPING, source, name="f.parquet")
        stored.append([practice.rows(f"SELECT * FROM {name} ORDER BY ALL") for name in ("patients", "appointments")])
    assert stored[0] == stored[1]


def test_text_of_types_can_be_read_back(tmp_path: Path) -> None:
    """Every value as text, read back by Python, is the value that was written."""
    table = TABLE.append_column("nanos", pa.array([1, 10**9 + 1, None], pa.timestamp("ns")))
    table = table.append_column("long", pa.array([2**63 - 1, -(2**63), 0], pa.int64()))
    table = table.append_column("wide", pa.array([Decimal("9" * 34 + ".1234"), Decimal("-0.0001"), None]))
    table = table.append_column("raw", pa.array(["é".encode(), b"b", None], pa.binary()))
    (tmp_path / "f.parquet").write_bytes(parquet(table))
    with connect() as con:
        raw = load_parquet(con, tmp_path / "f.parquet", "t", needed=[])
        rows = con.execute("SELECT * FROM t ORDER BY _row").fetchall()
    assert raw.columns == tuple(table.column_names)
    read = {name: [row[place] for row in rows] for place, name in enumerate(raw.columns, start=1)}
    assert [int(text) for text in read["long"]] == table["long"].to_pylist()
    assert [text and Decimal(text) for text in read["wide"]] == table["wide"].to_pylist()
    assert [text and float(text) for text in read["weight"]] == [None, 1e300, 0.1]
    assert [datetime.fromisoformat(text) for text in read["starts"]] == table["starts"].to_pylist()
    assert [datetime.fromisoformat(text) for text in read["booked"]] == table["booked"].to_pylist()
    assert read["nanos"] == ["1970-01-01 00:00:00.000000001", "1970-01-01 00:00:01.000000001", None]
    assert [text and date.fromisoformat(text) for text in read["born"]] == table["born"].to_pylist()
    assert read["raw"] == ["é", "b", None]
    assert read["tags"] == ["[a]", "[]", None]


def nested() -> pa.Table:
    return pa.table({"a": pa.array([{"x": 1, "b": {"y": [1]}}]), "b": pa.array(["1"])})


def test_nested_names_are_no_duplicates(tmp_path: Path) -> None:
    (tmp_path / "f.parquet").write_bytes(parquet(nested()))
    with connect() as con:
        assert load_parquet(con, tmp_path / "f.parquet", "t", needed=["b"]).columns == ("a", "b")


WHOLE = parquet()
BAD = {
    "cut short": (WHOLE[:-20], "no whole Parquet"),
    "no start": (WHOLE[4:], "no whole Parquet"),
    "text": (b"id,patient\n1,2\n", "no whole Parquet"),
    "empty": (b"", "is empty"),
    "no rows": (parquet(TABLE.slice(0, 0)), "no rows"),
    "missing column": (parquet(TABLE.drop_columns(["fee"])), "fee"),
    "same name twice": (parquet(TABLE.append_column("fee", TABLE["born"])), "more than once"),
    "same name but for case": (parquet(TABLE.append_column("FEE", TABLE["born"])), "more than once"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_refused_whole(case: str, practice_here) -> None:  # type: ignore[no-untyped-def]
    source, expected = BAD[case]
    with pytest.raises(FileError, match=expected):
        practice_here.load(MAPPING, source, name="f.parquet")
    assert practice_here.store.versions() == {}


@pytest.mark.parametrize("setting", ['sheet = "1"\n', 'format = "spaces"\n'])
def test_setting_of_another_format_is_refused(setting: str, practice_here) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(MappingError, match=setting.split(" ", maxsplit=1)[0]):
        practice_here.load(setting + MAPPING, WHOLE, name="f.parquet")
