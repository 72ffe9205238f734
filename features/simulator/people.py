"""Who the patients are: what the desk records of them, and what nobody sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.simulator.hazards import stay_factor
from features.simulator.opening import CLOSES, DAY, OPENS, Opening
from features.simulator.plan import PracticePlan
from features.simulator.rates import BaseRates

HOUSEHOLD_SIZES: Mapping[int, float] = {1: 0.50, 2: 0.20, 3: 0.20, 4: 0.10}
# Two patients in five come by word of mouth in a well-run clinic (field.md, seed 2); the rest is assumed.
SOURCES: Mapping[str, float] = {
    "referral": 0.40,
    "dianping": 0.16,
    "search": 0.14,
    "walk_in": 0.12,
    "xiaohongshu": 0.08,
    "school_event": 0.05,
    "company_partner": 0.05,
}
YEARS_BEFORE = 6.0
# Consent by channel (assumed).
CONSENTS: Mapping[str, float] = {"wechat": 0.95, "sms": 0.93, "phone": 0.88, "email": 0.35}
PROFILING_ALLOWED = 0.98


@dataclass(frozen=True)
class People:
    """One entry per patient in every array, in the order they joined.

    Attributes
    ----------
    joined : ndarray of int
        Minute at which the practice first wrote the person down; below zero
        for those who joined before the simulation begins.
    birth_year, clinic, household, referred_by, interval_months : ndarray of int
        `referred_by` is a patient's position or -1; `household` a number.
    household_size : ndarray of int
        People of the household who are patients.
    is_female, is_contact_allowed : ndarray of bool
    stays : ndarray of float
        Personal factor on leaving.
    source, membership, tags : list of str
        Empty text where nothing is recorded.
    personal_effect : ndarray of float
        Lasting tendency to miss visits, on the logit (latent).
    log_delay : ndarray of float
        Lasting tendency to come late for recall, log scale (latent).
    responsiveness : ndarray of float
        Lasting tendency to answer messages, on the logit (latent).
    price_sensitivity : ndarray of float
        From 0 on, mean about 0.5 (latent).
    is_negative : ndarray of bool
        Whether messages put the person off (latent).
    consents : dict of str to ndarray of bool
        By channel.
    is_profiling_allowed : ndarray of bool
    """

    joined: np.ndarray
    birth_year: np.ndarray
    clinic: np.ndarray
    household: np.ndarray
    household_size: np.ndarray
    referred_by: np.ndarray
    interval_months: np.ndarray
    is_female: np.ndarray
    is_contact_allowed: np.ndarray
    stays: np.ndarray
    source: list[str]
    membership: list[str]
    tags: list[str]
    personal_effect: np.ndarray
    log_delay: np.ndarray
    responsiveness: np.ndarray
    price_sensitivity: np.ndarray
    is_negative: np.ndarray
    consents: dict[str, np.ndarray]
    is_profiling_allowed: np.ndarray


def pick(shares: Mapping[str, float], size: int, rng: np.random.Generator) -> list[str]:
    """Draw `size` keys with the probabilities `shares`."""
    keys = list(shares)
    return [keys[n] for n in rng.choice(len(keys), size=size, p=list(shares.values())).tolist()]


def draw_people(
    plan: PracticePlan, rates: BaseRates, opening: Opening, window_day: int, rng: np.random.Generator
) -> People:
    """Draw all patients of the practice.

    Parameters
    ----------
    plan, rates
        What to simulate.
    opening : Opening
        Nobody joins on a closed day.
    window_day : int
        Number of the first exported day.
    rng : Generator
        Source of randomness.
    """
    size = plan.patients
    household, place = _households(size, rng)
    joined = _joined(plan, rates, opening, window_day, household, rng)
    order = np.argsort(joined, kind="stable")
    household, place, joined = household[order], place[order], joined[order]
    age = _ages(household, place, rng)
    effect = rng.normal(0, rates.attendance.personal_sd, size)
    source = pick(SOURCES, size, rng)
    years = np.array([opening.years[max(day, 0)] for day in (joined // DAY).tolist()])
    # Those who joined before minute 0 are some years older than their entry says.
    years = years + np.minimum(joined // (365 * DAY), 0)
    household_size = np.bincount(household)[household]
    price = rng.gamma(1.0, 0.5, size)
    membership = _memberships(household_size, rng)
    return People(
        joined=joined,
        birth_year=years - age,
        clinic=np.zeros(size, int),
        household=household,
        household_size=household_size,
        referred_by=_referrers(source, rng),
        interval_months=_intervals(rates, size, rng),
        is_female=rng.random(size) < 0.56,
        is_contact_allowed=rng.random(size) < rates.demand.contact_allowed,
        stays=stay_factor(rates.demand, np.array(source) == "referral", np.array(membership) != ""),
        source=source,
        membership=membership,
        tags=_tags(effect, age, price, rng),
        personal_effect=effect,
        log_delay=_log_delays(rates, household, rng),
        responsiveness=-0.2 * effect + rng.normal(0, 0.8, size) * (rates.attendance.personal_sd > 0),
        price_sensitivity=price,
        is_negative=rng.random(size) < rates.contacts.negative_share,
        consents={channel: rng.random(size) < share for channel, share in CONSENTS.items()},
        is_profiling_allowed=rng.random(size) < PROFILING_ALLOWED,
    )


def _households(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    sizes = rng.choice(list(HOUSEHOLD_SIZES), size=size, p=list(HOUSEHOLD_SIZES.values()))
    household = np.repeat(np.arange(size), sizes)[:size]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return household, np.arange(size) - starts[household]


def _joined(
    plan: PracticePlan,
    rates: BaseRates,
    opening: Opening,
    window_day: int,
    household: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Minutes of joining: a household's members follow its first within some months."""
    homes = int(household.max()) + 1
    days_after = round(365.25 * plan.years) - 1
    is_before = rng.random(homes) < rates.demand.joined_before
    # A practice grows: of those from before, the later years brought more.
    before = window_day - YEARS_BEFORE * 365.25 * (1 - np.sqrt(rng.random(homes)))
    first = np.where(is_before, before, window_day + rng.random(homes) * days_after)
    is_first = np.concatenate([[True], household[1:] != household[:-1]])
    later = np.where(is_first, 0, rng.exponential(120, len(household)))
    last_day = window_day + days_after
    days = np.floor(first[household] + later)
    # Who would come after the export comes between the household's first and the export instead.
    between = first[household] + rng.random(len(household)) * (last_day - first[household])
    days = np.where(days > last_day, np.floor(between), days).astype(int)
    open_days = [opening.previous_open_day(day) if day >= 0 else day for day in days.tolist()]
    return np.array(open_days) * DAY + rng.integers(OPENS, CLOSES, size=len(household))


