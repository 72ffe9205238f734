"""The strip above the board: one block per booking, piled by half hour, flagged ones at the bottom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from features.settings import NoShow
from serving.decisions import band, is_open
from serving.schedule import Booking, Score

WIDTH, HEIGHT = 1000, 56
_TALLEST_BLOCK = 20
_FEWEST_HOURS = 4
_GAP = 2
_ORDER = ("high", "medium", "low", "none", "done")


@dataclass(frozen=True)
class Block:
    """One booking, in units of the drawing; `kind` is its band, ``none`` (unscored) or ``done``."""

    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True)
class Strip:
    """The drawing: blocks, and the hours below them."""

    blocks: tuple[Block, ...]
    hours: tuple[str, ...]


def strip(entries: Sequence[tuple[Booking, Score | None]], zone: ZoneInfo, thresholds: NoShow) -> Strip | None:
    """Draw a day; None without bookings whose time is known.

    Parameters
    ----------
    entries : sequence of (Booking, Score or None)
        Of one day.
    zone : ZoneInfo
        The practice's time zone.
    thresholds : NoShow
        For the colours.
    """
    piles: dict[int, list[str]] = defaultdict(list)
    for booking, score in entries:
        if booking.is_start_time_known:
            piles[_half_hour(booking.starts_at, zone)].append(_kind(booking, score, thresholds))
    if not piles:
        return None
    last = max(max(piles) // 2 + 1, min(min(piles) // 2 + _FEWEST_HOURS, 24))
    first = min(min(piles) // 2, last - _FEWEST_HOURS) if last > _FEWEST_HOURS else 0
    width = WIDTH / (last - first) / 2
    height = min(_TALLEST_BLOCK, HEIGHT / max(map(len, piles.values())))
    blocks = [
        _block((slot - first * 2) * width, level, width, height, kind)
        for slot, pile in sorted(piles.items())
        for level, kind in enumerate(sorted(pile, key=_ORDER.index))
    ]
    return Strip(tuple(blocks), tuple(f"{hour:02d}" for hour in range(first, last)))


def _block(x: float, level: int, width: float, height: float, kind: str) -> Block:
    gap = min(_GAP, height / 4)
    top = HEIGHT - (level + 1) * height
    return Block(round(x + _GAP, 1), round(top + gap, 1), round(width - 2 * _GAP, 1), round(height - gap, 1), kind)


def _kind(booking: Booking, score: Score | None, limits: NoShow) -> str:
    if not is_open(booking):
        return "done"
    return band(score.probability, limits.medium_risk, limits.high_risk) if score else "none"


def _half_hour(moment: datetime, zone: ZoneInfo) -> int:
    local = moment.astimezone(zone)
    return local.hour * 2 + local.minute // 30
