"""The best that anyone could say of who returns: knowing everything, or only the export.

Both run the same model (`features.simulator.return_chance`). The oracle starts
from the true state and the true personal values; the posterior from what the
history tells of them (`features.simulator.care_filter`), the household's
history included. Of the practice both know all rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from features.simulator.attendance import Circumstances, no_show_logit
from features.simulator.booking_kernels import kernels_of
from features.simulator.care_filter import follow
from features.simulator.care_model import Model
from features.simulator.care_state import GONE, IN_CARE, Care
from features.simulator.observed import Observed, observe
from features.simulator.observed_events import rows
from features.simulator.opening import DAY, draw_up_opening
from features.simulator.oracle import expit
from features.simulator.panel import NEVER
from features.simulator.practice import SimulatedPractice
from features.simulator.presets import rates_of
from features.simulator.rates import BaseRates
from features.simulator.return_chance import look_ahead
from features.simulator.running import site_rates, sites_of

GRID = np.linspace(-3.2, 3.2, 17)  # personal rates, in standard deviations
EFFECTS = np.linspace(-2.4, 2.4, 7)  # personal effects on missing, likewise
SHARED = np.linspace(-3.0, 3.0, 13)  # the household's part, likewise
LAPSE_DAYS = 90  # or half the interval, if that is longer


@dataclass(frozen=True)
class Case:
    """One clinic at one moment: what was seen, and the model that explains it."""

    seen: Observed
    model: Model


def return_posterior(
    practice: SimulatedPractice,
    as_of: datetime,
    horizon_days: Sequence[int] = (90, 180),
    patients: Sequence[str] | None = None,
    rates: BaseRates | None = None,
) -> pd.DataFrame:
    """P(attended visit) of each patient, given the model and the export as of a moment.

    Parameters
    ----------
    practice : SimulatedPractice
        Simulated, or read back with `read_practice`; its truth is not looked at.
    as_of : datetime
        Aware moment; nothing known at or after it counts.
    horizon_days : sequence of int
        The windows ``(as_of, as_of + days]``.
    patients : sequence of str, optional
        Answer for these alone; everyone seen before by default.
    rates : BaseRates, optional
        Those of the simulation; the preset's by default.

    Returns
    -------
    DataFrame
        One row per patient: patient_id, in_care (P of it), has_booking (a visit
        is booked), returns_{days}d per horizon, due_on, lapse_on (due date + 90 days or half the interval) and
        lapses, P(no attended visit until the end of lapse_on); the last is NaN
        where that day is past.
    """
    parts = [
        _answer(case, follow_all(case, chosen), horizon_days, patients)
        for case, chosen in _cases(practice, as_of, patients, rates)
    ]
    return pd.concat(parts, ignore_index=True)


def return_oracle(
    practice: SimulatedPractice,
    as_of: datetime,
    horizon_days: Sequence[int] = (90, 180),
    patients: Sequence[str] | None = None,
    rates: BaseRates | None = None,
) -> pd.DataFrame:
    """P(attended visit) of each patient, given the true state as well.

    Known are: in care or not, the personal rate and effect on missing, price
    sensitivity, being put off by messages. Not known is what chance decides
    after the as-of. Parameters and columns are as in `return_posterior`.
    """
    parts = []
    for case, chosen in _cases(practice, as_of, patients, rates):
        known = practice.truth["patients_truth"].set_index("patient_id").reindex(case.seen.ids)
        told = Case(replace(case.seen, price=known["price_sensitivity"].to_numpy(float)), case.model)
        parts.append(
            _answer(told, _true_state(told, known, practice.truth["alive_spells"], as_of), horizon_days, chosen)
        )
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class State:
    """What is believed of every patient: filter, prior of the rate, grid of effects and its shares."""

    care: Care
    prior: np.ndarray
    effects: np.ndarray
    shares: np.ndarray


def follow_all(case: Case, chosen: Sequence[str] | None = None) -> State:
    """Posterior of every patient's state from the history."""
    rates, size = case.model.rates, len(case.seen.ids)
    spread = rates.demand.adherence_sd
    grid = GRID * spread if spread else np.zeros(1)
    put_off = rates.contacts.negative_share
    care = follow(
        case.seen, case.model, np.broadcast_to(grid, (size, len(grid))), np.tile([1 - put_off, put_off], (size, 1))
    )
    effects = EFFECTS * rates.attendance.personal_sd if rates.attendance.personal_sd else np.zeros(1)
    return State(care, _household_prior(case, care), effects, effect_posterior(case.seen, rates, effects))


