"""Figures of a trained model: ROC curve, reliability, lift."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from training.metrics import CALIBRATION_BINS, Floats

COLOURS = ("#0f766e", "#b45309", "#475569", "#be123c")


def figures(label: Floats, predictions: Mapping[str, Floats]) -> dict[str, Figure]:
    """Draw all figures of one evaluation.

    Parameters
    ----------
    label : ndarray of shape (n_examples,)
        Outcomes.
    predictions : mapping of str to ndarray
        Probabilities by name, the model first, the rules after it.

    Returns
    -------
    dict of str to Figure
        By file name.
    """
    return {
        "roc.png": _roc(label, predictions),
        "reliability.png": _reliability(label, next(iter(predictions.values()))),
        "lift.png": _lift(label, predictions),
    }


def amount_figures(amount: Floats, expected: Mapping[str, Floats]) -> dict[str, Figure]:
    """Draw all figures of expected amounts; parameters as in `figures`, amounts in cents."""
    return {
        "reliability.png": _amount_reliability(amount, next(iter(expected.values()))),
        "concentration.png": _concentration(amount, expected),
    }


def _amount_reliability(amount: Floats, expected: Floats) -> Figure:
    figure, axes = _square("Reliability", "expected (mean of a fifteenth)", "paid")
    groups = [g for g in np.array_split(np.argsort(expected, kind="stable"), CALIBRATION_BINS) if len(g)]
    told = np.array([expected[g].mean() for g in groups]) / 100
    paid = np.array([amount[g].mean() for g in groups]) / 100
    spread = 1.96 * np.array([amount[g].std() / np.sqrt(len(g)) for g in groups]) / 100
    top = 1.1 * max(told.max(), (paid + spread).max())
    axes.plot([0, top], [0, top], color="#cbd5e1", linewidth=1)
    axes.errorbar(told, paid, spread, fmt="o", color=COLOURS[0], markersize=4, capsize=2)
    axes.set(xlim=(0, top), ylim=(0, top))
    return figure


def _concentration(amount: Floats, expected: Mapping[str, Floats]) -> Figure:
    figure, axes = _square("Money found by calling the highest first", "share called", "share of what was paid")
    paid, called = np.maximum(amount, 0.0), np.arange(1, len(amount) + 1) / len(amount)
    for colour, (name, said) in zip(COLOURS, expected.items(), strict=False):
        gathered = np.cumsum(paid[np.argsort(-said, kind="stable")]) / paid.sum()
        axes.plot(called, gathered, color=colour, label=name)
    axes.plot([0, 1], [0, 1], color="#cbd5e1", linewidth=1)
    axes.legend(frameon=False)
    return figure


def gain_figure(curves: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """Draw gain curves of rankings for contact.

    Parameters
    ----------
    curves : mapping of str to (share, gain)
        `training.gain_curves.GainCurve` of each ranking.
    """
    figure, axes = _square("Patients won by calling down a ranking", "share contacted", "additional patients, per draw")
    for colour, (name, (share, gain)) in zip((*COLOURS, "#7c3aed"), curves.items(), strict=False):
        axes.plot(share, gain, color=colour, label=name)
        end = float(gain[-1])
    axes.plot([0, 1], [0, end], color="#cbd5e1", linewidth=1)
    axes.legend(frameon=False)
    return figure


def _roc(label: Floats, predictions: Mapping[str, Floats]) -> Figure:
    figure, axes = _square("ROC curve", "share of the others flagged", "share of the cases flagged")
    for colour, (name, probability) in zip(COLOURS, predictions.items(), strict=False):
        others, cases, _ = roc_curve(label, probability)
        axes.plot(others, cases, color=colour, label=name)
    axes.plot([0, 1], [0, 1], color="#cbd5e1", linewidth=1)
    axes.legend(frameon=False)
    return figure


def _reliability(label: Floats, probability: Floats) -> Figure:
    figure, axes = _square("Reliability", "predicted share", "observed share")
    groups = [g for g in np.array_split(np.argsort(probability, kind="stable"), CALIBRATION_BINS) if len(g)]
    predicted = np.array([probability[g].mean() for g in groups])
    observed = np.array([label[g].mean() for g in groups])
    spread = 1.96 * np.sqrt(observed * (1 - observed) / np.array([len(g) for g in groups]))
    top = 1.1 * max(predicted.max(), (observed + spread).max())
    axes.plot([0, top], [0, top], color="#cbd5e1", linewidth=1)
    axes.errorbar(predicted, observed, spread, fmt="o", color=COLOURS[0], markersize=4, capsize=2)
    axes.set(xlim=(0, top), ylim=(0, top))
    return figure


def _lift(label: Floats, predictions: Mapping[str, Floats]) -> Figure:
    figure, axes = _square("Cases found by flagging the highest scores", "share flagged", "share of the cases")
    flagged = np.arange(1, len(label) + 1) / len(label)
    for colour, (name, probability) in zip(COLOURS, predictions.items(), strict=False):
        reached = np.cumsum(label[np.argsort(-probability, kind="stable")]) / label.sum()
        axes.plot(flagged, reached, color=colour, label=name)
    axes.plot([0, 1], [0, 1], color="#cbd5e1", linewidth=1)
    axes.legend(frameon=False)
    return figure


def _square(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
