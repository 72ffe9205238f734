"""Data dirt: what a real export gets wrong, as a setting."""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.simulator.one_clinic import Site

DUPLICATED = 0.02  # share of patients who were registered twice
LATE_STATUS, STATUS_MISSING = 0.10, 0.05  # shares of ended bookings
FACT_MISSING = 0.05  # share of patients without birth year, sex or source
DUPLICATE = "-2"  # ends the id of a second registration


def soil(frames: dict[str, pd.DataFrame], site: Site) -> dict[str, pd.DataFrame]:
    """Return the tables with duplicated patients, late and missing status times, and gaps.

    A second registration has the first one's id with ``-2`` behind it, so that
    a merge map can be drawn up and checked.
    """
    rng = np.random.default_rng(site.seed_for("dirt"))
    frames = _registered_twice(dict(frames), site, rng)
    frames["appointments"] = _sloppy_times(frames["appointments"], site, rng)
    patients = frames["patients"].copy()
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
