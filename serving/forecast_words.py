"""What forecasts are called on the page: measures, parts of the practice, remarks, alerts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from babel.numbers import format_decimal

from serving.forecasts import PRACTICE, Series
from serving.i18n import Language
from serving.names import _, service_name

MEASURES: Mapping[str, str] = {
    "visits": _("Visits"),
    "chair_hours": _("Chair hours"),
    "revenue": _("Revenue"),
    "new_patients": _("New patients"),
}
ALERTS: Mapping[str, str] = {"order now": _("Order now"), "order soon": _("Order soon")}
# Remarks as the forecasters write them.
_NOTES: tuple[tuple[str, str], ...] = (
    (r"(\d+) month\(s\) of zero taken as closed", _("Months without anything were taken as closed.")),
    (r"zero at the end of the history", _("Nothing came in the last months: taken as stopped.")),
    (r"after the chair hours", _("No history yet: forecast after the chair hours and the other clinics.")),
    (r"no history", _("There is no history yet to forecast from.")),
)


def measure_name(measure: str, say: Language) -> str:
    """Name a measure; one the catalog does not know is shown as it is."""
    return say.text(MEASURES[measure]) if measure in MEASURES else measure.replace("_", " ").capitalize()


def part_name(one: Series, clinics: Mapping[str, str], say: Language) -> str:
    """Name the part of the practice that a series is of."""
    if one.level == PRACTICE:
        return say.text(_("Whole practice"))
    clinic = clinics.get(one.clinic, one.clinic)
    line = service_name(one.service_line, say) if one.service_line else ""
    return " · ".join(name for name in (clinic, line, one.clinician) if name)


def note_said(note: str, say: Language) -> str:
    """Say a forecaster's remark; empty for one that the catalog does not know."""
    known = next((text for pattern, text in _NOTES if re.search(pattern, note, re.IGNORECASE)), None)
    return say.text(known) if known else ""


def whole(value: float, say: Language) -> str:
    """Write a quantity without decimals."""
    return str(format_decimal(round(value), locale=say.locale))


def percent(share: float) -> str:
    """Write a probability; what is nearly certain or nearly excluded is not called so."""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"
