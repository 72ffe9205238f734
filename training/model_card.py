"""The model card: one HTML page that a manager can read and an engineer can audit, in English and Chinese."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from features.contracts import REGRESSION, ModelContract
from training.alarms import Alarm
from training.evaluation import Comparison
from training.metrics import Floats

TEMPLATE = "model_card.html"
# What a case is, and who is flagged, per kind of question: English, Chinese.
CASES = {
    "no_show": (("bookings", "were missed"), ("预约", "爽约")),
    "lapse": (("patients", "missed their recall window"), ("患者", "错过了复诊期限")),
    "return": (("patients", "came within {days} days"), ("患者", "在 {days} 天内到诊")),
    "completion": (("plans", "were finished within {days} days"), ("治疗计划", "在 {days} 天内完成")),
}
SHOWN = ("auc", "log_loss", "brier", "ece", "slope", "deviance", "rmse", "gini", "observed_to_expected", "lift10")


class Proof(Protocol):
    """What a card is made of: any evaluation."""

    @property
    def label(self) -> Floats:
        """Outcomes of the test."""
        ...

    @property
    def predictions(self) -> Mapping[str, Floats]:
        """By name, the model first."""
        ...

    @property
    def scores(self) -> Mapping[str, Mapping[str, float]]:
        """Figures per name."""
        ...

    @property
    def comparisons(self) -> Mapping[str, Mapping[str, Comparison]]:
        """The model minus each rule."""
        ...

    @property
    def start(self) -> pd.Timestamp:
        """First moment of the test."""
        ...

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """All that were asked."""
        ...

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the gate is shut."""
        ...


def template(name: str) -> Template:
    """A page's template beside this file; what it does not know is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def card(contract: ModelContract, proof: Proof, at: datetime, drawn: Mapping[str, Figure]) -> str:
    """Render a model card.

    Parameters
    ----------
    contract : ModelContract
        Of the model.
    proof : Proof
        Its evaluation; ``by_origin`` and ``by_group`` are shown where it has them.
    at : datetime
        When it was trained.
    drawn : mapping of str to Figure
        Its plots.

    Returns
    -------
    str
        A whole HTML page: no script, no request to anywhere, no patient.
    """
    page: str = template(TEMPLATE).render(
        contract=contract,
        proof=proof,
        at=at,
        summary=summary(contract, proof),
        plots=drawings(drawn.values()),
        shown=[metric for metric in SHOWN if metric in proof.scores["model"]],
        compared=list(next(iter(proof.comparisons.values()), {})),
        by_origin=_records(proof, "by_origin"),
        by_group=_records(proof, "by_group"),
        loud=[alarm for alarm in proof.alarms if alarm.is_ringing],
    )
    return page


def summary(contract: ModelContract, proof: Proof) -> dict[str, Sequence[str]]:
    """What the figures mean, in sentences without a technical term; by language."""
    is_used, rows = not proof.failures, f"{len(proof.label):,}"
    verdict = (
        "The model is surely better than the rules of thumb and may be used."
        if is_used
        else "The model has not earned its place; the rule of thumb stays in use. Why:"
    )
    verdict_zh = "模型确实优于经验规则，可以使用。" if is_used else "模型尚未达到要求，继续使用经验规则。原因："
    first, first_zh = _of_amounts(contract, proof) if contract.task == REGRESSION else _of_cases(contract, proof)
    return {
        "en": (first, f"Tested on {rows} outcomes from {proof.start:%Y-%m-%d} on, none of which it had seen.", verdict),
        "zh": (first_zh, f"用 {proof.start:%Y-%m-%d} 起的 {rows} 个结果检验，模型此前均未见过。", verdict_zh),
    }


def _of_cases(contract: ModelContract, proof: Proof) -> tuple[str, str]:
    kind = next(kind for kind in CASES if contract.name.startswith(kind))
    (who, what), (who_zh, what_zh) = CASES[kind]
    days = contract.horizon_days
    what, what_zh = what.format(days=days), what_zh.format(days=days)
    usual = round(100 * proof.label.mean())
    hits = min(100, round(100 * proof.label.mean() * proof.scores["model"]["lift10"]))
    return (
        f"Of 100 {who} with the highest scores, {hits} {what}; of 100 chosen at random, {usual}.",
        f"模型评分最高的 100 个{who_zh}中，有 {hits} 个{what_zh}；随机挑选的 100 个中有 {usual} 个。",
    )


def _of_amounts(contract: ModelContract, proof: Proof) -> tuple[str, str]:
    share, days = proof.scores["model"]["share10"], contract.horizon_days
    paid = f"The tenth of the patients expected to pay most paid {share:.0%} of all that was paid within {days} days"
    return (
        f"{paid}; a tenth chosen at random pays 10%.",
        f"预期消费最高的 10% 患者在 {days} 天内支付了全部金额的 {share:.0%}；随机挑选的 10% 患者支付 10%。",
    )


def drawings(drawn: Iterable[Figure]) -> list[Markup]:
    """Figures as SVG to be put into a page."""
    found = []
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": TEMPLATE}):
        for figure in drawn:
            stream = io.StringIO()
            figure.savefig(stream, format="svg", metadata={"Date": None})
            svg = stream.getvalue()
            found.append(Markup(svg[svg.index("<svg") :]))  # noqa: S704 - drawn here, of numbers alone
    return found


def _records(proof: Proof, name: str) -> list[dict[str, object]]:
    table = getattr(proof, name, None)
    return [] if table is None else [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
