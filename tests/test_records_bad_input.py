"""What a practice may do wrong: one clear sentence, exit code 2, nothing stored, no name shown."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from features.errors import FileError, MappingError, StoreError
from features.records.mapping import load_mapping

NAME, PHONE = "王小明", "13800138000"
HEADER = "编号,病人,姓名,电话,诊所,预约时间,开始时间,状态,备注"
ROWS = [
    f"1,p1,{NAME},{PHONE},东店,2026-01-01 10:00:00,2026-02-01 10:00:00,已预约,x",
    f"2,p2,{NAME},{PHONE},东店,2026-01-02 10:00:00,2026-02-02 10:00:00,已完成,y",
    f"3,p3,{NAME},{PHONE},西店,2026-01-03 10:00:00,2026-02-03 10:00:00,爽约,z",
]
FILE = "\n".join([HEADER, *ROWS]) + "\n"
MAPPING = """
name = "desk"
time_zone = "Asia/Shanghai"
[tables.patients.columns]
patient_id = "病人"
known_from_at = "预约时间"
[tables.contact_details.columns]
patient_id = "病人"
known_from_at = "预约时间"
full_name = "姓名"
phone = "电话"
[tables.appointments]
[tables.appointments.columns]
appointment_id = "编号"
patient_id = "病人"
clinic_id = "诊所"
booked_at = "预约时间"
starts_at = "开始时间"
status = { column = "状态", values = { "已预约" = "booked", "已完成" = "completed", "爽约" = "no_show" } }
"""
STATUS = 'status = { column = "状态"'

Revisit = Callable[..., Result]


def stored(folder: Path) -> dict[str, bytes]:
    """The manifest and Delta's log: all that says what is stored."""
    kept = folder / "data" / "records"
    return {
        path.relative_to(kept).as_posix(): path.read_bytes()
        for path in kept.rglob("*")
        if path.is_file() and (path.name == "manifest.json" or "_delta_log" in path.parts)
    }


def run(revisit: Revisit, folder: Path, source: str | bytes = FILE, mapping: str = MAPPING) -> Result:
    (folder / "m.toml").write_text(mapping, encoding="utf-8")
    (folder / "f.csv").write_bytes(source if isinstance(source, bytes) else source.encode())
    return revisit("import", folder / "f.csv", "-m", folder / "m.toml")


def must_fail(result: Result, expected: str) -> None:
    assert result.exit_code == 2
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, "one line"
    assert expected in result.stderr
    for secret in (NAME, PHONE, "Traceback"):
        assert secret not in result.output


def workbook() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", FILE * 50)
    return out.getvalue()


