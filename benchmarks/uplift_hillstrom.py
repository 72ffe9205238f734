"""Whom an e-mail moves: the MineThatData campaign of 2008, drawn by chance, 64,000 customers.

One learner fixed beforehand (`training.recall.LEARNER`) against contact-all, the
response rank and one-line rules, all in the same five folds; the other learners
as peers. Scores are out of fold by customer: the file has one row per customer
and no order in time. Qini: area between the AIPW gain curve and the diagonal,
per customer, times 1,000; intervals by the bootstrap over customers (95 %).
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from benchmarks.harness import arguments, emit
from training.evaluation import REPETITIONS
from training.gain_curves import bootstrap, cross_fit
from training.randomised import Trial
from training.recall import LEARNER
from training.uplift import ResponseRank, Rule, SLearner, TLearner, UpliftLearner, XLearner
from training.verdict import RESPONSE, UPLIFT, judge

CAMPAIGNS = {"womens": "Womens E-Mail", "mens": "Mens E-Mail"}
RULES: dict[str, UpliftLearner] = {
    "rule_bought_womens": Rule("womens"),
    "rule_bought_mens": Rule("mens"),
    "rule_recent": Rule("recency", -1),
    "rule_spent": Rule("history"),
}
PEERS: dict[str, UpliftLearner] = {
    "s_logistic": SLearner("logistic"),
    "s_spline": SLearner("spline"),
    "s_lightgbm": SLearner("booster"),
    "t_logistic": TLearner("logistic"),
    "t_spline": TLearner("spline"),
    "t_lightgbm": TLearner("booster"),
    "x_logistic": XLearner("logistic"),
    "x_lightgbm": XLearner("booster"),
}
CAPACITY = 0.3
QUICK_SHARE, QUICK_REPETITIONS = 0.05, 60  # of the customers; bootstrap draws
TARGETS: dict[str, tuple[str, float]] = {
    "qini_womens": (">=", 7.5),
    "qini_womens_over_rule": (">=", 0.0),
    "mens_claims_ranking": ("<=", 0),
    "qini_womens_leak_alarm": ("<=", 12.0),
    "qini_mens_leak_alarm": ("<=", 5.0),
}


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    warnings.simplefilter("ignore")
    customers = pd.read_csv(told.data / "hillstrom_email" / "hillstrom.csv")
    metrics: dict[str, float] = {}
    peers: dict[str, dict[str, float | list[float]]] = {}
    for campaign, arm in CAMPAIGNS.items():
        trial = _trial(customers, arm, told.seed if told.quick else None)
        learners = {UPLIFT: LEARNER, RESPONSE: ResponseRank()} | RULES
        fitted = cross_fit(trial, learners | ({} if told.quick else PEERS), seed=told.seed)
        redrawn = bootstrap(fitted, CAPACITY, QUICK_REPETITIONS if told.quick else REPETITIONS)
        verdict = judge(redrawn, tuple(RULES))
        metrics |= {
            f"qini_{campaign}": 1000 * redrawn.point[UPLIFT]["qini"],
            f"qini_{campaign}_lower": 1000 * redrawn.interval(UPLIFT)[1],
            f"qini_{campaign}_upper": 1000 * redrawn.interval(UPLIFT)[2],
            f"qini_{campaign}_rule": 1000 * redrawn.point["rule_bought_womens"]["qini"],
            f"qini_{campaign}_over_rule": 1000 * redrawn.compare(UPLIFT, "rule_bought_womens").difference,
            f"{campaign}_claims_ranking": float(verdict.claims_ranking),
            f"{campaign}_ranks_by_rule": float(verdict.rank_by == "rule"),
            f"autoc_{campaign}": 1000 * redrawn.point[UPLIFT]["autoc"],
            f"uplift30_{campaign}": redrawn.point[UPLIFT]["uplift"],
            f"effect_{campaign}": verdict.effect[0],
            f"qini_{campaign}_leak_alarm": 1000 * redrawn.point[UPLIFT]["qini"],
        }
        for name in fitted.rankings:
            if name != UPLIFT:
                found = peers.setdefault(name, {})
                found[f"qini_{campaign}"] = [round(1000 * value, 3) for value in redrawn.interval(name)]
                c = redrawn.compare(UPLIFT, name)
                found[f"over_{campaign}"] = [round(1000 * value, 3) for value in (c.difference, c.lower, c.upper)]
        print(f"{arm}: {verdict.sentence()}")
    emit("uplift_hillstrom", metrics, {} if told.quick else TARGETS, peers)


def _trial(customers: pd.DataFrame, arm: str, seed: int | None) -> Trial:
    """One campaign against nobody contacted; three arms with equal odds, so a half each between two of them."""
    rows = customers[customers["segment"].isin([arm, "No E-Mail"])]
    if seed is not None:
        rows = rows.sample(frac=QUICK_SHARE, random_state=seed)
    features = rows[["recency", "history", "mens", "womens", "newbie"]].astype(float)
    for column in ("zip_code", "channel"):
        features = features.join(pd.get_dummies(rows[column], prefix=column, dtype=float))
    return Trial(
        features.reset_index(drop=True),
        (rows["segment"] == arm).to_numpy(float),
        rows["visit"].to_numpy(float),
        np.full(len(rows), 0.5),
        np.arange(len(rows)),
    )


if __name__ == "__main__":
    main()
