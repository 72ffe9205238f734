"""How near the models come to what is possible on simulated practices, whose truth is known.

A share of 1 means as good as the posterior: knowing the model of the practice
and the export, no more. Of lapse and no-show it is that of AUC above one half,
and of Brier skill, both in expectation over what might have happened, which has
far less noise than the labels that did. Of recall it is the share of the way
from a random order to the oracle's (`benchmarks.recall_share`). In a practice
without signal nothing may be found and nothing claimed.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.harness import arguments, emit
from benchmarks.recall_share import LEARNERS, shares, simulated_draws
from features.contracts import LAPSE, NO_SHOW_BOOKING, NO_SHOW_EVENING, ModelContract
from features.examples import patient_outcomes, with_features
from features.records.landing import import_files
from features.records.mapping import load_mapping
from features.records.store import RecordStore
from features.settings import Paths, Settings
from features.simulator import PracticePlan, SimulatedPractice, simulate, write_export
from features.simulator.ceilings import answers_of, figures
from features.simulator.no_show_ceiling import no_show_answers
from features.simulator.plan import Preset
from features.snapshots import built
from features.store import build, build_patients, last_build, register, training_set
from training import no_show
from training.patients import QUESTIONS
from training.randomised import trial_of
from training.recall import learn
from training.rolling import FULL as FULL_EFFORT
from training.rolling import thinned
from training.splits import split_at
from training.uplift import Rule
from training.verdict import RESPONSE, UPLIFT
from training.visits_return import fit

NOW = datetime(2026, 11, 17, 2, tzinfo=UTC)
YEARS = 6
LAPSE_SIZES = {6000: 2, 1000: 4}  # patients, and practices of that size
MONTHS_BACK = (12, 16)  # of the snapshots that are judged: by then most recall windows are over
NO_SHOW_PATIENTS, NO_SHOW_MONTHS = 6000, 9
NULL_PATIENTS = 3000
RECALL_PATIENTS, RECALL_REPETITIONS = 10_500, {2000: 4, 8000: 1}
RECALL_RULES = {"seen lately": Rule("days_since_visit", -1), "longest overdue": Rule("days_overdue")}
MOMENTS = {"at_booking": NO_SHOW_BOOKING, "evening_before": NO_SHOW_EVENING}
TARGETS: dict[str, tuple[str, float]] = {
    "lapse_auc_share_6000": (">=", 0.99),
    "lapse_brier_share_6000": (">=", 0.96),
    "lapse_auc_share_1000": (">=", 0.98),
    "lapse_brier_share_1000": (">=", 0.93),
    "no_show_auc_share": (">=", 0.98),
    "recall_share_2000": (">=", 0.52),
    "recall_share_8000": (">=", 0.60),
    "null_claims": ("<=", 0),
}


@dataclass(frozen=True)
class Made:
    """A simulated practice and the records and features made of its export."""

    practice: SimulatedPractice
    settings: Settings


@dataclass(frozen=True)
class Size:
    """How much is simulated."""

    years: int = YEARS
    lapse: Mapping[int, tuple[int, int]] | None = None  # per name: patients, practices
    months: tuple[int, ...] = MONTHS_BACK
    no_show: int = NO_SHOW_PATIENTS
    null: int = NULL_PATIENTS
    recall: int = RECALL_PATIENTS


FULL = Size(lapse={size: (size, count) for size, count in LAPSE_SIZES.items()})
QUICK = Size(years=2, lapse={1000: (200, 1)}, months=(10,), no_show=300, null=600, recall=600)


@contextmanager
def made(patients: int, years: int, seed: int, preset: Preset = "default") -> Iterator[Made]:
    """Simulate a practice, export and import it, build its features."""
    practice = simulate(PracticePlan(now=NOW, patients=patients, years=years, seed=seed, preset=preset))
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(paths=Paths(data=Path(folder) / "data", mlruns=Path(folder) / "mlruns"))
        export = Path(folder) / "export"
        write_export(practice, export)
        import_files(RecordStore(settings.paths.records), export, load_mapping(export / "mapping.toml"), NOW)
        build(settings, NOW)
        yield Made(practice, settings)


def lapse_answers(here: Made, months_back: int) -> pd.DataFrame:
    """The model beside both judges at one snapshot, one row per patient; it has learned from what was known then."""
    settings, now = here.settings, pd.Timestamp(NOW)
    outcomes = patient_outcomes(settings, LAPSE, NOW, built(settings).records)
    moments = outcomes["as_of"].drop_duplicates()
    moment = moments[moments <= now - pd.DateOffset(months=months_back)].max()
    known = outcomes[(outcomes["label_known_at"] <= moment) | (outcomes["as_of"] == moment)]
    chosen = thinned(known, [moment], FULL_EFFORT.examples, len(known))
    examples = with_features(register(settings), LAPSE, chosen)
    model = fit(QUESTIONS[LAPSE.name], examples, moment)
    today = examples[examples["as_of"] == moment]
    said = pd.DataFrame({"patient_id": today["patient_id"], "model": model.predict(today)})
    judged = answers_of(here.practice, moment.to_pydatetime(), (90,))
    return judged[judged["question"] == LAPSE.name].merge(said, on="patient_id")


def no_show_compared(here: Made, months_back: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Per decision moment, the model beside both judges; one row per booking of the newest months."""
    settings = here.settings
    store, since = register(settings), pd.Timestamp(NOW) - pd.DateOffset(months=months_back)
    judged = no_show_answers(here.practice, since.to_pydatetime())
    done = last_build(settings)
    for moment, contract in MOMENTS.items():
        examples = training_set(settings, store, contract, NOW, done.records if done else {})
        said = _no_show_said(contract, examples, since)
        yield moment, judged[judged["moment"] == moment].merge(said, on="appointment_id")


