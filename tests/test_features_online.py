"""Online: what is served is what was built, newest wins, old is missing; an event at the desk is there at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features import online_mirror, schedule
from features.contracts import CONTRACTS, PATIENT_CONTRACTS
from features.duck import connect
from features.errors import EventError, SettingsError, StoreError
from features.families import FAMILIES
from features.online_events import record_event
from features.online_refresh import AT_THE_DESK, MOMENT
from features.online_rows import open_rows
from features.patients import attach_patients, family_rows, tables_read
from features.settings import Online, load_settings
from features.store import build_patients, read_online, register

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
DAY = timedelta(days=1)
BOOKING = CONTRACTS["no_show_booking"]
CONTRACT = PATIENT_CONTRACTS["lapse"]
# A clinic's figures of a later day come with that day's night.
OF_THE_DESK = [feature.name for family in AT_THE_DESK.values() for feature in family.features]
POSTGRES = "postgresql://root@127.0.0.1:5432/test"
REDIS = "redis://127.0.0.1:6379/0"
PREFIX = f"t{os.getpid()}"


def choices() -> list[Online]:
    return [
        Online(prefix=PREFIX),
        Online(store="redis", url=REDIS, prefix=PREFIX),
        Online(store="postgres", url=POSTGRES, prefix=PREFIX),
    ]


@pytest.fixture(params=choices(), ids=lambda online: online.store)
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    opened = open_rows(request.param, tmp_path / "online.db")
    yield opened
    for view in ("plan", "plan_items"):
        opened.keep_only(view, None)
    opened.close()


# Rows, the same in every database


def test_newest_moment_wins(rows: Any) -> None:
    rows.write("plan_a", [("p1", 5, b"five"), ("诊'2", 5, b"five")])
    rows.write("plan_a", [("p1", 4, b"four"), ("诊'2", 6, b"six")])
    assert rows.read("plan_a", ["p1", "诊'2", "p3"]) == {"p1": (5, b"five"), "诊'2": (6, b"six")}
    rows.write("plan_a", [("p1", 5, b"corrected")])
    assert rows.read("plan_a", ["p1"]) == {"p1": (5, b"corrected")}
    assert rows.read("plan_a", []) == {}


def test_many_rows_at_once(rows: Any) -> None:
    rows.write("plan_a", ((f"p{n}", n, str(n).encode()) for n in range(4_500)))
    assert rows.read("plan_a", [f"p{n}" for n in range(0, 4_500, 3)]) == {
        f"p{n}": (n, str(n).encode()) for n in range(0, 4_500, 3)
    }
    rows.remove("plan_a", [f"p{n}" for n in range(4_500)], 2_000)
    assert min(int(key[1:]) for key in rows.read("plan_a", [f"p{n}" for n in range(4_500)])) == 2_001


def test_rows_of_other_features_are_dropped(rows: Any) -> None:
    for slot in ("plan_a", "plan_b", "plan_items_a"):
        rows.write(slot, [("p", 1, b"x")])
        rows.set_note(slot, "note")
    rows.keep_only("plan", "plan_b")
    assert [rows.read(slot, ["p"]) for slot in ("plan_a", "plan_b", "plan_items_a")] == [
        {},
        {"p": (1, b"x")},
        {"p": (1, b"x")},
    ]
    assert [rows.note(slot) for slot in ("plan_a", "plan_b", "plan_items_a")] == ["", "note", "note"]


def test_a_server_needs_a_url(tmp_path: Path) -> None:
    path = tmp_path / "practice.toml"
    path.write_text('[online]\nstore = "redis"\n')
    with pytest.raises(SettingsError, match="REVISIT_ONLINE_URL"):
        load_settings(path, {})
    assert load_settings(path, {"REVISIT_ONLINE_URL": REDIS}).online.url == REDIS


# Served is what was built


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory, practice_at: Any) -> Any:
    """1,100 simulated patients; bookings and one snapshot are built."""
    from features.records.landing import import_files
    from features.records.mapping import load_mapping
    from features.simulator import PracticePlan, simulate, write_export
    from features.store import build

    made = practice_at(tmp_path_factory.mktemp("online") / "诊所 '1'")
    export = made.root / "export"
    write_export(simulate(PracticePlan(now=NOW, patients=1_100, years=1, seed=5)), export)
    import_files(made.store, export, load_mapping(export / "mapping.toml"), NOW - DAY / 4)
    build(made.settings, NOW)
    build_patients(made.settings, NOW, first=NOW.date() - 2 * DAY)
    return made


@pytest.fixture(scope="module")
def feast(practice: Any) -> Any:
    from features.online_sync import write_patients_online

    store = register(practice.settings)
    done = write_patients_online(practice.settings, store, NOW)
    assert done.written > 1_000 * len(FAMILIES)
    assert (done.unchanged, done.removed) == (0, 0)
    return store


def snapshot(practice: Any) -> pd.DataFrame:
    """Everybody's features as of the newest snapshot, straight from the datasets."""
    found = None
    for name in FAMILIES:
        part = pd.read_parquet(practice.settings.paths.features / name).drop(columns="snapshot")
        part = part[part["as_of"] == part["as_of"].max()]
        found = part if found is None else found.merge(part, on=["patient_id", "as_of"])
    assert found is not None
    return found.set_index("patient_id")


