"""Buy-till-you-die: visits at random moments of patients who leave at unseen ones.

All that a fit needs of a patient is (x, t_x, T): repeat visits, time from the
first visit to the last, time from the first visit to now. Three processes are
fitted by maximum likelihood: Pareto/NBD (Schmittlein, Morrison and Colombo,
Management Science 1987), BG/NBD (Fader, Hardie and Lee, Marketing Science 2005)
and MBG/NBD (Batislam, Denizel and Filiztekin, IJRM 2007).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import betaln, gammaln

from features.errors import NotEnoughDataError
from training.metrics import Floats
from training.portable_model import KERNELS, VisitProcess, histories

FEWEST_PATIENTS = 50
FEWEST_REPEATS = 20  # patients who came again; without them no rate can be told from another
LARGEST_LOG = 12.0  # of a parameter, times in units of the mean history: beyond, the likelihood is flat
# A weak normal prior on the logs of the parameters, in patients' worth: it decides where the data do not.
PRIOR_SPREAD = 5.0


class BuyTillYouDie(ABC):
    """A process of visits, fitted to histories by maximum likelihood.

    Parameters
    ----------
    columns : sequence of str
        Where a frame holds the number of visits so far, the days since the
        first and the days since the last of them.

    Attributes
    ----------
    process_ : VisitProcess
        What was fitted, without what fitting needs.
    log_likelihood_ : float
        Sum over patients, at the maximum.
    """

    kind: ClassVar[str]

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns

    def fit(self, frame: pd.DataFrame) -> Self:
        """Find the parameters under which the histories are likeliest.

        Parameters
        ----------
        frame : pandas.DataFrame
            One row per patient, all seen at the same moment.

        Raises
        ------
        NotEnoughDataError
            If there are too few patients, or too few who came again.
        """
        visits, first, last = self.columns
        alike = frame.groupby([visits, first, last], as_index=False, sort=True).size()
        x, t_x, now = histories(alike, self.columns)
        count = alike["size"].to_numpy(float)
        again = int(count[x > 0].sum())
        if count.sum() < FEWEST_PATIENTS or again < FEWEST_REPEATS:
            raise NotEnoughDataError(
                f"{self.kind}: expected the visits of at least {FEWEST_PATIENTS} patients, {FEWEST_REPEATS} of whom "
                f"came again; there are {int(count.sum())}, {again} of whom did. Import more history."
            )
        unit = float(np.average(now, weights=count)) or 1.0

        def loss(logs: Floats) -> float:
            log_likelihood = self.log_likelihood(np.exp(logs), x, t_x / unit, now / unit)
            prior = 0.5 * float(np.sum((logs / PRIOR_SPREAD) ** 2))
            return (prior - float(count @ log_likelihood)) / float(count.sum())

        bounds = [(-LARGEST_LOG, LARGEST_LOG)] * 4
        found = min(
            (minimize(loss, np.log(start), method="L-BFGS-B", bounds=bounds) for start in self.starts),
            key=lambda result: float(result.fun),
        )
        parameters = self._in_days(np.exp(found.x), unit)
        self.process_ = VisitProcess(self.kind, tuple(map(float, parameters)), tuple(self.columns))
        self.log_likelihood_ = float(count @ self.log_likelihood(parameters, x, t_x, now))
        return self

    def predict_any(self, frame: pd.DataFrame, horizon: float) -> Floats:
        """Probability of at least one visit within `horizon` days, one per row."""
        return self.process_.predict_any(frame, horizon)

    def log_likelihood(self, parameters: Floats, x: Floats, t_x: Floats, now: Floats) -> Floats:
        """Log likelihood of histories, one per patient."""
        r, alpha, a, b = parameters
        constant = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + self._constant(a, b, x)
        return np.asarray(constant + KERNELS[self.kind](parameters, x, t_x, now))

    starts: ClassVar[Sequence[tuple[float, ...]]]

    @abstractmethod
    def _constant(self, a: float, b: float, x: Floats) -> Floats:
        """Log of the part that neither the visits' rate nor the present enters."""

    def _in_days(self, parameters: Floats, unit: float) -> Floats:
        """The parameters for times in days, from those in units of `unit` days."""
        return np.asarray(parameters * np.array([1.0, unit, 1.0, 1.0]))


class ParetoNBD(BuyTillYouDie):
    """Patients may leave at any moment; parameters r, alpha, s, beta."""

    kind = "pareto_nbd"
    starts = ((0.5, 0.5, 0.5, 0.5), (0.5, 0.1, 0.3, 0.02))

    def _constant(self, a: float, b: float, x: Floats) -> Floats:
        return np.full(len(x), a * np.log(b))

    def _in_days(self, parameters: Floats, unit: float) -> Floats:
        return np.asarray(parameters * np.array([1.0, unit, 1.0, unit]))


class BGNBD(BuyTillYouDie):
    """Patients may leave after each repeat visit; parameters r, alpha, a, b."""

    kind = "bg_nbd"
    starts = ((0.5, 0.5, 0.5, 1.0),)

    def _constant(self, a: float, b: float, x: Floats) -> Floats:
        return np.asarray(betaln(a, b + x) - betaln(a, b))


class MBGNBD(BuyTillYouDie):
    """Patients may leave after each visit, the first included; parameters r, alpha, a, b."""

    kind = "mbg_nbd"
    starts = ((0.5, 0.5, 0.5, 1.0),)

    def _constant(self, a: float, b: float, x: Floats) -> Floats:
        return np.asarray(betaln(a, b + x + 1) - betaln(a, b))
