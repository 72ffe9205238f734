"""One frozen contract per model: the question, what it may look at, what counts as right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from features import labels, schedule
from features.spec import Feature


@dataclass(frozen=True)
class ModelContract:
    """What a model answers and from what.

    Attributes
    ----------
    name : str
        Name in the registry, in Feast and on the page.
    version : int
        Raised by hand when the meaning changes.
    question : str
        One sentence.
    grain : str
        Completes "one score per ...".
    moment : str
        The decision moment of the spine that it belongs to.
    features : tuple of Feature
        In the order the model reads them.
    conditions : tuple of Feature
        What is known of a training example only afterwards and disturbed its
        outcome. The model may learn from it; every score assumes 0, the normal
        state of affairs.
    label : str
        What counts as 1.
    baseline : str
        The rule of thumb it has to beat.
    decision : str
        What its score is used for.
    """

    name: str
    version: int
    question: str
    grain: str
    moment: str
    features: tuple[Feature, ...]
    label: str
    baseline: str
    decision: str
    conditions: tuple[Feature, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def fingerprint(self) -> str:
        """Hash of all that a stored model relies on; a model with another one is refused."""
        content = [self.name, self.version, self.moment, self.label, schedule.DEFINITION]
        content += [[feature.name, feature.sql] for feature in (*self.features, *self.conditions)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _chosen(*left_out: str) -> tuple[Feature, ...]:
    return tuple(feature for feature in schedule.FEATURES if feature.name not in left_out)


NO_SHOW_BOOKING = ModelContract(
    name="no_show_booking",
    version=1,
    question="Will this booking be missed, as far as can be told when it is made?",
    grain="booking",
    moment=schedule.BOOKING,
    features=_chosen("days_since_booking", "reminders_sent_count_ever", "reminders_confirmed_count_ever"),
    conditions=(labels.REMINDER_OUTAGE,),
    label="no-show or cancellation less than 24 hours before the visit",
    baseline="the patient's past share of missed visits",
    decision="offer a nearer date or a reminder while the patient is at the desk",
)

NO_SHOW_EVENING = ModelContract(
    name="no_show_evening",
    version=1,
    question="Will tomorrow's booking be missed, as far as can be told the evening before?",
    grain="booking made at least one day ahead",
    moment=schedule.EVENING,
    features=_chosen("days_until_visit", "is_booked_same_day"),
    label="no-show or cancellation less than 24 hours before the visit",
    baseline="the patient's past share of missed visits",
    decision="whom to remind or call before tomorrow's visits",
)

CONTRACTS: Mapping[str, ModelContract] = {contract.name: contract for contract in (NO_SHOW_BOOKING, NO_SHOW_EVENING)}
