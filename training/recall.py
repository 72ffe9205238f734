"""What does contacting change, for whom, and whom does it pay to contact? The recall question's recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pandas as pd

from training.channels import Allowed, ChannelChoice, best_channel, first_allowed
from training.gain_curves import CrossFitted, bootstrap, cross_fit
from training.metrics import Floats
from training.randomised import Trial
from training.uplift import ResponseRank, Rule, SLearner, UpliftLearner
from training.verdict import RESPONSE, UPLIFT, Verdict, judge, segment_effects

# Splines had the higher marginal likelihood on simulated and real campaigns; see benchmarks/RESULTS.md.
LEARNER: UpliftLearner = SLearner("spline")
CAPACITY = 0.3  # share of the due patients whom a team gets round to calling


@dataclass(frozen=True)
class RecallModel:
    """What was learned from a practice's randomised contacts.

    Attributes
    ----------
    verdict : Verdict
        By what patients are ranked, and why.
    ranker : UpliftLearner
        Fitted on all draws: the uplift learner, the best rule or the response
        rank, as the verdict says.
    segments : pandas.DataFrame
        One row per segment: `training.verdict.segment_effects`; empty if none was named.
    fitted : CrossFitted
        What every ranking said of draws it had not learned from.
    channels : ChannelChoice or None
        None if only one channel was tried.
    """

    verdict: Verdict
    ranker: UpliftLearner
    segments: pd.DataFrame
    fitted: CrossFitted
    channels: ChannelChoice | None = None

    def score(self, features: pd.DataFrame) -> pd.DataFrame:
        """Score patients for contact.

        Parameters
        ----------
        features : pandas.DataFrame of shape (n_patients, n_features)
            The columns learned from.

        Returns
        -------
        pandas.DataFrame
            One row per patient: ``rank_score`` (higher is called first) and
            ``uplift`` (expected change of the probability to come: the
            patient's own if a ranking by uplift is claimed, else everybody's).
        """
        ranking = self.ranker.uplift(features)
        own = ranking if self.verdict.claims_ranking else np.full(len(features), self.verdict.effect[0])
        return pd.DataFrame({"rank_score": ranking, "uplift": own}, index=features.index)


def learn(
    trial: Trial,
    rules: Mapping[str, Rule],
    capacity: float = CAPACITY,
    segment: pd.Series | None = None,
    channels: ChannelChoice | None = None,
) -> RecallModel:
    """Learn what contacting changes, and prove or refuse a ranking by it.

    Parameters
    ----------
    trial : Trial
        From `training.randomised.trial_of`.
    rules : mapping of str to Rule
        One-line rules, fixed beforehand; their names appear in the verdict.
    capacity : float
        Share of the patients who can be contacted.
    segment : pandas.Series of shape (n_draws,), optional
        Of which segment each draw is.
    channels : ChannelChoice, optional
        From `training.channels.choose_channels`.

    Returns
    -------
    RecallModel
    """
    learners: dict[str, UpliftLearner] = {UPLIFT: LEARNER, RESPONSE: ResponseRank(), **rules}
    fitted = cross_fit(trial, learners)
    verdict = judge(bootstrap(fitted, capacity), tuple(rules))
    chosen = verdict.best_rule if verdict.rank_by == "rule" else verdict.rank_by
    ranker = deepcopy(learners[chosen]).fit(trial.features, trial.treatment, trial.outcome, trial.propensity)
    segments = pd.DataFrame() if segment is None else segment_effects(fitted, segment)
    return RecallModel(verdict, ranker, segments, fitted, channels)


def priority(
    uplift: Floats,
    rank_score: Floats,
    allowed: Allowed,
    cost: Sequence[float],
    margin: Floats | float = 1.0,
    order: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Whom to contact first, by which channel, and what it is worth.

    Parameters
    ----------
    uplift : ndarray of shape (n_patients,) or (n_patients, n_channels)
        Expected change of the probability to come.
    rank_score : ndarray of shape (n_patients,)
        Higher is called first among those of equal worth.
    allowed : ndarray of bool, shape (n_patients, n_channels)
        Consent: whether the patient may be contacted by the channel.
    cost : sequence of float, one per channel
        Of a contact, in the unit of `margin`.
    margin : float or ndarray of shape (n_patients,)
        Worth of a visit.
    order : sequence of int, optional
        Channels in fixed order. Left out, each patient gets the channel that
        is worth most; only for a `ChannelChoice` that ``is_personal``.

    Returns
    -------
    pandas.DataFrame
        One row per patient: ``channel`` (column number; -1: nobody may contact
        or it costs more than it brings), ``worth`` (uplift x margin - cost, 0 without
        a channel), ``place`` (1 is first; 0: not on the list).
    """
    effect = np.broadcast_to(uplift.reshape(len(uplift), -1), allowed.shape)
    worth = effect * np.reshape(margin, (-1, 1)) - np.asarray(cost, float)
    channel = best_channel(worth, allowed) if order is None else first_allowed(allowed, order)
    taken = np.where(channel >= 0, worth[np.arange(len(worth)), channel], 0.0)
    listed = (channel >= 0) & (taken > 0)
    place = np.zeros(len(uplift), dtype=int)
    place[np.lexsort((-rank_score, -taken, ~listed))] = np.arange(1, len(uplift) + 1)
    return pd.DataFrame(
        {
            "channel": np.where(listed, channel, -1),
            "worth": np.where(listed, taken, 0.0),
            "place": np.where(listed, place, 0),
        }
    )
