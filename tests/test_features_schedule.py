"""Every feature beside a naive recomputation, and blind to all that was recorded later."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from features import schedule
from features.as_of import attach_states
from features.duck import connect
from features.settings import Practice, Settings

ZONE = "Europe/Berlin"  # clocks go forward on 2026-03-29
LOCAL = ZoneInfo(ZONE)
START = datetime(2026, 3, 24, 7, tzinfo=UTC)
SETTINGS = Settings(practice=Practice(time_zone=ZONE))
ATTENDED, MISSED = ("arrived", "completed"), ("no_show", "cancelled_late")
ENDED = ATTENDED + MISSED
KEYS = {"patients": "patient_id", "appointments": "appointment_id", "communications": "communication_id"}
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)

State = dict[str, Any]
World = dict[str, list[State]]


# A tiny practice


def tiny_world(random: Random) -> World:
    """A practice in which much happens at once: states of one thing never share a moment."""
    world: World = {name: [] for name in KEYS}
    for number in range(1, 5):
        for count in range(random.choice([0, 1, 1, 2])):
            world["patients"].append(
                {
                    "patient_id": f"p{number}",
                    "known_at": START + random.choice([-400 * DAY, -DAY, -DAY, DAY]) + count * 3 * DAY,
                    "birth_year": random.choice([None, 1970, 1970, 1973, 1974]),
                    "sex": random.choice([None, "female", "male"]),
                    "tags": random.choice([None, "other", ";".join(random.sample(schedule.KNOWN_TAGS, 3))]),
                }
            )
    for number in range(1, random.randint(3, 9)):
        long_ago = random.choice([0, 0, 0, 0, 85, 91, 360, 366]) * DAY  # about the ends of the windows
        made = list(booking(random, f"a{number}", START - long_ago))
        world["appointments"] += made
        if random.random() < 0.4:  # another patient in the same breath
            whose = {"appointment_id": f"f{number}", "patient_id": random.choice(["p3", "p4"])}
            later = random.choice([0, 10, 11, 60]) * SECOND
            world["appointments"] += [
                {**state, **whose, "booked_at": state["booked_at"] + later, "known_at": state["known_at"] + later}
                for state in made[: random.randint(1, len(made))]
            ]
        world["communications"] += message(random, f"m{number}", f"a{random.randint(1, number)}", START)
    return world


def booking(random: Random, key: str, start: datetime) -> Iterator[State]:
    """The states of one booking, in order."""
    booked = (
        start
        + random.choice([0, 0, 0, 1, 2, 6]) * DAY
        + random.choice([0, 0, 10, 60, 61, 840, 900, 901, 50_000]) * SECOND
    )
    state = {
        "appointment_id": key,
        "patient_id": random.choice(["p1", "p1", "p2", "p3"]),
        "clinic_id": random.choice(["c1", "c1", "c2"]),
        "service_line": random.choice([None, "hygiene", "filling"]),
        "booked_at": booked,
        "starts_at": booked + random.choice([0, 0, 1, 1, 1, 2, 7]) * DAY + random.choice([0, 0, 3]) * 60 * MINUTE,
        "is_start_time_known": random.choice([None, True, True, False]),
        "status": "booked",
        "known_at": booked,
    }
    yield state
    for status in random.choice([[], ["completed"], ["no_show"], ["arrived", "completed"], ["cancelled_early"],
                                 ["cancelled_late"], ["moved", "no_show"], ["no_show", "completed"]]):  # fmt: skip
        state = {**state, "known_at": state["known_at"] + random.choice([MINUTE, DAY / 2, 2 * DAY])}
        if status == "moved":
            state["starts_at"] += DAY
        else:
            state["status"] = status
        yield state


def message(random: Random, key: str, about: str, start: datetime) -> Iterator[State]:
    sent = start + random.randint(0, 9) * DAY
    state = {
        "communication_id": key,
        "patient_id": "p1",
        "appointment_id": random.choice([None, about, about]),
        "direction": random.choice(["out", "out", "in"]),
        "channel": "sms",
        "purpose": random.choice(["reminder", "reminder", "recall"]),
        "sent_at": sent,
        "known_at": sent,
    }
    yield state
    if random.random() < 0.5:
        yield {
            **state,
            "outcome": random.choice(["confirmed", "declined"]),
            "known_at": sent + random.choice([1, 2]) * DAY,
        }


# The oracle: plain loops, one function per feature


def local_day(moment: datetime) -> date:
    return moment.astimezone(LOCAL).date()


def days(delta: timedelta) -> float:
    return delta / DAY


@dataclass(frozen=True)
class Look:
    """A booking as seen at a moment."""

    world: World
    key: str
    as_of: datetime

    def known(self, table: str) -> list[State]:
        """The newest state of everything, of those recorded before the moment."""
        newest: dict[str, State] = {}
        for state in sorted(self.world[table], key=lambda state: state["known_at"]):
            if state["known_at"] < self.as_of:
                newest[state[KEYS[table]]] = state
        return list(newest.values())

    @cached_property
    def it(self) -> State:
        return next(state for state in self.known("appointments") if state["appointment_id"] == self.key)

    @cached_property
    def patient(self) -> State:
        found = [state for state in self.known("patients") if state["patient_id"] == self.it["patient_id"]]
        return found[0] if found else {}

    @cached_property
    def others(self) -> list[State]:
        """The patient's other bookings."""
        return [
            state
            for state in self.known("appointments")
            if state["patient_id"] == self.it["patient_id"] and state["appointment_id"] != self.key
        ]

    @cached_property
    def strangers(self) -> list[State]:
        """Bookings of other patients."""
        return [state for state in self.known("appointments") if state["patient_id"] != self.it["patient_id"]]

    def ended(self, *statuses: str) -> list[State]:
        return [other for other in self.others if other["status"] in (statuses or ENDED)]

    @cached_property
    def visit_day(self) -> date:
        return local_day(self.it["starts_at"])

    def beside(self, seconds_before: int, seconds_after: int) -> list[State]:
        """Strangers booked for the same clinic and day, on the same day and near in time."""
        low, high = (self.it["booked_at"] + seconds * SECOND for seconds in (-seconds_before, seconds_after))
        return [
            other
            for other in self.strangers
            if other["clinic_id"] == self.it["clinic_id"]
            and local_day(other["starts_at"]) == self.visit_day
            and local_day(other["booked_at"]) == local_day(self.it["booked_at"])
            and low <= other["booked_at"] <= high
        ]

    def birth_year(self, patient: str) -> int | None:
        found = [state["birth_year"] for state in self.known("patients") if state["patient_id"] == patient]
        return found[0] if found else None

    @cached_property
    def outcomes(self) -> list[State]:
        """The first recorded outcome of every booking of the practice."""
        first: dict[str, State] = {}
        for state in sorted(self.world["appointments"], key=lambda state: state["known_at"]):
            if state["known_at"] < self.as_of and state["status"] in ENDED:
                first.setdefault(state["appointment_id"], state)
        return list(first.values())

    def share(self, is_wanted: Callable[[State], bool]) -> float:
        """One of ten, until visits tell more."""
        wanted = [state for state in self.outcomes if is_wanted(state)]
        return (missed(wanted) + 1) / (len(wanted) + 10)

    def group_excess(self, column: str, window: timedelta) -> float:
        group = [
            state
            for state in self.outcomes
            if (state[column] or "") == (self.it[column] or "") and state["known_at"] >= self.as_of - window
        ]
        imagined = schedule.IMAGINED_VISITS_GROUP * self.share(lambda state: True)
        return math.log((missed(group) + imagined) / (len(group) * self.share(lambda state: True) + imagined))

    def own_excess(self, visits: list[State]) -> float:
        expected = sum(self.share(lambda state, like=visit: is_ahead(state) == is_ahead(like)) for visit in visits)  # type: ignore[misc]
        return math.log((missed(visits) + schedule.IMAGINED_VISITS) / (expected + schedule.IMAGINED_VISITS))

    def last(self) -> State | None:
        return max(self.ended(), key=lambda state: (state["starts_at"], state["appointment_id"]), default=None)

    def days_since(self, *statuses: str) -> float | None:
        starts = [state["starts_at"] for state in self.ended(*statuses)]
        return days(self.as_of - max(starts)) if starts else None

    def reminders(self) -> list[State]:
        return [
            state
            for state in self.known("communications")
            if (state["appointment_id"], state["purpose"], state["direction"]) == (self.key, "reminder", "out")
        ]


