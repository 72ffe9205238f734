"""No-show: the best that anyone could do, knowing everything or only the history.

The full-latent oracle reads the truth. The posterior knows the model and its
rates but, of a patient, only what the practice saw: the personal effect is
integrated out over a grid, given the outcomes that were known by then.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.simulator.rates import AttendanceRates

NODES = 40


def expit(logit: np.ndarray) -> np.ndarray:
    """Probability of each logit."""
    chance: np.ndarray = 1 / (1 + np.exp(-logit))
    return chance


def normal_grid(spread: float, nodes: int = NODES) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Hermite quadrature for a normal effect around 0."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return points * spread, weights / weights.sum()


def no_show_posterior(
    offsets: np.ndarray,
    outcomes: np.ndarray,
    known: np.ndarray,
    moments: np.ndarray,
    spread: float,
) -> np.ndarray:
    """P(no-show | it stands until its start) from one patient's observable history.

    Exact up to the quadrature's error: the model is logistic in a known offset
    plus a normal personal effect.

    Parameters
    ----------
    offsets : ndarray, shape (bookings,)
        Logit without the personal effect, the reminder's part included.
    outcomes : ndarray, shape (bookings,)
        1 for a no-show, 0 for a visit, NaN for what says neither.
    known : ndarray, shape (bookings,)
        When each outcome was known; any increasing unit.
    moments : ndarray, shape (bookings,)
        When each prediction is made; an outcome counts if known before.
    spread : float
        Standard deviation of the personal effect.

    Returns
    -------
    ndarray, shape (bookings,)
    """
    effect, weight = normal_grid(spread)
    chance = expit(offsets[:, None] + effect)
    is_told = ~np.isnan(outcomes)
    log_likelihood = np.where(outcomes[:, None] == 1, np.log(chance), np.log1p(-chance))
    log_likelihood[~is_told] = 0.0
    seen = (known[None, :] < moments[:, None]) & is_told[None, :]
    log_weight = np.log(weight) + seen @ log_likelihood
    log_weight -= log_weight.max(axis=1, keepdims=True)
    posterior = np.exp(log_weight)
    posterior /= posterior.sum(axis=1, keepdims=True)
    found: np.ndarray = (posterior * chance).sum(axis=1)
    return found


def no_show_oracles(appointments: pd.DataFrame, truth: pd.DataFrame, rates: AttendanceRates) -> pd.DataFrame:
    """Both oracles for every booking that was kept or missed, its reminder known.

    Parameters
    ----------
    appointments : DataFrame
        Of a simulated practice.
    truth : DataFrame
        Its ``bookings_truth``.
    rates : AttendanceRates
        Those it was simulated with.

    Returns
    -------
    DataFrame
        ``appointment_id``, ``is_no_show``, ``latent`` (knows the personal
        effect) and ``posterior`` (knows the outcomes recorded before the
        evening before). Early and late cancellations also tell a little of the
        personal effect; the posterior leaves that out.
    """
    frame = appointments.merge(truth[["appointment_id", "personal_effect", "no_show_logit", "reminder_state"]])
    frame = frame[frame["status"].isin(["completed", "no_show"]) & (frame["reminder_state"] != "")]
    reminder = frame["reminder_state"].map({"none": 0.0, "unanswered": rates.unanswered, "confirmed": rates.confirmed})
    frame = frame.assign(
        is_no_show=(frame["status"] == "no_show").astype(float),
        full=frame["no_show_logit"] + reminder,
        evening=(frame["starts_at"] - pd.Timedelta(hours=12)).astype("int64"),
        known=frame["status_known_at"].astype("int64"),
    )
    frame["offset"] = frame["full"] - frame["personal_effect"]
    posterior = np.empty(len(frame))
    for positions in frame.groupby("patient_id").indices.values():
        own = frame.iloc[positions]
        posterior[positions] = no_show_posterior(
            own["offset"].to_numpy(float),
            own["is_no_show"].to_numpy(float),
            own["known"].to_numpy(),
            own["evening"].to_numpy(),
            rates.personal_sd,
        )
    return pd.DataFrame(
        {
            "appointment_id": frame["appointment_id"],
            "is_no_show": frame["is_no_show"].astype(int),
            "latent": expit(frame["full"].to_numpy(float)),
            "posterior": posterior,
        }
    )
