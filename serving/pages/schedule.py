"""The front desk's page: one clinic's day, who may not come and what would help."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from urllib.parse import urlencode

from anyio import to_thread
from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from serving import audit
from serving.asked import Asked, asked_day
from serving.board import PUBLISH_COMMAND, Empty, Look, Only, Sort, build_board
from serving.clock import now, today
from serving.decisions import ACTIONS, FLAGS, NO_ACTION
from serving.desk_actions import DayOfDone, done_on, note_done, undo
from serving.i18n import Language
from serving.names import _
from serving.permissions import needs
from serving.problems import Problem
from serving.render import Link, PageContext, respond
from serving.schedule import DaySchedule, Publication, read_booking
from serving.web import language_of, signed_in, web_of

router = APIRouter()
PATH = "/schedule"
LABEL = _("Schedule")
PERMISSION = "schedule.view"
POLL_SECONDS = 5
_SHOWING = frozenset({"see.names", "see.ages", "see.amounts", "patient.view", "schedule.write"})
_KEPT = ("clinician", "only", "sort")
_NO_BOOKING = _("This booking is not published here.")
_NO_SUCH_ACTION = _("This is nothing that can be noted as done.")
STALE_AFTER = timedelta(hours=36)


@dataclass(frozen=True)
class Choice:
    """One clinic or clinician of a list."""

    value: str
    name: str
    is_current: bool


@dataclass(frozen=True)
class SchedulePage(PageContext):
    """A clinic's day.

    `clinicians` are those of the day; `clinician` is the chosen one. `csrf_token` is for noting what was done.

    Attributes
    ----------
    title : str
        The day in words.
    day, clinic_id, clinic_name : str
        What is shown; the day as the date field wants it.
    clinics : tuple of Choice
        To choose from.
    previous, next, today : Link
        Day navigation.
    sorts : tuple of Link
        Orders.
    only, sort : str
        The chosen filter and order, kept when the day changes.
    warning : str
        Said where the scores of a day ahead are more than a day old.
    board : Markup or None
        The rendered ``_board.html``; None while nothing is published.
    empty : Empty or None
        What to do then.
    """

    title: str
    day: str
    clinic_id: str
    clinic_name: str
    clinics: tuple[Choice, ...]
    previous: Link
    next: Link
    today: Link
    clinicians: tuple[Choice, ...]
    clinician: str
    csrf_token: str
    sorts: tuple[Link, ...]
    only: str
    sort: str
    warning: str
    board: Markup | None
    empty: Empty | None


@router.get(PATH)
@needs(PERMISSION)
async def show(request: Request) -> Response:
    """Show the whole page."""
    asked = await asked_day(request)
    board = None
    if asked.schedule is not None:
        await _record(request, asked, "view_schedule")
        content, _etag_of_it = await _board(request, asked, asked.schedule)
        board = Markup(content)  # noqa: S704 - rendered by our template
    return respond(request, _page(request, asked, board))


@router.get(PATH + "/board")
@needs(PERMISSION)
async def show_board(request: Request) -> Response:
    """Answer polling: the board alone, or 304 while nothing has changed."""
    asked = await asked_day(request)
    publication = asked.overview.publication
    if asked.schedule is not None:
        web = web_of(request)
        etag = _etag(request, asked, publication, await web.read(done_on, web.engine, asked.clinic_id, asked.day))
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"ETag": etag})
    return await _board_answer(request, asked)


@router.post(PATH + "/note")
@needs("schedule.write")
async def note(request: Request) -> Response:
    """Note that something was done about a booking, or take it back; one tap each."""
    web, form = web_of(request), request.state.form
    what, _colon, appointment_id = (form.get("done") or "").partition(":")
    undone = form.get("undo") or ""
    booking = await web.read(read_booking, web.engine, appointment_id or undone)
    who = signed_in(request)
    if booking is None or who is None or not who.sees(booking.clinic_id):
        raise Problem(404, _NO_BOOKING)
    day = booking.starts_at.astimezone(web.settings.zone).date()
    if undone:
        await to_thread.run_sync(undo, web.engine, undone, who.username, now())
    elif what in ACTIONS and what not in NO_ACTION:
        await to_thread.run_sync(note_done, web.engine, booking, day, what, who.username, now())
    else:
        raise Problem(400, _NO_SUCH_ACTION)
    await audit.note(
        request,
        "undo_action" if undone else "note_action",
        clinic_id=booking.clinic_id,
        day=day,
        patient_id=booking.patient_id,
        detail=what or None,
    )
    kept = {name: form[name] for name in _KEPT if form.get(name)} | {
        "clinic": booking.clinic_id,
        "day": day.isoformat(),
    }
    if "hx-request" not in request.headers:
        return RedirectResponse(f"{PATH}?{urlencode(kept)}", status_code=303)
    return await _board_answer(request, await asked_day(request, wanted=kept))


async def _board_answer(request: Request, asked: Asked) -> Response:
    if asked.schedule is None:
        return Response(status_code=204)
    await _record(request, asked, "refresh_schedule")
    content, etag = await _board(request, asked, asked.schedule)
    return HTMLResponse(content, headers={"ETag": etag})


async def _board(request: Request, asked: Asked, schedule: DaySchedule) -> tuple[str, str]:
    web, say = web_of(request), language_of(request)
    done = await web.read(done_on, web.engine, asked.clinic_id, asked.day)
    etag = _etag(request, asked, schedule.publication, done)
    here = {"clinic": asked.clinic_id, "day": asked.day.isoformat()}
    look = Look(
        language=say,
        zone=web.settings.zone,
        thresholds=web.settings.no_show,
        desk=web.settings.desk,
        country=web.settings.practice.country,
        only=_only(asked),
        clinician=asked.clinician,
        sort=_sort(asked),
        sees=_fields(request),
        done=done,
        filter_hrefs={only: f"{PATH}?{_query(asked, only=only)}" for only in ("", "flagged", *FLAGS)},
    )

    def render() -> str:
        board = build_board(schedule, asked.overview, look, f"{PATH}/board?{_query(asked, **here)}", etag)
        return web.renderer.partial(say.code, "_board.html", {"board": board, "poll_seconds": POLL_SECONDS})

    return web.published.answer(etag, render), etag


async def _record(request: Request, asked: Asked, action: str) -> None:
    await audit.note(
        request,
        action,
        clinic_id=asked.clinic_id,
        day=asked.day,
        row_count=len(asked.schedule.entries) if asked.schedule else 0,
        model_version=asked.model_versions,
    )


def _fields(request: Request) -> frozenset[str]:
    who = signed_in(request)
    return who.permissions & _SHOWING if who else frozenset()


def _page(request: Request, asked: Asked, board: Markup | None) -> SchedulePage:
    web, say = web_of(request), language_of(request)
    here, who = today(web.settings.zone), signed_in(request)
    return SchedulePage(
        shell=web.renderer.shell(request),
        title=say.day(asked.day),
        day=asked.day.isoformat(),
        clinic_id=asked.clinic_id,
        clinic_name=asked.overview.clinics.get(asked.clinic_id, ""),
        clinics=tuple(Choice(key, name, key == asked.clinic_id) for key, name in asked.overview.clinics.items()),
        previous=_day_link(asked, asked.day - timedelta(days=1), say.text(_("Previous day"))),
        next=_day_link(asked, asked.day + timedelta(days=1), say.text(_("Next day"))),
        today=_day_link(asked, here, say.text(_("Today"))),
        clinicians=_clinicians(asked),
        clinician=asked.clinician,
        csrf_token=who.csrf_token if who and who.may("schedule.write") else "",
        sorts=tuple(
            Link(label, f"{PATH}?{_query(asked, sort=sort)}", _sort(asked) == sort)
            for sort, label in (
                ("time", say.text(_("By time"))),
                ("risk", say.text(_("By risk"))),
                ("lapse", say.text(_("By lapse"))),
            )
        ),
        only=_only(asked),
        sort=_sort(asked),
        warning=_warning(asked, say, here),
        board=board,
        empty=None
        if board is not None
        else Empty(
            say.text(_("Nothing is published yet")),
            say.text(_("Whoever runs Revisit publishes the schedule with its scores by running:")),
            PUBLISH_COMMAND,
        ),
    )


def _warning(asked: Asked, say: Language, here: date) -> str:
    publication = asked.overview.publication
    if publication is None or asked.day < here or now() - publication.as_of <= STALE_AFTER:
        return ""
    hours = round((now() - publication.as_of) / timedelta(hours=1))
    return say.text(_("These scores are %(hours)d hours old; newer bookings and replies are not in them.")) % {
        "hours": hours
    }


def _day_link(asked: Asked, day: date, label: str) -> Link:
    return Link(label, f"{PATH}?{_query(asked, day=day.isoformat())}", day == asked.day)


def _clinicians(asked: Asked) -> tuple[Choice, ...]:
    entries = asked.schedule.entries if asked.schedule else ()
    found = {b.clinician_id: b.clinician_name or b.clinician_id for b, _score in entries if b.clinician_id}
    found |= {asked.clinician: found.get(asked.clinician, asked.clinician)} if asked.clinician else {}
    by_name = sorted(found.items(), key=lambda pair: pair[1])
    return tuple(Choice(key, name, key == asked.clinician) for key, name in by_name)


def _query(asked: Asked, **changes: str) -> str:
    wanted = {
        "clinic": asked.clinic_id if len(asked.overview.clinics) > 1 else "",
        "day": asked.day.isoformat(),
        "clinician": asked.clinician,
        "only": _only(asked),
        "sort": _sort(asked),
    } | changes
    return urlencode({name: value for name, value in wanted.items() if value and (name, value) != ("sort", "time")})


def _only(asked: Asked) -> Only:
    choices: tuple[Only, ...] = ("flagged", *FLAGS)
    return next((only for only in choices if only == asked.only), "")


def _sort(asked: Asked) -> Sort:
    sorts: tuple[Sort, ...] = ("time", "risk", "lapse")
    return next((sort for sort in sorts if sort == asked.sort), "time")


def _etag(request: Request, asked: Asked, publication: Publication | None, done: DayOfDone) -> str:
    # All that a board is made of: what is published, what was done and asked for, how it is drawn.
    web, who = web_of(request), signed_in(request)
    parts = (
        web.renderer.fingerprint,
        language_of(request).code,
        publication and (publication.publication_id, publication.published_at.isoformat()),
        done.revision,
        asked.clinic_id,
        asked.day.isoformat(),
        asked.clinician,
        _only(asked),
        _sort(asked),
        web.settings.no_show.model_dump_json(),
        web.settings.desk.model_dump_json(),
        sorted(_fields(request)),
        sorted(who.clinics) if who and who.clinics is not None else "all",
    )
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"'
