"""No-show: how well anyone could tell a missed booking, when it is made and on the evening before.

``oracle`` knows the truth of each booking. ``posterior`` knows the model and,
of each patient, only what the export showed by then: the personal effect on
missing is integrated out over a grid, given how the patient's earlier bookings
ended and the tag. Confirmations of earlier reminders, which tell a little of
it too, are left out.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from features.simulator.attendance import (
    LATE_AT_MOST,
    REMINDER_STATES,
    Circumstances,
    ReminderState,
    early_exit_chance,
    late_exit_weight,
    no_show_logit,
    truth_at_booking,
    truth_in_the_evening,
)
from features.simulator.booking_life import mean_confirm_chance
from features.simulator.booking_truth import late_window_left
from features.simulator.ceilings import figures, read_practice
from features.simulator.observed import WallClock
from features.simulator.opening import DAY
from features.simulator.oracle import expit, normal_grid
from features.simulator.practice import SimulatedPractice
from features.simulator.presets import rates_of
from features.simulator.rates import BaseRates
from features.simulator.running import site_rates, sites_of

MOMENTS = ("at_booking", "evening_before")
EARLY = ("cancelled_early", "rescheduled")
MISSED = ("no_show", "cancelled_late")
NODES = 20  # of the personal effect's grid
REMINDED_AHEAD = 2  # whole days between booking and visit, at least


def no_show_ceilings(
    practice: SimulatedPractice | Path, since: datetime, rates: BaseRates | None = None
) -> pd.DataFrame:
    """Figures of the oracle and of the posterior for missed bookings.

    Parameters
    ----------
    practice : SimulatedPractice or Path
        Simulated, or the folder of its export (headers in English) with ``truth/`` in it.
    since : datetime
        Aware moment; visits planned from then on are judged, all earlier ones are history.
    rates : BaseRates, optional
        Those of the simulation, if they were not the preset's.

    Returns
    -------
    DataFrame
        One row per moment (``no_show_at_booking``, ``no_show_evening_before``) and judge
        (``oracle``, ``posterior``), with the columns of `features.simulator.ceilings.ceilings`;
        ``patients`` counts bookings.
    """
    if isinstance(practice, Path):
        practice = read_practice(practice)
    answers = no_show_answers(practice, since, rates)
    return pd.DataFrame(
        {"question": f"no_show_{moment}", "judge": judge} | figures(own["label"], own[judge], own["oracle"])
        for moment, own in answers.groupby("moment", sort=False)
        for judge in ("oracle", "posterior")
    )


def no_show_answers(practice: SimulatedPractice, since: datetime, rates: BaseRates | None = None) -> pd.DataFrame:
    """Both judges' probabilities beside the label; parameters as in `no_show_ceilings`.

    Returns
    -------
    DataFrame
        One row per moment and booking that was made on an earlier day than its visit, was not
        given up 24 hours ahead or more, and has ended; on the evening before, only those that
        still stood: moment, appointment_id, patient_id, oracle, posterior, label (1 for a
        no-show or a late cancellation).
    """
    plan, parts = practice.plan, []
    for site in sites_of(plan):
        own = site_rates(site, rates or rates_of(plan.preset))
        clock = WallClock(pd.Timestamp(site.span.origin), plan.time_zone)
        bookings = _bookings(practice, site.tag, clock, own)
        if len(bookings):
            parts.append(_judged(bookings, own, clock.minutes(pd.Series([since]))[0]))
    return pd.concat(parts, ignore_index=True)


def _bookings(practice: SimulatedPractice, clinic: str, clock: WallClock, rates: BaseRates) -> pd.DataFrame:
    """One row per booking of a clinic: what was seen of it in minutes, and its truth."""
    tables = practice.tables
    frame = tables["appointments"]
    frame = frame[(frame["clinic_id"] == clinic) & frame["is_start_time_known"]]
    frame = frame.merge(practice.bookings_truth, on="appointment_id")
    first = tables["patients"].drop_duplicates("patient_id").set_index("patient_id")
    for name in ("birth_year", "tags", "first_seen_on"):
        frame[name] = frame["patient_id"].map(first[name])
    reached = first[[f"is_{channel}_allowed" for channel in rates.contacts.channels]].any(axis=1)
    frame["is_reached"] = frame["patient_id"].map(reached).astype(bool)
    sent = tables["communications"].query("purpose == 'reminder'").drop_duplicates("appointment_id", keep="last")
    outcome = frame["appointment_id"].map(sent.set_index("appointment_id")["outcome"])
    frame["reminder"] = np.where(outcome.isna(), "none", np.where(outcome == "confirmed", "confirmed", "unanswered"))
    frame["booked"], frame["start"] = clock.minutes(frame["booked_at"]), clock.minutes(frame["starts_at"])
    frame["starts_on"] = pd.Timestamp(clock.began) + pd.to_timedelta(frame["start"], unit="min")
    known = clock.minutes(frame["status_known_at"])
    frame["known"] = np.where(np.isnan(known), frame["start"], known)
    visits = frame[frame["status"] == "completed"].groupby("patient_id")["known"].min()
    seen = np.fmin(clock.days(frame["first_seen_on"]), frame["patient_id"].map(visits).fillna(np.inf).to_numpy(float))
    frame["is_new"] = frame["booked"].to_numpy() <= seen
    return frame.reset_index(drop=True)


def _judged(frame: pd.DataFrame, rates: BaseRates, since: float) -> pd.DataFrame:
    attendance = rates.attendance
    effects, prior = normal_grid(attendance.personal_sd, NODES)
    logit, late, early = _by_effect(frame, rates, effects)
    anxious = expit(0.6 * effects - 2.2)
    is_anxious = frame["tags"].fillna("").str.contains("anxious").to_numpy()[:, None]
    tag = np.where(is_anxious, np.log(anxious), np.log1p(-anxious))
    told = _log_likelihood(frame, rates, logit, late, early)
    booked, start = frame["booked"].to_numpy(int), frame["start"].to_numpy(int)
    evening = (start // DAY - 1) * DAY + attendance.evening_hour * 60
    is_over = frame["status"].isin(["completed", *MISSED]).to_numpy()
    is_asked = is_over & (start >= since) & (start // DAY > booked // DAY)
    stands = is_asked & frame["missed_probability_evening_before"].notna().to_numpy()
    left = late_window_left(attendance, booked, start)
    parts = []
    for moment, chosen, minutes in zip(MOMENTS, (is_asked, stands), (booked, evening), strict=True):
        at = np.flatnonzero(chosen)
        weight = _history(frame, told, minutes, at) + np.log(prior) + tag[at] + np.log1p(-early[at])
        shape, flat_logit, flat_late = (len(at), len(effects)), logit[at].ravel(), late[at].ravel()
        if moment == "at_booking":
            truth = truth_at_booking(attendance, flat_logit, flat_late, _states(frame.iloc[at], rates, effects))
        else:
            states = np.repeat(frame["reminder"].to_numpy(str)[at], len(effects))
            share = np.repeat(left[at], len(effects))
            truth = truth_in_the_evening(attendance, flat_logit, flat_late, states, share)
            gone = np.minimum(late[at], 1.0) * (1 - left[at])[:, None]
            weight += np.log1p(-np.minimum(gone, 0.99))
        share_of = np.exp(weight - weight.max(axis=1, keepdims=True))
        share_of /= share_of.sum(axis=1, keepdims=True)
        parts.append(
            pd.DataFrame(
                {
                    "moment": moment,
                    "appointment_id": frame["appointment_id"].to_numpy()[at],
                    "patient_id": frame["patient_id"].to_numpy()[at],
                    "oracle": frame[f"missed_probability_{moment}"].to_numpy(float)[at],
                    "posterior": (share_of * truth.missed.reshape(shape)).sum(axis=1),
                    "label": frame["status"].isin(MISSED).to_numpy(int)[at],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _by_effect(frame: pd.DataFrame, rates: BaseRates, effects: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logit of a no-show, weight of a late and chance of an early exit: bookings x effects."""
    attendance = rates.attendance
    start = frame["start"].to_numpy(int)
    lead = (start - frame["booked"].to_numpy(int)) / DAY
    age = frame["starts_on"].dt.year.to_numpy(int) - frame["birth_year"].fillna(1980).to_numpy(int)
    facts = [
        Circumstances(0.0, *each)
        for each in zip(
            lead.tolist(),
            age.tolist(),
            (start % DAY < 10 * 60).tolist(),
            (frame["starts_on"].dt.weekday == 0).tolist(),
            frame["is_new"].tolist(),
            strict=True,
        )
    ]
    logit = np.array([no_show_logit(attendance, each) for each in facts])[:, None] + effects
    late = np.array([late_exit_weight(attendance, each) for each in facts])[:, None]
    early = np.array([early_exit_chance(attendance, each) for each in facts])[:, None]
    early = np.where(lead[:, None] > 1, early, 0.0) * np.exp(attendance.early_exit_personal * effects)
    return logit, late * np.exp(attendance.late_exit_personal * effects), np.minimum(early, 0.6)


