"""What the recall page and the recall API share: who asks, what they may do, and its place in the audit log."""

from __future__ import annotations

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from serving import audit, recall_lists
from serving.auth import SignedIn
from serving.clock import now
from serving.i18n import Language
from serving.names import _
from serving.problems import Problem
from serving.recall_board import Look
from serving.recall_export import FORMATS, exported
from serving.recall_lists import Outcome, RecallList
from serving.web import signed_in, web_of

_WHOLE_PRACTICE = _("Lists are made for the whole practice; ask somebody who sees all of its clinics.")


async def export_list(request: Request, list_id: int, kind: str, say: Language) -> Response:
    """Export a list; consents and bookings are looked at as of now, and the export is audited before it is made.

    Raises
    ------
    Problem
        400 for another format, 409 for a list that was not started.
    """
    if kind not in FORMATS:
        raise Problem(400, "The format must be csv or xlsx.")
    web, who, at = web_of(request), asker(request), now()
    found = await web.read(recall_lists.read_list, web.engine, list_id, who.clinics)
    if found.started_at is None:
        raise Problem(409, recall_lists.NOT_STARTED)
    items = await web.read(recall_lists.read_items, web.engine, list_id, who.clinics, at)
    ready = [item for item in items if item.noted is None and item.obstacle is None]
    left_out = sum(item.noted is None and item.obstacle is not None for item in items)
    detail = f"{kind}, list {list_id}, {left_out} left out by consent or booking"
    await audit.note(request, "export_recall", row_count=len(ready), model_version=version_of(found), detail=detail)
    look = await look_of(request, who, say)
    content = await to_thread.run_sync(exported, kind, ready, look)
    name = f"recall-{list_id}-{at.astimezone(web.settings.zone):%Y%m%d}.{kind}"
    return Response(
        content, media_type=FORMATS[kind], headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


async def note_outcome(request: Request, list_id: int, patient_id: str, outcome: Outcome) -> int:
    """Note an outcome for whoever asks; returns its number."""
    web, who = web_of(request), asker(request)
    number = await to_thread.run_sync(
        recall_lists.note, web.engine, list_id, patient_id, outcome, who.username, now(), who.clinics
    )
    await audit.note(request, "note_recall", patient_id=patient_id, detail=f"list {list_id}, {outcome}")
    return number


async def undo_outcome(request: Request, outcome_id: int) -> tuple[int, str]:
    """Take an outcome back for whoever asks; returns the list's number and the patient's."""
    web, who = web_of(request), asker(request)
    list_id, patient_id = await to_thread.run_sync(
        recall_lists.undo, web.engine, outcome_id, who.username, now(), who.clinics
    )
    await audit.note(request, "undo_recall", patient_id=patient_id, detail=f"list {list_id}")
    return list_id, patient_id


def asker(request: Request) -> SignedIn:
    """Return who asks; the guard let nobody else through."""
    who = signed_in(request)
    if who is None:
        raise Problem(401, "Sign in first.")
    return who


def whole_practice(request: Request) -> SignedIn:
    """Return who asks, if they see all clinics: lists are of the whole practice."""
    who = asker(request)
    if who.clinics is not None:
        raise Problem(403, _WHOLE_PRACTICE)
    return who


def version_of(found: RecallList) -> str | None:
    """Name the model behind a list, for the audit log."""
    return f"{found.ranked_by} v{found.model_version}" if found.model_version else None


async def look_of(request: Request, who: SignedIn, say: Language, *, can_note: bool = False) -> Look:
    """How this visitor sees a list."""
    web = web_of(request)
    clinics = (await web.read(web.published.overview)).clinics
    return Look(say, web.settings.zone, clinics, who.permissions, can_note)
