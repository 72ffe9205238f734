"""Feast's objects, derived from the features and the model contracts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Float64

from features import schedule
from features.contracts import CONTRACTS, PATIENT_CONTRACTS, PLAN_CONTRACTS, RECALL, VALUE_365D, ModelContract
from features.families import FAMILIES
from features.spec import Family, Feature

OWNER = "revisit"
# A booking's features are read at the very moment they were built for; the span
# only has to reach over the longest time a booking stands in the book.
SCHEDULE_TTL = timedelta(days=730)
# Snapshots are a month apart at most; a shorter span lets Feast join less (and lets nothing older pass).
SNAPSHOT_TTL = timedelta(days=45)


def definitions(features: Path) -> list[Entity | FeatureView | FeatureService]:
    """Entities, views and services over the Parquet datasets in `features`.

    Parameters
    ----------
    features : Path
        Folder of the feature datasets (`Settings.paths.features`).

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
        source=FileSource(
            name="schedule_source",
            path=str(features / "schedule.parquet"),
            timestamp_field="as_of",
            description="One row per booking and decision moment",
            owner=OWNER,
        ),
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
    views = {family.name: _patient_view(family, patient, features) for family in FAMILIES.values()}
    return [
        appointment,
        patient,
        view,
        *views.values(),
        *(_service(contract, [view]) for contract in CONTRACTS.values()),
        *(_service(contract, list(views.values())) for contract in (*PATIENT_CONTRACTS.values(), VALUE_365D, RECALL)),
        # A plan's own features are computed when they are asked for; its patient's come from here.
        *(_service(contract, list(views.values())) for contract in PLAN_CONTRACTS.values()),
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


def _patient_view(family: Family, patient: Entity, features: Path) -> FeatureView:
    return FeatureView(
        name=family.name,
        entities=[patient],
        ttl=SNAPSHOT_TTL,
        schema=_schema(family.features),
        source=FileSource(
            name=f"{family.name}_source",
            path=str(features / family.name),
            file_format=ParquetFormat(),
            timestamp_field="as_of",
            description="One row per patient and snapshot",
            owner=OWNER,
        ),
        online=True,
        description=family.description,
        owner=OWNER,
        tags={"family": family.name, "grain": "patient and snapshot"},
    )


def _service(contract: ModelContract, views: list[FeatureView]) -> FeatureService:
    read = {view.name: [f.name for f in view.schema if f.name in contract.feature_names] for view in views}
    return FeatureService(
        name=contract.name,
        features=[view[read[view.name]] for view in views if read[view.name]],
        description=contract.question,
        owner=OWNER,
        tags={"fingerprint": contract.fingerprint, "moment": contract.moment},
    )
