"""Training of the questions about patients: origins, rules, gate, alarms, registration, the way back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import Result

from features.contracts import PATIENT_CONTRACTS
from features.errors import ModelError
from features.snapshots import built
from features.spec import Feature
from features.store import build_patients, open_feast
from training import models, registry
from training.alarms import Alarm
from training.evaluation import Comparison
from training.gate import failures
from training.leaks import leak_alarms
from training.models import train_all
from training.patient_rules import SEED_MISSED_RECALLS, SeedRule
from training.patients import QUESTIONS, PatientTraining
from training.portable_model import VisitProcess
from training.rolling import SPACING, origins, thinned, window

NOW = pd.Timestamp("2026-11-17 01:30", tz="UTC")
NAME = "return_90d"


def outcomes(months: int = 30, patients: int = 20, days: int = 90) -> pd.DataFrame:
    moments = pd.date_range(end="2026-11-01", periods=months, freq="MS", tz="UTC")
    rows = pd.MultiIndex.from_product([moments, range(patients)], names=["as_of", "patient_id"]).to_frame(index=False)
    rows["label_known_at"] = rows["as_of"] + pd.to_timedelta(days, unit="D")
    rows["label"] = (rows["patient_id"] % 3 == 0).astype(int)
    return rows[rows["label_known_at"] <= NOW].reset_index(drop=True)


@pytest.mark.parametrize("days", [90, 180, 365])
def test_origins_are_over_now_and_a_season_apart(days: int) -> None:
    found = outcomes(40, days=days)
    moments = origins(found, NOW)
    assert len(moments) == 3
    assert window(found) == pd.Timedelta(days=days)
    assert moments[0] + pd.Timedelta(days=days) <= NOW
    assert all(later - earlier >= SPACING for later, earlier in pairwise(moments))
    assert moments[-1] - pd.Timedelta(days=days) >= found["as_of"].min()


def test_own_windows_are_not_judged_by_the_short_ones() -> None:
    """Of the newest snapshots only short windows are over; they must not pass for all."""
    found = outcomes(30, days=60)
    long = found["patient_id"] >= 10
    found.loc[long, "label_known_at"] = found["as_of"] + pd.Timedelta(days=300)
    found = found[found["label_known_at"] <= NOW]
    assert window(found) == pd.Timedelta(days=300)
    assert origins(found, NOW)[0] <= NOW - pd.Timedelta(days=300)


def test_short_history_has_no_origin() -> None:
    assert origins(outcomes(4), NOW) == []
    assert origins(outcomes(4).iloc[:0], NOW) == []


def test_thinning_keeps_the_tested_and_a_share_of_the_others() -> None:
    found = outcomes(30, 200)
    tested = origins(found, NOW)
    chosen = thinned(found, tested, most=1000, most_tested=200)
    counts = chosen.groupby("as_of").size()
    assert (counts[tested] == 200).all()
    assert counts.drop(tested).sum() == pytest.approx(1000, rel=0.15)
    pd.testing.assert_frame_equal(chosen, thinned(found, tested, 1000, 200))


def test_seed_rule_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "messages_unanswered_row_count_ever": [0, 1, 2, 0],
            "recalls_missed_row_count_ever": [0, SEED_MISSED_RECALLS, 0, SEED_MISSED_RECALLS + 1],
        }
    )
    said = SeedRule().fit(frame, np.array([0.0, 0.0, 1.0, 1.0])).predict(frame)
    assert said.tolist() == [10 / 22, 10 / 22, 12 / 22, 12 / 22]


def test_process_of_a_lapse_counts_silence_in_the_patients_own_window() -> None:
    frame = pd.DataFrame(
        {
            "visits": [4.0, 4.0],
            "first": [600.0, 600.0],
            "last": [100.0, 100.0],
            "past": [-83.0, 60.0],
            "gap": [183.0] * 2,
        }
    )
    process = VisitProcess("pareto_nbd", (1.0, 100.0, 0.5, 500.0), ("visits", "first", "last"))
    lapse = VisitProcess(process.kind, process.parameters, process.columns, ("past", "gap"))
    silence = lapse.log_odds(frame, 1.0)
    by_hand = [-process.log_odds(frame.iloc[[row]], days)[0] for row, days in enumerate((175, 32))]
    np.testing.assert_allclose(silence, by_hand)
    assert silence[1] > silence[0]


def test_gate_names_rule_level_and_alarm() -> None:
    label, better = np.tile([0.0, 1.0], 2000), {"log_loss": Comparison("log_loss", 0.1, 0.05, 0.15)}
    unsure = {"log_loss": Comparison("log_loss", 0.1, -0.01, 0.2)}
    loud = Alarm("tripwire", 0.99, 0.95, True, "AUC")
    assert failures(label, label * 0.2 + 0.4, {"a": better}, ["a"]) == ()
    found = failures(label, label * 0.2 + 0.2, {"a": better, "b": unsure}, ["a", "b"], [loud])
    assert [word in reason for word, reason in zip(("b on log loss", "1.67", "tripwire"), found, strict=True)] == [
        True
    ] * 3


def test_planted_leak_rings_and_honest_data_do_not() -> None:
    random = np.random.default_rng(2)
    size = 3000
    rows = pd.DataFrame({"past": random.normal(size=size), "clerk": np.nan, "label": 0.0})
    rows["label"] = (random.uniform(size=size) < 1 / (1 + np.exp(1 - rows["past"]))).astype(float)
    rows["clerk"] = np.where(random.uniform(size=size) < 0.1 + 0.6 * rows["label"], 1.0, np.nan)
    rows["as_of"] = pd.Timestamp("2025-01-01", tz="UTC") + pd.to_timedelta(np.arange(size) // 5, unit="D")
    rows["label_known_at"] = rows["as_of"] + pd.Timedelta(days=30)
    rows["patient_id"] = rows["household_id"] = np.arange(size)
    past, clerk = Feature("past", "", "Past [ratio]", "tenure"), Feature("clerk", "", "Filled in later [flag]", None)

    def rings(features: tuple[Feature, ...], auc: float = 0.7) -> set[str]:
        return {a.name for a in leak_alarms(rows, features, "household_id", auc, 0.95) if a.is_ringing}

    assert rings((past,)) == set()
    assert "missingness clerk" in rings((past, clerk))
    assert rings((past,), auc=0.97) == {"tripwire"}


@pytest.fixture(scope="module")
def trained(practice_at: Any, small_practice: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The small practice, its months as snapshots, and one question trained."""
    settings = practice_at(tmp_path_factory.mktemp("patients")).settings
    shutil.copytree(small_practice.settings.paths.data, settings.paths.data)
    build_patients(settings, NOW.to_pydatetime(), first=date(2026, 1, 1))
    (outcome,) = train_all(settings, NOW.to_pydatetime(), [NAME])
    assert outcome.error == ""
    return settings, outcome.training