def is_ahead(state: State) -> bool:
    return local_day(state["booked_at"]) < local_day(state["starts_at"])


def missed(states: list[State]) -> int:
    return sum(state["status"] in MISSED for state in states)


def peers(look: Look) -> int:
    own = look.patient.get("birth_year")
    years = [look.birth_year(other["patient_id"]) for other in look.beside(60, 60)]
    return sum(own is not None and year is not None and abs(year - own) <= 3 for year in years)


def standing(look: Look, is_wanted: Callable[[date], bool]) -> int:
    return sum(other["status"] == "booked" and is_wanted(local_day(other["starts_at"])) for other in look.others)


ORACLES: dict[str, Callable[[Look], float | bool | None]] = {
    "days_until_visit": lambda look: (look.visit_day - local_day(look.as_of)).days,
    "days_since_booking": lambda look: (local_day(look.as_of) - local_day(look.it["booked_at"])).days,
    "is_booked_same_day": lambda look: look.visit_day == local_day(look.it["booked_at"]),
    "visit_weekday": lambda look: look.visit_day.weekday(),
    "visit_hour": lambda look: (
        None if look.it["is_start_time_known"] is False else look.it["starts_at"].astimezone(LOCAL).hour
    ),
    "booking_hour": lambda look: (
        look.it["booked_at"].astimezone(LOCAL).hour + look.it["booked_at"].astimezone(LOCAL).minute / 60
    ),
    "is_booked_whole_weeks_ahead": lambda look: (
        is_ahead(look.it) and (look.visit_day - local_day(look.it["booked_at"])).days in (7, 14, 21, 28)
    ),
    "bookings_made_count_1d": lambda look: sum(
        local_day(other["booked_at"]) == local_day(look.it["booked_at"]) for other in look.others
    ),
    "bookings_joint_count_1d": lambda look: sum(
        abs(other["booked_at"] - look.it["booked_at"]) <= 60 * SECOND for other in look.others
    ),
    "visits_planned_count_1d": lambda look: standing(look, lambda day: day == look.visit_day),
    "visits_open_before_count_ever": lambda look: standing(look, lambda day: day < look.visit_day),
    "visits_open_after_count_ever": lambda look: standing(look, lambda day: day > look.visit_day),
    "companions_minute_count_1d": lambda look: len(look.beside(60, 60)),
    "companions_breath_count_1d": lambda look: len(look.beside(10, 10)),
    "companions_session_count_1d": lambda look: len(look.beside(15 * 60, 0)),
    "companions_peer_count_1d": peers,
    "bookings_simultaneous_count_1d": lambda look: sum(
        other["booked_at"] == look.it["booked_at"] for other in look.strangers
    ),
    "visits_ended_count_ever": lambda look: len(look.ended()),
    "visits_missed_count_ever": lambda look: len(look.ended(*MISSED)),
    "visits_missed_excess_mean_ever": lambda look: look.own_excess(look.ended()),
    "visits_ahead_missed_excess_mean_ever": lambda look: look.own_excess([v for v in look.ended() if is_ahead(v)]),
    "visits_same_day_missed_excess_mean_ever": lambda look: look.own_excess(
        [v for v in look.ended() if not is_ahead(v)]
    ),
    "has_missed_last_visit": lambda look: bool((last := look.last()) and last["status"] in MISSED),
    "has_kept_last_visit": lambda look: bool((last := look.last()) and last["status"] in ATTENDED),
    "visits_cancelled_count_ever": lambda look: len(look.ended("cancelled_early", "rescheduled")),
    "days_since_visit_kept": lambda look: look.days_since(*ATTENDED),
    "days_since_visit_missed": lambda look: look.days_since(*MISSED),
    "reminders_sent_count_ever": lambda look: len(look.reminders()),
    "reminders_confirmed_count_ever": lambda look: sum(r.get("outcome") == "confirmed" for r in look.reminders()),
    "clinic_missed_excess_mean_90d": lambda look: look.group_excess("clinic_id", 90 * DAY),
    "service_missed_excess_mean_365d": lambda look: look.group_excess("service_line", 365 * DAY),
    "years_since_birth": lambda look: (
        look.as_of.astimezone(LOCAL).year - look.patient["birth_year"] if look.patient.get("birth_year") else None
    ),
    "is_female": lambda look: look.patient["sex"] == "female" if look.patient.get("sex") else None,
}
ORACLES |= {
    f"has_tag_{tag}": lambda look, tag=tag: tag in (look.patient.get("tags") or "").split(";")  # type: ignore[misc]
    for tag in schedule.KNOWN_TAGS
}


