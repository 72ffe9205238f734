"""Values as text: amounts, whole numbers, moments, days; and which delimiter a file has."""

from __future__ import annotations

import pytest

from features.duck import connect
from features.errors import FileError
from features.records.mapping import Mapping
from features.records.values import cents_sql, day_sql, instant_sql, quoted, whole_sql

CSV = "p,d,v\n1,2026-01-05,1.50\n2,2026-01-06,2\n"
VISITS = 'name = "v"\ntime_zone = "Asia/Shanghai"\n[visits]\npatient_id = "p"\ndate = "d"\namount = "v"\n'


def value(sql: str) -> object:
    with connect() as con:
        return con.execute(f"SELECT {sql}").fetchall()[0][0]


@pytest.mark.parametrize(
    ("text", "cents"),
    [
        ("12", 1200),
        ("12.3", 1230),
        ("11.77", 1177),
        ("11.770000", 1177),
        ("0.1", 10),
        ("-3.05", -305),
        ("+3.05", 305),
        ("1,234,567.89", 123456789),
        ("¥1,234.50", 123450),
        ("￥ 88", 8800),
        ("-¥12", -1200),
        ("(1,234.50)", -123450),
        ("１２，３４５．６７", 1234567),
        ("（¥５）", -500),
        ("88元", 8800),
        ("CNY 88.00", 8800),
        ("$.50", None),
        ("9007199254740993.01", 900719925474099301),
        ("99999999999999999999", None),
        ("12.345", None),
        ("1,50", None),
        ("1.234,56", None),
        ("12 000x", None),
        ("1e3", None),
        ("", None),
    ],
)
def test_amount_in_the_major_unit(text: str, cents: int | None) -> None:
    assert value(cents_sql(quoted(text))) == cents


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12), ("-12.0", -12), ("12.", 12), ("12.5", None), ("1e3", None), ("9" * 30, None)]
)
def test_whole_number_is_not_rounded(text: str, number: int | None) -> None:
    assert value(whole_sql(quoted(text))) == number


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-05 09:05:06", "2026-01-05 01:05:06+00"),
        ("2026/1/5 9:05", "2026-01-05 01:05:00+00"),
        ("2026-01-05T09:05:06.25", "2026-01-05 01:05:06.25+00"),
        ("2026-01-05T09:05:06Z", "2026-01-05 09:05:06+00"),
        ("2026-01-05 09:05:06+08:00", "2026-01-05 01:05:06+00"),
        ("2026-01-05 09:05:06-0330", "2026-01-05 12:35:06+00"),
        ("05.01.2026", "2026-01-04 16:00:00+00"),
        ("2026-02-30", None),
        ("2026-01-05 25:00", None),
        ("infinity", None),
        ("epoch", None),
        ("5/1/2026", None),
        ("20260105", None),
    ],
)
def test_moment(text: str, moment: str | None) -> None:
    assert value(f"CAST({instant_sql(['%d.%m.%Y'], 'Asia/Shanghai', quoted(text))} AS VARCHAR)") == moment


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20260105", "2026-01-05 00:00:00"),
        ("2026-01-05 09:05", "2026-01-05 00:00:00"),
        ("2026-01-05 20:00:00Z", "2026-01-06 00:00:00"),
        ("x", None),
    ],
)
def test_day_is_the_practice_s_own(text: str, day: str | None) -> None:
    mapping = Mapping("m", "Asia/Shanghai", (), date_formats=("%Y%m%d",))
    assert value(f"CAST({day_sql(mapping, quoted(text))} AS VARCHAR)") == day


@pytest.mark.parametrize(
    ("name", "source", "setting"),
    [
        ("f.tsv", CSV.replace(",", "\t"), ""),
        ("f.txt", CSV, ""),
        ("f.tsv", CSV.replace(",", "|"), 'delimiter = "|"\n'),
        ("f.csv", CSV.encode("utf-8-sig"), ""),
        ("f.tsv", CSV.replace(",", "\t").encode("utf-16"), ""),
        ("f.txt", CSV.replace(",", "  "), 'format = "spaces"\n'),
        ("f.txt", "title\n" + CSV.replace(",", " ").replace("\n", "\r\n"), 'format = "spaces"\nskip_lines = 1\n'),
    ],
)
def test_text_files_of_every_kind(name: str, source: str | bytes, setting: str, practice_here) -> None:  # type: ignore[no-untyped-def]
    assert practice_here.load(setting + VISITS, source, name=name).quarantined == {}
    assert practice_here.rows("SELECT patient_id, amount_cents FROM payments ORDER BY 1") == [("1", 150), ("2", 200)]


def test_rows_between_spaces_that_have_other_counts_are_set_aside(practice_here) -> None:  # type: ignore[no-untyped-def]
    practice_here.load(
        'format = "spaces"\n' + VISITS, "p d v\n1 2026-01-05\n2 2026-01-06 1 9\n3 2026-01-07 1\n", name="f.txt"
    )
    assert practice_here.rows("SELECT row_number, reason FROM quarantine ORDER BY 1") == [
        (1, "the row has too few fields (3 expected)"), (2, "the row has too many fields (3 expected)"),
    ]  # fmt: skip


def test_amount_that_cannot_be_read_sets_its_row_aside(practice_here) -> None:  # type: ignore[no-untyped-def]
    practice_here.load(VISITS, CSV.replace("1.50", "1.505"))
    assert practice_here.rows("SELECT row_number, column_name, reason FROM quarantine") == [
        (1, "amount_cents", "the value cannot be read as an amount of money")
    ]
    assert practice_here.rows("SELECT DISTINCT patient_id FROM appointments") == [("2",)]


def test_amount_in_the_minor_unit_is_not_rounded(practice_here) -> None:  # type: ignore[no-untyped-def]
    practice_here.load(VISITS + 'unit = "minor"\n', CSV)
    assert practice_here.rows("SELECT patient_id, amount_cents FROM payments") == [("2", 2)]


@pytest.mark.parametrize("header", ["p,name,d,v", "name,p,v,d", "p,d,v,name,name"])
def test_header_joined_with_a_row_is_not_quoted(header: str, practice_here) -> None:  # type: ignore[no-untyped-def]
    row = {"p": "1", "d": "2026-01-05", "v": "1", "name": "王小明"}
    joined = header + ",".join(row[name] for name in header.split(","))
    with pytest.raises(FileError) as caught:
        practice_here.load(VISITS, joined + "\n" + joined.replace(header, "") + "\n")
    assert "王小明" not in str(caught.value)
