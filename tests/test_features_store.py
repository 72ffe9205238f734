"""The built dataset and Feast: what is stored is what is trained on and what is served."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features import schedule
from features.contracts import CONTRACTS, ModelContract
from features.errors import NotBuiltError
from features.settings import NoShow, Settings
from features.store import build, forget, last_build, read_online, register, training_set, write_online

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
NAMES = [feature.name for feature in schedule.FEATURES]
EACH_CONTRACT = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.name)

MAPPING = """
time_zone = "Asia/Shanghai"
[tables.patients.columns]
patient_id = "patient"
known_from_at = "booked"
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = { value = "c" }
booked_at = "booked"
starts_at = "starts"
status = "status"
status_known_at = "since"
"""
EXPORT = """id,patient,booked,starts,status,since
1,p1,2026-01-01 10:00:00,2026-01-05 10:00:00,no_show,2026-01-05 12:00:00
2,p1,2026-01-06 10:00:00,2026-01-12 10:00:00,booked,
3,p2,2026-01-07 10:00:00,2026-01-20 10:00:00,booked,
"""


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 1, day, hour, tzinfo=UTC)


def dataset(settings: Settings) -> pd.DataFrame:
    frame = pd.read_parquet(settings.paths.features / "schedule.parquet")
    return frame.sort_values(["appointment_id", "as_of", "moment"]).reset_index(drop=True)


# The dataset


@pytest.fixture
def little(practice_here: Any) -> Any:
    practice_here.load(MAPPING, EXPORT, at=at(8))
    return practice_here


def test_build_needs_records(practice_here: Any) -> None:
    with pytest.raises(NotBuiltError, match="revisit import"):
        build(practice_here.settings, NOW)
    with pytest.raises(NotBuiltError, match="features build"):
        register(practice_here.settings)


def test_growing_equals_building_at_once(little: Any) -> None:
    for day in (8, 8, 12, 13, 25):
        done = build(little.settings, at(day))
    grown = dataset(little.settings)
    forget(little.settings)
    assert last_build(little.settings) is None
    assert build(little.settings, at(25)) == done
    pd.testing.assert_frame_equal(grown, dataset(little.settings))
    assert len(grown) == done.rows == 6
    assert not grown.duplicated(["appointment_id", "moment", "as_of"]).any()


def test_clock_that_goes_back_doubles_nothing(little: Any) -> None:
    build(little.settings, at(25))
    build(little.settings, at(9))
    assert dataset(little.settings)["as_of"].max() <= at(9)
    build(little.settings, at(25))
    assert len(dataset(little.settings)) == 6


def test_crash_behind_the_dataset_doubles_nothing(little: Any) -> None:
    build(little.settings, at(9))
    noted = (little.settings.paths.features / "build.json").read_text()
    build(little.settings, at(25))
    (little.settings.paths.features / "build.json").write_text(noted)
    build(little.settings, at(25))
    assert len(dataset(little.settings)) == 6


def test_new_records_rebuild_the_past(little: Any) -> None:
    build(little.settings, at(25))
    before = dataset(little.settings)
    late = EXPORT + "4,p1,2025-12-01 10:00:00,2025-12-05 10:00:00,no_show,2025-12-05 12:00:00\n"
    little.load(MAPPING, late, at=at(26))
    build(little.settings, at(25))
    assert len(dataset(little.settings)) == 8
    assert not before.equals(dataset(little.settings).query("appointment_id != '4'").reset_index(drop=True))


def test_another_evening_hour_rebuilds_the_moments(little: Any) -> None:
    build(little.settings, at(25))
    earlier = little.settings.model_copy(update={"no_show": NoShow(evening_hour=18)})
    build(earlier, at(25))
    evenings = dataset(earlier).query("moment == 'evening'")["as_of"]
    assert {moment.tz_convert("Asia/Shanghai").hour for moment in evenings} == {18}
    assert len(dataset(earlier)) == 6


def test_build_knows_what_it_was_made_from(little: Any) -> None:
    done = build(little.settings, at(25))
    assert last_build(little.settings) == done
    assert done.records == little.store.versions()
    assert done.fingerprints == {name: contract.fingerprint for name, contract in CONTRACTS.items()}


# Feast


@pytest.fixture(scope="module")
def feast(small_practice: Any) -> Any:
    return register(small_practice.settings)


@pytest.fixture(scope="module")
def built(small_practice: Any) -> pd.DataFrame:
    return dataset(small_practice.settings)


@EACH_CONTRACT
def test_service_offers_the_contract(feast: Any, contract: ModelContract) -> None:
    service = feast.get_feature_service(contract.name)
    offered = [field.name for view in service.feature_view_projections for field in view.features]
    assert sorted(offered) == sorted(contract.feature_names)
    assert service.tags["fingerprint"] == contract.fingerprint


def test_view_describes_every_feature(feast: Any) -> None:
    fields = {field.name: field.description for field in feast.get_feature_view("schedule").features}
    assert fields == {feature.name: feature.description for feature in schedule.FEATURES}


@EACH_CONTRACT
def test_training_set_is_the_dataset(
    small_practice: Any, feast: Any, built: pd.DataFrame, contract: ModelContract
) -> None:
    versions = small_practice.store.versions()
    found = training_set(small_practice.settings, feast, contract, NOW, versions)
    assert len(found) > 100
    assert tuple(found.columns[-len(contract.features) :]) == contract.feature_names
    assert not found.duplicated(["appointment_id", "as_of"]).any()
    assert found["starts_at"].is_monotonic_increasing
    assert (found["as_of"] < found["label_known_at"]).all()
    assert (found["label_known_at"] < NOW).all()
    names = list(contract.feature_names)
    there = built[built["moment"] == contract.moment].set_index(["appointment_id", "as_of"])[names]
    there.index = there.index.set_levels(pd.to_datetime(there.index.levels[1], utc=True).as_unit("us"), level=1)
    asked = pd.MultiIndex.from_arrays([found["appointment_id"], found["as_of"].dt.tz_convert("UTC").dt.as_unit("us")])
    expected = there.loc[asked, names].to_numpy()
    np.testing.assert_array_equal(found[names].to_numpy(dtype=float), expected)


@EACH_CONTRACT
def test_training_set_sees_no_label_of_its_future(small_practice: Any, feast: Any, contract: ModelContract) -> None:
    versions = small_practice.store.versions()
    until = NOW - timedelta(days=200)
    early = training_set(small_practice.settings, feast, contract, until, versions)
    assert len(early) > 0
    assert (early["label_known_at"] < until).all()
    nothing = training_set(small_practice.settings, feast, contract, datetime(2000, 1, 1, tzinfo=UTC), versions)
    assert nothing.empty
    assert list(nothing.columns) == list(early.columns)


def test_labels_match_the_records(small_practice: Any, feast: Any) -> None:
    contract = next(iter(CONTRACTS.values()))
    found = training_set(small_practice.settings, feast, contract, NOW, small_practice.store.versions())
    newest = dict(
        small_practice.rows(
            "SELECT appointment_id, arg_max(status, known_at) FROM appointments WHERE known_at < TIMESTAMPTZ "
            f"'{NOW.isoformat()}' GROUP BY 1"
        )
    )
    expected = [int(newest[key] in ("no_show", "cancelled_late")) for key in found["appointment_id"]]
    assert found["label"].tolist() == expected
    assert {newest[key] for key in found["appointment_id"]} == {"completed", "no_show", "cancelled_late"} | (
        {"arrived"} & set(newest.values())
    )


@pytest.fixture(scope="module")
def ahead(small_practice: Any, feast: Any) -> pd.DataFrame:
    return write_online(small_practice.settings, feast, NOW)


@EACH_CONTRACT
def test_served_features_are_the_newest_built(
    feast: Any, ahead: pd.DataFrame, built: pd.DataFrame, contract: ModelContract
) -> None:
    """No skew: every booking ahead."""
    assert len(ahead) > 20
    ids = ahead["appointment_id"].sample(frac=1, random_state=1).tolist()
    served = read_online(feast, contract, ids)
    assert list(served.index) == ids
    assert tuple(served.columns) == contract.feature_names
    newest = built[built["as_of"] <= NOW].sort_values("as_of").groupby("appointment_id").tail(1)
    expected = newest.set_index("appointment_id").loc[ids, list(contract.feature_names)]
    np.testing.assert_array_equal(served.to_numpy(), expected.to_numpy(dtype=float))


def test_bookings_ahead_are_all_online(small_practice: Any, ahead: pd.DataFrame) -> None:
    standing = small_practice.rows(
        """SELECT appointment_id FROM (SELECT appointment_id, arg_max(status, known_at) AS status,
               arg_max(starts_at, known_at) AS starts_at, min(known_at) AS first FROM appointments GROUP BY 1)
        WHERE status = 'booked' AND starts_at > TIMESTAMPTZ '2026-11-16 01:30:00+00'
          AND first + INTERVAL 1 MINUTE <= TIMESTAMPTZ '2026-11-17 01:30:00+00'"""
    )
    assert set(ahead["appointment_id"]) == {key for (key,) in standing}


def test_unknown_booking_is_all_missing(feast: Any, ahead: pd.DataFrame) -> None:
    contract = next(iter(CONTRACTS.values()))
    known = ahead["appointment_id"].iloc[0]
    served = read_online(feast, contract, ["nobody", known])
    assert served.loc["nobody"].isna().all()
    assert served.loc[known].notna().any()


def test_plain_feast_reads_the_same_store(small_practice: Any, feast: Any, repository: Path) -> None:
    environment = {**os.environ, "REVISIT_DATA": str(small_practice.settings.paths.data), "FEAST_USAGE": "False"}
    done = subprocess.run(
        [Path(sys.executable).with_name("feast"), "-c", "features/feast_repo", "feature-views", "list"],
        capture_output=True, text=True, check=False, env=environment, cwd=repository,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "schedule" in done.stdout
