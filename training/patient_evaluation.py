"""A model about patients beside the rules: pooled over origins, by origin, by group, at capacity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from training.alarms import Alarm
from training.evaluation import Comparison, compare
from training.gate import failures
from training.metrics import Floats, scores, weighted_auc

REPETITIONS = 200  # bootstrap draws of whole households
CAPACITY = 0.1  # share of the patients that a team gets round to
FEWEST_IN_GROUP = 50
ROW = ("patient_id", "household_id", "as_of", "label", "has_booking", "visits_kept", "birth_year", "sex")


@dataclass(frozen=True)
class Origin:
    """One moment of training: the rows it answered for, and what the model and every rule said.

    Attributes
    ----------
    moment : pandas.Timestamp
        Model and rules had seen labels known by then alone.
    rows : pandas.DataFrame
        The columns `ROW`, days_since_first_visit, and is_unseen: no row of the patient was learned from.
    predictions : mapping of str to ndarray
        By name; ``model`` first.
    """

    moment: pd.Timestamp
    rows: pd.DataFrame
    predictions: Mapping[str, Floats]


@dataclass(frozen=True)
class PatientEvaluation:
    """What the tests at all origins showed.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row per patient and origin.
    predictions : mapping of str to ndarray
        Of the same rows, by name; ``model`` first.
    scores : mapping of str to mapping
        Figures per name.
    comparisons : mapping of str to mapping
        Per rule and metric, the model minus the rule; households redrawn.
    by_origin, by_group : pandas.DataFrame
        One row per origin, and per stratum or group: rows, observed, expected, auc, ...
    alarms : tuple of Alarm
        All that were asked.
    """

    rows: pd.DataFrame
    predictions: Mapping[str, Floats]
    scores: Mapping[str, Mapping[str, float]]
    comparisons: Mapping[str, Mapping[str, Comparison]]
    by_origin: pd.DataFrame
    by_group: pd.DataFrame
    alarms: tuple[Alarm, ...] = field(default=())

    @property
    def label(self) -> Floats:
        """Outcomes of the test rows."""
        return self.rows["label"].to_numpy(float)

    @property
    def start(self) -> pd.Timestamp:
        """The first origin."""
        moment: pd.Timestamp = self.rows["as_of"].min()
        return moment

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the model may not be used; empty if it may."""
        return failures(self.label, self.predictions["model"], self.comparisons, self.comparisons, self.alarms)

    @property
    def best_rule(self) -> str:
        """The rule with the lowest log loss."""
        return min(self.comparisons, key=lambda name: self.scores[name]["log_loss"])


def evaluate(origins: Sequence[Origin]) -> PatientEvaluation:
    """Pool the tests of several origins.

    Parameters
    ----------
    origins : sequence of Origin
        At least one.

    Returns
    -------
    PatientEvaluation
        Without alarms.
    """
    rows = pd.concat([origin.rows for origin in origins], ignore_index=True)
    names = [name for name in origins[0].predictions if all(name in origin.predictions for origin in origins)]
    predictions = {name: np.concatenate([origin.predictions[name] for origin in origins]) for name in names}
    label, model = rows["label"].to_numpy(float), predictions["model"]
    comparisons = {
        name: {
            metric: compare(metric, label, model, predictions[name], rows["household_id"], REPETITIONS)
            for metric in ("log_loss", "auc")
        }
        for name in names
        if name != "model"
    }
    by_origin = pd.DataFrame(
        [
            {"origin": origin.moment, "rows": len(origin.rows)}
            | scores(origin.rows["label"].to_numpy(float), origin.predictions["model"])
            for origin in origins
        ]
    )
    figures = {name: scores(label, said) | at_capacity(label, said) for name, said in predictions.items()}
    return PatientEvaluation(rows, predictions, figures, comparisons, by_origin, _by_group(rows, model))


def at_capacity(label: Floats, probability: Floats, share: float = CAPACITY) -> dict[str, float]:
    """Precision and recall among the `share` with the highest probability."""
    flagged = _flagged(probability, share)
    return {"precision10": float(label[flagged].mean()), "recall10": float(label[flagged].sum() / label.sum())}


def groups(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Strata and groups by which a model is looked at; a row is in one value of each.

    Age band and sex are no reasons to act upon; they are here to see whether the model is as right for all.
    """
    age = rows["as_of"].dt.year - rows["birth_year"].astype(float)
    bands = pd.cut(age, [-1, 17, 39, 64, 200], labels=["0-17", "18-39", "40-64", "65+"])
    tenure = pd.cut(rows["days_since_first_visit"], [-1, 180, 730, 1e6], labels=["to 6 months", "to 2 years", "longer"])
    visits = pd.cut(rows["visits_kept"], [-1, 0, 2, 1e6], labels=["0", "1-2", "3+"])
    return {
        "booked": rows["has_booking"].map({True: "booked", False: "not booked"}),
        "visits": visits.astype(object),
        "tenure": tenure.astype(object),
        "learned from": rows["is_unseen"].map({True: "unseen patient", False: "seen patient"}),
        "age": bands.astype(object),
        "sex": rows["sex"].astype(object),
        "new": (rows["visits_kept"] <= 1).map({True: "new", False: "known"}),
    }


def _by_group(rows: pd.DataFrame, model: Floats) -> pd.DataFrame:
    """Per group: how often it happened over how often it was expected, ranking, and the gap in cases found."""
    label, flagged = rows["label"].to_numpy(float), _flagged(model, CAPACITY)
    found_overall = label[flagged].sum() / label.sum()
    table = []
    for kind, values in groups(rows).items():
        for value in sorted(values.dropna().unique()):
            inside = (values == value).to_numpy()
            own, said = label[inside], model[inside]
            if len(own) < FEWEST_IN_GROUP or not 0 < own.sum() < len(own):
                continue
            table.append(
                {
                    "group": kind,
                    "value": value,
                    "rows": len(own),
                    "observed": own.mean(),
                    "observed_to_expected": own.mean() / said.mean(),
                    "auc": weighted_auc(own, said, np.ones(len(own))),
                    "found_gap": own[flagged[inside]].sum() / own.sum() - found_overall,
                }
            )
    columns = ["group", "value", "rows", "observed", "observed_to_expected", "auc", "found_gap"]
    return pd.DataFrame(table, columns=columns)


def _flagged(probability: Floats, share: float) -> np.ndarray:
    flagged = np.zeros(len(probability), dtype=bool)
    flagged[np.argsort(-probability, kind="stable")[: max(1, int(len(probability) * share))]] = True
    return flagged
