"""What happened with recall lists, brought back into the records, where features and effects read it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

from features.campaign_arms import Draw, record_draws
from features.settings import Settings
from serving.db import reading, writing
from serving.desk_events import Told, tell
from serving.recall_lists import UNDO_LASTS
from serving.recall_tables import RecallItemRow, RecallListRow, RecallOutcomeRow

_RECORDED_AS = {
    "reached": "other",
    "booked": "confirmed",
    "declined": "declined",
    "no_answer": "no_answer",
    "stop": "opted_out",
}


def bring_back(settings: Settings, engine: Engine, now: datetime) -> tuple[int, int]:
    """Write draws of started lists into the records and tell the scorer of outcomes past undoing; how many of each."""
    return _record_draws(settings, engine, now), _tell_outcomes(engine, now)


def _record_draws(settings: Settings, engine: Engine, now: datetime) -> int:
    pending = select(RecallListRow).where(
        RecallListRow.started_at.is_not(None), RecallListRow.draws_recorded_at.is_(None)
    )
    with reading(engine) as session:
        lists = list(session.scalars(pending))
        items = {
            row.list_id: list(session.scalars(select(RecallItemRow).where(RecallItemRow.list_id == row.list_id)))
            for row in lists
        }
    count = 0
    for row in lists:
        # A list without a hold-out was decided, not drawn: nothing can be learned from it.
        draws = [draw for item in items[row.list_id] if (draw := _draw(row, item)).propensity < 1]
        if draws:
            record_draws(settings, draws, now)
            count += len(draws)
        with writing(engine) as session:
            stored = session.get(RecallListRow, row.list_id)
            if stored is not None:
                stored.draws_recorded_at = now
    return count


def _draw(row: RecallListRow, item: RecallItemRow) -> Draw:
    assert row.started_at is not None  # noqa: S101 - the query asks for it
    return Draw(
        campaign_id=str(row.campaign_id),
        patient_id=item.patient_id,
        arm=item.arm,
        channel=item.channels[0] if item.arm == "contact" else "",
        propensity=item.propensity,
        assigned_at=row.started_at,
    )


def _tell_outcomes(engine: Engine, now: datetime) -> int:
    ready = (
        select(RecallOutcomeRow, RecallListRow.campaign_id)
        .join(RecallListRow, RecallListRow.list_id == RecallOutcomeRow.list_id)
        .where(
            RecallOutcomeRow.recorded_at.is_(None),
            RecallOutcomeRow.undone_at.is_(None),
            RecallOutcomeRow.noted_at <= now - UNDO_LASTS,
        )
    )
    with reading(engine) as session:
        found = [(outcome, campaign) for outcome, campaign in session.execute(ready) if campaign]
        on_lists = select(RecallItemRow.patient_id, RecallItemRow.clinic_id).where(
            RecallItemRow.patient_id.in_({outcome.patient_id for outcome, _ in found})
        )
        clinics: dict[str, str | None] = {patient: clinic or None for patient, clinic in session.execute(on_lists)}
    for outcome, campaign in found:
        # Told twice after a crash, it is the same row of the records.
        told = Told(
            "communications", _communication(outcome, campaign), outcome.patient_id, clinics.get(outcome.patient_id)
        )
        tell(engine, told, outcome.noted_by, now)
        with writing(engine) as session:
            stored = session.get(RecallOutcomeRow, outcome.outcome_id)
            if stored is not None:
                stored.recorded_at = now
    return len(found)


def _communication(outcome: RecallOutcomeRow, campaign: str) -> dict[str, Any]:
    return {
        "communication_id": f"{campaign}/{outcome.outcome_id}",
        "patient_id": outcome.patient_id,
        "campaign_id": campaign,
        "direction": "out",
        "channel": outcome.channel,
        "purpose": "recall",
        "outcome": _RECORDED_AS[outcome.outcome],
        "sent_at": outcome.noted_at.isoformat(),
        "replied_at": None if outcome.outcome == "no_answer" else outcome.noted_at.isoformat(),
    }