def _household_prior(case: Case, care: Care) -> np.ndarray:
    """Prior of each patient's rate, given what the rest of the household did."""
    share, size = case.model.rates.demand.adherence_household, care.log_rate.shape[1]
    if size == 1:
        return np.ones((len(care.log_rate), 1))
    own = np.exp(-0.5 * (GRID - np.sqrt(share) * SHARED[:, None]) ** 2 / (1 - share))
    own /= own.sum(axis=1, keepdims=True)  # P(rate | household's part)
    common = np.exp(-0.5 * SHARED**2)
    told = np.log(np.maximum(care.weight.sum(axis=(1, 3)) @ own.T, 1e-300))
    home = np.zeros((case.seen.household.max() + 1, len(SHARED)))
    np.add.at(home, case.seen.household, told)
    others = home[case.seen.household] - told
    weight = common * np.exp(others - others.max(axis=1, keepdims=True))
    prior = weight @ own
    shares: np.ndarray = prior / prior.sum(axis=1, keepdims=True)
    return shares


def effect_posterior(seen: Observed, rates: BaseRates, effects: np.ndarray) -> np.ndarray:
    """Share of each personal effect on missing, from the visits kept and missed and the tag."""
    spread = rates.attendance.personal_sd
    if len(effects) == 1:
        return np.ones((len(seen.ids), 1))
    log_share = np.tile(-0.5 * (effects / spread) ** 2, (len(seen.ids), 1))
    anxious = expit(0.6 * effects - 2.2)
    log_share += np.where(seen.anxious[:, None], np.log(anxious), np.log1p(-anxious))
    told = seen.attendance
    by_reminder = {"none": 0.0, "unanswered": rates.attendance.unanswered, "confirmed": rates.attendance.confirmed}
    offset = np.array(
        [
            no_show_logit(
                rates.attendance,
                Circumstances(0.0, lead_days, age, is_early, is_monday, is_new),
            )
            + by_reminder[reminder]
            for lead_days, age, is_early, is_monday, is_new, reminder in rows(
                told, "lead_days", "age", "is_early", "is_monday", "is_new", "reminder"
            )
        ]
    ).reshape(-1, 1)
    chance = expit(offset + effects)
    missed = told["is_missed"].to_numpy(bool)[:, None]
    np.add.at(log_share, told["person"].to_numpy(int), np.where(missed, np.log(chance), np.log1p(-chance)))
    found = np.exp(log_share - log_share.max(axis=1, keepdims=True))
    shares: np.ndarray = found / found.sum(axis=1, keepdims=True)
    return shares


def _true_state(case: Case, known: pd.DataFrame, spells: pd.DataFrame, as_of: datetime) -> State:
    """The true state; only what a patient will do after a missed visit is taken from the filter."""
    put_off = known["is_negative_responder"].to_numpy(float)
    care = follow(
        case.seen,
        case.model,
        known["log_booking_rate"].to_numpy(float)[:, None],
        np.stack([1 - put_off, put_off], axis=1),
    )
    last = spells[spells["from_at"] <= as_of].drop_duplicates("patient_id", keep="last").set_index("patient_id")
    in_care = last["is_in_care"].reindex(case.seen.ids).eq(True).to_numpy(bool)
    care.weight[in_care, GONE] = 0.0
    # The filter may be sure of what is not so; the true state is.
    is_ruled_out = in_care & (care.weight[:, 1:].sum(axis=(1, 2, 3)) <= 0)
    care.weight[is_ruled_out, IN_CARE] = 1.0
    care.weight[~in_care] = 0.0
    care.weight[~in_care, GONE] = 1.0
    care.weight *= np.stack([1 - put_off, put_off], axis=1)[:, None, None, :]
    effects = EFFECTS * case.model.rates.attendance.personal_sd
    effect = known["no_show_effect"].to_numpy(float)
    if not effects.any():
        return State(care, np.ones((len(known), 1)), np.zeros(1), np.ones((len(known), 1)))
    step = effects[1] - effects[0]
    shares = np.clip(1 - np.abs(np.clip(effect, effects[0], effects[-1])[:, None] - effects) / step, 0, 1)
    return State(care, np.ones((len(known), 1)), effects, shares)


