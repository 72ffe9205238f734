"""The two leak alarms that rebuild features: without the future, and without what was recorded late."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from features.contracts import ModelContract
from features.rebuilt import rebuilt
from features.settings import Settings
from training.alarms import Alarm, recorded_time, time_travel


def time_alarms(
    settings: Settings, contract: ModelContract, moment: datetime, versions: Mapping[str, int]
) -> tuple[Alarm, Alarm]:
    """Build features of one moment three times: from the records as they are, without the future, without late entries.

    Parameters are those of `features.rebuilt.rebuilt`.

    Returns
    -------
    tuple of Alarm
        `training.alarms.time_travel` and `training.alarms.recorded_time`.
    """
    whole = rebuilt(settings, contract, moment, versions, "all")
    past = rebuilt(settings, contract, moment, versions, "past")
    punctual = rebuilt(settings, contract, moment, versions, "punctual")
    return time_travel(lambda is_cut: past if is_cut else whole), recorded_time(whole, punctual)
