"""Treatment plans: what follows a finding, whether it is accepted, and where it breaks off."""

from __future__ import annotations

from math import log

from features.simulator.attendance import logistic
from features.simulator.staff import SERVICE_LINES
from features.simulator.world import Booking, Person, PlanItem, World

Steps = list[tuple[str, int]]

# Visits of each plan with the days from the visit before; odds by age group are assumed.
PLANS: dict[str, Steps] = {
    "filling": [("filling", 6)],
    "fillings": [("filling", 6), ("filling", 10), ("filling", 12)],
    "root_canal": [
        ("root_canal", 3),
        ("root_canal", 7),
        ("root_canal", 8),
        ("crown", 14),
        ("crown", 14),
        ("examination", 21),
    ],
    "gums": [("hygiene", 5), ("hygiene", 7), ("hygiene", 7), ("hygiene", 40)],
    "crown": [("crown", 8), ("crown", 14), ("examination", 21)],
    "whitening": [("whitening", 7)],
    "implant": [("implant", 14), ("implant", 12), ("implant", 50), ("crown", 45), ("examination", 30)],
    "orthodontics": [],
}
CHILD_ODDS = {"filling": 0.35, "fillings": 0.30, "orthodontics": 0.35}
YOUNG_ODDS = {
    "filling": 0.22,
    "fillings": 0.16,
    "root_canal": 0.14,
    "whitening": 0.12,
    "gums": 0.10,
    "orthodontics": 0.26,
}
ADULT_ODDS = {
    "filling": 0.20,
    "fillings": 0.16,
    "root_canal": 0.20,
    "crown": 0.10,
    "whitening": 0.04,
    "gums": 0.14,
    "implant": 0.10,
    "orthodontics": 0.06,
}
BRACES_VISITS = (14, 24)
BRACES_GAP = (26, 36)  # days


URGENCY = {"root_canal": "urgent", "filling": "soon", "fillings": "soon", "gums": "soon"}


def propose(world: World, booking: Booking, age: int, minute: int) -> None:
    """Propose a plan at the end of a visit; one that is accepted becomes the person's steps."""
    person, rates, dice = booking.request.person, world.rates.plans, world.desk
    name, steps = _draw_steps(world, person, age)
    world.plans += 1
    plan, proposer, urgency = world.plans, booking.clinician.name, URGENCY.get(name, "routine")
    factor = price_factor(world, minute)
    items = [
        PlanItem(person, plan, proposer, line, days, urgency, round(SERVICE_LINES[line][1] * factor) * 100, minute)
        for line, days in steps
    ]
    world.items += items
    yuan = sum(item.fee_cents for item in items) / 100
    logit = (
        rates.accepts
        + rates.accepts_urgent * (items[0].urgency == "urgent")
        + rates.accepts_per_log_yuan * log(max(yuan, 100) / 1000)
        + rates.accepts_price * person.price
    )
    if dice.happens(logistic(logit)):
        for item in items:
            item.accepted = minute
        person.steps = items
    elif dice.happens(rates.drop_recorded):
        for item in items:
            item.declined = minute


def price_factor(world: World, minute: int) -> float:
    """Prices relative to those of the first day."""
    return 1 + world.rates.events.price_rise * (minute >= world.panel.shock)


def after_step(world: World, booking: Booking, minute: int) -> None:
    """Complete the step's item; with the pain gone, some break the rest off."""
    item, person = booking.request.item, booking.request.person
    if item is None:
        return
    item.completed = minute
    is_relieved = item.urgency == "urgent" and item.line == "root_canal"
    if is_relieved and person.steps and world.desk.happens(world.rates.plans.pain_gone):
        drop_rest(world, person, minute)


def drop_rest(world: World, person: Person, minute: int, item: PlanItem | None = None) -> None:
    """Break the plan off; the desk writes down only some of that."""
    is_recorded = world.desk.happens(world.rates.plans.drop_recorded)
    for left in [*([item] if item else []), *person.steps]:
        if is_recorded and left.completed is None:
            left.declined = minute
    person.steps = []


def _draw_steps(world: World, person: Person, age: int) -> tuple[str, Steps]:
    """Draw a plan's visits; nobody gets braces twice."""
    odds = CHILD_ODDS if age < 16 else YOUNG_ODDS if age < 30 else ADULT_ODDS
    plan = world.desk.pick(odds)
    if plan != "orthodontics":
        return plan, PLANS[plan]
    if person.had_braces or age < 7:
        return "filling", [("filling", 6)]
    person.had_braces = True
    gap = world.desk.between(*BRACES_GAP)
    return plan, [("orthodontics", 10)] + [("orthodontics", gap)] * world.desk.between(*BRACES_VISITS)
