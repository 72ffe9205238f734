"""FHIR R4 resources made of stored scores: RiskAssessment, Flag, and what carries them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from serving.decisions import Band
from serving.fhir_answers import Resource
from serving.i18n import Language
from serving.names import BAND_LABELS, _
from serving.patients import LAPSE, RETURN
from serving.reasons import sentence
from serving.standing import NO_SHOW, Answer

VERSION = "4.0.1"
QUESTIONS = "urn:revisit:questions"
RISK_LEVELS = "http://terminology.hl7.org/CodeSystem/risk-probability"
FLAG_CATEGORIES = "http://terminology.hl7.org/CodeSystem/flag-category"
_LEVELS: Mapping[Band, str] = {"low": "low", "medium": "moderate", "high": "high"}
_OUTCOMES = {
    NO_SHOW: _("The booking is missed"),
    LAPSE: _("No visit within the recall window"),
    RETURN: _("A visit within 90 days"),
}
_FLAGS = {NO_SHOW: _("Booking at risk of being missed"), LAPSE: _("At risk of not coming back")}


def risk_assessment(answer: Answer, say: Language) -> Resource:
    """Say how likely something is, by which model, for which reasons.

    Parameters
    ----------
    answer : Answer
        As stored.
    say : Language
        Of the texts.
    """
    prediction: Resource = {
        "outcome": {
            "coding": [{"system": QUESTIONS, "code": answer.question}],
            "text": say.text(_OUTCOMES[answer.question]),
        }
    }
    if answer.probability is not None:
        prediction["probabilityDecimal"] = round(answer.probability, 4)
    if answer.level is not None:
        prediction["qualitativeRisk"] = _level(answer.level, say)
    if answer.until is not None:
        begins = answer.until if answer.booking else answer.as_of
        prediction["whenPeriod"] = {"start": _instant(begins), "end": _instant(answer.until)}
    made: Resource = {
        "resourceType": "RiskAssessment",
        "id": _identity("risk", answer.question, answer.about),
        "meta": {"lastUpdated": _instant(answer.scored_at)},
        "language": say.code,
        "status": "final",
        "method": {"text": f"Revisit: {answer.method}"},
        "subject": {"reference": f"Patient/{answer.patient_id}"},
        "occurrenceDateTime": _instant(answer.as_of),
        "prediction": [prediction],
    }
    if answer.booking:
        made["basis"] = [{"reference": f"Appointment/{answer.booking.appointment_id}"}]
    if answer.reasons:
        made["note"] = [{"text": sentence(reason, say)} for reason in answer.reasons]
    return made


def flag(answer: Answer, say: Language) -> Resource:
    """Flag a patient at high risk; that of a booking ends when the visit begins."""
    text = say.text(_FLAGS[answer.question])
    if answer.probability is not None:
        text = f"{text} ({round(100 * answer.probability)} %)"
    period = {"start": _instant(answer.as_of)} | ({"end": _instant(answer.until)} if answer.until else {})
    return {
        "resourceType": "Flag",
        "id": _identity("flag", answer.question, answer.about),
        "meta": {"lastUpdated": _instant(answer.scored_at)},
        "language": say.code,
        "status": "active",
        "category": [{"coding": [{"system": FLAG_CATEGORIES, "code": "admin"}]}],
        "code": {"coding": [{"system": QUESTIONS, "code": answer.question}], "text": text},
        "subject": {"reference": f"Patient/{answer.patient_id}"},
        "period": period,
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
