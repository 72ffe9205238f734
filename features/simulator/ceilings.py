"""How well anyone could do on a simulated practice: the ceilings that a model is measured against.

A model's figure means little by itself; its share of what is possible does.
``oracle`` knows the truth behind each patient, ``posterior`` the model of the
practice and the export alone: no model that learns from the export can be
better than it, but by luck. Figures are given on the labels that happened, and
in expectation over what might have (``expected_``), which has far less noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from features.errors import FileError, NotEnoughDataError
from features.records.tables import TABLES
from features.simulator.export import PLAN_FILE
from features.simulator.oracle_return import return_oracle, return_posterior
from features.simulator.plan import read_plan
from features.simulator.practice import SimulatedPractice
from features.simulator.rates import BaseRates

Values = np.ndarray | pd.Series
LISTED_MONTHS = 36  # who has not come for longer is on no list


def ceilings(
    practice: SimulatedPractice | Path,
    as_of: datetime,
    horizon_days: Sequence[int] = (90, 180),
    patients: Sequence[str] | None = None,
    sample: int | None = None,
    seed: int = 0,
    rates: BaseRates | None = None,
) -> pd.DataFrame:
    """Figures of the oracle and of the posterior for return and lapse at one moment.

    Parameters
    ----------
    practice : SimulatedPractice or Path
        Simulated, or the folder of its export (headers in English) with ``truth/`` in it.
    as_of : datetime
        Aware moment; the longest horizon must be over by the end of the export.
    horizon_days : sequence of int
        Horizons of ``return``.
    patients : sequence of str, optional
        Whom to judge; by default everyone who came within 36 months, has not
        left the books and may be written to.
    sample : int, optional
        Judge that many of them, drawn at random with `seed`.
    seed : int
    rates : BaseRates, optional
        Those of the simulation, if they were not the preset's.

    Returns
    -------
    DataFrame
        One row per question (``return_90d``, ..., ``lapse``) and judge
        (``oracle``, ``posterior``): patients, base_rate, auc, brier,
        brier_skill, and the three in expectation. ``lapse`` counts the patients
        whose last day is over by the end of the export.

    Raises
    ------
    NotEnoughDataError
        If a horizon is not over by the end of the export.

    Notes
    -----
    A model's share of the ceiling is ``(auc - .5) / (posterior's auc - .5)``,
    and likewise for the Brier skill; judge both on the same patients.
    """
    if isinstance(practice, Path):
        practice = read_practice(practice)
    answers = answers_of(practice, as_of, horizon_days, patients, sample, seed, rates)
    return pd.DataFrame(
        {"question": question, "judge": judge} | figures(own["label"], own[judge], own["oracle"])
        for question, own in answers.groupby("question", sort=False)
        for judge in ("oracle", "posterior")
    )


def answers_of(
    practice: SimulatedPractice,
    as_of: datetime,
    horizon_days: Sequence[int] = (90, 180),
    patients: Sequence[str] | None = None,
    sample: int | None = None,
    seed: int = 0,
    rates: BaseRates | None = None,
) -> pd.DataFrame:
    """Both judges' probabilities beside the label; parameters as in `ceilings`.

    Returns
    -------
    DataFrame
        One row per question and patient: question, patient_id, has_booking,
        oracle, posterior, label.
    """
    if as_of + timedelta(days=max(horizon_days)) > practice.plan.now:
        raise NotEnoughDataError(
            f"Expected the {max(horizon_days)} days after {as_of:%Y-%m-%d} to be over by the end of the export, "
            f"{practice.plan.now:%Y-%m-%d}. Choose an earlier as_of or a shorter horizon."
        )
    chosen = _listed(practice, as_of) if patients is None else list(patients)
    if sample is not None and sample < len(chosen):
        chosen = np.random.default_rng(seed).choice(np.sort(chosen), sample, replace=False).tolist()
    posterior = return_posterior(practice, as_of, horizon_days, chosen, rates)
    oracle = return_oracle(practice, as_of, horizon_days, chosen, rates)
    visits = practice.tables["appointments"].query("status == 'completed'")
    visits = visits[visits["starts_at"] > as_of]
    first = visits.groupby("patient_id")["starts_at"].min().reindex(posterior["patient_id"])
    parts = []
    for days in horizon_days:
        label = (first <= as_of + timedelta(days=days)).to_numpy(int)
        parts.append(_beside(f"return_{days}d", posterior, oracle, f"returns_{days}d", label))
    end = pd.to_datetime(posterior["lapse_on"]) + pd.Timedelta(days=1)
    ends = end.dt.tz_localize(practice.plan.time_zone)
    lapses = ~(first.reset_index(drop=True) < ends)
    over = posterior["lapses"].notna() & (ends <= practice.plan.now)
    parts.append(_beside("lapse", posterior, oracle, "lapses", lapses.to_numpy(int))[over.to_numpy()])
    return pd.concat(parts, ignore_index=True)


def _beside(
    question: str, posterior: pd.DataFrame, oracle: pd.DataFrame, column: str, label: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "question": question,
            "patient_id": posterior["patient_id"],
            "has_booking": posterior["has_booking"],
            "oracle": oracle.set_index("patient_id")[column].reindex(posterior["patient_id"]).to_numpy(),
            "posterior": posterior[column],
            "label": label,
        }
    )


def _listed(practice: SimulatedPractice, as_of: datetime) -> list[str]:
    """Who came within 36 months, has not left the books and may be written to, as known at `as_of`."""
    patients = practice.tables["patients"]
    known = patients[patients["known_from_at"] < as_of].sort_values("known_from_at", kind="stable")
    last = known.drop_duplicates("patient_id", keep="last")
    on_books = last[(last["departure"].fillna("") == "") & last["is_contact_allowed"].astype(bool)]
    visits = practice.tables["appointments"].query("status == 'completed'")
    since = as_of - timedelta(days=round(LISTED_MONTHS * 365.25 / 12))
    recent = visits[(visits["status_known_at"] < as_of) & (visits["starts_at"] >= since)]
    return sorted(set(on_books["patient_id"]) & set(recent["patient_id"]))


def figures(label: Values, score: Values, truth: Values) -> dict[str, float]:
    """Figures of a probability, on the labels and in expectation over the truth.

    Parameters
    ----------
    label, score, truth : ndarray or Series
        One entry per patient: 0 or 1; the probability to judge; the true one.
    """
    told, chance, true = (np.asarray(values, float) for values in (label, score, truth))
    return {
        "patients": len(told),
        "base_rate": float(told.mean()),
        **_figures(told, chance),
        **{f"expected_{name}": value for name, value in _figures(true, chance).items()},
    }


def _figures(share: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """AUC, Brier score and its skill where each patient counts as `share` of a case and the rest of a control."""
    brier = float((share * (1 - score) ** 2 + (1 - share) * score**2).mean())
    idle = float(share.mean() * (1 - share.mean()))
    skill = 1 - brier / idle if idle else float("nan")
    return {"auc": weighted_auc(share, score), "brier": brier, "brier_skill": skill}


def weighted_auc(share: np.ndarray, score: np.ndarray) -> float:
    """P(score of a case > that of a control), ties as one half; NaN without cases or controls.

    Parameters
    ----------
    share : ndarray of float
        Of each row, how much of a case it is; 0 and 1 for labels.
    score : ndarray of float
    """
    _, place = np.unique(score, return_inverse=True)
    cases, controls = np.bincount(place, share), np.bincount(place, 1 - share)
    below = np.cumsum(controls) - controls
    pairs = cases.sum() * controls.sum()
    return float((cases * (below + controls / 2)).sum() / pairs) if pairs else float("nan")


def uplift_of_top(uplift: np.ndarray, score: np.ndarray, share: float = 0.3) -> float:
    """True mean uplift of the share of patients with the highest scores; ties count in part.

    Parameters
    ----------
    uplift : ndarray of float
        True uplift of each draw, such as ``uplift_phone`` of ``arms_truth``.
    score : ndarray of float
        Whom to contact first.
    share : float
        Of the patients, from 0 to 1.
    """
    _, place = np.unique(-np.asarray(score, float), return_inverse=True)
    size, total = np.bincount(place), np.bincount(place, uplift)
    room = share * len(place)
    taken = np.clip(room - (np.cumsum(size) - size), 0, size)
    return float((taken * total / size).sum() / room)


def recall_share(uplift: np.ndarray, score: np.ndarray, share: float = 0.3) -> float:
    """Gain of a ranking over a random one, as a share of the oracle's; NaN where the oracle gains nothing."""
    uplift = np.asarray(uplift, float)
    best, random = uplift_of_top(uplift, uplift, share), float(uplift.mean())
    if best - random <= 1e-12:
        return float("nan")
    return (uplift_of_top(uplift, score, share) - random) / (best - random)


