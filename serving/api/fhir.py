"""FHIR R4 under ``/fhir``: stored scores as RiskAssessment and Flag, found by patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serving.clock import now
from serving.fhir_answers import MEDIA_TYPE, fhir_answer
from serving.fhir_shapes import capability, flag, risk_assessment, searchset
from serving.permissions import OPEN, needs
from serving.problems import Problem
from serving.standing import asked_answers
from serving.web import accepted_language, web_of

_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"description": "OperationOutcome", "content": {MEDIA_TYPE: {}}} for code in (400, 401, 403, 404, 429, 503)
}
router = APIRouter(prefix="/fhir", tags=["fhir"], responses=_ERRORS)
MOST = 100
_PATIENT = ("patient", "subject", "patient:Patient", "subject:Patient")
_PARAMETERS: dict[str, Any] = {
    "parameters": [
        {
            "name": "patient",
            "in": "query",
            "required": False,
            "schema": {"type": "string", "maxLength": 210},
            "description": "Patient/NUMBER. Better sent as a form to _search, so that no number is in an address.",
            "example": "Patient/p017",
        },
        {"name": "_count", "in": "query", "required": False, "schema": {"type": "integer", "minimum": 0}},
    ]
}
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["patient"],
                    "properties": {"patient": {"type": "string", "example": "Patient/p017"}},
                }
            }
        },
    }
}


@router.get("/metadata")
@needs(OPEN)
async def metadata(request: Request) -> Response:
    """Say what this server can do (CapabilityStatement)."""
    return fhir_answer(capability(_base(request), now()))


@router.get("/RiskAssessment", openapi_extra=_PARAMETERS)
@needs("patient.view")
async def risks(request: Request) -> Response:
    """Search risk assessments: of one patient's bookings ahead, and of the patient coming back."""
    return await _search(request, "RiskAssessment", request.query_params)


@router.post("/RiskAssessment/_search", openapi_extra=_FORM)
@needs("patient.view")
async def risks_by_form(request: Request) -> Response:
    """Search risk assessments; the patient's number stays out of the address."""
    return await _search(request, "RiskAssessment", request.state.form)


@router.get("/Flag", openapi_extra=_PARAMETERS)
@needs("patient.view")
async def flags(request: Request) -> Response:
    """Search flags: what of one patient is at high risk."""
    return await _search(request, "Flag", request.query_params)


@router.post("/Flag/_search", openapi_extra=_FORM)
@needs("patient.view")
async def flags_by_form(request: Request) -> Response:
    """Search flags; the patient's number stays out of the address."""
    return await _search(request, "Flag", request.state.form)


async def _search(request: Request, kind: str, asked: Mapping[str, str]) -> Response:
    patient, count = _patient(asked), _count(asked)
    found = await asked_answers(request, patient, f"fhir_{kind.lower()}")
    say = accepted_language(request)
    if kind == "Flag":
        found = [one for one in found if one.level == "high"]
    make = flag if kind == "Flag" else risk_assessment
    shown = [make(one, say) for one in found[:count]]
    understood = urlencode({"patient": f"Patient/{patient}", "_count": count})
    return fhir_answer(searchset(shown, len(found), _base(request), f"{kind}?{understood}"))


def _patient(asked: Mapping[str, str]) -> str:
    given = {asked[name].rpartition("Patient/")[2] for name in _PATIENT if name in asked}
    if len(given) != 1 or not (number := given.pop()) or len(number) > 200 or "\x00" in number:
        raise Problem(400, "Name one patient, such as patient=Patient/p017.")
    return number


def _count(asked: Mapping[str, str]) -> int:
    given = asked.get("_count", str(MOST))
    if not (given.isascii() and given.isdigit()) or len(given) > 9:
        raise Problem(400, "_count is a whole number, 0 or more.")
    return min(int(given), MOST)


def _base(request: Request) -> str:
    configured = web_of(request).settings.cds_hooks.base_url
    return f"{configured or str(request.base_url)}".rstrip("/") + "/fhir"
