"""Treatment plans: which visits follow a finding, and after how many days."""

from __future__ import annotations

from features.simulator.world import Person, World

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


def draw_plan(world: World, person: Person, age: int) -> Steps:
    """Draw a plan's visits; nobody gets braces twice."""
    odds = CHILD_ODDS if age < 16 else YOUNG_ODDS if age < 30 else ADULT_ODDS
    plan = world.desk.pick(odds)
    if plan != "orthodontics":
        return list(PLANS[plan])
    if person.had_braces or age < 7:
        return [("filling", 6)]
    person.had_braces = True
    gap = world.desk.between(*BRACES_GAP)
    return [("orthodontics", 10)] + [("orthodontics", gap)] * world.desk.between(*BRACES_VISITS)
