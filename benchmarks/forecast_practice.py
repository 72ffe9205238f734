"""A simulated chain of clinics with the Spring Festival: our forecasts beside the true demand model and the peers.

The simulator runs every clinic up to the end of November 2024, then on for a year many times from the very same
state; who turns up for the first time, and when, is drawn anew for each of these futures. Some of them are what
came; the others are the true demand model: their mean and standard deviation give its quantiles (normal). It knows
every patient's latent state, which no records tell. The window lies in years whose official days off are known, so
that the simulated clinics close for the Spring Festival as real ones do.
"""

from __future__ import annotations

import heapq
import time
import warnings
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from scipy.special import ndtri

from benchmarks.harness import arguments, emit
from features.simulator.demand import enter
from features.simulator.one_clinic import Site
from features.simulator.opening import DAY
from features.simulator.plan import PracticePlan
from features.simulator.running import run_site, sites_of
from features.simulator.truth import run_on
from features.simulator.world import World
from training.demand.accuracy import QUANTILES, accuracy, seasonal_scale
from training.demand.backtest import methods
from training.demand.coherence import choose_rule, error_variance, to_bottom
from training.demand.covariates import calendar_months
from training.demand.hierarchy import Hierarchy
from training.demand.panel import Floats
from training.demand.practice import History
from training.demand.rebuild import coherent_method

END = datetime(2026, 11, 30, 16, tzinfo=UTC)  # the first minute of December in Shanghai
HORIZON = 12
DAYS_OPEN = 730  # from the end of the history to the simulator's export: newcomers are spread over these days
RUNS, CAME = 64, 24  # futures; those of them that are taken for what came
MEMBERS = ("structural", "boosted", "theta")
TARGETS: dict[str, tuple[str, float]] = {
    "wql_ratio_to_truth": ("<=", 1.10),
    "wql_ratio_to_autoets": ("<=", 0.85),
    **{f"coverage_80_{level}": (">=", 0.78) for level in ("practice", "clinic", "service_line", "clinic_line")},
    "wape_total_ratio_to_bottom_up": ("<=", 1.0),
    "incoherence": ("<=", 1e-6),
}


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    warnings.simplefilter("ignore")
    plan = PracticePlan(
        now=END,
        patients=140 if told.quick else 3500,
        clinics=2 if told.quick else 6,
        years=5 if told.quick else 7,
        seed=told.seed,
        preset="chain",
    )
    history, futures = world_of(plan, runs=10 if told.quick else RUNS)
    panel, nodes = history.panel, history.hierarchy.nodes
    summing = history.hierarchy.summing
    came, truth = np.split(np.einsum("nb,rbh->rnh", summing, futures), [4 if told.quick else CAME])
    span = pd.period_range(history.months[0], history.months[-1] + HORIZON, freq="M")
    calendar = calendar_months("CN", span)
    members = MEMBERS[:1] if told.quick else MEMBERS
    peers = ("seasonal_naive",) if told.quick else ("seasonal_naive", "ets", "theta")
    named = {"revisit": coherent_method(history, members), **methods(peers)}
    answers, cpu = {}, {}
    for name, method in named.items():
        start = time.process_time()
        answers[name] = method(panel, calendar, HORIZON)
        cpu[name] = time.process_time() - start
    spread = truth.mean(axis=0)[..., None] + truth.std(axis=0, ddof=1)[..., None] * ndtri(np.asarray(QUANTILES))
    answers["truth"] = np.maximum(spread, 0.0)
    scale = seasonal_scale(panel.values)
    figures = {name: _figures(came, answer, scale, nodes["level"]) for name, answer in answers.items()}
    ours = figures["revisit"]
    metrics = dict(ours)
    metrics["wql_ratio_to_truth"] = ours["wql"] / figures["truth"]["wql"]
    if "ets" in figures:
        metrics["wql_ratio_to_autoets"] = ours["wql"] / figures["ets"]["wql"]
    metrics |= _coherence(history, calendar, came, answers["revisit"])
    metrics["cpu_s"] = cpu["revisit"]
    rest = {name: {k: round(v, 4) for k, v in f.items()} | {"cpu_s": round(cpu.get(name, 0.0), 1)}
            for name, f in figures.items() if name != "revisit"}  # fmt: skip
    emit("forecast_practice", metrics, {} if told.quick else TARGETS, rest)


