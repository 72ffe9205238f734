"""Features keep the grammar of names, and contracts hold together."""

from __future__ import annotations

import re

import pytest

from features import schedule
from features.contracts import CONTRACTS, PATIENT_CONTRACTS, SNAPSHOT, ModelContract
from features.families import FAMILIES
from features.spec import NAME_GRAMMAR, Feature

OF_PATIENTS = tuple(feature for family in FAMILIES.values() for feature in family.features)
EVERY = (*schedule.FEATURES, *OF_PATIENTS)

GOOD = [
    "is_female",
    "has_missed_last_visit",
    "days_since_visit_completed",
    "years_since_birth",
    "visit_weekday",
    "visits_cancelled_late_share_730d",
    "spend_paid_sum_365d_cents",
    "visits_ended_count_ever",
]
BAD = ["recency", "feature1", "visits_365d", "lastVisit", "amt", "visits_count", "n_visits", "is_", "Is_female"]


@pytest.mark.parametrize("name", GOOD)
def test_grammar_accepts(name: str) -> None:
    assert NAME_GRAMMAR.match(name)


@pytest.mark.parametrize("name", BAD)
def test_grammar_refuses(name: str) -> None:
    assert not NAME_GRAMMAR.match(name)


@pytest.mark.parametrize("feature", EVERY, ids=lambda feature: feature.name)
def test_every_feature_is_well_declared(feature: Feature) -> None:
    assert NAME_GRAMMAR.match(feature.name)
    assert re.search(r"\S \[[a-z ]+\]$", feature.description), "a description ends with its [unit]"
    assert feature.unit
    assert feature.monotone in (-1, 0, 1)
    if feature.name.startswith(("is_", "has_")):
        assert feature.unit == "flag"


def test_names_are_unique() -> None:
    for features in (schedule.FEATURES, OF_PATIENTS):
        names = [feature.name for feature in features]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("contract", PATIENT_CONTRACTS.values(), ids=lambda contract: contract.name)
def test_contract_about_patients_is_made_of_declared_features(contract: ModelContract) -> None:
    assert set(contract.features) <= set(OF_PATIENTS)
    assert (contract.entity, contract.moment) == ("patient", SNAPSHOT)
    assert contract.question.endswith("?")
    assert PATIENT_CONTRACTS[contract.name] is contract


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.name)
def test_contract_is_made_of_declared_features(contract: ModelContract) -> None:
    assert set(contract.features) <= set(schedule.FEATURES)
    assert len(set(contract.feature_names)) == len(contract.feature_names)
    assert contract.moment in (schedule.BOOKING, schedule.EVENING)
    assert contract.question.endswith("?")
    assert contract.name == next(name for name, known in CONTRACTS.items() if known is contract)


def test_fingerprint_changes_with_what_a_model_relies_on() -> None:
    from dataclasses import replace

    contract = next(iter(CONTRACTS.values()))
    first, second, *rest = contract.features
    changed = [
        replace(contract, version=contract.version + 1),
        replace(contract, features=(second, first, *rest)),
        replace(contract, features=(replace(first, sql=f"{first.sql} + 1"), second, *rest)),
        replace(contract, label="another"),
    ]
    assert len({contract.fingerprint, *(other.fingerprint for other in changed)}) == len(changed) + 1
    assert replace(contract, question="Other words?").fingerprint == contract.fingerprint
