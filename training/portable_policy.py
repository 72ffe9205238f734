"""The recall policy as it is stored and served: by what patients are ranked for contact, and by which channel.

This file travels inside every logged policy and is run where `training` is not
installed, so it imports nothing of this project. It keeps only scikit-learn
objects and numbers.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import joblib
import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RankBy = Literal["uplift", "rule", "response", "return"]
SPREAD_OF_OUTCOME = 1.5  # prior standard deviation of what tells patients apart, in log odds over all columns
RETURN = "return_90d"  # score by which patients are ranked where no contact was ever drawn by chance


def contact_design(columns: Floats, treatment: Floats, share: float, spread: float) -> Floats:
    """Columns of a regression in which being contacted, and contact times everything, are features.

    Contact is centred by its share, so that main effects are those of the whole population.
    """
    scaled = columns / np.sqrt(columns.shape[1])
    contact = (treatment - share)[:, None]
    return np.hstack([SPREAD_OF_OUTCOME * scaled, 3 * contact, spread * scaled * contact])


@dataclass(frozen=True)
class Policy:
    """Whom to contact first, and how.

    Attributes
    ----------
    rank_by : {"uplift", "rule", "response", "return"}
        ``uplift``: by what a contact changes; ``rule``: by one number;
        ``response``: by the chance to come without contact, learned from the
        held-out; ``return``: by the score `RETURN`, since no contact was ever
        drawn by chance.
    features : tuple of str
        Columns in the order learned from.
    channels : tuple of str
        In fixed order: a patient is contacted by the first that is allowed.
    effect : tuple of float or None
        Mean change of the chance to come by a contact, and its 95 % interval;
        None where it is not known.
    draws : int
        Randomised draws behind it.
    is_times_value : bool
        Whether the rank is a chance, so that it is multiplied by what the
        patient is worth before sorting.
    sentences : mapping of str to str
        The verdict in plain words, by language.
    rule : tuple of str and int, or None
        Column and sign of the rule.
    share, spread : float
        Of the regression with contact as a feature.
    model : scikit-learn pipelines, or None
        ``columns`` and ``regression`` of the uplift, or ``response``.
    """

    rank_by: RankBy
    features: tuple[str, ...]
    channels: tuple[str, ...]
    effect: tuple[float, float, float] | None
    draws: int
    is_times_value: bool
    sentences: dict[str, str]
    rule: tuple[str, int] | None = None
    share: float = 0.0
    spread: float = 0.0
    model: Any = None

    def score(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Score patients for contact.

        Parameters
        ----------
        frame : pandas.DataFrame
            One row per patient: the features, and `RETURN` where that is ranked by.

        Returns
        -------
        pandas.DataFrame
            Same index: ``rank_score`` (higher is called first) and ``uplift``
            (the patient's own where it is ranked by, else everybody's; NaN where unknown).
        """
        everybody = self.effect[0] if self.effect else np.nan
        ranking = self._ranking(frame)
        own = ranking if self.rank_by == "uplift" else np.full(len(frame), everybody)
        return pd.DataFrame({"rank_score": ranking, "uplift": own}, index=frame.index)

    def _ranking(self, frame: pd.DataFrame) -> Floats:
        if self.rank_by == "return":
            if RETURN not in frame or frame[RETURN].isna().all():
                raise ValueError(
                    f"Expected column {RETURN}: there are no randomised contacts to rank by. Add its score."
                )
            return frame[RETURN].to_numpy(float)
        ordered = frame[list(self.features)].astype(float)
        if self.rank_by == "rule" and self.rule:
            values = self.rule[1] * ordered[self.rule[0]].to_numpy(float)
            return np.where(np.isnan(values), -np.inf, values)
        if self.rank_by == "response":
            return np.asarray(self.model["response"].predict_proba(ordered)[:, 1])
        columns, one = self.model["columns"].transform(ordered), np.ones(len(ordered))
        contacted, without = (
            self.model["regression"].predict_proba(contact_design(columns, arm * one, self.share, self.spread))[:, 1]
            for arm in (1.0, 0.0)
        )
        return np.asarray(contacted - without)

    @property
    def described(self) -> dict[str, Any]:
        """All but the model, as JSON keeps it."""
        return {name: value for name, value in asdict(self).items() if name != "model"}

    def save(self, folder: Path) -> dict[str, str]:
        """Write the parts into `folder` and name them, for MLflow's ``artifacts``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "policy.json").write_text(json.dumps(self.described, ensure_ascii=False, indent=1), encoding="utf-8")
        joblib.dump(self.model, folder / "ranker.joblib")
        return {"policy": str(folder / "policy.json"), "ranker": str(folder / "ranker.joblib")}

    @classmethod
    def load(cls, artifacts: dict[str, str]) -> Self:
        """Read back what `save` wrote."""
        told = json.loads(Path(artifacts["policy"]).read_text(encoding="utf-8"))
        listed = {name: tuple(value) for name, value in told.items() if isinstance(value, list)}
        return cls(**told | listed, model=joblib.load(artifacts["ranker"]))


class PortablePolicy(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The policy behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Read the policy from its artifacts."""
        self.policy = Policy.load(context.artifacts)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Score rows of features; without type hints, which MLflow would take for a schema of its own."""
        return self.policy.score(model_input)


mlflow.models.set_model(PortablePolicy())
