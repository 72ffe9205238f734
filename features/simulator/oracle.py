"""The best that anyone could do, knowing everything or only the history.

The full-latent oracle reads the truth. The posterior knows the model and its
rates but, of a patient, only what the practice saw: the personal effect is
integrated out over a grid, given the outcomes that were known by then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.simulator.rates import AttendanceRates, BaseRates

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


@dataclass
class CareFilter:
    """Posterior of "still in care" and of the personal rate, week by week, for many patients.

    A forward filter over (in care or not) x a grid of personal log rates.
    What it sees of a week: whether a recall visit was booked unasked; a message
    that made the patient book counts as the patient being in care.

    Attributes
    ----------
    rates : BaseRates
        Those of the model.
    effect : ndarray, shape (grid,)
        Personal log rates.
    weight : ndarray, shape (patients, 2, grid)
        Posterior; second axis: gone, in care.
    """

    rates: BaseRates
    effect: np.ndarray
    weight: np.ndarray

    @classmethod
    def begin(cls, rates: BaseRates, patients: int, nodes: int = 25) -> CareFilter:
        """Everybody in care, rates as in the population."""
        effect, weight = normal_grid(rates.demand.adherence_sd, nodes)
        start = np.zeros((patients, 2, nodes))
        start[:, 1] = weight
        return cls(rates, effect, start)

    def week(self, chances: np.ndarray, leaves: np.ndarray, can_book: np.ndarray, booked: np.ndarray) -> None:
        """Take one week: leaving first, then booking, as the simulator does.

        Parameters
        ----------
        chances : ndarray, shape (patients, grid)
            Chance to book unasked at each rate.
        leaves : ndarray, shape (patients,)
            Chance to leave.
        can_book, booked : ndarray of bool, shape (patients,)
            Whether a booking was possible at all, and whether it was made.
        """
        stay = self.weight[:, 1] * (1 - leaves)[:, None]
        self.weight[:, 0] += self.weight[:, 1] - stay
        here = np.where(booked[:, None], chances, 1 - chances)
        self.weight[:, 1] = np.where(can_book[:, None], stay * here, stay)
        self.weight[:, 0] *= ~(can_book & booked)[:, None]
        self._normalise()

    def leave_after_visit(self, visited: np.ndarray, chance: np.ndarray) -> None:
        """Take the second lapse process: a visit shows that the patient was in care, then some leave."""
        self.weight[visited, 0] = 0.0
        self._normalise()
        gone = self.weight[:, 1] * (chance * visited)[:, None]
        self.weight[:, 0] += gone
        self.weight[:, 1] -= gone

    def in_care(self) -> np.ndarray:
        """P(still in care)."""
        found: np.ndarray = self.weight[:, 1].sum(axis=1)
        return found

    def books_within(self, chances: np.ndarray, leaves: np.ndarray) -> np.ndarray:
        """P(a recall visit is booked unasked within the weeks ahead).

        Parameters
        ----------
        chances : ndarray, shape (weeks, patients, grid)
        leaves : ndarray, shape (weeks, patients)
        """
        open_ = self.weight[:, 1].copy()
        booked = np.zeros(len(open_))
        for chance, leave in zip(chances, leaves, strict=True):
            open_ *= (1 - leave)[:, None]
            booked += (open_ * chance).sum(axis=1)
            open_ *= 1 - chance
        return booked

    def _normalise(self) -> None:
        total = self.weight.sum(axis=(1, 2), keepdims=True)
        self.weight /= np.where(total > 0, total, 1.0)
