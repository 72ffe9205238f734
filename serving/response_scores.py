"""How likely each patient is to come if reached: what the recall list's order is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine, and_, func, select

from serving.db import reading
from serving.desk_tables import PatientScoreRow

RULE = "rule"
# What contacting changes, where a policy was proved; else the chance to come at all, which ranks nearly as well.
QUESTIONS = ("recall", "return_90d")


@dataclass(frozen=True)
class Responses:
    """Chances by patient; `question` is `RULE` and nothing is known where nobody has been scored."""

    question: str = RULE
    model_version: str | None = None
    chances: Mapping[str, float] = field(default_factory=dict)


def response_scores(engine: Engine) -> Responses:
    """Read each patient's newest chance of the first question that has been answered."""
    for question in QUESTIONS:
        newest = (
            select(PatientScoreRow.patient_id, func.max(PatientScoreRow.week).label("week"))
            .where(PatientScoreRow.question == question)
            .group_by(PatientScoreRow.patient_id)
            .subquery()
        )
        is_newest = and_(PatientScoreRow.patient_id == newest.c.patient_id, PatientScoreRow.week == newest.c.week)
        query = select(PatientScoreRow).join(newest, is_newest).where(PatientScoreRow.question == question)
        with reading(engine) as session:
            rows = [row for row in session.scalars(query) if row.probability is not None]
        if rows:
            last = max(rows, key=lambda row: row.scored_at)
            return Responses(question, last.model_version, {row.patient_id: float(row.probability) for row in rows})  # type: ignore[arg-type]
    return Responses()
