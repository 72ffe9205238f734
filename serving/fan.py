"""Small fan charts as SVG: a series' last months, and the band that should hold eight in ten of the coming ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.forecasts import Series

WIDTH, HEIGHT = 240.0, 64.0
MONTHS_BACK = 18
LOW, MID, HIGH = 0, 4, 8  # places of q10, q50 and q90


@dataclass(frozen=True)
class Fan:
    """Points of an SVG of `WIDTH` x `HEIGHT`: `band` a polygon, `past` and `middle` polylines."""

    past: str
    middle: str
    band: str
    inner: str


def fan(series: Series) -> Fan:
    """Draw a series; the scale begins at zero, so that small and large changes look as they are."""
    past = [month.actual or 0.0 for month in series.past[-MONTHS_BACK:]]
    ahead = [month.quantiles for month in series.ahead]
    top = max([*past, *(values[HIGH] for values in ahead), 1e-9])
    steps = max(len(past) + len(ahead) - 1, 1)

    def points(values: Sequence[float], first: int) -> list[str]:
        return [
            f"{WIDTH * (first + n) / steps:.1f},{HEIGHT - 2 - (HEIGHT - 6) * value / top:.1f}"
            for n, value in enumerate(values)
        ]

    begin = len(past)
    joint = [past[-1]] if past else []
    at = begin - len(joint)

    def band(low: int, high: int) -> str:
        upper = points([*joint, *(values[high] for values in ahead)], at)
        lower = points([*joint, *(values[low] for values in ahead)], at)
        return " ".join([*upper, *reversed(lower)])

    return Fan(
        past=" ".join(points(past, 0)),
        middle=" ".join(points([*joint, *(values[MID] for values in ahead)], at)),
        band=band(LOW, HIGH),
        inner=band(2, 6),
    )
