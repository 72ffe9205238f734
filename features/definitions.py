"""Feast's objects, derived from the features and the model contracts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.types import Float64

from features import schedule
from features.contracts import CONTRACTS, PATIENT_CONTRACTS, PLAN_CONTRACTS, VALUE_365D, ModelContract
from features.families import FAMILIES
from features.plan_grain import PLAN_GRAIN
from features.snapshots import Engine
from features.spec import Family, Feature

OWNER = "revisit"
# A booking's features are read at the very moment they were built for; the span
# only has to reach over the longest time a booking stands in the book.
SCHEDULE_TTL = timedelta(days=730)
# Snapshots are a month apart at most; a shorter span lets Feast join less (and lets nothing older pass).
SNAPSHOT_TTL = timedelta(days=45)


def definitions(features: Path, engine: Engine = "duckdb") -> list[Entity | FeatureView | FeatureService]:
    """Entities, views and services over the Parquet datasets in `features`.

    Parameters
    ----------
    features : Path
        Folder of the feature datasets (`Settings.paths.features`).
    engine : {"duckdb", "spark"}
        What is to join training sets: the two read other kinds of sources.

    Returns
    -------
    list
        Everything `feast apply` registers.
    """
    appointment = Entity(
        name="appointment",
        join_keys=["appointment_id"],
        value_type=ValueType.STRING,
        description="A booking",
        owner=OWNER,
    )
    view = FeatureView(
        name="schedule",
        entities=[appointment],
        ttl=SCHEDULE_TTL,
        schema=_schema(schedule.FEATURES),
        source=_source(features / "schedule.parquet", "booking and decision moment", engine),
        online=True,
        description="What was known about a booking when it was decided upon",
        owner=OWNER,
        tags={"family": "schedule", "grain": "booking and decision moment"},
    )
    patient = Entity(
        name="patient",
        join_keys=["patient_id"],
        value_type=ValueType.STRING,
        description="A patient",
        owner=OWNER,
    )
    plan = Entity(
        name="plan",
        join_keys=["plan_id"],
        value_type=ValueType.STRING,
        description="A treatment plan; its number may be the patient's own, so it goes with the patient's",
        owner=OWNER,
    )
    views = [_snapshot_view(family, [patient], features, engine) for family in FAMILIES.values()]
    plans = _snapshot_view(PLAN_GRAIN, [plan, patient], features, engine)
    return [
        appointment,
        patient,
        plan,
        view,
        *views,
        plans,
        *(_service(contract, [view]) for contract in CONTRACTS.values()),
        *(_service(contract, views) for contract in (*PATIENT_CONTRACTS.values(), VALUE_365D)),
        *(_service(contract, [plans, *views]) for contract in PLAN_CONTRACTS.values()),
    ]


def _schema(features: Iterable[Feature]) -> list[Field]:
    return [
        Field(
            name=feature.name,
            dtype=Float64,
            description=feature.description,
            tags={"unit": feature.unit, "reason": feature.reason or "never shown"},
        )
        for feature in features
    ]


def _snapshot_view(family: Family, entities: list[Entity], features: Path, engine: Engine) -> FeatureView:
    grain = f"{entities[0].name} and snapshot"
    return FeatureView(
        name=family.name,
        entities=entities,
        ttl=SNAPSHOT_TTL,
        schema=_schema(family.features),
        source=_source(features / family.name, grain, engine),
        online=family.ids == ("patient_id",),  # no desk asks for plans: they are scored by night, from the snapshot
        description=family.description,
        owner=OWNER,
        tags={"family": family.name, "grain": grain},
    )


def _source(path: Path, grain: str, engine: Engine) -> DataSource:
    told: Mapping[str, Any] = {
        "name": f"{path.stem}_source",
        "path": str(path),
        "timestamp_field": "as_of",
        "description": f"One row per {grain}",
        "owner": OWNER,
    }
    if engine == "duckdb":
        return FileSource(file_format=ParquetFormat(), **told)
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

    return SparkSource(file_format="parquet", **told)


def _service(contract: ModelContract, views: list[FeatureView]) -> FeatureService:
    read = {view.name: [f.name for f in view.schema if f.name in contract.feature_names] for view in views}
    return FeatureService(
        name=contract.name,
        features=[view[read[view.name]] for view in views if read[view.name]],
        description=contract.question,
        owner=OWNER,
        tags={"fingerprint": contract.fingerprint, "moment": contract.moment},
    )
