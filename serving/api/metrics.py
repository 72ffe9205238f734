"""``GET /metrics``: for Prometheus, with a key whose scope is ``metrics.view``."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from serving.permissions import needs
from serving.schedule import read_publication
from serving.web import web_of

router = APIRouter()


@router.get("/metrics")
@needs("metrics.view")
async def metrics(request: Request) -> Response:
    """Return counts and times of this worker."""
    web = web_of(request)
    publication = await web.read(read_publication, web.engine)
    return Response(web.metrics.text(publication), media_type=CONTENT_TYPE_LATEST)
