"""The catalogue of features: one HTML file that needs nothing else, headed in English and Chinese."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from features.catalogue import Catalogue, Distribution
from features.contracts import PATIENT_CONTRACTS
from features.families import FAMILIES
from features.settings import Practice
from serving.report_page import render_report

WIDTH, HEIGHT, GAP = 240, 44, 1  # of a plot, in its own units

CHINESE = {
    "attendance": "就诊规律",
    "due": "复诊到期",
    "plans": "治疗计划",
    "contacts": "联系与回应",
    "money": "费用",
    "people": "患者与家庭",
    "services": "就诊项目",
    "clinic": "门诊与时节",
}


@dataclass(frozen=True)
class Bar:
    """One bin of a plot."""

    x: float
    y: float
    width: float
    height: float
    count: int


@dataclass(frozen=True)
class Row:
    """One feature as the page shows it."""

    name: str
    meaning: str
    unit: str
    reason: str
    contracts: str
    missing: float
    low: str
    middle: str
    high: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Section:
    """One family."""

    name: str
    chinese: str
    description: str
    reads: str
    rows: tuple[Row, ...]


def render_catalogue(catalogue: Catalogue, practice: Practice) -> str:
    """Render the catalogue of a practice's features.

    Parameters
    ----------
    catalogue : Catalogue
        What was found.
    practice : Practice
        Whose name and clock the page shows.

    Returns
    -------
    str
        A whole HTML page: no script, no request to anywhere.
    """
    return render_report(
        "_catalogue.html",
        practice=practice.name,
        as_of=catalogue.as_of.astimezone(ZoneInfo(practice.time_zone)),
        patients=catalogue.patients,
        sections=list(sections(catalogue)),
        contracts=PATIENT_CONTRACTS.values(),
        width=WIDTH,
        height=HEIGHT,
    )


def sections(catalogue: Catalogue) -> Iterator[Section]:
    """Yield the families in the order in which they are declared."""
    for name, distributions in catalogue.families.items():
        family = FAMILIES[name]
        tables = dict.fromkeys((*family.reads, *(family.context.reads if family.context else ())))
        rows = tuple(_row(one) for one in distributions)
        yield Section(name, CHINESE.get(name, ""), family.description, ", ".join(tables), rows)


def _row(one: Distribution) -> Row:
    feature = one.feature
    readers = [c.name for c in PATIENT_CONTRACTS.values() if feature in c.features]
    is_flag = feature.unit == "flag"
    return Row(
        name=feature.name,
        meaning=feature.description.rpartition(" [")[0],
        unit=feature.unit,
        reason=feature.reason or "",
        contracts="" if len(readers) == len(PATIENT_CONTRACTS) else ", ".join(readers),
        missing=one.missing,
        low="0" if is_flag else _shown(one.low),
        middle=f"{one.mean:.1%}" if is_flag and one.mean is not None else _shown(one.median),
        high="1" if is_flag else _shown(one.high),
        bars=tuple(_bars(one.bars)),
    )


def _bars(counts: tuple[int, ...]) -> Iterator[Bar]:
    """Yield what is to be drawn; a bin that holds anybody can be seen."""
    step = WIDTH / max(len(counts), 1)
    for index, count in enumerate(counts):
        if count:
            height = max(HEIGHT * count / max(counts), 1.0)
            yield Bar(index * step, HEIGHT - height, step - GAP, height, count)


def _shown(value: float | None) -> str:
    """Three digits that tell, and no exponent."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
