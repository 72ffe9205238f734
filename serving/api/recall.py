"""``/api/v1/recall``: lists of whom to contact, what came of it, and the file for whoever calls."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Query
from fastapi import Path as InPath
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from serving import audit, recall_lists
from serving.api.schedule import ReasonAnswer
from serving.api.shapes import PREFIX, After, Limit, PageAnswer, Shape, cursor, position
from serving.clock import now
from serving.i18n import Language
from serving.permissions import needs
from serving.recall_access import asker, export_list, note_outcome, undo_outcome, version_of, whole_practice
from serving.recall_lists import Item, Outcome, RecallList
from serving.recall_reasons import sentence
from serving.web import language_of, web_of

router = APIRouter(prefix=f"{PREFIX}/recall", tags=["recall"])
ListId = Annotated[int, InPath(ge=1, le=2**31 - 1, description="Number of the list.")]
Lang = Annotated[Literal["en", "zh"] | None, Query(description="Language of the reasons.")]


class ListAnswer(Shape):
    """One list; counts are of the clinics that the asker may see."""

    list_id: int = Field(examples=[7])
    made_at: datetime
    calls: int = Field(description="Patients to be contacted, as asked for.", examples=[40])
    ranked_by: str = Field(description="recall, return_90d, or rule where no model is in use.", examples=["return_90d"])
    model_version: str | None = Field(examples=["3"])
    due: int = Field(examples=[812])
    to_contact: int = Field(examples=[40])
    held_out: int = Field(description="Left alone by chance; who they are is not said.", examples=[4])
    waiting: int = Field(examples=[426])
    excluded: dict[str, int] = Field(examples=[{"booked": 50, "no_channel": 3}])
    campaign_id: str | None = Field(examples=["RECALL-20261123-7"])
    started_at: datetime | None


class NotedAnswer(Shape):
    """What came of a contact."""

    outcome_id: int = Field(examples=[12])
    outcome: Outcome
    channel: str = Field(examples=["phone"])
    noted_at: datetime


class ItemAnswer(Shape):
    """One patient to be contacted, by the practice's own number alone."""

    patient_id: str = Field(examples=["p017"])
    clinic: str = Field(examples=["east"])
    place: int = Field(examples=[1])
    channels: list[str] = Field(description="Allowed now, the preferred first.", examples=[["phone", "sms"]])
    overdue_days: int = Field(examples=[96])
    is_long_overdue: bool
    value_band: Literal["high", "medium", "low"]
    response: float | None = Field(description="Chance to come within 90 days, if scored.", examples=[0.31])
    last_contact_at: datetime | None
    reasons: list[ReasonAnswer]
    obstacle: Literal["booked", "no_channel", "do_not_contact"] | None = Field(
        description="Why the patient may not be contacted any more."
    )
    noted: NotedAnswer | None


class Wish(Shape):
    """A list of so many patients."""

    calls: int = Field(ge=1, le=recall_lists.MOST_CALLS, examples=[40])


class WishAnswer(Shape):
    """The scorer prepares it within seconds; it is then the newest list."""

    request_id: int = Field(examples=[3])


class OutcomeWish(Shape):
    """What came of contacting a patient of a started list."""

    list_id: int = Field(ge=1, le=2**31 - 1, examples=[7])
    patient_id: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$", examples=["p017"])
    outcome: Outcome = Field(examples=["booked"])


class OutcomeAnswer(Shape):
    """Its number, to take it back."""

    outcome_id: int = Field(examples=[12])


class Nothing(Shape):
    """An empty body: ``{}``."""


@router.get("/lists")
@needs("recall.view")
async def lists(request: Request, limit: Limit = 50, after: After = None) -> PageAnswer[ListAnswer]:
    """Return the lists, the newest first."""
    web, since, who = web_of(request), position(after, int), asker(request)
    found = await web.read(recall_lists.read_lists, web.engine, who.clinics, limit + 1, since[0] if since else None)
    shown = found[:limit]
    return PageAnswer(
        items=[_list(one) for one in shown], next=cursor([shown[-1].list_id]) if len(found) > limit else None
    )


