"""The card of a recall policy: what is known of contacting, by what the list is ranked, and on what evidence."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from matplotlib.figure import Figure

from features.contracts import ModelContract
from training.model_card import drawings, template
from training.portable_policy import Policy
from training.recall import RecallModel

TEMPLATE = "recall_card.html"


def recall_card(
    contract: ModelContract,
    policy: Policy,
    learned: RecallModel | None,
    left_out: Mapping[str, str],
    drawn: Mapping[str, Figure],
    at: datetime,
) -> str:
    """Render the card of a recall policy.

    Parameters
    ----------
    contract : ModelContract
    policy : Policy
    learned : RecallModel or None
        None where there were no randomised contacts to learn from.
    left_out : mapping of str to str
        Why, per campaign that could not be used.
    drawn : mapping of str to Figure
    at : datetime
        When it was trained.

    Returns
    -------
    str
        A whole HTML page, as `training.model_card.card`.
    """
    page: str = template(TEMPLATE).render(
        contract=contract,
        policy=policy,
        learned=learned,
        segments=learned.segments.to_dict("records") if learned else [],
        left_out=left_out,
        plots=drawings(drawn.values()),
        at=at,
    )
    return page
