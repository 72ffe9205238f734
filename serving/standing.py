"""How one patient stands, for other systems: stored answers about the bookings ahead and about coming back."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine
from starlette.requests import Request

from features.settings import NoShow
from serving import audit
from serving.clock import now
from serving.db import BookingRow, reading
from serving.decisions import Action, Band, band, is_open, suggested_action
from serving.explanation import Reason
from serving.patients import LAPSE, RETURN, Patient, PatientScore, Standing, standings
from serving.reasons import chosen
from serving.schedule import Booking, Score, entries_where
from serving.web import signed_in, web_of

NO_SHOW = "no_show"
RETURN_WITHIN = timedelta(days=90)


@dataclass(frozen=True)
class Answer:
    """What is stored about one question.

    Attributes
    ----------
    question : str
        ``no_show`` (of a booking), ``lapse`` or ``return_90d`` (of the patient).
    patient_id : str
        Whom about.
    booking : Booking or None
        Which booking it is about, if one.
    probability : float or None
        Of the booking being missed, the recall window passing without a visit,
        a visit within 90 days; None where a rule gives no number.
    level : str or None
        Of the risk; None where the question is none of risk.
    method : str
        Which model, or that it was the rule in use.
    reasons : tuple of Reason
        Those worth showing.
    action : str
        What may help.
    as_of, scored_at : datetime
        Up to when the records were known, and when it was said.
    until : datetime or None
        When the question is settled, if that is known.
    """

    question: str
    patient_id: str
    booking: Booking | None
    probability: float | None
    level: Band | None
    method: str
    reasons: tuple[Reason, ...]
    action: Action
    as_of: datetime
    scored_at: datetime
    until: datetime | None

    @property
    def about(self) -> str:
        """What it is about, for its own number."""
        return self.booking.appointment_id if self.booking else self.patient_id


def stored_answers(
    engine: Engine, patient_id: str, clinics: Collection[str] | None, limits: NoShow, at: datetime
) -> list[Answer]:
    """Read all that is stored about one patient, the next booking first; nothing of who refused to be scored.

    Parameters
    ----------
    engine : Engine
        Of the application database.
    patient_id : str
        The practice's own number.
    clinics : collection of str or None
        Those that whoever asks may see; None for all.
    limits : NoShow
        From which probability on a risk is medium or high.
    at : datetime
        This moment.
    """
    with reading(engine) as session:
        standing = standings(session, [patient_id]).get(patient_id)
        entries = entries_where(session, BookingRow.patient_id == patient_id, BookingRow.starts_at >= at)
    if standing is not None and not standing.patient.is_scoring_allowed:
        return []
    found = [
        _of_booking(booking, score, standing, limits)
        for booking, score in entries
        if score is not None and is_open(booking) and (clinics is None or booking.clinic_id in clinics)
    ]
    if standing is not None and (clinics is None or standing.patient.clinic_id in clinics):
        found += _of_patient(standing)
    return found


def _of_booking(booking: Booking, score: Score, standing: Standing | None, limits: NoShow) -> Answer:
    level = band(score.probability, limits.medium_risk, limits.high_risk)
    return Answer(
        question=NO_SHOW,
        patient_id=booking.patient_id,
        booking=booking,
        probability=score.probability,
        level=level,
        method=f"{score.model_name} v{score.model_version}",
        reasons=tuple(chosen(score.reasons, level)),
        action=suggested_action(booking, score, level, (), standing),
        as_of=score.as_of,
        scored_at=score.scored_at,
        until=booking.starts_at,
    )


def _of_patient(standing: Standing) -> Iterator[Answer]:
    for question in (LAPSE, RETURN):
        score = standing.scores.get(question)
        if score is not None:
            yield _answer(standing.patient, score)


def _answer(patient: Patient, score: PatientScore) -> Answer:
    is_risk = score.question == LAPSE
    level: Band = "high" if score.is_at_risk else "low"
    return Answer(
        question=score.question,
        patient_id=patient.patient_id,
        booking=None,
        probability=score.probability,
        level=level if is_risk else None,
        method=f"{score.question} v{score.model_version}" if score.kind == "model" else "the rule in use",
        reasons=tuple(chosen(score.reasons, level)),
        action="offer_next_visit" if is_risk and score.is_at_risk else "none",
        as_of=score.as_of,
        scored_at=score.scored_at,
        until=None if is_risk else score.as_of + RETURN_WITHIN,
    )


async def asked_answers(request: Request, patient_id: str, action: str) -> list[Answer]:
    """Read what is stored about a patient for whoever asks, and note that they did."""
    web, who = web_of(request), signed_in(request)
    clinics = who.clinics if who else frozenset()
    found = await web.read(stored_answers, web.engine, patient_id, clinics, web.settings.no_show, now())
    models = ", ".join(sorted({one.method for one in found}))
    await audit.note(request, action, row_count=len(found), patient_id=patient_id, model_version=models or None)
    return found
