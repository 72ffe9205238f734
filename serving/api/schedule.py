"""``GET /api/v1/schedule``: a clinic's day for other programs, without names."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from features.settings import Settings
from serving import audit
from serving.api.shapes import PREFIX, Shape
from serving.asked import asked_day
from serving.board import PUBLISH_COMMAND
from serving.decisions import Action, Band, Flag, band, flags_of, suggested_action
from serving.i18n import Language
from serving.patients import Standing
from serving.permissions import needs
from serving.problems import Problem
from serving.reasons import chosen, sentence
from serving.schedule import Booking, DaySchedule, Publication, Score
from serving.web import language_of, web_of

router = APIRouter(prefix=PREFIX, tags=["schedule"])


class RiskAnswer(Shape):
    """What the model said."""

    probability: float = Field(description="Chance that the booking is missed, calibrated.", examples=[0.42])
    band: Band
    contract: str = Field(examples=["no_show_evening"])
    model_version: str = Field(examples=["3"])
    as_of: datetime


class ReasonAnswer(Shape):
    """One reason in plain words; direction +1 raises the risk, -1 lowers it."""

    code: str = Field(examples=["missed_visits"])
    direction: int = Field(examples=[1])
    text: str = Field(examples=["Missed 2 of the last 5 visits"])


class BookingAnswer(Shape):
    """One booking; the patient by the practice's own number alone."""

    appointment_id: str = Field(examples=["a002"])
    patient_id: str = Field(examples=["p017"])
    starts_at: datetime = Field(description="Local time with its offset.")
    duration_minutes: int | None
    service_line: str | None = Field(examples=["hygiene"])
    clinician_id: str | None
    status: str = Field(examples=["booked"])
    risk: RiskAnswer | None
    flags: list[Flag] = Field(description="What the front desk should know.", examples=[["no_show", "overdue"]])
    reasons: list[ReasonAnswer]
    suggested_action: Action


class ScheduleAnswer(Shape):
    """A clinic's day."""

    clinic: str = Field(examples=["east"])
    day: date
    as_of: datetime
    published_at: datetime
    timezone: str = Field(examples=["Asia/Shanghai"])
    bookings: list[BookingAnswer]


@router.get("/schedule", response_model=ScheduleAnswer)
@needs("schedule.view")
async def schedule(
    request: Request,
    clinic: Annotated[
        str | None, Query(description="May be left out where there is one clinic.", examples=["east"])
    ] = None,
    day: Annotated[str | None, Query(description="YYYY-MM-DD; today by default.", examples=["2026-11-23"])] = None,
    lang: Annotated[Literal["en", "zh"] | None, Query(description="Language of the reasons.")] = None,
) -> Response:
    """Return the day's bookings with risk, reasons and suggested action."""
    web = web_of(request)
    asked = await asked_day(request, must_name_clinic=True)
    found = asked.schedule
    publication = found.publication if found else None
    if found is None or publication is None:
        raise Problem(503, f"Nothing is published yet; run `{PUBLISH_COMMAND}`.")
    say = language_of(request, lang)
    await audit.note(
        request,
        "api_schedule",
        clinic_id=found.clinic_id,
        day=found.day,
        row_count=len(found.entries),
        model_version=asked.model_versions,
    )
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
        bookings=[_booking(b, s, found.patients.get(b.patient_id), settings, say) for b, s in found.entries],
    )


def _booking(
    booking: Booking, score: Score | None, standing: Standing | None, settings: Settings, say: Language
) -> BookingAnswer:
    zone, limits = settings.zone, settings.no_show
    risk = band(score.probability, limits.medium_risk, limits.high_risk) if score else None
    shown = chosen(score.reasons, risk) if score and risk else []
    flags = flags_of(booking, risk, standing, settings.desk)
    return BookingAnswer(
        appointment_id=booking.appointment_id,
        patient_id=booking.patient_id,
        starts_at=booking.starts_at.astimezone(zone),
        duration_minutes=booking.duration_minutes,
        service_line=booking.service_line,
        clinician_id=booking.clinician_id,
        status=booking.status,
        risk=_risk(score, risk, zone) if score and risk else None,
        flags=list(flags),
        reasons=[ReasonAnswer(code=r.code, direction=r.direction, text=sentence(r, say)) for r in shown],
        suggested_action=suggested_action(booking, score, risk, flags, standing),
    )


def _risk(score: Score, risk: Band, zone: ZoneInfo) -> RiskAnswer:
    return RiskAnswer(
        probability=score.probability,
        band=risk,
        contract=score.contract,
        model_version=score.model_version,
        as_of=score.as_of.astimezone(zone),
    )