def test_run_shows_origins_data_and_no_rows(trained: tuple[Any, PatientTraining]) -> None:
    settings, training = trained
    client = registry.connect(settings)
    run = client.get_run(training.registered.run_id)
    assert run.data.tags["fingerprint"] == PATIENT_CONTRACTS[NAME].fingerprint
    assert {f"records_{n}": str(v) for n, v in built(settings).records.items()}.items() <= run.data.tags.items()
    assert run.data.metrics["auc"] == training.evaluation.scores["model"]["auc"]
    for rule in ("last_seen", "weeks_past_due", "seed_rule", "logistic_rfm", "pareto_nbd"):
        assert f"over_{rule}_log_loss_lower" in run.data.metrics
    (data,) = run.inputs.dataset_inputs
    assert len(data.dataset.digest) == 16
    assert data.dataset.profile is None
    parts = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{training.registered.run_id}'")
    assert {part.info.run_name for part in parts} == {
        f"origin {moment:%Y-%m-%d}" for moment in training.evaluation.by_origin["origin"]
    }


def test_tests_lie_after_all_that_was_learned(trained: tuple[Any, PatientTraining]) -> None:
    rows = trained[1].evaluation.rows
    assert (rows["as_of"] <= NOW - pd.Timedelta(days=90)).all()
    assert 0.4 < trained[1].evaluation.scores["model"]["auc"] < 0.95
    assert set(trained[1].evaluation.by_group["group"]) >= {"visits"}