# Comparing


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as opened:
        opened.execute("SET threads = 1")
        yield opened


Row = tuple[str, datetime]


def rows_of_interest(world: World, random: Random, most: int = 12) -> list[Row]:
    """Bookings at random moments at which they were known: some exactly when something else was recorded."""
    moments = sorted({state["known_at"] for states in world.values() for state in states})
    moments += [moment + shift for moment in moments for shift in (timedelta(microseconds=1), 60 * SECOND)]
    born: dict[str, datetime] = {}
    for state in world["appointments"]:
        born[state["appointment_id"]] = min(state["known_at"], born.get(state["appointment_id"], state["known_at"]))
    possible = [(key, moment) for key, first in born.items() for moment in moments if moment > first]
    return random.sample(possible, min(most, len(possible)))


def compute(con: duckdb.DuckDBPyConnection, fill: Callable[..., None], world: World, rows: list[Row]) -> dict[Row, Any]:
    """The features of `rows` by the code under test."""
    fill(con, world)
    con.execute(
        """CREATE OR REPLACE TEMP TABLE spine
        (appointment_id VARCHAR, patient_id VARCHAR, moment VARCHAR, as_of TIMESTAMPTZ)"""
    )
    whose = {state["appointment_id"]: state["patient_id"] for state in world["appointments"]}
    con.executemany("INSERT INTO spine VALUES (?, ?, 'x', ?)", [[key, whose[key], as_of] for key, as_of in rows])
    schedule.build_schedule(con, SETTINGS)
    names = ", ".join(feature.name for feature in schedule.FEATURES)
    found = con.execute(f"SELECT appointment_id, as_of, {names} FROM schedule").fetchall()
    assert len(found) == len(rows)
    return {(row[0], row[1].astimezone(UTC)): row[2:] for row in found}


