"""May patients be ranked by what contacting changes? An answer that can be no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from training.evaluation import Comparison
from training.gain_curves import ALL, Bootstrap, CrossFitted

RankBy = Literal["uplift", "rule", "response"]
UPLIFT: Literal["uplift"] = "uplift"
RESPONSE: Literal["response"] = "response"
POWER = 0.84  # standard normal quantile of 80 %

MESSAGES: Mapping[str, Mapping[str, str]] = {
    "recall_ranked_by_uplift": {
        "en": "Who gains most from a contact can be told: in {draws} randomised draws the ranking beat contacting all, "
        "ranking by who is likely to come anyway, and the rule “{rule}”. The first {capacity:.0%} gain "
        "{uplift:+.1%} each, everybody {effect:+.1%}.",
        "zh": "可以判断联系谁最有效：在 {draws} 次随机抽取中，该排序优于全部联系、"
        "按本来就可能到诊的概率排序以及规则“{rule}”。"
        "排在前 {capacity:.0%} 的患者到诊率平均变化 {uplift:+.1%}，全体为 {effect:+.1%}。",
    },
    "recall_ranked_by_rule": {
        "en": "No model tells better than the rule “{rule}” who gains most from a contact, and the rule itself beat "
        "contacting all and ranking by who is likely to come anyway in {draws} randomised draws: the list follows "
        "the rule. The first {capacity:.0%} gain {uplift:+.1%} each, everybody {effect:+.1%}.",
        "zh": "没有模型能比规则“{rule}”更好地判断联系谁最有效；在 {draws} 次随机抽取中，"
        "该规则优于全部联系和按本来就可能到诊的概率排序，因此名单按该规则排列。"
        "排在前 {capacity:.0%} 的患者到诊率平均变化 {uplift:+.1%}，全体为 {effect:+.1%}。",
    },
    "recall_no_ranking": {
        "en": "No evidence of a useful ranking by what a contact changes in {draws} randomised draws: the list is "
        "ranked by who is likely to come. A contact changes attendance by {effect:+.1%} on average "
        "({lower:+.1%} to {upper:+.1%}).",
        "zh": "在 {draws} 次随机抽取中，没有证据表明按联系效果排序是有用的：名单按到诊可能性排列。"
        "联系平均使到诊率变化 {effect:+.1%}（{lower:+.1%} 至 {upper:+.1%}）。",
    },
    "recall_no_effect": {
        "en": "In {draws} randomised draws it is not shown that contacting changes anything ({effect:+.1%}, "
        "{lower:+.1%} to {upper:+.1%}), nor that any ranking is useful: the list is ranked by who is likely to come.",
        "zh": "在 {draws} 次随机抽取中，未能证明联系会带来变化（{effect:+.1%}，{lower:+.1%} 至 {upper:+.1%}），"
        "也未能证明任何排序有用：名单按到诊可能性排列。",
    },
}


@dataclass(frozen=True)
class Verdict:
    """How patients are to be ranked for contact, and on what evidence.

    Attributes
    ----------
    rank_by : {"uplift", "rule", "response"}
        ``uplift`` only if its paired lower bound on Qini beats contacting all,
        the response rank and the best rule; ``rule`` only if the best rule
        itself beats contacting all and the response rank, with its bound
        widened for the number of rules tried; else ``response``.
    best_rule : str
        The rule with the highest Qini; empty if there is none.
    draws : int
        Randomised draws.
    capacity : float
        Share of the patients who can be contacted.
    effect : tuple of float
        Mean change of the share who come, with its 95 % interval.
    figures : dict of str to dict of str to tuple of float
        Per ranking: ``qini``, ``autoc``, ``uplift`` (mean effect at capacity),
        each with its 95 % interval. Per draw, not times 1,000.
    comparisons : dict of str to Comparison
        Qini of the uplift ranking minus the peer's.
    rule_comparisons : dict of str to Comparison
        Qini of the best rule minus contacting all's and the response rank's.
    """

    rank_by: RankBy
    best_rule: str
    draws: int
    capacity: float
    effect: tuple[float, float, float]
    figures: Mapping[str, Mapping[str, tuple[float, float, float]]]
    comparisons: Mapping[str, Comparison]
    rule_comparisons: Mapping[str, Comparison]

    @property
    def claims_ranking(self) -> bool:
        """Whether a learned uplift ranking is claimed to be useful."""
        return self.rank_by == UPLIFT

    @property
    def key(self) -> str:
        """Key of `MESSAGES`."""
        if self.rank_by != RESPONSE:
            return f"recall_ranked_by_{self.rank_by}"
        return "recall_no_ranking" if self.effect[1] > 0 or self.effect[2] < 0 else "recall_no_effect"

    @property
    def detectable_qini(self) -> float:
        """Qini that a ranking would need for its interval to exclude 0 in four trials of five like this one."""
        _, lower, upper = self.figures[UPLIFT]["qini"]
        return (upper - lower) / (2 * 1.96) * (1.96 + POWER)

    def sentence(self, language: Literal["en", "zh"] = "en") -> str:
        """Say the verdict in plain words."""
        chosen = {"uplift": UPLIFT, "rule": self.best_rule, "response": RESPONSE}[self.rank_by]
        effect, lower, upper = self.effect
        return MESSAGES[self.key][language].format(
            draws=self.draws,
            rule=self.best_rule or "—",
            capacity=self.capacity,
            uplift=self.figures[chosen]["uplift"][0],
            effect=effect,
            lower=lower,
            upper=upper,
        )


def judge(redrawn: Bootstrap, rules: Sequence[str]) -> Verdict:
    """Decide by what to rank.

    Parameters
    ----------
    redrawn : Bootstrap
        Of the rankings ``uplift``, ``response`` and those of `rules`.
    rules : sequence of str
        Names of the one-line rules.

    Returns
    -------
    Verdict
    """
    best = max(rules, key=lambda rule: redrawn.point[rule]["qini"], default="")
    comparisons = {ALL: redrawn.compare(UPLIFT), RESPONSE: redrawn.compare(UPLIFT, RESPONSE)}
    by_rule = {}
    if best:
        comparisons[best] = redrawn.compare(UPLIFT, best)
        error = 0.05 / len(rules)
        by_rule = {ALL: redrawn.compare(best, error=error)}
        by_rule[RESPONSE] = redrawn.compare(best, RESPONSE, error=error)
    rank_by: RankBy = RESPONSE
    if all(comparison.is_better for comparison in comparisons.values()):
        rank_by = UPLIFT
    elif by_rule and all(comparison.is_better for comparison in by_rule.values()):
        rank_by = "rule"
    names = [name for name in redrawn.point if name != ALL]
    return Verdict(
        rank_by,
        best,
        redrawn.size,
        redrawn.capacity,
        redrawn.effect,
        {name: {figure: redrawn.interval(name, figure) for figure in redrawn.point[name]} for name in names},
        comparisons,
        by_rule,
    )


def segment_effects(fitted: CrossFitted, segment: pd.Series) -> pd.DataFrame:
    """Effect of contact per segment, drawn towards everybody's as far as the data do not tell them apart.

    Empirical Bayes, normal-normal, with the between-segment variance by
    DerSimonian and Laird (Controlled Clinical Trials 1986).

    Parameters
    ----------
    fitted : CrossFitted
    segment : pandas.Series of shape (n_draws,)
        Name of each draw's segment; few, fixed beforehand.

    Returns
    -------
    pandas.DataFrame
        One row per segment: draws, raw (mean AIPW effect), error (clustered
        standard error), effect (shrunken), lower, upper (95 %).
    """
    names, codes = np.unique(segment.astype(str).to_numpy(), return_inverse=True)
    draws = np.bincount(codes)
    raw = np.bincount(codes, weights=fitted.effect) / draws
    groups = pd.factorize(fitted.cluster)[0]
    surplus = pd.DataFrame({"segment": codes, "cluster": groups, "sum": fitted.effect - raw[codes]})
    sums = surplus.groupby(["segment", "cluster"])["sum"].sum()
    variance = np.maximum((sums**2).groupby("segment").sum().to_numpy() / draws**2, 1e-12)
    weight = 1 / variance
    mean = weight @ raw / weight.sum()
    excess = weight @ (raw - mean) ** 2 - (len(raw) - 1)
    between = max(0.0, excess / max(weight.sum() - (weight**2).sum() / weight.sum(), 1e-12)) if len(raw) > 1 else 0.0
    centre = (1 / (variance + between)) @ raw / (1 / (variance + between)).sum()
    kept = between / (between + variance)
    # What is left uncertain: the segment's own noise as far as it is trusted, and where everybody's effect lies.
    spread = np.sqrt(kept * variance + (1 - kept) ** 2 / (1 / (variance + between)).sum())
    effect = centre + kept * (raw - centre)
    return pd.DataFrame(
        {
            "segment": names,
            "draws": draws,
            "raw": raw,
            "error": np.sqrt(variance),
            "effect": effect,
            "lower": effect - 1.96 * spread,
            "upper": effect + 1.96 * spread,
        }
    )
