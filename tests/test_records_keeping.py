"""Keeping: states with their moments, imports that happen whole or not at all, versions that stay."""

from __future__ import annotations

import itertools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from features.as_of import attach_states
from features.duck import connect
from features.errors import StoreError
from features.records import store as store_module
from features.records.quarantine import quarantine_counts, quarantine_rows

MAPPING = """
time_zone = "UTC"
datetime_formats = ["%Y-%m-%d %H:%M"]
[tables.patients.columns]
patient_id = "patient"
known_from_at = "changed"
membership = "plan"
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = { value = "c" }
booked_at = "booked"
starts_at = "starts"
status = "status"
status_known_at = "since"
"""
HEADER = "id,patient,plan,changed,booked,starts,status,since\n"
BOOKED, STARTS, MOVED = "2026-01-01 10:00", "2026-02-01 10:00", "2026-02-02 10:00"
DAY = timedelta(days=1)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def line(status: str = "booked", since: str = "", starts: str = STARTS, number: str = "1", plan: str = "") -> str:
    return f"{number},p{number},{plan},{BOOKED},{BOOKED},{starts},{status},{since}\n"


def states(practice: Any, columns: str = "status, known_at, known_until") -> list[tuple[object, ...]]:
    with connect() as con:
        practice.store.attach(con, ["appointments"])
        attach_states(con, "appointments")
        return con.execute(
            f"SELECT {columns} FROM appointments_states ORDER BY appointment_id, known_at, recorded_at"
        ).fetchall()


def load(practice: Any, at: str, *lines: str) -> Any:
    return practice.load(MAPPING, HEADER + "".join(lines), at=day(at))


# States


def test_outcome_is_a_state_of_its_own_time(practice_here: Any) -> None:
    load(practice_here, "2026-01-15", line())
    assert states(practice_here) == [("booked", day(BOOKED), None)]
    report = load(practice_here, "2026-02-03", line("no_show", "2026-02-01 18:00"))
    over = day("2026-02-01 18:00")
    assert states(practice_here) == [("booked", day(BOOKED), over), ("no_show", over, None)]
    assert [(t.table, t.stored, t.changed, t.unchanged) for t in report.tables] == [
        ("patients", 0, 0, 1),
        ("appointments", 0, 1, 0),
    ]


def test_one_late_import_tells_the_same_story(practice_here: Any) -> None:
    load(practice_here, "2026-02-03", line("no_show", "2026-02-01 18:00"))
    over = day("2026-02-01 18:00")
    assert states(practice_here) == [("booked", day(BOOKED), over), ("no_show", over, None)]


def test_change_without_a_time_is_known_from_its_import_on(practice_here: Any) -> None:
    load(practice_here, "2026-01-10", line())
    load(practice_here, "2026-01-15", line(starts=MOVED))
    assert states(practice_here, "starts_at, known_at") == [
        (day(STARTS), day(BOOKED)),
        (day(MOVED), day("2026-01-15")),
    ]
    assert not load(practice_here, "2026-01-16", line(starts=MOVED)).has_changes


def test_outcome_without_a_time_is_known_a_day_after_the_start(practice_here: Any) -> None:
    report = load(practice_here, "2026-03-01", line("completed"))
    assert states(practice_here, "status, known_at") == [("booked", day(BOOKED)), ("completed", day(STARTS) + DAY)]
    assert any("no time of recording" in note for note in report.notes)
    assert not load(practice_here, "2026-03-02", line("completed")).has_changes


def test_cancellation_without_a_time_is_known_from_its_import_on(practice_here: Any) -> None:
    """Not a day after a visit that will never be: the desk must not call on it."""
    load(practice_here, "2026-01-10", line())
    load(practice_here, "2026-01-15", line("cancelled_early"))
    cancelled = ("cancelled_early", day("2026-01-15"))
    assert states(practice_here, "status, known_at") == [("booked", day(BOOKED)), cancelled]
    for later in ("2026-01-16", "2026-03-01"):
        assert not load(practice_here, later, line("cancelled_early")).has_changes
    assert states(practice_here, "status, known_at") == [("booked", day(BOOKED)), cancelled]


