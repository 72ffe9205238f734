# ruff: noqa: DTZ001 -- cells without a zone are what is tested
"""Workbooks written by openpyxl: the same records as from the CSV file, whatever stands around the table."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.workbook.protection import WorkbookProtection

from features.errors import FileError, MappingError
from features.records.excel import text_of_cell

HEADER = ["编号", "病人", "诊所", "预约时间", "开始时间", "状态", "时长", "费用", "生日"]
ROWS: list[list[Any]] = [
    [1, "p1", "东店", datetime(2026, 1, 1, 10), datetime(2026, 2, 1, 10), "已完成", 30, 1234.5, date(1990, 5, 15)],
    [2, "p2", "东店", datetime(2026, 1, 2, 10), datetime(2026, 2, 2, 10, 30), "爽约", 45, 0.1 + 0.2, date(1985, 12, 1)],
    [3, 12345678, "西店", datetime(2026, 1, 3), datetime(2026, 2, 3), "已预约", None, None, None],
]
MAPPING = """
name = "desk"
time_zone = "Asia/Shanghai"
[tables.patients.columns]
patient_id = "病人"
known_from_at = "预约时间"
first_seen_on = "生日"
[tables.appointments.columns]
appointment_id = "编号"
patient_id = "病人"
clinic_id = "诊所"
booked_at = "预约时间"
starts_at = "开始时间"
duration_minutes = "时长"
fee_cents = { column = "费用", unit = "major" }
status = { column = "状态", values = { "已预约" = "booked", "已完成" = "completed", "爽约" = "no_show" } }
"""
CSV = """编号,病人,诊所,预约时间,开始时间,状态,时长,费用,生日
1,p1,东店,2026-01-01 10:00,2026-02-01 10:00,已完成,30,1234.50,1990-05-15
2,p2,东店,2026-01-02 10:00,2026-02-02 10:30,爽约,45,0.30,1985-12-01
3,12345678,西店,2026-01-03,2026-02-03,已预约,,,
"""


def workbook(rows: Sequence[Sequence[Any]], dress: Callable[[Any, Any], None] = lambda book, sheet: None) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    dress(book, book.active)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def contents(practice, source: bytes | str, name: str, mapping: str = MAPPING):  # type: ignore[no-untyped-def]
    report = practice.load(mapping, source, name=name)
    assert report.quarantined_rows == 0, report.quarantined
    return [practice.rows(f"SELECT * FROM {table} ORDER BY ALL") for table in ("patients", "appointments")]


@pytest.fixture(scope="module")
def plain(practice_at, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return contents(practice_at(tmp_path_factory.mktemp("plain")), CSV, "f.csv")


def other_sheets(book: Any, sheet: Any) -> None:
    sheet.title = "预约"
    book.create_sheet("说明", 0).append(["什么都没有"])


def wide_blank(book: Any, sheet: Any) -> None:
    sheet.merge_cells("J1:M1")
    sheet.cell(row=1, column=20).font = openpyxl.styles.Font(bold=True)


def as_text(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Numbers and dates stored as text, the dates as a Chinese Excel shows them."""

    def shown(cell: Any) -> Any:
        if isinstance(cell, datetime):
            return f"{cell.year}/{cell.month}/{cell.day} {cell.hour}:{cell.minute:02}"
        if isinstance(cell, date):
            return f"{cell.year}/{cell.month}/{cell.day}"
        return None if cell is None else f"￥{cell:,.2f}" if isinstance(cell, float) else str(cell)

    return [[shown(cell) for cell in row] for row in rows]


SHEET = 'sheet = "预约"\n' + MAPPING
SAME = {
    "as it is": (workbook([HEADER, *ROWS]), MAPPING),
    "title and blank rows above": (workbook([[], ["二月预约表"], [], HEADER, *ROWS]), MAPPING),
    "blank column before": (workbook([[None, *row] for row in [HEADER, *ROWS]]), MAPPING),
    "blank rows between": (workbook([HEADER, ROWS[0], [], *ROWS[1:], [], []]), MAPPING),
    "numbers and dates as text": (workbook([HEADER, *as_text(ROWS)]), MAPPING),
    "numbers with a point": (workbook([HEADER, *([float(row[0]), *row[1:]] for row in ROWS)]), MAPPING),
    "merged and blank trailing columns": (workbook([HEADER, *ROWS], wide_blank), MAPPING),
    "sheet by name": (workbook([HEADER, *ROWS], other_sheets), SHEET),
    "another column between": (workbook([[*row[:2], "x", *row[2:]] for row in [HEADER, *ROWS]]), MAPPING),
}


@pytest.mark.parametrize("case", SAME)
def test_workbook_gives_the_same_records_as_csv(case: str, plain, practice_here) -> None:  # type: ignore[no-untyped-def]
    source, mapping = SAME[case]
    assert contents(practice_here, source, "f.xlsx", mapping) == plain
    assert not practice_here.load(mapping, source, name="f.xlsx").has_changes


def test_ending_may_be_wrong_about_the_kind_of_workbook(plain, practice_here) -> None:  # type: ignore[no-untyped-def]
    assert contents(practice_here, SAME["as it is"][0], "f.xls") == plain


def test_cells_merged_downwards_count_for_all_their_rows(practice_here) -> None:  # type: ignore[no-untyped-def]
    rows = [HEADER, *([row[0], *ROWS[0][1:]] for row in ROWS)]
    practice_here.load(MAPPING, workbook(rows, lambda _, sheet: sheet.merge_cells("B2:B4")), name="f.xlsx")
    assert practice_here.rows("SELECT DISTINCT appointment_id, patient_id FROM appointments ORDER BY 1") == [
        ("1", "p1"), ("2", "p1"), ("3", "p1"),
    ]  # fmt: skip