def test_training_and_serving_see_the_same(practice: Any, feast: Any) -> None:
    """No skew: every feature of a thousand patients, from the training join, online, and through Feast itself."""
    from features.examples import with_features
    from features.online_sync import read_patients_online

    there = snapshot(practice)
    ids = there.index[:1_000].tolist()
    assert len(ids) == 1_000
    trained = with_features(feast, CONTRACT, there.loc[ids].reset_index()[["patient_id", "as_of"]])
    served = read_patients_online(feast, CONTRACT, ids, NOW)
    assert tuple(served.columns) == CONTRACT.feature_names
    assert list(served.index) == ids
    names = list(CONTRACT.feature_names)
    np.testing.assert_array_equal(served.to_numpy(), trained[names].to_numpy(dtype=float))
    np.testing.assert_array_equal(served.to_numpy(), there.loc[ids, names].to_numpy(dtype=float))
    asked = [{"patient_id": patient} for patient in ids[:40]]
    answer = feast.get_online_features(feast.get_feature_service(CONTRACT.name), asked).to_dict()
    through = pd.DataFrame(answer).set_index("patient_id")[names]
    np.testing.assert_array_equal(through.to_numpy(dtype=float), served.to_numpy()[:40])


def test_too_old_and_unknown_are_missing(practice: Any, feast: Any) -> None:
    from features.online_sync import read_patients_online

    known = snapshot(practice).index[0]
    found = read_patients_online(feast, CONTRACT, ["nobody", known], NOW)
    assert found.loc["nobody"].isna().all()
    assert found.loc[known].notna().any()
    assert read_patients_online(feast, CONTRACT, [known], NOW + 45 * DAY).isna().all(axis=None)


def test_only_what_changed_is_written(practice: Any, feast: Any) -> None:
    """Again: nothing. One value changed: one row. A store that was emptied: all."""
    from features.online_sync import read_patients_online, rows_of, write_changed, write_patients_online

    total = write_patients_online(practice.settings, feast, NOW)
    assert (total.written, total.removed) == (0, 0)
    rows, settings = rows_of(feast), practice.settings
    table = "SELECT 'p' || n AS id, TIMESTAMPTZ '2026-11-17' AS as_of, {} AS one_count_ever FROM range({}) AS r(n)"
    with connect() as con:
        first = write_changed(con, rows, "tried", ["one_count_ever"], table.format("n::DOUBLE", 100), settings)
        value = "CASE WHEN n = 7 THEN NULL ELSE n END::DOUBLE"
        second = write_changed(con, rows, "tried", ["one_count_ever"], table.format(value, 99), settings)
        rows.keep_only("tried", None)
        third = write_changed(con, rows, "tried", ["one_count_ever"], table.format(value, 99), settings)
    assert [(done.written, done.unchanged, done.removed) for done in (first, second, third)] == [
        (100, 0, 0),
        (1, 98, 1),
        (99, 0, 0),
    ]
    assert read_patients_online(feast, CONTRACT, snapshot(practice).index[:1].tolist(), NOW).notna().any(axis=None)


