"""Merged patients: whose history a number is, at every moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.as_of import attach_states, known
from features.duck import connect
from features.errors import MappingError, StoreError
from features.records.history import restore
from features.records.merging import Merge, merge, news, put_merges, spans

MAPPING = """
time_zone = "UTC"
datetime_formats = ["%Y-%m-%d %H:%M"]
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = { value = "c" }
booked_at = "booked"
starts_at = "starts"
status = { value = "booked" }
"""
HEADER = "id,patient,booked,starts\n"
EXPORT = HEADER + "".join(f"{n},{who},2026-01-0{n} 10:00,2026-03-01 1{n}:00\n" for n, who in enumerate("abca", 1))
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def who_at(practice: Any, table: str, columns: str, at: datetime) -> list[tuple[object, ...]]:
    with connect() as con:
        practice.store.attach(con, [table])
        attach_states(con, table)
        where = known("s", f"TIMESTAMPTZ '{at.isoformat()}'")
        return con.execute(f"SELECT {columns} FROM {table}_states s WHERE {where} ORDER BY ALL").fetchall()


def test_history_follows_the_survivor_from_the_merge_on(practice_here: Any) -> None:
    practice_here.load(MAPPING, EXPORT, at=START + 20 * DAY)
    assert merge(practice_here.store, "a", "b", START + 30 * DAY)
    columns = "appointment_id, patient_id"
    before = [("1", "a"), ("2", "b"), ("3", "c"), ("4", "a")]
    assert who_at(practice_here, "appointments", columns, START + 30 * DAY) == before
    after = [("1", "b"), ("2", "b"), ("3", "c"), ("4", "b")]
    assert who_at(practice_here, "appointments", columns, START + 31 * DAY) == after
    assert who_at(practice_here, "patients", "patient_id", START + 30 * DAY) == [("a",), ("b",), ("c",)]
    assert who_at(practice_here, "patients", "patient_id", START + 31 * DAY) == [("b",), ("c",)]
    assert practice_here.rows("SELECT DISTINCT patient_id FROM appointments ORDER BY 1") == [("a",), ("b",), ("c",)]


def test_merge_is_undone_by_restoring(practice_here: Any) -> None:
    practice_here.load(MAPPING, EXPORT, at=START + 20 * DAY)
    merge(practice_here.store, "a", "b", START + 30 * DAY)
    assert not merge(practice_here.store, "a", "b", START + 31 * DAY)
    restore(practice_here.store, 1, START + 32 * DAY)
    assert who_at(practice_here, "patients", "patient_id", START + 40 * DAY) == [("a",), ("b",), ("c",)]
    merge(practice_here.store, "b", "a", START + 33 * DAY)
    assert who_at(practice_here, "patients", "patient_id", START + 40 * DAY) == [("a",), ("c",)]


def test_circles_contradictions_and_strangers_are_refused(practice_here: Any) -> None:
    practice_here.load(MAPPING, EXPORT, at=START + 20 * DAY)
    merge(practice_here.store, "a", "b", START + 30 * DAY)
    merge(practice_here.store, "b", "c", START + 31 * DAY)
    versions = practice_here.store.versions()
    for old, new, said in (
        ("c", "a", "a is that patient already"),
        ("c", "c", "c is that patient already"),
        ("x", "a", "know no patient x"),
        ("a", "x", "know no patient x"),
    ):
        with pytest.raises(StoreError, match=said):
            merge(practice_here.store, old, new, START + 32 * DAY)
    with pytest.raises(StoreError, match="merged into c already"):
        news([Merge("a", "b", START), Merge("b", "c", START)], [Merge("a", "d", START)])
    assert practice_here.store.versions() == versions


def test_merges_of_a_file_and_of_the_mapping(practice_here: Any, tmp_path: Path) -> None:
    """A merge with a moment of its own counts from then on, one without from its import on."""
    (tmp_path / "merged.csv").write_text("alt,neu,am\na,b,2026-01-10 00:00\nb,c,\n")
    source = '[merges]\nfile = "merged.csv"\nold = "alt"\nnew = "neu"\nmerged_at = "am"\n'
    report = practice_here.load(MAPPING + source, EXPORT, at=START + 20 * DAY)
    assert {t.table: t.stored for t in report.tables} == {"appointments": 4, "merges": 2}
    for days, expected in ((8, "ab"), (10, "bbc"), (30, "ccc")):
        seen = {who for (who,) in who_at(practice_here, "appointments", "patient_id", START + days * DAY)}
        assert seen == set(expected) | ({"c"} if days > 2 else set())
    assert not practice_here.load(MAPPING + source, EXPORT, at=START + 21 * DAY).has_changes
    inline = '[merges.ids]\na = "c"\nb = "c"\n'
    assert not practice_here.load(MAPPING + inline, EXPORT, at=START + 22 * DAY).has_changes


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("merges = 3\n", "merges"),
        ("[merges]\nold = 'a'\n", "either file"),
        ("[merges]\nfile = 'x.csv'\nfrom = 'a'\n", "there are file"),
        ("[merges.ids]\na = 3\n", "pairs of text"),
        ("[merges]\nfile = 'half.csv'\n", "half.csv, row 2"),
    ],
)
def test_wrong_merges_are_named_and_nothing_is_stored(
    section: str, said: str, practice_here: Any, tmp_path: Path
) -> None:
    (tmp_path / "half.csv").write_text("old_id,new_id\na,b\nb,\n")
    text = section + MAPPING if section.startswith("merges") else MAPPING + section
    with pytest.raises(MappingError, match=said):
        practice_here.load(text, EXPORT)
    assert practice_here.store.versions() == {}


NUMBERS = "abcde"


@st.composite
def forests(draw: st.DrawFn) -> list[Merge]:
    """Merges without circles: everybody goes into somebody later in a random order, or stays."""
    order = draw(st.permutations(NUMBERS))
    merges = []
    for place, old in enumerate(order[:-1]):
        into = draw(st.none() | st.sampled_from(order[place + 1 :]))
        if into:
            merges.append(Merge(old, into, START + draw(st.integers(0, 6)) * DAY))
    return draw(st.permutations(merges))


def survivor(merges: Sequence[Merge], number: str, at: datetime) -> str:
    """The oracle: step from number to number by merges known before `at`."""
    while found := [m.new_id for m in merges if m.old_id == number and m.known_at < at]:
        (number,) = found
    return number


@settings(max_examples=60)
@given(forests(), st.integers(-1, 8))
def test_spans_say_what_stepping_says(merges: list[Merge], days: int) -> None:
    at = START + days * DAY
    found = list(spans(merges))
    for number in {m.old_id for m in merges}:
        covering = [
            s.survivor_id
            for s in found
            if s.patient_id == number
            and (s.from_at is None or s.from_at < at)
            and (s.until_at is None or s.until_at >= at)
        ]
        assert covering == [survivor(merges, number, at)]


@settings(max_examples=30)
@given(
    forests(),
    st.lists(st.tuples(st.sampled_from("12"), st.sampled_from(NUMBERS), st.integers(0, 6)), unique_by=lambda s: s[::2]),
)
def test_states_resolve_at_every_moment(
    fill_tables: Callable[..., None], merges: list[Merge], states: list[tuple[str, str, int]]
) -> None:
    with connect() as con:
        rows = [{"appointment_id": n, "patient_id": who, "known_at": START + d * DAY} for n, who, d in states]
        fill_tables(con, {"appointments": rows})
        put_merges(con, "merges", merges, START)
        attach_states(con, "appointments")
        for half_days in range(-1, 16):
            at = START + half_days * DAY / 2
            expected = {}
            for number, who, day in sorted(states, key=lambda state: state[2]):
                if START + day * DAY < at:
                    expected[number] = survivor(merges, who, at)
            where = known("s", f"TIMESTAMPTZ '{at.isoformat()}'")
            found = con.execute(
                f"SELECT appointment_id, patient_id FROM appointments_states s WHERE {where}"
            ).fetchall()
            assert sorted(found) == sorted(expected.items())


def test_merged_history_counts_as_one_in_features(practice_here: Any) -> None:
    """The booking's own decision moment does not double, and the past of both numbers is seen."""
    from features import schedule

    practice_here.load(MAPPING, EXPORT, at=START + 20 * DAY)
    merge(practice_here.store, "a", "b", START + 30 * DAY)
    with connect() as con:
        practice_here.store.attach(con, schedule.RECORDS)
        schedule.build_spine(con, practice_here.settings)
        made = con.execute(
            f"SELECT appointment_id, patient_id FROM spine WHERE moment = '{schedule.BOOKING}' ORDER BY 1"
        )
        assert made.fetchall() == [("1", "a"), ("2", "b"), ("3", "c"), ("4", "a")]
        evening = con.execute(f"SELECT DISTINCT patient_id FROM spine WHERE moment = '{schedule.EVENING}' ORDER BY 1")
        assert evening.fetchall() == [("b",), ("c",)]
