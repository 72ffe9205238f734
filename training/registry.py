"""MLflow: where runs are tracked, models are kept, and the champion is named."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before mlflow is imported: it looks hosts up
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")  # or it copies the lock file into every model

import mlflow
import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from features.contracts import REGRESSION, ModelContract
from features.settings import Settings
from training.portable_policy import RETURN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from training.portable_model import Blend

# By what a score is about.
EXPERIMENTS = {"appointment": "no-show", "patient": "patients", "plan": "plans", "clinic": "demand"}
CHAMPION, CHALLENGER, RULE = "champion", "challenger", "rule"
PASSED = "passed"
BEFORE = "champion_before"
LONGEST_TAG = 4000
PORTABLE = Path(__file__).parent / "portable_model.py"
POLICY = Path(__file__).parent / "portable_policy.py"
REQUIREMENTS = ("joblib", "lightgbm", "mlflow", "numpy", "pandas", "scikit-learn")


class Portable(Protocol):
    """A model that is stored so that it loads where `training` is not installed."""

    def save(self, folder: Path) -> dict[str, str]:
        """Write the parts into `folder` and name them, for MLflow's ``artifacts``."""


@dataclass(frozen=True)
class Registered:
    """A model version as the registry holds it."""

    name: str
    version: int
    run_id: str
    is_champion: bool


@dataclass(frozen=True)
class Part:
    """One origin of a training, a run of its own inside the training's run."""

    name: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Made:
    """A training's result, ready to be logged.

    Attributes
    ----------
    model : Portable
        The fitted model.
    metrics, tags, parameters
        As they shall stand in MLflow.
    figures : mapping of str to matplotlib Figure
        By file name.
    documents : mapping of str to str
        Text artifacts by file name.
    data : pandas.DataFrame
        What was learned from; its number of rows and a digest are logged, no row.
    failures : tuple of str
        Why the gate is shut; empty if the model becomes champion.
    parts : sequence of Part
        Its origins.
    rule : Blend or None
        The rule that is in use as long as no model is, as a model.
    portable : Path
        The file that loads the model: `PORTABLE` or `POLICY`.
    """

    model: Portable
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    parameters: Mapping[str, Any]
    figures: Mapping[str, Figure]
    documents: Mapping[str, str]
    data: pd.DataFrame
    failures: tuple[str, ...]
    parts: Sequence[Part] = ()
    rule: Blend | None = None
    portable: Path = PORTABLE


def connect(settings: Settings) -> mlflow.MlflowClient:
    """Point MLflow at the practice's ``mlruns/`` folder, make sure of the experiments and return a client."""
    folder = settings.paths.mlruns
    artifacts = folder / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    uri = settings.paths.tracking_uri
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    for experiment in EXPERIMENTS.values():
        if client.get_experiment_by_name(experiment) is None:
            client.create_experiment(experiment, artifact_location=artifacts.as_posix())
    return client


def log_version(settings: Settings, contract: ModelContract, made: Made) -> Registered:
    """Log one training run with its model, register the model, and name it champion if it earned it.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    contract : ModelContract
        What the model answers; its name is the registered model's name.
    made : Made

    Returns
    -------
    Registered
    """
    client = connect(settings)
    mlflow.set_experiment(EXPERIMENTS[contract.entity])
    with mlflow.start_run(run_name=contract.name) as run:
        mlflow.log_params(dict(made.parameters))
        mlflow.log_metrics(dict(made.metrics))
        mlflow.set_tags({**made.tags, "contract": contract.name, "fingerprint": contract.fingerprint})
        mlflow.log_input(_described(contract, made.data), context="training")
        for name, figure in made.figures.items():
            mlflow.log_figure(figure, f"plots/{name}")
        for name, text in made.documents.items():
            mlflow.log_text(text, name)
        for part in made.parts:
            with mlflow.start_run(run_name=part.name, nested=True):
                mlflow.log_metrics(dict(part.metrics))
                mlflow.set_tags({"contract": contract.name, "kind": "origin"})
        run_id = run.info.run_id
        model_id = _log_model(contract, made.model, contract.name, made.portable)
        rule_id = _log_model(contract, made.rule, f"{contract.name}_rule", PORTABLE) if made.rule else ""
    if rule_id:
        rule = _register(client, contract, rule_id, run_id, {"kind": "rule", "gate": "a rule"})
        client.set_registered_model_alias(contract.name, RULE, rule)
    gate = "; ".join(made.failures) or PASSED
    kind = {"kind": made.tags.get("kind", "model"), "gate": gate[:LONGEST_TAG]}
    version = _register(client, contract, model_id, run_id, kind)
    client.set_registered_model_alias(contract.name, CHALLENGER, version)
    if not made.failures:
        name_champion(client, contract.name, version)
    return Registered(contract.name, int(version), run_id, not made.failures)


def name_champion(client: mlflow.MlflowClient, name: str, version: str) -> None:
    """Move the alias ``champion``, and remember which version it is taken from."""
    before = version_called(client, name, CHAMPION)
    if before != version:
        client.set_model_version_tag(name, version, BEFORE, before)
    client.set_registered_model_alias(name, CHAMPION, version)


def version_called(client: mlflow.MlflowClient, name: str, alias: str) -> str:
    """The version that an alias names; empty if there is none."""
    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException:
        return ""


def _log_model(contract: ModelContract, model: Portable, name: str, file: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        info = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(file),
            artifacts=model.save(Path(folder) / "model"),
            signature=_signature(contract) if file == PORTABLE else _policy_signature(contract),
            pip_requirements=list(REQUIREMENTS),
        )
    return str(info.model_id)


def _described(contract: ModelContract, data: pd.DataFrame) -> MetaDataset:
    """Name, digest and origin of a training set; MLflow's own data sets would keep a profile of the rows."""
    columns = data[["as_of", "label", *contract.feature_names]]
    digest = hashlib.sha256(pd.util.hash_pandas_object(columns, index=False).to_numpy().tobytes()).hexdigest()[:16]
    source = CodeDatasetSource({"contract": contract.name, "rows": str(len(data))})
    return MetaDataset(source, name=f"{contract.name}_examples", digest=digest)


def _register(
    client: mlflow.MlflowClient, contract: ModelContract, model_id: str, run_id: str, tags: Mapping[str, str]
) -> str:
    """Make a logged model the newest version of its contract, without MLflow's own lines on the screen."""
    with suppress(MlflowException):  # it is there from an earlier training
        client.create_registered_model(contract.name)
    tags = {"fingerprint": contract.fingerprint, "question": contract.question, **tags}
    made = client.create_model_version(contract.name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id)
    return str(made.version)


def _signature(contract: ModelContract) -> ModelSignature:
    """The schema alone: an input example would store real patients' rows."""
    return ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in contract.feature_names]),
        outputs=Schema([ColSpec("double", "amount" if contract.task == REGRESSION else "probability")]),
        params=ParamSchema([ParamSpec("explain", "boolean", False)]),
    )


def _policy_signature(contract: ModelContract) -> ModelSignature:
    """The contract's features; the score of a return only where a policy ranks by it."""
    columns = [ColSpec("double", name) for name in contract.feature_names]
    return ModelSignature(
        inputs=Schema([*columns, ColSpec("double", RETURN, required=False)]),
        outputs=Schema([ColSpec("double", "rank_score"), ColSpec("double", "uplift")]),
    )
