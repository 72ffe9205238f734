"""A patient's page in words: scores over time, open treatment, timeline, household, consent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from features.settings import Settings
from serving.board import ReasonView, reason_views
from serving.consents import Statement
from serving.decisions import patient_flags
from serving.flags import FlagView, amount, flag_views, scored_by
from serving.i18n import Language
from serving.names import CHANNELS, OUTCOMES, PURPOSES, STATUSES, URGENCIES, _, initials, service_name
from serving.patients import LAPSE, RETURN, Dossier, Patient, PatientScore, Standing
from serving.score_chart import ScoreChart, score_chart

QUESTION_LABELS: Mapping[str, str] = {
    LAPSE: _("Chance of missing the recall window"),
    RETURN: _("Chance of coming within 90 days"),
}
_NO_SCORE: Mapping[str, str] = {
    LAPSE: _("Not asked: the recall window has passed, or the patient was not seen for years."),
    RETURN: _("Not asked: the patient was not seen for years, or has left."),
}


@dataclass(frozen=True)
class PatientLook:
    """Who looks, in which language, and what they may see."""

    say: Language
    settings: Settings
    sees: frozenset[str]

    @property
    def zone(self) -> ZoneInfo:
        """The practice's time zone."""
        return self.settings.zone

    @property
    def money(self) -> str | None:
        """ISO country of the currency; None where amounts are not to be seen."""
        return self.settings.practice.country if "see.amounts" in self.sees else None

    def name(self, patient: Patient) -> str:
        """What the patient is called: by name, by initials, or by number."""
        if not patient.patient_name:
            return patient.patient_id
        return patient.patient_name if "see.names" in self.sees else initials(patient.patient_name)


@dataclass(frozen=True)
class PersonView:
    """One patient of a list."""

    patient_id: str
    href: str
    name: str
    avatar: str
    age: str
    clinic: str
    chips: tuple[FlagView, ...]
    has_left: bool


@dataclass(frozen=True)
class ScoreView:
    """One question: the newest answer, by whom, why, and how it was before."""

    question: str
    label: str
    percent: str
    is_at_risk: bool
    by: str
    as_of: str
    reasons: tuple[ReasonView, ...]
    chart: ScoreChart | None
    hint: str


@dataclass(frozen=True)
class ItemView:
    """Open items of treatment that are alike."""

    service: str
    count: int
    state: str
    since: str
    clinician: str
    fee: str
    urgency: str


@dataclass(frozen=True)
class MomentView:
    """One entry of the timeline; `kind` is visit, plan or contact."""

    kind: str
    when: str
    title: str
    detail: str
    state: str


@dataclass(frozen=True)
class VisitView:
    """One booking that stands ahead."""

    appointment_id: str
    when: str
    service: str
    clinician: str


@dataclass(frozen=True)
class ConsentView:
    """What holds for one channel; `state` is yes, no or unknown."""

    channel: str
    state: str
    words: str


def person_view(standing: Standing, look: PatientLook, clinics: Mapping[str, str]) -> PersonView:
    """Say who a patient is, with flags."""
    patient = standing.patient
    name, year = look.name(patient), patient.as_of.astimezone(look.zone).year
    return PersonView(
        patient_id=patient.patient_id,
        href=f"/patient?{urlencode({'id': patient.patient_id})}",
        name=name,
        avatar=name[:1].upper(),
        age=look.say.text("age %(n)d") % {"n": year - patient.birth_year}
        if patient.birth_year and "see.ages" in look.sees
        else "",
        clinic=clinics.get(patient.clinic_id or "", patient.clinic_id or ""),
        chips=flag_views(patient_flags(standing, look.settings.desk), standing, look.say, look.money),
        has_left=bool(patient.departure),
    )


def score_views(dossier: Dossier, look: PatientLook) -> tuple[ScoreView, ...]:
    """Say every question's newest answer, and draw those before it."""
    thresholds = {LAPSE: look.settings.desk.lapse_risk}
    return tuple(_score_view(question, dossier, look, thresholds.get(question)) for question in (LAPSE, RETURN))


def _score_view(question: str, dossier: Dossier, look: PatientLook, threshold: float | None) -> ScoreView:
    say, score = look.say, dossier.standing.scores.get(question)
    label = say.text(QUESTION_LABELS[question])
    if not dossier.standing.patient.is_scoring_allowed:
        return _without(question, label, say.text(_("The patient refused to be scored.")))
    if score is None:
        return _without(question, label, say.text(_NO_SCORE[question]))
    drawn = [
        (one.as_of, one.probability, _point(one, say))
        for one in dossier.history[question]
        if one.probability is not None
    ]
    percent = "" if score.probability is None else f"{score.probability:.0%}"
    if not percent:
        percent = say.text(_("At risk")) if score.is_at_risk else say.text(_("Not at risk"))
    return ScoreView(
        question=question,
        label=label,
        percent=percent,
        is_at_risk=score.is_at_risk,
        by=scored_by(score, say),
        as_of=say.moment(score.as_of, look.zone),
        reasons=reason_views(score.reasons, "high" if score.is_at_risk else "low", say),
        chart=score_chart(drawn, threshold),
        hint="",
    )


def _without(question: str, label: str, hint: str) -> ScoreView:
    return ScoreView(question, label, "–", False, "", "", (), None, hint)


def _point(score: PatientScore, say: Language) -> str:
    return f"{say.short_day(score.as_of.date())}: {score.probability:.0%}"


