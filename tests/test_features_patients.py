"""Patients' features: blind to the future, the same however they are computed, computed once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.as_of import attach_states
from features.duck import connect
from features.errors import NotBuiltError
from features.families import FAMILIES
from features.patients import attach_patients, family_rows, tables_read
from features.snapshots import build_snapshots, built, folder_of, snapshot_moments
from features.spec import Family

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
DAY = timedelta(days=1)
EACH_FAMILY = pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
# The simulated practice sends no advertising, its patients answer but never write first, nobody is tagged as a
# VIP, and no clinician leaves within these two years.
NOT_SIMULATED = {"messages_marketing_count_365d", "messages_inbound_count_365d", "has_vip_tag"}
NOT_SIMULATED |= {"days_since_message_inbound", "has_lost_clinician", "days_since_clinician_left"}
TABLES = tables_read(FAMILIES.values())

MAPPING = """
time_zone = "Asia/Shanghai"
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = { value = "c" }
booked_at = "booked"
starts_at = "starts"
status = "status"
status_known_at = "since"
"""
EXPORT = """id,patient,booked,starts,status,since
1,p1,2026-01-01 10:00:00,2026-01-05 10:00:00,completed,2026-01-05 12:00:00
2,p1,2026-01-06 10:00:00,2026-01-12 10:00:00,booked,
3,p2,2026-01-07 10:00:00,2026-01-20 10:00:00,no_show,2026-01-20 12:00:00
"""


def compute(con: duckdb.DuckDBPyConnection, practice: Any, moments: list[datetime], condition: str = "true") -> Any:
    """Every family's rows, by name."""
    attach_patients(con, practice.settings, FAMILIES.values(), moments, condition)
    return {
        name: family_rows(con, family).df().sort_values(["patient_id", "as_of"]).reset_index(drop=True)
        for name, family in FAMILIES.items()
    }


