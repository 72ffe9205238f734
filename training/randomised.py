"""Randomised contacts: the only ones from which an effect is learned here.

Who is contacted in everyday work differs from who is not in ways that no table
records, so that a difference in outcomes says nothing about contacting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.errors import NotEnoughDataError, NotRandomisedError
from features.recall_labels import HOLD_OUT
from training.metrics import Floats

FEWEST_PER_ARM = 50
FEWEST_OF_OUTCOME = 10  # that came, and that did not, per arm
WHOLE = 0.02  # how far 1 / odds may be off a whole number of arms: odds are logged with few digits
UNLIKELY = 0.01
SUREST_CHANCE = 4.5  # standard errors; chance alone goes beyond in 1 of 150,000 trials


@dataclass(frozen=True)
class Trial:
    """Randomised contacts and what came of them; one row per draw.

    Attributes
    ----------
    features : pandas.DataFrame of shape (n_draws, n_features)
        What was known before the draw; numbers, NaN where unknown.
    treatment, outcome : ndarray of shape (n_draws,)
        1 if drawn to be contacted; 1 if the patient came.
    propensity : ndarray of shape (n_draws,)
        Logged probability of being drawn to be contacted.
    cluster : ndarray of shape (n_draws,)
        Household or patient; rows of one are alike.

    Raises
    ------
    NotRandomisedError
        If the odds are not known, or the draws do not look as if they had been made with them.
    NotEnoughDataError
        If an arm is too small to compare.
    """

    features: pd.DataFrame
    treatment: Floats
    outcome: Floats
    propensity: Floats
    cluster: np.ndarray

    def __post_init__(self) -> None:
        """Refuse what was not randomised."""
        check_odds(self.treatment, self.propensity)
        for arm, name in ((0, HOLD_OUT), (1, "contacted")):
            check_size(self.outcome[self.treatment == arm], name)
        _check_balance(self)

    def __len__(self) -> int:
        """Number of draws."""
        return len(self.outcome)


def trial_of(examples: pd.DataFrame, features: pd.DataFrame) -> Trial:
    """Contact by any channel against the hold-out.

    Parameters
    ----------
    examples : pandas.DataFrame
        Rows of ``recall_label`` (`features.recall_labels.attach_recall`): one per draw.
    features : pandas.DataFrame of shape (n_draws, n_features)
        Of the same draws, in the same order.

    Returns
    -------
    Trial
        Propensity: that of any contact, 1 minus the hold-out's. Draws of
        campaigns whose hold-out's odds cannot be told are not in it.

    Raises
    ------
    NotRandomisedError, NotEnoughDataError
        As `Trial`.
    """
    if len(features) != len(examples):
        raise ValueError(f"{len(examples)} draws but {len(features)} rows of features")
    odds, _ = hold_out_odds(examples)
    told = ~np.isnan(odds)
    return Trial(
        features=features[told].reset_index(drop=True).astype(float),
        treatment=np.asarray(examples["arm"] != HOLD_OUT, dtype=float)[told],
        outcome=examples["label"].to_numpy(float)[told],
        propensity=1 - odds[told],
        cluster=examples["household_id"].to_numpy()[told],
    )


def hold_out_odds(examples: pd.DataFrame) -> tuple[Floats, Mapping[str, str]]:
    """Probability of the hold-out arm for every draw, also those that drew another.

    The log holds the probability of the arm that was drawn. In a campaign with
    one probability for the hold-out, that is it for all. Where it depends on
    the patient (fewer channels allowed, fewer arms) it is known only if all
    arms open to a patient had the same odds: that is so if no draw had lower
    odds than 1 in the number of arms. A small campaign may not have drawn every
    arm; where the hold-out's odds differ the arms of the whole log count.

    Parameters
    ----------
    examples : pandas.DataFrame
        One row per draw: campaign_id, arm, propensity.

    Returns
    -------
    odds : ndarray of shape (n_draws,)
        NaN in campaigns of which the log does not tell.
    left_out : mapping of str to str
        Why, per such campaign.

    Raises
    ------
    NotRandomisedError
        If a draw has no logged probability, or no campaign's odds can be told.
    """
    _refuse_unlogged(examples["propensity"].to_numpy(float))
    found, left_out = pd.Series(np.nan, index=examples.index), dict[str, str]()
    for campaign, draws in examples.groupby("campaign_id"):
        odds = _odds_in(draws, examples["arm"].nunique())
        if isinstance(odds, str):
            left_out[str(campaign)] = odds
        else:
            found[draws.index] = odds
    if found.isna().all():
        campaign, reason = next(iter(left_out.items()))
        raise NotRandomisedError(
            f"Campaign {campaign}: expected a hold-out drawn with one probability, or arms with equal odds; {reason}. "
            "Leave this campaign out, or log a hold-out probability that is the same for all."
        )
    return np.asarray(found, dtype=float), left_out


def _odds_in(draws: pd.DataFrame, arms_anywhere: int) -> pd.Series | float | str:
    """The hold-out's odds in one campaign: one per draw, one for all, or why they cannot be told."""
    odds, is_held_out = draws["propensity"].astype(float), draws["arm"] == HOLD_OUT
    arms_open, arms = 1 / odds, draws["arm"].nunique()
    held_out = odds[is_held_out].round(6).unique()
    are_whole = np.allclose(arms_open, arms_open.round(), atol=WHOLE)
    if are_whole and arms_open.max() <= arms + WHOLE:
        return odds
    may_be_equal = are_whole and arms_open.max() <= arms_anywhere + WHOLE
    if len(held_out) > 1 and may_be_equal:
        return odds
    if len(held_out) == 1:
        # With equal odds for all arms, some draws with other odds would have been held out, too.
        others = odds[odds.round(6) != held_out[0]]
        if may_be_equal and np.prod(1 - others) > UNLIKELY:
            return "the log is too short to tell one from the other"
        return float(held_out[0])
    return f"the log has {len(held_out)} different probabilities of the hold-out and {arms} arms"