def test_there_and_back_again_makes_three_states(practice_here: Any) -> None:
    for at, starts in (("2026-01-10", STARTS), ("2026-01-15", MOVED), ("2026-01-20", STARTS)):
        assert load(practice_here, at, line(starts=starts)).has_changes
        assert not load(practice_here, at, line(starts=starts)).has_changes
    assert states(practice_here, "starts_at, known_at") == [
        (day(STARTS), day(BOOKED)),
        (day(MOVED), day("2026-01-15")),
        (day(STARTS), day("2026-01-20")),
    ]


def test_older_export_takes_back_no_outcome(practice_here: Any) -> None:
    """What carries a time of its own stays, whether the older export is imported again or for the first time."""
    load(practice_here, "2026-01-10", line())
    load(practice_here, "2026-02-03", line("no_show", "2026-02-01 18:00", MOVED))
    before = states(practice_here)
    for older in (line(), line(starts="2026-02-05 10:00")):
        assert not load(practice_here, "2026-02-04", older).has_changes
        assert states(practice_here) == before


def test_older_export_takes_back_changes_without_a_time(practice_here: Any) -> None:
    """Nothing tells it from a change back: the last import wins, and only from then on."""
    load(practice_here, "2026-01-10", line())
    load(practice_here, "2026-01-15", line(starts=MOVED))
    load(practice_here, "2026-01-20", line())
    load(practice_here, "2026-01-21", line(starts=MOVED))
    assert [starts for (starts,) in states(practice_here, "starts_at")] == [day(s) for s in (STARTS, MOVED) * 2]


def test_correction_without_a_time_is_known_from_its_import_on_and_once(practice_here: Any) -> None:
    load(practice_here, "2026-02-03", line("no_show", "2026-02-01 18:00"))
    load(practice_here, "2026-02-10", line("completed", "2026-02-01 18:00"))
    expected = [("booked", day(BOOKED)), ("no_show", day("2026-02-01 18:00")), ("completed", day("2026-02-10"))]
    assert states(practice_here, "status, known_at") == expected
    assert not load(practice_here, "2026-02-11", line("completed", "2026-02-01 18:00")).has_changes
    assert states(practice_here, "status, known_at") == expected


def test_correction_of_a_state_from_the_future_is_the_newest(practice_here: Any) -> None:
    """The practice's clock may be ahead of ours; a correction must still win, and settle."""
    ahead = "2026-02-01 18:00"
    load(practice_here, "2026-01-20", line("no_show", ahead))
    load(practice_here, "2026-01-21", line("completed", ahead))
    assert states(practice_here)[-1][0] == "completed"
    assert not load(practice_here, "2026-01-22", line("completed", ahead)).has_changes


def test_patients_change_at_their_own_time(practice_here: Any) -> None:
    def row(plan: str, changed: str) -> str:
        return f"1,p1,{plan},{changed},{BOOKED},{STARTS},booked,\n"

    load(practice_here, "2026-06-01", row("gold", "2026-01-01 10:00"))
    load(practice_here, "2026-06-02", row("gold", "2026-05-01 10:00"))
    load(practice_here, "2026-06-03", row("none", "2026-03-01 10:00"))  # an older export, found late
    plans = practice_here.rows("SELECT membership FROM patients ORDER BY known_at")
    assert plans == [("gold",), ("none",), ("gold",)]


# Any order, any repetition

MOMENTS = st.integers(1, 6)
EXPORT = st.lists(
    st.tuples(st.sampled_from("12"), st.sampled_from(["no_show", "completed", "cancelled_late"]), MOMENTS, MOMENTS),
    min_size=1,
    max_size=3,
)


