"""The months ahead for managers: what to expect, how sure that is, whether chairs and shelves are enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serving.board import Empty
from serving.forecast_board import (
    ClinicLoad,
    Figure,
    Item,
    Row,
    Small,
    figures,
    loads,
    remark,
    rows,
    small,
    supplies,
)
from serving.forecast_words import measure_name, part_name
from serving.forecasts import Forecast, Series
from serving.i18n import Language
from serving.names import _
from serving.permissions import needs
from serving.problems import Problem
from serving.render import Link, PageContext, respond
from serving.web import language_of, signed_in, web_of

router = APIRouter()
PATH = "/forecast"
LABEL = _("Forecast")
PERMISSION = "forecast.view"
COMMAND = "revisit forecast"
NO_SERIES = _("There is no such forecast.")
GROUPS = (("practice", _("Whole practice")), ("clinic", _("Clinics")), ("service_line", _("Treatments")))
_BY_CLINIC_AND_LINE = ("clinic_line", _("Treatments by clinic"))


@dataclass(frozen=True)
class Option:
    """One part of the practice to choose from."""

    name: str
    label: str
    is_current: bool


@dataclass(frozen=True)
class Group:
    """Parts of one kind."""

    label: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class ForecastPage(PageContext):
    """One series, the smaller ones beside it, chairs and shelves.

    Attributes
    ----------
    title, made, measure, series, words, note : str
        In words; `words` is how such forecasts did in the past.
    measures : tuple of Link
        To choose from.
    groups : tuple of Group
        Parts of the practice to choose from.
    figures, rows, clinics, lines, loads, items
        See `serving.forecast_board`.
    has_provisional : bool
        Whether some months' official days off are not out yet.
    empty : Empty or None
        What to do while there is no forecast.
    """

    title: str
    made: str
    measure: str
    series: str
    words: str
    note: str
    measures: tuple[Link, ...]
    groups: tuple[Group, ...]
    figures: tuple[Figure, ...]
    rows: tuple[Row, ...]
    clinics: tuple[Small, ...]
    lines: tuple[Small, ...]
    loads: tuple[ClinicLoad, ...]
    items: tuple[Item, ...]
    has_provisional: bool
    empty: Empty | None


async def forecast_for(request: Request) -> Forecast | None:
    """Return the newest forecast as far as whoever asks may see it."""
    who, web = signed_in(request), web_of(request)
    found = await to_thread.run_sync(web.forecasts.newest)
    return found.seen_by(who.clinics) if found and who else None


@router.get(PATH)
@needs(PERMISSION)
async def show(request: Request) -> Response:
    """Show one measure of one part of the practice; by default the visits of all of it."""
    forecast = await forecast_for(request)
    if forecast is None or not forecast.series:
        return respond(request, _nothing(request))
    asked = request.query_params
    measure = asked.get("measure") or forecast.measures[0]
    own = [one for (kind, _name), one in forecast.series.items() if kind == measure]
    wanted = asked.get("series") or (own[0].name if own else "")
    chosen = forecast.series.get((measure, wanted))
    if chosen is None:
        raise Problem(404, NO_SERIES)
    clinics = (await web_of(request).read(web_of(request).published.overview)).clinics
    return respond(request, _page(request, forecast, chosen, own, clinics))


def _page(
    request: Request, forecast: Forecast, chosen: Series, own: list[Series], clinics: Mapping[str, str]
) -> ForecastPage:
    web, say = web_of(request), language_of(request)
    hrefs = {one.name: _href(chosen.measure, one.name) for one in own}

    def at(level: str) -> list[Series]:
        return [one for one in own if one.level == level and any(month.quantiles[-1] > 0 for month in one.ahead)]

    return ForecastPage(
        shell=web.renderer.shell(request),
        title=f"{measure_name(chosen.measure, say)} · {part_name(chosen, clinics, say)}",
        made=say.text(_("Made %(moment)s")) % {"moment": say.moment(forecast.made_at, web.settings.zone)},
        measure=chosen.measure,
        series=chosen.name,
        words=chosen.words.get(say.code, ""),
        note=remark(chosen, say),
        measures=tuple(_measure(forecast, measure, chosen, say) for measure in forecast.measures),
        groups=_groups(own, chosen, clinics, say),
        figures=figures(chosen, say),
        rows=rows(chosen, say),
        clinics=small(at("clinic"), hrefs, chosen.name, clinics, say) if len(at("clinic")) > 1 else (),
        lines=small(at("service_line"), hrefs, chosen.name, clinics, say),
        loads=loads(forecast.loads, clinics, say),
        items=supplies(forecast.supplies, clinics, say),
        has_provisional=any(month.is_provisional for month in chosen.ahead),
        empty=None,
    )


def _measure(forecast: Forecast, measure: str, chosen: Series, say: Language) -> Link:
    same = chosen.name if (measure, chosen.name) in forecast.series else ""
    return Link(measure_name(measure, say), _href(measure, same), measure == chosen.measure)


def _groups(own: list[Series], chosen: Series, clinics: Mapping[str, str], say: Language) -> tuple[Group, ...]:
    found = []
    for level, label in (*GROUPS, _BY_CLINIC_AND_LINE):
        members = [one for one in own if one.level == level]
        options = [Option(one.name, part_name(one, clinics, say), one.name == chosen.name) for one in members]
        if options:
            found.append(Group(say.text(label), tuple(options)))
    return tuple(found)


def _href(measure: str, series: str) -> str:
    wanted = {"measure": measure, "series": series}
    return f"{PATH}?{urlencode({name: value for name, value in wanted.items() if value})}"


def _nothing(request: Request) -> ForecastPage:
    say = language_of(request)
    return ForecastPage(
        shell=web_of(request).renderer.shell(request),
        title=say.text(LABEL),
        made="",
        measure="",
        series="",
        words="",
        note="",
        measures=(),
        groups=(),
        figures=(),
        rows=(),
        clinics=(),
        lines=(),
        loads=(),
        items=(),
        has_provisional=False,
        empty=Empty(
            say.text(_("There is no forecast yet")),
            say.text(_("The night's run makes one when a month is over. Whoever runs Revisit can make it now:")),
            COMMAND,
        ),
    )