MIXED = (HEADER + "\n" + ROWS[0] + "\n").encode() + (ROWS[1] + "\n").encode("gb18030")
MANY = [HEADER, *ROWS * 20]
ONE_UTF8 = b"".join(f"{row}\n".encode("utf-8" if number == 30 else "gb18030") for number, row in enumerate(MANY))
ONE_GB18030 = b"".join(f"{row}\n".encode("gb18030" if number == 30 else "utf-8") for number, row in enumerate(MANY))
BAD_FILES = {
    "missing column": (FILE.replace("状态", "情况"), "状态"),
    "semicolons": (FILE.replace(",", ";"), "semicolon"),
    "tabs": (FILE.replace(",", "\t"), "tab"),
    "two encodings": (MIXED, "mixes encodings"),
    "one line of UTF-8 in GB18030": (ONE_UTF8, "mixes encodings"),
    "one line of GB18030 in UTF-8": (ONE_GB18030, "line 31"),
    "neither encoding": (FILE.encode() + b"\xff\xff\xff\n", "neither UTF-8 nor GB18030"),
    "empty": ("", "is empty"),
    "header only": (HEADER + "\n", "no rows"),
    "header only, no line end": (HEADER, "no rows"),
    "blank first line": ("\n" + FILE, "first line is blank"),
    "no header": ("\n".join(ROWS) + "\n", "header"),
    "workbook": (workbook(), "Excel"),
    "zero bytes": (FILE.replace("x", "\0"), "zero bytes"),
    "binary": (bytes(range(256)) * 50, "zero bytes"),
    "UTF-16 without its mark": (FILE.encode("utf-16-le"), "zero bytes"),
    "unclosed quote": (FILE.replace(",y", ',"y'), "never closed"),
    "unclosed quote in the last row": (FILE.replace(",z", ',"z'), "never closed"),
    "unclosed quote in the header": (FILE.replace("姓名,", '"姓名,'), "error"),
    "duplicate header": (FILE.replace("备注", "状态"), "more than once"),
    "duplicate header but for case": (FILE.replace("编号", "ID").replace("备注", "id"), "more than once"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_is_refused_whole(case: str, revisit: Revisit, tmp_path: Path) -> None:
    source, expected = BAD_FILES[case]
    mapping = MAPPING.replace('"编号"', '"ID"') if "but for case" in case else MAPPING
    must_fail(run(revisit, tmp_path, source, mapping), expected)
    assert stored(tmp_path) == {}


def test_bad_files_leave_what_is_stored(revisit: Revisit, tmp_path: Path) -> None:
    assert run(revisit, tmp_path).exit_code == 0
    before = stored(tmp_path)
    assert before
    for case, (source, expected) in BAD_FILES.items():
        mapping = MAPPING.replace('"编号"', '"ID"') if "but for case" in case else MAPPING
        must_fail(run(revisit, tmp_path, source, mapping), expected)
        assert stored(tmp_path) == before, case


BAD_MAPPINGS = {
    "column that is not there": (MAPPING.replace('"诊所"', '"门店"'), "门店"),
    "unknown contract column": (MAPPING + 'shoe_size = "备注"\n', "shoe_size"),
    "unknown table": (MAPPING.replace("[tables.patients", "[tables.people"), "people"),
    "required column without source": (MAPPING.replace('clinic_id = "诊所"\n', ""), "clinic_id"),
    "not TOML": (MAPPING + "= =\n", "not TOML"),
    "no tables": ('time_zone = "Asia/Shanghai"\n', "no [tables.NAME] section"),
    "wrong time zone": (MAPPING.replace("Asia/Shanghai", "Asia/Shangri-La"), "time_zone"),
    "time zone of another type": (MAPPING.replace('"Asia/Shanghai"', '["Asia/Shanghai"]'), "time_zone"),
    "no time zone": (MAPPING.replace("time_zone", "# time_zone"), "time_zone"),
    "unknown setting": ('sheet = "1"\n' + MAPPING, "sheet"),
    "long delimiter": ('delimiter = ";;"\n' + MAPPING, "delimiter"),
    "delimiter of another type": ("delimiter = 1\n" + MAPPING, "delimiter"),
    "unknown encoding": ('encoding = "klingon"\n' + MAPPING, "klingon"),
    "encoding of another type": ("encoding = 8\n" + MAPPING, "encoding"),
    "wrong encoding": ('encoding = "ascii"\n' + MAPPING, "ascii"),
    "format that is no list": ('datetime_formats = "%Y"\n' + MAPPING, "datetime_formats"),
    "format that does not exist": ('datetime_formats = ["%Q"]\n' + MAPPING, "formats"),
    "tables of another type": ('tables = 1\ntime_zone = "Asia/Shanghai"\n', "tables"),
    "form of another type": (MAPPING.replace(STATUS, "duration_minutes = 5\n" + STATUS), "duration_minutes"),
    "values of another type": (MAPPING + 'sex = { column = "备注", values = 1 }\n', "sex"),
    "empty column": (MAPPING + 'service_line = ""\n', "service_line"),
    "age without a date": (MAPPING.replace("known_from_at", 'birth_year = { age = "备注" }\nknown_from_at', 1), "age"),
    "query as SQL": (MAPPING + 'service_line = { sql = "(SELECT 1)" }\n', "not a query"),
    "query over files": (MAPPING + "service_line = { sql = \"(FROM read_text('/etc/passwd'))\" }\n", "not a"),
    "two statements": (MAPPING + 'service_line = { sql = "备注; DROP TABLE x" }\n', "not a query"),
    "two expressions": (MAPPING + 'service_line = { sql = "备注; 备注" }\n', "one expression"),
    "closing parenthesis": (MAPPING + 'service_line = { sql = "备注) , (病人" }\n', "not an SQL expression"),
    "aggregate": (MAPPING + 'service_line = { sql = "max(备注)" }\n', "one expression"),
    "window": (MAPPING + 'service_line = { sql = "row_number() OVER ()" }\n', "one expression"),
    "SQL of a missing column": (MAPPING + 'service_line = { sql = "upper(无此列)" }\n', "无此列"),
    "SQL that does not parse": (MAPPING + 'service_line = { sql = "备注 +" }\n', "not an SQL expression"),
    "unknown function": (MAPPING + 'service_line = { sql = "frobnicate(备注)" }\n', "frobnicate"),
    "volatile function": (MAPPING + 'service_line = { sql = "random()" }\n', "volatile"),
    "empty SQL": (MAPPING + 'service_line = { sql = "" }\n', "service_line"),
    "condition that does not parse": (MAPPING.replace("ments]\n", 'ments]\nwhere = "状态 ="\n'), "where"),
    "condition of another type": (MAPPING.replace("ments]\n", "ments]\nwhere = 5\n"), "where"),
    "condition that fails on a row": (
        MAPPING.replace("ments]\n", 'ments]\nwhere = "CAST(姓名 AS INTEGER) = 1"\n'),
        "where condition",
    ),
    "for a folder": (MAPPING.replace("ments]\n", 'ments]\nfile = "a.csv"\n'), "give every table a file, or none"),
}


@pytest.mark.parametrize("case", BAD_MAPPINGS)
def test_bad_mapping_is_refused(case: str, revisit: Revisit, tmp_path: Path) -> None:
    mapping, expected = BAD_MAPPINGS[case]
    must_fail(run(revisit, tmp_path, mapping=mapping), expected)
    assert stored(tmp_path) == {}


def test_bad_mapping_names_all_its_problems(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('delimiter = ""\n[tables.people]\n[tables.patients.columns]\nshoe = "x"\n')
    with pytest.raises(MappingError) as caught:
        load_mapping(tmp_path / "m.toml")
    for part in ("delimiter", "time_zone", "people", "shoe", "patient_id"):
        assert part in str(caught.value)


def test_folders_and_missing_files_are_named(revisit: Revisit, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(MAPPING, encoding="utf-8")
    per_file = MAPPING.replace("[tables.appointments]\n", "")
    for name in ("patients", "contact_details", "appointments"):
        section = f"[tables.{name}.columns]"
        per_file = per_file.replace(section, f"[tables.{name}]\nfile = '{name}.csv'\n{section}")
    (tmp_path / "folder.toml").write_text(per_file, encoding="utf-8")
    (tmp_path / "f.csv").write_text(FILE, encoding="utf-8")
    must_fail(revisit("import", tmp_path, "-m", tmp_path / "m.toml"), "is a folder")
    must_fail(revisit("import", tmp_path / "none.csv", "-m", tmp_path / "m.toml"), "does not exist")
    must_fail(revisit("import", tmp_path / "f.csv", "-m", tmp_path / "none.toml"), "does not exist")
    must_fail(revisit("import", tmp_path / "f.csv", "-m", tmp_path), "is a folder")
    must_fail(revisit("import", tmp_path / "f.csv", "-m", tmp_path / "folder.toml"), "is not a folder")
    must_fail(revisit("import", tmp_path, "-m", tmp_path / "folder.toml"), "patients.csv does not exist")
    assert stored(tmp_path) == {}


def test_mapping_in_another_encoding_is_refused(revisit: Revisit, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_bytes(MAPPING.encode("gb18030"))
    (tmp_path / "f.csv").write_text(FILE, encoding="utf-8")
    must_fail(revisit("import", tmp_path / "f.csv", "-m", tmp_path / "m.toml"), "not TOML")


# Sound files in other clothes

SQL = "SELECT * FROM {0} ORDER BY ALL"


def contents(practice_at, folder: Path, source: str | bytes, mapping: str = MAPPING):  # type: ignore[no-untyped-def]
    practice = practice_at(folder)
    practice.load(mapping, source)
    return [practice.rows(SQL.format(name)) for name in ("patients", "contact_details", "appointments", "quarantine")]


@pytest.fixture(scope="module")
def plain(practice_at, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """What the file in its plainest form leaves."""
    stored_tables = contents(practice_at, tmp_path_factory.mktemp("plain"), FILE)
    assert stored_tables[1][0][1:3] == (NAME, PHONE)
    assert len(stored_tables[2]) == 5  # one booked, two with an outcome
    return stored_tables


SAME = {
    "GB18030": FILE.encode("gb18030"),
    "UTF-8 with its mark": FILE.encode("utf-8-sig"),
    "UTF-16": FILE.encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + FILE.encode("utf-16-be"),
    "CRLF": FILE.replace("\n", "\r\n"),
    "no last line end": FILE.rstrip("\n"),
    "blank last lines": FILE + "\n\n\n",
    "blank line between": FILE.replace(ROWS[1], "\n" + ROWS[1]),
    "quotes": FILE.replace("东店", '"东店"').replace(",x", ',"x"'),
    "quoted line ends": FILE.replace(",x", ',"x\nx\n"'),
    "quoted delimiter and quote": FILE.replace(",x", ',"x, ""x"""'),
    "quote within a field": FILE.replace(",x", ',5" x'),
    "blanks around": FILE.replace("p1,", " p1 ,").replace("病人", " 病人 "),
    "nameless columns": FILE.replace("备注", ",").replace(",x", ",x,").replace(",y", ",,").replace(",z", ",z,"),
}


@pytest.mark.parametrize("case", SAME)
def test_other_clothes_same_records(case: str, plain, practice_at, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert contents(practice_at, tmp_path / "other", SAME[case]) == plain


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf-8-sig"])
def test_encoding_may_be_named(encoding: str, plain, practice_at, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    named = f'encoding = "{encoding}"\n{MAPPING}'
    assert contents(practice_at, tmp_path / "a", FILE.encode("utf-8-sig"), named) == plain


def test_delimiter_may_be_named(plain, practice_at, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    named = f'delimiter = ";"\n{MAPPING}'
    assert contents(practice_at, tmp_path / "a", FILE.replace(",", ";"), named) == plain


def test_folder_and_file_names_may_be_odd(practice_at, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    practice = practice_at(tmp_path / "诊所 (1) 'a' #*?")
    practice.load(MAPPING, FILE, name="it's [1] 100%.csv")
    assert practice.rows("SELECT count(*) FROM appointments") == [(5,)]
    assert not practice.load(MAPPING, FILE, name="it's [1] 100%.csv").has_changes


@pytest.mark.parametrize("character", "[]^|%")
def test_folder_that_delta_cannot_take_is_refused(character: str, practice_at, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    practice = practice_at(tmp_path / f"a{character}41")
    with pytest.raises(StoreError, match="REVISIT_DATA"):
        practice.load(MAPPING, FILE)
    assert not practice.store.root.exists()


# Rows set aside


def quarantine(practice) -> list[tuple[object, ...]]:  # type: ignore[no-untyped-def]
    return practice.rows(
        "SELECT row_number, table_name, column_name, reason FROM quarantine ORDER BY row_number, column_name"
    )


@pytest.mark.parametrize(
    ("source", "row", "reason"),
    [
        (FILE.replace(ROWS[1], "2,p2"), 2, "too few fields"),
        (FILE.replace(ROWS[1], ROWS[1] + ",more"), 2, "too many fields"),
        (FILE.replace(ROWS[1], ROWS[1] + ",more").replace(",x", ',"x\nx"'), 2, "too many fields"),
        (FILE.replace(",y", ',"y"y'), 2, "quotes do not match"),
        (FILE.replace("已完成", "外星"), 2, "none of"),
        (FILE.replace("2026-02-02", "soon"), 2, "cannot be read"),
        (FILE.replace("2026-02-02", "2026-02-30"), 2, "cannot be read"),
        (FILE.replace("2026-02-02", "2025-02-02"), 2, "before its booking"),
        (FILE.replace("2,p2", "2,"), 2, "required value is missing"),
    ],
)
def test_broken_row_is_set_aside_alone(source: str, row: int, reason: str, practice_here) -> None:  # type: ignore[no-untyped-def]
    report = practice_here.load(MAPPING, source)
    assert (report.rows, report.quarantined_rows) == (3, 1)
    found = quarantine(practice_here)
    assert {number for number, *_ in found} == {row}
    assert any(reason in str(text) for *_, text in found)
    for table in ("appointments", "patients", "contact_details"):
        assert practice_here.rows(f"SELECT DISTINCT patient_id FROM {table} ORDER BY 1") == [("p1",), ("p3",)]


def test_row_numbers_hold_behind_rejected_and_long_rows(practice_here) -> None:  # type: ignore[no-untyped-def]
    rows, expected = [], {}
    for number in range(1, 400):
        row = f"{number},p{number},n,1,c,2026-01-01 10:00:00,2026-02-01 10:00:00,已预约,"
        if number % 7 == 0:
            row, expected[number] = row + ",more", "too many fields"
        elif number % 11 == 0:
            row, expected[number] = f"{number},p", "too few fields"
        elif number % 13 == 0:
            row, expected[number] = row.replace("已预约", "?"), "none of"
        elif number % 17 == 0:
            row += '"two\nlines"'
        rows.append(row)
    practice_here.load(MAPPING, "\n".join([HEADER, *rows]))
    found = {number: str(reason) for number, _, _, reason in quarantine(practice_here)}
    assert set(found) == set(expected)
    assert all(expected[number] in found[number] for number in expected)
    stored_ids = {
        int(str(number)) for (number,) in practice_here.rows("SELECT DISTINCT appointment_id FROM appointments")
    }
    assert stored_ids == set(range(1, 400)) - set(expected)


@pytest.mark.parametrize(
    "sql",
    [
        "CAST(备注 AS INTEGER)",
        "CAST(备注 AS INTEGER) + 1",
        "CASE WHEN 编号 = '2' THEN CAST(姓名 AS INTEGER) END",
        "TRY_CAST(备注 AS INTEGER) + error_free -- no such column",
    ],
)
def test_computation_that_fails_is_set_aside(sql: str, practice_at, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    practice = practice_at(tmp_path)
    mapping = f'{MAPPING}fee_cents = {{ sql = "{sql}" }}\nduration_minutes = {{ sql = "{sql}" }}\n'
    source = FILE.replace(",x", ",10").replace(",z", ",30")
    if "error_free" in sql:
        with pytest.raises(FileError, match="error_free"):
            practice.load(mapping, source)
        return
    practice.load(mapping, source)
    assert quarantine(practice) == [
        (2, "appointments", column, "the value cannot be computed") for column in ("duration_minutes", "fee_cents")
    ]


def test_computation_may_give_nothing(practice_here) -> None:  # type: ignore[no-untyped-def]
    practice_here.load(MAPPING + "fee_cents = { sql = \"CASE WHEN 编号 = '2' THEN '7' END -- 元\" }\n", FILE)
    assert quarantine(practice_here) == []
    assert practice_here.rows("SELECT max(fee_cents), count(fee_cents) FROM appointments") == [(7, 1)]


def test_mended_file_clears_its_rows_alone(practice_here) -> None:  # type: ignore[no-untyped-def]
    practice_here.load(MAPPING, FILE.replace("已完成", "外星"), name="a.csv")
    practice_here.load(MAPPING, FILE.replace("爽约", "外星"), name="b.csv")
    assert practice_here.rows("SELECT source, row_number FROM quarantine ORDER BY 1") == [("a.csv", 2), ("b.csv", 3)]
    practice_here.load(MAPPING, FILE, name="a.csv")
    assert practice_here.rows("SELECT source, row_number FROM quarantine") == [("b.csv", 3)]
    practice_here.load(MAPPING, FILE, name="b.csv")
    assert quarantine(practice_here) == []
    versions = practice_here.store.versions()
    assert not practice_here.load(MAPPING, FILE, name="b.csv").has_changes
    assert practice_here.store.versions() == versions


def test_no_name_or_phone_leaves_its_table(revisit: Revisit, tmp_path: Path) -> None:
    odd = FILE.replace("已完成", NAME) + f"4,p4,{NAME},{PHONE},{NAME}\n"
    wrong = odd + f"{NAME},{NAME},{NAME},{PHONE},西店,{NAME},{PHONE},{NAME},{PHONE}\n"
    # the desk maps names into the fields of other types by mistake
    result = run(revisit, tmp_path, wrong, MAPPING + 'duration_minutes = { sql = "CAST(姓名 AS INTEGER)" }\n')
    assert result.exit_code == 0
    assert "5 rows quarantined" in result.stdout
    again = run(revisit, tmp_path, odd)
    assert "2 rows quarantined" in again.stdout
    assert NAME not in result.output + again.output
    assert PHONE not in result.output + again.output
    holders = {
        path.relative_to(tmp_path / "data").as_posix()
        for path in (tmp_path / "data").rglob("*")
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in (NAME, PHONE))
    }
    kept = [name for name in holders if name.startswith("records/contact_details/") and name.endswith(".parquet")]
    assert kept, "the test looks for nothing"
    assert holders == set(kept)
