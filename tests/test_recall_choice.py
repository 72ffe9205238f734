"""Whom a recall list holds: exclusions, order, the long overdue, the draw of the hold-out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.recall_choice import EXCLUSIONS, Due, Limits, choose, exclusion, nearness, value_bands

NOW = datetime(2026, 11, 17, tzinfo=UTC)
FREE = Due("p", "h", "east", 10, 180, 100_00, 0.4, 0.4, {"phone": None})


def crowd(size: int, **same: Any) -> list[Due]:
    made = [
        Due(
            f"p{n}", f"h{n}", "east", overdue_days=(n * 37) % 400, interval_days=180, value_cents=100 + n * 7919 % 997,
            likelihood=0.05 + (n * 31 % 90) / 100, response=None, allowed={"phone": True},
        )
        for n in range(size)
    ]  # fmt: skip
    return [replace(one, **same) for one in made]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"is_departed": True, "is_contact_refused": True}, "departed"),
        ({"is_contact_refused": True}, "do_not_contact"),
        ({"is_recall_off": True}, "recall_off"),
        ({"has_booking": True}, "booked"),
        ({"held_out_at": NOW - timedelta(days=55)}, "hold_out"),
        ({"held_out_at": NOW - timedelta(days=56)}, None),
        ({"last_contact_at": NOW - timedelta(days=27)}, "contacted_lately"),
        ({"last_contact_at": NOW - timedelta(days=28)}, None),
        ({"contacts_365d": 6}, "contacted_lately"),
        ({"allowed": {"phone": False, "sms": None}}, "no_channel"),
        ({"allowed": {"phone": False, "sms": True}}, None),
        ({"is_profiling_refused": True}, "no_profiling"),
        ({"overdue_days": 3000}, None),
    ],
)
def test_what_forbids_a_contact(change: dict[str, Any], reason: str | None) -> None:
    assert exclusion(replace(FREE, **change), Limits(), NOW) == reason


due = st.builds(
    Due,
    patient_id=st.uuids().map(str),
    household_id=st.integers(0, 25).map(lambda n: f"h{n}"),
    clinic_id=st.sampled_from(["east", "north", ""]),
    overdue_days=st.integers(0, 2000),
    interval_days=st.integers(28, 400),
    value_cents=st.integers(0, 10**7),
    likelihood=st.floats(0, 1),
    response=st.none(),
    allowed=st.fixed_dictionaries({"phone": st.sampled_from([None, True, False])}),
    is_departed=st.booleans(),
    has_booking=st.booleans(),
)


@given(st.lists(due, max_size=60, unique_by=lambda one: one.patient_id), st.integers(1, 30), st.floats(0, 0.5))
def test_everybody_is_somewhere_once_and_nobody_forbidden_is_listed(
    patients: list[Due], calls: int, share: float
) -> None:
    limits = Limits(calls=calls, hold_out_share=share)
    chosen = choose(patients, limits, NOW, "seed")
    listed = [place.due for place in chosen.places]
    excluded = [one for found in chosen.excluded.values() for one in found]
    counted = Counter(one.patient_id for one in (*listed, *excluded, *chosen.waiting))
    assert counted == Counter(one.patient_id for one in patients)
    assert all(exclusion(one, limits, NOW) is None for one in listed)
    assert len({one.household_id for one in listed}) == len(listed), "a household is contacted once"
    assert set(chosen.excluded) <= set(EXCLUSIONS)
    to_contact = [place for place in chosen.places if place.arm == "contact"]
    assert [place.place for place in to_contact] == list(range(1, len(to_contact) + 1))
    assert abs(len(to_contact) - min(calls, len(listed))) <= 1 + round(share * len(listed))
    ranked = [place.due.priority for place in to_contact]
    assert ranked == sorted(ranked, reverse=True)


def test_the_long_overdue_keep_their_share() -> None:
    fresh = crowd(80, overdue_days=5)
    long_ago = [replace(one, patient_id=f"x{n}", household_id=f"x{n}", overdue_days=900, likelihood=0.001)
                for n, one in enumerate(crowd(30))]  # fmt: skip
    for share in (0.0, 0.2, 0.5):
        chosen = choose([*fresh, *long_ago], Limits(calls=20, long_overdue_share=share, hold_out_share=0), NOW, "s")
        assert len(chosen.places) == 20
        assert sum(place.due.is_long_overdue for place in chosen.places) == 20 * share
    kept = [place.due.priority for place in chosen.places if place.due.is_long_overdue]
    assert min(kept) >= max(one.priority for one in chosen.waiting if one.is_long_overdue)


def test_the_hold_out_is_chance_with_the_odds_that_are_logged() -> None:
    patients, times = crowd(60), Counter[str]()
    for seed in range(600):
        chosen = choose(patients, Limits(calls=45, hold_out_share=0.1, long_overdue_share=0), NOW, str(seed))
        held_out = [place for place in chosen.places if place.arm == "hold_out"]
        assert len(chosen.places) == 50
        assert {place.propensity for place in held_out} == {0.1}
        assert {place.propensity for place in chosen.places if place.arm == "contact"} == {0.9}
        times.update(place.due.patient_id for place in held_out)
    drawn = np.array([times[place.due.patient_id] for place in chosen.places])
    assert drawn.sum() == 600 * 5
    # Chi-square of 49 degrees of freedom lies below 94 in all but 1 of 10,000 cases.
    assert ((drawn - 60) ** 2 / (60 * 0.9)).sum() < 94
    best = [place.due.patient_id for place in chosen.places][:10]
    assert abs(sum(times[one] for one in best) - 600) < 4.5 * np.sqrt(600 * 0.9), "not by rank either"


def test_a_resized_list_holds_out_largely_the_same() -> None:
    def held_out(calls: int) -> set[str]:
        chosen = choose(crowd(300), Limits(calls=calls, long_overdue_share=0), NOW, "seed")
        return {place.due.patient_id for place in chosen.places if place.arm == "hold_out"}

    small, large = held_out(90), held_out(108)
    assert len(small) == 10
    assert len(large) == 12
    assert len(small & large) >= 8


def test_families_are_reached_once_and_counted() -> None:
    family = [replace(FREE, patient_id=f"p{n}", likelihood=n / 10) for n in (1, 2, 3)]
    chosen = choose(family, Limits(), NOW, "s")
    (place,) = chosen.places
    assert (place.due.patient_id, place.family_due, place.arm, place.propensity) == ("p3", 2, "contact", 1.0)
    assert {one.patient_id for one in chosen.excluded["same_household"]} == {"p1", "p2"}


def test_a_short_list_holds_nobody_out() -> None:
    chosen = choose(crowd(4), Limits(), NOW, "s")
    assert {(place.arm, place.propensity) for place in chosen.places} == {("contact", 1.0)}


def test_bands_and_nearness() -> None:
    assert value_bands([9, 1, 5]) == ["high", "low", "medium"]
    assert value_bands([3, 3]) == ["medium", "medium"]
    assert value_bands([]) == []
    assert nearness(0, 90) > nearness(30, 90) > nearness(3000, 90) > 0