def world_of(plan: PracticePlan, runs: int) -> tuple[History, Floats]:
    """Completed visits by clinic and line: the months before, and `runs` futures of shape (runs, n_bottom, 12)."""
    first = pd.Period(plan.window_start, "M") + 1
    months = pd.period_range(first, pd.Period(plan.local_now - timedelta(days=DAYS_OPEN), "M") - 1, freq="M")
    ahead = pd.period_range(months[-1] + 1, periods=HORIZON, freq="M")
    tables = []
    for site in sites_of(plan):
        moment = site.span.now - DAYS_OPEN * DAY
        world, _ = run_site(site, until=moment)
        past = [(-1, b.start, b.request.line) for b in world.bookings if b.status == "completed"]
        paths = _futures(world, moment, runs, (plan.seed, site.number))
        later = [(run, start, line) for run, visits in enumerate(paths) for _, start, line in visits]
        tables.append(_counted(site, past + later, moment))
    table = pd.concat(tables, ignore_index=True)
    bottom = table[["clinic", "service_line"]].drop_duplicates().sort_values(["clinic", "service_line"])
    rows = pd.MultiIndex.from_frame(bottom)

    def wide(run: int, columns: pd.PeriodIndex) -> Floats:
        own = table[table["run"] == run].pivot(index=["clinic", "service_line"], columns="month", values="visits")
        return own.reindex(index=rows, columns=columns).fillna(0.0).to_numpy(dtype=float)

    history = History(Hierarchy.of(bottom), wide(-1, months), months)
    return history, np.stack([wide(run, ahead) for run in range(runs)])


def _futures(world: World, moment: int, runs: int, seed: tuple[int, ...]) -> list[list[tuple[int, int, str]]]:
    """Visits of each future, a little more than a year from `moment` on; newcomers come at other newcomers' times."""
    agenda, rng = world.agenda.heap, np.random.default_rng([*seed, 3])
    known = list(agenda)
    is_entry = [action is enter for _, _, action, _ in known]
    times = [entry[0] for entry, enters in zip(known, is_entry, strict=True) if enters]
    found = []
    for run in range(runs):
        drawn = iter(rng.choice(times, size=len(times)).tolist()) if times else iter(())
        agenda[:] = [(next(drawn), *e[1:]) if enters else e for e, enters in zip(known, is_entry, strict=True)]
        heapq.heapify(agenda)
        found += run_on(world, moment, moment + 370 * DAY, 1, (*seed, 9, run))
    return found


def _counted(site: Site, visits: list[tuple[int, int, str]], moment: int) -> pd.DataFrame:
    table = pd.DataFrame(visits, columns=["run", "minute", "service_line"])
    table = table[(table["run"] < 0) == (table["minute"] < moment)]
    table["month"] = pd.PeriodIndex([site.day(minute) for minute in table.pop("minute")], freq="M")
    counted = table.groupby(["run", "service_line", "month"]).size().rename("visits").reset_index()
    return counted.assign(clinic=site.tag)


def _figures(came: Floats, answer: Floats, scale: Floats, level: pd.Series) -> dict[str, float]:
    """Mean over levels of the figures, each level's the mean over the futures that came; and coverage by level."""
    found: dict[str, float] = {}
    for name in level.unique():
        rows = (level == name).to_numpy()
        each = [accuracy(one[rows], answer[rows], scale[rows]) for one in came]
        found |= {f"{metric}_{name}": float(np.mean([e[metric] for e in each])) for metric in ("wql", "coverage_80")}
    levels = level.unique()
    return {"wql": float(np.mean([found[f"wql_{name}"] for name in levels])), **found}


def _coherence(history: History, calendar: pd.DataFrame, came: Floats, ours: Floats) -> dict[str, float]:
    """Largest gap between a sum and its parts, and the grand total's error over bottom-up's."""
    panel, summing = history.panel, history.hierarchy.summing
    base = methods(["structural"])["structural"]
    rule, _ = choose_rule(panel, summing, base, calendar, HORIZON)
    quantiles = np.nan_to_num(base(panel, calendar, HORIZON))
    mean = quantiles.mean(axis=-1)
    told = {
        name: summing @ np.maximum(to_bottom(name, summing, error_variance(quantiles)) @ mean, 0)
        for name in ("bottom_up", rule)
    }
    error = {name: float(np.abs(came[:, 0] - point[0]).sum()) for name, point in told.items()}
    gap = np.abs(summing @ told[rule][-summing.shape[1] :] - told[rule]).max()
    return {
        "wape_total_ratio_to_bottom_up": error[rule] / error["bottom_up"],
        "incoherence": float(gap),
        "is_wls_var": float(rule == "wls_var"),
    }


if __name__ == "__main__":
    main()
