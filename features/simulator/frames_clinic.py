"""Turn the clinic itself into tables: rooms, staff, days closed, stock and monthly accounts."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd

from features.simulator.one_clinic import Site
from features.simulator.opening import CLOSES, DAY, OPENS
from features.simulator.staff import SERVICE_LINES
from features.simulator.world import World

# Holidays are announced by the State Council in the November before.
ANNOUNCED = (11, 20)
# Name, unit, cost of one in cents, per visit of which lines how many.
SUPPLIES: dict[str, tuple[str, int, dict[str, float]]] = {
    "gloves": ("pair", 60, dict.fromkeys(SERVICE_LINES, 2.0)),
    "anaesthetic": ("cartridge", 900, {"filling": 1.0, "root_canal": 2.0, "implant": 3.0, "crown": 1.0}),
    "composite": ("gram", 4500, {"filling": 0.6, "root_canal": 0.3}),
    "prophy_paste": ("cup", 250, {"hygiene": 1.0, "whitening": 1.0}),
    "implant_body": ("piece", 120_000, {"implant": 0.4}),
    "bracket_wire": ("piece", 3500, {"orthodontics": 1.0}),
    "impression_material": ("mix", 2800, {"crown": 1.0, "implant": 0.3}),
}
# Shares of revenue; consumables 5-7 % and lab 7-8 % as the seed article says, the rest assumed.
ACCOUNTS = {"consumables": 0.06, "lab": 0.075, "payroll": 0.38, "rent": 0.11, "marketing": 0.08, "other": 0.05}


def clinics_frame(site: Site) -> pd.DataFrame:
    """One row."""
    opened = (site.span.origin - timedelta(days=7 * 365)).date()
    known = pd.Series([pd.Timestamp(opened, tz="UTC")])
    return pd.DataFrame(
        {
            "clinic_id": [site.tag],
            "clinic_name": [f"Clinic {site.number + 1}"],
            "region": [f"District {site.number % 7 + 1}"],
            "opened_on": [opened],
            "known_from_at": known,
        }
    )


def clinicians_frame(world: World, site: Site) -> pd.DataFrame:
    """One row per clinician who had started by now; departures known some weeks ahead."""
    now_day, notice = site.span.now // DAY, world.rates.events.notice_days
    staff = [who for who in world.clinicians if who.since <= now_day]
    leaves = [who.until - notice <= now_day for who in staff]
    since = [site.day(who.since * DAY) if who.since else _before(site) for who in staff]
    return pd.DataFrame(
        {
            "clinician_id": [who.name for who in staff],
            "clinic_id": site.tag,
            "display_name": [f"Dr. {who.name}" if "filling" in who.lines else who.name for who in staff],
            "role": ["hygienist" if who.lines == {"hygiene", "whitening"} else "dentist" for who in staff],
            "works_from_on": since,
            "left_on": [
                site.day((who.until - 1) * DAY) if is_known else None
                for who, is_known in zip(staff, leaves, strict=True)
            ],
            "left_known_at": site.instants(
                [
                    max(who.until - notice, who.since) * DAY if is_known else None
                    for who, is_known in zip(staff, leaves, strict=True)
                ]
            ),
            "known_from_at": site.instants([who.since * DAY - 30 * DAY if who.since else -365 * DAY for who in staff]),
        }
    )


def _before(site: Site) -> date:
    return (site.span.origin - timedelta(days=365)).date()


def closures_frame(world: World, site: Site) -> pd.DataFrame:
    """Days of the Spring Festival, from the run-up to those already announced."""
    closed = [day for day, is_open in enumerate(world.opening.is_open) if not is_open]
    days = [world.opening.first_day + timedelta(days=day) for day in closed]
    origin = site.span.origin
    announced = [(date(day.year - 1, *ANNOUNCED) - origin.date()).days * DAY + OPENS for day in days]
    kept = [(day, known) for day, known in zip(days, announced, strict=True) if known <= site.span.now]
    return pd.DataFrame(
        {
            "closure_id": [f"{site.tag}|{day.isoformat()}" for day, _ in kept],
            "clinic_id": site.tag,
            "reason": "spring_festival",
            "closed_on": pd.Series([day for day, _ in kept], dtype=object),
            "known_from_at": site.instants([known for _, known in kept]),
        }
    )


def capacity_frame(world: World, site: Site) -> pd.DataFrame:
    """Chair hours by weekday; posts are filled without a gap, so they never change."""
    posts = [who for who in world.clinicians if who.since == 0]
    hours = (CLOSES - OPENS) / 60
    working = [sum(weekday not in who.days_off for who in posts) for weekday in range(7)]
    since = _before(site)
    return pd.DataFrame(
        {
            "capacity_id": [f"{site.tag}|{weekday}|{since.isoformat()}" for weekday in range(7)],
            "clinic_id": site.tag,
            "weekday": range(7),
            "chairs": working,
            "chair_hours": [chairs * hours for chairs in working],
            "valid_from_on": [since] * 7,
            "known_from_at": site.instants([-365 * DAY] * 7),
        }
    )


def supply_use_frame(site: Site) -> pd.DataFrame:
    """Units per visit, by line and item of this clinic."""
    rows = [(line, name, count) for name, (_, _, use) in SUPPLIES.items() for line, count in use.items()]
    return pd.DataFrame(
        {
            "supply_use_id": [f"{line}|{site.tag}-{name}" for line, name, _ in rows],
            "supply_id": [f"{site.tag}-{name}" for _, name, _ in rows],
            "service_line": [line for line, _, _ in rows],
            "quantity": [count for _, _, count in rows],
            "known_from_at": site.instants([-365 * DAY] * len(rows)),
        }
    )


def supplies_frame(appointments: pd.DataFrame, site: Site, rng: np.random.Generator) -> pd.DataFrame:
    """Stock at the last count, one day or more before now: two to eight weeks of use."""
    visits = appointments[appointments["status"] == "completed"]
    weeks = (site.span.now - site.span.window) / (7 * DAY)
    per_week = visits["service_line"].value_counts() / max(weeks, 1)
    use = {n: sum(per_week.get(line, 0.0) * k for line, k in lines.items()) for n, (_, _, lines) in SUPPLIES.items()}
    stock = [round(float(use[name] * rng.uniform(2, 8)), 1) for name in SUPPLIES]
    return pd.DataFrame(
        {
            "supply_id": [f"{site.tag}-{name}" for name in SUPPLIES],
            "clinic_id": site.tag,
            "supply_name": list(SUPPLIES),
            "unit": [unit for unit, _, _ in SUPPLIES.values()],
            "unit_cost_cents": [cost for _, cost, _ in SUPPLIES.values()],
            "stock_quantity": stock,
            "reorder_quantity": [round(float(use[name] * 3), 1) for name in SUPPLIES],
            "counted_at": site.instants([(site.span.now // DAY - 1) * DAY + CLOSES] * len(SUPPLIES)),
        }
    )


def ledger_frame(payments: pd.DataFrame, site: Site, rng: np.random.Generator) -> pd.DataFrame:
    """Revenue and costs of every whole month that is closed by now."""
    charges = payments[payments["kind"] == "charge"]
    local = charges["paid_at"].dt.tz_convert(site.plan.time_zone).dt.tz_localize(None)
    revenue = charges.groupby(local.to_numpy().astype("datetime64[M]"))["amount_cents"].sum()
    now = site.plan.local_now.date()
    closed = {}
    for start, sum_cents in zip(pd.DatetimeIndex(revenue.index).date, revenue, strict=True):
        month: date = start
        following = (month + timedelta(days=32)).replace(day=5)
        if following <= now and month >= site.plan.window_start.date():
            closed[month] = (int(sum_cents), following)
    rows = []
    for month, (earned, known) in closed.items():
        rows.append((month, "revenue", earned, known))
        for account, share in ACCOUNTS.items():
            rows.append((month, account, round(earned * share * float(rng.lognormal(0, 0.08))), known))
    return pd.DataFrame(
        {
            "ledger_id": [f"{site.tag}|{month.isoformat()}|{account}" for month, account, _, _ in rows],
            "clinic_id": site.tag,
            "account": [account for _, account, _, _ in rows],
            "amount_cents": [amount for _, _, amount, _ in rows],
            "month_on": pd.Series([month for month, _, _, _ in rows], dtype=object),
            "known_from_at": site.instants([_minute(site, known) for _, _, _, known in rows]),
        }
    )


def _minute(site: Site, day: date) -> int:
    return (day - site.span.origin.date()).days * DAY
