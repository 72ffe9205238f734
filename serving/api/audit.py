"""``GET /api/v1/audit``: who saw or exported what."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request

from serving import audit
from serving.api.shapes import PREFIX, After, Limit, PageAnswer, Shape, cursor, position
from serving.permissions import needs
from serving.web import web_of

router = APIRouter(prefix=PREFIX, tags=["audit"])
_Text = Annotated[str | None, Query(max_length=80, pattern=r"^[^\x00]*$")]


class ActAnswer(Shape):
    """One act; `patient_id` is null where it was a list, or the patient's data are deleted."""

    audit_id: int
    at: datetime
    username: str | None = Field(examples=["mei"])
    action: str = Field(examples=["view_schedule"])
    clinic: str | None = Field(examples=["east"])
    day: date | None
    row_count: int | None = Field(examples=[80])
    model_version: str | None = Field(examples=["no_show_evening v3"])
    patient_id: str | None
    detail: str | None


@router.get("/audit")
@needs("audit.view")
async def acts(
    request: Request, limit: Limit = 50, after: After = None, username: _Text = None, action: _Text = None
) -> PageAnswer[ActAnswer]:
    """Return the audit log, the newest act first."""
    web, since = web_of(request), position(after, int)
    before = since[0] if since else None
    found = await web.read(audit.read, web.engine, limit + 1, before, username=username, action=action)
    shown = found[:limit]
    return PageAnswer(
        items=[_answer(entry) for entry in shown],
        next=cursor([shown[-1].audit_id]) if len(found) > limit else None,
    )


def _answer(entry: audit.Entry) -> ActAnswer:
    act = entry.act
    return ActAnswer(
        audit_id=entry.audit_id,
        at=act.at,
        username=act.username,
        action=act.action,
        clinic=act.clinic_id,
        day=act.day,
        row_count=act.row_count,
        model_version=act.model_version,
        patient_id=act.patient_id,
        detail=act.detail,
    )