def _cases(
    practice: SimulatedPractice, as_of: datetime, patients: Sequence[str] | None, rates: BaseRates | None
) -> list[tuple[Case, Sequence[str] | None]]:
    """Every clinic's case; with the households of those asked for, if not everybody is."""
    plan = practice.plan
    tables = practice.tables
    cases = []
    for site in sites_of(plan):
        span = site.span
        own_rates = site_rates(site, rates or rates_of(plan.preset))
        opening = draw_up_opening(span.origin.date(), span.now // DAY + 3 * 366)
        rise = span.window + int((span.now - span.window) * own_rates.events.price_rise_at)
        model = Model(own_rates, opening, rise // DAY * DAY if own_rates.events.price_rise else NEVER)
        own = _with_households(tables, site.tag, patients)
        if own is not None and not len(own["patients"]):
            continue
        seen = observe(own or tables, site.tag, as_of, span.origin, plan.time_zone, own_rates)
        cases.append((Case(seen, model), patients))
    return cases


def _with_households(
    tables: Mapping[str, pd.DataFrame], clinic: str, patients: Sequence[str] | None
) -> dict[str, pd.DataFrame] | None:
    """Tables of the patients asked for and their households alone; None if all are."""
    if patients is None:
        return None
    everyone = tables["patients"]
    everyone = everyone[everyone["home_clinic_id"] == clinic]
    asked = everyone[everyone["patient_id"].isin(set(patients))]
    homes = set(asked["household_id"]) - {"", None}
    chosen = set(asked["patient_id"]) | set(everyone.loc[everyone["household_id"].isin(homes), "patient_id"])
    return {
        name: frame[frame["patient_id"].isin(chosen)] if "patient_id" in frame else frame
        for name, frame in tables.items()
    }


def _answer(case: Case, state: State, horizon_days: Sequence[int], patients: Sequence[str] | None) -> pd.DataFrame:
    seen, care = case.seen, state.care
    now = seen.now
    wait = np.maximum(LAPSE_DAYS, np.round(seen.interval_months * 365.25 / 24))
    is_due = (care.due != NEVER) & (seen.interval_months > 0)
    lapse_at = np.where(is_due, care.due // DAY + wait + 1, 0) * DAY
    days = np.where(lapse_at > now, (lapse_at - now) / DAY, 0.0)
    horizons = np.column_stack([*(np.full(len(days), float(n)) for n in horizon_days), days])
    kernels = kernels_of(seen, care, case.model, state.effects, state.shares)
    ahead = look_ahead(seen, care, case.model, kernels, state.prior, horizons)
    mass = (care.weight * state.prior[:, None, :, None]).sum(axis=(2, 3))
    frame = pd.DataFrame({"patient_id": seen.ids, "in_care": mass[:, 1:].sum(axis=1) / mass.sum(axis=1)})
    frame["has_booking"] = np.isin(np.arange(len(seen.ids)), [booking.person for booking in seen.open])
    for place, n in enumerate(horizon_days):
        frame[f"returns_{n}d"] = ahead.returns[:, place]
    first = case.model.opening.first_day
    frame["due_on"] = [
        first + timedelta(days=int(due // DAY)) if ok else None
        for due, ok in zip(care.due.tolist(), is_due, strict=True)
    ]
    frame["lapse_on"] = [
        first + timedelta(days=int(at // DAY) - 1) if ok else None
        for at, ok in zip(lapse_at.tolist(), is_due, strict=True)
    ]
    frame["lapses"] = np.where(days > 0, 1 - ahead.returns[:, -1], np.nan)
    is_seen = ~np.isnan(seen.last_visit) & ~seen.is_departed
    if patients is not None:
        is_seen &= np.isin(seen.ids, np.array(list(patients)))
    answer: pd.DataFrame = frame[is_seen].reset_index(drop=True)
    return answer
