"""The day's board: what the schedule page shows, worked out before any template runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal
from zoneinfo import ZoneInfo

from features.settings import NoShow
from serving.day_strip import Strip, strip
from serving.decisions import Band, band, expected_no_shows, is_open, suggested_action
from serving.i18n import Language
from serving.names import ACTION_LABELS, BAND_LABELS, STATUSES, _, initials, service_name
from serving.reasons import chosen, sentence
from serving.schedule import Booking, DaySchedule, Overview, Publication, Score

PUBLISH_COMMAND = "revisit score"
METER_FULL = 0.6  # a bar is full at this chance; more than that is rare and needs no finer reading
Sort = Literal["time", "risk"]


@dataclass(frozen=True)
class RiskView:
    """One bar: `width`, `medium` and `high` are in hundredths of the bar."""

    percent: str
    band: Band
    label: str
    width: float
    medium: float
    high: float


@dataclass(frozen=True)
class ReasonView:
    """One reason in words; `direction` is +1 or -1."""

    text: str
    direction: int


@dataclass(frozen=True)
class Row:
    """One booking of the board, all in words."""

    time: str
    duration: str
    patient: str
    initials: str
    age: str
    service: str
    clinician: str
    status: str
    is_open: bool
    is_flagged: bool
    risk: RiskView | None
    reasons: tuple[ReasonView, ...]
    action: str
    action_label: str


@dataclass(frozen=True)
class Empty:
    """Why there are no rows, and what to do; `command` is for whoever runs Revisit."""

    title: str
    hint: str
    command: str = ""


@dataclass(frozen=True)
class Board:
    """The part of the page that polling replaces.

    Attributes
    ----------
    poll_href, etag : str
        Where to ask for the next state, and what this one is called.
    bookings, high, medium : int
        Bookings still to come or done (cancelled ones left out), and how many
        of those ahead lie in each band.
    expected : str
        Expected no-shows among the bookings ahead.
    as_of, published, model : str
        How old the data are and who scored them.
    """

    poll_href: str
    etag: str
    bookings: int
    high: int
    medium: int
    expected: str
    strip: Strip | None
    rows: tuple[Row, ...]
    empty: Empty | None
    as_of: str
    published: str
    model: str


@dataclass(frozen=True)
class Look:
    """How the visitor wants to see the day."""

    language: Language
    zone: ZoneInfo
    thresholds: NoShow
    is_flagged_only: bool = False
    sort: Sort = "time"
    sees: frozenset[str] = frozenset()  # fields, as serving.permissions names them


def build_board(schedule: DaySchedule, overview: Overview, look: Look, poll_href: str, etag: str) -> Board:
    """Work out the board of one clinic's day.

    Parameters
    ----------
    schedule : DaySchedule
        As read.
    overview : Overview
        What else is published; tells an empty day from a day out of range.
    look : Look
        Language, zone, thresholds, filter, order, and the fields that the visitor may see.
    poll_href, etag : str
        For polling.
    """
    entries = _ordered(schedule.entries, look.sort)
    rows = tuple(_row(booking, score, schedule.day, look) for booking, score in entries)
    flagged = tuple(row for row in rows if row.is_flagged)
    shown = flagged if look.is_flagged_only else rows
    publication = schedule.publication
    return Board(
        poll_href=poll_href,
        etag=etag,
        bookings=sum(not b.status.startswith("cancelled") and b.status != "rescheduled" for b, _s in entries),
        high=sum(row.risk is not None and row.risk.band == "high" for row in flagged),
        medium=sum(row.risk is not None and row.risk.band == "medium" for row in flagged),
        expected=f"{expected_no_shows(entries):.1f}",
        strip=strip(schedule.entries, look.zone, look.thresholds),
        rows=shown,
        empty=None if shown else _empty(bool(rows), schedule.day, overview, look.language),
        as_of=look.language.moment(publication.as_of, look.zone) if publication else "",
        published=look.language.moment(publication.published_at, look.zone) if publication else "",
        model=_models(schedule.entries, publication),
    )


def _ordered(entries: Sequence[tuple[Booking, Score | None]], sort: Sort) -> list[tuple[Booking, Score | None]]:
    if sort == "time":
        return list(entries)
    return sorted(entries, key=lambda pair: (not is_open(pair[0]), -(pair[1].probability if pair[1] else -1)))


def _row(booking: Booking, score: Score | None, day: date, look: Look) -> Row:
    say, limits = look.language, look.thresholds
    risk = band(score.probability, limits.medium_risk, limits.high_risk) if score else None
    action = suggested_action(booking, score, risk)
    ahead = is_open(booking)
    return Row(
        time=say.clock_time(booking.starts_at, look.zone) if booking.is_start_time_known else "–",
        duration=_minutes(booking.duration_minutes, say),
        patient=_patient(booking, look),
        initials=initials(booking.patient_name),
        age=_age(booking.birth_year, day, say) if "see.ages" in look.sees else "",
        service=service_name(booking.service_line, say),
        clinician=booking.clinician_id or "",
        status="" if ahead else say.text(STATUSES.get(booking.status, booking.status)),
        is_open=ahead,
        is_flagged=ahead and risk in ("medium", "high"),
        risk=_risk(score.probability, risk, look) if score and risk else None,
        reasons=reason_views(score, risk, say) if ahead else (),
        action=action,
        action_label=say.text(ACTION_LABELS[action]),
    )


def reason_views(score: Score | None, risk: Band | None, say: Language) -> tuple[ReasonView, ...]:
    """Say the reasons worth showing of a score."""
    if score is None or risk is None:
        return ()
    return tuple(ReasonView(sentence(reason, say), reason.direction) for reason in chosen(score.reasons, risk))


def _risk(probability: float, risk: Band, look: Look) -> RiskView:
    def part(value: float) -> float:
        return round(100 * min(value / METER_FULL, 1), 1)

    return RiskView(
        percent=f"{probability:.0%}",
        band=risk,
        label=look.language.text(BAND_LABELS[risk]),
        width=part(probability),
        medium=part(look.thresholds.medium_risk),
        high=part(look.thresholds.high_risk),
    )


def _patient(booking: Booking, look: Look) -> str:
    name = (
        booking.patient_name if "see.names" in look.sees or not booking.patient_name else initials(booking.patient_name)
    )
    return name or booking.patient_id


def _minutes(minutes: int | None, say: Language) -> str:
    return say.text(_("%(n)d min")) % {"n": minutes} if minutes else ""


def _age(birth_year: int | None, day: date, say: Language) -> str:
    # The day of birth is not kept, so this is the age reached in the course of the year.
    return say.text(_("age %(n)d")) % {"n": day.year - birth_year} if birth_year else ""


def _models(entries: Sequence[tuple[Booking, Score | None]], publication: Publication | None) -> str:
    shown = sorted({f"{score.model_name} v{score.model_version}" for _b, score in entries if score})
    if shown or publication is None:
        return ", ".join(shown)
    return ", ".join(f"{name} v{version}" for name, version in sorted(publication.model_versions.items()))


def _empty(has_rows: bool, day: date, overview: Overview, say: Language) -> Empty:
    if has_rows:
        return Empty(
            say.text(_("Nobody is flagged")),
            say.text(_("No booking ahead on this day is above the threshold. Nothing needs doing.")),
        )
    first, last = overview.first_day, overview.last_day
    if first is None or last is None or first <= day <= last:
        return Empty(
            say.text(_("No bookings on this day")),
            say.text(_("The clinic is closed, or nobody has booked yet. The list fills by itself.")),
        )
    if first == last:
        published = say.text(_("Bookings are published for %(day)s.")) % {"day": say.day(first)}
        return Empty(say.text(_("This day is not published")), published)
    hint = say.text(_("Bookings are published from %(first)s to %(last)s.")) % {
        "first": say.day(first),
        "last": say.day(last),
    }
    return Empty(say.text(_("This day is not published")), hint)
