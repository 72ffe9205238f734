"""What the two benchmarks of returning share: import, snapshots, the model and its peers at a test date."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd

from features.contracts import PATIENT_CONTRACTS
from features.examples import patient_examples
from features.records.landing import import_files
from features.records.mapping import load_mapping
from features.records.store import RecordStore
from features.settings import Paths, Practice, Settings
from features.store import build, build_patients, register
from training.btyd import BGNBD, MBGNBD, ParetoNBD
from training.evaluation import REPETITIONS, compare
from training.metrics import Floats, scores
from training.portable_model import Blend
from training.return_baselines import LastSeenRule, LogisticRFM
from training.visits_return import Question, fit, matured

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
HISTORY = ("visit_days_kept_count_ever", "days_since_first_visit", "days_since_last_visit")
PAID = "spend_paid_sum_ever_cents"
PROCESSES = (BGNBD, MBGNBD, ParetoNBD)
QUICK_REPETITIONS = 40  # bootstrap draws
PEERS = ("last_seen", "logistic_rfm", "bg_nbd", "mbg_nbd", "pareto_nbd")


@dataclass(frozen=True)
class Data:
    """A file of visits as the product reads it, and the last day that is asked about."""

    source: Path
    mapping: str
    zone: str
    until: datetime
    last: date


@dataclass(frozen=True)
class Outcome:
    """One test date: who was asked about, what happened, what each model had said."""

    patients: pd.Series
    label: Floats
    predictions: Mapping[str, Floats]
    model: Blend


def frames(data: Data, horizons: Sequence[int], every: int = 1) -> dict[int, pd.DataFrame]:
    """Import the file, or every `every`-th patient of it, into an empty practice and read its examples per horizon."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(data=Path(folder) / "data", mlruns=Path(folder) / "mlruns")
        settings = Settings(practice=Practice(name=data.source.stem, time_zone=data.zone), paths=paths)
        records = RecordStore(paths.records)
        source = _sample(data.source, Path(folder) / data.source.name, every) if every > 1 else data.source
        import_files(records, source, load_mapping(EXAMPLES / data.mapping), data.until)
        build(settings, data.until)
        build_patients(settings, data.until, last=data.last)
        store, versions = register(settings), records.versions()
        return {
            horizon: patient_examples(settings, store, PATIENT_CONTRACTS[f"return_{horizon}d"], data.until, versions)
            for horizon in horizons
        }


def _sample(source: Path, target: Path, every: int) -> Path:
    """The head of a file and the rows of every `every`-th patient, whose number comes first in a row."""
    head, *rows = source.read_text(encoding="utf-8").splitlines(keepends=True)
    chosen = [row for row in rows if crc32(re.split(r"[\s,]+", row.strip())[0].encode()) % every == 0]
    target.write_text("".join([head, *chosen]), encoding="utf-8")
    return target


def run(frame: pd.DataFrame, horizon: int, now: pd.Timestamp, longest_silence: float = np.inf) -> Outcome:
    """Fit the model and its peers on what was known at `now`, and let them answer for that day."""
    contract = PATIENT_CONTRACTS[f"return_{horizon}d"]
    question = Question(contract.name, contract.features, horizon, HISTORY, longest_silence=longest_silence)
    examples, today = question.asked(matured(frame, now)), frame[frame["as_of"] == now]
    test = question.asked(today)
    model = fit(question, frame, now)
    predictions = {"model": model.predict(test)}
    for rule in (LastSeenRule(HISTORY), LogisticRFM(HISTORY, PAID)):
        predictions[rule.name] = rule.fit(examples, examples["label"].to_numpy(float)).predict(test)
    for process in PROCESSES:
        predictions[process.kind] = process(HISTORY).fit(today).predict_any(test, horizon)
    return Outcome(test["patient_id"], test["label"].to_numpy(float), predictions, model)


def report(
    outcomes: Sequence[Outcome], suffix: str, repetitions: int = REPETITIONS
) -> tuple[dict[str, float], dict[str, dict[str, float | list[float]]]]:
    """Figures of the model and its peers, means over test dates; gains over peers with 95 % intervals by patient."""
    figures = {
        name: pd.DataFrame([scores(o.label, o.predictions[name]) for o in outcomes]).mean()
        for name in ("model", *PEERS)
    }
    metrics = {f"{short}_{suffix}": float(figures["model"][long]) for short, long in SHOWN.items()}
    for index, outcome in enumerate(outcomes if len(outcomes) > 1 else ()):
        metrics[f"auc_{suffix}_cut{index + 1}"] = scores(outcome.label, outcome.predictions["model"])["auc"]
    label = np.concatenate([o.label for o in outcomes])
    patients = pd.concat([o.patients for o in outcomes])
    pooled = {name: np.concatenate([o.predictions[name] for o in outcomes]) for name in figures}
    nothing = compare("auc", label, pooled["model"], np.zeros(len(label)), patients, repetitions)
    metrics |= {f"auc_{suffix}_pooled": 0.5 + nothing.difference}
    metrics |= {f"auc_{suffix}_lower": 0.5 + nothing.lower, f"auc_{suffix}_upper": 0.5 + nothing.upper}
    peers: dict[str, dict[str, float | list[float]]] = {}
    for name in PEERS:
        peers[name] = {f"{short}_{suffix}": round(float(figures[name][long]), 5) for short, long in SHOWN.items()}
        for metric, short in (("auc", "auc"), ("log_loss", "logloss")):
            c = compare(metric, label, pooled["model"], pooled[name], patients, repetitions)
            peers[name][f"gain_{short}_{suffix}"] = [round(v, 5) for v in (c.difference, c.lower, c.upper)]
    return metrics, peers


SHOWN = {
    "auc": "auc",
    "logloss": "log_loss",
    "brier": "brier",
    "ece": "ece",
    "slope": "slope",
    "observed_to_expected": "observed_to_expected",
    "lift10": "lift10",
}


def merged(
    parts: Sequence[tuple[dict[str, float], dict[str, dict[str, float | list[float]]]]],
) -> tuple[dict[str, float], dict[str, dict[str, float | list[float]]]]:
    """Several reports as one."""
    metrics: dict[str, float] = {}
    peers: dict[str, dict[str, float | list[float]]] = {name: {} for name in PEERS}
    for ours, theirs in parts:
        metrics |= ours
        for name in PEERS:
            peers[name] |= theirs[name]
    return metrics, peers
