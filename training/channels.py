"""By which channel to contact: one order for all until data say otherwise, and none without consent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from features.recall_labels import HOLD_OUT
from training.evaluation import REPETITIONS, SEED
from training.gain_curves import FOLDS
from training.metrics import Floats
from training.randomised import check_odds, check_size
from training.uplift import SLearner, fit_outcome

Allowed = NDArray[np.bool_]


@dataclass(frozen=True)
class ChannelChoice:
    """Whether a channel may be chosen per patient, and the order of channels if not.

    Attributes
    ----------
    order : tuple of str
        Channels by what contacting everybody who allows it is worth, best
        first: a patient gets the first one that is allowed.
    is_personal : bool
        Whether choosing per patient is worth surely more than that.
    gain : tuple of float
        Worth of choosing per patient minus that of the best single order, per
        patient, with its 95 % interval (AIPW, bootstrap over households).
    worth : dict of str to float
        Per channel, that of contacting by it whoever allows it, per patient.
    """

    order: tuple[str, ...]
    is_personal: bool
    gain: tuple[float, float, float]
    worth: Mapping[str, float]


def choose_channels(
    examples: pd.DataFrame,
    features: pd.DataFrame,
    allowed: pd.DataFrame,
    cost: Mapping[str, float],
    margin: Floats | float = 1.0,
) -> ChannelChoice:
    """Compare choosing the channel per patient with one channel for all.

    Parameters
    ----------
    examples : pandas.DataFrame
        Rows of ``recall_label``: one per draw. Each draw needs the probability of the arm it drew, no other.
    features : pandas.DataFrame of shape (n_draws, n_features)
        Of the same draws, in the same order.
    allowed : pandas.DataFrame of shape (n_draws, n_channels)
        Whether the patient may be contacted by the channel; columns are the channels to choose from.
    cost : mapping of str to float
        Of one contact, per channel, in the unit of `margin`.
    margin : float or ndarray of shape (n_draws,)
        Worth of a visit.

    Returns
    -------
    ChannelChoice

    Raises
    ------
    NotRandomisedError
        If a draw's probability is unknown.
    NotEnoughDataError
        If an arm is too small to compare.
    """
    channels, may = list(allowed.columns), allowed.to_numpy(bool)
    arm, outcome = examples["arm"].to_numpy(), examples["label"].to_numpy(float)
    odds, cluster = examples["propensity"].to_numpy(float), pd.factorize(examples["household_id"])[0]
    check_odds((arm != HOLD_OUT).astype(float), odds)
    for name in (HOLD_OUT, *channels):
        check_size(outcome[arm == name], name)
    features = features.reset_index(drop=True).astype(float)
    expected, uplift = _cross_fit(features, arm, outcome, cluster, channels)
    effect = np.empty((len(arm), len(channels)))
    held_out = expected[HOLD_OUT] + (arm == HOLD_OUT) * (outcome - expected[HOLD_OUT]) / odds
    for place, channel in enumerate(channels):
        contacted = expected[channel] + (arm == channel) * (outcome - expected[channel]) / odds
        effect[:, place] = contacted - held_out
    costs = np.array([cost[channel] for channel in channels])
    worth = np.where(may, effect * np.reshape(margin, (-1, 1)) - costs, 0.0)
    orders = _orders(worth)
    personal = best_channel(uplift * np.reshape(margin, (-1, 1)) - costs, may)
    values = np.column_stack([_taken(worth, personal), *(_taken(worth, first_allowed(may, o)) for o in orders)])
    gain = _gain(values, cluster)
    return ChannelChoice(
        tuple(channels[place] for place in orders[int(values[:, 1:].mean(axis=0).argmax())]),
        gain[1] > 0,
        gain,
        dict(zip(channels, worth.mean(axis=0).tolist(), strict=True)),
    )


def best_channel(worth: Floats, allowed: Allowed) -> NDArray[np.intp]:
    """Column of the allowed channel that is worth most per patient; -1 where none is allowed."""
    return np.where(allowed.any(axis=1), np.where(allowed, worth, -np.inf).argmax(axis=1), -1)


def first_allowed(allowed: Allowed, order: Sequence[int]) -> NDArray[np.intp]:
    """Column of the first channel in `order` that is allowed, per patient; -1 where none is."""
    sorted_ = allowed[:, list(order)]
    return np.where(sorted_.any(axis=1), np.asarray(order)[sorted_.argmax(axis=1)], -1)


def _orders(worth: Floats) -> list[list[int]]:
    """Every channel once in front, the others behind it by what they are worth."""
    ranked = np.argsort(-worth.mean(axis=0), kind="stable").tolist()
    return [[first, *(other for other in ranked if other != first)] for first in ranked]


def _taken(worth: Floats, choice: NDArray[np.intp]) -> Floats:
    return np.where(choice >= 0, worth[np.arange(len(worth)), choice], 0.0)


def _gain(values: Floats, cluster: np.ndarray) -> tuple[float, float, float]:
    """First column's mean minus the best other's, the best of every redrawn trial: not flattered by its choice."""
    sums = np.column_stack([np.bincount(cluster, weights=column) for column in values.T])
    size, random = np.bincount(cluster), np.random.default_rng(SEED)
    gains = np.empty(REPETITIONS)
    for index in range(REPETITIONS):
        drawn = np.bincount(random.integers(len(size), size=len(size)), minlength=len(size))
        means = drawn @ sums / (drawn @ size)
        gains[index] = means[0] - means[1:].max()
    means = values.mean(axis=0)
    lower, upper = np.quantile(gains, [0.025, 0.975])
    return float(means[0] - means[1:].max()), float(lower), float(upper)


def _cross_fit(
    features: pd.DataFrame, arm: np.ndarray, outcome: Floats, cluster: np.ndarray, channels: Sequence[str]
) -> tuple[dict[str, Floats], Floats]:
    """Out-of-fold outcome per arm, and uplift per channel against the hold-out."""
    expected = {name: np.empty(len(arm)) for name in (HOLD_OUT, *channels)}
    uplift = np.empty((len(arm), len(channels)))
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=SEED).split(features, groups=cluster):
        seen, unseen = features.iloc[train], features.iloc[test]
        for name, found in expected.items():
            drawn = arm[train] == name
            found[test] = fit_outcome("logistic", seen[drawn], outcome[train][drawn]).predict_proba(unseen)[:, 1]
        for place, channel in enumerate(channels):
            pair = np.isin(arm[train], [HOLD_OUT, channel])
            treatment = (arm[train][pair] == channel).astype(float)
            share = np.full(len(treatment), treatment.mean())
            learner = SLearner("logistic").fit(seen[pair], treatment, outcome[train][pair], share)
            uplift[test, place] = learner.uplift(unseen)
    return expected, uplift
