"""Scores of patients: features online, champions or the rules in use, reasons; stored for the pages.

By night everybody's, after an event those of a household; by the same steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine, func, select

from features.contracts import PATIENT_CONTRACTS
from features.errors import NotBuiltError
from features.labels import SEEN_WITHIN_DAYS
from features.online_sync import read_patients_online, write_patients_online
from features.settings import Settings
from features.snapshots import built
from features.store import open_feast
from serving import db, desk_records
from serving.db import reading
from serving.desk_tables import PatientScoreRow
from serving.models import Champion, Champions, load_rule
from serving.patient_reasons import patient_reasons, seed_rule
from serving.patients import LAPSE, QUESTIONS, Kind, Patient, PatientScore, forget_others, store_patients

if TYPE_CHECKING:
    from feast import FeatureStore

AT_ONCE = 4_000  # patients whose features are in memory together
LAPSE_GRACE_DAYS, LAPSE_GRACE_SHARE = 90, 0.5  # of the interval: when the recall window is over
ASKED = {name: PATIENT_CONTRACTS[name] for name in QUESTIONS}


@dataclass(frozen=True)
class PatientScoringReport:
    """What a scoring run stored.

    Attributes
    ----------
    patients : int
        Patients stored.
    scored : dict of str to int
        Of them scored, by question.
    kinds : dict of str to str
        By what, by question: ``model``, ``rule`` or ``seed_rule``.
    problems : tuple of str
        Why a newest champion was not used.
    """

    patients: int
    scored: dict[str, int]
    kinds: dict[str, Kind]
    problems: tuple[str, ...] = ()


class Answerers:
    """What answers each question about patients: its champion, else the stored rule, else the rule of thumb.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    last_used : mapping of str to str
        Version of the newest scores' champion by question (`last_used_of_patients`).
    """

    def __init__(self, settings: Settings, last_used: Mapping[str, str]) -> None:
        self.champions = Champions(settings, last_used, ASKED)
        self._settings = settings
        self._rules: dict[str, Champion | None] = {}

    def of(self, question: str) -> tuple[Kind, Champion | None]:
        """Return what answers a question."""
        champion = self.champions.get(question)
        if champion is not None:
            return "model", champion
        if question not in self._rules:
            self._rules[question] = load_rule(self._settings, ASKED[question])
        rule = self._rules[question]
        return ("rule", rule) if rule else ("seed_rule", None)

    def refresh(self) -> list[str]:
        """Look at the registry; return the questions whose champion has changed."""
        changed = self.champions.refresh()
        if changed:
            self._rules.clear()
        return changed


def last_used_of_patients(engine: Engine) -> dict[str, str]:
    """Return the model version of the newest scores of patients, by question."""
    newest = select(PatientScoreRow.question, func.max(PatientScoreRow.scored_at)).where(
        PatientScoreRow.kind == "model"
    )
    with reading(engine) as session:
        found = {}
        for question, moment in session.execute(newest.group_by(PatientScoreRow.question)):
            version = select(PatientScoreRow.model_version).where(
                PatientScoreRow.question == question, PatientScoreRow.scored_at == moment
            )
            found[question] = str(session.scalar(version.limit(1)))
        return found


def score_patients(settings: Settings, now: datetime, answerers: Answerers | None = None) -> PatientScoringReport:
    """Store every patient with flags and scores.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    now : datetime
        Aware; nothing recorded at or after it is used.
    answerers : Answerers, optional
        By default the registry's.

    Returns
    -------
    PatientScoringReport

    Raises
    ------
    NotBuiltError
        If there is no snapshot of patients.
    """
    if not built(settings).snapshots:
        raise NotBuiltError("there are no snapshots of patients yet; run `revisit features build` first.")
    engine = db.engine(settings.application_database)
    try:
        db.upgrade(engine)
        answerers = answerers or Answerers(settings, last_used_of_patients(engine))
        store = open_feast(settings)
        write_patients_online(settings, store, now)
        with desk_records.desk_records(settings) as con:
            people = desk_records.people(con, now)
            cards = desk_records.cards(con, people, now)
        patients, scores = _answer(settings, store, people, answerers, now)
        store_patients(engine, patients, cards, scores)
        forget_others(engine, now)
    finally:
        engine.dispose()
    return PatientScoringReport(
        patients=len(patients),
        scored={name: sum(score.question == name for score in scores) for name in QUESTIONS},
        kinds={name: answerers.of(name)[0] for name in QUESTIONS},
        problems=tuple(answerers.champions.problems.values()),
    )


def score_again(
    settings: Settings,
    engine: Engine,
    store: FeatureStore,
    people: Sequence[Mapping[str, Any]],
    cards: Mapping[str, Mapping[str, Any]],
    answerers: Answerers,
    now: datetime,
) -> None:
    """Store these patients anew; whole households, since the flag of each counts the others.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    engine : Engine
        Of the application database.
    store : feast.FeatureStore
        Whose online rows are fresh.
    people, cards
        As `serving.desk_records` reads them.
    answerers : Answerers
    now : datetime
        Aware.
    """
    found, scores = _answer(settings, store, people, answerers, now)
    store_patients(engine, found, cards, scores)


def _answer(
    settings: Settings,
    store: FeatureStore,
    people: Sequence[Mapping[str, Any]],
    answerers: Answerers,
    now: datetime,
) -> tuple[list[Patient], list[PatientScore]]:
    patients: list[Patient] = []
    scores: list[PatientScore] = []
    for start in range(0, len(people), AT_ONCE):
        some = people[start : start + AT_ONCE]
        # All questions about patients read the same features; one reading serves them.
        features = read_patients_online(store, ASKED[LAPSE], [row["patient_id"] for row in some], now)
        facts = _by_patient(features)
        patients += [_patient(row, facts[row["patient_id"]], now) for row in some]
        is_asked = np.array([row["is_scoring_allowed"] and not row["departure"] for row in some], dtype=bool)
        asked = features[is_asked & (features["days_since_last_visit"] <= SEEN_WITHIN_DAYS).to_numpy()]
        for question in QUESTIONS:
            scores += _scores(settings, question, asked, answerers.of(question), now)
    return _with_family(patients), scores


def _patient(row: Mapping[str, Any], facts: Mapping[str, float], now: datetime) -> Patient:
    def whole(name: str) -> int:
        return 0 if np.isnan(facts[name]) else round(facts[name])

    is_paused = whole("has_disabled_recall") or np.isnan(facts["days_since_due"])
    named = ("patient_id", "clinic_id", "patient_name", "birth_year", "household_id", "departure")
    return Patient(
        **{name: row[name] for name in named},
        is_scoring_allowed=row["is_scoring_allowed"],
        refused_channels=row["refused_channels"],
        days_overdue=None if is_paused else whole("days_since_due"),
        open_items=whole("plan_items_open_count_ever"),
        pending_items=whole("plan_items_pending_count_ever"),
        open_cents=whole("plan_items_open_sum_ever_cents"),
        unanswered=whole("messages_unanswered_row_count_ever"),
        recalls_missed=whole("recalls_missed_row_count_ever"),
        family_due=0,
        has_booking_ahead=bool(whole("has_booking_ahead")),
        as_of=now,
    )


def _with_family(patients: Iterable[Patient]) -> list[Patient]:
    """Count in every household the others who are overdue and have no booking."""
    found = list(patients)
    due: dict[str, set[str]] = {}
    for patient in found:
        is_due = (patient.days_overdue or 0) > 0 and not patient.has_booking_ahead and not patient.departure
        if is_due and patient.household_id:
            due.setdefault(patient.household_id, set()).add(patient.patient_id)
    return [replace(p, family_due=len(due.get(p.household_id or "", set()) - {p.patient_id})) for p in found]


def _scores(
    settings: Settings, question: str, features: pd.DataFrame, by: tuple[Kind, Champion | None], now: datetime
) -> list[PatientScore]:
    kind, champion = by
    if question == LAPSE:
        features = features[_is_window_open(features)]
    if features.empty:
        return []
    rows = _by_patient(features)
    if champion is None:
        return _by_rule_of_thumb(question, rows, now)
    answers = champion.score(features)
    chances = {str(key): float(chance) for key, chance in answers["probability"].items()}
    parts = _by_patient(answers.drop(columns=["probability", "base"]))
    return [
        PatientScore(
            patient_id=key,
            question=question,
            probability=chance,
            kind=kind,
            model_version=champion.version.number,
            is_at_risk=question == LAPSE and round(chance, 2) >= settings.desk.lapse_risk,
            reasons=patient_reasons(champion.contract, rows[key], parts[key]),
            as_of=now,
            scored_at=now,
        )
        for key, chance in chances.items()
    ]


def _by_rule_of_thumb(question: str, rows: Mapping[Any, Mapping[str, float]], now: datetime) -> list[PatientScore]:
    if question != LAPSE:  # the rule of thumb says who is lost, not who comes back
        return []
    found = ((key, *seed_rule(row)) for key, row in rows.items())
    return [PatientScore(key, question, None, "seed_rule", "", lost, why, now, now) for key, lost, why in found]


def _is_window_open(features: pd.DataFrame) -> pd.Series:
    """Whether the recall window has not passed: after it the question is answered."""
    interval = features["recall_interval_mean_ever_days"]
    grace = np.maximum(LAPSE_GRACE_DAYS, LAPSE_GRACE_SHARE * interval.fillna(0))
    return features["days_since_due"] < grace


def _by_patient(frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    rows = zip(frame.index, frame.to_numpy(float).tolist(), strict=True)
    return {str(key): dict(zip(frame.columns, row, strict=True)) for key, row in rows}
