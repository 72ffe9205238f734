"""What may be asked of the simulator."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from features.errors import NotBuiltError, SettingsError

Language = Literal["en", "zh"]
Preset = Literal["default", "null", "no_heterogeneity", "insured", "dirty", "chain"]
LARGEST = {"patients": 2_000_000, "clinics": 200, "years": 15}


@dataclass(frozen=True)
class PracticePlan:
    """One simulated practice; the same plan always gives the same files.

    Attributes
    ----------
    patients : int
        People on the practice's books at `now`.
    clinics : int
        Sites; every patient belongs to one.
    years : int
        Years of records before `now`.
    seed : int
        Seed of every random stream.
    now : datetime
        Aware moment of the export. Nothing later is known, except bookings
        already made for later.
    time_zone : str
        IANA name of the practice's clock.
    language : {"en", "zh"}
        Script of the invented names; nothing else depends on it.
    preset : str
        Which practice: see `features.simulator.presets`.

    Raises
    ------
    SettingsError
        If a value is outside what can be simulated.
    """

    now: datetime
    patients: int = 3000
    clinics: int = 1
    years: int = 4
    seed: int = 7
    time_zone: str = "Asia/Shanghai"
    language: Language = "en"
    preset: Preset = "default"

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated, naming every wrong value at once."""
        problems = [
            f"{name} must be a whole number from 1 to {largest}, not {getattr(self, name)!r}"
            for name, largest in LARGEST.items()
            if not _is_count(getattr(self, name), largest)
        ]
        if not isinstance(self.seed, int) or self.seed < 0:
            problems.append(f"seed must be a whole number from 0, not {self.seed!r}")
        if not problems and self.patients < self.clinics:
            problems.append(f"patients ({self.patients}) must be at least clinics ({self.clinics})")
        if not isinstance(self.now, datetime) or self.now.tzinfo is None:
            problems.append("now must be a moment with a time zone")
        if self.time_zone not in available_timezones():
            problems.append(f"time_zone {self.time_zone!r} is not in the IANA database")
        if self.language not in ("en", "zh"):
            problems.append(f"language must be en or zh, not {self.language!r}")
        if self.preset not in get_args(Preset):
            problems.append(f"preset must be one of {', '.join(get_args(Preset))}, not {self.preset!r}")
        if problems:
            raise SettingsError(f"The practice cannot be simulated: {'; '.join(problems)}.")

    @property
    def local_now(self) -> datetime:
        """`now` on the practice's wall clock, without a zone, to the minute."""
        local = self.now.astimezone(ZoneInfo(self.time_zone))
        return local.replace(tzinfo=None, second=0, microsecond=0)

    @property
    def window_start(self) -> datetime:
        """Local midnight from which on visits are exported."""
        midnight = self.local_now.replace(hour=0, minute=0)
        return midnight - timedelta(days=round(365.25 * self.years))


def _is_count(value: object, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


def plan_text(plan: PracticePlan) -> str:
    """Return the plan as JSON, for the truth beside an export."""
    return (
        json.dumps(asdict(plan) | {"now": plan.now.astimezone(ZoneInfo(plan.time_zone)).isoformat()}, indent=2) + "\n"
    )


def read_plan(path: Path) -> PracticePlan:
    """Read a plan that `plan_text` wrote.

    Raises
    ------
    NotBuiltError
        If there is none.
    """
    if not path.is_file():
        raise NotBuiltError(f"Expected the plan of a simulated practice at {path}. Run `revisit simulate` again.")
    told = json.loads(path.read_text(encoding="utf-8"))
    return PracticePlan(**(told | {"now": datetime.fromisoformat(told["now"])}))