def open_items(card: Mapping[str, Any], look: PatientLook) -> tuple[ItemView, ...]:
    """Say the treatment that is neither done nor declined; items that are told alike are one line."""
    say = look.say
    alike: dict[tuple[Any, ...], list[int]] = {}
    for item in card.get("items", ()):
        if not item["completed"] and not item["declined"]:
            since = _day(item["accepted"] or item["proposed"], look)
            key = (item["service"], _item_state(item), since, item["clinician"], item["urgency"])
            alike.setdefault(key, []).append(item["cents"] or 0)
    return tuple(
        ItemView(
            service=service_name(service, say),
            count=len(cents),
            state=say.text(state),
            since=say.full_day(since),
            clinician=clinician or "",
            fee=amount(sum(cents), look.money, say) if look.money and sum(cents) else "",
            urgency=say.text(URGENCIES[urgency]) if urgency in URGENCIES else "",
        )
        for (service, state, since, clinician, urgency), cents in alike.items()
    )


def _item_state(item: Mapping[str, Any]) -> str:
    if item["scheduled"]:
        return _("In a booking")
    return _("Agreed to, not booked") if item["accepted"] else _("Proposed, not agreed to")


def timeline(card: Mapping[str, Any], look: PatientLook, now: datetime) -> tuple[MomentView, ...]:
    """Say visits, plans and contacts up to now, the newest first."""
    entries = [*_visits(card, look), *_plans(card, look), *_contacts(card, look)]
    past = sorted((entry for entry in entries if entry[0] <= now.timestamp()), key=lambda entry: -entry[0])
    return tuple(view for _moment, view in past)


def _visits(card: Mapping[str, Any], look: PatientLook) -> Iterable[tuple[int, MomentView]]:
    say = look.say
    for visit in card.get("visits", ()):
        when = (
            say.full_moment(_at(visit["at"]), look.zone) if visit["has_time"] else say.full_day(_day(visit["at"], look))
        )
        state = say.text(STATUSES.get(visit["status"], visit["status"]))
        title = service_name(visit["service"], say)
        yield visit["at"], MomentView("visit", when, title, visit["clinician"] or "", state)


def _plans(card: Mapping[str, Any], look: PatientLook) -> Iterable[tuple[int, MomentView]]:
    say = look.say
    steps = {
        "proposed": _("Treatment proposed"),
        "accepted": _("Treatment agreed to"),
        "completed": _("Treatment done"),
        "declined": _("Treatment declined"),
    }
    grouped: dict[tuple[date, str, str], list[int]] = {}
    for item in card.get("items", ()):
        for step in steps:
            if item[step]:
                key = (_day(item[step], look), step, service_name(item["service"], say))
                grouped.setdefault(key, []).append(item[step])
    for (day, step, service), moments in grouped.items():
        count = say.count("%(n)d item", "%(n)d items", len(moments)) % {"n": len(moments)}
        detail = f"{service} · {count}" if len(moments) > 1 else service
        yield max(moments), MomentView("plan", say.full_day(day), say.text(steps[step]), detail, "")


def _contacts(card: Mapping[str, Any], look: PatientLook) -> Iterable[tuple[int, MomentView]]:
    say = look.say
    for contact in card.get("contacts", ()):
        channel = say.text(CHANNELS.get(contact["channel"], contact["channel"]))
        purpose = say.text(PURPOSES.get(contact["purpose"], contact["purpose"]))
        title = say.text(_("From the patient: %(channel)s")) if contact["direction"] == "in" else "%(channel)s"
        outcome = OUTCOMES.get(contact["outcome"] or "")
        state = say.text(outcome) if outcome else ""
        if not state and contact["direction"] == "out":
            state = say.text(_("Answered")) if contact["replied"] else say.text(_("No answer on record"))
        when = say.full_moment(_at(contact["sent"]), look.zone)
        yield contact["sent"], MomentView("contact", when, title % {"channel": channel}, purpose, state)


def ahead(card: Mapping[str, Any], look: PatientLook, now: datetime) -> tuple[VisitView, ...]:
    """Say the bookings that stand, the next first; one of today that nobody closed yet is among them."""
    day = now.astimezone(look.zone).date()
    standing = [
        v for v in card.get("visits", ()) if v["status"] in ("booked", "arrived") and _day(v["at"], look) >= day
    ]
    return tuple(
        VisitView(
            appointment_id=visit["id"],
            when=look.say.full_moment(_at(visit["at"]), look.zone),
            service=service_name(visit["service"], look.say),
            clinician=visit["clinician"] or "",
        )
        for visit in sorted(standing, key=lambda visit: visit["at"])
    )


def consent_views(
    patient_id: str, card: Mapping[str, Any], ledger: Mapping[tuple[str, str], Statement], look: PatientLook
) -> tuple[ConsentView, ...]:
    """Say by which ways the patient may be reached; a statement here goes before what the records say."""
    say, recorded, found = look.say, card.get("consents", {}), []
    for channel, label in {"all": _("Contact"), **CHANNELS}.items():
        statement = ledger.get((patient_id, channel))
        is_allowed = statement.is_allowed if statement else recorded.get(channel)
        if is_allowed is None:
            continue
        words = say.text(_("%(channel)s: allowed")) if is_allowed else say.text(_("%(channel)s: refused"))
        found.append(ConsentView(channel, "yes" if is_allowed else "no", words % {"channel": say.text(label)}))
    return tuple(found)


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def _day(seconds: int, look: PatientLook) -> date:
    return _at(seconds).astimezone(look.zone).date()