def _log_likelihood(
    frame: pd.DataFrame, rates: BaseRates, logit: np.ndarray, late: np.ndarray, early: np.ndarray
) -> np.ndarray:
    """Log likelihood of how each booking ended: bookings x effects; 0 where it has not."""
    attendance, status = rates.attendance, frame["status"].to_numpy(str)
    effect_of = {"none": 0.0, "unanswered": attendance.unanswered, "confirmed": attendance.confirmed}
    reminder = frame["reminder"]
    exits = np.minimum(
        late * reminder.eq("confirmed").map({True: attendance.late_exit_confirmed, False: 1.0}).to_numpy()[:, None],
        LATE_AT_MOST,
    )
    missed = expit(logit + reminder.map(effect_of).to_numpy(float)[:, None])
    chances = {
        "cancelled_late": (1 - early) * exits,
        "no_show": (1 - early) * (1 - exits) * missed,
        "completed": (1 - early) * (1 - exits) * (1 - missed),
    } | dict.fromkeys(EARLY, early)
    told = np.zeros(logit.shape)
    for name, chance in chances.items():
        at = status == name
        told[at] = np.log(np.maximum(chance[at], 1e-12))
    return told


def _history(frame: pd.DataFrame, told: np.ndarray, minutes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Log likelihood of what each patient's other bookings had told by `minutes`: rows `at` x effects."""
    total = np.zeros_like(told)
    known = frame["known"].to_numpy(float)
    for own in frame.groupby("patient_id").indices.values():
        total[own] = (known[own][None, :] < minutes[own][:, None]) @ told[own]
    found: np.ndarray = total[at]
    return found


def _states(frame: pd.DataFrame, rates: BaseRates, effects: np.ndarray) -> dict[ReminderState, np.ndarray]:
    """Chance of each reminder state, one entry per booking and effect."""
    days = frame["start"].to_numpy(int) // DAY - frame["booked"].to_numpy(int) // DAY
    sent = (rates.contacts.reminded * ((days >= REMINDED_AHEAD) & frame["is_reached"].to_numpy()))[:, None]
    confirms = np.array([mean_confirm_chance(rates, effect) for effect in effects.tolist()])
    found = {"none": 1 - sent + 0 * confirms, "unanswered": sent * (1 - confirms), "confirmed": sent * confirms}
    return {state: found[state].ravel() for state in REMINDER_STATES}
