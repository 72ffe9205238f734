"""What the forecast page shows, worked out in words before any template runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from serving.fan import HIGH, LOW, MID, Fan, fan
from serving.forecast_words import ALERTS, note_said, part_name, percent, whole
from serving.forecasts import QUANTILES, Load, Month, Series, Supply
from serving.i18n import Language
from serving.names import _

MONTHS_SHOWN_BACK = 24
TIGHT, SOME = 0.5, 0.2  # chance of overload from which a month is called tight, and may get tight


@dataclass(frozen=True)
class Row:
    """One month of the table, and of the chart that is drawn from it.

    Attributes
    ----------
    iso, label : str
        The month, for programs and for people.
    actual, expected, low, high : str
        In words; empty where there is none.
    values : tuple of (str, str)
        Data attributes by name: what the chart reads.
    is_ahead, is_provisional : bool
        Whether the month is still to come; whether its days off are not out.
    """

    iso: str
    label: str
    actual: str
    expected: str
    low: str
    high: str
    values: tuple[tuple[str, str], ...]
    is_ahead: bool
    is_provisional: bool


@dataclass(frozen=True)
class Figure:
    """One number of the summary and what it is set against."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Small:
    """One small chart and the page that shows it large."""

    title: str
    href: str
    is_current: bool
    total: str
    change: str
    fan: Fan


@dataclass(frozen=True)
class Cell:
    """One clinic's month: how likely its chairs are to be too few; `kind` is none, some, tight or unknown."""

    label: str
    share: str
    kind: str
    said: str


@dataclass(frozen=True)
class ClinicLoad:
    """One clinic's months, and what would help."""

    clinic: str
    cells: tuple[Cell, ...]
    advice: str


@dataclass(frozen=True)
class Item:
    """One consumable that will run out, all in words."""

    name: str
    clinic: str
    in_stock: str
    needed: str
    lasts: str
    order: str
    alert: str
    is_urgent: bool


def rows(one: Series, say: Language) -> tuple[Row, ...]:
    """Say the months of a series: the last two years, and those to come."""
    past = [_row(month, say, is_ahead=False) for month in one.past[-MONTHS_SHOWN_BACK:]]
    return (*past, *(_row(month, say, is_ahead=True) for month in one.ahead))


def figures(one: Series, say: Language) -> tuple[Figure, ...]:
    """Say the next month and the next year of a series."""
    first = one.ahead[0]
    low, middle, high = (whole(first.quantiles[place], say) for place in (LOW, MID, HIGH))
    coming, change = year(one, say)
    between = say.text(_("8 in 10: %(low)s to %(high)s")) % {"low": low, "high": high}
    against = change and say.text(_("%(change)s against the %(n)d months before")) % {
        "change": change,
        "n": len(one.ahead),
    }
    provisional = sum(month.is_provisional for month in one.ahead)
    found = [
        Figure(say.month(first.month), middle, between),
        Figure(say.text(_("Next %(n)d months")) % {"n": len(one.ahead)}, coming, against),
    ]
    if provisional:
        note = say.text(_("official days off are not out yet"))
        found.append(Figure(say.text(_("Provisional months")), str(provisional), note))
    return tuple(found)


def year(one: Series, say: Language) -> tuple[str, str]:
    """Say the sum of the months to come, and its change against as many months before; empty if there are not."""
    coming = sum(month.quantiles[MID] for month in one.ahead)
    before = [month.actual or 0.0 for month in one.past[-len(one.ahead) :]]
    if len(before) < len(one.ahead) or sum(before) <= 0:
        return whole(coming, say), ""
    return whole(coming, say), f"{coming / sum(before) - 1:+.0%}".replace("-", "−")


def small(
    series: Sequence[Series], hrefs: Mapping[str, str], current: str, clinics: Mapping[str, str], say: Language
) -> tuple[Small, ...]:
    """Draw several series of one measure, the largest first."""
    found = []
    for one in sorted(series, key=lambda each: -sum(month.quantiles[MID] for month in each.ahead)):
        total, change = year(one, say)
        found.append(Small(part_name(one, clinics, say), hrefs[one.name], one.name == current, total, change, fan(one)))
    return tuple(found)


