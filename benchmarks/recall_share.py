"""Recall: the share of what is possible that a ranking learned from randomised contacts reaches.

Simulated practices draw every recall round into an arm. Rankings learn from
2,000 and from 8,000 draws of one practice and are judged on another one with
the same rates, where the true effect of a call on each patient is known: the
mean true effect among the first 30 %, as a share of the way from a random
order (0) to the oracle's (1).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from lightgbm import LGBMRegressor

from benchmarks.harness import arguments, emit
from features.duck import connect
from features.recall_labels import attach_recall
from features.simulator import PracticePlan, simulate
from features.simulator.plan import Preset
from features.simulator.presets import rates_of
from training.metrics import Floats
from training.randomised import trial_of
from training.recall import LEARNER
from training.uplift import BOOSTER, ResponseRank, Rule, SLearner, TLearner, UpliftLearner, XLearner
from training.verdict import RESPONSE, UPLIFT

NOW = datetime(2026, 11, 17, 2, tzinfo=UTC)
CAPACITY = 0.3
SIZES = (2000, 8000)
REPETITIONS = {2000: 4, 8000: 1}
PATIENTS, QUICK_PATIENTS = 10_500, 600
QUICK_DRAWS = 300  # behind the names of either size
CHANNEL = "phone"
LEARNERS: dict[str, UpliftLearner] = {
    UPLIFT: LEARNER,
    RESPONSE: ResponseRank(),
    "s_logistic": SLearner("logistic"),
    "s_lightgbm": SLearner("booster"),
    "t_spline": TLearner("spline"),
    "x_lightgbm": XLearner("booster"),
    "rule_seen_lately": Rule("days_since_visit", -1),
}
QUICK_LEARNERS = (UPLIFT, RESPONSE, "rule_seen_lately")
TARGETS: dict[str, tuple[str, float]] = {"recall_share_2000": (">=", 0.52), "recall_share_8000": (">=", 0.60)}
TABLES = ("patients", "appointments", "communications", "recalls", "campaign_arms")
FEATURES = """
WITH visits AS (SELECT * FROM appointments WHERE status = 'completed'),
rounds AS (
    SELECT r.patient_id, r.due_on, min(v.status_known_at) AS known_at,
           date_diff('day', r.due_on, min(v.starts_at)::DATE) AS delay
    FROM (SELECT DISTINCT patient_id, due_on FROM recalls WHERE due_on IS NOT NULL) AS r
    JOIN visits AS v ON v.patient_id = r.patient_id AND v.recall_type <> ''
     AND v.starts_at > r.due_on - INTERVAL 60 DAY
    GROUP BY r.patient_id, r.due_on),
mates AS (
    SELECT p.household_id, p.patient_id, v.starts_at, v.status_known_at
    FROM visits AS v JOIN (SELECT DISTINCT patient_id, household_id FROM patients) AS p USING (patient_id)),
books AS (
    SELECT d.arm_id, count(*) FILTER (status = 'completed') AS visits,
           count(*) FILTER (status = 'completed' AND starts_at > d.as_of - INTERVAL 730 DAY) AS visits_2y,
           count(*) FILTER (status IN ('no_show', 'cancelled_late')) AS missed,
           count(*) FILTER (status IN ('cancelled_early', 'rescheduled')) AS gave_up,
           max(starts_at) FILTER (status = 'completed') AS last_at
    FROM recall_label AS d JOIN appointments AS a ON a.patient_id = d.patient_id AND a.status_known_at < d.as_of
    GROUP BY 1),
messages AS (
    SELECT d.arm_id, count(*) AS recalled,
           count(*) FILTER (sent_at > d.as_of - INTERVAL 180 DAY) AS recalled_180d,
           count(*) FILTER (outcome = 'confirmed' AND replied_at < d.as_of) AS accepted,
           count(*) FILTER (outcome = 'declined' AND replied_at < d.as_of) AS declined
    FROM recall_label AS d JOIN communications AS m ON m.patient_id = d.patient_id AND m.sent_at < d.as_of
    WHERE m.purpose = 'recall' GROUP BY 1),