def test_feasts_own_materialising_writes_the_same_rows(practice: Any, feast: Any) -> None:
    from features.online_sync import read_patients_online, rows_of

    ids = snapshot(practice).index[:50].tolist()
    before = read_patients_online(feast, CONTRACT, ids, NOW)
    rows_of(feast).keep_only("money", None)
    feast.materialize(NOW - 2 * DAY, NOW, feature_views=["money"])
    pd.testing.assert_frame_equal(read_patients_online(feast, CONTRACT, ids, NOW), before)


def test_benchmark_prints_its_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.feature_serving import main

    monkeypatch.setattr("sys.argv", ["feature_serving", "--quick"])
    main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    online = {f"online_{count}_p99_ms" for count in (1, 50, 500)} | {"online_ratio", "changed_only_share"}
    wanted = {"historical_cpu_s", "historical_ratio", "materialize_cpu_s", "materialize_ratio", "event_to_online_p99_s"}
    assert online | wanted <= set(told["metrics"])
    assert all(value > 0 for value in told["metrics"].values())


# Fresh at the desk


def latest(practice: Any, table: str, where: str = "true") -> dict[str, Any]:
    """Some thing's newest state."""
    with connect() as con:
        practice.store.attach(con, [table])
        key = key_of(table)
        found = con.sql(
            f"""SELECT * FROM (SELECT * FROM {table}
                QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY known_at DESC) = 1)
            WHERE {where} ORDER BY {key} LIMIT 1"""
        )
        return dict(zip(found.columns, found.fetchall()[0], strict=True))


def key_of(table: str) -> str:
    from features.records.tables import TABLES

    return TABLES[table].key


def computed(practice: Any, as_of: datetime) -> pd.DataFrame:
    """Everybody's features, from all records."""
    with connect() as con:
        practice.store.attach(con, tables_read(FAMILIES.values()))
        attach_patients(con, practice.settings, FAMILIES.values(), [as_of])
        parts = [family_rows(con, family).df().set_index("patient_id") for family in FAMILIES.values()]
    return pd.concat([part.drop(columns="as_of") for part in parts], axis=1)[list(CONTRACT.feature_names)]


def decided(practice: Any, appointment: str, as_of: datetime) -> pd.Series:
    """A booking's features at its newest decision moment, from all records."""
    with connect() as con:
        practice.store.attach(con, schedule.RECORDS)
        schedule.build_spine(con, practice.settings)
        con.execute("DELETE FROM spine WHERE appointment_id <> ? OR as_of > ?", [appointment, as_of])
        found: pd.DataFrame = schedule.build_schedule(con, practice.settings).sql("FROM schedule ORDER BY as_of").df()
    return found.iloc[-1]


Event = Callable[[Any], tuple[str, dict[str, Any]]]


def outcome(practice: Any) -> tuple[str, dict[str, Any]]:
    booking = latest(practice, "appointments", "status = 'booked'")
    return "appointments", {"appointment_id": booking["appointment_id"], "status": "cancelled_late"}


def reply(practice: Any) -> tuple[str, dict[str, Any]]:
    sent = latest(practice, "communications", "replied_at IS NULL AND direction = 'out'")
    return "communications", {"communication_id": sent["communication_id"], "outcome": "declined"}


def booking_of(patient: str, clinic: str, number: str, starts_at: str = "2026-11-30 10:00") -> dict[str, Any]:
    return {
        "appointment_id": number, "patient_id": patient, "clinic_id": clinic, "status": "booked", "starts_at": starts_at
    }  # fmt: skip


def new_booking(practice: Any) -> tuple[str, dict[str, Any]]:
    known = latest(practice, "appointments", "status = 'completed'")
    return "appointments", booking_of(known["patient_id"], known["clinic_id"], "new'1")


