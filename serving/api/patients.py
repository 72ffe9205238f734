"""``/api/v1/patients`` and ``/api/v1/patient``: flags, scores over time and what they stand on, without names."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request

from serving import audit
from serving.api.schedule import ReasonAnswer
from serving.api.shapes import PREFIX, After, Limit, PageAnswer, Shape, cursor, position
from serving.decisions import Flag, patient_flags
from serving.i18n import Language
from serving.pages.patient import may_see
from serving.pages.patients import look_of
from serving.patients import Dossier, PatientScore, Standing, list_patients, read_dossier
from serving.permissions import needs
from serving.problems import Problem
from serving.reasons import chosen, sentence
from serving.web import language_of, signed_in, web_of

router = APIRouter(prefix=PREFIX, tags=["patients"])
Question = Literal["lapse", "return_90d"]
NO_PATIENT = "This patient is not among those you may see."


class PatientScoreAnswer(Shape):
    """One score of one patient."""

    question: Question
    probability: float | None = Field(description="Null where the rule in use gives no number.", examples=[0.31])
    kind: Literal["model", "rule", "seed_rule"] = Field(description="A model, or the rule in use while there is none.")
    model_version: str = Field(examples=["2"])
    is_at_risk: bool
    as_of: datetime


class PatientAnswer(Shape):
    """One patient, by the practice's own number alone."""

    patient_id: str = Field(examples=["p017"])
    clinic: str | None = Field(examples=["east"])
    flags: list[Flag] = Field(examples=[["lapse", "overdue"]])
    days_overdue: int | None = Field(description="Past the due date of the recall; negative before it.", examples=[21])
    open_items: int = Field(description="Treatment proposed and neither done nor declined.", examples=[2])
    open_cents: int | None = Field(description="Its value; null where amounts are not to be seen.", examples=[42000])
    unanswered: int = Field(description="Contacts in a row without an answer.", examples=[2])
    family_due: int = Field(description="Others of the household who are overdue and not booked.", examples=[1])
    has_booking_ahead: bool
    scores: list[PatientScoreAnswer]


class ScoreWithReasons(PatientScoreAnswer):
    """One score with its reasons."""

    reasons: list[ReasonAnswer]


class DossierAnswer(PatientAnswer):
    """One patient with every week's scores, oldest first."""

    history: list[ScoreWithReasons]
    household: list[str] = Field(description="Numbers of the others.", examples=[["p018"]])


@router.get("/patients")
@needs("patient.view")
async def patients(request: Request, limit: Limit = 50, after: After = None) -> PageAnswer[PatientAnswer]:
    """Return the patients of the asker's clinics with their flags, by number."""
    web, who, since = web_of(request), signed_in(request), position(after, str)
    clinics = who.clinics if who else frozenset()
    found = await web.read(list_patients, web.engine, clinics, limit + 1, since[0] if since else None)
    shown = found[:limit]
    await audit.note(request, "api_patients", row_count=len(shown))
    return PageAnswer(
        items=[PatientAnswer(**_patient(request, standing)) for standing in shown],
        next=cursor([shown[-1].patient.patient_id]) if len(found) > limit else None,
    )


@router.get("/patient")
@needs("patient.view")
async def patient(
    request: Request,
    patient_id: Annotated[
        str, Query(alias="id", max_length=80, description="The practice's number.", examples=["p017"])
    ],
    lang: Annotated[Literal["en", "zh"] | None, Query(description="Language of the reasons.")] = None,
) -> DossierAnswer:
    """Return one patient with flags, scores over time and reasons."""
    web, say = web_of(request), language_of(request, lang)
    dossier = await web.read(read_dossier, web.engine, patient_id) if patient_id.isprintable() else None
    if dossier is None or not may_see(request, dossier):
        raise Problem(404, NO_PATIENT)
    await audit.note(request, "api_patient", clinic_id=dossier.standing.patient.clinic_id, patient_id=patient_id)
    return _dossier(request, dossier, say)


def _patient(request: Request, standing: Standing) -> dict[str, object]:
    look, one = look_of(request), standing.patient
    return {
        "patient_id": one.patient_id,
        "clinic": one.clinic_id,
        "flags": list(patient_flags(standing, look.settings.desk)),
        "days_overdue": one.days_overdue,
        "open_items": one.open_items,
        "open_cents": one.open_cents if look.money else None,
        "unanswered": one.unanswered,
        "family_due": one.family_due,
        "has_booking_ahead": one.has_booking_ahead,
        "scores": [PatientScoreAnswer(**_score(score)) for score in standing.scores.values()],
    }


def _dossier(request: Request, dossier: Dossier, say: Language) -> DossierAnswer:
    history = [score for scores in dossier.history.values() for score in scores]
    return DossierAnswer(
        **_patient(request, dossier.standing),
        history=[ScoreWithReasons(**_score(score), reasons=_reasons(score, say)) for score in history],
        household=[one.patient_id for one in dossier.household],
    )


def _score(score: PatientScore) -> dict[str, object]:
    return {
        "question": score.question,
        "probability": score.probability,
        "kind": score.kind,
        "model_version": score.model_version,
        "is_at_risk": score.is_at_risk,
        "as_of": score.as_of,
    }


def _reasons(score: PatientScore, say: Language) -> list[ReasonAnswer]:
    found = chosen(score.reasons, "high" if score.is_at_risk else "low")
    return [ReasonAnswer(code=r.code, direction=r.direction, text=sentence(r, say)) for r in found]
