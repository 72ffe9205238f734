"""Which clinic and day a request asks for; shared by the page and the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from starlette.requests import Request

from serving.clock import today
from serving.names import _
from serving.problems import Problem
from serving.schedule import DaySchedule, Overview
from serving.web import signed_in, web_of

_BAD_DAY = _("The day must be written like 2026-11-21.")
_NO_CLINIC = _("This clinic is not published here.")


@dataclass(frozen=True)
class Asked:
    """What was asked for and what was found; no schedule while nothing is published."""

    clinic_id: str
    day: date
    overview: Overview
    schedule: DaySchedule | None
    clinician: str = ""
    only: str = ""
    sort: str = ""

    @property
    def model_versions(self) -> str | None:
        """The models behind the scores found, for the audit log."""
        entries = self.schedule.entries if self.schedule else ()
        found = {f"{s.model_name} v{s.model_version}" for _booking, s in entries if s}
        patients = self.schedule.patients.values() if self.schedule else ()
        found |= {f"{s.question} v{s.model_version}" for p in patients for s in p.scores.values() if s.kind == "model"}
        return ", ".join(sorted(found)) or None


async def asked_day(
    request: Request, *, must_name_clinic: bool = False, wanted: Mapping[str, str] | None = None
) -> Asked:
    """Read the day that ``?clinic=...&day=...`` names, and how it is to be shown.

    Parameters
    ----------
    request : Request
        Without ``day`` it asks for today by the practice's clock.
    must_name_clinic : bool
        Whether the clinic may be left out only where there is just one.
    wanted : mapping of str to str, optional
        Instead of the query.

    Raises
    ------
    Problem
        400 for a day that is none, 404 for a clinic that is not published, or not theirs.
    """
    web = web_of(request)
    given = request.query_params if wanted is None else wanted
    day = _day(given.get("day"), today(web.settings.zone))
    overview = await overview_for(request)
    clinic = given.get("clinic") or ""
    if not clinic and overview.clinics:
        if must_name_clinic and len(overview.clinics) > 1:
            raise Problem(400, f"Say which clinic: {', '.join(sorted(overview.clinics))}.")
        clinic = next(iter(overview.clinics))
    if not clinic:
        return Asked("", day, overview, None)
    if clinic not in overview.clinics:
        raise Problem(404, _NO_CLINIC)  # which others there are is not said
    newest, schedule = await web.read(web.published.day, clinic, day)
    if schedule is None:
        raise Problem(404, _NO_CLINIC)
    return Asked(
        clinic,
        day,
        _seen(request, newest),
        schedule,
        clinician=given.get("clinician") or "",
        only=given.get("only") or "",
        sort=given.get("sort") or "",
    )


async def overview_for(request: Request) -> Overview:
    """Return what is published, of the clinics that whoever asks may see."""
    web = web_of(request)
    return _seen(request, await web.read(web.published.overview))


def _seen(request: Request, overview: Overview) -> Overview:
    who = signed_in(request)
    if who is None or who.clinics is None:
        return overview
    return replace(overview, clinics={key: name for key, name in overview.clinics.items() if who.sees(key)})


def _day(text: str | None, default: date) -> date:
    if not text:
        return default
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise Problem(400, _BAD_DAY) from None
    if len(text) != 10 or not 1900 <= found.year <= 2200:
        raise Problem(400, _BAD_DAY)
    return found
