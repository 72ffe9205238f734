"""How one patient stands: the bookings ahead with their stored scores, for other systems."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine
from starlette.requests import Request

from features.settings import NoShow
from serving import audit
from serving.clock import now
from serving.db import BookingRow, reading
from serving.decisions import Band, band, is_open
from serving.reasons import chosen
from serving.schedule import Booking, Reason, Score, entries_where
from serving.web import signed_in, web_of


@dataclass(frozen=True)
class AtRisk:
    """A booking ahead, its score, the score's band and the reasons worth showing."""

    booking: Booking
    score: Score
    risk: Band
    reasons: tuple[Reason, ...]


def bookings_ahead(
    engine: Engine, patient_id: str, clinics: Collection[str] | None, limits: NoShow, at: datetime
) -> list[AtRisk]:
    """Read a patient's scored bookings that are still ahead, the next one first.

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
        found = entries_where(session, BookingRow.patient_id == patient_id, BookingRow.starts_at >= at)
    return [
        AtRisk(booking, score, risk, tuple(chosen(score.reasons, risk)))
        for booking, score in found
        if score is not None and is_open(booking) and (clinics is None or booking.clinic_id in clinics)
        for risk in [band(score.probability, limits.medium_risk, limits.high_risk)]
    ]


async def asked_standing(request: Request, patient_id: str, action: str) -> list[AtRisk]:
    """Read how a patient stands for whoever asks, and note that they did."""
    web, who = web_of(request), signed_in(request)
    clinics = who.clinics if who else frozenset()
    found = await web.read(bookings_ahead, web.engine, patient_id, clinics, web.settings.no_show, now())
    models = sorted({f"{one.score.model_name} v{one.score.model_version}" for one in found})
    await audit.note(
        request, action, row_count=len(found), patient_id=patient_id, model_version=", ".join(models) or None
    )
    return found
