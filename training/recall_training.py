"""Recall from records to registry: the practice's own randomised campaigns, the verdict, the policy that follows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from features.contracts import ModelContract
from features.errors import NotEnoughDataError, NotRandomisedError
from features.examples import with_features
from features.recall_examples import CONSENTS, recall_outcomes
from features.records.tables import CHANNELS
from features.settings import Settings
from features.snapshots import built
from features.store import register
from training.channels import ChannelChoice, choose_channels
from training.gain_curves import gain_curve
from training.patients import Told
from training.plots import gain_figure
from training.portable_policy import Policy
from training.randomised import hold_out_odds, trial_of
from training.recall import CAPACITY, RecallModel, learn
from training.recall_card import recall_card
from training.registry import POLICY, Made, Registered, log_version
from training.rolling import FULL, Effort
from training.uplift import ResponseRank, Rule, SLearner
from training.verdict import RESPONSE, UPLIFT

RULES = {
    "seen most recently": Rule("days_since_last_visit", -1),
    "longest overdue": Rule("days_since_due"),
    "most visits": Rule("visits_kept_count_ever"),
}
SEGMENT = "days_since_due"  # early, within half a year of the due date, or longest overdue
SEGMENT_EDGES = (-np.inf, 0.0, 180.0, np.inf)
SEGMENTS = ("not due yet", "due for half a year at most", "overdue for longer")
NO_TRIAL = {
    "en": "What a contact changes is not known: too few contacts were drawn by chance. The list is ranked by who is "
    "likely to come within 90 days. A hold-out drawn by chance in the next campaigns would tell.",
    "zh": "联系的效果未知：随机抽取的联系太少。名单按 90 天内到诊的可能性排列。在今后的活动中随机留出对照组即可得知。",
}


@dataclass(frozen=True)
class RecallTraining:
    """What a training of the recall question made.

    Attributes
    ----------
    registered : Registered
    policy : Policy
        Always in use: where nothing is proven it says so and ranks by the response.
    learned : RecallModel or None
        None where no randomised contacts could be learned from.
    examples : int
        Draws.
    """

    registered: Registered
    policy: Policy
    learned: RecallModel | None
    examples: int


def train(
    settings: Settings, contract: ModelContract, now: datetime, told: Told = lambda _: None, effort: Effort = FULL
) -> RecallTraining:
    """Learn what contacting changes from randomised draws, and register the policy that follows.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    contract : ModelContract
        `features.contracts.RECALL`.
    now : datetime
        Aware; draws whose eight weeks were not over by then are left out.
    told : callable, optional
        Hears what is being done.
    effort : Effort
        Of no effect: draws are few.

    Returns
    -------
    RecallTraining

    Raises
    ------
    NotBuiltError
        If there are no snapshots.
    """
    versions = built(settings).records
    told("randomised draws")
    store = register(settings)
    draws = recall_outcomes(settings, now, versions)
    examples = with_features(store, contract, draws)
    learned: RecallModel | None = None
    left_out: dict[str, str] = {}
    channels: ChannelChoice | None = None
    if len(draws):
        told("what a contact changes")
        try:
            odds, untold = hold_out_odds(examples)
            left_out |= untold
            examples = examples[~np.isnan(odds)].reset_index(drop=True)
            features = examples[list(contract.feature_names)].astype(float)
            trial = trial_of(examples, features)
            channels = _channels(examples, features)
            learned = learn(trial, RULES, CAPACITY, _segments(features), channels)
        except (NotEnoughDataError, NotRandomisedError) as error:
            left_out["all"] = str(error)
    policy = _policy(contract, learned, channels, examples)
    made = _made(contract, policy, learned, examples, left_out, now, versions)
    return RecallTraining(log_version(settings, contract, made), policy, learned, len(examples))


def _segments(features: pd.DataFrame) -> pd.Series:
    cut = pd.cut(features[SEGMENT], SEGMENT_EDGES, labels=SEGMENTS)
    return cut.astype(object).fillna("without a due date")


def _channels(examples: pd.DataFrame, features: pd.DataFrame) -> ChannelChoice | None:
    """Channels that were tried; None where one alone was, or too seldom to compare."""
    tried = [channel for channel in CHANNELS if channel in CONSENTS and (examples["arm"] == channel).any()]
    if len(tried) < 2:
        return None
    try:
        return choose_channels(examples, features, examples[tried], dict.fromkeys(tried, 0.0))
    except NotEnoughDataError:
        return None


def _policy(
    contract: ModelContract,
    learned: RecallModel | None,
    channels: ChannelChoice | None,
    examples: pd.DataFrame,
) -> Policy:
    tried = [channel for channel in CHANNELS if len(examples) and (examples["arm"] == channel).any()]
    order = channels.order if channels else tuple(tried)
    if learned is None:
        return Policy("return", contract.feature_names, order, None, len(examples), True, dict(NO_TRIAL))
    verdict, ranker = learned.verdict, learned.ranker
    sentences = {"en": verdict.sentence("en"), "zh": verdict.sentence("zh")}
    common: dict[str, Any] = {
        "features": contract.feature_names,
        "channels": order,
        "effect": verdict.effect,
        "draws": verdict.draws,
        "sentences": sentences,
    }
    if isinstance(ranker, SLearner):
        model = {"columns": ranker.columns_, "regression": ranker.regression_}
        return Policy(UPLIFT, **common, is_times_value=True, share=ranker.share_, spread=ranker.spread_, model=model)
    if isinstance(ranker, Rule):
        return Policy("rule", **common, is_times_value=False, rule=(ranker.column, ranker.sign))
    if not isinstance(ranker, ResponseRank):
        raise TypeError(f"{type(ranker).__name__} cannot be stored; expected an S learner, a rule or the response rank")
    return Policy(RESPONSE, **common, is_times_value=True, model={"response": ranker.model_})


def _made(
    contract: ModelContract,
    policy: Policy,
    learned: RecallModel | None,
    examples: pd.DataFrame,
    left_out: Mapping[str, str],
    now: datetime,
    versions: Mapping[str, int],
) -> Made:
    metrics: dict[str, float] = {"draws": float(policy.draws), "claims_ranking": float(policy.rank_by == UPLIFT)}
    figures: dict[str, Figure] = {}
    if learned:
        for name, of_ranking in learned.verdict.figures.items():
            for figure, (value, lower, upper) in of_ranking.items():
                key = f"{_plain(name)}_{figure}"
                metrics |= {key: value, f"{key}_lower": lower, f"{key}_upper": upper}
        effect, lower, upper = learned.verdict.effect
        metrics |= {"effect": effect, "effect_lower": lower, "effect_upper": upper}
        curves = {name: gain_curve(ranking, learned.fitted.effect) for name, ranking in learned.fitted.rankings.items()}
        figures["gain.png"] = gain_figure({name: (curve.share, curve.gain) for name, curve in curves.items()})
    tags = {f"records_{name}": str(version) for name, version in versions.items()}
    return Made(
        policy,
        metrics=metrics,
        tags=tags | {"trained_until": now.isoformat(), "kind": "policy", "rank_by": policy.rank_by},
        parameters={"examples": len(examples), "rank_by": policy.rank_by, "channels": " ".join(policy.channels)},
        figures=figures,
        documents={
            "policy.json": json.dumps(policy.described, ensure_ascii=False, indent=1),
            "verdict.txt": "\n".join((*policy.sentences.values(), *(f"{c}: {why}" for c, why in left_out.items()))),
            "card.html": recall_card(contract, policy, learned, left_out, figures, now),
        },
        data=examples,
        failures=(),
        portable=POLICY,
    )


def _plain(name: str) -> str:
    return name.replace(" ", "_")
