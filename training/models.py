"""The registry as people use it: list versions, promote one, go back, find the card; train only what is due."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import mlflow
from mlflow.exceptions import MlflowException

from features.contracts import ALL_CONTRACTS, PATIENT_CONTRACTS, PLAN_CONTRACTS, RECALL, VALUE_365D, ModelContract
from features.errors import ModelError, NotBuiltError, NotEnoughDataError, RevisitError
from features.settings import Settings
from features.snapshots import built
from features.store import last_build
from training import completion, no_show, patients, recall_training, value
from training.registry import (
    BEFORE,
    CHALLENGER,
    CHAMPION,
    PASSED,
    connect,
    name_champion,
    version_called,
)
from training.rolling import FULL, Effort

QUESTIONS = ALL_CONTRACTS
Training = no_show.Training | patients.PatientTraining | recall_training.RecallTraining

Trainer = Callable[[Settings, ModelContract, datetime, Callable[[str], None], Effort], Training]
# Of the questions about patients and plans, which are asked at snapshots.
TRAINERS: Mapping[str, Trainer] = {
    **dict.fromkeys(PATIENT_CONTRACTS, patients.train),
    VALUE_365D.name: value.train,
    **dict.fromkeys(PLAN_CONTRACTS, completion.train),
    RECALL.name: recall_training.train,
}


@dataclass(frozen=True)
class ModelVersion:
    """One registered version.

    Attributes
    ----------
    name, number
        Of the contract; of the version, from 1.
    kind : str
        ``model`` or ``rule``.
    aliases : tuple of str
        Of ``champion``, ``challenger``, ``rule``.
    gate : str
        ``passed``, or why not.
    trained_until : str
        ISO 8601.
    metrics : mapping of str to float
        Of its run; those of the model even for a rule.
    fingerprint : str
        Of the contract that it was trained for.
    run_id : str
        The MLflow run that made it.
    """

    name: str
    number: int
    kind: str
    aliases: tuple[str, ...]
    gate: str
    trained_until: str
    metrics: Mapping[str, float]
    fingerprint: str
    run_id: str


@dataclass(frozen=True)
class Outcome:
    """What became of one question in `train_all`: trained, kept as it was, or why it failed."""

    name: str
    training: Training | None = None
    error: str = ""


def contract_of(name: str) -> ModelContract:
    """Find a contract by name.

    Raises
    ------
    ModelError
        If there is none.
    """
    if name not in QUESTIONS:
        raise ModelError(f"there is no contract {name!r}; there are {', '.join(QUESTIONS)}.")
    return QUESTIONS[name]


def versions(settings: Settings, names: Iterable[str] = QUESTIONS) -> list[ModelVersion]:
    """Registered versions of the contracts called `names`, newest first within each."""
    if not (settings.paths.mlruns / "mlflow.db").exists():
        return []
    client = connect(settings)
    return [
        _read(client, client.get_model_version(name, found.version))
        for name in names
        for found in sorted(client.search_model_versions(f"name='{name}'"), key=lambda v: -int(v.version))
    ]


def promote(settings: Settings, name: str, number: int | None = None) -> ModelVersion:
    """Make a version (the newest trained one by default) the champion.

    Raises
    ------
    ModelError
        If there is no such version, if it did not pass the gate, or if it was
        trained for another contract.
    """
    contract, client = contract_of(name), connect(settings)
    wanted = str(number) if number is not None else version_called(client, name, CHALLENGER)
    version = _version(client, name, wanted)
    if version.gate != PASSED:
        raise ModelError(f"{name} version {wanted} did not pass the gate and is not promoted: {version.gate}.")
    _must_match(contract, version)
    name_champion(client, name, wanted)
    return _version(client, name, wanted)


def rollback(settings: Settings, name: str) -> ModelVersion:
    """Give the alias ``champion`` back to the version that had it before.

    Raises
    ------
    ModelError
        If there is no champion, none before it, or if that one was trained
        for another contract.
    """
    contract, client = contract_of(name), connect(settings)
    present = version_called(client, name, CHAMPION)
    if not present:
        raise ModelError(f"{name} has no champion to go back from; see revisit models.")
    before = client.get_model_version(name, present).tags.get(BEFORE, "")
    if not before:
        raise ModelError(f"{name} version {present} is the first champion; there is none to go back to.")
    version = _version(client, name, before)
    _must_match(contract, version)
    client.set_registered_model_alias(name, CHAMPION, before)
    return _version(client, name, before)


def card_of(settings: Settings, name: str, number: int | None = None) -> str:
    """The model card of a version, by default the champion's, else that of the newest.

    Raises
    ------
    ModelError
        If there is no such version, or it has no card.
    """
    contract_of(name)
    client = connect(settings)
    wanted = str(number or "") or version_called(client, name, CHAMPION) or version_called(client, name, CHALLENGER)
    version = _version(client, name, wanted)
    try:
        return str(mlflow.artifacts.load_text(f"runs:/{version.run_id}/card.html"))
    except (MlflowException, OSError):
        raise ModelError(f"{name} version {wanted} has no card; train again: revisit train {name}.") from None


def train_all(
    settings: Settings,
    now: datetime,
    names: Iterable[str] = QUESTIONS,
    told: Callable[[str, str], None] = lambda name, step: None,
    is_forced: bool = False,
    effort: Effort = FULL,
) -> Iterable[Outcome]:
    """Train the questions one by one; one that fails leaves its champion in place and the others go on.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    now : datetime
        Aware.
    names : iterable of str
        Of contracts.
    told : callable, optional
        Hears the question and what is being done.
    is_forced : bool
        Whether to train what was trained on the same records already.
    effort : Effort
        How much is learned from and tested on.

    Yields
    ------
    Outcome
        As each is done; without training and error where nothing was due.

    Raises
    ------
    NotBuiltError
        If no features have been built at all.
    """
    if last_build(settings) is None and not built(settings).snapshots:
        raise NotBuiltError("there are no features yet; run `revisit features build` first.")
    for name in names:
        contract = contract_of(name)
        try:
            if not is_forced and is_trained(settings, contract):
                yield Outcome(name)
            else:
                yield Outcome(name, _train(settings, contract, now, told, effort))
        except NotEnoughDataError as error:
            yield Outcome(name, error=str(error))
        except RevisitError as error:
            yield Outcome(name, error=f"{name}: {error}")


def is_trained(settings: Settings, contract: ModelContract) -> bool:
    """Whether the newest version was trained for this contract on the records that features were built from."""
    if not (settings.paths.mlruns / "mlflow.db").exists():
        return False
    client = connect(settings)
    number = version_called(client, contract.name, CHALLENGER)
    if not number:
        return False
    version = _version(client, contract.name, number)
    tags = client.get_run(version.run_id).data.tags
    records = {name.removeprefix("records_"): value for name, value in tags.items() if name.startswith("records_")}
    if contract.entity != "appointment":
        present = built(settings).records
    else:
        build = last_build(settings)
        present = build.records if build else {}
    same = records == {name: str(number) for name, number in present.items()}
    return same and version.fingerprint == contract.fingerprint


def _train(
    settings: Settings, contract: ModelContract, now: datetime, told: Callable[[str, str], None], effort: Effort
) -> Training:
    if contract.name in TRAINERS:
        return TRAINERS[contract.name](settings, contract, now, lambda step: told(contract.name, step), effort)
    told(contract.name, "bookings")
    return no_show.train(settings, contract, now)


def _version(client: mlflow.MlflowClient, name: str, number: str) -> ModelVersion:
    try:
        return _read(client, client.get_model_version(name, number))
    except MlflowException:
        asked = f"version {number}" if number else "version"
        raise ModelError(f"{name} has no {asked}; see revisit models.") from None


def _read(client: mlflow.MlflowClient, found: mlflow.entities.model_registry.ModelVersion) -> ModelVersion:
    run = client.get_run(found.run_id).data
    return ModelVersion(
        name=str(found.name),
        number=int(found.version),
        kind=found.tags.get("kind", "model"),
        aliases=tuple(sorted(found.aliases)),
        gate=found.tags.get("gate", "not known"),
        trained_until=run.tags.get("trained_until", ""),
        metrics=dict(run.metrics),
        fingerprint=found.tags.get("fingerprint", ""),
        run_id=str(found.run_id),
    )


def _must_match(contract: ModelContract, version: ModelVersion) -> None:
    if version.fingerprint != contract.fingerprint:
        raise ModelError(
            f"{version.name} version {version.number} was trained for contract {version.fingerprint}, but this "
            f"program's is {contract.fingerprint}. Train again: revisit train {version.name}."
        )