def _ages(household: np.ndarray, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Age at joining, in years: two adults of similar age first, then children."""
    size = len(household)
    parent = np.clip(rng.gamma(9.0, 4.2, int(household.max()) + 1), 18, 85)[household]
    partner = np.clip(parent + rng.normal(0, 4, size), 18, 88)
    child = np.clip(parent - rng.uniform(22, 36, size), 3, 30)
    lone_child = rng.random(size) < 0.12
    age = np.select([place >= 2, place == 1], [child, partner], np.where(lone_child, child, parent))
    ages: np.ndarray = age.astype(int)
    return ages


def _referrers(source: list[str], rng: np.random.Generator) -> np.ndarray:
    size = len(source)
    earlier = (rng.random(size) * np.arange(size)).astype(int)
    is_named = (np.array(source) == "referral") & (rng.random(size) < 0.8) & (np.arange(size) > 0)
    return np.where(is_named, earlier, -1)


def _intervals(rates: BaseRates, size: int, rng: np.random.Generator) -> np.ndarray:
    shares = rates.demand.interval_months
    return rng.choice(list(shares), size=size, p=list(shares.values()))


def _memberships(household_size: np.ndarray, rng: np.random.Generator) -> list[str]:
    chance = rng.random(len(household_size))
    plans = np.select([(household_size > 1) & (chance < 0.25), chance > 0.9], ["family", "silver"], "")
    return [str(plan) for plan in plans]


def _tags(effect: np.ndarray, age: np.ndarray, price: np.ndarray, rng: np.random.Generator) -> list[str]:
    size = len(effect)
    has = {
        "anxious": rng.random(size) < 1 / (1 + np.exp(2.2 - 0.6 * effect)),
        "price_sensitive": rng.random(size) < np.minimum(0.22 * price, 0.9),
        "student": (age >= 17) & (age <= 24) & (rng.random(size) < 0.6),
    }
    return [";".join(tag for tag, flags in has.items() if flags[n]) for n in range(size)]


def _log_delays(rates: BaseRates, household: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    demand = rates.demand
    shared = rng.normal(0, 1, int(household.max()) + 1)[household]
    own = rng.normal(0, 1, len(household))
    share = demand.adherence_household
    delays: np.ndarray = demand.adherence_sd * (np.sqrt(share) * shared + np.sqrt(1 - share) * own)
    return delays