def test_row_numbers_are_counted_from_the_header(practice_here) -> None:  # type: ignore[no-untyped-def]
    broken = [*ROWS[0][:5], "外星", *ROWS[0][6:]]
    report = practice_here.load(MAPPING, workbook([["t"], HEADER, ROWS[1], [], broken, ["合计"]]), name="f.xlsx")
    assert report.rows == 3
    assert practice_here.rows("SELECT DISTINCT row_number FROM quarantine ORDER BY 1") == [(3,), (4,)]


def huge(book: Any, sheet: Any) -> None:
    sheet.cell(row=1_048_576, column=16_384).value = "x"


def second_header(book: Any, sheet: Any) -> None:
    sheet.cell(row=1, column=10).value = "状态"


BAD = {
    "no such sheet": (workbook([HEADER, *ROWS]), SHEET, "no sheet '预约'"),
    "no header": (workbook(ROWS), MAPPING, "none of the first 50 rows"),
    "missing column": (workbook([["t"], HEADER[:-1], *(row[:-1] for row in ROWS)]), MAPPING, "row 2.*生日"),
    "header only": (workbook([HEADER]), MAPPING, "no rows"),
    "empty sheet": (workbook([]), MAPPING, "none of the first"),
    "duplicate header": (workbook([HEADER, *ROWS], second_header), MAPPING, "more than once"),
    "stray cell": (workbook([HEADER, *ROWS], huge), MAPPING, "too large"),
    "cut short": (workbook([HEADER, *ROWS])[:3000], MAPPING, "no whole Excel workbook"),
    "text": (CSV.encode(), MAPPING, "no whole Excel workbook"),
    "empty": (b"", MAPPING, "is empty"),
    "another archive": (None, MAPPING, "no whole Excel workbook"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_workbook_is_refused_whole(case: str, practice_here) -> None:  # type: ignore[no-untyped-def]
    source, mapping, expected = BAD[case]
    if source is None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("a.txt", CSV)
        source = out.getvalue()
    with pytest.raises(FileError, match=expected) as caught:
        practice_here.load(mapping, source, name="f.xlsx")
    assert practice_here.store.versions() == {}
    assert "p1" not in str(caught.value)


def test_format_of_a_text_file_is_refused_for_a_workbook(practice_here) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(MappingError, match="format"):
        practice_here.load('format = "spaces"\n' + MAPPING, workbook([HEADER, *ROWS]), name="f.xlsx")


def test_protected_structure_is_read(plain, practice_here) -> None:  # type: ignore[no-untyped-def]
    def protect(book: Any, sheet: Any) -> None:
        book.security = WorkbookProtection(workbookPassword="x", lockStructure=True)

    assert contents(practice_here, workbook([HEADER, *ROWS], protect), "f.xlsx") == plain


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (123.0, "123"),
        (0.1 + 0.2, "0.3"),
        (123456789012345.0, "123456789012345"),
        (1e21, "1000000000000000000000"),
        (1.5e-7, "0.00000015"),
        (True, "true"),
        (float("nan"), ""),
        ("007", "007"),
        (date(2026, 1, 5), "2026-01-05"),
        (datetime(2026, 1, 5, 9, 5), "2026-01-05 09:05:00"),
        (time(9, 5), "09:05:00"),
        (timedelta(hours=36), "1.5"),
    ],
)
def test_cell_as_text(cell: Any, text: str) -> None:
    assert text_of_cell(cell) == text


def test_example_for_chinese_visit_list(practice_here, repository: Path) -> None:  # type: ignore[no-untyped-def]
    header = [
        "日期",
        "门诊",
        "单号",
        "接诊医生",
        "病历号",
        "姓名",
        "性别",
        "年龄",
        "一级来源",
        "状态",
        "实收",
        "业务类型",
    ]
    rows = [
        ["2026-01-05", "东店", 1, "李医生", 26010501, "病人甲", "男", "36岁", "转介绍", "初诊", 1200.5, "挂号消费"],
        ["2026-01-05", "东店", 2, "李医生", 26010501, "病人甲", "男", "36岁", "转介绍", "初诊", 300, None],
        ["2026-02-05", "东店", 3, "李医生", 26010501, "病人甲", "男", "36岁", "转介绍", "复诊", 500, "还欠款"],
        ["2026-01-06", "西店", 4, None, 26010602, "病人乙", "女", None, None, "初诊", -20, "挂号消费"],
    ]
    book = workbook([["到诊明细表"], header, *rows], lambda _, sheet: setattr(sheet, "title", "到诊明细表"))
    mapping = (repository / "docs/examples/daozhen_excel.toml").read_text(encoding="utf-8")
    assert practice_here.load(mapping, book, name="f.xlsx").quarantined == {}
    assert practice_here.rows(
        "SELECT count(DISTINCT appointment_id), count(DISTINCT patient_id) FROM appointments"
    ) == [(2, 2)]
    payments = "SELECT kind, amount_cents, appointment_id IS NULL FROM payments ORDER BY payment_id"
    assert practice_here.rows(payments) == [
        ("payment", 120050, False), ("payment", 30000, False), ("payment", 50000, True), ("refund", -2000, False),
    ]  # fmt: skip
    assert practice_here.rows("SELECT DISTINCT birth_year, sex FROM patients ORDER BY 1") == [
        (1990, "male"), (None, "female"),
    ]  # fmt: skip