@pytest.mark.parametrize("event", [outcome, reply, new_booking], ids=lambda event: event.__name__)
def test_event_is_online_at_once(practice: Any, feast: Any, event: Event) -> None:
    """What is served afterwards is what all records together give, for the patient and the household."""
    from features.online_sync import read_patients_online

    practice.clock = getattr(practice, "clock", NOW) + timedelta(minutes=7)
    now = practice.clock
    table, row = event(practice)
    key = key_of(table)
    before = practice.rows(
        f"SELECT count(*) FROM {table} WHERE {key} = '{str(row[key]).replace(chr(39), chr(39) * 2)}'"
    )
    done = record_event(practice.settings, table, row, now)
    assert done.is_change
    assert done.patients > 0
    now_there = latest(practice, table, f"{key} = '{str(row[key]).replace(chr(39), chr(39) * 2)}'")
    assert now_there["recorded_at"] == now
    assert practice.rows(f"SELECT count(*) FROM {table}")[0][0] > before[0][0]
    patient = now_there["patient_id"]
    everybody = computed(practice, now + MOMENT)
    served = read_patients_online(feast, CONTRACT, [patient], now)
    np.testing.assert_array_equal(served.to_numpy(), everybody.loc[[patient]].to_numpy(dtype=float))
    earlier = snapshot(practice).loc[[patient], list(CONTRACT.feature_names)]
    assert not np.array_equal(served.to_numpy(), earlier.to_numpy(dtype=float), equal_nan=True)
    assert not record_event(practice.settings, table, row, now + timedelta(minutes=1)).is_change
    if event is new_booking:
        assert done.bookings == 1
        fresh = read_online(feast, BOOKING, [row["appointment_id"]])
        names = list(fresh.columns)
        expected = decided(practice, row["appointment_id"], now + DAY)[names]
        np.testing.assert_array_equal(fresh.to_numpy()[0], expected.to_numpy(dtype=float))


def test_bookings_made_in_one_breath_know_of_each_other(practice: Any, feast: Any) -> None:
    clinic = latest(practice, "appointments")["clinic_id"]
    patients = sorted(snapshot(practice).index)[10:12]
    now = NOW + DAY / 2
    for n, patient in enumerate(patients):
        record_event(
            practice.settings, "appointments", booking_of(patient, clinic, f"b{n}"), now + timedelta(seconds=20 * n)
        )
    served = read_online(feast, BOOKING, ["b0", "b1"])
    assert served["companions_minute_count_1d"].tolist() == [1.0, 1.0]
    for key in served.index:
        expected = decided(practice, key, now + DAY)[list(served.columns)].to_numpy(dtype=float)
        np.testing.assert_array_equal(served.loc[key].to_numpy(), expected)


def test_new_patient_is_known_from_the_booking(practice: Any, feast: Any) -> None:
    clinic = latest(practice, "appointments")["clinic_id"]
    now = NOW + DAY
    done = record_event(practice.settings, "appointments", booking_of("somebody new", clinic, "first"), now)
    assert (done.is_new, done.patients, done.bookings) == (True, 1, 1)
    assert read_online(feast, BOOKING, ["first"]).notna().any(axis=None)


def test_booking_that_moved_to_another_patient(practice: Any, feast: Any) -> None:
    from features.online_sync import read_patients_online

    booking = latest(practice, "appointments", "status = 'completed'")
    other = sorted(snapshot(practice).index)[-1]
    now = NOW + 1.5 * DAY
    record_event(
        practice.settings, "appointments", {"appointment_id": booking["appointment_id"], "patient_id": other}, now
    )
    served = read_patients_online(feast, CONTRACT, [booking["patient_id"], other], now)
    expected = computed(practice, now + MOMENT).loc[[booking["patient_id"], other]]
    np.testing.assert_array_equal(served[OF_THE_DESK].to_numpy(), expected[OF_THE_DESK].to_numpy(dtype=float))


