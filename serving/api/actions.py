"""``/api/v1/actions``: note what was done about a booking, or take it back; for people who are signed in."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request

from serving import audit
from serving.api.shapes import BODY_ERRORS, PREFIX, Shape
from serving.clock import now
from serving.decisions import NO_ACTION, Action
from serving.desk_actions import note_done, undo
from serving.permissions import needs
from serving.problems import Problem
from serving.schedule import read_booking
from serving.web import signed_in, web_of

router = APIRouter(prefix=PREFIX, tags=["schedule"])


class ActionBody(Shape):
    """What was done about which booking; null takes back what stands."""

    appointment_id: Annotated[str, Field(max_length=200, examples=["a002"])]
    action: Action | None = Field(examples=["confirm_by_phone"])


class ActionAnswer(Shape):
    """What stands now."""

    appointment_id: str = Field(examples=["a002"])
    action: Action | None = Field(examples=["confirm_by_phone"])


@router.post("/actions", responses=BODY_ERRORS)
@needs("schedule.write")
async def post_action(request: Request, body: ActionBody) -> ActionAnswer:
    """Note that something was done about a booking, or take it back."""
    web, who, at = web_of(request), signed_in(request), now()
    booking = await web.read(read_booking, web.engine, body.appointment_id)
    if booking is None or who is None or not who.sees(booking.clinic_id):
        raise Problem(404, "This booking is not published here.")
    if body.action in NO_ACTION:
        raise Problem(422, "This is nothing that can be noted as done.")
    day = booking.starts_at.astimezone(web.settings.zone).date()
    if body.action is None:
        await to_thread.run_sync(undo, web.engine, booking.appointment_id, who.username, at)
    else:
        await to_thread.run_sync(note_done, web.engine, booking, day, body.action, who.username, at)
    what = "undo_action" if body.action is None else "note_action"
    await audit.note(
        request, what, clinic_id=booking.clinic_id, day=day, patient_id=booking.patient_id, detail=body.action
    )
    return ActionAnswer(appointment_id=booking.appointment_id, action=body.action)
