"""Champions from the registry: found by alias, checked against the contract, ready to score."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from features.contracts import ModelContract
from features.errors import ModelError
from features.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
_NO_SUCH_ALIAS = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow: no such model; no such alias


@dataclass(frozen=True)
class Version:
    """One registered version of a contract's model.

    Attributes
    ----------
    number : str
        Version in the registry.
    fingerprint : str
        Of the contract that it was trained for.
    run_id : str
        The MLflow run that made it.
    trained_until : datetime
        It has learned from outcomes known before this.
    created_at : datetime
        When it was registered (UTC).
    metrics : dict of str to float
        Of its run.
    """

    number: str
    fingerprint: str
    run_id: str
    trained_until: datetime
    created_at: datetime
    metrics: dict[str, float]


@dataclass(frozen=True)
class Champion:
    """A loaded champion."""

    contract: ModelContract
    version: Version
    model: Any

    def score(self, features: pd.DataFrame, shift: float = 0.0) -> pd.DataFrame:
        """Probabilities and what each feature adds to the logit.

        Parameters
        ----------
        features : pandas.DataFrame
            One row per booking, the contract's features.
        shift : float
            Added to the logit: the level that `features.level` finds.

        Returns
        -------
        pandas.DataFrame
            Same index: ``probability``, one column per feature, ``base``.
        """
        ordered = features[list(self.contract.feature_names)]
        answer: pd.DataFrame = self.model.predict(ordered, params={"explain": True}).set_index(features.index)
        answer["base"] += shift
        log_odds = answer.drop(columns="probability").sum(axis=1)
        return answer.assign(probability=1 / (1 + np.exp(-log_odds)))


def find_champion(settings: Settings, contract: ModelContract) -> Version | None:
    """Look up the champion of a contract; None where no model has earned the alias."""
    return _find(settings, contract, CHAMPION)


def load_champion(settings: Settings, contract: ModelContract) -> Champion | None:
    """Load the champion of a contract; None where no model has earned the alias.

    Raises
    ------
    ModelError
        If it was trained for another version of the contract, or cannot be
        opened.
    """
    version = find_champion(settings, contract)
    if version is None:
        return None
    if version.fingerprint != contract.fingerprint:
        raise ModelError(
            f"{contract.name} version {version.number} was trained for contract {version.fingerprint}, "
            f"but this program's is {contract.fingerprint}. Train again: revisit train."
        )
    import mlflow

    try:
        model = mlflow.pyfunc.load_model(f"models:/{contract.name}/{version.number}")
    except Exception as error:
        raise ModelError(
            f"{contract.name} version {version.number} cannot be opened ({type(error).__name__}); "
            f"is {settings.paths.mlruns} complete? Train again: revisit train."
        ) from error
    return Champion(contract, version, model)


def newest_runs(settings: Settings, contracts: Sequence[ModelContract]) -> dict[str, Version]:
    """The newest registered version per contract, champion or not."""
    found = {contract.name: _find(settings, contract, "challenger") for contract in contracts}
    return {name: version for name, version in found.items() if version}


def _find(settings: Settings, contract: ModelContract, alias: str) -> Version | None:
    from mlflow.exceptions import MlflowException

    if not (settings.paths.mlruns / "mlflow.db").exists():
        return None
    try:
        client = _client(settings)
        found = client.get_model_version_by_alias(contract.name, alias)
        run = client.get_run(found.run_id).data
    except Exception as error:
        if isinstance(error, MlflowException) and error.error_code in _NO_SUCH_ALIAS:
            return None
        raise ModelError(
            f"the model registry {settings.paths.mlruns} cannot be read ({type(error).__name__}); "
            "restore it, or remove the folder and train again: revisit train."
        ) from error
    return Version(
        number=str(found.version),
        fingerprint=found.tags.get("fingerprint", ""),
        run_id=str(found.run_id),
        trained_until=datetime.fromisoformat(run.tags["trained_until"]),
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, tz=UTC),
        metrics=dict(run.metrics),
    )


def _client(settings: Settings) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    uri = settings.paths.tracking_uri
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
