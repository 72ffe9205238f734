"""Damaged files of every format: stored, quarantined or refused in one sentence; never half imported.

The damage is seeded: byte flips, truncation, other encodings, dropped and doubled columns, odd
cells, broken archives and footers. Each input is imported over records that are already there.
"""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import RevisitError

NAME, PHONE = "王小明", "13800138000"
HEADER = ["编号", "病人", "姓名", "电话", "门诊", "预约时间", "开始时间", "状态", "实收", "生日", "备注"]
ROWS = [
    [str(n), f"p{n % 5}", NAME, PHONE, "东店", f"2026-01-{n:02} 10:00", f"2026-02-{n:02} 10:30",
     ("已预约", "已完成", "爽约")[n % 3], f"{n}.50", f"19{50 + n}-05-15", "备,\"注\""]
    for n in range(1, 13)
]  # fmt: skip
MAPPING = """
name = "fuzz"
time_zone = "Asia/Shanghai"
[tables.contact_details.columns]
patient_id = "病人"
known_from_at = "预约时间"
full_name = "姓名"
phone = "电话"
[tables.appointments.columns]
appointment_id = "编号"
patient_id = "病人"
clinic_id = "门诊"
booked_at = "预约时间"
starts_at = "开始时间"
fee_cents = { column = "实收", unit = "major" }
status = { column = "状态", values = { "已预约" = "booked", "已完成" = "completed", "爽约" = "no_show" } }
"""
VISITS = """
name = "fuzz"
time_zone = "Asia/Shanghai"
format = "FORMAT"
[visits]
patient_id = "病人"
date = "day"
amount = "实收"
where = "实收 <> '3.50'"
same_day = "one"
"""
FIXED = VISITS.replace("FORMAT", "fixed").replace(
    "[visits]", '[fixed]\n"病人" = [1, 4]\nday = [5, 14]\n"实收" = [16, 21]\n"姓名" = [23, 30]\n[visits]'
)
ODD = [
    *("", " ", "0", "-1", "1e308", "NaN", "infinity", "9" * 40, "2026-02-30", "1990/5/15", "45678", "男", "已完成"),
    *("已预约", '"', "'", "\\", "\0", "\r", "\n", "a\nb", "，", "￥1,234.50", "１２", "=1+1", "\ufeff", "😀", "NULL"),
    *("x" * 5000, "2026-01-01T00:00:00Z", "0001-01-01", "9999-12-31 23:59:59", "294247-01-11", "p1|p2", "%s", "{}"),
]

Table = list[list[str]]


def spoiled(table: Table, dice: random.Random) -> Table:
    """A table with cells, rows or columns that do not belong."""
    table = [list(row) for row in table]
    for _ in range(dice.randint(1, 4)):
        kind, place = dice.randrange(7), dice.randrange(len(table[0]))
        row = table[dice.randrange(len(table))]
        if kind <= 2:
            row[min(place, len(row) - 1)] = dice.choice(ODD)
        elif kind == 3:
            table = [[*cells[:place], *cells[place + 1 :]] for cells in table]
        elif kind == 4:
            table = [[*cells, *cells[place : place + 1]] for cells in table]
        elif kind == 5:
            dice.shuffle(row)
        else:
            table.insert(dice.randrange(len(table) + 1), list(row))
        table = [row or [""] for row in table]
    return table


def damaged(content: bytes, dice: random.Random, tail: int = 0) -> bytes:
    """Bytes flipped, cut, doubled or put in; `tail`: within so many bytes of the end."""
    made = bytearray(content)
    for _ in range(dice.randint(1, 3)):
        place = dice.randrange(max(len(made) - tail, 0) if tail else 0, max(len(made), 1))
        kind = dice.randrange(6)
        if kind <= 1 and made:
            made[place] ^= 1 << dice.randrange(8)
        elif kind == 2:
            del made[place:]
        elif kind == 3:
            del made[place : place + dice.randint(1, 40)]
        elif kind == 4:
            made[place:place] = dice.randbytes(dice.randint(1, 20))
        else:
            made[place:place] = made[place : place + dice.randint(1, 200)]
    return bytes(made)


def csv_text(table: Table, delimiter: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(table)
    return out.getvalue()


def as_csv(table: Table, dice: random.Random, delimiter: str = ",") -> bytes:
    text = csv_text(table, delimiter)
    content = text.encode(dice.choice(["utf-8", "utf-8", "utf-8-sig", "gb18030", "utf-16"]))
    if dice.random() < 0.15:  # two encodings in one file, or one that the bytes are not in
        content = text[: len(text) // 2].encode("gb18030") + text[len(text) // 2 :].encode("utf-8")
    return damaged(content, dice) if dice.random() < 0.5 else content


def as_tsv(table: Table, dice: random.Random) -> bytes:
    return as_csv(table, dice, dice.choice("\t\t\t,;"))


def as_lines(table: Table, dice: random.Random) -> bytes:
    widths = (4, 11, 7, 8)
    lines = ["".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)) for row in table]
    content = "\n".join(lines).encode(dice.choice(["utf-8", "gb18030", "utf-16"]))
    return damaged(content, dice) if dice.random() < 0.6 else content


def as_words(table: Table, dice: random.Random) -> bytes:
    return as_lines([["病人", "day", "实收", "姓名"], *table], dice)


