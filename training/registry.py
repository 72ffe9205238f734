"""MLflow: where runs are tracked, models are kept, and the champion is named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before mlflow is imported: it looks hosts up
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")  # or it copies the lock file into every model

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from features.contracts import ModelContract
from features.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from training.portable_model import Blend

EXPERIMENT = "no-show"
CHAMPION, CHALLENGER = "champion", "challenger"
PORTABLE = Path(__file__).parent / "portable_model.py"
REQUIREMENTS = ("joblib", "lightgbm", "mlflow", "numpy", "pandas", "scikit-learn")


@dataclass(frozen=True)
class Registered:
    """A model version as the registry holds it."""

    name: str
    version: int
    run_id: str
    is_champion: bool


def connect(settings: Settings) -> mlflow.MlflowClient:
    """Point MLflow at the practice's ``mlruns/`` folder and return a client."""
    folder = settings.paths.mlruns
    artifacts = folder / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    uri = settings.paths.tracking_uri
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    if client.get_experiment_by_name(EXPERIMENT) is None:
        client.create_experiment(EXPERIMENT, artifact_location=artifacts.as_posix())
    return client


def log_version(
    settings: Settings,
    contract: ModelContract,
    model: Blend,
    *,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    parameters: Mapping[str, Any],
    figures: Mapping[str, Figure],
    documents: Mapping[str, str],
    is_promoted: bool,
) -> Registered:
    """Log one training run with its model, register the model, and name it champion if it earned it.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    contract : ModelContract
        What the model answers; its name is the registered model's name.
    model : Blend
        The fitted model.
    metrics, tags, parameters
        As they shall stand in MLflow.
    figures : mapping of str to matplotlib Figure
        By file name.
    documents : mapping of str to str
        Text artifacts by file name.
    is_promoted : bool
        Whether the alias ``champion`` moves to this version.

    Returns
    -------
    Registered
    """
    client = connect(settings)
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=contract.name) as run, tempfile.TemporaryDirectory() as folder:
        mlflow.log_params(dict(parameters))
        mlflow.log_metrics(dict(metrics))
        mlflow.set_tags({**tags, "contract": contract.name, "fingerprint": contract.fingerprint})
        for name, figure in figures.items():
            mlflow.log_figure(figure, f"plots/{name}")
        for name, text in documents.items():
            mlflow.log_text(text, name)
        info = mlflow.pyfunc.log_model(
            name=contract.name,
            python_model=str(PORTABLE),
            artifacts=model.save(Path(folder) / "model"),
            signature=_signature(contract),
            pip_requirements=list(REQUIREMENTS),
        )
    version = _register(client, contract, info.model_id, run.info.run_id)
    client.set_registered_model_alias(contract.name, CHALLENGER, version)
    if is_promoted:
        client.set_registered_model_alias(contract.name, CHAMPION, version)
    return Registered(contract.name, int(version), run.info.run_id, is_promoted)


def _register(client: mlflow.MlflowClient, contract: ModelContract, model_id: str, run_id: str) -> str:
    """Make a logged model the newest version of its contract, without MLflow's own lines on the screen."""
    with suppress(MlflowException):  # it is there from an earlier training
        client.create_registered_model(contract.name)
    tags = {"fingerprint": contract.fingerprint, "question": contract.question}
    made = client.create_model_version(contract.name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id)
    return str(made.version)


def _signature(contract: ModelContract) -> ModelSignature:
    """The schema alone: an input example would store real patients' rows."""
    return ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in contract.feature_names]),
        outputs=Schema([ColSpec("double", "probability")]),
        params=ParamSchema([ParamSpec("explain", "boolean", False)]),
    )
