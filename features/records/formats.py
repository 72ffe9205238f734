"""Formats that are whole systems rather than files of columns, and the mappings that come with the package.

A mapping with ``format = "fhir"`` or ``"open_dental"`` starts from the built-in
mapping of that name and says only what is different at the practice: its time
zone, its codes (``[parameters]``), a table of its own. ``format = "sql"``
brings every query itself.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import Any

SYSTEM_FORMATS = ("fhir", "open_dental", "sql")
FORMATS = ("delimited", "spaces", "fixed", *SYSTEM_FORMATS)
DATABASE_FORMATS = ("open_dental", "sql")
SYSTEM_SETTINGS = {"format", "parameters", "left_out"}
_BUILT_IN = ("fhir", "open_dental")
_MERGED = ("tables", "parameters", "left_out")


def built_in(name: str) -> dict[str, Any] | None:
    """Return the content of the mapping called `name` that comes with the package, if there is one."""
    if name not in _BUILT_IN:
        return None
    text = resources.files("features.records").joinpath("mappings", f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def with_built_in(content: dict[str, Any], time_zone: str | None) -> dict[str, Any]:
    """Complete a mapping by what its format brings along.

    Parameters
    ----------
    content : dict
        A mapping file as read.
    time_zone : str, optional
        The zone to take where it names none.

    Returns
    -------
    dict
        Tables, parameters and counts of the built-in mapping, those of
        `content` first.
    """
    if content.get("format") not in SYSTEM_FORMATS:
        return content
    base = built_in(str(content["format"])) or {}
    merged = base | content
    for section in _MERGED:
        given = content.get(section, {})
        if isinstance(given, dict):
            merged[section] = base.get(section, {}) | given
    if time_zone is not None:
        merged.setdefault("time_zone", time_zone)
    return merged


def wrong_system_settings(content: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the settings that only whole systems have."""
    form = content.get("format", "delimited")
    if form not in FORMATS:
        yield f"format must be one of {', '.join(FORMATS)}"
        return
    parameters = content.get("parameters", {})
    if not isinstance(parameters, dict) or any(not _is_parameter(value) for value in parameters.values()):
        yield '[parameters] must be texts, numbers or lists of them, such as missed_codes = ["D9986"]'
    left_out = content.get("left_out", {})
    if not isinstance(left_out, dict) or not all(isinstance(query, str) for query in left_out.values()):
        yield '[left_out] must be queries that count, such as "planned appointments" = "SELECT count(*) ..."'
    tables = content.get("tables")
    for name, entry in tables.items() if isinstance(tables, dict) else ():
        has_query = isinstance(entry, dict) and "query" in entry
        if form in DATABASE_FORMATS and not has_query:
            yield f'{name} needs a query, such as query = "SELECT ..."'
        if form not in DATABASE_FORMATS and has_query:
            yield f'{name}: a query needs format = "sql"'


def _is_parameter(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, (str, int, float)) for item in value)
    return isinstance(value, (str, int, float))
