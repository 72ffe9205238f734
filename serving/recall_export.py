"""A recall list as a file for whoever makes the calls: CSV or Excel, tasks and nothing more."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from serving.names import _
from serving.recall_board import DAYS_PER_WEEK, Look, month, name_of
from serving.recall_lists import Item
from serving.recall_reasons import sentence
from serving.recall_words import CHANNEL_LABELS, VALUE_LABELS

FORMATS = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
WIDTHS = (7, 14, 22, 18, 18, 14, 14, 16, 10, 60, 16)
_HEADER = (
    _("Place"),
    _("Patient number"),
    _("Patient"),
    _("Phone"),
    _("Clinic"),
    _("By"),
    _("Weeks overdue"),
    _("Last contact"),
    _("Value"),
    _("Why"),
    _("Outcome"),
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def exported(kind: str, items: Sequence[Item], look: Look) -> bytes:
    """Write a list in one of `FORMATS`; cells are text or numbers, never formulas.

    Parameters
    ----------
    kind : str
        ``csv`` or ``xlsx``.
    items : sequence of Item
        Those that may be contacted now.
    look : Look
        Language, and the fields that the reader may see.

    Returns
    -------
    bytes
        One row per patient under a header.
    """
    header = [look.language.text(name) for name in _HEADER]
    lines = [_line(item, look) for item in items]
    return _csv(header, lines) if kind == "csv" else _xlsx(header, lines)


def harmless(value: str | int) -> str | int:
    """Keep a spreadsheet from reading a text as a formula.

    Examples
    --------
    >>> harmless("=1+1"), harmless("+86 138"), harmless(7)
    ("'=1+1", "'+86 138", 7)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def _line(item: Item, look: Look) -> list[str | int]:
    say = look.language
    return [
        item.place,
        item.patient_id,
        name_of(item, look.sees),
        (item.phone or "") if "see.phones" in look.sees and item.channels[0] in ("phone", "sms") else "",
        look.clinics.get(item.clinic_id, item.clinic_id),
        say.text(CHANNEL_LABELS[item.channels[0]]),
        item.overdue_days // DAYS_PER_WEEK,
        month(item.last_contact_at, look),
        say.text(VALUE_LABELS[item.value_band]),
        "; ".join(sentence(reason, say) for reason in item.reasons),
        "",
    ]


def _csv(header: Sequence[str], lines: Sequence[Sequence[str | int]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(header)
    writer.writerows([harmless(value) for value in line] for line in lines)
    return stream.getvalue().encode("utf-8-sig")  # the mark is for Excel


def _xlsx(header: Sequence[str], lines: Sequence[Sequence[str | int]]) -> bytes:
    import xlsxwriter  # type: ignore[import-untyped]

    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream, {"in_memory": True, "strings_to_formulas": False}) as book:
        sheet, bold = book.add_worksheet(), book.add_format({"bold": True})
        for column, (name, width) in enumerate(zip(header, WIDTHS, strict=True)):
            sheet.write_string(0, column, name, bold)
            sheet.set_column(column, column, width)
        for number, line in enumerate(lines, start=1):
            for column, value in enumerate(line):
                if isinstance(value, int):
                    sheet.write_number(number, column, value)
                else:
                    sheet.write_string(number, column, value)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, max(len(lines), 1), len(header) - 1)
    return stream.getvalue()