dues AS (
    SELECT d.arm_id, arg_max(due_on, known_from_at) AS due_on, arg_max(interval_days, known_from_at) AS interval_days
    FROM recall_label AS d JOIN recalls AS r ON r.patient_id = d.patient_id AND r.known_from_at < d.as_of GROUP BY 1),
habits AS (
    SELECT d.arm_id, count(*) AS rounds, avg(delay) AS mean_delay, arg_max(delay, due_on) AS last_delay
    FROM recall_label AS d JOIN rounds AS r ON r.patient_id = d.patient_id AND r.known_at < d.as_of GROUP BY 1),
family AS (
    SELECT d.arm_id, max(m.starts_at) AS mate_at
    FROM recall_label AS d JOIN mates AS m
      ON m.household_id = d.household_id AND m.patient_id <> d.patient_id AND m.status_known_at < d.as_of
    GROUP BY 1),
people AS (
    SELECT d.arm_id, arg_max(birth_year, known_from_at) AS birth_year, arg_max(sex, known_from_at) AS sex,
           arg_max(referred_by_id, known_from_at) AS referred_by_id, arg_max(first_seen_on, known_from_at) AS first_on
    FROM recall_label AS d JOIN patients AS p ON p.patient_id = d.patient_id AND p.known_from_at <= d.as_of
    GROUP BY 1)
SELECT d.arm_id, year(d.as_of) - birth_year AS age, (sex = 'female')::INTEGER AS is_female,
       (coalesce(referred_by_id, '') <> '')::INTEGER AS is_referred,
       days_ago(first_on::DATE, d.as_of) AS days_since_first,
       coalesce(visits, 0) AS visits, coalesce(visits_2y, 0) AS visits_2y, coalesce(missed, 0) AS missed,
       coalesce(gave_up, 0) AS gave_up, days_ago(last_at::DATE, d.as_of) AS days_since_visit,
       coalesce(recalled, 0) AS recalled, coalesce(recalled_180d, 0) AS recalled_180d,
       coalesce(accepted, 0) AS accepted, coalesce(declined, 0) AS declined,
       interval_days, days_ago(due_on, d.as_of) AS days_overdue,
       days_ago(last_at::DATE, d.as_of) / interval_days AS intervals_since_visit,
       coalesce(rounds, 0) AS rounds, mean_delay, last_delay, days_ago(mate_at::DATE, d.as_of) AS days_since_mates_visit
FROM recall_label AS d
LEFT JOIN people USING (arm_id) LEFT JOIN books USING (arm_id) LEFT JOIN messages USING (arm_id)
LEFT JOIN dues USING (arm_id) LEFT JOIN habits USING (arm_id) LEFT JOIN family USING (arm_id)
ORDER BY d.as_of, d.arm_id
"""


STATES = """
CREATE TABLE appointments_states AS
    SELECT *, status_known_at AS known_at, NULL::TIMESTAMPTZ AS known_until FROM appointments;
CREATE TABLE campaign_arms_states AS
    SELECT *, assigned_at AS known_at, NULL::TIMESTAMPTZ AS known_until FROM campaign_arms;
CREATE TABLE patients_states AS
    SELECT *, known_from_at AS known_at,
           lead(known_from_at) OVER (PARTITION BY patient_id ORDER BY known_from_at) AS known_until FROM patients;