def export_text(rows: list[tuple[str, str, int, int]]) -> str:
    """Rows whose every state has its own time, and whose content follows from it."""
    outcomes = ("no_show", "completed", "cancelled_late")
    return HEADER + "".join(
        f"{number},p{number},{'gold' if changed % 2 else 'none'},2026-01-0{changed} 10:00,{BOOKED},{STARTS},"
        + (f"{outcomes[since % 3]},2026-02-0{since} 12:00\n" if since > 1 else "booked,\n")
        for number, _, since, changed in rows
    )


def all_rows(practice: Any) -> list[list[tuple[object, ...]]]:
    return [
        practice.rows(f"SELECT * EXCLUDE (recorded_at) FROM {name} ORDER BY ALL")
        for name in ("patients", "appointments")
    ]


@settings(max_examples=4)
@given(st.lists(EXPORT, min_size=2, max_size=3), st.data())
def test_order_and_repetition_of_exports_do_not_matter(
    practice_at: Any, exports: list[Any], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations([*exports, data.draw(st.sampled_from(exports))]))
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        results = []
        for folder, batches in ((one, exports), (other, shuffled)):
            practice = practice_at(Path(folder))
            for count, batch in enumerate(batches):
                practice.load(MAPPING, export_text(batch), at=day("2026-03-01") + count * DAY)
            results.append(all_rows(practice))
    assert results[0] == results[1]


