"""What a practice's export shows of its patients at a moment, as events in order.

Nothing that became known at or after the moment is looked at, and no latent
value. Moments are minutes of the practice's wall clock since the simulation's
minute 0, which is known: it says when its weekly steps fall.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from features.simulator.hazards import stay_factor
from features.simulator.observed_events import (
    Event,
    arm_events,
    booking_events,
    due_events,
    end_events,
    message_events,
    rows,
)
from features.simulator.opening import DAY
from features.simulator.rates import BaseRates

CHANNELS = ("wechat", "sms", "phone")


@dataclass(frozen=True)
class OpenBooking:
    """A booking that stands, in minutes."""

    person: int
    booked: int
    start: int
    is_recall: bool


@dataclass(frozen=True)
class Observed:
    """One clinic's history as known at `now`; one entry per patient in every array.

    Attributes
    ----------
    now : int
        Minute of the as-of.
    ids : ndarray of str
    birth_year, interval_months, household : ndarray of int
        Interval 0 if never due; members of a household share a number.
    stays : ndarray of float
        Personal factor on leaving, from referral and membership.
    is_departed, may_contact : ndarray of bool
    shares : ndarray, shape (patients, 3)
        Share of each of `CHANNELS` among messages, by consent; zeros if none is allowed.
    price : ndarray of float
        Expected price sensitivity, given the tags.
    anxious : ndarray of bool
    unsettled : dict of int to ndarray of float
        By minute at which a clinician left: chance that each patient was of that panel.
    events : list of Event
        In order of time.
    open : list of OpenBooking
    last_visit : ndarray of float
        Minute of the last completed visit, NaN if none is known.
    attendance : DataFrame
        One row per kept or missed booking: person, is_missed, lead_days, age, is_early, is_monday,
        is_new, reminder.
    """

    now: int
    ids: np.ndarray
    birth_year: np.ndarray
    interval_months: np.ndarray
    household: np.ndarray
    stays: np.ndarray
    is_departed: np.ndarray
    may_contact: np.ndarray
    shares: np.ndarray
    price: np.ndarray
    anxious: np.ndarray
    unsettled: dict[int, np.ndarray]
    events: list[Event]
    open: list[OpenBooking]
    last_visit: np.ndarray
    attendance: pd.DataFrame


@dataclass(frozen=True)
class WallClock:
    """Moments as minutes of the practice's wall clock since minute 0, which is `began`."""

    began: pd.Timestamp
    zone: str

    def minutes(self, moments: pd.Series) -> np.ndarray:
        """Minutes since minute 0 of the practice's wall clock; NaN if empty."""
        local = pd.to_datetime(moments, utc=True).dt.tz_convert(self.zone).dt.tz_localize(None)
        found: np.ndarray = ((local - self.began) / pd.Timedelta(minutes=1)).to_numpy(float)
        return found

    def days(self, days: pd.Series) -> np.ndarray:
        """Minutes of the midnights of calendar days; NaN if empty."""
        found: np.ndarray = ((pd.to_datetime(days) - self.began) / pd.Timedelta(minutes=1)).to_numpy(float)
        return found


def observe(
    tables: Mapping[str, pd.DataFrame], clinic: str, as_of: datetime, began: datetime, zone: str, rates: BaseRates
) -> Observed:
    """Read one clinic's history as it was known just before `as_of`.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Tables of the contract, such as `SimulatedPractice.tables`.
    clinic : str
        Its id.
    as_of : datetime
        Aware moment.
    began : datetime
        Local moment of minute 0.
    zone : str
        The practice's time zone.
    rates : BaseRates
        For the channels' shares.
    """
    clock = WallClock(pd.Timestamp(began), zone)
    now = int(clock.minutes(pd.Series([as_of]))[0])
    patients = tables["patients"]
    patients = patients[(patients["home_clinic_id"] == clinic) & (patients["known_from_at"] < as_of)]
    last = patients.sort_values("known_from_at", kind="stable").drop_duplicates("patient_id", keep="last")
    last = last.sort_values("patient_id", ignore_index=True)
    place = pd.Series(np.arange(len(last)), index=last["patient_id"])
    bookings, messages, dues, arms, items = _known(tables, place, clock, as_of)
    events = [
        *due_events(dues),
        *booking_events(bookings, messages, last["household_id"].to_numpy()),
        *end_events(bookings, dues, items),
        *message_events(messages),
        *arm_events(arms),
    ]
    events.sort(key=lambda event: event.minute)
    done = bookings[bookings["status"] == "completed"]
    last_visit = done.groupby("person")["start"].max().reindex(range(len(last))).to_numpy(float)
    intervals = dues.groupby("person")["interval_days"].last().reindex(range(len(last))).fillna(0)
    tags = last["tags"].fillna("").str.split(";")
    is_sensitive = np.array(["price_sensitive" in tag for tag in tags])
    return Observed(
        now=now,
        ids=last["patient_id"].to_numpy(str),
        birth_year=last["birth_year"].fillna(1980).to_numpy(int),
        interval_months=np.round(intervals.to_numpy(float) * 12 / 365.25).astype(int),
        household=_households(last["household_id"]),
        stays=_stays(last, rates),
        is_departed=(last["departure"].fillna("") != "").to_numpy(),
        may_contact=last["is_contact_allowed"].to_numpy(bool),
        shares=_shares(last, rates),
        # Sensitivity is gamma-distributed with mean 0.5, and tagged with 0.22 times itself.
        price=np.where(is_sensitive, 1.0, (0.5 - 0.11) / (1 - 0.11)),
        anxious=np.array(["anxious" in tag for tag in tags]),
        unsettled=_unsettled(tables["clinicians"], bookings, clinic, clock, now, len(last)),
        events=events,
        open=_still_open(bookings, now),
        last_visit=last_visit,
        attendance=_attendance(bookings, messages, last["birth_year"].fillna(1980).to_numpy(int)),
    )


