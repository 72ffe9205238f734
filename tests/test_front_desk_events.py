"""From the records to flags, and from an event at the desk to a changed flag: the real scorer on a real practice."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from features.contracts import LAPSE
from features.settings import Paths, Settings
from serving.db import ScoreRow, reading
from serving.desk_events import Told, finish, read_event, tell, waiting
from serving.desk_tables import PatientRow
from serving.patient_scoring import last_used_of_patients, score_patients
from serving.patients import Standing, read_dossier, standings
from serving.schedule import read_booking, read_publication
from serving.scorer import Scorer, follow_patients, take_in_events
from serving.scoring import score


@pytest.fixture(scope="module")
def now(trained_practice: Any) -> datetime:
    moment: datetime = trained_practice.simulated.plan.now
    return moment


@pytest.fixture(scope="module")
def settings(trained_practice: Any, now: datetime, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A copy of the trained practice, since events change its records; with last midnight's snapshot and all scores."""
    from features.store import build_patients, register

    root = tmp_path_factory.mktemp("desk")
    source = trained_practice.settings.paths
    shutil.copytree(source.data, root / "data", ignore=shutil.ignore_patterns("revisit.db*", "feast"))
    (root / "mlruns" / "artifacts").mkdir(parents=True)
    shutil.copy(source.mlruns / "mlflow.db", root / "mlruns")
    made: Settings = trained_practice.settings.model_copy(
        update={"paths": Paths(data=root / "data", mlruns=root / "mlruns")}
    )
    build_patients(made, now, first=now.date() - timedelta(days=1))
    register(made)
    report = score_patients(made, now)
    assert report.patients == trained_practice.simulated.tables["patients"]["patient_id"].nunique()
    assert report.kinds == {"lapse": "seed_rule", "return_90d": "seed_rule"}
    score(made, now)
    return made


@pytest.fixture
def scorer(settings: Settings) -> Iterator[Scorer]:
    made = Scorer(settings)
    yield made
    made.engine.dispose()


def everybody(scorer: Scorer) -> dict[str, Standing]:
    with reading(scorer.engine) as session:
        return standings(session, session.scalars(select(PatientRow.patient_id)).all())


def test_flags_say_what_the_records_say(trained_practice: Any, scorer: Scorer, now: datetime) -> None:
    found, midnight = everybody(scorer), f"{now - timedelta(hours=9, minutes=30):%Y-%m-%d %H:%M}+00"
    rows = trained_practice.folder.rows(
        f"""SELECT patient_id, count(*), sum(fee_cents)::BIGINT FROM (
            SELECT * FROM plan_items WHERE known_at < TIMESTAMPTZ '{midnight}'
            QUALIFY row_number() OVER (PARTITION BY plan_item_id ORDER BY known_at DESC, recorded_at DESC) = 1)
        WHERE completed_at IS NULL AND declined_at IS NULL GROUP BY patient_id"""
    )
    told = {
        key: (one.patient.open_items, one.patient.open_cents) for key, one in found.items() if one.patient.open_items
    }
    assert told == {key: (items, cents) for key, items, cents in rows}
    households: dict[str, list[Any]] = {}
    for one in found.values():
        households.setdefault(one.patient.household_id or one.patient.patient_id, []).append(one.patient)
    for home in households.values():
        due = {p.patient_id for p in home if (p.days_overdue or 0) > 0 and not p.has_booking_ahead and not p.departure}
        assert all(p.family_due == len(due - {p.patient_id}) for p in home)
    assert max(one.patient.family_due for one in found.values()) > 0
    for one in found.values():
        lapse = one.scores.get("lapse")
        if lapse is not None:
            assert lapse.probability is None
            assert lapse.is_at_risk == (one.patient.unanswered >= 2 or one.patient.recalls_missed > 3)
            assert one.patient.is_scoring_allowed
            assert not one.patient.departure


