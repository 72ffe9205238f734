"""``GET /api/v1/clinics``: the clinics that are published."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request

from serving.api.shapes import PREFIX, After, Limit, PageAnswer, Shape, cursor, position
from serving.asked import overview_for
from serving.permissions import needs

router = APIRouter(prefix=PREFIX, tags=["schedule"])


class ClinicAnswer(Shape):
    """One clinic."""

    clinic: str = Field(description="The practice's own number or name of the clinic.", examples=["east"])
    name: str = Field(examples=["East Street"])


@router.get("/clinics")
@needs("schedule.view")
async def clinics(request: Request, limit: Limit = 50, after: After = None) -> PageAnswer[ClinicAnswer]:
    """Return the clinics that the asker may see, by their number."""
    found = sorted((await overview_for(request)).clinics.items())
    since = position(after, str)
    rest = [pair for pair in found if since is None or pair[0] > since[0]]
    shown = rest[:limit]
    return PageAnswer(
        items=[ClinicAnswer(clinic=key, name=name) for key, name in shown],
        next=cursor([shown[-1][0]]) if len(rest) > limit else None,
    )
