"""A made-up day: for tests, screenshots and whoever wants to see the pages without records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from serving.explanation import Reason
from serving.schedule import BOOKING_CONTRACT, EVENING_CONTRACT, Booking, Score

CLINICS = {"east": "East Lake · 东湖", "north": "North Gate · 北门"}
_NAMES = (
    "王雨桐", "Maria Keller", "李浩然", "陈思远", "Jonas Weber", "周欣妍", "黄志强", "Amélie Laurent", "吴子涵",
    "徐美玲", "David Okafor", "何淑芬", "赵明哲", "Sofia Rossi", "郭俊杰", "孙诗涵",
)  # fmt: skip
_SERVICES = ("hygiene", "filling", "orthodontics", "checkup", "implant", "endodontics", "extraction", "crown")
_CHANCES = (0.04, 0.11, 0.42, 0.07, 0.19, 0.03, 0.09, 0.33, 0.05, 0.12, 0.24, 0.02, 0.06, 0.17, 0.08, 0.51)
_STEP = timedelta(minutes=30)


@dataclass(frozen=True)
class SampleDay:
    """What `serving.schedule.publish_schedule` takes."""

    bookings: tuple[Booking, ...]
    scores: tuple[Score, ...]
    clinics: dict[str, str]
    as_of: datetime
    published_at: datetime


def sample_day(day: date, zone: ZoneInfo, count: int = 16) -> SampleDay:
    """Make up one day of the clinic ``east``; ``north`` stays empty.

    Parameters
    ----------
    day : date
        The local day.
    zone : ZoneInfo
        The practice's time zone.
    count : int
        How many bookings.

    Returns
    -------
    SampleDay
        The last booking but one has no score, the one before has both, the
        first is over.
    """
    opens = datetime.combine(day, time(8, 30), tzinfo=zone).astimezone(UTC)
    evening = opens - timedelta(hours=11, minutes=30)
    bookings = tuple(_booking(number, opens) for number in range(count))
    scores = [_score(number, BOOKING_CONTRACT, evening) for number in range(count) if number != count - 2]
    scores += [_score(number, EVENING_CONTRACT, evening) for number in range(2, count - 2)]
    return SampleDay(bookings, tuple(scores), dict(CLINICS), evening, evening + timedelta(minutes=4))


def _booking(number: int, opens: datetime) -> Booking:
    starts_at = opens + _STEP * (number + (number > 6) * 3)
    return Booking(
        appointment_id=f"a{number:03d}",
        clinic_id="east",
        patient_id=f"p{7919 * (number + 1) % 9973:04d}",
        starts_at=starts_at,
        booked_at=starts_at - timedelta(days=3 + 7 * (number % 6)),
        status="arrived" if number == 0 else "booked",
        clinician_id=("Dr. Lin", "Dr. Xu", "RDH Mei")[number % 3],
        patient_name=_NAMES[number % len(_NAMES)],
        birth_year=1948 + 13 * number % 64,
        service_line=_SERVICES[number % len(_SERVICES)],
        duration_minutes=(30, 45, 60)[number % 3],
    )


def _score(number: int, contract: str, as_of: datetime) -> Score:
    chance = _CHANCES[number % len(_CHANCES)]
    return Score(
        appointment_id=f"a{number:03d}",
        contract=contract,
        probability=chance if contract == EVENING_CONTRACT else min(chance * 1.2, 0.9),
        model_name=contract,
        model_version="3",
        as_of=as_of,
        scored_at=as_of + timedelta(minutes=2),
        reasons=_reasons(number, chance, (as_of + timedelta(hours=12)).weekday()),
    )


def _reasons(number: int, chance: float, weekday: int) -> tuple[Reason, ...]:
    ahead = Reason("lead_time", 1, 0.46, {"days": 3 + 7 * (number % 6)})
    if chance >= 0.3:
        missed = Reason("missed_visits", 1, 0.62, {"missed": 2, "past": 5})
        slot = Reason("time_slot", 1, 0.12, {"weekday": weekday, "hour": 8 + number // 2})
        return (ahead, missed, slot, Reason("reminder", -1, -0.2, {"reminders": 1, "confirmed": 1}))
    if chance >= 0.15:
        return (
            ahead,
            Reason("new_patient", 1, 0.21),
            Reason("reminder", 1, 0.08, {"reminders": 1, "confirmed": 0}),
        )
    kept = Reason("attendance", -1, -0.5, {"attended": 4 + number, "past": 4 + number})
    return (kept, Reason("last_visit", -1, -0.1, {"days": 30 * (number + 1)}), Reason("service", 1, 0.02))
