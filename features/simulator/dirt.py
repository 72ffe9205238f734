"""Data dirt: what a real export gets wrong, as a setting."""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.simulator.one_clinic import Site

DUPLICATED = 0.02  # share of patients who were registered twice
LATE_STATUS, STATUS_MISSING = 0.10, 0.05  # shares of ended bookings
FACT_MISSING = 0.05  # share of patients without birth year, sex or source
START_MISSING = 0.03  # share of bookings of which the day alone is left
HOUSEHOLDS_MERGED = 0.03  # share of households that were entered as another one
REASON_GIVEN = 0.6  # share of cancellations with a reason
# As people type them; nothing personal.
CANCELLATION_REASONS = (
    "sick",
    "Sick!!",
    "work",
    "busy at work",
    "临时有事",
    "感冒了",
    "加班",
    "child ill",
    "no reason",
    "?",
    "traffic",
)
STOP_REASONS = ("opted out", "OPT OUT", "no more msgs pls", "不要再联系", "拒绝回访")
DUPLICATE = "-2"  # ends the id of a second registration


def soil(frames: dict[str, pd.DataFrame], site: Site) -> dict[str, pd.DataFrame]:
    """Return the tables with duplicated patients, merged households, sloppy times, gaps, and reasons in free text.

    A second registration has the first one's id with ``-2`` behind it, so that
    a merge map can be drawn up and checked.
    """
    rng = np.random.default_rng(site.seed_for("dirt"))
    frames = _registered_twice(dict(frames), site, rng)
    bookings = _without_start_times(_sloppy_times(frames["appointments"], site, rng), site, rng)
    is_given = bookings["status"].str.startswith("cancelled") & (rng.random(len(bookings)) < REASON_GIVEN)
    bookings["cancellation_reason"] = np.where(is_given, rng.choice(CANCELLATION_REASONS, len(bookings)), "")
    recalls = frames["recalls"].copy()
    recalls["disabled_reason"] = np.where(recalls["is_disabled"], rng.choice(STOP_REASONS, len(recalls)), "")
    frames |= {"appointments": bookings, "recalls": recalls}
    patients = _merged_households(frames["patients"], rng)
    for name in ("birth_year", "sex", "source_channel"):
        gaps = rng.random(len(patients)) < FACT_MISSING
        values = patients[name].astype("Int64") if name == "birth_year" else patients[name]
        patients[name] = values.mask(gaps, None if name == "birth_year" else "")
    frames["patients"] = patients
    return frames


def _registered_twice(frames: dict[str, pd.DataFrame], site: Site, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Give some patients a second number, under which their later bookings run."""
    patients, details, bookings = frames["patients"], frames["contact_details"], frames["appointments"]
    first = patients.iloc[: site.patients]
    chosen = first.loc[rng.random(len(first)) < DUPLICATED, "patient_id"]
    of_them = bookings[bookings["patient_id"].isin(set(chosen))]
    split = of_them.groupby("patient_id")["booked_at"].quantile(0.5, interpolation="higher").rename("split")
    later = of_them.join(split, on="patient_id")
    moved = later.index[later["booked_at"] >= later["split"]]
    bookings = bookings.copy()
    bookings.loc[moved, "patient_id"] += DUPLICATE
    again = first[first["patient_id"].isin(split.index)].copy()
    again["known_from_at"] = pd.to_datetime(again["patient_id"].map(split), utc=True)
    again["first_seen_on"] = None
    again["patient_id"] += DUPLICATE
    known = again.set_index("patient_id")["known_from_at"]
    again_details = details[details["patient_id"].isin(split.index)].copy()
    again_details["patient_id"] += DUPLICATE
    again_details["known_from_at"] = again_details["patient_id"].map(known)
    frames["patients"] = pd.concat([patients, again], ignore_index=True)
    frames["contact_details"] = pd.concat([details, again_details], ignore_index=True)
    frames["appointments"] = bookings
    return frames


def _sloppy_times(bookings: pd.DataFrame, site: Site, rng: np.random.Generator) -> pd.DataFrame:
    bookings = bookings.copy()
    ended = ~bookings["status"].isin(["booked", "arrived"])
    chance = rng.random(len(bookings))
    days = pd.to_timedelta(np.floor(rng.exponential(2.0, len(bookings)) * 1440), unit="min")
    late = ended & (chance < LATE_STATUS)
    now = pd.Timestamp(site.plan.now).tz_convert("UTC")
    moved = bookings["status_known_at"] + days
    bookings["status_known_at"] = moved.where(late & (moved <= now), bookings["status_known_at"])
    gone = ended & (chance > 1 - STATUS_MISSING)
    bookings["status_known_at"] = bookings["status_known_at"].mask(gone)
    return bookings


def _without_start_times(bookings: pd.DataFrame, site: Site, rng: np.random.Generator) -> pd.DataFrame:
    """Leave the day alone of some bookings that were made before it; their status stays."""
    zone = site.plan.time_zone
    midnight = bookings["starts_at"].dt.tz_convert(zone).dt.normalize().dt.tz_convert("UTC")
    is_lost = (rng.random(len(bookings)) < START_MISSING) & (midnight > bookings["booked_at"])
    starts_at = bookings["starts_at"].mask(is_lost, midnight)
    return bookings.assign(starts_at=starts_at, is_start_time_known=bookings["is_start_time_known"] & ~is_lost)


def _merged_households(patients: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Enter some households under the number of the one before."""
    homes = np.sort(patients.loc[patients["household_id"] != "", "household_id"].unique())
    wrong = np.flatnonzero(rng.random(len(homes)) < HOUSEHOLDS_MERGED)
    other = dict(zip(homes[wrong], homes[wrong - 1], strict=True))
    return patients.assign(household_id=patients["household_id"].replace(other))