def test_every_feature_has_an_oracle() -> None:
    assert {feature.name for feature in schedule.FEATURES} == set(ORACLES)


SEEN: dict[str, set[float | None]] = {}


@settings(max_examples=80, phases=[Phase.generate])
@given(st.integers(0, 2**32))
def test_features_match_naive_loops(
    con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None], seed: int
) -> None:
    random = Random(seed)
    world = tiny_world(random)
    rows = rows_of_interest(world, random)
    for (key, as_of), values in compute(con, fill_tables, world, rows).items():
        look = Look(world, key, as_of)
        for feature, value in zip(schedule.FEATURES, values, strict=True):
            expected = ORACLES[feature.name](look)
            SEEN.setdefault(feature.name, set()).add(value)
            if expected is None:
                assert value is None, (feature.name, key, as_of)
            else:
                assert value == pytest.approx(float(expected), abs=1e-12), (feature.name, key, as_of)


def test_naive_loops_have_seen_every_feature_vary() -> None:
    """Comparing constants would prove nothing."""
    assert SEEN, "run together with test_features_match_naive_loops"
    assert {name for name, values in SEEN.items() if len(values) < 2} == set()


# Blind to the future


def poisoned(world: World, as_of: datetime, random: Random) -> World:
    """All that was recorded at or after `as_of` taken away, and other things put in its place."""
    other: World = {name: [s for s in states if s["known_at"] < as_of] for name, states in world.items()}
    late = [as_of, as_of + timedelta(microseconds=1), as_of + DAY, as_of + 400 * DAY]
    for name, states in list(other.items()):
        for state in random.sample(states, min(3, len(states))):
            changes = {
                "known_at": random.choice(late), "status": random.choice(ENDED), "clinic_id": "c1", "birth_year": 1901,
                "starts_at": as_of - DAY, "booked_at": as_of - 2 * DAY, "outcome": "confirmed", "tags": "x;y;z",
                "sex": "female", "purpose": "reminder", "direction": "out",
            }  # fmt: skip
            taken = {s["known_at"] for s in other[name] if s[KEYS[name]] == state[KEYS[name]]}
            if changes["known_at"] not in taken:
                other[name].append({**state, **changes})
    for number in range(4):  # back-dated: happened long ago, recorded later
        for state in booking(random, f"late{number}", START):
            shift = max(as_of - state["booked_at"], timedelta(0)) + random.choice([0, 1]) * DAY
            other["appointments"].append({**state, "known_at": state["known_at"] + shift})
    return other


