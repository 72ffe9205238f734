"""One patient: flags and scores over time, open treatment, timeline, household, consent; and what is new."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import urlencode

from anyio import to_thread
from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from serving import audit, consents, desk_forms
from serving.clock import now, today
from serving.desk_events import DONE, FAILED, WAITING, Event, Told, newest_about, tell
from serving.flags import amount
from serving.names import CHANNELS, OUTCOMES, PURPOSES, _, service_name
from serving.pages.patients import look_of
from serving.patient_view import (
    ConsentView,
    ItemView,
    MomentView,
    PersonView,
    ahead,
    consent_views,
    open_items,
    person_view,
    score_views,
    timeline,
)
from serving.patients import Dossier, Patient, Standing, read_dossier
from serving.permissions import needs
from serving.problems import Problem
from serving.render import PageContext, respond
from serving.schedule import read_booking, read_choices
from serving.web import language_of, signed_in, web_of

router = APIRouter()
PATH = "/patient"
PERMISSION = "patient.view"
POLL_SECONDS = 2
SHOWN_AT_ONCE = 20
_NO_PATIENT = _("This patient is not among those you may see.")
_EVENT_WORDS = {
    WAITING: _("Being taken in; the flags follow in a moment."),
    DONE: _("Taken in."),
    FAILED: _("This was not taken in: it contradicts the records. Look at the bookings again."),
}
_CHANGES = {
    "arrived": _("Arrived"),
    "completed": _("Completed"),
    "no_show": _("Did not come"),
    "cancelled": _("Cancelled"),
}


@dataclass(frozen=True)
class Option:
    """One choice of a form."""

    value: str
    label: str


@dataclass(frozen=True)
class PatientPage(PageContext):
    """All that is known of a patient.

    Attributes
    ----------
    person : PersonView
        Name, age, clinic and flags.
    live : Markup
        The rendered ``_patient_live.html``: flags, scores, bookings ahead, what was told last.
    items : tuple of ItemView
        Open treatment.
    total : str
        Its value; empty where amounts are not to be seen.
    moments, earlier : tuple of MomentView
        The timeline, and what is shown on request.
    household : tuple of PersonView
        The others.
    consents : tuple of ConsentView
        By which ways the patient may be reached.
    csrf_token : str
        Of the forms; empty where nothing may be told.
    channels, purposes, outcomes, clinics, clinicians, services : tuple of Option
        Choices of the forms.
    first_day : str
        On which a booking can be made.
    """

    person: PersonView
    live: Markup
    items: tuple[ItemView, ...]
    total: str
    moments: tuple[MomentView, ...]
    earlier: tuple[MomentView, ...]
    household: tuple[PersonView, ...]
    consents: tuple[ConsentView, ...]
    csrf_token: str
    channels: tuple[Option, ...]
    purposes: tuple[Option, ...]
    outcomes: tuple[Option, ...]
    clinics: tuple[Option, ...]
    clinicians: tuple[Option, ...]
    services: tuple[Option, ...]
    first_day: str


@router.get(PATH)
@needs(PERMISSION)
async def show(request: Request) -> Response:
    """Show the whole page."""
    dossier = await _asked(request, request.query_params.get("id", ""))
    await _record(request, dossier, "view_patient")
    live = await _live(request, dossier, await _newest_event(request, dossier))
    return respond(request, await web_of(request).read(_page, request, dossier, live))


@router.get(PATH + "/live")
@needs(PERMISSION)
async def show_live(request: Request) -> Response:
    """Answer polling: what an event may change, or 304 while nothing has."""
    dossier = await _asked(request, request.query_params.get("id", ""))
    event = await _newest_event(request, dossier)
    etag = _etag(request, dossier, event)
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"ETag": etag})
    await _record(request, dossier, "refresh_patient")
    return HTMLResponse(await _live(request, dossier, event), headers={"ETag": etag})


@router.post(PATH + "/contact")
@needs("schedule.write")
async def add_contact(request: Request) -> Response:
    """Note a contact that has just taken place."""
    form = request.state.form
    patient = (await _asked(request, form.get("id", ""))).standing.patient
    told = desk_forms.contact(form, patient.patient_id, patient.clinic_id, now())
    return await _told(request, told, "add_contact")


@router.post(PATH + "/booking")
@needs("schedule.write")
async def add_booking(request: Request) -> Response:
    """Make a booking."""
    form, web, who = request.state.form, web_of(request), signed_in(request)
    patient = (await _asked(request, form.get("id", ""))).standing.patient
    told = desk_forms.new_booking(form, patient.patient_id, web.settings.zone, now())
    overview = await web.read(web.published.overview)
    clinic = told.clinic_id or ""
    if clinic not in overview.clinics or who is None or not who.sees(clinic):
        raise Problem(400, desk_forms.BAD_FORM)
    return await _told(request, told, "add_booking")


@router.post(PATH + "/change")
@needs("schedule.write")
async def change_booking(request: Request) -> Response:
    """Say what became of a booking."""
    form, web, who = request.state.form, web_of(request), signed_in(request)
    status, _colon, appointment_id = form.get("change", "").partition(":")
    booking = await web.read(read_booking, web.engine, appointment_id)
    if booking is None or who is None or not who.sees(booking.clinic_id):
        raise Problem(404, _NO_PATIENT)
    return await _told(request, desk_forms.change(booking, status, now()), "change_booking")


async def _told(request: Request, told: Told, action: str) -> Response:
    web, who = web_of(request), signed_in(request)
    await audit.note(request, action, clinic_id=told.clinic_id, patient_id=told.patient_id)
    await to_thread.run_sync(tell, web.engine, told, who.username if who else "", now())
    return RedirectResponse(f"{PATH}?{urlencode({'id': told.patient_id})}", status_code=303)


async def _asked(request: Request, patient_id: str) -> Dossier:
    web = web_of(request)
    found = await web.read(read_dossier, web.engine, patient_id) if patient_id.isprintable() else None
    if found is None or not may_see(request, found):
        raise Problem(404, _NO_PATIENT)
    return found


def may_see(request: Request, dossier: Dossier) -> bool:
    """Whether the patient belongs to, or was ever booked at, a clinic of whoever asks."""
    who, clinic = signed_in(request), dossier.standing.patient.clinic_id
    if who is None:
        return False
    visited = {visit["clinic"] for visit in dossier.card.get("visits", ())}
    return clinic is None or any(who.sees(one) for one in {clinic, *visited})


async def _record(request: Request, dossier: Dossier, action: str) -> None:
    patient, scores = dossier.standing.patient, dossier.standing.scores.values()
    await audit.note(
        request,
        action,
        clinic_id=patient.clinic_id,
        patient_id=patient.patient_id,
        row_count=1,
        model_version=", ".join(f"{s.question} v{s.model_version}" for s in scores if s.kind == "model") or None,
    )


async def _newest_event(request: Request, dossier: Dossier) -> Event | None:
    web = web_of(request)
    return await web.read(newest_about, web.engine, dossier.standing.patient.patient_id)


def _etag(request: Request, dossier: Dossier, event: Event | None) -> str:
    web, look = web_of(request), look_of(request)
    parts = (
        web.renderer.fingerprint,
        look.say.code,
        sorted(look.sees),
        dossier.standing.patient.as_of.isoformat(),
        [(score.question, score.scored_at.isoformat()) for score in dossier.standing.scores.values()],
        event and (event.event_id, event.state),
        today(web.settings.zone).isoformat(),
    )
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"'


async def _live(request: Request, dossier: Dossier, event: Event | None) -> str:
    web, look = web_of(request), look_of(request)
    clinics = (await web.read(web.published.overview)).clinics
    values = {
        "person": person_view(dossier.standing, look, clinics),
        "scores": score_views(dossier, look),
        "visits": ahead(dossier.card, look, now()),
        "changes": [Option(value, look.say.text(label)) for value, label in _CHANGES.items()],
        "can_tell": "schedule.write" in look.sees,
        "event": _event_words(request, event),
        "is_waiting": event is not None and event.state == WAITING,
        "href": f"{PATH}/live?{urlencode({'id': dossier.standing.patient.patient_id})}",
        "etag": _etag(request, dossier, event),
        "poll_seconds": POLL_SECONDS,
    }
    return web.renderer.partial(look.say.code, "_patient_live.html", values)


def _event_words(request: Request, event: Event | None) -> str:
    if event is None or (event.finished_at and (now() - event.finished_at).total_seconds() > 600):
        return ""
    return language_of(request).text(_EVENT_WORDS[event.state])


def _page(request: Request, dossier: Dossier, live: str) -> PatientPage:
    web, look, who = web_of(request), look_of(request), signed_in(request)
    patient, say = dossier.standing.patient, look.say
    overview, choices = web.published.overview(), read_choices(web.engine)
    moments = timeline(dossier.card, look, now())
    ledger = consents.standing(web.engine, [patient.patient_id], now())
    theirs = {key: name for key, name in overview.clinics.items() if who and who.sees(key)}
    return PatientPage(
        shell=web.renderer.shell(request),
        person=person_view(dossier.standing, look, overview.clinics),
        live=Markup(live),  # noqa: S704 - rendered by our template
        items=open_items(dossier.card, look),
        total=_total(patient, request),
        moments=moments[:SHOWN_AT_ONCE],
        earlier=moments[SHOWN_AT_ONCE:],
        household=tuple(person_view(Standing(one, {}), look, overview.clinics) for one in dossier.household),
        consents=consent_views(patient.patient_id, dossier.card, ledger, look),
        csrf_token=who.csrf_token if who and who.may("schedule.write") else "",
        channels=tuple(Option(value, say.text(label)) for value, label in CHANNELS.items()),
        purposes=tuple(Option(value, say.text(label)) for value, label in PURPOSES.items()),
        outcomes=tuple(Option(v, say.text(w)) for v, w in {"": _("Sent, no answer yet"), **OUTCOMES}.items()),
        clinics=tuple(Option(key, name) for key, name in theirs.items()),
        clinicians=tuple(Option(key, name) for key, name in choices.clinicians.items()),
        services=tuple(Option(line, service_name(line, say)) for line in choices.services),
        first_day=today(web.settings.zone).isoformat(),
    )


def _total(patient: Patient, request: Request) -> str:
    look = look_of(request)
    return amount(patient.open_cents, look.money, look.say) if look.money and patient.open_cents else ""
