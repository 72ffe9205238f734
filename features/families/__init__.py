"""Features of patients, one family per file; each is SQL over a spine of (patient, as_of)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from features.families.attendance import ATTENDANCE
from features.families.clinic import CLINIC
from features.families.contacts import CONTACTS
from features.families.due import DUE_DATES
from features.families.money import MONEY
from features.families.people import PEOPLE
from features.families.plans import PLANS
from features.families.services import SERVICES
from features.spec import Family

FAMILIES: Mapping[str, Family] = {
    family.name: family for family in (ATTENDANCE, DUE_DATES, PLANS, CONTACTS, MONEY, PEOPLE, SERVICES, CLINIC)
}


def columns_read(families: Iterable[Family]) -> dict[str, tuple[str, ...]]:
    """Record tables that `families` read, with the columns wanted by any of them."""
    wanted: dict[str, dict[str, None]] = {}
    for family in families:
        for table, columns in family.reads.items():
            wanted.setdefault(table, {}).update(dict.fromkeys(columns))
    return {table: tuple(columns) for table, columns in wanted.items()}


def families_of(names: Iterable[str]) -> list[Family]:
    """Families that hold any of the features called `names`."""
    wanted = set(names)
    return [family for family in FAMILIES.values() if wanted & {feature.name for feature in family.features}]
