"""What a table of the contract declares about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ColumnType = Literal["id", "text", "integer", "number", "boolean", "instant", "date"]

SQL_TYPES: Mapping[ColumnType, str] = {
    "id": "VARCHAR",
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "instant": "TIMESTAMPTZ",
    "date": "DATE",
}


@dataclass(frozen=True)
class Column:
    """One column of the contract.

    Attributes
    ----------
    name : str
        Suffixes tell the type: ``_id``, ``_at`` (instant, UTC), ``_on`` (date),
        ``_cents`` (minor unit of the currency), ``_minutes``; booleans start ``is_``.
    type : str
        Key of `SQL_TYPES`.
    description : str
        One sentence for the generated reference.
    required : bool
        Whether a row without it goes to quarantine.
    values : tuple of str
        The only values allowed, if any.
    minimum, maximum : float, optional
        Inclusive bounds.
    is_personal : bool
        Whether it names a person or tells what was said; never shown, never modelled.
    is_list : bool
        Whether semicolons separate the items of a list; stored without blanks around them.
    refers_to : str
        Table whose key this is, if any.
    """

    name: str
    type: ColumnType
    description: str
    required: bool = False
    values: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    is_personal: bool = False
    is_list: bool = False
    refers_to: str = ""


@dataclass(frozen=True)
class Rule:
    """A condition over one row; a row for which it is false goes to quarantine."""

    column: str
    sql: str
    reason: str


@dataclass(frozen=True)
class Milestone:
    """Columns that the practice's system learned later than the row itself.

    An export shows a booking's outcome beside its booking time; the outcome
    was not known then. On import a row is therefore unfolded: a first state
    with ``until_then`` in the columns, and from ``known_at`` on one with what
    the export says. A table may have several, each with a clock of its own.

    Attributes
    ----------
    known_at : str
        Column with the moment.
    columns : tuple of str
        What became known then, `known_at` included.
    until_then : mapping of str to str
        What the columns held before; nothing for those not named.
    known_default : str
        SQL for a missing `known_at`; ``$moment`` is the import's own. Without
        it, a row without `known_at` never reached the milestone.
    """

    known_at: str
    columns: tuple[str, ...]
    until_then: Mapping[str, str] = field(default_factory=dict)
    known_default: str = ""


@dataclass(frozen=True)
class Table:
    """One table of the contract.

    Attributes
    ----------
    name : str
        Of the table.
    grain : str
        Completes "one row per ...".
    key : str
        Column that names the thing; its first column.
    columns : tuple of Column
        In the order ids, text, numbers, booleans, times.
    known_from : str
        Column of the moment the practice first knew the row; where the export
        has none, `known_default` says what to take.
    known_default : str
        SQL over the row's columns for a missing `known_from`; the import's own
        moment if empty.
    key_of : tuple of str
        Columns that make up the key where the export has no number for the
        thing; joined by ``|``.
    rules : tuple of Rule
        What must hold within a row, arithmetic identities included.
    milestones : tuple of Milestone
        What was learned later.
    unlocks : str
        What a practice gains by bringing this table.
    """

    name: str
    grain: str
    key: str
    columns: tuple[Column, ...]
    known_from: str
    known_default: str = ""
    key_of: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    milestones: tuple[Milestone, ...] = ()
    unlocks: str = ""

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns, in contract order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Return the column called `name`."""
        return next(column for column in self.columns if column.name == name)
