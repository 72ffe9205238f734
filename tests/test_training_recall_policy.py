"""The recall policy: learned from a practice's own draws, stored, loaded without training, honest without data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from features.contracts import RECALL
from features.store import build_patients
from training import models, registry
from training.metrics import sigmoid
from training.portable_policy import PortablePolicy
from training.randomised import Trial
from training.recall import RecallModel, learn
from training.recall_training import RULES, _policy, train

NOW = pd.Timestamp("2026-11-17 01:30", tz="UTC").to_pydatetime()
SEEN, DUE = "days_since_last_visit", "days_since_due"


def draws(size: int, lift: str) -> tuple[pd.DataFrame, Trial]:
    random = np.random.default_rng(4)
    features = pd.DataFrame({name: random.normal(size=size) for name in RECALL.feature_names})
    seen, due, age = (features[name].to_numpy() for name in (SEEN, DUE, "years_since_birth"))
    arm = random.choice(["hold_out", "sms", "phone"], size)
    moved = {"uplift": 1.4 * (age - due), "rule": 1.8 * (seen < 0) - 0.4, "response": 0.4 + 0 * seen}[lift]
    label = (random.random(size) < sigmoid(-0.5 + 0.7 * due + (arm != "hold_out") * moved)).astype(int)
    examples = pd.DataFrame({"arm": arm, "label": label, "propensity": 1 / 3, "household_id": np.arange(size)})
    contacted = (arm != "hold_out").astype(float)
    return examples, Trial(features, contacted, label.astype(float), np.full(size, 2 / 3), np.arange(size))


@pytest.mark.parametrize("lift", ["uplift", "rule", "response"])
def test_stored_policy_ranks_as_what_was_learned(lift: str, tmp_path: Path) -> None:
    examples, trial = draws(1500, lift)
    learned: RecallModel = learn(trial, RULES)
    policy = _policy(RECALL, learned, None, examples)
    assert policy.rank_by == lift
    stored = PortablePolicy()
    stored.load_context(SimpleNamespace(artifacts=policy.save(tmp_path / "p")))
    assert stored.policy.described == policy.described
    found, expected = stored.predict(None, trial.features), learned.score(trial.features)
    pd.testing.assert_frame_equal(found, expected)
    assert stored.policy.channels == ("sms", "phone")
    assert set(stored.policy.sentences) == {"en", "zh"}
    assert stored.policy.is_times_value == (lift != "rule")


@pytest.fixture(scope="module")
def trained(practice_at: Any, small_practice: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The small practice, whose draws are too few to learn from."""
    import shutil
    from datetime import date

    settings = practice_at(tmp_path_factory.mktemp("recall")).settings
    shutil.copytree(small_practice.settings.paths.data, settings.paths.data)
    build_patients(settings, NOW, first=date(2026, 8, 1))
    return settings, train(settings, RECALL, NOW)


def test_without_enough_draws_the_policy_says_so_and_ranks_by_return(trained: Any) -> None:
    settings, training = trained
    assert training.learned is None
    assert training.policy.rank_by == "return"
    assert "is not known: " in training.policy.sentences["en"]
    assert "未知" in training.policy.sentences["zh"]
    assert training.registered.is_champion
    client = registry.connect(settings)
    run = client.get_run(training.registered.run_id)
    assert run.data.metrics == {"draws": training.examples, "claims_ranking": 0.0}
    told = mlflow.artifacts.load_dict(f"runs:/{training.registered.run_id}/policy.json")
    assert (told["rank_by"], told["effect"]) == ("return", None)
    page = models.card_of(settings, "recall")
    assert "What a contact changes is not known" in page
    assert "Campaigns left out" in page
    assert [version.kind for version in models.versions(settings, ["recall"])] == ["policy"]


LOADED = """
import json, sys
sys.modules["training"] = sys.modules["features"] = None
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/recall@champion")
frame = pd.DataFrame(json.loads(sys.argv[2]))
print(json.dumps(model.predict(frame)["rank_score"].tolist()))
try:
    model.predict(frame.drop(columns="return_90d"))
except Exception as error:
    print(error)
"""


def test_policy_loads_where_training_is_not_installed(trained: Any) -> None:
    settings, _ = trained
    frame = {name: [0.0, 1.0] for name in RECALL.feature_names} | {"return_90d": [0.2, 0.7]}
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADED, settings.paths.tracking_uri, json.dumps(frame)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert json.loads(said[0]) == [0.2, 0.7]
    assert "Expected column return_90d" in said[1]
