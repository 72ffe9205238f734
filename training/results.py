"""From a proof to the registry: what every question's training logs, under the same names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from features.contracts import ModelContract
from training.model_card import Proof, card
from training.portable_model import Blend
from training.registry import Made, Part, Portable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def made(
    contract: ModelContract,
    proof: Proof,
    model: Portable,
    known: pd.DataFrame,
    now: datetime,
    versions: Mapping[str, int],
    drawn: Mapping[str, Figure],
    parameters: Mapping[str, Any],
    rule: Blend | None = None,
) -> Made:
    """Bring a training's result into the shape that `training.registry.log_version` takes.

    Parameters
    ----------
    contract : ModelContract
    proof : Proof
        Its evaluation, alarms included.
    model : Portable
        Fitted on all that was known at `now`.
    known : pandas.DataFrame
        What it learned from.
    now : datetime
        Aware.
    versions : mapping of str to int
        Of the records.
    drawn : mapping of str to Figure
        Plots by file name.
    parameters : mapping
        Of the model, beside the number of examples.
    rule : Blend, optional
        The rule in use, logged where the model failed.
    """
    failures = proof.failures
    table = getattr(proof, "by_origin", None)
    parts = [] if table is None else [_part(row) for _, row in table.iterrows()]
    return Made(
        model,
        metrics=flat(proof),
        tags={f"records_{name}": str(version) for name, version in versions.items()}
        | {"test_from": proof.start.isoformat(), "trained_until": now.isoformat(), "kind": "model"},
        parameters={**parameters, "examples": len(known)},
        figures=drawn,
        documents={
            "promotion.txt": "\n".join(failures) or "surely better than every rule it has to beat\n",
            "card.html": card(contract, proof, now, drawn),
        },
        parts=parts,
        data=known,
        rule=rule if failures else None,
        failures=failures,
    )


def flat(proof: Proof) -> dict[str, float]:
    """Figures under flat names: the model's own bare, a rule's behind its name, differences with their bounds."""
    named = {name: f"{name}_" if name != "model" else "" for name in proof.scores}
    found = {
        f"{named[name]}{metric}": value
        for name, figures_of in proof.scores.items()
        for metric, value in figures_of.items()
    }
    for name, by_metric in proof.comparisons.items():
        for metric, c in by_metric.items():
            found |= {f"over_{name}_{metric}": c.difference, f"over_{name}_{metric}_lower": c.lower}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def blend_parameters(model: Blend) -> dict[str, float]:
    """Weights and calibration of a blend."""
    return {
        "weight": model.weight,
        "process_weight": model.process_weight,
        "intercept": model.intercept,
        "slope": model.slope,
    }


def _part(row: pd.Series) -> Part:
    figures_of = {str(name): float(row[name]) for name in row.index if name != "origin" and np.isfinite(row[name])}
    return Part(f"origin {row['origin']:%Y-%m-%d}", figures_of)
