"""Finding a patient by number, or by name where the role may; what was typed is in no URL and no log."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from serving import audit
from serving.db import reading
from serving.names import _
from serving.patient_view import PatientLook, PersonView, person_view
from serving.patients import MOST_FOUND, search, standings
from serving.permissions import needs
from serving.render import PageContext, context_values, respond
from serving.web import language_of, signed_in, web_of

router = APIRouter()
PATH = "/patients"
LABEL = _("Patients")
PERMISSION = "patient.view"


@dataclass(frozen=True)
class PatientsPage(PageContext):
    """The search and what it found.

    Attributes
    ----------
    csrf_token : str
        Of the form.
    words : str
        What was typed.
    by_name : bool
        Whether names may be searched.
    is_asked : bool
        False before anything was typed.
    found : tuple of PersonView
        At most `most`.
    most : int
        How many are shown at once.
    """

    csrf_token: str
    words: str
    by_name: bool
    is_asked: bool
    found: tuple[PersonView, ...]
    most: int


@router.get(PATH)
@needs(PERMISSION)
async def show(request: Request) -> Response:
    """Show the empty search."""
    return respond(request, _page(request, "", ()))


@router.post(PATH)
@needs(PERMISSION)
async def find(request: Request) -> Response:
    """Show whom the words fit."""
    web, words = web_of(request), str(request.state.form.get("words", ""))[:80]
    who = signed_in(request)
    clinics = who.clinics if who else frozenset()
    by_name = who is not None and who.may("see.names")
    patients = await web.read(search, web.engine, words, clinics, by_name=by_name)
    await audit.note(request, "search_patients", row_count=len(patients))
    found = await web.read(_with_flags, request, [patient.patient_id for patient in patients])
    page = _page(request, words, found)
    if "hx-request" in request.headers:
        return HTMLResponse(web.renderer.partial(page.shell.language, "_found.html", context_values(page)))
    return respond(request, page)


def _with_flags(request: Request, ids: list[str]) -> tuple[PersonView, ...]:
    web = web_of(request)
    look = look_of(request)
    clinics = web.published.overview().clinics
    with reading(web.engine) as session:
        found = standings(session, ids)
    return tuple(person_view(found[key], look, clinics) for key in ids if key in found)


def look_of(request: Request) -> PatientLook:
    """Who looks at patients, in which language, and what they may see."""
    who = signed_in(request)
    return PatientLook(language_of(request), web_of(request).settings, who.permissions if who else frozenset())


def _page(request: Request, words: str, found: tuple[PersonView, ...]) -> PatientsPage:
    who = signed_in(request)
    return PatientsPage(
        shell=web_of(request).renderer.shell(request),
        csrf_token=who.csrf_token if who else "",
        words=words,
        by_name=who is not None and who.may("see.names"),
        is_asked=bool(words.strip()),
        found=found,
        most=MOST_FOUND,
    )
