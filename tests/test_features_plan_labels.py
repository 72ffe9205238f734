"""Plans' features, and the labels of value and completion, beside naive recomputations; blind to the future."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from random import Random
from typing import Any

import duckdb
import pandas as pd
import pytest

from features.as_of import attach_states
from features.contracts import COMPLETION_180D, PLAN_CONTRACTS, REGRESSION, VALUE_365D
from features.duck import connect
from features.errors import NotBuiltError
from features.examples import patient_examples
from features.labels import PERIOD_DAYS, attach_completion_periods, attach_completions, attach_value
from features.plan_examples import plan_examples, plans_to_score
from features.plan_grain import FEATURES, IMAGINED_ITEMS, SETTLED_DAYS, TABLES_READ, attach_plans, plan_rows
from features.settings import Settings
from features.spec import NAME_GRAMMAR

US, DAY = timedelta(microseconds=1), timedelta(days=1)
MOMENTS = [datetime(2025, 3, 1, 16, tzinfo=UTC), datetime(2025, 6, 1, 16, tzinfo=UTC)]
UNTILS = [datetime(2025, 10, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)]
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
KEYS = {"patients": "patient_id", "plan_items": "plan_item_id", "payments": "payment_id"}
PATIENTS = 60

State = dict[str, Any]
World = dict[str, list[State]]
Row = tuple[Any, ...]


# A tiny practice


def some_time(random: Random) -> datetime:
    """About the ends of windows and periods, or any time."""
    ends = random.choice([-SETTLED_DAYS, -1, 0, 0, PERIOD_DAYS, 2 * PERIOD_DAYS, 180, 365, 365])
    edge = random.choice(MOMENTS) + ends * DAY + random.choice((-1, 0, 0, 1)) * US
    return random.choice([edge, FIRST + random.random() * (UNTILS[-1] - FIRST)])


def told(random: Random, state: State, happened: datetime, later: list[tuple[datetime, State]]) -> Iterator[State]:
    """The states of a thing: each recorded when it happened or later, never two at once."""
    state = {**state, "known_at": happened + random.choice([0, 0, 0, 30]) * DAY}
    yield state
    for moment, change in later:
        known_at = max(moment + random.choice([0, 0, 0, 30]) * DAY, state["known_at"] + US)
        state = {**state, **change, "known_at": known_at}
        yield state


def tiny_world(random: Random) -> World:
    world: World = {name: [] for name in (*KEYS, "merges")}
    for number in range(PATIENTS):
        patient = {"patient_id": f"p{number}"}
        left = some_time(random)
        departure = {
            "departure": random.choice(["deceased", "moved", "inactive"]),
            "departed_on": random.choice([None, left.date()]),
        }
        world["patients"] += told(random, dict(patient), FIRST, [(left, departure)] if random.random() < 0.2 else [])
        for count in range(random.randint(0, 6)):
            key = {"plan_item_id": f"{number}-{count}", **patient}
            world["plan_items"] += item(
                random, {**key, "plan_id": random.choice([None, "x", f"t{number}", f"t{number}"])}
            )
        for count in range(random.randint(0, 6)):
            world["payments"] += entry(random, {"payment_id": f"{number}-{count}", **patient})
    for number in range(0, 16, 2):
        known_at = some_time(random)
        merge = {"old_id": f"p{number}", "new_id": f"p{number + 1}", "known_at": known_at, "recorded_at": known_at}
        world["merges"].append(merge)
    return world


def item(random: Random, state: State) -> Iterator[State]:
    at = min(some_time(random), MOMENTS[-1]) - random.choice([0, 1, 200]) * DAY
    state |= {"proposed_at": at, "fee_cents": random.choice([None, 100, 4700])}
    state |= {"urgency": random.choice([None, "routine", "soon", "urgent"])}
    state |= {"service_line": random.choice([None, "filling", "filling", "Orthodontics", "种植体"])}
    state |= {"clinician_id": random.choice([None, "d1", "d1", "d2"])}
    steps = []
    for name in random.choice([(), ("accepted",), ("accepted", "scheduled"), ("accepted", "declined"),
                               ("accepted", "completed"), ("completed", "accepted"), ("scheduled", "completed"),
                               ("accepted", "scheduled", "completed"), ("accepted", "completed")]):  # fmt: skip
        at = max(at, some_time(random)) if name in ("completed", "declined") else at + random.choice([0, 1]) * DAY
        steps.append((at, {f"{name}_at": at}))
    return told(random, state, state["proposed_at"], steps)


def entry(random: Random, state: State) -> Iterator[State]:
    at, kind = some_time(random), random.choice(["charge", "payment", "payment", "refund", "adjustment"])
    amount = random.choice([1000, 5500]) * (random.choice([-1, 1]) if kind in ("refund", "adjustment") else 1)
    corrected = [(some_time(random), {"kind": "payment", "amount_cents": 77})] if random.random() < 0.2 else []
    return told(random, {**state, "kind": kind, "amount_cents": amount, "paid_at": at}, at, corrected)


# The oracle: plain loops


@dataclass(frozen=True)
class Known:
    """All that is known at a moment, things of merged patients as those of the one that is left."""

    world: World
    moment: datetime

    def person(self, patient: str) -> str:
        merged = {m["old_id"]: m["new_id"] for m in self.world["merges"] if m["known_at"] < self.moment}
        return merged.get(patient, patient)

    def states(self, table: str) -> list[State]:
        newest: dict[str, State] = {}
        for state in sorted(self.world[table], key=lambda state: state["known_at"]):
            if state["known_at"] < self.moment:
                newest[state[KEYS[table]]] = state
        return [{**state, "patient_id": self.person(state["patient_id"])} for state in newest.values()]

    @cached_property
    def items(self) -> list[State]:
        names = ("accepted_at", "scheduled_at", "completed_at", "declined_at")
        return [dict.fromkeys(names) | state for state in self.states("plan_items")]

    @cached_property
    def payments(self) -> list[State]:
        return self.states("payments")

    @cached_property
    def plans(self) -> dict[tuple[str, str], list[State]]:
        """Items by plan and patient, of plans of which something was agreed to and is open."""
        found: dict[tuple[str, str], list[State]] = {}
        for state in self.items:
            plan = state["plan_id"] or f"item {state['plan_item_id']}"
            found.setdefault((plan, state["patient_id"]), []).append(state)
        return {key: items for key, items in found.items() if started(items)}

    @cached_property
    def settled(self) -> list[tuple[str, bool]]:
        """Clinician and line, and whether it was done in time, of what was agreed to long enough ago."""
        long = SETTLED_DAYS * DAY
        there = [i for i in self.items if i["accepted_at"] and i["accepted_at"] <= self.moment - long]
        return [
            (pair(i), i["completed_at"] is not None and i["completed_at"] <= i["accepted_at"] + long) for i in there
        ]

    @cached_property
    def gone(self) -> dict[str, datetime]:
        """When people died or moved away."""
        found: dict[str, datetime] = {}
        merged = {m["old_id"]: m["known_at"] for m in self.world["merges"] if m["known_at"] < self.moment}
        for state in self.states("patients"):
            own = [s for s in self.world["patients"] if s["patient_id"] == state["patient_id"]]
            newest = max((s for s in own if s["known_at"] < self.moment), key=lambda s: s["known_at"])
            if state["patient_id"] not in merged and newest.get("departure") in ("deceased", "moved"):
                on: date | None = newest["departed_on"]
                found[state["patient_id"]] = (
                    datetime(on.year, on.month, on.day, tzinfo=UTC) if on else newest["known_at"]
                )
        return found

    def is_over(self, patient: str, start: datetime, end: datetime) -> bool:
        gone = self.gone.get(self.person(patient))
        return end <= self.moment and not (gone is not None and start <= gone < end)

    def finished_at(self, promised: list[State]) -> datetime | None:
        now = {state["plan_item_id"]: state["completed_at"] for state in self.items}
        done = [now[state["plan_item_id"]] for state in promised]
        return None if None in done else max(done)


def started(items: list[State]) -> list[State]:
    return [i for i in items if i["accepted_at"] and not i["completed_at"] and not i["declined_at"]]


def pair(state: State) -> str:
    return f"{state['clinician_id'] or ''} {state['service_line'] or ''}"


def past_share(known: Known, accepted: list[State]) -> float | None:
    fees: Counter[str] = Counter()
    for state in accepted:
        fees[pair(state)] += state["fee_cents"] or 0
    times = Counter(map(pair, accepted))
    main = min(times, key=lambda name: (-times[name], -fees[name], name.split(" ")))
    outcomes = [is_done for _, is_done in known.settled]
    if not outcomes:
        return None
    own = [is_done for name, is_done in known.settled if name == main]
    return (sum(own) + IMAGINED_ITEMS * sum(outcomes) / len(outcomes)) / (len(own) + IMAGINED_ITEMS)


def naive_features(known: Known, items: list[State]) -> dict[str, float | bool | None]:
    accepted = [i for i in items if i["accepted_at"]]
    done, to_do = [i for i in accepted if i["completed_at"]], started(items)
    lines = Counter(i["service_line"] or "" for i in accepted)

    def since(moment: datetime) -> float:
        return (known.moment - moment) / DAY

    first = since(min(i["accepted_at"] for i in accepted))
    return {
        "this_plan_proposed_count_ever": len(items),
        "this_plan_accepted_count_ever": len(accepted),
        "this_plan_completed_count_ever": len(done),
        "this_plan_open_count_ever": len(to_do),
        "this_plan_pending_count_ever": sum(
            not (i["accepted_at"] or i["completed_at"] or i["declined_at"]) for i in items
        ),
        "this_plan_declined_count_ever": sum(bool(i["declined_at"]) for i in items),
        "this_plan_completed_share_ever": len(done) / len(accepted),
        "this_plan_accepted_sum_ever_cents": sum(i["fee_cents"] or 0 for i in accepted),
        "this_plan_open_sum_ever_cents": sum(i["fee_cents"] or 0 for i in to_do),
        "days_since_this_plan_proposed": since(min(i["proposed_at"] for i in items)),
        "days_since_this_plan_accepted": first,
        "days_since_this_plan_progress": since(max(i["completed_at"] for i in done)) if done else first,
        "this_plan_pace_ratio_ever": len(done) / (first / 30),
        "this_plan_scheduled_share_ever": sum(bool(i["scheduled_at"]) for i in to_do) / len(to_do),
        "this_plan_pressing_share_ever": sum(i["urgency"] in ("soon", "urgent") for i in to_do) / len(to_do),
        "has_urgent_item_open": any(i["urgency"] == "urgent" for i in to_do),
        "has_long_item_open": any(i["service_line"] in ("Orthodontics", "种植体") for i in to_do),
        "this_plan_lines_count_ever": len(lines),
        "this_plan_line_share_ever": max(lines.values()) / len(accepted),
        "clinician_line_completed_share_ever": past_share(known, accepted),
    }


# Comparing


@pytest.fixture(scope="module", params=[1, 2])
def world(request: pytest.FixtureRequest) -> World:
    return tiny_world(Random(request.param))


@pytest.fixture(scope="module")
def con(world: World, fill_tables: Callable[..., None]) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as opened:
        opened.execute("SET threads = 1")
        fill_tables(opened, world)
        for table in KEYS:
            attach_states(opened, table)
        yield opened


def look_at_plans(con: duckdb.DuckDBPyConnection) -> None:
    attach_plans(con, Settings(), MOMENTS)
    attach_states(con, "plan_items")
    con.execute("CREATE OR REPLACE TEMP TABLE looked_at AS SELECT plan_id, patient_id, as_of FROM plan_spine")


def look_at_everybody(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(
        "CREATE OR REPLACE TEMP TABLE looked_at AS SELECT DISTINCT patient_id, m.as_of FROM patients "
        "CROSS JOIN (SELECT unnest($moments::TIMESTAMPTZ[]) AS as_of) AS m",
        {"moments": MOMENTS},
    )


def rows_of(con: duckdb.DuckDBPyConnection, table: str) -> set[Row]:
    found = con.execute(f"SELECT * FROM {table}").fetchall()
    assert len(set(found)) == len(found)
    return {tuple(v.astimezone(UTC) if isinstance(v, datetime) else v for v in row) for row in found}


def test_features_of_plans_match_naive_loops(con: duckdb.DuckDBPyConnection, world: World) -> None:
    attach_plans(con, Settings(), MOMENTS)
    found = plan_rows(con).to_arrow_table().to_pylist()
    views = {moment: Known(world, moment) for moment in MOMENTS}
    expected = {
        (*key, m): naive_features(view, items) for m, view in views.items() for key, items in view.plans.items()
    }
    assert {(row["plan_id"], row["patient_id"], row["as_of"].astimezone(UTC)) for row in found} == set(expected)
    for row in found:
        key = (row["plan_id"], row["patient_id"], row["as_of"].astimezone(UTC))
        for feature in FEATURES:
            told = expected[key][feature.name]
            assert row[feature.name] == (told if told is None else pytest.approx(float(told), rel=1e-12)), (
                key,
                feature,
            )
    assert {f.name for f in FEATURES if len({row[f.name] for row in found}) < 2} == set()


def test_plans_of_one_patient_are_the_same(con: duckdb.DuckDBPyConnection, world: World) -> None:
    attach_plans(con, Settings(), MOMENTS)
    everybody = plan_rows(con).df().set_index(["plan_id", "patient_id", "as_of"]).sort_index()
    patient = everybody.index[0][1]
    attach_plans(con, Settings(), MOMENTS, f"patient_id = '{patient}'")
    alone = plan_rows(con).df().set_index(["plan_id", "patient_id", "as_of"]).sort_index()
    pd.testing.assert_frame_equal(alone, everybody[everybody.index.get_level_values(1) == patient], check_exact=True)


@pytest.mark.parametrize("until", UNTILS)
def test_value_matches_naive_loops(con: duckdb.DuckDBPyConnection, world: World, until: datetime) -> None:
    look_at_everybody(con)
    attach_value(con, until, 200)
    view, expected = Known(world, until), set()
    for as_of in MOMENTS:
        end = as_of + 200 * DAY
        for patient in (f"p{number}" for number in range(PATIENTS)):
            if view.is_over(patient, as_of, end):
                paid = [p for p in view.payments if p["patient_id"] == view.person(patient)]
                inside = [p for p in paid if as_of <= p["paid_at"] < end]
                plus = sum(p["amount_cents"] for p in inside if p["kind"] == "payment")
                minus = sum(abs(p["amount_cents"]) for p in inside if p["kind"] == "refund")
                expected.add((patient, as_of, float(plus - minus), end))
    assert rows_of(con, "snapshot_label") == expected
    assert len({row[2] for row in expected}) > 10
    assert min(row[2] for row in expected) < 0


def test_value_before_the_first_payment_is_unknown(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(
        "CREATE OR REPLACE TEMP TABLE looked_at AS SELECT 'p59' AS patient_id, TIMESTAMPTZ '2020-01-01' AS as_of"
    )
    attach_value(con, UNTILS[-1], 365)
    assert rows_of(con, "snapshot_label") == set()


@pytest.mark.parametrize("until", UNTILS)
def test_completions_match_naive_loops(con: duckdb.DuckDBPyConnection, world: World, until: datetime) -> None:
    look_at_plans(con)
    view, whole, periods = Known(world, until), set(), set()
    for as_of in MOMENTS:
        for (plan, patient), items in Known(world, as_of).plans.items():
            finished = view.finished_at(started(items))
            end = as_of + 180 * DAY
            if view.is_over(patient, as_of, end):
                whole.add((plan, patient, as_of, int(finished is not None and finished < end), end))
            for period in range(1, 7):
                begin, end = as_of + PERIOD_DAYS * (period - 1) * DAY, as_of + PERIOD_DAYS * period * DAY
                is_at_risk = period == 1 or finished is None or finished >= begin
                if is_at_risk and view.is_over(patient, as_of, end):
                    is_done = int(finished is not None and finished < end)
                    periods.add((plan, patient, as_of, period, is_done, end))
    attach_completions(con, until, 180)
    assert rows_of(con, "plan_label") == whole
    attach_completion_periods(con, until, 180)
    assert rows_of(con, "plan_label") == periods
    assert {row[3] for row in whole} == {row[4] for row in periods} == {0, 1}
    by_plan = {row[:3]: row[3] for row in whole}
    events = Counter(row[:3] for row in periods if row[4] and row[:3] in by_plan)
    assert all(events[key] == label for key, label in by_plan.items()), "hazards add up to the label"


# Blind to the future


def test_labels_and_plans_do_not_see_what_is_recorded_later(
    world: World, con: duckdb.DuckDBPyConnection, fill_tables: Callable[..., None]
) -> None:
    """Without, or with an invented, future the plans of a moment and the labels of a training are the same."""
    found = []
    for moment, look in ((MOMENTS[1], features_then), (UNTILS[0], labels_then)):
        past = {name: [s for s in states if s["known_at"] < moment] for name, states in world.items()}
        invented = {"fee_cents": 1, "amount_cents": 1, "kind": "payment", "departure": "moved", "completed_at": FIRST}
        poison = {
            name: [*states, *({**s, "known_at": moment, **{k: v for k, v in invented.items() if is_in(name, k)}}
                              for s in newest(states, name))]
            for name, states in past.items()
        }  # fmt: skip
        for told in (world, past, poison):
            with connect() as opened:
                opened.execute("SET threads = 1")
                fill_tables(opened, told)
                found.append(look(opened))
        assert found[-3] == found[-2] == found[-1]
        assert all(found[-1])


def is_in(table: str, column: str) -> bool:
    where = {"fee_cents": "plan_items", "completed_at": "plan_items", "departure": "patients"}
    return where.get(column, "payments") == table


def newest(states: list[State], table: str) -> list[State]:
    return list({state[KEYS[table]]: state for state in states}.values()) if table in KEYS else []


def features_then(con: duckdb.DuckDBPyConnection) -> list[set[Row]]:
    attach_plans(con, Settings(), MOMENTS[1:])
    return [set(plan_rows(con).fetchall())]


def labels_then(con: duckdb.DuckDBPyConnection) -> list[set[Row]]:
    for table in KEYS:
        attach_states(con, table)
    look_at_everybody(con)
    attach_value(con, UNTILS[0], 100)
    look_at_plans(con)
    attach_completions(con, UNTILS[0], 100)
    made = [rows_of(con, "snapshot_label"), rows_of(con, "plan_label")]
    attach_completion_periods(con, UNTILS[0], 180)
    return [*made, rows_of(con, "plan_label")]


# Contracts, and examples of a whole practice


def test_contracts_hold_together() -> None:
    assert (VALUE_365D.entity, VALUE_365D.task) == ("patient", REGRESSION)
    for contract in PLAN_CONTRACTS.values():
        assert contract.entity == "plan"
        assert len(set(contract.feature_names)) == len(contract.feature_names)
    assert len({contract.fingerprint for contract in (VALUE_365D, *PLAN_CONTRACTS.values())}) == 3
    assert all(NAME_GRAMMAR.match(feature.name) for feature in FEATURES)
    assert all(feature.description.endswith("]") for feature in FEATURES)


def test_examples_of_a_practice(small_practice: Any) -> None:
    from features.snapshots import snapshot_moments
    from features.store import build_patients, register

    days, until = (date(2025, 9, 1), date(2025, 10, 1)), datetime(2026, 11, 1, tzinfo=UTC)
    build_patients(small_practice.settings, until, *days)
    moments = snapshot_moments(*days, "month", small_practice.settings)
    store, versions = register(small_practice.settings), small_practice.store.versions()
    rows = plan_examples(small_practice.settings, store, COMPLETION_180D, until, versions)
    names = list(COMPLETION_180D.feature_names)
    assert list(rows.columns[-len(names) :]) == names
    assert set(rows["label"]) == {0, 1}
    assert rows["as_of"].is_monotonic_increasing
    assert rows["days_since_last_visit"].notna().mean() > 0.9, "the patient's own features are there"
    with connect() as con:
        small_practice.store.attach(con, TABLES_READ)
        attach_plans(con, small_practice.settings, moments)
        computed = plan_rows(con).df().set_index(["plan_id", "patient_id", "as_of"])
    own = [feature.name for feature in FEATURES]
    joined = rows.set_index(["plan_id", "patient_id", "as_of"])[own]
    pd.testing.assert_frame_equal(joined, computed.loc[joined.index, own], check_index_type=False)
    paid = patient_examples(small_practice.settings, store, VALUE_365D, until, versions)
    assert set(paid["as_of"]) == set(moments)
    assert paid["label"].gt(0).mean() > 0.2
    periods = plan_examples(small_practice.settings, store, COMPLETION_180D, until, versions, by_period=True)
    events = periods.groupby(["plan_id", "patient_id", "as_of"])["label"].sum()
    assert events.loc[pd.MultiIndex.from_frame(rows[["plan_id", "patient_id", "as_of"]])].tolist() == list(
        rows["label"]
    )
    scored = plans_to_score(small_practice.settings, store, COMPLETION_180D, moments[-1])
    assert set(rows.loc[rows["as_of"] == moments[-1], "plan_id"]) <= set(scored["plan_id"])
    with pytest.raises(NotBuiltError, match="features build"):
        plans_to_score(small_practice.settings, store, COMPLETION_180D, until)
