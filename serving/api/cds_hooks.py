"""CDS Hooks 2.0 under ``/cds-services``: discovery, two services, feedback."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serving.cards import (
    SERVICES,
    Cards,
    FeedbackRequest,
    HookRequest,
    Services,
    describe,
    keep_feedback,
    make_cards,
)
from serving.clock import now
from serving.permissions import OPEN, needs
from serving.problems import Problem
from serving.standing import asked_answers
from serving.web import accepted_language, signed_in, web_of

router = APIRouter(prefix="/cds-services", tags=["cds hooks"])
ServiceId = Literal["revisit-patient-view", "revisit-appointment-book"]


@router.get("")
@needs(OPEN)
async def services(request: Request) -> Services:
    """Return the services; the language follows ``Accept-Language``."""
    return describe(accepted_language(request))


@router.post("/{service}", response_model_exclude_none=True)
@needs("patient.view")
async def call(request: Request, service: ServiceId, hook: HookRequest) -> Cards:
    """Return cards: bookings that may be missed, a patient who may not come back."""
    expected = SERVICES[service][0]
    if hook.hook != expected:
        raise Problem(400, f"The service {service} answers the hook {expected}.")
    found = await asked_answers(request, hook.context.patientId, f"cds_{expected}")
    return make_cards(found, accepted_language(request), web_of(request).settings.zone)


@router.post("/{service}/feedback", status_code=200, response_class=Response)
@needs("patient.view")
async def feedback(request: Request, service: ServiceId, sent: FeedbackRequest) -> Response:
    """Take down what became of cards; comments in free text are dropped."""
    web, who = web_of(request), signed_in(request)
    await web.read(keep_feedback, web.engine, service, sent.feedback, who.username if who else "", now())
    for one in sent.feedback:
        web.metrics.note_feedback(service, one.outcome)
    return Response(status_code=200)
