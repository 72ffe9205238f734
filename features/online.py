"""Feast's online store of this product: one packed row per thing and view (`features.online_rows`).

``feast_repo/feature_store.yaml`` names the class; ``practice.toml`` says where
the rows lie. What Feast reads and writes goes through protobuf;
`features.online_sync` reads and writes the same rows without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from feast import Entity, FeatureView, RepoConfig
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel

from features.online_packing import microseconds, pack, slot_of
from features.online_rows import OnlineRows, open_rows
from features.settings import Online, load_settings

Written = list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]]
Read = list[tuple[datetime | None, dict[str, Value] | None]]


class PackedOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """What ``feature_store.yaml`` says.

    Attributes
    ----------
    type : str
        Path of the class.
    path : str
        SQLite's file.
    online : Online, optional
        Where the rows lie; by default what ``practice.toml`` says, so that plain `feast` finds them too.
    """

    type: Literal["features.online.PackedOnlineStore"] = "features.online.PackedOnlineStore"
    path: str
    online: Online | None = None


class PackedOnlineStore(OnlineStore):  # type: ignore[misc]
    """Packed rows, as Feast's interface."""

    _rows: OnlineRows | None = None

    def rows(self, config: RepoConfig) -> OnlineRows:
        """Where the rows lie."""
        if self._rows is None:
            told = config.online_store
            self._rows = open_rows(told.online or load_settings().online, Path(told.path))
        return self._rows

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: Written, progress: Callable[[int], Any] | None
    ) -> None:
        """Write what Feast brings; newer rows stay."""
        names = sorted(feature.name for feature in table.features)
        moments = np.array([microseconds(moment) for _, _, moment, _ in data], dtype=np.int64)
        values = np.array(
            [[_number(features.get(name)) for name in names] for _, features, _, _ in data], dtype=np.float64
        ).reshape(len(data), len(names))
        self.rows(config).write(slot_of(table.name, names), pack([_id(key) for key, *_ in data], moments, values))
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> Read:
        """Read in Feast's own terms; what is missing has no value."""
        names = sorted(feature.name for feature in table.features)
        wanted = [
            (place, name)
            for place, name in enumerate(names)
            if requested_features is None or name in requested_features
        ]
        ids = [_id(key) for key in entity_keys]
        found = self.rows(config).read(slot_of(table.name, names), ids)
        answers: Read = []
        for key in ids:
            as_of_us, packed = found.get(key, (0, b""))
            numbers = np.frombuffer(packed, dtype="<f8").tolist()
            values = {name: _value(numbers[place]) for place, name in wanted} if packed else None
            answers.append((datetime.fromtimestamp(as_of_us / 1e6, UTC) if packed else None, values))
        return answers

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Drop views that are gone, and rows of views whose features are others now."""
        for table in tables_to_delete:
            self.rows(config).keep_only(table.name, None)
        for table in tables_to_keep:
            self.rows(config).keep_only(table.name, slot_of(table.name, (f.name for f in table.features)))

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Drop all rows."""
        for table in tables:
            self.rows(config).keep_only(table.name, None)

    def _is_versioned_read_supported(self) -> bool:
        return False  # Feast would import every store it knows to find out


def _id(key: EntityKey) -> str:
    return str(key.entity_values[0].string_val)  # every entity here has one text key


def _value(number: float) -> Value:
    return Value() if math.isnan(number) else Value(double_val=number)


def _number(value: Value | None) -> float:
    return float(value.double_val) if value is not None and value.HasField("double_val") else float("nan")
