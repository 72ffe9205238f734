"""How likely each patient is to come if reached: what the recall list's order is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine, inspect
from sqlalchemy import text as sql

from serving.db import reading

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
    if "patient_scores" not in inspect(engine).get_table_names():
        return Responses()
    for question in QUESTIONS:
        with reading(engine) as session:
            rows = session.execute(
                sql(
                    """SELECT s.patient_id, s.probability, s.model_version FROM patient_scores s
                    JOIN (SELECT patient_id, max(week) AS week FROM patient_scores
                          WHERE question = :question GROUP BY patient_id) n
                      ON n.patient_id = s.patient_id AND n.week = s.week
                    WHERE s.question = :question AND s.probability IS NOT NULL"""
                ),
                {"question": question},
            ).all()
        if rows:
            versions = sorted({row.model_version for row in rows})
            return Responses(question, versions[-1], {row.patient_id: float(row.probability) for row in rows})
    return Responses()
