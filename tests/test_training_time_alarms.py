"""The alarms that rebuild features: quiet on honest ones, loud where the records that were cut away had been read."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from features import rebuilt
from features.contracts import COMPLETION_180D, LAPSE, NO_SHOW_EVENING, ModelContract
from training.time_alarms import time_alarms

MOMENT = pd.Timestamp("2026-03-01 16:00", tz="UTC").to_pydatetime()


@pytest.mark.parametrize("contract", [LAPSE, NO_SHOW_EVENING, COMPLETION_180D], ids=lambda contract: contract.name)
def test_honest_features_do_not_change(
    contract: ModelContract, small_practice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, versions = small_practice.settings, small_practice.store.versions()
    alarms = time_alarms(settings, contract, MOMENT, versions)
    assert [(alarm.name, alarm.is_ringing) for alarm in alarms] == [("time_travel", False), ("recorded_time", False)]
    assert len(rebuilt.rebuilt(settings, contract, MOMENT, versions, "all")) > 5
    if contract is NO_SHOW_EVENING:
        # As if features had read two days more than they may: cut these away, and they change.
        looked = {**rebuilt.CONDITIONS, "past": "known_at < $moment::TIMESTAMPTZ - INTERVAL 2 DAY"}
        monkeypatch.setattr(rebuilt, "CONDITIONS", looked)
        assert time_alarms(settings, contract, MOMENT, versions)[0].is_ringing