def loads(found: Sequence[Load], clinics: Mapping[str, str], say: Language) -> tuple[ClinicLoad, ...]:
    """Say how likely each clinic's chairs are to be too few."""
    said = []
    for clinic, group in groupby(found, key=lambda load: load.clinic):
        months = list(group)
        said.append(
            ClinicLoad(clinics.get(clinic, clinic), tuple(_cell(load, say) for load in months), _advice(months, say))
        )
    return tuple(said)


def supplies(found: Sequence[Supply], clinics: Mapping[str, str], say: Language) -> tuple[Item, ...]:
    """Say what to order, the most urgent first."""
    alerts = [one for one in found if one.alert in ALERTS]
    return tuple(
        _item(one, clinics, say) for one in sorted(alerts, key=lambda one: (one.months_left, one.alert, one.supply))
    )


def remark(one: Series, say: Language) -> str:
    """Say what the forecaster remarked about a series."""
    return note_said(one.note, say) if one.note else ""


def _row(month: Month, say: Language, *, is_ahead: bool) -> Row:
    has_forecast = bool(month.quantiles)
    low, middle, high = (whole(month.quantiles[p], say) if has_forecast else "" for p in (LOW, MID, HIGH))
    values = [(name, f"{value:.4g}") for name, value in zip(QUANTILES, month.quantiles, strict=False)]
    if month.actual is not None:
        values.append(("actual", f"{month.actual:.6g}"))
    return Row(
        iso=month.month.isoformat(),
        label=say.month(month.month),
        actual="" if month.actual is None else whole(month.actual, say),
        expected=middle,
        low=low,
        high=high,
        values=tuple(values),
        is_ahead=is_ahead,
        is_provisional=month.is_provisional,
    )


def _cell(load: Load, say: Language) -> Cell:
    label = say.short_month(load.month)
    if load.overload is None:
        return Cell(label, "–", "unknown", say.text(_("Chair hours of this month are not known")))
    kind = "tight" if load.overload >= TIGHT else "some" if load.overload >= SOME else "none"
    said = say.text(_("%(needed)s chair hours needed, %(usable)s can be filled")) % {
        "needed": whole(load.needed, say),
        "usable": whole(load.usable or 0, say),
    }
    return Cell(label, percent(load.overload), kind, said)


def _advice(months: Sequence[Load], say: Language) -> str:
    tight = [load for load in months if load.overload is not None and load.overload >= SOME and load.add_hours]
    if tight:
        worst = max(tight, key=lambda load: load.add_hours or 0)
        hours = whole(worst.add_hours or 0, say)
        return say.text(_("%(hours)s more chair hours in %(month)s would fit nine futures in ten.")) % {
            "hours": hours,
            "month": say.month(worst.month),
        }
    known = [load for load in months if load.usable]
    if not known:
        return say.text(_("No chair hours are recorded: import capacity to see whether they are enough."))
    used = sum(load.needed for load in known) / sum(load.usable or 0 for load in known)
    return say.text(_("Chairs are enough: %(share)s of the hours that can be filled are needed.")) % {
        "share": f"{used:.0%}"
    }


def _item(one: Supply, clinics: Mapping[str, str], say: Language) -> Item:
    def amount(value: float) -> str:
        return f"{whole(value, say)} {one.unit}".strip()

    lasts = (
        say.text(_("less than a month"))
        if one.months_left < 1
        else say.count("%(n)d month", "%(n)d months", one.months_left) % {"n": one.months_left}
    )
    return Item(
        name=one.name.replace("_", " "),
        clinic=clinics.get(one.clinic, one.clinic),
        in_stock=amount(one.in_stock),
        needed=amount(one.needed_month),
        lasts=lasts,
        order=amount(one.order),
        alert=say.text(ALERTS[one.alert]),
        is_urgent=one.alert == "order now",
    )
