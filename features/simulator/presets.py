"""Ready-made practices, by the name a plan gives.

``default``
    A private clinic in a Chinese city.
``null``
    No signal: nobody differs, nothing matters to a no-show, coming back does
    not depend on the due date, messages do nothing.
``no_heterogeneity``
    Messages work, on everybody alike; no ranking of patients is right.
``insured``
    The default with insurance whose benefits lapse at the end of the year.
``dirty``
    The default with duplicated patients, merged households, times that are late
    or missing, and reasons in free text.
``chain``
    The default, meant for several clinics; they differ in size and rates.
"""

from __future__ import annotations

from dataclasses import replace

from features.simulator.plan import Preset
from features.simulator.rates import BaseRates, ContactRates, DemandRates

# One weekly chance at all times: coming does not depend on the due date.
FLAT = ((-10_000, 0.05),)
# Use it or lose it: the rush of November and December in the US (field.md), size assumed.
YEAR_END = 1.6


def rates_of(preset: Preset) -> BaseRates:
    """Base rates of a preset."""
    rates = BaseRates()
    if preset == "no_heterogeneity":
        return replace(rates, demand=_same_for_all(rates.demand), contacts=_alike(rates))
    if preset == "insured":
        return replace(rates, demand=replace(rates.demand, year_end=YEAR_END))
    if preset == "null":
        return _null(rates)
    return rates


def _same_for_all(demand: DemandRates) -> DemandRates:
    return replace(
        demand,
        adherence_sd=0.0,
        due_hazard=FLAT,
        lapse_per_year=0.0,
        moves_per_year=0.0,
        dies_per_year=0.0,
        leaves_after_first=0.0,
        leaves_after_visit=0.0,
        leaves_after_miss=0.0,
        referred_factor=1.0,
        member_factor=1.0,
        family_books_along=0.0,
        school_holiday=1.0,
        before_festival=1.0,
        after_festival=1.0,
        december=1.0,
    )


def _alike(rates: BaseRates) -> ContactRates:
    return replace(rates.contacts, who_gains="equal", age_matters=0.0, stale=1.0, fatigue=1.0, negative_share=0.0)


def _null(rates: BaseRates) -> BaseRates:
    attendance = replace(
        rates.attendance,
        base=-2.35,
        personal_sd=0.0,
        early_exit_personal=0.0,
        late_exit_personal=0.0,
        late_exit_confirmed=1.0,
        late_exit_short=1.0,
        lead_slope=0.0,
        young=0.0,
        senior=0.0,
        early=0.0,
        monday=0.0,
        new=0.0,
        unanswered=0.0,
        confirmed=0.0,
    )
    demand = replace(_same_for_all(rates.demand), plan_after_check=0.0, plan_after_emergency=0.0, rebooks=0.0)
    silent = dict.fromkeys(rates.contacts.recall_books, 0.0)
    contacts = replace(_alike(rates), recall_books=silent, recall_books_lapsed=0.0, declines=0.0, opts_out=0.0)
    events = replace(rates.events, price_rise=0.0, price_factor=0.0, departure_factor=1.0)
    return replace(rates, attendance=attendance, demand=demand, contacts=contacts, events=events)
