"""Training from end to end on a simulated practice: proof, registration, promotion."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from features.contracts import CONTRACTS
from features.errors import NotBuiltError, NotEnoughDataError
from features.store import build, last_build, register
from serving.models import load_champion
from training import no_show
from training.evaluation import compare
from training.no_show import TEST_SHARE, Evaluation, evaluate, fit, published, train
from training.registry import connect
from training.splits import Split, newest_share, split_at

NAMES = tuple(CONTRACTS)


@pytest.fixture(scope="module")
def examples(trained_practice: Any) -> dict[str, pd.DataFrame]:
    return {name: trained_practice.examples(name) for name in NAMES}


def halves(found: pd.DataFrame) -> Split:
    return split_at(found, newest_share(found, TEST_SHARE))


def version_of(trained_practice: Any, name: str) -> Any:
    client = connect(trained_practice.settings)
    return client.get_model_version(name, str(trained_practice.trainings[name].registered.version))


@pytest.mark.parametrize("name", NAMES)
def test_run_says_what_it_was_made_of(trained_practice: Any, name: str) -> None:
    settings, training = trained_practice.settings, trained_practice.trainings[name]
    run = connect(settings).get_run(training.registered.run_id).data
    built = last_build(settings)
    assert built is not None
    for table, number in built.records.items():
        assert run.tags[f"records_{table}"] == str(number)
    assert run.tags["contract"] == name
    assert run.tags["fingerprint"] == CONTRACTS[name].fingerprint
    assert run.tags["trained_until"] == "2026-11-17T01:30:00+00:00"
    assert pd.Timestamp(run.tags["test_from"]) == training.evaluation.start
    assert int(run.params["examples"]) == training.examples
    assert run.metrics["auc"] == training.evaluation.scores["model"]["auc"]
    for rule in ("prior", "past_rate", "lead_time", "spline_logistic"):
        assert run.metrics[f"{rule}_log_loss"] == training.evaluation.scores[rule]["log_loss"]
        assert run.metrics[f"over_{rule}_log_loss_lower"] == training.evaluation.comparisons[rule]["log_loss"].lower


@pytest.mark.parametrize("name", NAMES)
def test_version_and_its_aliases(trained_practice: Any, name: str) -> None:
    training, version = trained_practice.trainings[name], version_of(trained_practice, name)
    assert version.tags["fingerprint"] == CONTRACTS[name].fingerprint
    assert version.tags["question"] == CONTRACTS[name].question
    assert version.run_id == training.registered.run_id
    assert training.registered.is_champion == (not training.evaluation.failures)
    assert set(version.aliases) == {"challenger", *(["champion"] if training.registered.is_champion else [])}


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_pictures(trained_practice: Any, name: str, tmp_path: Path) -> None:
    connect(trained_practice.settings)
    folder = Path(
        mlflow.artifacts.download_artifacts(
            run_id=trained_practice.trainings[name].registered.run_id, dst_path=str(tmp_path)
        )
    )
    for picture in ("roc", "reliability", "lift"):
        content = (folder / "plots" / f"{picture}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5000
    assert (folder / "promotion.txt").read_text().strip()


def test_simulated_signal_is_found_and_promoted(trained_practice: Any) -> None:
    for training in trained_practice.trainings.values():
        assert training.evaluation.failures == ()
        assert training.registered.is_champion
        assert training.evaluation.scores["model"]["auc"] > 0.62


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_looks_at_the_newest_visits_alone(
    trained_practice: Any, examples: dict[str, pd.DataFrame], name: str
) -> None:
    evaluation, split = trained_practice.trainings[name].evaluation, halves(examples[name])
    assert evaluation.start == split.start
    assert evaluation.label.tolist() == split.test["label"].tolist()
    assert (split.train["label_known_at"] <= split.start).all()
    assert (split.test["starts_at"] >= split.start).all()
    assert len(split.test) == pytest.approx(TEST_SHARE * len(examples[name]), rel=0.05)


def test_training_twice_gives_the_same_model(trained_practice: Any, examples: dict[str, pd.DataFrame]) -> None:
    """The one in the registry, loaded from its files, is the one that the same examples make again."""
    name = "no_show_evening"
    champion = load_champion(trained_practice.settings, CONTRACTS[name])
    assert champion is not None
    again = fit(CONTRACTS[name], examples[name])
    rows = examples[name].tail(500)
    assert np.abs(champion.score(rows)["probability"].to_numpy() - again.predict(rows)).max() < 1e-12


def test_evening_model_is_not_better_than_the_truth(trained_practice: Any, examples: dict[str, pd.DataFrame]) -> None:
    """What the simulator drew outcomes from is the ceiling; above it would be a leak."""
    evaluation = trained_practice.trainings["no_show_evening"].evaluation
    test = halves(examples["no_show_evening"]).test
    file = trained_practice.folder.root / "export" / "truth" / "bookings_truth.csv"
    known = pd.read_csv(file).set_index("appointment_id")["missed_probability_evening_before"]
    truth = known.loc[test["appointment_id"]].to_numpy(float)
    is_there = ~np.isnan(truth)
    assert is_there.mean() > 0.95
    compared = compare(
        "auc",
        evaluation.label[is_there],
        evaluation.predictions["model"][is_there],
        truth[is_there],
        test["patient_id"][is_there],
    )
    assert compared.difference <= 2 * (compared.upper - compared.lower) / 3.92
    assert compared.difference > -0.2  # and it comes some of the way


@pytest.mark.parametrize("what", ["labels", "features"])
def test_a_practice_without_signal_is_not_promoted(examples: dict[str, pd.DataFrame], what: str) -> None:
    name = "no_show_booking"
    contract, found = CONTRACTS[name], examples[name].copy()
    order = np.random.default_rng(5).permutation(len(found))
    columns = ["label"] if what == "labels" else list(contract.feature_names)
    found[columns] = found[columns].to_numpy()[order]
    split = halves(found)
    evaluation = evaluate(contract, split, fit(contract, split.train))
    assert evaluation.failures
    assert abs(evaluation.scores["model"]["auc"] - 0.5) < 0.05


def test_failures_name_the_rules_not_beaten(trained_practice: Any) -> None:
    evaluation: Evaluation = trained_practice.trainings["no_show_booking"].evaluation
    for rule in ("prior", "past_rate", "lead_time"):
        worse = replace(evaluation.comparisons[rule]["log_loss"], lower=-0.001)
        spoilt = replace(evaluation, comparisons={**evaluation.comparisons, rule: {"log_loss": worse}})
        assert [rule in failure for failure in spoilt.failures] == ([True] if rule != "lead_time" else [])


def test_an_unproven_model_leaves_the_champion_alone(
    trained_practice: Any, examples: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "no_show_booking"
    settings, first = trained_practice.settings, trained_practice.trainings[name]
    client = connect(settings)
    failing = replace(
        first.evaluation,
        comparisons={
            rule: {metric: replace(c, lower=-1.0) for metric, c in by_metric.items()}
            for rule, by_metric in first.evaluation.comparisons.items()
        },
    )
    monkeypatch.setattr(no_show, "evaluate", lambda *_: failing)
    monkeypatch.setattr(no_show, "fit", lambda contract, found: _small(contract, found))
    second = train(settings, CONTRACTS[name], pd.Timestamp("2026-11-17T01:30:00Z").to_pydatetime())
    try:
        assert second.registered.version == first.registered.version + 1
        assert not second.registered.is_champion
        by_alias = {a: int(client.get_model_version_by_alias(name, a).version) for a in ("champion", "challenger")}
        assert by_alias == {"champion": first.registered.version, "challenger": second.registered.version}
        monkeypatch.setattr(no_show, "evaluate", lambda *_: first.evaluation)
        third = train(settings, CONTRACTS[name], pd.Timestamp("2026-11-17T01:30:00Z").to_pydatetime())
        assert third.registered.is_champion
        assert int(client.get_model_version_by_alias(name, "champion").version) == third.registered.version
    finally:
        for alias in ("champion", "challenger"):
            client.set_registered_model_alias(name, alias, str(first.registered.version))


def _small(contract: Any, found: pd.DataFrame) -> Any:
    from training.learners import spline_logistic
    from training.portable_model import Blend

    read = (*contract.features, *contract.conditions)
    columns = [feature.name for feature in read]
    logistic = spline_logistic(read).fit(found[columns], found["label"].to_numpy(float))
    return Blend(contract.feature_names, logistic, None, conditions=tuple(c.name for c in contract.conditions))


def test_level_follows_what_was_known_when_asked(examples: dict[str, pd.DataFrame]) -> None:
    """Outcomes known at or after the moment asked move nothing; earlier ones do."""
    split = halves(examples["no_show_evening"])
    model = _small(CONTRACTS["no_show_evening"], split.train)
    test = split.test.reset_index(drop=True)
    asked = test["as_of"]
    before = published(model, test, asked)
    moment = asked.sort_values().iloc[len(test) // 2]
    poisoned = test.assign(label=np.where(test["label_known_at"] >= moment, 1 - test["label"], test["label"]))
    after = published(model, poisoned, asked)
    early = (asked <= moment).to_numpy()
    assert after[early].tolist() == before[early].tolist()
    assert (after[~early] != before[~early]).any()


def test_conditions_reach_the_examples(examples: dict[str, pd.DataFrame]) -> None:
    assert set(examples["no_show_booking"]["is_reminder_outage"].unique()) <= {0.0, 1.0}
    assert "is_reminder_outage" not in examples["no_show_evening"]


def test_too_little_history_registers_nothing(practice_here: Any, trained_practice: Any) -> None:
    from features.records.landing import import_files
    from features.records.mapping import load_mapping
    from features.simulator import PracticePlan, simulate, write_export

    now = trained_practice.simulated.plan.now
    settings = practice_here.settings
    with pytest.raises(NotBuiltError, match="features build"):
        train(settings, CONTRACTS["no_show_booking"], now)
    write_export(simulate(PracticePlan(now=now, patients=30, years=1)), practice_here.root / "export")
    mapping = load_mapping(practice_here.root / "export" / "mapping.toml")
    import_files(practice_here.store, practice_here.root / "export", mapping, now)
    build(settings, now)
    register(settings)
    for contract in CONTRACTS.values():
        with pytest.raises(NotEnoughDataError, match=r"expected at least 300 visits .* Import more history\.$"):
            train(settings, contract, now)
        with pytest.raises(NotEnoughDataError, match="there are 0, 0 of them missed"):
            train(settings, contract, pd.Timestamp("2020-01-01", tz="UTC").to_pydatetime())
    assert not settings.paths.mlruns.exists()


def test_no_patient_is_in_mlflow(trained_practice: Any) -> None:
    """Neither ids nor names nor rows; ids look like A0000001 and P000001 in this practice."""
    wanted = re.compile(rb"\b[AP]0\d{5,6}\b|\bH\d{6}\b|Zqmarker|appointment_id|patient_id")
    files = [path for path in trained_practice.settings.paths.mlruns.rglob("*") if path.is_file()]
    assert any(path.name == "mlflow.db" for path in files)
    assert any(path.name == "logistic.joblib" for path in files)
    for path in files:
        assert not wanted.search(path.read_bytes()), path
        assert "input_example" not in path.name