def typed(cell: str) -> str | float | datetime | date:
    for read in (float, date.fromisoformat, datetime.fromisoformat):
        try:
            return read(cell)  # type: ignore[operator]
        except ValueError:
            continue
    return "".join(character for character in cell if character >= " ")


def as_workbook(table: Table, dice: random.Random) -> bytes:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("s")
    for row in ([["title"], []] if dice.random() < 0.3 else []) + table:
        sheet.append([typed(cell) if dice.random() < 0.5 else typed(cell).__str__()[:99] for cell in row])
    out = io.BytesIO()
    book.save(out)
    kind, content = dice.randrange(4), out.getvalue()
    if kind == 0:
        return content
    if kind == 1:
        return damaged(content, dice, tail=dice.choice([0, 400]))
    again = io.BytesIO()  # a sound archive around a damaged part
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(again, "w") as new:
        parts = old.namelist()
        hit = dice.choice(parts)
        for part in parts:
            if part != hit or kind == 2:
                new.writestr(part, damaged(old.read(part), dice) if part == hit else old.read(part))
    return again.getvalue()


def as_parquet(table: Table, dice: random.Random) -> bytes:
    header = list(dict.fromkeys(table[0])) if dice.random() < 0.8 else table[0]
    columns = []
    for place in range(len(header)):
        cells = [row[place] if place < len(row) else None for row in table[1:]]
        array = pa.array(cells, pa.string())
        for kind in dice.sample([pa.float64(), pa.int32(), pa.timestamp("ns", "UTC"), pa.date32(), pa.bool_()], 5):
            try:
                array = array.cast(kind) if dice.random() < 0.7 else array
                break
            except pa.ArrowInvalid:
                continue
        columns.append(array)
    out = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays(columns, names=header), out, compression=dice.choice(["none", "snappy", "zstd"])
    )
    kind = dice.randrange(4)
    return damaged(out.getvalue(), dice, tail=dice.choice([0, 12, 3000])) if kind else out.getvalue()


LINES = [[row[1], row[5][:10], row[8], row[2]] for row in ROWS]
WAYS: dict[str, tuple[str, str, Table, Callable[[Table, random.Random], bytes], int]] = {
    "csv": ("f.csv", MAPPING, [HEADER, *ROWS], as_csv, 115),
    "tsv": ("f.tsv", MAPPING, [HEADER, *ROWS], as_tsv, 50),
    "fixed": ("f.txt", FIXED, LINES, as_lines, 50),
    "spaces": ("f.txt", VISITS.replace("FORMAT", "spaces"), LINES, as_words, 50),
    "xlsx": ("f.xlsx", MAPPING, [HEADER, *ROWS], as_workbook, 120),
    "parquet": ("f.parquet", MAPPING, [HEADER, *ROWS], as_parquet, 115),
}


class Undamaged(random.Random):
    """Dice that damage nothing."""

    def random(self) -> float:
        return 0.99

    def randrange(self, *_: int) -> int:  # type: ignore[override]
        return 0

    def choice(self, seq):  # type: ignore[no-untyped-def]
        return seq[0]


def stored(root: Path) -> tuple[bytes, dict[str, int]]:
    manifest = root / "data" / "records" / "manifest.json"
    logs = {path.as_posix(): path.stat().st_size for path in manifest.parent.rglob("_delta_log/*")}
    return manifest.read_bytes(), logs


def test_enough_inputs() -> None:
    assert sum(count for *_, count in WAYS.values()) >= 500


@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", WAYS)
def test_damaged_files_end_in_records_quarantine_or_one_sentence(way: str, practice_here) -> None:  # type: ignore[no-untyped-def]
    name, mapping, table, written, count = WAYS[way]
    assert practice_here.load(mapping, written(table, Undamaged()), name=name).quarantined == {}
    base = practice_here.root / "base"
    shutil.copytree(practice_here.root / "data", base)
    outcomes: Counter[str] = Counter()
    for seed in range(count):
        dice = random.Random(f"{way} {seed}")
        source = written(spoiled(table, dice) if dice.random() < 0.7 else table, dice)
        before = stored(practice_here.root)
        try:
            report = practice_here.load(mapping, source, name=name)
        except RevisitError as error:
            outcomes["refused"] += 1
            assert stored(practice_here.root) == before, f"seed {seed}: a refused file left something"
            text = str(error)
            assert text, f"seed {seed}"
            assert "\n" not in text, f"seed {seed}: {text}"
            assert not any(secret in text for secret in (NAME, PHONE)), f"seed {seed}: {text}"
        except Exception as error:
            pytest.fail(f"{way}, seed {seed}: {type(error).__name__}: {str(error)[:200]}")
        else:
            assert report.quarantined_rows <= report.rows, f"seed {seed}"
            outcomes["quarantined" if report.quarantined_rows else "stored"] += 1
            versions = json.loads(stored(practice_here.root)[0])["versions"]
            assert versions == practice_here.store.versions()
            if seed % 10 == 0:  # a long log makes each import slower
                shutil.rmtree(practice_here.root / "data")
                shutil.copytree(base, practice_here.root / "data")
    rows = practice_here.rows("SELECT count(*), count(DISTINCT appointment_id) FROM appointments")[0]
    assert rows[0] > 0, "the records can still be read"
    assert min(outcomes[kind] for kind in ("refused", "quarantined", "stored")) > 0, outcomes