CREATE MACRO days_ago(day, moment) AS date_diff('day', day::DATE, moment::DATE)
"""


@dataclass(frozen=True)
class Draws:
    """Randomised draws of a simulated practice, one row per draw in all three."""

    examples: pd.DataFrame
    features: pd.DataFrame
    truth: pd.DataFrame


def simulated_draws(patients: int, seed: int, preset: Preset = "default") -> Draws:
    """Simulate a practice that draws every recall round into an arm, with simple features of history."""
    rates = rates_of(preset)
    contacts = replace(rates.contacts, randomised_share=1.0, recall_share=1.0)
    plan = PracticePlan(now=NOW, patients=patients, years=4, seed=seed, preset=preset)
    practice = simulate(plan, replace(rates, contacts=contacts))
    with connect() as con:
        for name in TABLES:
            con.register(f"given_{name}", practice.tables[name])
            con.execute(f"CREATE TABLE {name} AS SELECT * FROM given_{name}")
        for statement in STATES.split(";"):
            con.execute(statement)
        attach_recall(con, NOW)
        examples = con.execute("SELECT * FROM recall_label ORDER BY as_of, arm_id").df()
        features = con.execute(FEATURES).df()
    truth = examples[["campaign_id", "patient_id"]].merge(practice.truth["arms_truth"], how="left", validate="m:1")
    return Draws(examples, features.drop(columns="arm_id").astype(float), truth)


def share_of_oracle(ranking: Floats, truth: Floats) -> float:
    """Share of the way from a random order to the true one, in the true effect on those called."""
    count = int(CAPACITY * len(truth))
    called, best = (truth[np.argsort(-score, kind="stable")[:count]].mean() for score in (ranking, truth))
    return float((called - truth.mean()) / (best - truth.mean()))


def shares(
    learn_from: Draws,
    judge_on: Draws,
    size: int,
    seed: int,
    repetitions: int,
    learners: Mapping[str, UpliftLearner] = LEARNERS,
) -> dict[str, float]:
    """Mean share per learner over `repetitions` samples of `size` draws, judged on another practice."""
    trial = trial_of(learn_from.examples, learn_from.features)
    unseen, truth = _asked(judge_on)
    random, found = np.random.default_rng(seed), dict.fromkeys(learners, 0.0)
    for _ in range(repetitions):
        rows = random.choice(len(trial), min(size, len(trial)), replace=False)
        seen = (trial.features.iloc[rows], trial.treatment[rows], trial.outcome[rows], trial.propensity[rows])
        for name, learner in learners.items():
            found[name] += share_of_oracle(deepcopy(learner).fit(*seen).uplift(unseen), truth) / repetitions
    return found


def observable_share(learn_from: Draws, judge_on: Draws) -> float:
    """The share of LightGBM fitted on the true effects themselves: about what these features can tell at all."""
    unseen, truth = _asked(judge_on)
    model = LGBMRegressor(**BOOSTER | {"min_child_samples": 50, "n_estimators": 200})
    return share_of_oracle(np.asarray(model.fit(*_asked(learn_from)).predict(unseen)), truth)


def _asked(draws: Draws) -> tuple[pd.DataFrame, Floats]:
    """Features and true effect of the patients who allow the channel."""
    truth = draws.truth[f"uplift_{CHANNEL}"].to_numpy(float)
    allowed = ~np.isnan(truth)
    return draws.features[allowed], truth[allowed]


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    warnings.simplefilter("ignore")
    one, other = (simulated_draws(QUICK_PATIENTS if told.quick else PATIENTS, told.seed + n) for n in (0, 1))
    learners = {name: LEARNERS[name] for name in (QUICK_LEARNERS if told.quick else LEARNERS)}
    metrics: dict[str, float] = {"draws": float(len(one.examples))}
    peers: dict[str, dict[str, float | list[float]]] = {name: {} for name in learners if name != UPLIFT}
    for size in SIZES:
        repetitions, drawn = (1, QUICK_DRAWS) if told.quick else (REPETITIONS[size], size)
        both = [shares(a, b, drawn, told.seed, repetitions, learners) for a, b in ((one, other), (other, one))]
        mean = {name: (both[0][name] + both[1][name]) / 2 for name in learners}
        metrics |= {f"recall_share_{size}": mean[UPLIFT], f"recall_response_share_{size}": mean[RESPONSE]}
        for name, found in peers.items():
            found[f"recall_share_{size}"] = round(mean[name], 5)
    metrics["observable_share"] = (observable_share(one, other) + observable_share(other, one)) / 2
    known = other.truth[["attends_hold_out", f"uplift_{CHANNEL}"]].astype(float).dropna().to_numpy()
    metrics["true_response_share"] = share_of_oracle(known[:, 0], known[:, 1])
    emit("recall_share", metrics, {} if told.quick else TARGETS, peers)


if __name__ == "__main__":
    main()
