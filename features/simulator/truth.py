"""The true chance to return and the true demand ahead, by running the same world on many times.

The clinic is stopped at a moment; everything that was drawn ahead (how open
bookings end, reminders not yet sent) is forgotten and drawn anew given what
has happened by then; intentions already formed, such as calling back next
week, are part of the state. The share of runs is a seeded Monte Carlo
estimate of what one who knows every latent state could know; its standard
error stands beside it.
"""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd

from features.simulator.bookings import ENDS, draw_again
from features.simulator.one_clinic import Site
from features.simulator.opening import DAY
from features.simulator.rates import BaseRates
from features.simulator.reminders import send_reminder
from features.simulator.running import run_site
from features.simulator.world import Booking, Message, Stream, World

HORIZONS = (90, 180)  # days
SNAPSHOTS = (364, 182, 0)  # days before now, whole weeks
AHEAD_MONTHS = 12


def return_truth(site: Site, rates: BaseRates | None, runs: int) -> dict[str, pd.DataFrame]:
    """Truth tables of one clinic.

    ``return_truth``
        Per patient in the books and snapshot: latent state, and the chance of an
        attended visit within 90 and 180 days under usual contact.
    ``demand_ahead_truth``
        Per month and service line after now: mean completed visits.
    """
    begun = max(site.span.window, site.span.now - SNAPSHOTS[0] * DAY)
    world, _ = run_site(site, rates, until=begun)
    tables, ahead = [], pd.DataFrame()
    for number, days in enumerate(SNAPSHOTS):
        moment = max(begun, site.span.now - days * DAY)
        world.agenda.run(world, moment)
        reach = max(HORIZONS) if days else 31 * AHEAD_MONTHS
        paths = run_on(world, moment, moment + reach * DAY, runs, (site.plan.seed, site.number, number))
        tables.append(_returns(world, site, moment, paths))
        if not days:
            ahead = _demand(site, moment, paths)
    return {"return_truth": pd.concat(tables, ignore_index=True), "demand_ahead_truth": ahead}


def run_on(world: World, now: int, until: int, runs: int, seed: tuple[int, ...]) -> list[list[tuple[int, int, str]]]:
    """Visits (person, minute, line) of each of `runs` futures of `world`, which stays as it is."""
    frozen = _frozen(world)
    paths = []
    for run in range(runs):
        copy: World = pickle.loads(frozen)  # noqa: S301 (our own bytes, made above)
        streams = np.random.SeedSequence([*seed, run, 5]).spawn(3)
        copy.desk, copy.contacts = Stream(streams[0]), Stream(streams[1])
        copy.rng = np.random.default_rng(streams[2])
        _forget_fates(copy, now)
        copy.on_ended.append(note_visit)
        copy.agenda.run(copy, until)
        paths.append(copy.visits)
    return paths


def note_visit(world: World, booking: Booking, minute: int) -> None:
    """Note a completed visit."""
    if booking.status == "completed":
        world.visits.append((booking.request.person.index, booking.start, booking.request.line))


def _frozen(world: World) -> bytes:
    """Pickle without the past that nothing ahead depends on."""
    names = ("bookings", "messages", "items", "dues", "arms", "spells")
    past = {name: getattr(world, name) for name in names}
    for name in names:
        setattr(world, name, [])
    try:
        return pickle.dumps(world, protocol=5)
    finally:
        for name, held in past.items():
            setattr(world, name, held)


def _forget_fates(world: World, now: int) -> None:
    """Draw again what was drawn ahead: ends of open bookings, and reminders that are still to be sent."""
    ends = world.agenda.strike(lambda action, subject: action in ENDS and subject.status == "booked")
    world.agenda.strike(_is_unsent)
    for end in ends:
        draw_again(world, end.subject, now)


def _is_unsent(action: object, subject: object) -> bool:
    return action is send_reminder and isinstance(subject, Message)


def _returns(world: World, site: Site, moment: int, paths: list[list[tuple[int, int, str]]]) -> pd.DataFrame:
    known = [person.index for person in world.people if person.visits]
    counts = {days: np.zeros(len(world.people)) for days in HORIZONS}
    for visits in paths:
        for days in HORIZONS:
            seen = {person for person, start, _ in visits if moment < start <= moment + days * DAY}
            counts[days][list(seen)] += 1
    frame = pd.DataFrame(
        {
            "patient_id": site.ids("P", known, 6),
            "as_of_at": site.instants([moment] * len(known)),
            "is_in_care": [world.people[n].is_alive for n in known],
        }
    )
    for days, count in counts.items():
        share = count[known] / len(paths)
        frame[f"returns_{days}d"] = share
        frame[f"returns_{days}d_se"] = np.sqrt(share * (1 - share) / len(paths))
    return frame


def _demand(site: Site, moment: int, paths: list[list[tuple[int, int, str]]]) -> pd.DataFrame:
    rows = [
        (run, site.day(start).replace(day=1), line)
        for run, visits in enumerate(paths)
        for _, start, line in visits
        if start > moment
    ]
    frame = pd.DataFrame(rows, columns=["run", "month_on", "service_line"])
    count = frame.groupby(["month_on", "service_line", "run"]).size().unstack("run", fill_value=0)
    # A run without any visit of a kind has no row of its own.
    count = count.reindex(columns=range(len(paths)), fill_value=0)
    total = pd.DataFrame(
        {"expected_visits": count.mean(axis=1), "standard_error": count.std(axis=1, ddof=0) / np.sqrt(len(paths))}
    ).reset_index()
    total.insert(0, "clinic_id", site.tag)
    return total
