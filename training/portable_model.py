"""The model as it is stored and served: a blend of two learners on the logit, calibrated.

This file travels inside every logged model and is run where `training` is not
installed, so it imports nothing of this project. It keeps only scikit-learn and
LightGBM objects: a pipeline of splines and logistic regression, and a booster in
LightGBM's text format.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import joblib
import lightgbm
import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass
class Blend:
    """Weighted logits of a logistic regression and a booster, shifted and stretched by the calibration.

    ``logit = intercept + slope * (weight * booster + (1 - weight) * logistic)``

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
        Share of the booster, from 0 to 1.
    intercept, slope : float
        The calibration.
    """

    features: Sequence[str]
    logistic: Any
    booster: lightgbm.Booster | None
    weight: float = 0.0
    intercept: float = 0.0
    slope: float = 1.0
    conditions: Sequence[str] = ()

    @property
    def columns(self) -> list[str]:
        """What both learners read, in order."""
        return [*self.features, *self.conditions]

    def _ordered(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame[list(self.features)].assign(**dict.fromkeys(self.conditions, 0.0))

    def raw_logit(self, frame: pd.DataFrame) -> Floats:
        """Blended logit before calibration, one per row."""
        ordered = self._ordered(frame)
        logistic = np.asarray(self.logistic.decision_function(ordered))
        if self.booster is None or self.weight == 0:
            return logistic
        boosted = np.asarray(self.booster.predict(ordered, raw_score=True, validate_features=True, num_threads=1))
        return self.weight * boosted + (1 - self.weight) * logistic

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Calibrated probability, one per row."""
        return np.asarray(1 / (1 + np.exp(-(self.intercept + self.slope * self.raw_logit(frame)))))

    def contributions(self, frame: pd.DataFrame) -> pd.DataFrame:
        """What each feature adds to the logit, one row per row of `frame`.

        Returns
        -------
        pandas.DataFrame
            One column per feature, and ``base``; a row sums to the calibrated
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
        return cls(
            logistic=joblib.load(artifacts["logistic"]),
            booster=lightgbm.Booster(model_file=artifacts["booster"]) if has_booster else None,
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
        answer = pd.DataFrame({"probability": self.blend.predict(model_input)}, index=model_input.index)
        if params and params.get("explain"):
            answer = pd.concat([answer, self.blend.contributions(model_input)], axis=1)
        return answer


mlflow.models.set_model(PortableModel())