def test_a_contact_and_a_booking_change_the_flags(scorer: Scorer, now: datetime) -> None:
    calm = next(
        one.patient
        for one in everybody(scorer).values()
        if one.patient.unanswered == 0 and "lapse" in one.scores and not one.patient.has_booking_ahead
    )
    at = now + timedelta(minutes=5)
    before = read_publication(scorer.engine)
    record = {"patient_id": calm.patient_id, "direction": "out", "channel": "phone", "purpose": "recall"}
    for number in range(2):
        sent = at + timedelta(minutes=number)
        row = record | {"communication_id": f"C{number}", "sent_at": sent.isoformat()}
        tell(scorer.engine, Told("communications", row, calm.patient_id, calm.clinic_id), "mei", sent)
        take_in_events(scorer, sent + timedelta(seconds=1))
    after = read_dossier(scorer.engine, calm.patient_id)
    assert after is not None
    assert after.standing.patient.unanswered == 2
    assert after.standing.scores["lapse"].is_at_risk, "two calls without an answer, as the rule in use has it"
    assert [one["id"] for one in after.card["contacts"][:2]] == ["C1", "C0"]
    starts = now + timedelta(days=3)
    booking = {
        "appointment_id": "B1", "patient_id": calm.patient_id, "clinic_id": calm.clinic_id or "K1", "status": "booked",
        "service_line": "hygiene", "starts_at": starts.isoformat(),
        "booked_at": (at + timedelta(minutes=3)).isoformat(),
    }  # fmt: skip
    number = tell(scorer.engine, Told("appointments", booking, calm.patient_id, calm.clinic_id), "mei", at)
    take_in_events(scorer, at + timedelta(minutes=4))
    told = read_event(scorer.engine, number)
    assert told is not None
    assert (told.state, told.problem) == ("done", None)
    published = read_booking(scorer.engine, "B1")
    assert published is not None
    assert (published.status, published.starts_at) == ("booked", starts)
    with reading(scorer.engine) as session:
        scored = session.scalars(select(ScoreRow).where(ScoreRow.appointment_id == "B1")).one()
        assert (scored.contract, scored.model_version) == ("no_show_booking", "1")
        assert 0 < scored.probability < 1
    gone = {
        "appointment_id": "B1",
        "status": "cancelled_early",
        "status_known_at": (at + timedelta(minutes=5)).isoformat(),
    }
    tell(scorer.engine, Told("appointments", gone, calm.patient_id, calm.clinic_id), "mei", at)
    take_in_events(scorer, at + timedelta(minutes=6))
    cancelled = read_booking(scorer.engine, "B1")
    assert cancelled is not None
    assert cancelled.status == "cancelled_early"
    newest = read_publication(scorer.engine)
    assert newest is not None
    assert before is not None
    assert newest.publication_id > before.publication_id, "or pages would go on with what they hold"
    assert newest.context == before.context


def test_what_contradicts_the_records_is_refused_and_the_next_is_taken_in(scorer: Scorer, now: datetime) -> None:
    patient = next(iter(everybody(scorer)))
    wrong = {"communication_id": "W1", "patient_id": patient, "direction": "sideways", "channel": "phone",
             "purpose": "recall", "sent_at": now.isoformat()}  # fmt: skip
    first = tell(scorer.engine, Told("communications", wrong, patient, None), "mei", now)
    second = tell(scorer.engine, Told("communications", wrong | {"direction": "in"}, patient, None), "mei", now)
    take_in_events(scorer, now + timedelta(hours=1))
    states = [read_event(scorer.engine, number) for number in (first, second)]
    assert [one and one.state for one in states] == ["failed", "done"]
    assert "direction" in str(states[0] and states[0].problem)
    assert "sideways" not in str(states[0] and states[0].problem)
    assert waiting(scorer.engine) == []
    finish(scorer.engine, second, now + timedelta(days=40))
    assert read_event(scorer.engine, first) is None, "long past"


def test_a_champion_takes_over_from_the_rule(settings: Settings, scorer: Scorer, now: datetime) -> None:
    assert last_used_of_patients(scorer.engine) == {}
    _promote_something(settings)
    follow_patients(scorer, now + timedelta(hours=2))
    assert last_used_of_patients(scorer.engine) == {"lapse": "1"}
    found = [one for one in everybody(scorer).values() if "lapse" in one.scores]
    assert len(found) > 100
    overdue = np.array([one.patient.days_overdue or 0 for one in found])
    chances = np.array([one.scores["lapse"].probability for one in found], dtype=float)
    assert np.corrcoef(overdue, chances)[0, 1] > 0.5
    for one in found:
        lapse = one.scores["lapse"]
        assert lapse.is_at_risk == (round(lapse.probability or 0, 2) >= settings.desk.lapse_risk)
        assert lapse.reasons[0].code == "overdue"


def _promote_something(settings: Settings) -> None:
    """Register a small model of lapsing as champion: a spline of the days past the due date."""
    from training.patient_rules import OVERDUE, rule_model
    from training.patients import QUESTIONS
    from training.registry import Made, log_version

    days = np.linspace(-200, 89, 400)
    label = (np.sin(np.arange(400)) > -days / 100).astype(float)
    frame = pd.DataFrame(dict.fromkeys(LAPSE.feature_names, 0.0), index=range(400))
    frame = frame.assign(**{OVERDUE: days}, label=label, as_of=pd.Timestamp("2026-01-01", tz="UTC"))
    model = rule_model(QUESTIONS["lapse"], frame, OVERDUE)
    tags = {"trained_until": "2026-11-01T00:00:00+00:00", "kind": "model"}
    made = Made(model, {}, tags, {}, {}, {}, frame, failures=())
    assert log_version(settings, LAPSE, made).is_champion


def test_names_are_with_bookings_and_patients_alone(settings: Settings) -> None:
    path, marker = settings.paths.data / "revisit.db", "Zqmarker"
    with sqlite3.connect(path) as con:
        tables = [row[0] for row in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        holding = [t for t in tables if any(marker in str(row) for row in con.execute(f'SELECT * FROM "{t}"'))]
        phones = [t for t in tables if any("+86-000-" in str(row) for row in con.execute(f'SELECT * FROM "{t}"'))]
    con.close()
    assert sorted(holding) == ["bookings", "patients"]
    assert phones == []
