"""What is believed of every patient's latent state at one moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.simulator.care_model import Model
from features.simulator.hazards import booking_chance
from features.simulator.observed import Observed
from features.simulator.panel import NEVER, WEEK

GONE, IN_CARE, COMES_AGAIN = range(3)


@dataclass
class Care:
    """Posterior of every patient's latent state at one moment, and the round each is in.

    Attributes
    ----------
    log_rate : ndarray, shape (patients, grid)
        Personal log rates that the grid stands for.
    weight : ndarray, shape (patients, 3, grid, 2)
        Likelihood of the history, up to a factor per patient; axes: state, rate, put off or not.
    due : ndarray of int
        Minute of the due date; NEVER if the patient has never been due.
    is_booked : ndarray of bool
        Whether this round's recall visit is booked.
    annoyed_until : ndarray of int
        Until when messages put off those whom they do.
    recalled : list of list of int
        Minutes of recall messages.
    turns, turn_at, is_random : ndarray
        Recall messages of this round, the last one's minute, and whether the round was randomised.
    gap_at, gap_span, gap_lead : ndarray
        Last missed or cancelled booking, days within which a new one follows it, and its lead.
    gap_is_recall : ndarray of bool
    intends : ndarray, shape (patients, grid, 2)
        Chance that one in care has decided to book in what is left of this week.
    booked_at : ndarray of int
        Minute of the last booking.
    was_asked : ndarray of bool
        Whether this week's step counted the patient as free to book.
    """

    log_rate: np.ndarray
    weight: np.ndarray
    due: np.ndarray
    is_booked: np.ndarray
    annoyed_until: np.ndarray
    recalled: list[list[int]]
    turns: np.ndarray
    turn_at: np.ndarray
    is_random: np.ndarray
    gap_at: np.ndarray
    gap_span: np.ndarray
    gap_lead: np.ndarray
    gap_is_recall: np.ndarray
    intends: np.ndarray
    booked_at: np.ndarray
    was_asked: np.ndarray

    @classmethod
    def begin(cls, log_rate: np.ndarray, put_off: np.ndarray) -> Care:
        """Nobody has come yet.

        Parameters
        ----------
        log_rate : ndarray, shape (patients, grid)
        put_off : ndarray, shape (patients, 2)
            Prior of not being put off by messages, and of being so.
        """
        size, grid = log_rate.shape
        weight = np.zeros((size, 3, grid, 2))
        weight[:, IN_CARE] = put_off[:, None, :]
        none = np.zeros(size, int)
        return cls(
            log_rate=log_rate,
            weight=weight,
            due=np.full(size, NEVER),
            is_booked=np.zeros(size, bool),
            annoyed_until=none.copy(),
            recalled=[[] for _ in range(size)],
            turns=none.copy(),
            turn_at=none.copy(),
            is_random=np.zeros(size, bool),
            gap_at=np.full(size, -NEVER),
            gap_span=np.ones(size),
            gap_lead=np.zeros(size),
            gap_is_recall=np.zeros(size, bool),
            intends=np.zeros((size, grid, 2)),
            booked_at=np.full(size, -NEVER),
            was_asked=np.zeros(size, bool),
        )

    def booking(self, model: Model, seen: Observed, minute: int) -> np.ndarray:
        """Chance to book unasked this week: patients x rates x (put off or not)."""
        factor = model.factor(seen, minute)
        annoyed = np.where(self.annoyed_until > minute, model.rates.contacts.annoyed, 1.0)
        factors = factor[:, None, None] * np.stack([np.ones(len(factor)), annoyed], axis=1)[:, None, :]
        weeks = np.where(self.due == NEVER, -(10**6), (minute - self.due) // WEEK)
        chance = booking_chance(model.rates.demand, weeks[:, None, None], np.exp(self.log_rate)[:, :, None], factors)
        return np.where((self.due == NEVER)[:, None, None], 0.0, chance)
