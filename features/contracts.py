"""One frozen contract per model: the question, what it may look at, what counts as right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from features import labels, plan_grain, schedule
from features.families import FAMILIES, families_of
from features.spec import Feature

SNAPSHOT = "snapshot"  # local midnights at which every patient is looked at
PLAN_SNAPSHOT = "snapshot of plans"  # the same midnights, for every plan with something to be done
CLASSIFICATION, REGRESSION = "classification", "regression"


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
        The decision moment of the spine that it belongs to; `SNAPSHOT` for
        questions about patients, `PLAN_SNAPSHOT` for those about plans.
    horizon_days : int
        How far the question looks ahead; 0 where the visit itself is the end.
    features : tuple of Feature
        In the order the model reads them.
    conditions : tuple of Feature
        What is known of a training example only afterwards and disturbed its
        outcome. The model may learn from it; every score assumes 0, the normal
        state of affairs.
    label : str
        What counts as 1, or the amount.
    task : str
        `CLASSIFICATION` (a probability) or `REGRESSION` (an amount).
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
    horizon_days: int = 0
    task: str = CLASSIFICATION

    @property
    def entity(self) -> str:
        """What a score is about: ``appointment``, ``patient`` or ``plan``."""
        return {SNAPSHOT: "patient", PLAN_SNAPSHOT: "plan"}.get(self.moment, "appointment")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def fingerprint(self) -> str:
        """Hash of all that a stored model relies on; a model with another one is refused."""
        content = [self.name, self.version, self.moment, self.label, self.horizon_days, *self._definitions()]
        content += [[feature.name, feature.sql] for feature in (*self.features, *self.conditions)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def _definitions(self) -> list[str]:
        if self.entity == "appointment":
            return [schedule.DEFINITION]
        of_plans = [plan_grain.PLAN_GRAIN.sql] if self.entity == "plan" else []
        return [*of_plans, *(family.sql for family in families_of(self.feature_names))]


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


def _return_within(days: int) -> ModelContract:
    return ModelContract(
        name=f"return_{days}d",
        version=1,
        question=f"Will this patient come within {days} days?",
        grain="patient seen in the last three years, and snapshot",
        moment=SNAPSHOT,
        features=tuple(feature for family in FAMILIES.values() for feature in family.features),
        label=f"a visit kept within {days} days after the snapshot",
        baseline="days since the last visit",
        decision="whom a recall is worth offering to, and how many visits to expect",
        horizon_days=days,
    )


LAPSE = ModelContract(
    name="lapse",
    version=1,
    question="Will this patient miss the recall window?",
    grain="patient seen in the last three years whose window is open, and snapshot",
    moment=SNAPSHOT,
    features=tuple(feature for family in FAMILIES.values() for feature in family.features),
    label="no visit kept by the due date plus 90 days, or plus half the interval if that is more",
    baseline="weeks past the due date",
    decision="whom to offer the next visit before they leave",
)

PATIENT_CONTRACTS: Mapping[str, ModelContract] = {
    contract.name: contract for contract in (LAPSE, *(_return_within(days) for days in labels.RETURN_HORIZONS))
}

VALUE_365D = ModelContract(
    name=f"value_{labels.VALUE_HORIZON}d",
    version=1,
    question="How much will this patient pay within a year?",
    grain="patient seen in the last three years, and snapshot",
    moment=SNAPSHOT,
    features=tuple(feature for family in FAMILIES.values() for feature in family.features),
    label=f"cents paid less those paid back within {labels.VALUE_HORIZON} days after the snapshot",
    baseline="what the patient paid in the year before",
    decision="whom to call first among those equally likely to come, and what revenue to expect",
    horizon_days=labels.VALUE_HORIZON,
    task=REGRESSION,
)


def _completion_within(days: int) -> ModelContract:
    return ModelContract(
        name=f"completion_{days}d",
        version=1,
        question=f"Will what was agreed to in this plan be finished within {days} days?",
        grain="plan with something agreed to and not done, and snapshot",
        moment=PLAN_SNAPSHOT,
        features=(
            *plan_grain.FEATURES,
            *(feature for family in FAMILIES.values() for feature in family.features),
        ),
        label=f"all items that were agreed to and open at the snapshot done within {days} days after it",
        baseline="past share done of the plan's clinician and service line",
        decision="whose treatment to take up again before it is given up",
        horizon_days=days,
    )


COMPLETION_180D, COMPLETION_365D = (_completion_within(days) for days in labels.COMPLETION_HORIZONS)

PLAN_CONTRACTS: Mapping[str, ModelContract] = {
    contract.name: contract for contract in (COMPLETION_180D, COMPLETION_365D)
}