def _stays(patients: pd.DataFrame, rates: BaseRates) -> np.ndarray:
    is_referred = (patients["source_channel"] == "referral").to_numpy()
    return stay_factor(rates.demand, is_referred, (patients["membership"].fillna("") != "").to_numpy())


def _still_open(bookings: pd.DataFrame, now: int) -> list[OpenBooking]:
    ahead = bookings[(bookings["status"] == "booked") & (bookings["start"] > now)]
    return [
        OpenBooking(person, int(booked), int(start), is_recall)
        for person, booked, start, is_recall in rows(ahead, "person", "booked", "start", "is_recall")
    ]


def _known(
    tables: Mapping[str, pd.DataFrame], place: pd.Series, clock: WallClock, as_of: datetime
) -> tuple[pd.DataFrame, ...]:
    """Bookings, recall messages and reminders, dues, arms and plan items known before `as_of`."""

    def of(name: str, moment: str) -> pd.DataFrame:
        frame = tables[name]
        frame = frame[(frame[moment] < as_of) & frame["patient_id"].isin(place.index)].copy()
        frame["person"] = frame["patient_id"].map(place).to_numpy(int)
        frame["minute"] = clock.minutes(frame[moment])
        return frame

    bookings = of("appointments", "booked_at")
    bookings["booked"], bookings["start"] = bookings["minute"], clock.minutes(bookings["starts_at"])
    bookings["lead"] = (bookings["start"] - bookings["booked"]) / DAY
    bookings["known"] = clock.minutes(bookings["status_known_at"])
    is_open = ~(bookings["status_known_at"] < as_of)
    bookings["status"] = bookings["status"].where(~is_open, "booked")
    bookings["is_recall"] = bookings["recall_type"].fillna("") != ""
    messages = of("communications", "sent_at")
    messages["replied"] = clock.minutes(messages["replied_at"])
    is_silent = ~(messages["replied_at"] < as_of)
    messages["outcome"] = messages["outcome"].where(~is_silent, "")
    dues = of("recalls", "known_from_at")
    dues["due"] = clock.days(dues["due_on"])
    arms = of("campaign_arms", "assigned_at")
    items = of("plan_items", "proposed_at")
    for name in ("accepted", "completed", "declined"):
        items[name] = clock.minutes(items[f"{name}_at"])
    return bookings, messages, dues.sort_values("minute", kind="stable"), arms, items


def _households(names: pd.Series) -> np.ndarray:
    """Numbers of the households; those who live alone get one each."""
    alone = pd.Series([f"alone {n}" for n in range(len(names))])
    found: np.ndarray = pd.factorize(names.fillna("").where(names.fillna("") != "", alone))[0]
    return found


def _shares(patients: pd.DataFrame, rates: BaseRates) -> np.ndarray:
    allowed = np.stack([patients[f"is_{channel}_allowed"].to_numpy(bool) for channel in CHANNELS], axis=1)
    shares = allowed * np.array([rates.contacts.channels[channel] for channel in CHANNELS])
    total = shares.sum(axis=1, keepdims=True)
    found: np.ndarray = shares / np.where(total > 0, total, 1.0)
    return found


def _unsettled(
    clinicians: pd.DataFrame, bookings: pd.DataFrame, clinic: str, clock: WallClock, now: int, size: int
) -> dict[int, np.ndarray]:
    """For each departure so far, the share of a patient's examinations that were at that post."""
    own = clinicians[clinicians["clinic_id"] == clinic]
    left = dict(zip(own["clinician_id"], clock.days(own["left_on"]) + DAY, strict=True))
    exams = bookings[bookings["service_line"] == "examination"]
    # A successor takes the post over, under the same number.
    posts = exams["clinician_id"].str.extract(r"-D(\d+)")[0].fillna("0").astype(int)
    counts = pd.crosstab(exams["person"], posts).reindex(range(size), fill_value=0)
    found = {}
    for clinician, minute in left.items():
        post = int(pd.Series([clinician]).str.extract(r"-D(\d+)")[0].iloc[0])
        if minute < now and post in counts.columns:
            share = (counts[post] + 1 / max(len(counts.columns), 1)) / (counts.sum(axis=1) + 1)
            found[int(minute)] = share.to_numpy(float)
    return found


def _attendance(bookings: pd.DataFrame, messages: pd.DataFrame, birth_year: np.ndarray) -> pd.DataFrame:
    told = bookings[bookings["status"].isin(["completed", "no_show"])]
    reminders = messages[messages["purpose"] == "reminder"].drop_duplicates("appointment_id", keep="last")
    outcome = reminders.set_index("appointment_id")["outcome"]
    sent = told["appointment_id"].map(outcome)
    start = pd.to_datetime(told["starts_at"], utc=True)
    firsts = told[told["status"] == "completed"].groupby("person")["start"].min()
    clock = told["start"].to_numpy(float) % DAY
    return pd.DataFrame(
        {
            "person": told["person"].to_numpy(int),
            "is_missed": (told["status"] == "no_show").to_numpy(),
            "lead_days": told["lead"].to_numpy(float),
            "age": start.dt.year.to_numpy(int) - birth_year[told["person"].to_numpy(int)],
            "is_early": clock < 10 * 60,
            "is_monday": (start.dt.weekday == 0).to_numpy(),
            "is_new": (told["booked"] <= told["person"].map(firsts).fillna(np.inf)).to_numpy(),
            "reminder": np.where(sent.isna(), "none", np.where(sent == "confirmed", "confirmed", "unanswered")),
        }
    )