def gain_curve(
    uplift: np.ndarray, score: np.ndarray, shares: Sequence[float] = (0.1, 0.2, 0.3, 0.5, 1.0)
) -> pd.DataFrame:
    """True gain per patient on the books when the top shares are contacted.

    Returns
    -------
    DataFrame
        One row per share: share, ranked (by `score`), oracle (by the true uplift), random.
    """
    uplift = np.asarray(uplift, float)
    return pd.DataFrame(
        {
            "share": list(shares),
            "ranked": [share * uplift_of_top(uplift, score, share) for share in shares],
            "oracle": [share * uplift_of_top(uplift, uplift, share) for share in shares],
            "random": [share * float(uplift.mean()) for share in shares],
        }
    )


def read_practice(folder: Path) -> SimulatedPractice:
    """Read an export and the truth beside it.

    Parameters
    ----------
    folder : Path
        That ``revisit simulate --format csv-en`` wrote.

    Raises
    ------
    NotBuiltError
        If the plan is missing.
    FileError
        If a table is.
    """
    plan = read_plan(folder / "truth" / PLAN_FILE)
    tables = {}
    for table in TABLES.values():
        path = folder / f"{table.name}.csv"
        if not path.is_file():
            raise FileError(f"Expected {path} of an export with English headers. Simulate with --format csv-en.")
        frame = _read(path, [column.name for column in table.columns if column.type == "instant"], plan.time_zone)
        for column in table.columns:
            if column.type == "date":
                frame[column.name] = (
                    pd.to_datetime(frame[column.name]).astype(object).where(frame[column.name].notna(), None)
                )
            elif column.type not in ("instant", "date", "integer", "number", "boolean"):
                frame[column.name] = frame[column.name].fillna("").astype(str)
        tables[table.name] = frame
    truth = {}
    for path in sorted((folder / "truth").glob("*.csv")):
        header = pd.read_csv(path, nrows=0).columns
        truth[path.stem] = _read(path, [name for name in header if name.endswith("_at")], plan.time_zone)
    return SimulatedPractice(plan, tables, truth)


def _read(path: Path, instants: Sequence[str], zone: str) -> pd.DataFrame:
    frame = pd.read_csv(path, low_memory=False)
    for name in instants:
        local = pd.to_datetime(frame[name]).dt.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
        frame[name] = local.dt.tz_convert("UTC")
    return frame
