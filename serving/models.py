"""Champions from the registry: found by alias, checked against the contract, ready to score."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from features.contracts import CONTRACTS, ModelContract
from features.errors import ModelError
from features.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, RULE = "champion", "rule"
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
    return None if version is None else load_version(settings, contract, version)


def load_rule(settings: Settings, contract: ModelContract) -> Champion | None:
    """Load the rule that a contract goes by while no model has earned the alias; None where none is stored, or fits."""
    version = _find(settings, contract, RULE)
    if version is None or version.fingerprint != contract.fingerprint:
        return None
    return load_version(settings, contract, version)


def load_version(settings: Settings, contract: ModelContract, version: Version) -> Champion:
    """Load one version, and have it score one booking, all of whose features are 0.

    Raises
    ------
    ModelError
        If it was trained for another version of the contract, cannot be opened,
        or does not answer.
    """
    if version.fingerprint != contract.fingerprint:
        raise ModelError(
            f"{contract.name} version {version.number} was trained for contract {version.fingerprint}, "
            f"but this program's is {contract.fingerprint}. Train again: revisit train."
        )
    import mlflow

    _client(settings)
    try:
        loaded = Champion(contract, version, mlflow.pyfunc.load_model(f"models:/{contract.name}/{version.number}"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a row that no practice would have
            probability = loaded.score(pd.DataFrame(0.0, [0], list(contract.feature_names)))["probability"][0]
    except Exception as error:
        raise ModelError(
            f"{contract.name} version {version.number} cannot be opened ({type(error).__name__}); "
            f"is {settings.paths.mlruns} complete? Train again: revisit train."
        ) from error
    if not 0 <= probability <= 1:
        raise ModelError(
            f"{contract.name} version {version.number} answers no probability. Train again: revisit train."
        )
    return loaded


class Champions:
    """The champions in use: followed while running, kept where a new one is of no use.

    A new champion replaces the old one in one step, after it was loaded and
    tried; whoever scores meanwhile goes on with the old one. A version that
    failed is not tried again until the alias moves.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    last_used : mapping of str to str
        Version of each contract that made the newest scores: what is kept, at
        the start, where the alias names one that is of no use.
    contracts : mapping of str to ModelContract
        Those to follow; those about bookings by default.

    Attributes
    ----------
    problems : dict of str to str
        Why a contract's newest champion is not in use, if so.
    """

    def __init__(
        self,
        settings: Settings,
        last_used: Mapping[str, str] = MappingProxyType({}),
        contracts: Mapping[str, ModelContract] = CONTRACTS,
    ) -> None:
        self.problems: dict[str, str] = {}
        self._settings = settings
        self._contracts = contracts
        self._last_used = last_used
        self._named: dict[str, str | None] = {}  # what the alias said last
        self._held: dict[str, Champion | None] = {}
        self.refresh()

    def get(self, contract: str) -> Champion | None:
        """Return the champion in use, or None where there is none."""
        return self._held.get(contract)

    def refresh(self) -> list[str]:
        """Look at the registry; return the contracts whose champion in use has changed.

        Raises
        ------
        ModelError
            If the registry itself cannot be read.
        """
        changed = []
        for name, contract in self._contracts.items():
            version = find_champion(self._settings, contract)
            named = version.number if version else None
            if name in self._named and self._named[name] == named:
                continue
            self._named[name] = named
            before = self._held.get(name)
            after = self._choose(contract, version, before)
            if after is not before:
                self._held = {**self._held, name: after}
                changed.append(name)
        return changed

    def _choose(self, contract: ModelContract, version: Version | None, before: Champion | None) -> Champion | None:
        self.problems.pop(contract.name, None)
        if version is None:
            return None
        try:
            return load_version(self._settings, contract, version)
        except ModelError as error:
            self.problems[contract.name] = str(error)
        return before or self._load_last_used(contract, version)

    def _load_last_used(self, contract: ModelContract, failed: Version) -> Champion | None:
        number = self._last_used.get(contract.name)
        version = find_version(self._settings, contract, number) if number and number != failed.number else None
        try:
            return load_version(self._settings, contract, version) if version else None
        except ModelError:
            return None


def newest_runs(settings: Settings, contracts: Sequence[ModelContract]) -> dict[str, Version]:
    """The newest registered version per contract, champion or not."""
    found = {contract.name: _find(settings, contract, "challenger") for contract in contracts}
    return {name: version for name, version in found.items() if version}


def find_version(settings: Settings, contract: ModelContract, number: str) -> Version | None:
    """Look up one version of a contract; None where there is no such version."""
    return _find(settings, contract, number=number)


def _find(settings: Settings, contract: ModelContract, alias: str = "", number: str = "") -> Version | None:
    from mlflow.exceptions import MlflowException

    if not (settings.paths.mlruns / "mlflow.db").exists():
        return None
    try:
        client = _client(settings)
        if alias:
            found = client.get_model_version_by_alias(contract.name, alias)
        else:
            found = client.get_model_version(contract.name, number)
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
