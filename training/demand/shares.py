"""Who does the work: a clinic's line divided among its clinicians, and a clinic without history after its peers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from training.demand.panel import Floats

RECENT = 6  # months whose shares count
LOOSEST, TIGHTEST = 2.0, 200.0  # concentration of the Dirichlet distribution of shares


def clinician_shares(history: pd.DataFrame, left: pd.Series, months: pd.PeriodIndex) -> tuple[pd.Index, Floats, float]:
    """Recent shares of a line's clinicians in the months to come.

    Parameters
    ----------
    history : pandas.DataFrame
        One row per month (ascending), one column per clinician; amounts of one clinic and line.
    left : pandas.Series
        Last day of work of those who leave (index: clinician).
    months : pandas.PeriodIndex
        To come; whoever has left by a month's first day has no share in it.

    Returns
    -------
    tuple of (pandas.Index, ndarray of shape (n_clinicians, n_months), float)
        Clinicians, their expected shares (sum 1 over clinicians), and how tightly months keep to them
        (concentration of a Dirichlet distribution, by the method of moments).
    """
    recent = history.iloc[-RECENT:]
    weight = recent.sum()
    names = weight.index[weight > 0]
    last_day = pd.to_datetime(left.reindex(names))
    # At least someone stays: where all have left, those who were there last stand for whoever comes after them.
    stays = np.array([(last_day.isna() | (last_day >= month.start_time)).to_numpy() for month in months]).T
    stays |= ~stays.any(axis=0)
    shares = stays * weight[names].to_numpy()[:, None]
    monthly = recent[names].div(recent[names].sum(axis=1).where(lambda s: s > 0), axis=0).dropna()
    mean = weight[names].to_numpy() / weight[names].sum()
    spread = float((monthly.to_numpy() - mean).var(axis=0).sum()) if len(monthly) > 1 else 0.0
    concentration = float((mean * (1 - mean)).sum()) / spread - 1 if spread > 0 else TIGHTEST
    return names, shares / shares.sum(axis=0), float(np.clip(concentration, LOOSEST, TIGHTEST))


def split(paths: Floats, shares: Floats, concentration: float, rng: np.random.Generator) -> Floats:
    """Divide futures of a line, shape (n_paths, horizon), among clinicians: (n_paths, n_clinicians, horizon).

    The parts sum to the line in every future and month.
    """
    drawn = rng.gamma(np.maximum(concentration * shares, 1e-9), size=(len(paths), *shares.shape))
    drawn = np.where(shares > 0, drawn, 0.0) + 1e-12 * shares
    return np.asarray(paths[:, None, :] * drawn / drawn.sum(axis=1, keepdims=True))


def after_peers(peers: Floats, peer_hours: Floats, own_hours: Floats, rng: np.random.Generator) -> Floats:
    """Futures of a clinic without history: each a peer's, on the scale of its own chair hours.

    Parameters
    ----------
    peers : ndarray of shape (n_paths, n_peers, n_lines, horizon)
    peer_hours : ndarray of shape (n_peers, horizon)
        Chair hours available, above zero.
    own_hours : ndarray of shape (horizon,)
        Zero before it opens.

    Returns
    -------
    ndarray of shape (n_paths, n_lines, horizon)
        How much peers differ per chair hour is part of the spread.
    """
    chosen = rng.integers(peers.shape[1], size=len(peers))
    scale = own_hours / peer_hours[chosen]
    return np.asarray(peers[np.arange(len(peers)), chosen] * scale[:, None, :])
