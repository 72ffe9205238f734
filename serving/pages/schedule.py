"""The front desk's page: one clinic's day, who may not come and what would help."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from urllib.parse import urlencode

from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from serving import audit
from serving.asked import Asked, asked_day
from serving.board import PUBLISH_COMMAND, Empty, Look, Sort, build_board
from serving.clock import now, today
from serving.i18n import Language
from serving.names import _
from serving.permissions import needs
from serving.render import Link, PageContext, respond
from serving.schedule import DaySchedule, Publication, read_publication
from serving.web import language_of, signed_in, web_of

router = APIRouter()
PATH = "/schedule"
LABEL = _("Schedule")
PERMISSION = "schedule.view"
POLL_SECONDS = 15
STALE_AFTER = timedelta(hours=36)


@dataclass(frozen=True)
class Choice:
    """One clinic of the list."""

    clinic_id: str
    name: str
    is_current: bool


@dataclass(frozen=True)
class SchedulePage(PageContext):
    """A clinic's day.

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
    filters, sorts : tuple of Link
        Ways to look at the day.
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
    filters: tuple[Link, ...]
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
        board = Markup(_board(request, asked, asked.schedule))  # noqa: S704 - rendered by our template
    return respond(request, _page(request, asked, board))


@router.get(PATH + "/board")
@needs(PERMISSION)
async def show_board(request: Request) -> Response:
    """Answer polling: the board alone, or 304 while nothing has changed."""
    web = web_of(request)
    publication = await web.read(read_publication, web.engine)
    chosen = request.query_params
    etag = _etag(request, publication, chosen.get("clinic", ""), chosen.get("day", ""))
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"ETag": etag})
    asked = await asked_day(request)
    if asked.schedule is None:
        return Response(status_code=204)
    await _record(request, asked, "refresh_schedule")
    content = _board(request, asked, asked.schedule)
    etag = _etag(request, asked.schedule.publication, asked.clinic_id, asked.day.isoformat())
    return HTMLResponse(content, headers={"ETag": etag})


def _board(request: Request, asked: Asked, schedule: DaySchedule) -> str:
    web, say = web_of(request), language_of(request)
    query = _query(request, asked, clinic=asked.clinic_id, day=asked.day.isoformat())
    etag = _etag(request, schedule.publication, asked.clinic_id, asked.day.isoformat())
    look = Look(
        language=say,
        zone=web.settings.zone,
        thresholds=web.settings.no_show,
        is_flagged_only=_only(request) == "flagged",
        sort=_sort(request),
        sees=_fields(request),
    )

    def render() -> str:
        board = build_board(schedule, asked.overview, look, f"{PATH}/board?{query}", etag)
        return web.renderer.partial(say.code, "_board.html", {"board": board, "poll_seconds": POLL_SECONDS})

    return web.published.answer(etag, render)


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
    return who.permissions & {"see.names", "see.ages"} if who else frozenset()


def _page(request: Request, asked: Asked, board: Markup | None) -> SchedulePage:
    web, say = web_of(request), language_of(request)
    here = today(web.settings.zone)
    return SchedulePage(
        shell=web.renderer.shell(request),
        title=say.day(asked.day),
        day=asked.day.isoformat(),
        clinic_id=asked.clinic_id,
        clinic_name=asked.overview.clinics.get(asked.clinic_id, ""),
        clinics=tuple(Choice(key, name, key == asked.clinic_id) for key, name in asked.overview.clinics.items()),
        previous=_day_link(request, asked, asked.day - timedelta(days=1), say.text(_("Previous day"))),
        next=_day_link(request, asked, asked.day + timedelta(days=1), say.text(_("Next day"))),
        today=_day_link(request, asked, here, say.text(_("Today"))),
        filters=(
            _option(request, asked, "only", "", say.text(_("Everyone"))),
            _option(request, asked, "only", "flagged", say.text(_("Flagged only"))),
        ),
        sorts=(
            _option(request, asked, "sort", "time", say.text(_("By time"))),
            _option(request, asked, "sort", "risk", say.text(_("By risk"))),
        ),
        only=_only(request),
        sort=_sort(request),
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


def _day_link(request: Request, asked: Asked, day: date, label: str) -> Link:
    return Link(label, f"{PATH}?{_query(request, asked, day=day.isoformat())}", day == asked.day)


def _option(request: Request, asked: Asked, name: str, value: str, label: str) -> Link:
    current = _only(request) if name == "only" else _sort(request)
    return Link(label, f"{PATH}?{_query(request, asked, **{name: value})}", current == value)


def _query(request: Request, asked: Asked, **changes: str) -> str:
    wanted = {
        "clinic": asked.clinic_id if len(asked.overview.clinics) > 1 else "",
        "day": asked.day.isoformat(),
        "only": _only(request),
        "sort": "" if _sort(request) == "time" else _sort(request),
    }
    wanted |= {name: "" if (name, value) == ("sort", "time") else value for name, value in changes.items()}
    return urlencode({name: value for name, value in wanted.items() if value})


def _only(request: Request) -> str:
    return "flagged" if request.query_params.get("only") == "flagged" else ""


def _sort(request: Request) -> Sort:
    return "risk" if request.query_params.get("sort") == "risk" else "time"


def _etag(request: Request, publication: Publication | None, clinic: str, day: str) -> str:
    # All that a board is made of: what is published, what was asked for, how it is drawn.
    web, who = web_of(request), signed_in(request)
    limits = web.settings.no_show
    parts = (
        web.renderer.fingerprint,
        language_of(request).code,
        publication and (publication.publication_id, publication.published_at.isoformat()),
        clinic,
        day,
        _only(request),
        _sort(request),
        limits.medium_risk,
        limits.high_risk,
        sorted(_fields(request)),
        sorted(who.clinics) if who and who.clinics is not None else "all",
    )
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"'