@settings(max_examples=6)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["booked", "arrived", "completed", "no_show", "cancelled_early"]),
            st.sampled_from(["", "2026-01-20 12:00", "2026-02-01 12:00"]),
            st.sampled_from([STARTS, MOVED]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_every_import_settles(practice_at: Any, history: list[tuple[str, str, str]]) -> None:
    """Whatever an export says, saying it again adds nothing; and no two states share a moment."""
    with TemporaryDirectory() as folder:
        practice = practice_at(Path(folder))
        for count, (status, since, starts) in enumerate(history):
            load(practice, f"2026-02-0{count + 1}", line(status, since, starts))
            versions = practice.store.versions()
            load(practice, f"2026-02-0{count + 1} 12:00", line(status, since, starts))
            assert practice.store.versions() == versions
        moments = practice.rows("SELECT known_at FROM appointments")
        assert len(moments) == len(set(moments))


# Whole or not at all

FIRST = HEADER + line() + line(number="2")
SECOND = HEADER + line("no_show", "2026-02-01 18:00", plan="gold") + line(number="3") + "4,p4\n"
TOUCHED = 3  # patients, appointments, quarantine


def snapshot(practice: Any) -> list[list[tuple[object, ...]]]:
    return [practice.rows(f"SELECT * FROM {name} ORDER BY ALL") for name in ("patients", "appointments", "quarantine")]


@pytest.fixture(scope="module")
def after(practice_at: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What two undisturbed imports leave."""
    practice = practice_at(tmp_path_factory.mktemp("undisturbed"))
    practice.load(MAPPING, FIRST, at=day("2026-01-10"))
    practice.load(MAPPING, SECOND, at=day("2026-02-10"))
    return snapshot(practice)


class CrashError(Exception):
    pass


@pytest.mark.parametrize("is_written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(TOUCHED))
def test_crash_between_tables_of_the_first_import_leaves_nothing(
    nth: int, is_written: bool, practice_here: Any, after: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of later imports, see test_records_killed.py."""
    before, versions = snapshot(practice_here), practice_here.store.versions()
    calls, write = itertools.count(), store_module.write_deltalake

    def failing(*arguments: Any, **options: Any) -> None:
        crashes = next(calls) == nth
        if not crashes or is_written:
            write(*arguments, **options)
        if crashes:
            raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "write_deltalake", failing)
        for _ in range(2):  # the second crash meets what the first left behind
            with pytest.raises(CrashError):
                practice_here.load(MAPPING, FIRST + "4,p4\n", at=day("2026-02-09"))
            calls = itertools.count()
    assert snapshot(practice_here) == before
    assert practice_here.store.versions() == versions
    practice_here.load(MAPPING, FIRST, at=day("2026-01-10"))
    practice_here.load(MAPPING, SECOND, at=day("2026-02-10"))
    assert snapshot(practice_here) == after


def test_failed_import_frees_the_store(practice_here: Any) -> None:
    with pytest.raises(RuntimeError), practice_here.store.importing():
        raise RuntimeError
    practice_here.load(MAPPING, FIRST)


# Versions


def test_old_versions_give_old_data(practice_here: Any) -> None:
    practice_here.load(MAPPING, FIRST, at=day("2026-01-10"))
    old, before = practice_here.store.versions(), snapshot(practice_here)
    practice_here.load(MAPPING, SECOND, at=day("2026-02-10"))
    assert snapshot(practice_here) != before
    names = ("patients", "appointments", "quarantine")
    assert [practice_here.rows(f"SELECT * FROM {name} ORDER BY ALL", old) for name in names] == before
    assert practice_here.rows("SELECT count(*) FROM appointments", {}) == [(0,)]


def test_version_that_is_gone_is_named(practice_here: Any) -> None:
    practice_here.load(MAPPING, FIRST)
    with pytest.raises(StoreError, match="version 99 of table appointments"):
        practice_here.rows("SELECT 1", {"appointments": 99})
    shutil.rmtree(practice_here.store.root / "appointments")
    with pytest.raises(StoreError, match="Restore the folder"):
        practice_here.rows("SELECT 1")


def test_delta_is_told_to_keep_old_versions_and_quote_no_values(practice_here: Any) -> None:
    practice_here.load(MAPPING, FIRST + "4,p4\n")
    for name in ("patients", "appointments", "quarantine"):
        told = DeltaTable(practice_here.store.root / name).metadata().configuration
        assert told["delta.enableExpiredLogCleanup"] == "false"
        assert told["delta.dataSkippingNumIndexedCols"] == "0"


# Records that an older release wrote


def written_before(practice: Any, table: str, columns: list[str]) -> None:
    """Write a table again as it was when it had fewer columns."""
    path, kept = practice.store.root / table, ", ".join(columns)
    with connect() as con:
        practice.store.attach(con, [table])
        rows = con.sql(f"SELECT {kept} FROM {table}").to_arrow_table()
    store_module.write_deltalake(path, rows, mode="overwrite", schema_mode="overwrite")
    versions = practice.store.versions() | {table: DeltaTable(path).version()}
    practice.store.publish(versions, store_module.Made("import", day("2026-01-10")))


def test_older_quarantine_is_read_and_cleared(practice_here: Any) -> None:
    practice_here.load(MAPPING, FIRST + "4,p4\n", at=day("2026-01-10"))
    written_before(practice_here, "quarantine", ["source", "table_name", "row_number", "column_name", "reason"])
    (fault,) = quarantine_rows(practice_here.store)
    assert (fault.mapping, fault.row, fault.value_class) == ("", 3, "")
    assert [fault.rows for fault in quarantine_counts(practice_here.store)] == [1]
    practice_here.load(MAPPING, FIRST, at=day("2026-01-11"))
    assert list(quarantine_rows(practice_here.store)) == []


def test_older_tables_gain_the_columns_that_the_contract_gained(practice_here: Any) -> None:
    practice_here.load(MAPPING, FIRST, at=day("2026-01-10"))
    written_before(practice_here, "patients", ["patient_id", "known_from_at", "known_at", "recorded_at"])
    assert practice_here.rows("SELECT DISTINCT membership FROM patients") == [(None,)]
    practice_here.load(MAPPING, HEADER + line(number="3", plan="gold"), at=day("2026-01-11"))
    assert practice_here.rows("SELECT patient_id, membership FROM patients ORDER BY 1") == [
        ("p1", None),
        ("p2", None),
        ("p3", "gold"),
    ]
