"""The model as it is stored and served: a blend of learners on the logit, calibrated.

This file travels inside every logged model and is run where `training` is not
installed, so it imports nothing of this project. It keeps only scikit-learn and
LightGBM objects and numbers: a pipeline of splines and logistic regression, a
booster in LightGBM's text format, and the four parameters of a visit process.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import joblib
import lightgbm
import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PROCESS = "any_visit_log_odds"  # the column that a visit process adds to a frame of features
SMALLEST = 1e-9  # probability
NODES = 32  # of the quadrature; 1e-8 of the integral on every parameter set tried


def pareto_kernel(parameters: Floats, x: Floats, last: Floats, now: Floats) -> Floats:
    """Log of the Pareto/NBD likelihood, up to what does not depend on `now`.

    Parameters are r and alpha (visit rates: gamma), s and beta (rates of leaving:
    gamma). The time of leaving between the last visit and now is integrated out
    numerically, on a scale that follows how fast the integrand falls off: the
    closed form is a difference of two hypergeometric functions that loses all
    digits for a visit of yesterday.
    """
    r, alpha, s, beta = parameters
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    scale = 1 / ((r + x) / (alpha + last) + (s + 1) / (beta + last))
    width = np.log1p((now - last) / scale)
    step = 0.5 * width * (nodes[:, None] + 1)
    left = last + scale * np.expm1(step)
    logs = step - (r + x) * np.log(alpha + left) - (s + 1) * np.log(beta + left)
    top = logs.max(axis=0)
    with np.errstate(divide="ignore"):  # a visit of this very moment leaves no time to have left since
        gone = top + np.log(s * 0.5 * width * scale * (weights @ np.exp(logs - top)))
    return np.asarray(np.logaddexp(-(r + x) * np.log(alpha + now) - s * np.log(beta + now), gone))


def bg_kernel(parameters: Floats, x: Floats, last: Floats, now: Floats) -> Floats:
    """Log of the BG/NBD likelihood, up to what does not depend on `now`; leaving follows repeat visits alone."""
    r, alpha, a, b = parameters
    stays = -(r + x) * np.log(alpha + now)
    leaves = np.log(a / (b + np.maximum(x, 1) - 1)) - (r + x) * np.log(alpha + last)
    return np.asarray(np.where(x > 0, np.logaddexp(stays, leaves), stays))


def mbg_kernel(parameters: Floats, x: Floats, last: Floats, now: Floats) -> Floats:
    """The same for MBG/NBD, where patients may leave after their first visit too."""
    r, alpha, a, b = parameters
    stays = -(r + x) * np.log(alpha + now)
    return np.asarray(np.logaddexp(stays, np.log(a / (b + x)) - (r + x) * np.log(alpha + last)))


# The recall window of a lapse ends this many days, or this share of the interval if that is more, after the due date.
GRACE_DAYS, GRACE_SHARE = 90, 0.5
KERNELS = {"pareto_nbd": pareto_kernel, "bg_nbd": bg_kernel, "mbg_nbd": mbg_kernel}


@dataclass(frozen=True)
class VisitProcess:
    """A fitted process of visits at random moments by patients who leave unseen (see `training.btyd`).

    Attributes
    ----------
    kind : str
        Key of `KERNELS`.
    parameters : sequence of float
        Of the process, times in days.
    columns : sequence of str
        Where a frame holds the number of visits so far, the days since the first
        and the days since the last of them.
    due : sequence of str
        For lapse: where a frame holds the days past the due date and the
        interval. The window then ends with the patient's recall window, and
        the log odds are those of no visit in it.
    """

    kind: str
    parameters: Sequence[float]
    columns: Sequence[str]
    due: Sequence[str] = ()

    def predict_any(self, frame: pd.DataFrame, horizon: float) -> Floats:
        """Probability of at least one visit within `horizon` days, or in the recall window, one per row.

        The likelihood of a history is also the chance of its silence since the
        last visit, so P(still silent `horizon` days from now) is the ratio of
        two likelihoods. Never P(alive): BG/NBD calls whoever came once surely
        alive, and as a score that is worse than chance on public sets.
        """
        return -np.expm1(self._log_silence(frame, horizon))

    def log_odds(self, frame: pd.DataFrame, horizon: float) -> Floats:
        """Log odds of at least one visit within `horizon` days, or of none in the recall window, one per row."""
        silence = self._log_silence(frame, horizon)
        visit = np.log(np.maximum(-np.expm1(silence), SMALLEST)) - silence
        return -visit if self.due else visit

    def _log_silence(self, frame: pd.DataFrame, horizon: float | Floats) -> Floats:
        x, last, now = histories(frame, self.columns)
        if self.due:
            overdue, interval = (frame[name].to_numpy(float) for name in self.due)
            horizon = np.maximum(np.ceil(np.maximum(GRACE_DAYS, GRACE_SHARE * interval) - overdue), 1)
        kernel, parameters = KERNELS[self.kind], np.asarray(self.parameters)
        return np.asarray(kernel(parameters, x, last, now + horizon) - kernel(parameters, x, last, now))


def histories(frame: pd.DataFrame, columns: Sequence[str]) -> tuple[Floats, Floats, Floats]:
    """Repeat visits, days from the first visit to the last, days from the first visit to now: x, t_x and T."""
    visits, since_first, since_last = (frame[name].to_numpy(float) for name in columns)
    repeats = np.maximum(visits - 1, 0)
    return repeats, np.where(repeats > 0, np.maximum(since_first - since_last, 0), 0.0), since_first


@dataclass
class Blend:
    """Weighted logits of a logistic regression, a booster and a visit process, shifted and stretched.

    ``learned = weight * booster + (1 - weight) * logistic``
    ``logit = intercept + slope * (process_weight * process + (1 - process_weight) * learned)``

    Attributes
    ----------
    features : sequence of str
        Columns in the order both learners were fitted on.
    conditions : sequence of str
        Columns that only training examples carry, fitted on behind the
        features; a score assumes 0 for them.
    logistic : sklearn.pipeline.Pipeline
        Ends in a `LogisticRegression`; the steps before it make its columns.
    booster : lightgbm.Booster or None
        None where there is too little history for it.
    weight : float
        Share of the booster in what was learned, from 0 to 1.
    intercept, slope : float
        The calibration.
    process : VisitProcess or None
        Its log odds of any visit within `horizon` days are a further column
        (`PROCESS`, the last) for both learners, and a member of their own.
    process_weight : float
        Share of that member, from 0 to 1.
    process_level : float
        Its mean on the training examples, from which contributions are counted.
    """

    features: Sequence[str]
    logistic: Any
    booster: lightgbm.Booster | None
    weight: float = 0.0
    intercept: float = 0.0
    slope: float = 1.0
    conditions: Sequence[str] = ()
    process: VisitProcess | None = None
    horizon: float = 0.0
    process_weight: float = 0.0
    process_level: float = 0.0

    @property
    def columns(self) -> list[str]:
        """What both learners read, in order."""
        return [*self.features, *self.conditions, *([PROCESS] if self.process else [])]

    def _ordered(self, frame: pd.DataFrame) -> pd.DataFrame:
        ordered = frame[list(self.features)].assign(**dict.fromkeys(self.conditions, 0.0))
        return ordered.assign(**{PROCESS: self.process.log_odds(frame, self.horizon)}) if self.process else ordered

    def raw_logit(self, frame: pd.DataFrame) -> Floats:
        """Blended logit before calibration, one per row."""
        ordered = self._ordered(frame)
        learned = np.asarray(self.logistic.decision_function(ordered))
        if self.booster is not None and self.weight > 0:
            boosted = np.asarray(self.booster.predict(ordered, raw_score=True, validate_features=True, num_threads=1))
            learned = self.weight * boosted + (1 - self.weight) * learned
        if self.process is None:
            return learned
        return self.process_weight * ordered[PROCESS].to_numpy() + (1 - self.process_weight) * learned

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Calibrated probability, one per row."""
        return np.asarray(1 / (1 + np.exp(-(self.intercept + self.slope * self.raw_logit(frame)))))

    def contributions(self, frame: pd.DataFrame) -> pd.DataFrame:
        """What each feature adds to the logit, one row per row of `frame`.

        Returns
        -------
        pandas.DataFrame
            One column per feature (`PROCESS` among them where there is a
            process), and ``base``; a row sums to the calibrated
            logit. The booster's part is TreeSHAP (Lundberg et al., Nature
            Machine Intelligence 2020), the logistic part coefficient times
            distance from the mean.
        """
        ordered = self._ordered(frame)
        parts, base = self._logistic_contributions(ordered)
        if self.booster is not None and self.weight > 0:
            shap = np.asarray(self.booster.predict(ordered, pred_contrib=True, validate_features=True, num_threads=1))
            parts = self.weight * shap[:, :-1] + (1 - self.weight) * parts
            base = self.weight * shap[:, -1] + (1 - self.weight) * base
        if self.process is not None:
            parts, base = (1 - self.process_weight) * parts, (1 - self.process_weight) * base
            parts[:, -1] += self.process_weight * (ordered[PROCESS].to_numpy() - self.process_level)
            base = base + self.process_weight * self.process_level
        answer = pd.DataFrame(self.slope * parts, columns=self.columns, index=frame.index)
        answer["base"] = self.intercept + self.slope * base + answer[list(self.conditions)].sum(axis=1)
        return answer.drop(columns=list(self.conditions))

    def _logistic_contributions(self, ordered: pd.DataFrame) -> tuple[Floats, Floats]:
        columns = self.logistic[:-1].transform(ordered)
        regression = self.logistic[-1]
        names = self.logistic[:-1].get_feature_names_out()
        origin = [self._origin(str(name)) for name in names]
        parts = np.zeros((len(ordered), len(self.columns)))
        for index, coefficient in enumerate(regression.coef_[0]):
            parts[:, origin[index]] += coefficient * columns[:, index]
        return parts, np.full(len(ordered), regression.intercept_[0])

    def _origin(self, column: str) -> int:
        """Position of the feature that a column comes from; a product belongs to its first.

        Columns are called ``<feature>__...``, and those made for a product
        ``<first>*<second>__<first>__...``, ``<first>*<second>__<second>__...``
        or ``<first>*<second>__<first>__... <second>__...``.
        """
        part, rest = column.split("__", maxsplit=1)
        return self.columns.index(rest.split("__")[0] if "*" in part else part)

    def save(self, folder: Path) -> dict[str, str]:
        """Write the parts into `folder` and name them, for MLflow's ``artifacts``."""
        folder.mkdir(parents=True, exist_ok=True)
        joblib.dump(self.logistic, folder / "logistic.joblib")
        settings = {
            "features": list(self.features),
            "conditions": list(self.conditions),
            "weight": self.weight,
            "intercept": self.intercept,
            "slope": self.slope,
            "process": asdict(self.process) if self.process else None,
            "horizon": self.horizon,
            "process_weight": self.process_weight,
            "process_level": self.process_level,
            "has_booster": self.booster is not None,
        }
        (folder / "blend.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
        names = ["logistic.joblib", "blend.json"]
        if self.booster is not None:
            self.booster.save_model(folder / "booster.txt")
            names.append("booster.txt")
        return {Path(name).stem: str(folder / name) for name in names}

    @classmethod
    def load(cls, artifacts: dict[str, str]) -> Self:
        """Read back what `save` wrote."""
        settings = json.loads(Path(artifacts["blend"]).read_text(encoding="utf-8"))
        has_booster = settings.pop("has_booster")
        process = settings.pop("process", None)
        return cls(
            logistic=joblib.load(artifacts["logistic"]),
            booster=lightgbm.Booster(model_file=artifacts["booster"]) if has_booster else None,
            process=VisitProcess(**process) if process else None,
            **settings,
        )


class PortableModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The blend behind MLflow's interface: probabilities, and on request what each feature adds."""

    def load_context(self, context: Any) -> None:
        """Read the blend from the model's artifacts."""
        self.blend = Blend.load(context.artifacts)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Score rows of features; without type hints, which MLflow would take for a schema of its own.

        Returns
        -------
        pandas.DataFrame
            Column ``probability``; with ``params={"explain": True}`` also one
            column per feature and ``base``, which sum to the logit.
        """
        if params and params.get("explain"):
            parts = self.blend.contributions(model_input)  # they sum to the logit: one pass is enough
            parts.insert(0, "probability", 1 / (1 + np.exp(-parts.sum(axis=1))))
            return parts
        return pd.DataFrame({"probability": self.blend.predict(model_input)}, index=model_input.index)


mlflow.models.set_model(PortableModel())