def check_odds(treatment: Floats, propensity: Floats) -> None:
    """Raise NotRandomisedError unless both arms were drawn and every probability is known and between 0 and 1."""
    _refuse_unlogged(propensity)
    certain = int(((propensity <= 0) | (propensity >= 1)).sum())
    if certain:
        raise NotRandomisedError(
            f"{certain} of {len(propensity)} contacts had a probability of 0 or 1: they were decided, not drawn. "
            "Effects are learned from randomised draws alone; leave the others out."
        )
    arms = set(np.unique(treatment).tolist())
    if arms != {0.0, 1.0}:
        raise NotRandomisedError(
            f"Expected contacted (1) and held-out (0) patients, got arms {sorted(arms)}. "
            "A campaign without a hold-out says nothing about what contacting changes."
        )


def check_size(outcome: Floats, arm: str) -> None:
    """Raise NotEnoughDataError unless enough patients of the arm came, and enough did not."""
    rare = min(outcome.sum(), len(outcome) - outcome.sum())
    if len(outcome) < FEWEST_PER_ARM or rare < FEWEST_OF_OUTCOME:
        raise NotEnoughDataError(
            f"The effect of contacts needs at least {FEWEST_PER_ARM} draws per arm, {FEWEST_OF_OUTCOME} of them who "
            f"came and {FEWEST_OF_OUTCOME} who did not; arm {arm} has {len(outcome)}, of whom {int(outcome.sum())} "
            "came. Let the randomised campaign run on."
        )


def _refuse_unlogged(propensity: Floats) -> None:
    unknown = int(np.isnan(propensity).sum())
    if unknown or not len(propensity):
        raise NotRandomisedError(
            f"{unknown} of {len(propensity)} contacts have no logged probability (campaign_arms.propensity). Effects "
            "are learned from randomised draws alone: run a campaign with a hold-out, or leave these contacts out."
        )


def _check_balance(trial: Trial) -> None:
    """Draws made with the odds given are related to nothing that was known before them."""
    surplus = trial.treatment - trial.propensity
    columns = {"the number of contacts": np.ones(len(trial))}
    for name in trial.features:
        values = trial.features[name].to_numpy(float)
        centred = np.nan_to_num(values - np.nanmean(values)) if np.isfinite(values).any() else np.zeros(len(values))
        columns[str(name)] = centred
    codes = pd.factorize(trial.cluster)[0]
    table = np.column_stack(list(columns.values())) * surplus[:, None]
    sums = np.column_stack([np.bincount(codes, weights=column) for column in table.T])
    error = np.sqrt((sums**2).sum(axis=0))
    z = np.divide(sums.sum(axis=0), error, out=np.zeros(len(error)), where=error > 0)
    if np.abs(z).max() > SUREST_CHANCE + np.log10(len(columns)) / 4:
        worst = list(columns)[int(np.abs(z).argmax())]
        raise NotRandomisedError(
            f"The draws do not look as if they had been made with the logged probabilities: {worst} differs between "
            f"the arms by {np.abs(z).max():.1f} standard errors. Contacts chosen by hand, or draws left out "
            "afterwards, cannot be told from an effect; use the campaign's complete log."
        )
