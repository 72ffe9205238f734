"""A patient's score week by week, as a small drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

WIDTH, HEIGHT = 260, 56
_MARGIN = 5


@dataclass(frozen=True)
class Point:
    """One score in units of the drawing, with its words."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class ScoreChart:
    """The line through all points; `threshold` is the height of the flag's line, if there is one."""

    width: int
    height: int
    line: str
    points: tuple[Point, ...]
    threshold: float | None


def score_chart(scores: Sequence[tuple[datetime, float, str]], threshold: float | None = None) -> ScoreChart | None:
    """Draw scores over time, 0 at the bottom and 1 at the top; None for fewer than two.

    Parameters
    ----------
    scores : sequence of (datetime, float, str)
        Moment, probability and words of each, oldest first.
    threshold : float, optional
        From where on the patient is flagged.
    """
    if len(scores) < 2:  # one point is no line, and its number stands beside it
        return None
    first, last = scores[0][0], scores[-1][0]
    span = (last - first).total_seconds() or 1.0

    def across(moment: datetime) -> float:
        share = (moment - first).total_seconds() / span
        return round(_MARGIN + share * (WIDTH - 2 * _MARGIN), 1)

    points = tuple(Point(across(moment), _height(chance), label) for moment, chance, label in scores)
    line = " ".join(f"{point.x},{point.y}" for point in points)
    return ScoreChart(WIDTH, HEIGHT, line, points, None if threshold is None else _height(threshold))


def _height(chance: float) -> float:
    return round(_MARGIN + (1 - chance) * (HEIGHT - 2 * _MARGIN), 1)
