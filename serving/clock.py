"""The clock: the only place of the web worker that asks what time it is."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo


def now() -> datetime:
    """Return this moment, in UTC."""
    return datetime.now(tz=UTC)  # noqa: TID251


def today(zone: ZoneInfo) -> date:
    """Return the day it is in the practice's time zone."""
    return now().astimezone(zone).date()