@settings(max_examples=20, phases=[Phase.generate])
@given(st.integers(0, 2**32))
def test_what_is_recorded_later_is_never_seen(
    con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None], seed: int
) -> None:
    random = Random(seed)
    world = tiny_world(random)
    as_of = random.choice(sorted({s["known_at"] for states in world.values() for s in states}))
    rows = sorted({(s["appointment_id"], as_of) for s in world["appointments"] if s["known_at"] < as_of})
    if not rows:
        return
    truth = compute(con, fill_tables, world, rows)
    spine = spine_until(con, as_of)
    for change in (dict, lambda w: poisoned(w, as_of, random)):
        later = change({name: [s for s in states if s["known_at"] < as_of] for name, states in world.items()})
        assert repr(compute(con, fill_tables, later, rows)) == repr(truth)
        assert spine_until(con, as_of) == spine


def spine_until(con: duckdb.DuckDBPyConnection, as_of: datetime) -> list[tuple[Any, ...]]:
    schedule.build_spine(con, SETTINGS)
    return con.execute("SELECT * FROM spine WHERE as_of <= ? ORDER BY ALL", [as_of]).fetchall()


@pytest.mark.parametrize("days_back", [0.1, 30, 300])
def test_simulated_practice_is_blind_to_its_future(small_practice: Any, days_back: float) -> None:
    as_of = datetime(2026, 11, 17, 1, 30, tzinfo=UTC) - timedelta(days=days_back)
    results = []
    for future in ("", "WHERE known_at < $as_of"):
        with connect() as con:
            small_practice.store.attach(con, schedule.RECORDS)
            for table in schedule.RECORDS:
                con.execute(
                    f"CREATE TEMP TABLE cut AS SELECT * FROM {table} {future}", {"as_of": as_of} if future else {}
                )
                con.execute(f"DROP VIEW {table}; ALTER TABLE cut RENAME TO {table}")
            attach_states(con, "appointments")
            con.execute(
                """CREATE TEMP TABLE spine AS SELECT DISTINCT appointment_id, patient_id, 'x' AS moment,
                $as_of::TIMESTAMPTZ AS as_of FROM appointments_states WHERE known_at < $as_of
                AND starts_at > $as_of - INTERVAL 20 DAY""",
                {"as_of": as_of},
            )
            schedule.build_schedule(con, small_practice.settings)
            results.append(con.execute("SELECT * FROM schedule ORDER BY appointment_id").fetchall())
    assert len(results[0]) > 20
    assert repr(results[0]) == repr(results[1])


def test_moments_that_fall_together_are_counted_once(
    con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None]
) -> None:
    """A booking made one minute before the evening's decision."""
    booked = datetime(2026, 3, 24, 20, 59, tzinfo=LOCAL).astimezone(UTC)
    state = {"patient_id": "p", "clinic_id": "c", "booked_at": booked, "known_at": booked, "status": "booked"}
    earlier = {**state, "booked_at": booked - DAY, "known_at": booked - DAY, "starts_at": booked + 5 * DAY}
    fill_tables(con, {"appointments": [
        {**state, "appointment_id": "it", "starts_at": booked + DAY / 2}, {**earlier, "appointment_id": "other"},
    ]})  # fmt: skip
    schedule.build_spine(con, SETTINGS)
    schedule.build_schedule(con, SETTINGS)
    found = con.execute(
        "SELECT moment, as_of, visits_open_after_count_ever FROM schedule WHERE appointment_id = 'it' ORDER BY moment"
    ).fetchall()
    assert [(moment, count) for moment, _, count in found] == [("booking", 1.0), ("evening", 1.0)]
    assert found[0][1] == found[1][1]