@router.post("/lists", status_code=202)
@needs("recall.start")
async def ask(request: Request, wish: Wish) -> WishAnswer:
    """Ask the scorer for a list; it takes the place of one that nobody has started."""
    web, who = web_of(request), whole_practice(request)
    number = await to_thread.run_sync(recall_lists.ask, web.engine, wish.calls, who.username, now())
    return WishAnswer(request_id=number)


@router.get("/lists/{list_id}")
@needs("recall.view")
async def one_list(request: Request, list_id: ListId) -> ListAnswer:
    """Return one list."""
    web = web_of(request)
    return _list(await web.read(recall_lists.read_list, web.engine, list_id, asker(request).clinics))


@router.post("/lists/{list_id}/start")
@needs("recall.start")
async def start(request: Request, list_id: ListId, _body: Nothing) -> ListAnswer:
    """Start the newest list: the draw of its hold-out stands from now on."""
    web, who = web_of(request), whole_practice(request)
    started = await to_thread.run_sync(recall_lists.start, web.engine, list_id, who.username, now())
    await audit.note(request, "start_recall", row_count=started.counts.contact, detail=f"list {list_id}")
    return _list(started)


@router.get("/lists/{list_id}/items")
@needs("recall.view")
async def items(
    request: Request, list_id: ListId, limit: Limit = 50, after: After = None, lang: Lang = None
) -> PageAnswer[ItemAnswer]:
    """Return whom a list says to contact, in order; consents and bookings are looked at as of now."""
    web, since, who = web_of(request), position(after, int), asker(request)
    found = await web.read(recall_lists.read_list, web.engine, list_id, who.clinics)
    whole = await web.read(recall_lists.read_items, web.engine, list_id, who.clinics, now())
    rest = [item for item in whole if since is None or item.place > since[0]]
    shown, say = rest[:limit], language_of(request, lang)
    await audit.note(request, "api_recall", row_count=len(shown), model_version=version_of(found))
    return PageAnswer(
        items=[_item(item, say) for item in shown],
        next=cursor([shown[-1].place]) if len(rest) > limit else None,
    )


@router.get(
    "/lists/{list_id}/export",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}, "application/octet-stream": {}}, "description": "The file."}},
)
@needs("recall.export")
async def export(
    request: Request,
    list_id: ListId,
    kind: Annotated[Literal["csv", "xlsx"], Query(alias="format")] = "csv",
    lang: Lang = None,
) -> Response:
    """Hand out what is left to do of a started list; refused to whose consent is gone."""
    return await export_list(request, list_id, kind, language_of(request, lang))


@router.post("/outcomes", status_code=201)
@needs("recall.note")
async def note(request: Request, wish: OutcomeWish) -> OutcomeAnswer:
    """Note what came of a contact; the newest outcome of a patient counts."""
    return OutcomeAnswer(outcome_id=await note_outcome(request, wish.list_id, wish.patient_id, wish.outcome))


@router.post("/outcomes/{outcome_id}/undo", status_code=200)
@needs("recall.note")
async def undo(
    request: Request, outcome_id: Annotated[int, InPath(ge=1, le=2**31 - 1)], _body: Nothing
) -> OutcomeAnswer:
    """Take an outcome back, until it has gone into the records."""
    await undo_outcome(request, outcome_id)
    return OutcomeAnswer(outcome_id=outcome_id)


def _list(found: RecallList) -> ListAnswer:
    counts = found.counts
    shared = {name: getattr(found, name) for name in ListAnswer.model_fields if hasattr(found, name)}
    return ListAnswer(
        due=counts.due,
        to_contact=counts.contact,
        held_out=counts.hold_out,
        waiting=counts.waiting,
        excluded=dict(counts.excluded),
        **shared,
    )


def _item(item: Item, say: Language) -> ItemAnswer:
    noted = item.noted
    shared = ("patient_id", "place", "overdue_days", "is_long_overdue", "value_band", "response", "last_contact_at")
    return ItemAnswer(
        clinic=item.clinic_id,
        channels=list(item.channels),
        reasons=[ReasonAnswer(code=r.code, direction=r.direction, text=sentence(r, say)) for r in item.reasons],
        obstacle=item.obstacle,
        noted=noted and NotedAnswer(**{name: getattr(noted, name) for name in NotedAnswer.model_fields}),
        **{name: getattr(item, name) for name in shared},
    )
