"""``/api/v1/forecasts``: the months ahead, chairs and shelves, as the newest forecast has them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request

from serving.api.shapes import PREFIX, After, Limit, PageAnswer, Shape, cursor, position
from serving.forecasts import Forecast, Load, Month, Series, Supply
from serving.permissions import needs
from serving.problems import Problem
from serving.web import signed_in, web_of

router = APIRouter(prefix=f"{PREFIX}/forecasts", tags=["forecasts"])
NOT_MADE = "There is no forecast yet; run `revisit forecast`."
Level = Literal["practice", "clinic", "service_line", "clinic_line", "clinician"]
_Name = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]


class MonthAnswer(Shape):
    """One month to come; `q10` ... `q90` are the deciles, `q50` the middle."""

    month: date = Field(description="Its first day.", examples=["2026-12-01"])
    q10: float = Field(examples=[331.0])
    q20: float
    q30: float
    q40: float
    q50: float = Field(examples=[364.0])
    q60: float
    q70: float
    q80: float
    q90: float = Field(examples=[404.0])
    is_provisional: bool = Field(description="Whether the official days off of that year are not out yet.")


class ActualAnswer(Shape):
    """One month that is over; `forecast` is the middle of what was forecast a year before, if it was."""

    month: date
    actual: float = Field(examples=[352.0])
    forecast: float | None


class SeriesAnswer(Shape):
    """One measure of one part of the practice."""

    measure: str = Field(examples=["visits"])
    series: str = Field(examples=["service_line:hygiene"])
    level: str = Field(examples=["service_line"])
    clinic: str
    service_line: str = Field(examples=["hygiene"])
    clinician: str
    made_at: datetime
    backtest: dict[str, str] = Field(description="How such forecasts did in the past, in words by language.")
    past: list[ActualAnswer]
    ahead: list[MonthAnswer]


class LoadAnswer(Shape):
    """Chair hours of a clinic's month."""

    clinic: str = Field(examples=["east"])
    month: date
    needed: float = Field(examples=[310.0])
    needed_q90: float
    usable: float | None = Field(description="Chair hours that can be filled; null if not recorded.", examples=[804.0])
    overload: float | None = Field(description="Chance that more is needed than can be filled.", examples=[0.04])
    add_hours: float | None
    is_closure_assumed: bool


class SupplyAnswer(Shape):
    """One consumable of a clinic."""

    clinic: str = Field(examples=["east"])
    supply: str = Field(examples=["gloves"])
    name: str
    unit: str = Field(examples=["pair"])
    in_stock: float
    needed_month: float
    months_left: int
    order: float
    alert: str = Field(description="order now, order soon, or empty.", examples=["order soon"])


async def _forecast(request: Request) -> Forecast:
    who = signed_in(request)
    found = await to_thread.run_sync(web_of(request).forecasts.newest)
    if found is None or who is None:
        raise Problem(503, NOT_MADE)
    return found.seen_by(who.clinics)


@router.get("")
@needs("forecast.view")
async def forecasts(
    request: Request,
    measure: _Name = None,
    level: Level | None = None,
    series: _Name = None,
    limit: Limit = 50,
    after: After = None,
) -> PageAnswer[SeriesAnswer]:
    """Return series of the newest forecast, by measure and name."""
    found, since = await _forecast(request), position(after, str, str)
    wanted = [
        one
        for key, one in sorted(found.series.items())
        if measure in (None, one.measure)
        and level in (None, one.level)
        and series in (None, one.name)
        and (since is None or key > (since[0], since[1]))
    ]
    shown = wanted[:limit]
    return PageAnswer(
        items=[_series(one, found.made_at) for one in shown],
        next=cursor([shown[-1].measure, shown[-1].name]) if len(wanted) > limit else None,
    )


@router.get("/capacity")
@needs("forecast.view")
async def capacity(request: Request, limit: Limit = 50, after: After = None) -> PageAnswer[LoadAnswer]:
    """Return chair hours needed against those that can be filled, by clinic and month."""
    found, since = await _forecast(request), position(after, str, str)
    rest = [one for one in found.loads if since is None or (one.clinic, one.month.isoformat()) > (since[0], since[1])]
    shown = rest[:limit]
    return PageAnswer(
        items=[LoadAnswer(**{name: getattr(one, name) for name in Load.__dataclass_fields__}) for one in shown],
        next=cursor([shown[-1].clinic, shown[-1].month.isoformat()]) if len(rest) > limit else None,
    )


@router.get("/consumables")
@needs("forecast.view")
async def consumables(request: Request, limit: Limit = 50, after: After = None) -> PageAnswer[SupplyAnswer]:
    """Return how long each consumable lasts and what to order, by clinic and item."""
    found, since = await _forecast(request), position(after, str, str)
    rest = [one for one in found.supplies if since is None or (one.clinic, one.supply) > (since[0], since[1])]
    shown = rest[:limit]
    return PageAnswer(
        items=[SupplyAnswer(**{name: getattr(one, name) for name in Supply.__dataclass_fields__}) for one in shown],
        next=cursor([shown[-1].clinic, shown[-1].supply]) if len(rest) > limit else None,
    )


def _series(one: Series, made_at: datetime) -> SeriesAnswer:
    return SeriesAnswer(
        measure=one.measure,
        series=one.name,
        level=one.level,
        clinic=one.clinic,
        service_line=one.service_line,
        clinician=one.clinician,
        made_at=made_at,
        backtest=dict(one.words),
        past=[_past(month) for month in one.past],
        ahead=[_ahead(month) for month in one.ahead],
    )


def _past(month: Month) -> ActualAnswer:
    return ActualAnswer(
        month=month.month, actual=month.actual or 0.0, forecast=month.quantiles[4] if month.quantiles else None
    )


def _ahead(month: Month) -> MonthAnswer:
    q10, q20, q30, q40, q50, q60, q70, q80, q90 = month.quantiles
    return MonthAnswer(
        month=month.month, is_provisional=month.is_provisional,
        q10=q10, q20=q20, q30=q30, q40=q40, q50=q50, q60=q60, q70=q70, q80=q80, q90=q90,
    )  # fmt: skip
