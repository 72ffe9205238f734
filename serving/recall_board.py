"""What the recall page shows, worked out in words before any template runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from babel.numbers import format_decimal

from serving.i18n import Language
from serving.names import _, initials
from serving.recall_lists import OUTCOMES, Counts, Item
from serving.recall_reasons import sentence
from serving.recall_words import CHANNEL_LABELS, EXCLUSION_LABELS, OBSTACLE_LABELS, OUTCOME_LABELS, VALUE_LABELS

DAYS_PER_WEEK = 7


@dataclass(frozen=True)
class Choice:
    """One outcome that can be noted."""

    code: str
    label: str


@dataclass(frozen=True)
class Row:
    """One patient to be contacted, all in words; `amount` is empty for whom it is not meant."""

    list_id: int
    patient_id: str
    place: int
    patient: str
    phone: str
    clinic: str
    channel: str
    channel_label: str
    overdue: str
    is_long_overdue: bool
    last_contact: str
    reasons: tuple[str, ...]
    value_band: str
    value_label: str
    amount: str
    obstacle: str
    outcome: str
    outcome_label: str
    outcome_when: str
    outcome_id: int
    can_be_undone: bool
    choices: tuple[Choice, ...]

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.outcome or self.obstacle)


@dataclass(frozen=True)
class Exclusion:
    """One reason and how many patients it keeps off the list; `width` is in hundredths of the bar."""

    label: str
    count: int
    width: float


@dataclass(frozen=True)
class Progress:
    """How far the list has been worked through."""

    done: int
    total: int
    booked: int
    width: float


@dataclass(frozen=True)
class Look:
    """How the visitor sees it."""

    language: Language
    zone: ZoneInfo
    clinics: Mapping[str, str]
    sees: frozenset[str]
    can_note: bool


def rows(items: Iterable[Item], look: Look) -> tuple[Row, ...]:
    """Say each patient of a list."""
    return tuple(row(item, look) for item in items)


def row(item: Item, look: Look) -> Row:
    """Say one patient of a list."""
    say, noted = look.language, item.noted
    channel = item.channels[0] if item.channels else ""
    return Row(
        list_id=item.list_id,
        patient_id=item.patient_id,
        place=item.place,
        patient=name_of(item, look.sees),
        phone=(item.phone or "") if "see.phones" in look.sees and channel in ("phone", "sms") else "",
        clinic=look.clinics.get(item.clinic_id, item.clinic_id) if len(look.clinics) > 1 else "",
        channel=channel,
        channel_label=say.text(CHANNEL_LABELS[channel]) if channel else "",
        overdue=overdue(item.overdue_days, say),
        is_long_overdue=item.is_long_overdue,
        last_contact=month(item.last_contact_at, look) or say.text(_("never")),
        reasons=tuple(sentence(reason, say) for reason in item.reasons),
        value_band=item.value_band,
        value_label=say.text(VALUE_LABELS[item.value_band]),
        amount=amount(item.value_cents, say) if "see.amounts" in look.sees else "",
        obstacle=say.text(OBSTACLE_LABELS[item.obstacle]) if item.obstacle and noted is None else "",
        outcome=noted.outcome if noted else "",
        outcome_label=say.text(OUTCOME_LABELS[noted.outcome]) if noted else "",
        outcome_when=say.moment(noted.noted_at, look.zone) if noted else "",
        outcome_id=noted.outcome_id if noted else 0,
        can_be_undone=bool(noted and noted.can_be_undone and look.can_note),
        choices=tuple(Choice(code, say.text(OUTCOME_LABELS[code])) for code in OUTCOMES) if look.can_note else (),
    )


def name_of(item: Item, sees: Collection[str]) -> str:
    """Name a patient as far as the visitor may know."""
    if not item.patient_name:
        return item.patient_id
    return item.patient_name if "see.names" in sees else initials(item.patient_name)


def overdue(days: int, say: Language) -> str:
    """Say how long past the due date, in weeks."""
    weeks = days // DAYS_PER_WEEK
    if weeks == 0:
        return say.text(_("this week"))
    return say.count("%(n)d week", "%(n)d weeks", weeks) % {"n": weeks}


def month(at: datetime | None, look: Look) -> str:
    """Say a past month and its year; empty if there is none."""
    return look.language.month(at.astimezone(look.zone).date()) if at else ""


def amount(cents: int, say: Language) -> str:
    """Write an amount in whole units of the practice's currency."""
    return str(format_decimal(round(cents / 100), locale=say.locale))


def exclusions(counts: Counts, say: Language) -> tuple[Exclusion, ...]:
    """Say who was due and is not on the list, the most frequent reason first."""
    most = max(counts.excluded.values(), default=1)
    ordered = sorted(counts.excluded.items(), key=lambda pair: -pair[1])
    return tuple(Exclusion(say.text(EXCLUSION_LABELS[code]), n, round(100 * n / most, 1)) for code, n in ordered)


def progress(items: Collection[Item]) -> Progress:
    """Count how far the list has been worked through."""
    done = sum(item.noted is not None or item.obstacle is not None for item in items)
    booked = sum(item.noted is not None and item.noted.outcome == "booked" for item in items)
    return Progress(done, len(items), booked, round(100 * done / max(len(items), 1), 1))
