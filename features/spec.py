"""What a feature declares about itself, and the grammar of its name."""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME_GRAMMAR = re.compile(
    r"^(?:(?:is|has)_[a-z]+(?:_[a-z]+)*"  # state
    r"|(?:days|years)_(?:since|until)_[a-z]+(?:_[a-z]+)*"  # elapsed time
    r"|[a-z]+_(?:weekday|hour)"  # position on the practice's clock
    r"|[a-z]+(?:_[a-z]+)+_(?:count|sum|mean|share|max)_(?:\d+d|ever)(?:_(?:cents|minutes|hours|days))?)$"
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
