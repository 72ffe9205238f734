"""A model about patients or plans beside the rules: pooled over origins, by origin, by group, at capacity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from training.alarms import Alarm
from training.amounts import amount_scores, concentration
from training.evaluation import Comparison, compare
from training.gate import failures
from training.metrics import Floats, scores, weighted_auc

REPETITIONS = 200  # bootstrap draws of whole households
CAPACITY = 0.1  # share of the patients that a team gets round to
FEWEST_IN_GROUP = 50
ROW = ("patient_id", "household_id", "as_of", "label", "has_booking", "visits_kept", "birth_year", "sex")


@dataclass(frozen=True)
class Measures:
    """How answers of a kind are judged.

    Attributes
    ----------
    scores : callable
        All figures, of outcomes and answers.
    compared : tuple of str
        Keys of `training.evaluation.MORE_IS_BETTER`: first the proper score, on which the gate decides.
    ranking : callable
        The figure by which groups are compared.
    """

    scores: Callable[[Floats, Floats], Mapping[str, float]]
    compared: tuple[str, ...]
    ranking: Callable[[Floats, Floats], float]


def _probability_scores(label: Floats, said: Floats) -> Mapping[str, float]:
    return scores(label, said) | at_capacity(label, said)


def _auc(label: Floats, said: Floats) -> float:
    return weighted_auc(label, said, np.ones(len(label)))


PROBABILITY = Measures(_probability_scores, ("log_loss", "auc"), _auc)
AMOUNT = Measures(amount_scores, ("deviance", "rmse"), concentration)


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
        One row per origin, and per stratum or group: rows, observed, observed_to_expected, ...
    alarms : tuple of Alarm
        All that were asked.
    measures : Measures
        How it was judged.
    peers : tuple of str
        Which of the predictions are other models, not rules.
    """

    rows: pd.DataFrame
    predictions: Mapping[str, Floats]
    scores: Mapping[str, Mapping[str, float]]
    comparisons: Mapping[str, Mapping[str, Comparison]]
    by_origin: pd.DataFrame
    by_group: pd.DataFrame
    alarms: tuple[Alarm, ...] = field(default=())
    measures: Measures = PROBABILITY
    peers: tuple[str, ...] = ()

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
        model, score = self.predictions["model"], self.measures.compared[0]
        error = None if self.measures is PROBABILITY else _relative_error(self.rows, model)
        return failures(self.label, model, self.comparisons, self.must_beat, self.alarms, score, error)

    @property
    def best_rule(self) -> str:
        """The rule with the lowest proper score."""
        return min(self.must_beat, key=lambda name: self.scores[name][self.measures.compared[0]])

    @property
    def must_beat(self) -> tuple[str, ...]:
        """The rules; other models are compared, too, but are none."""
        return tuple(name for name in self.comparisons if name not in self.peers)


def evaluate(
    origins: Sequence[Origin], measures: Measures = PROBABILITY, peers: tuple[str, ...] = ()
) -> PatientEvaluation:
    """Pool the tests of several origins.

    Parameters
    ----------
    origins : sequence of Origin
        At least one.
    measures : Measures
    peers : tuple of str
        Names of predictions that are other models.

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
            for metric in measures.compared
        }
        for name in names
        if name != "model"
    }
    by_origin = pd.DataFrame(
        [
            {"origin": origin.moment, "rows": len(origin.rows)}
            | dict(measures.scores(origin.rows["label"].to_numpy(float), origin.predictions["model"]))
            for origin in origins
        ]
    )
    figures = {name: measures.scores(label, said) for name, said in predictions.items()}
    by_group = _by_group(rows, model, measures)
    return PatientEvaluation(
        rows, predictions, figures, comparisons, by_origin, by_group, measures=measures, peers=peers
    )


def rows_of(today: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The rows of an `Origin`: those of `today`, and whether any row of the patient was in `known`."""
    is_unseen = ~today["patient_id"].isin(known["patient_id"].unique())
    return today[[*ROW, "days_since_first_visit"]].assign(is_unseen=is_unseen)


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
    found = {
        "booked": rows["has_booking"].map({True: "booked", False: "not booked"}),
        "visits": visits.astype(object),
        "tenure": tenure.astype(object),
        "learned from": rows["is_unseen"].map({True: "unseen patient", False: "seen patient"}),
        "age": bands.astype(object),
        "sex": rows["sex"].astype(object),
        "new": (rows["visits_kept"] <= 1).map({True: "new", False: "known"}),
    }
    if "is_moving" in rows:
        found["plan"] = rows["is_moving"].map({True: "moved lately", False: "stood still"})
    return found


def _by_group(rows: pd.DataFrame, model: Floats, measures: Measures) -> pd.DataFrame:
    """Per group: how often it happened over how often it was expected, ranking, and the gap in cases found."""
    label, flagged = rows["label"].to_numpy(float), _flagged(model, CAPACITY)
    found_overall = label[flagged].sum() / label.sum()
    table = []
    for kind, values in groups(rows).items():
        for value in sorted(values.dropna().unique()):
            inside = (values == value).to_numpy()
            own, said = label[inside], model[inside]
            if len(own) < FEWEST_IN_GROUP or np.ptp(own) == 0 or own.sum() <= 0:
                continue
            table.append(
                {
                    "group": kind,
                    "value": value,
                    "rows": len(own),
                    "observed": own.mean(),
                    "observed_to_expected": own.mean() / said.mean(),
                    "ranking": measures.ranking(own, said),
                    "found_gap": own[flagged[inside]].sum() / own.sum() - found_overall,
                }
            )
    columns = ["group", "value", "rows", "observed", "observed_to_expected", "ranking", "found_gap"]
    return pd.DataFrame(table, columns=columns)


def _relative_error(rows: pd.DataFrame, said: Floats) -> float:
    """Standard error of all that was observed, relative, households being alike in themselves."""
    surplus = (rows["label"] - said).groupby(rows["household_id"]).sum()
    return float(np.sqrt((surplus**2).sum()) / max(rows["label"].sum(), 1e-9))


def _flagged(probability: Floats, share: float) -> np.ndarray:
    flagged = np.zeros(len(probability), dtype=bool)
    flagged[np.argsort(-probability, kind="stable")[: max(1, int(len(probability) * share))]] = True
    return flagged
