"""Feast's objects, derived from the features and the model contracts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

from features import schedule
from features.contracts import CONTRACTS, ModelContract

OWNER = "revisit"
# A booking's features are read at the very moment they were built for; the span
# only has to reach over the longest time a booking stands in the book.
SCHEDULE_TTL = timedelta(days=730)


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
        schema=[
            Field(
                name=feature.name,
                dtype=Float64,
                description=feature.description,
                tags={"unit": feature.unit, "reason": feature.reason or "never shown"},
            )
            for feature in schedule.FEATURES
        ],
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
    return [appointment, view, *(_service(contract, view) for contract in CONTRACTS.values())]


def _service(contract: ModelContract, view: FeatureView) -> FeatureService:
    return FeatureService(
        name=contract.name,
        features=[view[list(contract.feature_names)]],
        description=contract.question,
        owner=OWNER,
        tags={"fingerprint": contract.fingerprint, "moment": contract.moment},
    )