def test_many_events_make_the_copy_anew(practice: Any, feast: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from features.online_sync import read_patients_online

    monkeypatch.setattr(online_mirror, "MOST_FILES", 1)
    root = practice.settings.paths.features / "mirror" / "appointments"
    before = {path.name for path in root.iterdir()}
    now = NOW + 2 * DAY
    item = latest(practice, "appointments", "status = 'booked'")
    record_event(
        practice.settings, "appointments", {"appointment_id": item["appointment_id"], "status": "no_show"}, now
    )
    assert {path.name for path in root.iterdir()} - before
    served = read_patients_online(feast, CONTRACT, [item["patient_id"]], now)
    expected = computed(practice, now + MOMENT).loc[[item["patient_id"]]]
    np.testing.assert_array_equal(served[OF_THE_DESK].to_numpy(), expected[OF_THE_DESK].to_numpy(dtype=float))


@pytest.mark.parametrize(
    ("table", "row", "said"),
    [
        ("appointments", {"appointment_id": "x1"}, "patient_id: a required value is missing"),
        ("appointments", {"status": "booked"}, "needs appointment_id"),
        ("appointments", {"appointment_id": "x1", "colour": "red"}, "no colour"),
        ("appointments", booking_of("p", "c", "x1", "Zqsecret"), "starts_at: the value cannot be read"),
        ("appointments", booking_of("p", "c", "x1") | {"booked_at": "2031-01-01 10:00"}, "before its booking"),
        ("communications", {"communication_id": "x1", "patient_id": "p", "direction": "out", "channel": "sms",
                            "purpose": "recall", "sent_at": "2031-01-01 10:00"}, "lies ahead"),
        ("contact_details", {"patient_id": "p", "full_name": "Zqsecret"}, "cannot be recorded"),
    ],
)  # fmt: skip
def test_events_that_break_the_contract_store_nothing(
    practice: Any, table: str, row: dict[str, Any], said: str
) -> None:
    versions = practice.store.versions()
    with pytest.raises(EventError, match=said) as told:
        record_event(practice.settings, table, row, NOW + 3 * DAY)
    assert "Zqsecret" not in str(told.value)
    assert practice.store.versions() == versions


def test_a_days_events_are_one_state(practice_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = 'time_zone = "UTC"\n[tables.appointments.columns]\nappointment_id = "id"\npatient_id = "p"\n'
    mapping += 'clinic_id = "c"\nbooked_at = "b"\nstarts_at = "s"\nstatus = { value = "booked" }\n'
    practice_here.load(mapping, "id,p,c,b,s\n1,p1,c1,2026-11-01 10:00:00,2026-12-01 10:00:00\n", at=NOW)
    for n, status in enumerate(("arrived", "completed", "no_show")):
        at = NOW + n * DAY / 2
        record_event(practice_here.settings, "appointments", {"appointment_id": "1", "status": status}, at)
    assert [(entry.number, entry.made.kind) for entry in practice_here.store.entries()] == [
        (1, "import"),
        (3, "event"),
        (4, "event"),
    ]
    found = practice_here.rows("SELECT status FROM appointments ORDER BY known_at")
    assert [status for (status,) in found] == ["booked", "arrived", "completed", "no_show"]
    monkeypatch.setattr("features.online_events.PATIENCE_S", 0.05)
    with practice_here.store.importing(), pytest.raises(StoreError, match="another import"):
        record_event(practice_here.settings, "appointments", {"appointment_id": "1", "status": "booked"}, NOW + DAY)


def test_command_records(practice: Any, feast: Any, revisit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVISIT_DATA", str(practice.settings.paths.data))
    monkeypatch.setattr("serving.commands.record.now", lambda: NOW + 4 * DAY)
    booking = latest(practice, "appointments", "status = 'booked'")["appointment_id"]
    assert "changed; online:" in revisit("record", "appointment", booking, "status=no_show").output
    assert "was so already" in revisit("record", "appointment", booking, "status=no_show").output
    assert revisit("record", "appointment", booking, "status").exit_code == 2
