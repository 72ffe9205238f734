"""Randomised contacts: the only ones from which an effect is learned here.

Who is contacted in everyday work differs from who is not in ways that no table
records, so that a difference in outcomes says nothing about contacting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.errors import NotEnoughDataError, NotRandomisedError
from features.recall_labels import HOLD_OUT
from training.metrics import Floats

FEWEST_PER_ARM = 50
FEWEST_OF_OUTCOME = 10  # that came, and that did not, per arm
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
        Propensity: that of any contact, 1 minus the hold-out's.

    Raises
    ------
    NotRandomisedError, NotEnoughDataError
        As `Trial`.
    """
    if len(features) != len(examples):
        raise ValueError(f"{len(examples)} draws but {len(features)} rows of features")
    return Trial(
        features=features.reset_index(drop=True).astype(float),
        treatment=np.asarray(examples["arm"] != HOLD_OUT, dtype=float),
        outcome=examples["label"].to_numpy(float),
        propensity=1 - hold_out_odds(examples),
        cluster=examples["household_id"].to_numpy(),
    )


def hold_out_odds(examples: pd.DataFrame) -> Floats:
    """Probability of the hold-out arm for every draw, also those that drew another.

    The log holds the probability of the arm that was drawn. In a campaign with
    one probability for the hold-out, that is it for all. Where it depends on
    the patient (fewer channels allowed, fewer arms) it is known only if all
    arms open to a patient had the same odds: that is so if no draw had lower
    odds than 1 in the number of arms.

    Parameters
    ----------
    examples : pandas.DataFrame
        One row per draw: campaign_id, arm, propensity.

    Returns
    -------
    ndarray of shape (n_draws,)

    Raises
    ------
    NotRandomisedError
        If they cannot be told from the log.
    """
    _refuse_unlogged(examples["propensity"].to_numpy(float))
    found = pd.Series(np.nan, index=examples.index)
    for campaign, draws in examples.groupby("campaign_id"):
        odds = draws["propensity"].astype(float)
        held_out = odds[draws["arm"] == HOLD_OUT].round(6).unique()
        arms_open = 1 / odds
        if np.allclose(arms_open, arms_open.round(), atol=0.02) and arms_open.max() <= draws["arm"].nunique() + 0.02:
            found[draws.index] = odds
        elif len(held_out) == 1:
            found[draws.index] = held_out[0]
        else:
            raise NotRandomisedError(
                f"Campaign {campaign}: expected a hold-out drawn with one probability, or arms with equal odds; the "
                f"log has {len(held_out)} different probabilities of the hold-out and {draws['arm'].nunique()} arms. "
                "Leave this campaign out, or log a hold-out probability that is the same for all."
            )
    return np.asarray(found, dtype=float)


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