def test_registered_model_answers_from_the_contract_alone(trained: tuple[Any, PatientTraining]) -> None:
    from features.examples import patients_to_score, with_features

    settings, training = trained
    registry.connect(settings)
    as_of = pd.Timestamp(max(built(settings).snapshots["attendance"])).to_pydatetime()
    rows = patients_to_score(settings, as_of)
    features = with_features(open_feast(settings), PATIENT_CONTRACTS[NAME], rows)
    names = list(PATIENT_CONTRACTS[NAME].feature_names)
    aliases = ["challenger", *(["champion"] if training.registered.is_champion else ["rule"])]
    for alias in aliases:
        model = mlflow.pyfunc.load_model(f"models:/{NAME}@{alias}")
        answer = model.predict(features[names].astype(float), params={"explain": True})
        log_odds = answer.drop(columns="probability").sum(axis=1)
        np.testing.assert_allclose(1 / (1 + np.exp(-log_odds)), answer["probability"], atol=1e-9)
        assert answer["probability"].between(0, 1).all()


def test_card_speaks_both_languages(trained: tuple[Any, PatientTraining]) -> None:
    settings, training = trained
    page = models.card_of(settings, NAME, training.registered.version)
    assert "Of 100 patients with the highest scores" in page
    assert "模型评分最高的 100 个患者中" in page
    assert page.count("<svg") == 3
    assert "<script" not in page
    for failure in training.evaluation.failures:
        assert failure.split(" on ")[0] in page


def test_same_records_are_not_trained_twice_and_a_failure_stops_nothing(trained: tuple[Any, PatientTraining]) -> None:
    settings, training = trained
    early = pd.Timestamp("2025-03-01", tz="UTC").to_pydatetime()
    done = list(train_all(settings, early, ["return_365d", NAME]))
    assert "return_365d" in done[0].error
    assert done[1] == models.Outcome(NAME)
    listed = models.versions(settings, [NAME])
    assert max(version.number for version in listed) == training.registered.version


def test_every_patient_question_has_a_trainer() -> None:
    assert set(QUESTIONS) == set(PATIENT_CONTRACTS)
    assert QUESTIONS["lapse"].risk == 1


@pytest.fixture
def three_versions(revisit: Callable[..., Result], tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lapse: 1 and 2 passed the gate, 3 did not, 4 was made for an older contract."""
    from features.settings import load_settings

    monkeypatch.setenv("REVISIT_MLRUNS", str(tmp_path / "mlruns"))
    settings = load_settings()
    client = registry.connect(settings)
    client.create_registered_model("lapse")
    run = client.create_run(client.get_experiment_by_name("patients").experiment_id)
    prints = [PATIENT_CONTRACTS["lapse"].fingerprint] * 3 + ["old"]
    for fingerprint, gate in zip(prints, ("passed", "passed", "not surely better", "passed"), strict=True):
        tags = {"fingerprint": fingerprint, "gate": gate, "kind": "model"}
        client.create_model_version("lapse", str(tmp_path), run.info.run_id, tags=tags)
    return settings, revisit


def test_promote_and_roll_back(three_versions: Any) -> None:
    settings, revisit = three_versions
    client = registry.connect(settings)
    for number in (1, 2):
        assert revisit("promote", "lapse", number).exit_code == 0
    assert registry.version_called(client, "lapse", "champion") == "2"
    for number, reason in ((3, "did not pass the gate"), (4, "trained for contract old"), (9, "no version 9")):
        refused = revisit("promote", "lapse", number)
        assert refused.exit_code == 2
        assert reason in refused.output
    assert registry.version_called(client, "lapse", "champion") == "2"
    assert "lapse version 1 is champion again" in revisit("rollback", "lapse").output
    assert "none to go back to" in revisit("rollback", "lapse").output
    shown = revisit("models").output
    assert "not surely better" in shown
    assert "champion" in shown


def test_questions_without_a_model_are_named(three_versions: Any) -> None:
    settings, _ = three_versions
    with pytest.raises(ModelError, match="no champion to go back from"):
        models.rollback(settings, "return_90d")
    with pytest.raises(ModelError, match="return_90d has no version"):
        models.promote(settings, "return_90d")
    with pytest.raises(ModelError, match="no contract 'nonsense'"):
        models.card_of(settings, "nonsense")