@pytest.fixture
def con(small_practice: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as opened:
        small_practice.store.attach(opened, TABLES)
        yield opened


def dataset(practice: Any, name: str) -> pd.DataFrame:
    folder = folder_of(practice.settings, name).as_posix()
    found = duckdb.read_parquet(f"{folder}/*/*.parquet").df()
    return found.drop(columns="snapshot", errors="ignore").sort_values(["patient_id", "as_of"]).reset_index(drop=True)


# Blind to the future


@settings(max_examples=4)
@given(days_back=st.floats(0, 700), shift=st.sampled_from([0, 1, 86_400_000_000]))
def test_what_is_recorded_later_is_never_seen(small_practice: Any, days_back: float, shift: int) -> None:
    """Taken away, or made of other things that are recorded from `as_of` on, the future changes no feature."""
    as_of = NOW - timedelta(days=days_back)
    found = []
    for future in ("truth", "none", "poison"):
        with connect() as con:
            small_practice.store.attach(con, TABLES)
            for table in TABLES:
                _replace_future(con, table, as_of, future, shift)
            found.append(compute(con, small_practice, [as_of]))
    for name in FAMILIES:
        assert len(found[0][name]) > 0
        for other in found[1:]:
            pd.testing.assert_frame_equal(found[0][name], other[name], check_exact=True)


def _replace_future(con: duckdb.DuckDBPyConnection, table: str, as_of: datetime, how: str, shift: int) -> None:
    """Swap a table for its past, with nothing after it or with the past told anew as if recorded later."""
    told = {"as_of": as_of}
    if how == "truth":
        return
    con.execute(f"CREATE TEMP TABLE cut AS SELECT * FROM {table} WHERE known_at < $as_of", told)
    if how == "poison":
        columns = [row[0] for row in con.execute(f"DESCRIBE {table}").fetchall()]
        poison = {"known_at": f"$as_of::TIMESTAMPTZ + INTERVAL {shift} MICROSECOND"}
        poison |= {"status": "'completed'", "starts_at": "starts_at - INTERVAL 30 DAY", "interval_days": "7"}
        poison |= {"household_id": "'same'", "referred_by_id": "patient_id", "left_on": "DATE '2020-01-01'"}
        poison |= {"chair_hours": "1", "closed_on": "closed_on + 1", "tags": "'vip'", "service_line": "'other'"}
        poison |= {"fee_cents": "999", "amount_cents": "999", "outcome": "'confirmed'", "membership": "'gold'"}
        replaced = ", ".join(f"{sql} AS {name}" for name, sql in poison.items() if name in columns)
        con.execute(f"INSERT INTO cut BY NAME SELECT * REPLACE ({replaced}) FROM cut", told)
    con.execute(f"DROP VIEW {table}")
    con.execute(f"ALTER TABLE cut RENAME TO {table}")


# The same however it is computed


def test_one_patient_at_the_desk_is_the_row_of_the_snapshot(
    small_practice: Any, con: duckdb.DuckDBPyConnection
) -> None:
    moments = [NOW - 200 * DAY, NOW - DAY / 3]
    everybody = compute(con, small_practice, moments)
    for patient in everybody["attendance"]["patient_id"].drop_duplicates().iloc[::40]:
        alone = compute(con, small_practice, moments[1:], f"patient_id = '{patient}'")
        for name, rows in everybody.items():
            same = rows[(rows["patient_id"] == patient) & (rows["as_of"] == moments[1])].reset_index(drop=True)
            pd.testing.assert_frame_equal(alone[name], same, check_exact=True)


def test_buckets_hold_everybody_once(small_practice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = snapshot_moments(date(2026, 8, 1), date(2026, 11, 1), "month", small_practice.settings)
    build_snapshots(small_practice.settings, moments)
    whole = {name: dataset(small_practice, name) for name in FAMILIES}
    (small_practice.settings.paths.features / "snapshots.json").unlink()
    monkeypatch.setattr("features.snapshots.PATIENTS_PER_BUCKET", 40)
    build_snapshots(small_practice.settings, moments)
    for name in FAMILIES:
        assert len(list(folder_of(small_practice.settings, name).rglob("*.parquet"))) > len(moments)
        pd.testing.assert_frame_equal(whole[name], dataset(small_practice, name), check_exact=True)


@EACH_FAMILY
def test_every_feature_varies(small_practice: Any, con: duckdb.DuckDBPyConnection, family: Family) -> None:
    """A column that is the same for everybody would prove nothing in all tests above."""
    rows = compute(con, small_practice, [NOW - days * DAY for days in range(0, 720, 60)])[family.name]
    constant = {f.name for f in family.features if rows[f.name].nunique(dropna=False) < 2}
    assert constant <= NOT_SIMULATED


# Computed once


def test_snapshots_are_the_first_days(small_practice: Any) -> None:
    weeks = snapshot_moments(date(2026, 11, 1), date(2026, 11, 17), "week", small_practice.settings)
    assert [moment.isoformat() for moment in weeks] == [f"2026-11-{day:02}T16:00:00+00:00" for day in (1, 8, 15)]
    months = snapshot_moments(date(2026, 10, 2), date(2026, 12, 1), "month", small_practice.settings)
    assert [moment.isoformat() for moment in months] == ["2026-10-31T16:00:00+00:00", "2026-11-30T16:00:00+00:00"]


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 1, day, hour, tzinfo=UTC)


def test_build_needs_records(practice_here: Any) -> None:
    with pytest.raises(NotBuiltError, match="revisit import"):
        build_snapshots(practice_here.settings, [at(8)])


def test_new_records_make_only_later_snapshots_anew(practice_here: Any) -> None:
    practice_here.load(MAPPING, EXPORT, at=at(8))
    moments = [at(6), at(13), at(22)]
    assert build_snapshots(practice_here.settings, moments).computed == 3
    again = build_snapshots(practice_here.settings, [*moments, at(29)])
    assert (again.computed, again.kept, again.stale) == (1, 3, 0)
    cancelled = EXPORT.replace("2026-01-12 10:00:00,booked,", "2026-01-12 10:00:00,cancelled_late,2026-01-12 09:00:00")
    practice_here.load(MAPPING, cancelled, at=at(14))
    changed = build_snapshots(practice_here.settings, moments)
    assert (changed.computed, changed.kept, changed.stale) == (2, 1, 3)
    grown = {name: dataset(practice_here, name) for name in FAMILIES}
    (practice_here.settings.paths.features / "snapshots.json").unlink()
    build_snapshots(practice_here.settings, moments)
    for name in FAMILIES:
        pd.testing.assert_frame_equal(grown[name], dataset(practice_here, name), check_exact=True)


def test_patients_that_a_table_brings_later_are_seen_from_when_it_says(practice_here: Any) -> None:
    practice_here.load(MAPPING, EXPORT, at=at(8))
    build_snapshots(practice_here.settings, [at(3)])
    assert set(dataset(practice_here, "attendance")["patient_id"]) == {"p1"}
    patients = 'time_zone = "UTC"\n[tables.patients.columns]\npatient_id = "id"\nknown_from_at = "from"\n'
    practice_here.load(patients, "id,from\np1,2026-01-04 00:00:00\n", at=at(9))
    assert build_snapshots(practice_here.settings, [at(3), at(5)]).stale == 1
    assert set(dataset(practice_here, "attendance")["as_of"]) == {pd.Timestamp(at(5))}


def test_changed_family_is_computed_anew(practice_here: Any) -> None:
    from dataclasses import replace

    practice_here.load(MAPPING, EXPORT, at=at(8))
    build_snapshots(practice_here.settings, [at(6), at(13)])
    shorter = {**FAMILIES, "due": replace(FAMILIES["due"], features=FAMILIES["due"].features[:2])}
    made = build_snapshots(practice_here.settings, [at(13)], shorter)
    assert (made.computed, made.kept) == (1, 0)
    assert list(dataset(practice_here, "due").columns[2:]) == [f.name for f in FAMILIES["due"].features[:2]]
    assert built(practice_here.settings).snapshots["attendance"] == [at(6).isoformat(), at(13).isoformat()]


def test_another_country_makes_anew_what_reads_the_calendar(practice_here: Any) -> None:
    practice_here.load(MAPPING, EXPORT, at=at(8))
    build_snapshots(practice_here.settings, [at(6)])
    before = dataset(practice_here, "clinic")["clinic_workdays_count_30d"].tolist()
    chapter = practice_here.settings.practice.model_copy(update={"country": "US"})
    moved = practice_here.settings.model_copy(update={"practice": chapter})
    assert build_snapshots(moved, [at(6)], {"due": FAMILIES["due"]}).stale == 0
    assert build_snapshots(moved, [at(6)]).stale == 1
    assert (before, dataset(practice_here, "clinic")["clinic_workdays_count_30d"].tolist()) == ([22.0], [21.0])


def test_build_that_was_cut_off_goes_on(practice_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    practice_here.load(MAPPING, EXPORT, at=at(8))
    monkeypatch.setattr("features.snapshots.SNAPSHOTS_PER_RUN", 1)

    class PowerCutError(Exception):
        pass

    def cut(finished: int, of: int) -> None:
        if finished == 2:
            raise PowerCutError

    moments = [at(6), at(13), at(22)]
    with pytest.raises(PowerCutError):
        build_snapshots(practice_here.settings, moments, progress=cut)
    made = build_snapshots(practice_here.settings, moments)
    assert (made.computed, made.kept) == (2, 1)
    assert len(dataset(practice_here, "attendance")) == 5


def test_states_of_a_thing_are_taken_whole(practice_here: Any) -> None:
    """A booking that was moved to another patient is the first patient's no more."""
    practice_here.load(MAPPING, EXPORT, at=at(8))
    practice_here.load(MAPPING, EXPORT.replace("2,p1", "2,p2"), at=at(9))
    with connect() as con:
        practice_here.store.attach(con, TABLES)
        rows = compute(con, practice_here, [at(8), at(10)], "patient_id = 'p1'")["attendance"]
        assert rows["bookings_ahead_count_ever"].tolist() == [1.0, 0.0]
        attach_states(con, "appointments")
