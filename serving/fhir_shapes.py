"""FHIR R4 resources made of stored scores: RiskAssessment, Flag, and what carries them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from starlette.responses import Response

from serving.decisions import Band
from serving.i18n import Language
from serving.names import BAND_LABELS, _
from serving.reasons import sentence
from serving.schedule import Booking, Reason, Score

MEDIA_TYPE = "application/fhir+json"
VERSION = "4.0.1"
QUESTIONS = "urn:revisit:questions"
RISK_LEVELS = "http://terminology.hl7.org/CodeSystem/risk-probability"
FLAG_CATEGORIES = "http://terminology.hl7.org/CodeSystem/flag-category"
_LEVELS: Mapping[Band, str] = {"low": "low", "medium": "moderate", "high": "high"}
_ISSUES = {401: "login", 403: "forbidden", 404: "not-found", 405: "not-supported", 413: "too-long", 429: "throttled"}
_QUESTION = _("The booking is missed")
_FLAG = _("Booking at risk of being missed: %(percent)d %%")

Resource = dict[str, Any]


def fhir_answer(resource: Mapping[str, Any], status: int = 200) -> Response:
    """Answer with a resource."""
    body = json.dumps(resource, ensure_ascii=False, separators=(",", ":"))
    return Response(body, status_code=status, media_type=MEDIA_TYPE)


def outcome(status: int, message: str) -> Resource:
    """Say what went wrong, as FHIR does."""
    kind = _ISSUES.get(status, "invalid" if status < 500 else "exception")
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": kind, "diagnostics": message}],
    }


def risk_assessment(booking: Booking, score: Score, risk: Band, shown: Sequence[Reason], say: Language) -> Resource:
    """Say how likely a booking is missed, by which model, for which reasons.

    Parameters
    ----------
    booking, score, risk
        The booking, its stored score, the score's band.
    shown : sequence of Reason
        Those worth showing.
    say : Language
        Of the texts.
    """
    reasons = [{"text": sentence(reason, say)} for reason in shown]
    return {
        "resourceType": "RiskAssessment",
        "id": _identity("risk", booking.appointment_id, score.contract),
        "meta": {"lastUpdated": _instant(score.scored_at)},
        "language": say.code,
        "status": "final",
        "method": {"text": f"Revisit {score.model_name} v{score.model_version}"},
        "subject": {"reference": f"Patient/{booking.patient_id}"},
        "occurrenceDateTime": _instant(score.as_of),
        "basis": [{"reference": f"Appointment/{booking.appointment_id}"}],
        "prediction": [
            {
                "outcome": {
                    "coding": [{"system": QUESTIONS, "code": "no_show"}],
                    "text": say.text(_QUESTION),
                },
                "probabilityDecimal": round(score.probability, 4),
                "qualitativeRisk": _level(risk, say),
                "whenPeriod": {"start": _instant(booking.starts_at), "end": _instant(booking.starts_at)},
            }
        ],
        **({"note": reasons} if reasons else {}),
    }


def flag(booking: Booking, score: Score, say: Language) -> Resource:
    """Flag a patient whose booking is at high risk; it ends when the visit begins."""
    text = say.text(_FLAG) % {"percent": round(100 * score.probability)}
    return {
        "resourceType": "Flag",
        "id": _identity("flag", booking.appointment_id, score.contract),
        "meta": {"lastUpdated": _instant(score.scored_at)},
        "language": say.code,
        "status": "active",
        "category": [{"coding": [{"system": FLAG_CATEGORIES, "code": "admin"}]}],
        "code": {"coding": [{"system": QUESTIONS, "code": "no_show"}], "text": text},
        "subject": {"reference": f"Patient/{booking.patient_id}"},
        "period": {"start": _instant(score.as_of), "end": _instant(booking.starts_at)},
    }


def searchset(resources: Sequence[Resource], total: int, base: str, asked: str) -> Resource:
    """Wrap what a search found.

    Parameters
    ----------
    resources : sequence of dict
        Those shown.
    total : int
        How many there are.
    base : str
        Address of this server, such as ``https://revisit.example/fhir``.
    asked : str
        Kind of resource and parameters, as understood.
    """
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": total,
        "link": [{"relation": "self", "url": f"{base}/{asked}"}],
        "entry": [
            {
                "fullUrl": f"{base}/{resource['resourceType']}/{resource['id']}",
                "resource": resource,
                "search": {"mode": "match"},
            }
            for resource in resources
        ],
    }


def capability(base: str, at: datetime) -> Resource:
    """Say what this server can do: search two kinds of resources by patient."""
    found_by = [
        {"name": name, "type": "reference", "documentation": "Patient/NUMBER; needed"}
        for name in ("patient", "subject")
    ]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _instant(at),
        "kind": "instance",
        "software": {"name": "Revisit"},
        "implementation": {"description": "Stored scores of one practice, to read", "url": base},
        "fhirVersion": VERSION,
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "security": {"description": "Authorization: Bearer KEY, a key with the scope patient.view"},
                "resource": [
                    {"type": kind, "interaction": [{"code": "search-type"}], "searchParam": found_by}
                    for kind in ("Flag", "RiskAssessment")
                ],
            }
        ],
    }


def _level(risk: Band, say: Language) -> Resource:
    return {"coding": [{"system": RISK_LEVELS, "code": _LEVELS[risk]}], "text": say.text(BAND_LABELS[risk])}


def _identity(*parts: str) -> str:
    """A resource's own number: the same for the same score, and telling nothing."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
