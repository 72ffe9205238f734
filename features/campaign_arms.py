"""Draws of recall campaigns written into the records, so that what contacting changes can be measured."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from features.records.landing import ImportReport, import_files
from features.records.mapping import ColumnSource, Mapping, TableMapping
from features.records.store import RecordStore
from features.records.tables import TABLES
from features.settings import Settings

CONTACT = "contact"  # the arm beside `features.recall_labels.HOLD_OUT`
SOURCE = "recall_lists"


@dataclass(frozen=True)
class Draw:
    """One patient's draw of one campaign; `propensity` is that of the arm drawn, strictly between 0 and 1."""

    campaign_id: str
    patient_id: str
    arm: str
    channel: str
    propensity: float
    assigned_at: datetime


def record_draws(settings: Settings, draws: Iterable[Draw], now: datetime) -> ImportReport:
    """Write draws as rows of ``campaign_arms``; writing them again changes nothing.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    draws : iterable of Draw
        Of started campaigns.
    now : datetime
        Aware.

    Returns
    -------
    ImportReport

    Raises
    ------
    StoreError
        If an import is running.
    """
    names = [field.name for field in fields(Draw)]
    columns = {name: ColumnSource(column=name) for name in names}
    columns["arm_id"] = ColumnSource(sql="campaign_id || '/' || patient_id")
    arms = TableMapping(TABLES["campaign_arms"], columns)
    formats = ("%Y-%m-%dT%H:%M:%S.%f",)
    mapping = Mapping(name=SOURCE, time_zone="UTC", tables=(arms,), datetime_formats=formats, encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="revisit-draws-") as folder:
        path = Path(folder) / "draws.csv"
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(asdict(draw) | {"assigned_at": _utc(draw.assigned_at)} for draw in draws)
        return import_files(RecordStore(settings.paths.records), path, mapping, now)


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
