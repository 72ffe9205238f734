"""No-shows at public clinics in Vitória, 2016: the product's own path on a real file.

Imports the file, builds features, trains on visits before 2016-05-30 and tests on
those from then on; A: every booking, decided on when it was made; B: bookings made
at least a day ahead, decided on the evening before. A score's level is refreshed
every night until the visit, as the scorer does; ``*_frozen`` leaves it at what was
known at the decision itself. Rolling: the mean over three origins, the last included.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pandas as pd

from benchmarks.harness import Arguments, arguments, emit
from features.contracts import CONTRACTS, ModelContract
from features.records.landing import import_files
from features.records.mapping import load_mapping
from features.records.store import RecordStore
from features.settings import Paths, Practice, Settings
from features.store import build, register, training_set
from training.no_show import Evaluation, evaluate, fit
from training.splits import Split

MAPPING = Path(__file__).parent.parent / "docs" / "examples" / "no_show_brazil.toml"
ZONE = "America/Sao_Paulo"
END = datetime(2016, 6, 10, tzinfo=UTC)
ORIGINS = ("2016-05-16", "2016-05-23", "2016-05-30", "2016-06-10")
MOMENTS = {"no_show_booking": "booking", "no_show_evening": "evening"}
PEERS = ("prior", "past_rate", "lead_time", "spline_logistic")
QUICK_PATIENTS = 5  # every fifth patient
TARGETS: dict[str, tuple[str, float]] = {
    "auc_booking": (">=", 0.735),
    "ece_booking": ("<=", 0.02),
    "auc_evening": (">=", 0.613),
    "auc_booking_leak_alarm": ("<=", 0.76),
    "auc_evening_leak_alarm": ("<=", 0.65),
}


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    metrics: dict[str, float] = {}
    peers: dict[str, dict[str, float | list[float]]] = {name: {} for name in PEERS}
    with tempfile.TemporaryDirectory() as folder:
        examples = _examples(told, Path(folder))
    for name, contract in CONTRACTS.items():
        moment = MOMENTS[name]
        evaluations = _evaluations(contract, examples[name], quick=told.quick)
        last = evaluations[-1][0]
        for ours, theirs in (
            ("auc",) * 2,
            ("ap",) * 2,
            ("brier",) * 2,
            ("ece",) * 2,
            ("lift10",) * 2,
            ("log_loss",) * 2,
        ):
            metrics[f"{ours}_{moment}"] = last.scores["model"][theirs]
            for peer in PEERS:
                peers[peer][f"{ours}_{moment}"] = last.scores[peer][theirs]
        metrics[f"auc_{moment}_rolling"] = sum(e.scores["model"]["auc"] for e, _ in evaluations) / len(evaluations)
        frozen = evaluations[-1][1]
        metrics |= {f"{m}_{moment}_frozen": frozen.scores["model"][m] for m in ("auc", "ece", "log_loss")}
        for peer in PEERS:
            for metric, c in last.comparisons[peer].items():
                peers[peer][f"gain_{metric}_{moment}"] = [round(v, 5) for v in (c.difference, c.lower, c.upper)]
        metrics[f"auc_{moment}_leak_alarm"] = last.scores["model"]["auc"]
    emit("no_show_brazil", metrics, {} if told.quick else TARGETS, peers)


def _examples(told: Arguments, folder: Path) -> dict[str, pd.DataFrame]:
    """Import, build and read back the labelled examples of every contract."""
    settings = Settings(
        practice=Practice(name="Vitória", time_zone=ZONE), paths=Paths(data=folder / "data", mlruns=folder / "mlruns")
    )
    source = told.data / "no_show_brazil" / "KaggleV2-May-2016.csv"
    if told.quick:
        source = _sample(source, folder / source.name)
    records = RecordStore(settings.paths.records)
    import_files(records, source, load_mapping(MAPPING), END)
    build(settings, END)
    store = register(settings)
    return {
        name: training_set(settings, store, contract, END, records.versions()) for name, contract in CONTRACTS.items()
    }


def _sample(source: Path, target: Path) -> Path:
    rows = pd.read_csv(source, dtype=str)
    chosen = pd.util.hash_pandas_object(rows["PatientId"], index=False) % QUICK_PATIENTS == 0
    rows[chosen].to_csv(target, index=False)
    return target


def _evaluations(
    contract: ModelContract, examples: pd.DataFrame, *, quick: bool
) -> list[tuple[Evaluation, Evaluation]]:
    """Per origin: scores refreshed nightly, and frozen at the decision."""
    found = []
    starts = [pd.Timestamp(day, tz=ZONE).tz_convert("UTC") for day in ORIGINS]
    for begin, end in list(pairwise(starts))[2 if quick else 0 :]:
        test = examples[(examples["starts_at"] >= begin) & (examples["starts_at"] < end)]
        split = Split(examples[examples["label_known_at"] <= begin], test, begin)
        model = fit(contract, split.train)
        found.append((evaluate(contract, split, model, _evening_before(test)), evaluate(contract, split, model)))
    return found


def _evening_before(test: pd.DataFrame) -> pd.Series:
    """The last nightly run before the visit, or the decision itself if that came later."""
    local = test["starts_at"].dt.tz_convert(ZONE).dt.normalize() - pd.Timedelta(hours=3)
    evening = local.dt.tz_convert("UTC")
    return evening.where(evening > test["as_of"], test["as_of"])


if __name__ == "__main__":
    main()
