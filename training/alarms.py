"""Leak alarms: signs that a model saw what it cannot know when it is used.

Each alarm is one question put to a training set. None proves a leak and none
proves its absence; a model with a ringing alarm is not promoted until somebody
has written down why it rings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from training.metrics import Floats, weighted_auc

MISSINGNESS_AUC = 0.6  # a clinic's data goes missing for reasons, but rarely for the reason that is predicted
SINGLE_FEATURE_AUC = 0.75
FEWEST_MISSING = 30  # rows; below, an AUC of missingness is noise
STANDARD_ERRORS = 3.0
RANDOM_MINUS_TIME = 0.03  # measured on public no-show data: .02 without any leak, .04 and more with one
REPETITIONS = 8
SEED = 7

# Fits on the first frame and labels, answers for the second frame.
FitPredict = Callable[[pd.DataFrame, Floats, pd.DataFrame], Floats]


@dataclass(frozen=True)
class Alarm:
    """The answer to one question.

    Attributes
    ----------
    name : str
        Of the alarm; of the feature too where it is about one.
    value : float
        What was measured.
    limit : float
        Above it the alarm rings.
    is_ringing : bool
        Whether it does.
    explanation : str
        What was compared with what; names no values of the data.
    """

    name: str
    value: float
    limit: float
    is_ringing: bool
    explanation: str


def time_travel(rebuild: Callable[[bool], pd.DataFrame]) -> Alarm:
    """Features must be the same whether or not the records hold what came after `as_of`.

    Parameters
    ----------
    rebuild : callable
        Builds the same rows' features in the same order; told True, from
        records without anything known at or after each row's moment.
    """
    with_future, without = rebuild(False), rebuild(True)
    share = _share_differing(with_future, without)
    return Alarm("time_travel", share, 0.0, share > 0, "share of features that change when the future is deleted")


def recorded_time(by_event: pd.DataFrame, by_record: pd.DataFrame) -> Alarm:
    """Features must count history by when it was recorded, not by when it happened.

    Parameters
    ----------
    by_event, by_record : pandas.DataFrame
        The features of the same rows as they are, and built from records
        whose late entries are deleted: events before `as_of` that were
        recorded at or after it.
    """
    share = _share_differing(by_event, by_record)
    return Alarm("recorded_time", share, 0.0, share > 0, "share of features that read outcomes recorded later")


def missingness(
    features: pd.DataFrame, label: Floats, reasons: Mapping[str, str] | None = None, limit: float = MISSINGNESS_AUC
) -> list[Alarm]:
    """Whether a value is there must not tell the outcome: fields filled in afterwards do.

    A public set of salon visits has booking times for 94 % of the kept and
    51 % of the missed ones; with that column a model looks 0.2 of AUC better
    than it is.

    Parameters
    ----------
    features : pandas.DataFrame
        One row per example.
    label : ndarray of shape (n_examples,)
    reasons : mapping of str to str, optional
        Why the missing values of a feature may tell (no past visit, so no gap).
    limit : float
        AUC above which it rings.

    Returns
    -------
    list of Alarm
        One per feature that has missing and present values.
    """
    found = []
    for name in features.columns:
        is_missing = np.asarray(features[name].isna(), dtype=float)
        if FEWEST_MISSING <= is_missing.sum() <= len(label) - FEWEST_MISSING:
            auc = _either_way(label, is_missing)
            told = "AUC of whether the value is missing"
            found.append(_named("missingness", name, auc, limit, told, reasons))
    return found


def single_features(
    features: pd.DataFrame, label: Floats, reasons: Mapping[str, str] | None = None, limit: float = SINGLE_FEATURE_AUC
) -> list[Alarm]:
    """One feature that ranks as well as a whole model needs a written reason.

    Parameters are those of `missingness`; missing values count as smallest.
    """
    found = []
    for name in features.columns:
        values = features[name].to_numpy(float)
        auc = _either_way(label, np.where(np.isnan(values), -np.inf, values))
        found.append(_named("single_feature", name, auc, limit, "AUC of the feature alone", reasons))
    return found


def permuted_labels(
    train: pd.DataFrame,
    label: Floats,
    clusters: Sequence[object] | pd.Series,
    test: pd.DataFrame,
    test_label: Floats,
    fit_predict: FitPredict,
    repetitions: int = REPETITIONS,
) -> Alarm:
    """Trained on labels dealt out anew among patients, a model must rank at random.

    Whole patients swap labels with others of as many rows; those who have no
    match deal theirs out row by row. One dealing is not enough: a model of few
    strong features then points one way or the other by chance, and either way
    its AUC is far from .50. So the mean over several is compared, the limit
    being three standard errors of that mean, and never less than those of an
    AUC without signal (Hanley and McNeil 1982).

    Parameters
    ----------
    train, test : pandas.DataFrame
        Features of the examples to learn from and of those to answer for.
    label, test_label : ndarray
        Their outcomes.
    clusters : sequence
        Whose rows the training examples are.
    fit_predict : callable
        Fits on the first two arguments, answers for the third.
    repetitions : int
        Dealings, and so fits.
    """
    random, one = np.random.default_rng(SEED), np.ones(len(test_label))
    dealings = [_dealt(label, clusters, random) for _ in range(repetitions)]
    aucs = [weighted_auc(test_label, fit_predict(train, dealt, test), one) for dealt in dealings]
    came = float(test_label.sum())
    of_one = float(np.sqrt((len(test_label) + 1) / (12 * came * (len(test_label) - came))))
    of_mean = float(np.std(aucs, ddof=1) / np.sqrt(repetitions)) if repetitions > 1 else 0.0
    off, limit = abs(float(np.mean(aucs)) - 0.5), STANDARD_ERRORS * max(of_one, of_mean)
    return Alarm("permuted_labels", off, limit, off > limit, "distance of the AUC from .50 after permuting the labels")


def random_minus_time(
    features: pd.DataFrame,
    label: Floats,
    moments: pd.Series,
    known_at: pd.Series,
    fit_predict: FitPredict,
    test_share: float = 0.25,
    limit: float = RANDOM_MINUS_TIME,
) -> Alarm:
    """How much better a random split looks than a split in time: what a leak through shuffled rows would bring.

    Parameters
    ----------
    features : pandas.DataFrame
        One row per example.
    label : ndarray of shape (n_examples,)
    moments, known_at : pandas.Series
        When each example is decided on, and when its outcome became known.
    fit_predict : callable
        Fits on the first two arguments, answers for the third.
    test_share : float
        Of the examples: the newest, or as many at random.
    limit : float
        Gap in AUC above which it rings.
    """
    start = moments.sort_values().iloc[int(len(moments) * (1 - test_share))]
    newest = (moments >= start).to_numpy()
    older = (known_at <= start).to_numpy()
    drawn = np.random.default_rng(SEED).permutation(len(label))
    held_back = np.zeros(len(label), dtype=bool)
    held_back[drawn[: int(newest.sum())]] = True
    learned = np.zeros(len(label), dtype=bool)
    learned[drawn[int(newest.sum()) :][: int(older.sum())]] = True  # as many to learn from as in time order
    by_time = _tested(features, label, older, newest, fit_predict)
    at_random = _tested(features, label, learned, held_back, fit_predict)
    gap = at_random - by_time
    return Alarm("random_minus_time", gap, limit, gap > limit, "AUC of a random split minus AUC of a split in time")


def tripwire(auc: float, highest_plausible: float) -> Alarm:
    """A result above everything known to be honest is a leak until shown otherwise."""
    return Alarm(
        "tripwire", auc, highest_plausible, auc > highest_plausible, "AUC against the highest known honest one"
    )


def ringing(alarms: Sequence[Alarm]) -> tuple[str, ...]:
    """One sentence per alarm that rings, for the promotion gate and the model card."""
    return tuple(
        f"{alarm.name}: {alarm.explanation} is {alarm.value:.3f}, above {alarm.limit:.3f}: look for a leak"
        for alarm in alarms
        if alarm.is_ringing
    )


def _tested(
    features: pd.DataFrame, label: Floats, learned: np.ndarray, held_back: np.ndarray, fit_predict: FitPredict
) -> float:
    answers = fit_predict(features[learned], label[learned], features[held_back])
    return weighted_auc(label[held_back], answers, np.ones(int(held_back.sum())))


def _named(kind: str, name: str, value: float, limit: float, told: str, reasons: Mapping[str, str] | None) -> Alarm:
    reason = (reasons or {}).get(name)
    told = f"{told} (written reason: {reason})" if reason else told
    return Alarm(f"{kind} {name}", value, limit, value > limit and reason is None, told)


def _either_way(label: Floats, values: Floats) -> float:
    auc = weighted_auc(label, values, np.ones(len(label)))
    return max(auc, 1 - auc)


def _dealt(label: Floats, clusters: Sequence[object] | pd.Series, random: np.random.Generator) -> Floats:
    """Labels exchanged between clusters with equally many rows, in the order of their rows."""
    codes, _ = pd.factorize(np.asarray(clusters))
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    dealt = label.copy()
    for size in np.unique(sizes):
        mine = order[starts[sizes == size][:, None] + np.arange(size)]
        dealt[mine] = label[mine[random.permutation(len(mine))]]
    alone = np.flatnonzero(np.isin(sizes, np.flatnonzero(np.bincount(sizes) == 1))[codes])
    dealt[alone] = random.permutation(label[alone])
    return dealt


def _share_differing(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Share of columns that are not byte for byte the same."""
    if list(one.columns) != list(other.columns) or len(one) != len(other):
        return 1.0
    differing = [
        name for name in one.columns if not np.array_equal(one[name].to_numpy(), other[name].to_numpy(), equal_nan=True)
    ]
    return len(differing) / len(one.columns)
