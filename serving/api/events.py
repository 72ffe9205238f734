"""``/api/v1/events``: what happened in the practice's own system, the moment it happened."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import Field, StringConstraints
from starlette.requests import Request

from features.records.tables import TABLES
from serving import open_dental_events
from serving.api.shapes import PREFIX, After, Limit, Moment, PageAnswer, Shape, cursor, position
from serving.clock import now
from serving.permissions import needs
from serving.problems import Problem
from serving.received import OUTDATED, Received, Sent, read_received, receive
from serving.web import signed_in, web_of

router = APIRouter(prefix=PREFIX, tags=["events"])
MOST = 100
LONGEST_TEXT = 200
Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT, pattern=r"^[^\x00]*$")]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
EventNumber = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,100}$")]
_ROWS = {"content": {"application/json": {"schema": {"oneOf": [{"type": "object"}, {"type": "array"}]}}}}
_CLINIC = Query(max_length=100, pattern=r"^[^\x00]+$", description="Name of the clinic where clinics are not used.")


class EventBody(Shape):
    """One event: columns of one table of the data contract, those that changed being enough."""

    id: EventNumber = Field(description="Your own number of the event; sent again, it counts once.", examples=["e-17"])
    table: Literal["appointments", "communications", "plan_items"]
    row: dict[str, Text | bool | Whole | None] = Field(
        description="`patient_id`, the table's key, and the columns that changed; moments in ISO 8601.",
        examples=[{"appointment_id": "a17", "patient_id": "p3", "status": "no_show"}],
    )
    happened_at: Moment | None = Field(
        default=None, description="When your system recorded it; older news does not undo newer."
    )


class EventsBody(Shape):
    """Events in their order."""

    events: list[EventBody] = Field(min_length=1, max_length=MOST)


class EventAnswer(Shape):
    """What became of an event."""

    id: str = Field(examples=["e-17"])
    state: Literal["waiting", "done", "failed", "outdated"]
    is_new: bool = Field(description="False if it had come before.")
    problem: str | None = Field(description="Why it failed.")
    received_at: datetime
    finished_at: datetime | None


class EventsAnswer(Shape):
    """What became of the events sent, in their order."""

    events: list[EventAnswer]


class OpenDentalAnswer(Shape):
    """How many of a message's rows were taken in, known before, late, of no use, or lacked a number or a time."""

    taken: int
    known: int
    outdated: int
    unused: int
    broken: int


@router.post("/events", status_code=202)
@needs("events.write")
async def send(request: Request, body: EventsBody) -> EventsAnswer:
    """Take events in; the scorer records them and changes the flags within seconds."""
    web, source = web_of(request), _source(request)
    sent = [_sent(event) for event in body.events]
    found = await to_thread.run_sync(receive, web.engine, source, sent, now())
    return EventsAnswer(events=[_answer(one) for one in found])


@router.get("/events")
@needs("events.write")
async def sent_before(request: Request, limit: Limit = 50, after: After = None) -> PageAnswer[EventAnswer]:
    """Return what became of the events that this key has sent, the newest first."""
    web, since = web_of(request), position(after, int)
    found = await web.read(read_received, web.engine, _source(request), limit + 1, since[0] if since else None)
    shown = found[:limit]
    return PageAnswer(
        items=[_answer(one) for one in shown], next=cursor([shown[-1].number]) if len(found) > limit else None
    )


@router.post("/events/open-dental", status_code=202, openapi_extra={"requestBody": _ROWS})
@needs("events.write")
async def send_open_dental(
    request: Request,
    single_clinic: Annotated[str, _CLINIC] = "main",
    broken_without_code: Literal["no_show", "cancelled_late"] = "no_show",
) -> OpenDentalAnswer:
    """Take in what Open Dental's API events send; all but numbers, times and states is dropped."""
    web, source = web_of(request), _source(request)
    conventions = open_dental_events.Conventions(web.settings.zone, single_clinic, broken_without_code)
    event_type = request.headers.get("event-type", "")[:100]
    at = now()
    message = await to_thread.run_sync(_read, request.state.body, event_type, conventions, at)
    found = await to_thread.run_sync(receive, web.engine, source, message.events, at)
    count = Counter("known" if not one.is_new else one.state for one in found)
    return OpenDentalAnswer(
        taken=len(found) - count["known"] - count[OUTDATED],
        known=count["known"],
        outdated=count[OUTDATED],
        unused=message.unused,
        broken=message.broken,
    )


def _read(
    body: bytes, event_type: str, conventions: open_dental_events.Conventions, at: datetime
) -> open_dental_events.Message:
    try:
        return open_dental_events.read(json.loads(body), event_type, conventions, at)
    except (ValueError, RecursionError):
        raise Problem(
            400, f"Expected a row of Open Dental's, or a list of at most {open_dental_events.MOST}, as JSON."
        ) from None


def _source(request: Request) -> str:
    who = signed_in(request)
    if who is None or who.clinics is not None:
        raise Problem(403, "Events need a key for all clinics; make one without --clinics.", "not_allowed")
    return who.username


def _sent(event: EventBody) -> Sent:
    table = TABLES[event.table]
    needed = {table.key, "patient_id"}
    allowed = {column.name for column in table.columns if not column.is_personal}
    if not needed <= event.row.keys() <= allowed or not all(event.row[name] for name in needed):
        raise Problem(
            422,
            f"An event of {table.name} has {' and '.join(sorted(needed))}, and columns out of "
            f"{', '.join(table.column_names)}.",
        )
    return Sent(event.id, event.table, event.row, event.happened_at)


def _answer(one: Received) -> EventAnswer:
    return EventAnswer(
        id=one.event_id,
        state=one.state,
        is_new=one.is_new,
        problem=one.problem,
        received_at=one.received_at,
        finished_at=one.finished_at,
    )
