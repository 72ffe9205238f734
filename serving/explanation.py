"""A reason behind a score: a code, a weight, and the patient's own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reason:
    """One plain reason behind a score.

    Attributes
    ----------
    code : str
        Key of `serving.reasons.SENTENCES`.
    direction : int
        +1 raises the risk, -1 lowers it.
    contribution : float
        Its part of the score, on the logit scale.
    values : dict
        The patient's own numbers that the sentence names.
    """

    code: str
    direction: int
    contribution: float
    values: Mapping[str, int | float | str] = field(default_factory=dict)
