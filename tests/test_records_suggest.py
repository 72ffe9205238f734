"""Drafted mappings: real files and Chinese exports import by them, doubts are said, no name is written."""

from __future__ import annotations

import csv
import io
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import FileError
from features.records.landing import import_files
from features.records.mapping import load_mapping
from features.records.suggest import suggest_mapping

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
NAMES = ["王小明", "李丽", "张三丰", "赵六"]
PHONES = ["13800138000", "13900139001", "13700137002", "13600136003"]
DAOZHEN = """日期 城市 门诊 单号 接诊医生 接诊咨询 护士 责任医生 专属咨询 病历号 姓名 性别 年龄 主诉 主诉达成 一级来源
二级来源 三级来源 介绍人 创建机构 创建人 预约人 状态 营业收入 订单折后价 实收 赠金支出 欠款 业务类型 备注""".split()  # noqa: SIM905


def daozhen_rows() -> list[list[object]]:
    rows = []
    for number in range(60):
        who = number % 4
        given = {
            "日期": f"2026-{1 + number // 20:02}-{1 + number % 20:02}",
            "门诊": "东店",
            "单号": 1000 + number,
            "接诊医生": "刘医生",
            "病历号": f"2601010{who}",
            "姓名": NAMES[who],
            "性别": "男女"[who % 2],
            "年龄": 30 + who,
            "一级来源": "转介绍",
            "介绍人": NAMES[(who + 1) % 4] if who == 2 else "",
            "状态": "初诊" if number < 4 else "复诊",
            "实收": 1200.5 + number,
            "业务类型": "充值" if number % 10 == 9 else "挂号消费",
            "备注": f"{NAMES[who]} {PHONES[who]}",
        }
        rows.append([given.get(name, "") for name in DAOZHEN])
    return rows


def daozhen_csv(encoding: str) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([DAOZHEN, *daozhen_rows()])
    return out.getvalue().encode(encoding)


def daozhen_workbook() -> bytes:
    book = openpyxl.Workbook()
    book.active.append(["说明"])
    sheet = book.create_sheet("到诊明细表")
    for row in (["到诊明细表 2026"], [], DAOZHEN, *daozhen_rows()):
        sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def daozhen_parquet() -> bytes:
    out = io.BytesIO()
    columns = zip(*daozhen_rows(), strict=True)
    pq.write_table(pa.table(dict(zip(DAOZHEN, (pa.array(list(c)) for c in columns), strict=True))), out)
    return out.getvalue()