def _no_show_said(contract: ModelContract, examples: pd.DataFrame, since: pd.Timestamp) -> pd.DataFrame:
    split = split_at(examples, since)
    model = no_show.fit(contract, split.train)
    said = no_show.published(model, split.test, split.test["as_of"])
    return pd.DataFrame({"appointment_id": split.test["appointment_id"], "model": said})


def compared(answers: pd.DataFrame) -> dict[str, float]:
    """Model, posterior and oracle in expectation over the truth, and the model's shares of the posterior."""
    found = {name: figures(answers["label"], answers[name], answers["oracle"]) for name in ("model", "posterior")}
    auc, skill = ({name: f[f"expected_{what}"] for name, f in found.items()} for what in ("auc", "brier_skill"))
    return {
        "auc_share": (auc["model"] - 0.5) / (auc["posterior"] - 0.5),
        "brier_share": skill["model"] / skill["posterior"],
        "auc": auc["model"],
        "auc_posterior": auc["posterior"],
        "patients": float(len(answers)),
    }


def lapse(size: Size, seed: int) -> dict[str, float]:
    """Mean over practices and snapshots, per size of practice."""
    metrics: dict[str, float] = {}
    for name, (patients, count) in (size.lapse or {}).items():
        found = []
        for number in range(count):
            with made(patients, size.years, seed + number) as here:
                build_patients(here.settings, NOW)
                found += [compared(lapse_answers(here, months)) for months in size.months]
        mean = pd.DataFrame(found).mean()
        metrics |= {f"lapse_{what}_{name}": float(value) for what, value in mean.items()}
        told(f"lapse {name}: {mean.round(4).to_dict()}")
    return metrics


def missed(size: Size, seed: int) -> dict[str, float]:
    """No-show: the headline is the evening before, when most is known; the moment of booking stands beside it."""
    metrics: dict[str, float] = {}
    with made(size.no_show, min(size.years, 4), seed) as here:
        for moment, answers in no_show_compared(here, NO_SHOW_MONTHS):
            behind = "" if moment == "evening_before" else "_booking"
            metrics |= {f"no_show_{what}{behind}": value for what, value in compared(answers).items()}
    told(f"no-show: {metrics}")
    return metrics


def recall(size: Size, seed: int, is_quick: bool) -> dict[str, float]:
    """Shares of the oracle's gain, each practice's learners judged on the other."""
    one, other = (simulated_draws(size.recall, seed + number) for number in (0, 1))
    metrics: dict[str, float] = {}
    learners = {name: LEARNERS[name] for name in (UPLIFT, RESPONSE)}
    for draws, repetitions in RECALL_REPETITIONS.items():
        number = 300 if is_quick else draws
        both = [
            shares(a, b, number, seed, 1 if is_quick else repetitions, learners)
            for a, b in ((one, other), (other, one))
        ]
        mean = {name: float(np.mean([found[name] for found in both])) for name in learners}
        metrics |= {f"recall_share_{draws}": mean[UPLIFT], f"recall_response_share_{draws}": mean[RESPONSE]}
    told(f"recall: {metrics}")
    return metrics


def null(size: Size, seed: int) -> dict[str, float]:
    """A practice without signal: the no-show model's AUC, and how much is claimed of it that is not there."""
    claims, aucs = 0, []
    with made(size.null, min(size.years, 4), seed, "null") as here:
        for _, answers in no_show_compared(here, NO_SHOW_MONTHS):
            aucs.append(figures(answers["label"], answers["model"], answers["oracle"])["auc"])
        store, done = register(here.settings), last_build(here.settings)
        for contract in MOMENTS.values():
            examples = training_set(here.settings, store, contract, NOW, done.records if done else {})
            split = split_at(examples, pd.Timestamp(NOW) - pd.DateOffset(months=NO_SHOW_MONTHS))
            claims += not no_show.evaluate(contract, split, no_show.fit(contract, split.train)).failures
    draws = simulated_draws(size.null, seed, "null")
    verdict = learn(trial_of(draws.examples, draws.features), RECALL_RULES).verdict
    claims += verdict.rank_by != RESPONSE
    return {"null_auc": float(np.mean(aucs)), "null_claims": float(claims), "null_draws": float(verdict.draws)}


def told(line: str) -> None:
    """What is done so far, for who waits."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run and print."""
    asked = arguments(__doc__ or "")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    size = QUICK if asked.quick else FULL
    metrics = lapse(size, asked.seed) | missed(size, asked.seed)
    metrics |= recall(size, asked.seed, asked.quick)
    metrics |= null(size, asked.seed)
    peers = {"response": {f"recall_share_{n}": metrics[f"recall_response_share_{n}"] for n in RECALL_REPETITIONS}}
    emit("simulator_ceiling", metrics, {} if asked.quick else TARGETS, peers)


if __name__ == "__main__":
    main()
