"""The recall list: whom to call this week, why, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from serving import audit, recall_lists
from serving.auth import SignedIn
from serving.board import Empty
from serving.clock import now
from serving.i18n import Language
from serving.names import _
from serving.permissions import needs
from serving.problems import Problem
from serving.recall_access import (
    asker,
    export_list,
    look_of,
    note_outcome,
    undo_outcome,
    version_of,
    whole_practice,
)
from serving.recall_board import Exclusion, Progress, Row, exclusions, progress, row, rows
from serving.recall_lists import OUTCOMES, Item, RecallList
from serving.recall_words import RANKED_BY
from serving.render import Link, PageContext, respond
from serving.web import language_of, web_of

router = APIRouter()
PATH = "/recall"
LABEL = _("Recall")
PERMISSION = "recall.view"
COMMAND = "revisit nightly"
LISTS_SHOWN = 8
_NO_OUTCOME = _("Choose what came of it.")
_NOT_A_NUMBER = _("A list holds 1 to 500 patients.")


@dataclass(frozen=True)
class RecallPage(PageContext):
    """One list.

    Attributes
    ----------
    title, subtitle, ranked_by, problem : str
        In words.
    csrf_token : str
        Of the page's forms.
    list_id, calls, due, kept_off, waiting, hold_out : int
        Counts of the list.
    is_started, is_newest, is_waiting : bool
        Whether it is being worked on; none is newer; the scorer prepares another.
    can_start, can_size, can_export, can_note : bool
        What the visitor may do now.
    lists, filters : tuple of Link
        Other lists, and ways to look at this one.
    rows, exclusions, progress
        See `serving.recall_board`.
    empty : Empty or None
        Said where there is nothing to show.
    """

    title: str
    subtitle: str
    ranked_by: str
    problem: str
    csrf_token: str
    list_id: int
    calls: int
    due: int
    kept_off: int
    waiting: int
    hold_out: int
    is_started: bool
    is_newest: bool
    is_waiting: bool
    can_start: bool
    can_size: bool
    can_export: bool
    can_note: bool
    lists: tuple[Link, ...]
    filters: tuple[Link, ...]
    rows: tuple[Row, ...]
    exclusions: tuple[Exclusion, ...]
    progress: Progress
    empty: Empty | None


@router.get(PATH)
@needs(PERMISSION)
async def show(request: Request) -> Response:
    """Show a list, the newest by default."""
    web, who = web_of(request), asker(request)
    lists = await web.read(recall_lists.read_lists, web.engine, who.clinics, LISTS_SHOWN)
    chosen = await _chosen(request, who, lists)
    items = await web.read(recall_lists.read_items, web.engine, chosen.list_id, who.clinics, now()) if chosen else []
    if chosen:
        await audit.note(request, "view_recall", row_count=len(items), model_version=version_of(chosen))
    return respond(request, await _page(request, who, chosen, lists, items))


@router.get(PATH + "/waiting")
@needs(PERMISSION)
async def waiting(request: Request) -> Response:
    """Answer polling while a list is being prepared: nothing yet, or the page anew."""
    web = web_of(request)
    wish = await web.read(recall_lists.newest_request, web.engine)
    is_open = wish is not None and wish.finished_at is None
    return Response(status_code=204) if is_open else Response(headers={"HX-Redirect": PATH})


@router.post(PATH + "/ask")
@needs("recall.start")
async def ask(request: Request) -> Response:
    """Ask for a list of so many patients."""
    calls = request.state.form.get("calls", "")
    if not (calls.isascii() and calls.isdigit()) or len(calls) > 3:
        raise Problem(400, _NOT_A_NUMBER)
    web, who = web_of(request), whole_practice(request)
    await to_thread.run_sync(recall_lists.ask, web.engine, int(calls), who.username, now())
    return RedirectResponse(PATH, status_code=303)


@router.post(PATH + "/start")
@needs("recall.start")
async def start(request: Request) -> Response:
    """Start a list."""
    web, who, number = web_of(request), whole_practice(request), _number(request.state.form.get("list", ""))
    started = await to_thread.run_sync(recall_lists.start, web.engine, number, who.username, now())
    await audit.note(request, "start_recall", row_count=started.counts.contact, detail=f"list {number}")
    return RedirectResponse(f"{PATH}?list={number}", status_code=303)


@router.post(PATH + "/note")
@needs("recall.note")
async def note(request: Request) -> Response:
    """Note what came of a contact."""
    form, web, who = request.state.form, web_of(request), asker(request)
    outcome = next((code for code in OUTCOMES if code == form.get("outcome")), None)
    if outcome is None:
        raise Problem(400, _NO_OUTCOME)
    number, patient = _number(form.get("list", "")), form.get("patient", "")
    await note_outcome(request, number, patient, outcome)
    return await _changed(request, who, web.engine, number, patient)


@router.post(PATH + "/undo")
@needs("recall.note")
async def undo(request: Request) -> Response:
    """Take an outcome back."""
    web, who = web_of(request), asker(request)
    number, patient = await undo_outcome(request, _number(request.state.form.get("noted", "")))
    return await _changed(request, who, web.engine, number, patient)


@router.get(PATH + "/export")
@needs("recall.export")
async def export(request: Request) -> Response:
    """Hand out what is left to do of a started list, as CSV or Excel."""
    kind = request.query_params.get("format", "csv")
    return await export_list(request, _number(request.query_params.get("list", "")), kind, language_of(request))


async def _chosen(request: Request, who: SignedIn, lists: list[RecallList]) -> RecallList | None:
    asked, web = request.query_params.get("list"), web_of(request)
    if not asked:
        return lists[0] if lists else None
    return await web.read(recall_lists.read_list, web.engine, _number(asked), who.clinics)


async def _changed(request: Request, who: SignedIn, engine: Any, list_id: int, patient_id: str) -> Response:
    """Answer htmx with the row and the progress as they are now; others with the page."""
    if request.headers.get("hx-request") != "true":
        return RedirectResponse(f"{PATH}?list={list_id}", status_code=303)
    web, say = web_of(request), language_of(request)
    items = await web.read(recall_lists.read_items, engine, list_id, who.clinics, now())
    look = await look_of(request, who, say, can_note=True)
    shown = next(item for item in items if item.patient_id == patient_id)
    values = {"row": row(shown, look), "csrf_token": who.csrf_token, "is_started": True, "progress": progress(items)}
    return HTMLResponse(web.renderer.partial(say.code, "_recall_changed.html", values))


async def _page(
    request: Request, who: SignedIn, chosen: RecallList | None, lists: list[RecallList], items: list[Item]
) -> RecallPage:
    web, say = web_of(request), language_of(request)
    wish = await web.read(recall_lists.newest_request, web.engine)
    is_waiting = wish is not None and wish.finished_at is None
    is_newest = chosen is None or chosen.list_id == lists[0].list_id
    is_started = chosen is not None and chosen.started_at is not None
    can_size = who.may("recall.start") and who.clinics is None
    look = await look_of(request, who, say, can_note=is_started and who.may("recall.note"))
    shown = rows(items, look)
    only = request.query_params.get("only", "")
    counts = chosen.counts if chosen else recall_lists.Counts()
    visible = tuple(one for one in shown if _fits(one, only))
    return RecallPage(
        shell=web.renderer.shell(request),
        title=say.text(_("Whom to call this week")),
        subtitle=_subtitle(chosen, say, request),
        ranked_by=say.text(RANKED_BY[chosen.ranked_by]) if chosen else "",
        problem=say.text(_("The last list could not be made: %(why)s")) % {"why": wish.problem}
        if wish and wish.problem and wish.problem != "replaced"
        else "",
        csrf_token=who.csrf_token,
        list_id=chosen.list_id if chosen else 0,
        calls=chosen.calls if chosen else web.settings.recall.calls_per_week,
        due=counts.due,
        kept_off=counts.kept_off,
        waiting=counts.waiting,
        hold_out=counts.hold_out,
        is_started=is_started,
        is_newest=is_newest,
        is_waiting=is_waiting,
        can_start=can_size and chosen is not None and not is_started and is_newest and bool(items) and not is_waiting,
        can_size=can_size,
        can_export=is_started and who.may("recall.export"),
        can_note=look.can_note,
        lists=tuple(_list_link(one, chosen, say, request) for one in lists) if len(lists) > 1 else (),
        filters=tuple(_filter(only, code, label, chosen, say) for code, label in _FILTERS),
        rows=visible,
        exclusions=exclusions(counts, say),
        progress=progress(items),
        empty=None if visible else _empty(chosen, bool(items), say, can_size=can_size),
    )


_FILTERS = (("", _("Everyone")), ("open", _("To do")), ("done", _("Done")), ("overdue", _("Long overdue")))


def _fits(one: Row, only: str) -> bool:
    kinds = {"open": not one.is_done, "done": one.is_done, "overdue": one.is_long_overdue}
    return kinds.get(only, True)


def _filter(only: str, code: str, label: str, chosen: RecallList | None, say: Language) -> Link:
    wanted = {"list": str(chosen.list_id) if chosen else "", "only": code}
    query = urlencode({name: value for name, value in wanted.items() if value})
    return Link(say.text(label), f"{PATH}?{query}" if query else PATH, only == code)


def _list_link(one: RecallList, chosen: RecallList | None, say: Language, request: Request) -> Link:
    day = (one.started_at or one.made_at).astimezone(web_of(request).settings.zone).date()
    label = say.text(_("Started %(day)s")) if one.started_at else say.text(_("Prepared %(day)s"))
    return Link(
        label % {"day": say.short_day(day)},
        f"{PATH}?list={one.list_id}",
        chosen is not None and one.list_id == chosen.list_id,
    )


def _subtitle(chosen: RecallList | None, say: Language, request: Request) -> str:
    if chosen is None:
        return ""
    zone = web_of(request).settings.zone
    if chosen.started_at is None:
        return say.text(_("Prepared %(moment)s, not started")) % {"moment": say.moment(chosen.made_at, zone)}
    return say.text(_("Started %(moment)s")) % {"moment": say.moment(chosen.started_at, zone)}


def _empty(chosen: RecallList | None, has_items: bool, say: Language, *, can_size: bool) -> Empty:
    if has_items:
        return Empty(say.text(_("Nobody here")), say.text(_("No patient of this list fits. Choose another view.")))
    if chosen is not None:
        hint = say.text(_("Whoever is due has a booking, was contacted lately, or may not be contacted. See below."))
        return Empty(say.text(_("Nobody to call")), hint)
    hint = say.text(_("The night's run prepares one. Whoever runs Revisit can start it now:"))
    if can_size:
        hint = say.text(_("Prepare one above; it takes a few seconds. The night's run does the same:"))
    return Empty(say.text(_("There is no list yet")), hint, COMMAND)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise Problem(404, recall_lists.NOT_THERE)
    return int(text)
