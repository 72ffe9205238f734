"""The short form for a file of visits: who came, on which day, what was paid.

::

    [visits]
    patient_id = "病历号"
    date = "日期"
    amount = "实收"                # optional; in the major unit (yuan) unless unit = "minor"
    where = "业务类型 <> '充值'"    # optional: which rows are visits
    same_day = "one"               # optional: rows of one patient and day are one visit

Every optional column of `appointments`, `patients` and `contact_details` may be
given as well. It expands to ordinary table mappings: each visit becomes a
completed appointment, booked and held on its day, whose outcome counts as known
at the end of that day. All rows tell of patients and payments; `where` chooses
those that are visits.

A visit has no number of its own, so it gets patient, day and a running number
within them, in file order. Rows of one patient and day are visits of their own
(``same_day = "each"``, the default) or one (``"one"``); amounts stay apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.records.tables import TABLES

# Columns that the loader adds to the file's own; the colon keeps them from meeting one.
VISIT_ID, ENTRY_ID, PAID_FOR, KIND = "visit:id", "visit:entry", "visit:paid for", "visit:kind"
IS_VISIT, NUMBER, CENTS = "visit:is one", "visit:number", "visit:cents"
DERIVED = frozenset({VISIT_ID, ENTRY_ID, PAID_FOR, KIND, IS_VISIT, NUMBER, CENTS})
ONE_CLINIC = "clinic"

_OWN = ("patient_id", "date", "amount", "unit", "where", "same_day", "file")
_FIXED = {"appointment_id", "patient_id", "status", "status_known_at", "booked_at", "starts_at", "is_start_time_known"}
_PEOPLE = ("patients", "contact_details")


@dataclass(frozen=True)
class Visits:
    """What numbering the visits of a file needs.

    Attributes
    ----------
    patient, date : str
        Columns of the file.
    amount : str
        Column of the amount, if any.
    unit : str
        Its unit, ``major`` or ``minor``.
    where : str
        SQL that is true for rows that are visits.
    is_one_a_day : bool
        Whether rows of one patient and day are one visit.
    """

    patient: str
    date: str
    amount: str = ""
    unit: str = "major"
    where: str = ""
    is_one_a_day: bool = False


def expand(given: Any, problems: list[str]) -> tuple[Visits | None, dict[str, dict[str, Any]]]:
    """Turn the short form into sections as ``[tables.NAME]`` would hold them.

    Parameters
    ----------
    given : dict
        The section ``[visits]``.
    problems : list of str
        What is wrong with it is added here.

    Returns
    -------
    tuple of Visits and dict of str to dict
        Nothing of both where the section cannot be understood.
    """
    found = list(_problems(given))
    problems.extend(f"[visits]: {problem}" for problem in found)
    if found:
        return None, {"appointments": {}} if isinstance(given, dict) else {}
    file = {"file": given["file"]} if "file" in given else {}
    extra = {name: form for name, form in given.items() if name not in _OWN}
    visits = Visits(
        patient=given["patient_id"],
        date=given["date"],
        amount=given.get("amount", ""),
        unit=given.get("unit", "major"),
        where=given.get("where", ""),
        is_one_a_day=given.get("same_day") == "one",
    )
    sections = {"patients": _people(visits, extra, "patients"), "appointments": _appointments(visits, extra)}
    if set(extra) & _names("contact_details"):
        sections["contact_details"] = _people(visits, extra, "contact_details")
    if visits.amount:
        sections["payments"] = _payments(visits, extra)
    return visits, {name: section | file for name, section in sections.items()}


def _appointments(visits: Visits, extra: Mapping[str, Any]) -> dict[str, Any]:
    columns = {
        "appointment_id": VISIT_ID,
        "patient_id": visits.patient,
        "clinic_id": {"value": ONE_CLINIC},
        "booked_at": {"day": visits.date},
        "starts_at": {"day": visits.date},
        "is_start_time_known": {"value": "false"},
        "status": {"value": "completed"},
    }
    columns |= {name: form for name, form in extra.items() if name in _names("appointments")}
    is_visit = f'"{IS_VISIT}"' + (f' AND "{NUMBER}" = 1' if visits.is_one_a_day else "")
    return {"columns": columns, "where": is_visit}


def _people(visits: Visits, extra: Mapping[str, Any], table: str) -> dict[str, Any]:
    columns = {"patient_id": visits.patient, "known_from_at": {"day": visits.date}}
    return {"columns": columns | {name: form for name, form in extra.items() if name in _names(table)}}


def _payments(visits: Visits, extra: Mapping[str, Any]) -> dict[str, Any]:
    columns = {
        "payment_id": ENTRY_ID,
        "patient_id": visits.patient,
        "clinic_id": extra.get("clinic_id", {"value": ONE_CLINIC}),
        "appointment_id": PAID_FOR,
        "kind": KIND,
        "amount_cents": {"column": visits.amount, "unit": visits.unit},
        "paid_at": {"day": visits.date},
    }
    return {
        "columns": columns,
        "where": f"nullif(trim(\"{visits.amount.replace(chr(34), chr(34) * 2)}\"), '') IS NOT NULL",
    }


def _names(table: str) -> set[str]:
    return set(TABLES[table].column_names) - {"known_from_at"} - _FIXED


def _problems(given: Any) -> list[str]:
    if not isinstance(given, dict):
        return ["expected a section with patient_id and date"]
    found = [
        f"{name} must be the name of a column"
        for name in ("patient_id", "date", "amount")
        if (name in given or name != "amount") and not (isinstance(given.get(name), str) and given[name])
    ]
    found += [f"{name} must be text" for name in ("where", "file") if not isinstance(given.get(name, ""), str)]
    if given.get("unit", "major") not in ("major", "minor"):
        found.append('unit must be "major" or "minor"')
    if given.get("same_day", "each") not in ("each", "one"):
        found.append('same_day must be "each" or "one"')
    known = {*_OWN, *_names("appointments"), *(name for table in _PEOPLE for name in _names(table))}
    found += [f"unknown setting {name}" for name in given if name not in known]
    return found
