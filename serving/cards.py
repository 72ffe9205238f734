"""Cards of decision support (CDS Hooks 2.0), made of stored scores; a card only ever offers help."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from sqlalchemy import Engine

from serving.api.shapes import Moment, Shape
from serving.db import writing
from serving.i18n import Language
from serving.integration_tables import CardFeedbackRow
from serving.names import ACTION_LABELS, _
from serving.reasons import sentence
from serving.standing import Answer

LONGEST_SUMMARY = 139  # the specification: less than 140 characters
OVERRIDE_REASONS = "urn:revisit:override-reasons"
TOPICS = "urn:revisit:questions"
REASONS_TO_OVERRIDE = {
    "confirmed": _("Confirmed already"),
    "known": _("We know this patient well"),
    "not_reachable": _("Cannot be reached"),
    "wrong": _("The record is wrong"),
}
_SUMMARY = _("No-show risk %(percent)d %%: booking of %(moment)s")
_LAPSE = _("May not come back within the recall window")
_LAPSE_PERCENT = _("May not come back within the recall window: %(percent)d %%")
_BASIS = _("By the practice's own records up to %(moment)s.")
SERVICES = {
    "revisit-patient-view": (
        "patient-view",
        _("Visits at risk"),
        _("Bookings that may be missed and patients who may not come back: why, and what may help."),
    ),
    "revisit-appointment-book": (
        "appointment-book",
        _("Visits at risk, while booking"),
        _("While a visit is booked: what may be missed, why, and what may help."),
    ),
}


class Coding(BaseModel):
    """A code of some system."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
    code: str = Field(max_length=80, examples=["confirmed"])
    system: str | None = Field(default=None, max_length=200, examples=[OVERRIDE_REASONS])
    display: str | None = Field(default=None, max_length=200)


class Source(Shape):
    """Where a card comes from."""

    label: str
    topic: Coding


class Suggestion(Shape):
    """One thing that may be done."""

    label: str = Field(examples=["Confirm by phone"])
    uuid: str


class Card(Shape):
    """One card."""

    uuid: str
    summary: str = Field(max_length=LONGEST_SUMMARY, examples=["No-show risk 42 %: booking of 23 Nov, 09:30"])
    detail: str
    indicator: Literal["info", "warning", "critical"]
    source: Source
    suggestions: list[Suggestion]
    selectionBehavior: Literal["at-most-one"]  # noqa: N815 - the specification's name
    overrideReasons: list[Coding]  # noqa: N815


class Cards(Shape):
    """What a service answers; empty where there is nothing to say."""

    cards: list[Card]


class Service(Shape):
    """One service, as discovery tells of it."""

    hook: str
    title: str
    description: str
    id: str


class Services(Shape):
    """All services."""

    services: list[Service]


class _Sent(BaseModel):
    # Clients add fields of their own (extensions); what is not named here is not even kept in memory.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


PatientNumber = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class Context(_Sent):
    """What the hook is about; who works there is not read."""

    patientId: PatientNumber = Field(examples=["p017"])  # noqa: N815


class HookRequest(_Sent):
    """A call of a service; FHIR tokens and prefetched resources are not read."""

    hook: Literal["patient-view", "appointment-book"]
    hookInstance: uuid.UUID  # noqa: N815
    context: Context


class Accepted(_Sent):
    """A suggestion that was taken."""

    id: uuid.UUID


class Override(_Sent):
    """Why a card was dismissed; the comment in free text is not read."""

    reason: Coding | None = None


class Feedback(_Sent):
    """What became of one card."""

    card: uuid.UUID
    outcome: Literal["accepted", "overridden"]
    acceptedSuggestions: list[Accepted] = Field(default=[], max_length=20)  # noqa: N815
    overrideReason: Override | None = None  # noqa: N815
    outcomeTimestamp: Moment  # noqa: N815

    @model_validator(mode="after")
    def _says_what_was_accepted(self) -> Feedback:
        if self.outcome == "accepted" and not self.acceptedSuggestions:
            raise ValueError("acceptedSuggestions are needed where a card was accepted")
        return self


class FeedbackRequest(_Sent):
    """Feedback on one or several cards."""

    feedback: list[Feedback] = Field(min_length=1, max_length=100)


def describe(say: Language) -> Services:
    """Describe the services in a language."""
    return Services(
        services=[
            Service(hook=hook, title=say.text(title), description=say.text(what), id=name)
            for name, (hook, title, what) in SERVICES.items()
        ]
    )


def make_cards(found: Sequence[Answer], say: Language, zone: ZoneInfo) -> Cards:
    """Make a card of each answer whose risk is raised, the highest first.

    Parameters
    ----------
    found : sequence of Answer
        About one patient.
    say : Language
        Of the texts.
    zone : ZoneInfo
        The practice's time zone.
    """
    raised = sorted((one for one in found if one.level in ("medium", "high")), key=lambda one: -(one.probability or 0))
    return Cards(cards=[_card(one, say, zone) for one in raised])


def _card(one: Answer, say: Language, zone: ZoneInfo) -> Card:
    lines = [f"- {sentence(reason, say)}" for reason in one.reasons]
    lines += ["", say.text(_BASIS) % {"moment": say.moment(one.as_of, zone)}]
    return Card(
        uuid=str(uuid.uuid4()),
        summary=_summary(one, say, zone)[:LONGEST_SUMMARY],
        detail="\n".join(lines).strip(),
        indicator="warning" if one.level == "high" and one.booking else "info",
        source=Source(label="Revisit", topic=Coding(code=one.question, system=TOPICS)),
        suggestions=[Suggestion(label=say.text(ACTION_LABELS[one.action]), uuid=str(uuid.uuid4()))],
        selectionBehavior="at-most-one",
        overrideReasons=[
            Coding(code=code, system=OVERRIDE_REASONS, display=say.text(text))
            for code, text in REASONS_TO_OVERRIDE.items()
        ],
    )


def _summary(one: Answer, say: Language, zone: ZoneInfo) -> str:
    percent = None if one.probability is None else round(100 * one.probability)
    if one.booking is None:
        return say.text(_LAPSE) if percent is None else say.text(_LAPSE_PERCENT) % {"percent": percent}
    moment = (say.moment if one.booking.is_start_time_known else _day)(one.booking.starts_at, zone)
    return say.text(_SUMMARY) % {"percent": percent, "moment": moment}


def _day(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d}"


def keep_feedback(engine: Engine, service: str, sent: Sequence[Feedback], client: str, at: datetime) -> None:
    """Store what became of cards.

    Parameters
    ----------
    engine : Engine
        Of the upgraded application database.
    service : str
        Key of `SERVICES`.
    sent : sequence of Feedback
        As read.
    client : str
        Who told.
    at : datetime
        This moment.
    """
    with writing(engine) as session:
        for one in sent:
            session.add(
                CardFeedbackRow(
                    service=service,
                    card=str(one.card),
                    outcome=one.outcome,
                    suggestions=[str(accepted.id) for accepted in one.acceptedSuggestions],
                    override_reason=_known_reason(one.overrideReason),
                    outcome_at=one.outcomeTimestamp,
                    received_at=at,
                    client=client,
                )
            )


def _known_reason(override: Override | None) -> str | None:
    """Code of the reason; one of another system may say anything, and is not kept."""
    if override is None:
        return None
    reason: Any = override.reason
    is_ours = reason is not None and reason.system == OVERRIDE_REASONS and reason.code in REASONS_TO_OVERRIDE
    return str(reason.code) if is_ours else "other"
