"""The day's board: what the schedule page shows, worked out before any template runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from features.settings import Desk, NoShow
from serving.day_strip import Strip, strip
from serving.decisions import (
    FLAGS,
    NO_ACTION,
    Band,
    Flag,
    band,
    expected_no_shows,
    flags_of,
    is_open,
    suggested_action,
)
from serving.desk_actions import DayOfDone
from serving.explanation import Reason
from serving.flags import FLAG_LABELS, FlagView, flag_views
from serving.i18n import Language
from serving.names import ACTION_LABELS, BAND_LABELS, STATUSES, _, initials, service_name
from serving.patients import LAPSE, Standing
from serving.reasons import chosen, sentence
from serving.schedule import Booking, DaySchedule, Overview, Publication, Score

PUBLISH_COMMAND = "revisit score"
METER_FULL = 0.6  # a bar is full at this chance; more than that is rare and needs no finer reading
Sort = Literal["time", "risk", "lapse"]
Only = Literal["", "flagged"] | Flag
WATCHED: frozenset[Flag] = frozenset({"no_show", "lapse", "overdue", "unanswered"})  # the others are no worry
NOBODY_DONE = DayOfDone((0, 0), {})


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
    """One booking of the board, all in words.

    Attributes
    ----------
    appointment_id : str
        For noting what was done.
    href : str
        The patient's page; empty where the visitor may not open it.
    initials, avatar : str
        For paper; and the letter in the circle.
    is_open, is_flagged, has_action : bool
        Whether the booking is ahead; whether somebody may be lost; whether something would help.
    flags : tuple of str
        Codes, the booking's own risk included.
    chips : tuple of FlagView
        The patient's flags in words.
    done : str
        Who noted when that it was done; empty while it is not.
    """

    appointment_id: str
    href: str
    time: str
    duration: str
    patient: str
    initials: str
    avatar: str
    age: str
    service: str
    clinician: str
    status: str
    is_open: bool
    is_flagged: bool
    has_action: bool
    flags: tuple[Flag, ...]
    chips: tuple[FlagView, ...]
    risk: RiskView | None
    reasons: tuple[ReasonView, ...]
    action: str
    action_label: str
    done: str


@dataclass(frozen=True)
class Empty:
    """Why there are no rows, and what to do; `command` is for whoever runs Revisit."""

    title: str
    hint: str
    command: str = ""


@dataclass(frozen=True)
class FlagCount:
    """How many bookings carry a flag, and where to see them alone."""

    code: str
    label: str
    count: int
    href: str
    is_current: bool


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
    counts : tuple of FlagCount
        The filter: everybody, those who may be lost, each flag.
    can_note : bool
        Whether the visitor may note what was done.
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
    counts: tuple[FlagCount, ...]
    can_note: bool
    rows: tuple[Row, ...]
    empty: Empty | None
    as_of: str
    published: str
    model: str


@dataclass(frozen=True)
class Look:
    """How the visitor wants to see the day, and may."""

    language: Language
    zone: ZoneInfo
    thresholds: NoShow
    desk: Desk = field(default_factory=Desk)
    country: str = "CN"
    only: Only = ""
    clinician: str = ""
    sort: Sort = "time"
    sees: frozenset[str] = frozenset()  # permissions, as serving.permissions names them
    done: DayOfDone = NOBODY_DONE
    filter_hrefs: Mapping[str, str] = field(default_factory=dict)  # by what is shown


def build_board(schedule: DaySchedule, overview: Overview, look: Look, poll_href: str, etag: str) -> Board:
    """Work out the board of one clinic's day.

    Parameters
    ----------
    schedule : DaySchedule
        As read.
    overview : Overview
        What else is published; tells an empty day from a day out of range.
    look : Look
        Language, zone, thresholds, filter, order, and what the visitor may see and do.
    poll_href, etag : str
        For polling.
    """
    entries = [pair for pair in schedule.entries if look.clinician in ("", pair[0].clinician_id)]
    rows = tuple(_row(booking, score, schedule, look) for booking, score in _ordered(entries, schedule, look.sort))
    shown = tuple(row for row in rows if _is_shown(row, look.only))
    publication = schedule.publication
    at_risk = [row.risk.band for row in rows if row.risk and "no_show" in row.flags]
    return Board(
        poll_href=poll_href,
        etag=etag,
        bookings=sum(not b.status.startswith("cancelled") and b.status != "rescheduled" for b, _s in entries),
        high=at_risk.count("high"),
        medium=at_risk.count("medium"),
        expected=f"{expected_no_shows(entries):.1f}",
        strip=strip(entries, look.zone, look.thresholds),
        counts=_counts(rows, look),
        can_note="schedule.write" in look.sees,
        rows=shown,
        empty=None if shown else _empty(bool(rows), schedule.day, overview, look.language),
        as_of=look.language.moment(publication.as_of, look.zone) if publication else "",
        published=look.language.moment(publication.published_at, look.zone) if publication else "",
        model=_models(schedule, publication),
    )


def _is_shown(row: Row, only: Only) -> bool:
    return only == "" or (row.is_flagged if only == "flagged" else only in row.flags)


def _counts(rows: Sequence[Row], look: Look) -> tuple[FlagCount, ...]:
    labels: dict[Only, str] = {"": _("Everyone"), "flagged": _("Flagged only")}
    labels |= {flag: FLAG_LABELS[flag] for flag in FLAGS}
    found = ((only, label, sum(_is_shown(row, only) for row in rows)) for only, label in labels.items())
    return tuple(
        FlagCount(only, look.language.text(label), count, look.filter_hrefs.get(only, ""), only == look.only)
        for only, label, count in found
    )


def _ordered(
    entries: Sequence[tuple[Booking, Score | None]], schedule: DaySchedule, sort: Sort
) -> list[tuple[Booking, Score | None]]:
    def of_lapse(booking: Booking) -> float:
        standing = schedule.patients.get(booking.patient_id)
        score = standing.scores.get(LAPSE) if standing else None
        if score is None:
            return -1
        return float(score.is_at_risk) if score.probability is None else score.probability

    if sort == "time":
        return list(entries)
    if sort == "lapse":
        return sorted(entries, key=lambda pair: -of_lapse(pair[0]))
    return sorted(entries, key=lambda pair: (not is_open(pair[0]), -(pair[1].probability if pair[1] else -1)))


def _row(booking: Booking, score: Score | None, schedule: DaySchedule, look: Look) -> Row:
    say, limits = look.language, look.thresholds
    standing = schedule.patients.get(booking.patient_id)
    risk = band(score.probability, limits.medium_risk, limits.high_risk) if score else None
    flags = flags_of(booking, risk, standing, look.desk)
    action = suggested_action(booking, score, risk, flags, standing)
    ahead, name = is_open(booking), _patient(booking, look)
    return Row(
        appointment_id=booking.appointment_id,
        href=f"/patient?{urlencode({'id': booking.patient_id})}" if "patient.view" in look.sees and standing else "",
        time=say.clock_time(booking.starts_at, look.zone) if booking.is_start_time_known else "–",
        duration=_minutes(booking.duration_minutes, say),
        patient=name,
        initials=initials(booking.patient_name),
        avatar=name[:1].upper(),
        age=_age(booking.birth_year, schedule.day, say) if "see.ages" in look.sees else "",
        service=service_name(booking.service_line, say),
        clinician=booking.clinician_name or booking.clinician_id or "",
        status="" if ahead else say.text(STATUSES.get(booking.status, booking.status)),
        is_open=ahead,
        is_flagged=bool(set(flags) & WATCHED),
        has_action=action not in NO_ACTION,
        flags=flags,
        chips=flag_views(flags, standing, say, look.country if "see.amounts" in look.sees else None),
        risk=_risk(score.probability, risk, look) if score and risk else None,
        reasons=_reasons(score if ahead else None, risk, flags, standing, say),
        action=action,
        action_label=say.text(ACTION_LABELS[action]),
        done=_done(booking, look),
    )


def _reasons(
    score: Score | None, risk: Band | None, flags: Sequence[Flag], standing: Standing | None, say: Language
) -> tuple[ReasonView, ...]:
    """Of the booking's risk; of lapsing where that alone is raised."""
    if "no_show" not in flags and "lapse" in flags and standing:
        return reason_views(standing.scores[LAPSE].reasons, "high", say)
    return reason_views(score.reasons if score else (), risk, say)


def _done(booking: Booking, look: Look) -> str:
    done = look.done.by_booking.get(booking.appointment_id)
    if done is None:
        return ""
    what = look.language.text(ACTION_LABELS.get(done.action, done.action))
    return look.language.text(_("%(what)s: done %(time)s, %(who)s")) % {
        "what": what,
        "time": look.language.clock_time(done.done_at, look.zone),
        "who": done.done_by,
    }


def reason_views(reasons: Iterable[Reason], risk: Band | None, say: Language) -> tuple[ReasonView, ...]:
    """Say the reasons worth showing of a score."""
    if risk is None:
        return ()
    return tuple(ReasonView(sentence(reason, say), reason.direction) for reason in chosen(reasons, risk))


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


def _models(schedule: DaySchedule, publication: Publication | None) -> str:
    shown = {f"{score.model_name} v{score.model_version}" for _b, score in schedule.entries if score}
    if not shown and publication is not None:
        shown = {f"{name} v{version}" for name, version in publication.model_versions.items()}
    lapse = [standing.scores[LAPSE] for standing in schedule.patients.values() if LAPSE in standing.scores]
    shown |= {f"{LAPSE} v{score.model_version}" for score in lapse if score.kind == "model"}
    return ", ".join(sorted(shown))


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
