"""``GET /api/schedule``: a clinic's day for other programs, without names."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from features.settings import NoShow, Settings
from serving import audit
from serving.asked import asked_day
from serving.board import PUBLISH_COMMAND
from serving.clock import now
from serving.decisions import Action, Band, band, suggested_action
from serving.i18n import Language
from serving.problems import Problem
from serving.reasons import chosen, sentence
from serving.schedule import Booking, DaySchedule, Publication, Score
from serving.web import language_of, signed_in, web_of

router = APIRouter()


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ErrorBody(_Shape):
    """What went wrong, in one sentence."""

    code: str
    message: str


class ErrorAnswer(_Shape):
    """The one shape of every error."""

    error: ErrorBody


class RiskAnswer(_Shape):
    """What the model said."""

    probability: float = Field(description="Chance that the booking is missed, calibrated.")
    band: Band
    contract: str
    model_version: str
    as_of: datetime


class ReasonAnswer(_Shape):
    """One reason in plain words; direction +1 raises the risk, -1 lowers it."""

    code: str
    direction: int
    text: str


class BookingAnswer(_Shape):
    """One booking; the patient by the practice's own number alone."""

    appointment_id: str
    patient_id: str
    starts_at: datetime = Field(description="Local time with its offset.")
    duration_minutes: int | None
    service_line: str | None
    clinician_id: str | None
    status: str
    risk: RiskAnswer | None
    reasons: list[ReasonAnswer]
    suggested_action: Action


class ScheduleAnswer(_Shape):
    """A clinic's day."""

    clinic: str
    day: date
    as_of: datetime
    published_at: datetime
    timezone: str
    bookings: list[BookingAnswer]


_ERRORS: dict[int | str, dict[str, type[BaseModel]]] = {
    code: {"model": ErrorAnswer} for code in (400, 401, 404, 422, 503)
}


@router.get("/schedule", response_model=ScheduleAnswer, responses=_ERRORS)
async def schedule(
    request: Request,
    clinic: Annotated[str | None, Query(description="May be left out where there is one clinic.")] = None,
    day: Annotated[str | None, Query(description="YYYY-MM-DD; today by default.")] = None,
    lang: Annotated[Literal["en", "zh"] | None, Query(description="Language of the reasons.")] = None,
) -> Response:
    """Return the day's bookings with risk, reasons and suggested action."""
    web = web_of(request)
    asked = await asked_day(request, must_name_clinic=True)
    found = asked.schedule
    publication = found.publication if found else None
    if found is None or publication is None:
        raise Problem(503, f"Nothing is published yet; run `{PUBLISH_COMMAND}`.")
    who, say = signed_in(request), language_of(request, lang)
    act = audit.Act(
        at=now(),
        action="api_schedule",
        username=who.username if who else None,
        clinic_id=found.clinic_id,
        day=found.day,
        row_count=len(found.entries),
        model_version=asked.model_versions,
    )
    await to_thread.run_sync(audit.record, web.engine, act)
    key = f"api {publication.publication_id} {found.clinic_id} {found.day} {say.code}"
    content = web.published.answer(key, lambda: _answer(found, publication, web.settings, say).model_dump_json())
    return Response(content, media_type="application/json")


def _answer(found: DaySchedule, publication: Publication, settings: Settings, say: Language) -> ScheduleAnswer:
    zone = settings.zone
    return ScheduleAnswer(
        clinic=found.clinic_id,
        day=found.day,
        as_of=publication.as_of.astimezone(zone),
        published_at=publication.published_at.astimezone(zone),
        timezone=settings.practice.time_zone,
        bookings=[_booking(b, s, zone, settings.no_show, say) for b, s in found.entries],
    )


def _booking(booking: Booking, score: Score | None, zone: ZoneInfo, limits: NoShow, say: Language) -> BookingAnswer:
    risk = band(score.probability, limits.medium_risk, limits.high_risk) if score else None
    shown = chosen(score.reasons, risk) if score and risk else []
    return BookingAnswer(
        appointment_id=booking.appointment_id,
        patient_id=booking.patient_id,
        starts_at=booking.starts_at.astimezone(zone),
        duration_minutes=booking.duration_minutes,
        service_line=booking.service_line,
        clinician_id=booking.clinician_id,
        status=booking.status,
        risk=_risk(score, risk, zone) if score and risk else None,
        reasons=[ReasonAnswer(code=r.code, direction=r.direction, text=sentence(r, say)) for r in shown],
        suggested_action=suggested_action(booking, score, risk),
    )


def _risk(score: Score, risk: Band, zone: ZoneInfo) -> RiskAnswer:
    return RiskAnswer(
        probability=score.probability,
        band=risk,
        contract=score.contract,
        model_version=score.model_version,
        as_of=score.as_of.astimezone(zone),
    )