def drafted(folder: Path, source: bytes | str, name: str) -> str:
    (folder / name).write_bytes(source if isinstance(source, bytes) else source.encode())
    text = suggest_mapping(folder / name)
    for secret in (*NAMES, *PHONES):
        assert secret not in text
    return text


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("到诊.csv", daozhen_csv("utf-8-sig")),
        ("到诊.txt", daozhen_csv("gb18030")),
        ("到诊.xlsx", daozhen_workbook()),
        ("到诊.parquet", daozhen_parquet()),
    ],
)
def test_chinese_visit_list_imports_by_its_draft(name: str, source: bytes, practice_here, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    draft = drafted(tmp_path, source, name)
    report = practice_here.load(draft, source, name=name)
    assert (report.rows, report.quarantined) == (60, {})
    assert practice_here.rows(
        "SELECT count(DISTINCT appointment_id), count(DISTINCT patient_id) FROM appointments"
    ) == [(54, 4)]
    assert practice_here.rows("SELECT count(*), sum(amount_cents) FROM payments") == [(60, 60 * 120050 + 177000)]
    assert practice_here.rows("SELECT DISTINCT full_name FROM contact_details ORDER BY 1") == [
        (n,) for n in sorted(NAMES)
    ]
    assert practice_here.rows("SELECT DISTINCT sex, birth_year, source_channel, referred_by_id FROM patients") != []
    assert practice_here.rows("SELECT count(*) FROM patients WHERE sex IS NULL OR birth_year IS NULL") == [(0,)]
    for doubted in ("介绍人", "充值", "same_day", "实收", "time_zone"):
        assert any(doubted in line for line in draft.splitlines() if line.startswith("# unsure")), doubted
    assert "备注" in draft.rsplit("# Not used", maxsplit=1)[1]


def test_real_clinic_imports_by_its_draft(practice_here, shared_data: Path) -> None:  # type: ignore[no-untyped-def]
    path = shared_data / "tcm_clinic_guangzhou/visits_with_dates.csv"
    if not path.is_file():
        pytest.skip(f"the real data set {path} is not here")
    report = practice_here.load(suggest_mapping(path, "Asia/Shanghai"), path.read_bytes(), name=path.name)
    assert {t.table: t.stored for t in report.tables} == {"patients": 2469, "appointments": 6853}
    assert report.quarantined == {}
    with path.open(newline="") as stream:
        women = len({row["ID"] for row in csv.DictReader(stream) if row["Gender"] == "F"})
    assert practice_here.rows("SELECT count(DISTINCT patient_id) FROM patients WHERE sex = 'female'") == [(women,)]


def test_real_bookings_import_by_their_draft(practice_here, brazil_csv: Path, tmp_path: Path, repository: Path) -> None:  # type: ignore[no-untyped-def]
    """The draft, its time zone set as it asks, gives what the mapping made by hand gives."""
    every_fifth = tmp_path / "bookings.csv"
    with brazil_csv.open(newline="") as whole:
        every_fifth.write_text("".join(line for number, line in enumerate(whole) if number % 5 == 0))
    draft = suggest_mapping(every_fifth)
    assert "time_zone" in draft.split("# unsure", maxsplit=1)[1]
    (tmp_path / "draft.toml").write_text(draft.replace("Etc/UTC", "America/Sao_Paulo"), encoding="utf-8")
    report = import_files(practice_here.store, every_fifth, load_mapping(tmp_path / "draft.toml"), NOW)
    by_hand = import_files(
        practice_here.store, every_fifth, load_mapping(repository / "docs/examples/no_show_brazil.toml"), NOW
    )
    assert report.rows == 22105
    assert report.quarantined_rows == by_hand.quarantined_rows
    counts = {table.table: table for table in by_hand.tables}
    assert counts["appointments"].stored == 0, "both mappings name the same bookings"
    with every_fifth.open(newline="") as stream:
        expected = Counter({"Yes": "no_show", "No": "completed"}[row["No-show"]] for row in csv.DictReader(stream))
    found = dict(
        practice_here.rows(
            "SELECT status, count(DISTINCT appointment_id) FROM appointments GROUP BY 1 HAVING status <> 'booked'"
        )
    )
    assert sum(found.values()) == sum(expected.values()) - report.quarantined_rows
    assert abs(found["no_show"] - expected["no_show"]) <= report.quarantined_rows


BOOKINGS = """Patient ID;Patient Name;Mobile;DOB;Gender;Appointment Date;Created;Provider;Status;Fee;Notes
7;王小明;13800138000;25/12/1990;F;31/01/2026 09:30;02/01/2026 10:00;Dr A;Attended;£80;赵六
8;李丽;13900139001;01/02/1985;M;05/02/2026 10:00;02/01/2026 10:05;Dr A;Did not attend;;
9;张三丰;13700137002;;M;06/02/2026 11:00;02/01/2026 11:00;Dr B;Unconfirmed;1,200.00;
9;张三丰;13700137002;;M;07/02/2026 11:00;02/01/2026 11:00;Dr B;Cancelled;;
"""


def test_english_bookings(practice_here, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = BOOKINGS.replace("£", "$")
    draft = drafted(tmp_path, source, "bookings.csv")
    assert practice_here.load(draft, source, name="bookings.csv").quarantined == {}
    assert practice_here.rows(
        """SELECT patient_id, status, fee_cents, clinician_id FROM appointments
        QUALIFY row_number() OVER (PARTITION BY appointment_id ORDER BY known_at DESC) = 1 ORDER BY starts_at"""
    ) == [
        ("7", "completed", 8000, "Dr A"),
        ("8", "no_show", None, "Dr A"),
        ("9", "booked", 120000, "Dr B"),
        ("9", "cancelled_early", None, "Dr B"),
    ]
    assert practice_here.rows("SELECT DISTINCT birth_year FROM patients ORDER BY 1") == [(1985,), (1990,), (None,)]
    for doubted in ("cancelled_late", "appointment_id", "clinic_id"):
        assert any(doubted in line for line in draft.splitlines() if line.startswith("# unsure")), doubted


def test_day_and_month_that_may_be_exchanged_are_doubted(tmp_path: Path) -> None:
    draft = drafted(tmp_path, "patient id,visit date\n1,05/01/2026\n2,06/02/2026\n", "a.csv")
    assert "%d/%m/%Y and %m/%d/%Y" in draft
    assert "%d/%m/%Y and" not in drafted(tmp_path, "patient id,visit date\n1,25/01/2026\n2,06/02/2026\n", "b.csv")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    draft = drafted(tmp_path, "姓名,状态,就诊时间\n王小明,已到,2026-01-05 10:00\n李丽,爽约,2026-01-06 10:00\n", "a.csv")
    assert "# missing: patient_id" in draft
    assert "# missing: appointment_id" in draft


def test_words_that_are_not_known_are_shown_only_if_they_are_nobody_s(tmp_path: Path) -> None:
    rows = [f"{n},{NAMES[n % 4]},{'已到' if n % 2 else '爽约'},2026-01-05 10:00" for n in range(20)]
    rows += [f"{n},{NAMES[0]},回访中,2026-01-05 10:00" for n in range(5)]
    rows += [f"{n},{NAMES[1]},{NAMES[2]},2026-01-05 10:00" for n in range(5)]
    rows += ["3,x,王五,2026-01-05 10:00"]
    draft = drafted(tmp_path, "病历号,姓名,状态,就诊时间\n" + "\n".join(rows) + "\n", "a.csv")
    assert "3 more values (回访中)" in draft
    assert "王五" not in draft


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.csv", f"1,{NAMES[0]},{PHONES[0]},2026-01-05\n2,{NAMES[1]},{PHONES[1]},2026-01-06\n"),
        ("a.csv", "x,y\n1,2\n"),
        ("a.xlsx", "x"),
        ("a.parquet", "x"),
        ("a.doc", "x"),
        ("a.csv", ""),
    ],
)
def test_file_that_suggests_nothing_is_refused(name: str, source: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(source, encoding="utf-8")
    with pytest.raises(FileError) as caught:
        suggest_mapping(tmp_path / name)
    assert not any(secret in str(caught.value) for secret in (*NAMES, *PHONES))


def test_list_of_patients_becomes_patients_and_names(practice_here, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = ["1001,张三,男,13800000000,抖音,1990/5/15", "1002,李四,女,13800000001,老客介绍,1988/12/1"]
    source = "\n".join(["病历号,姓名,性别,手机,患者来源,生日", *rows]).encode()
    draft = drafted(tmp_path, source, "患者.csv")
    assert practice_here.load(draft, source, name="患者.csv").quarantined == {}
    people = practice_here.rows("SELECT patient_id, sex, birth_year, source_channel FROM patients ORDER BY 1")
    assert people == [("1001", "male", 1990, "抖音"), ("1002", "female", 1988, "老客介绍")]
    assert practice_here.rows("SELECT count(*) FROM contact_details") == [(2,)]
    assert "appointments" not in practice_here.store.versions()


def test_command(revisit, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "到诊.csv").write_bytes(daozhen_csv("gb18030"))
    shown = revisit("mapping", "suggest", tmp_path / "到诊.csv")
    assert shown.exit_code == 0
    assert "[visits]" in shown.stdout
    written = revisit("mapping", "suggest", tmp_path / "到诊.csv", "--out", tmp_path / "m.toml")
    assert (written.exit_code, (tmp_path / "m.toml").read_text(encoding="utf-8")) == (0, shown.stdout)
    assert "points to check" in written.stdout
    assert revisit("import", tmp_path / "到诊.csv", "-m", tmp_path / "m.toml").exit_code == 0
    again = revisit("mapping", "suggest", tmp_path / "到诊.csv", "--out", tmp_path / "m.toml")
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert "exists" in again.stderr
    assert revisit("mapping", "suggest", tmp_path / "none.csv").exit_code == 2
