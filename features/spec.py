"""What a feature and a family of features declare about themselves, and the grammar of names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

NAME_GRAMMAR = re.compile(
    r"^(?:(?:is|has)_[a-z]+(?:_[a-z]+)*"  # state
    r"|(?:days|years)_(?:since|until)_[a-z]+(?:_[a-z]+)*"  # elapsed time
    r"|[a-z]+_(?:weekday|hour)"  # position on the practice's clock
    r"|[a-z]+(?:_[a-z]+)+_(?:count|sum|mean|share|max|median|spread|ratio)_(?:\d+d|ever)(?:_(?:cents|minutes|hours|days))?)$"
)


@dataclass(frozen=True)
class Feature:
    """One feature: its name, its SQL over a family's query, what it means.

    Attributes
    ----------
    name : str
        Obeys `NAME_GRAMMAR`.
    sql : str
        Expression over the family's query.
    description : str
        One sentence; ends with the unit in square brackets.
    reason : str or None
        The group of plain reasons it feeds. None for what is never shown as a
        reason: protected attributes such as age and sex.
    monotone : int
        1 where a higher value can only raise the risk, -1 the opposite, 0 open.
    """

    name: str
    sql: str
    description: str
    reason: str | None
    monotone: int = 0

    @property
    def unit(self) -> str:
        """The unit named at the end of the description."""
        return self.description.rpartition("[")[2].rstrip("]")

    @property
    def stored_sql(self) -> str:
        """Every feature is stored as a double: what models read, and what Feast returns unchanged."""
        return f"CAST({self.sql} AS DOUBLE) AS {self.name}"


@dataclass(frozen=True)
class Context:
    """Figures of whole clinics, from all patients' records, as they were known when a local day began.

    Everybody of a clinic has the same figures all day long, so they are made
    once per clinic and day however many patients read them.

    Attributes
    ----------
    name : str
        Of the table: one row per (clinic_id, day).
    reads : mapping of str to tuple of str
        Record tables and the columns of theirs that `parts` read, as facts
        called ``clinic_<table>_facts``.
    days : tuple of int
        How many days before and behind the day bookings matter.
    parts : mapping of str to str
        SQL by name; a part may read ``clinic_days d`` (clinic_id, day,
        day_us: when it began), the facts, and the parts before it. The last
        one is the table.
    """

    name: str
    reads: Mapping[str, tuple[str, ...]]
    days: tuple[int, int]
    parts: Mapping[str, str]

    @property
    def sql(self) -> str:
        """One row per row of ``clinic_days``."""
        parts = ",\n".join(f"{name} AS ({sql})" for name, sql in self.parts.items())
        return f"WITH {parts}\nSELECT * FROM {list(self.parts)[-1]}"


@dataclass(frozen=True)
class Family:
    """Features of a patient, or of another thing of a patient's, that come from the same records.

    Attributes
    ----------
    name : str
        Of the dataset and of the view in Feast.
    description : str
        One sentence.
    reads : mapping of str to tuple of str
        Record tables and the columns of theirs that `parts` read, as facts
        (`features.as_of.attach_facts`).
    parts : mapping of str to str
        SQL by name; a part may read ``spine s`` (patient_no, patient_id,
        as_of_us, as_of_day and the practice's own numbers), the facts, and
        the parts before it. Those in `joined` give at most one row per
        (patient_no, as_of_us).
    joined : tuple of str
        The parts whose columns the features are made of.
    features : tuple of Feature
        Expressions over the joined parts and ``s``; NULL where a patient has
        no row in a part.
    context : Context, optional
        Figures of whole clinics; `parts` may read its table, and ``calendar``
        (`features.opening_days.attach_calendar`).
    spine : str
        Another table than ``spine`` where the rows are not patients'.
    ids : tuple of str
        What a row is about: columns of the spine, and entities in Feast.
    keys : tuple of str
        Columns that the `joined` parts have in common with the spine, beside ``as_of_us``.
    """

    name: str
    description: str
    reads: Mapping[str, tuple[str, ...]]
    parts: Mapping[str, str]
    joined: tuple[str, ...]
    features: tuple[Feature, ...]
    context: Context | None = None
    spine: str = "spine"
    ids: tuple[str, ...] = ("patient_id",)
    keys: tuple[str, ...] = ("patient_no",)

    @property
    def sql(self) -> str:
        """One row per row of the spine: `ids`, as_of and one column per feature."""
        parts = ",\n".join(f"{name} AS ({sql})" for name, sql in self.parts.items())
        joins = "\n".join(
            f"LEFT JOIN {name} ON {' AND '.join(f'{name}.{key} = s.{key}' for key in (*self.keys, 'as_of_us'))}"
            for name in self.joined
        )
        ids = ", ".join(f"s.{name}" for name in self.ids)
        columns = ",\n  ".join(feature.stored_sql for feature in self.features)
        return f"WITH {parts}\nSELECT {ids}, s.as_of,\n  {columns}\nFROM {self.spine} s\n{joins}"
