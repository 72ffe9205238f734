"""Reading FHIR R4 elements: whatever is not of the expected shape counts as absent, and nothing here ever fails.

References come out as ids of their type, or as what `features.records.fhir`
looks up once all resources are read: ``?system|value`` (an identifier) and
``~id`` (a URN that does not tell its type).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

Resource = dict[str, Any]
Row = dict[str, str | None]

_DATE_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$")


def at(value: Any, *steps: str | int) -> Any:
    """Follow `steps` into nested objects and lists; None where they do not lead anywhere."""
    for step in steps:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and len(value) > step else None
    return value


def text(value: Any) -> str | None:
    """A scalar as text without lone surrogates; nothing else is text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return (value if value.isascii() else value.encode("utf-8", "replace").decode()).strip() or None
    return str(value) if isinstance(value, (int, float)) else None


def each(value: Any) -> list[Resource]:
    """The objects in a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def instant(value: Any, zone: ZoneInfo, *, is_end: bool = False) -> datetime | None:
    """A dateTime as a moment; a date is its first second, or its last one where `is_end`."""
    given = text(value) or ""
    try:
        if _DATE_TIME.match(given):
            return datetime.fromisoformat(given).astimezone(UTC)
        if re.fullmatch(r"\d{4}-\d\d-\d\d", given):
            day = datetime.strptime(given, "%Y-%m-%d").date()  # noqa: DTZ007  (the zone is added below)
            return datetime.combine(day, time(23, 59, 59) if is_end else time(), tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None


def reference(resource: Resource, value: Any, kind: str) -> str | None:
    """What a Reference points to, if that is a `kind`."""
    target, declared = text(at(value, "reference")) or "", text(at(value, "type"))
    if declared not in (None, kind):
        return None
    if target.startswith("#"):
        inside = [one for one in each(resource.get("contained")) if one.get("id") == target[1:]]
        if not inside or inside[0].get("resourceType") != kind:
            return None
        return _token(at(inside[0], "identifier", 0))
    if "?identifier=" in target:
        asked, _, token = target.partition("?identifier=")
        return f"?{token}" if asked.rpartition("/")[2] == kind else None
    if target.startswith(("urn:uuid:", "urn:oid:")):
        return ("" if declared else "~") + target.split(":", 2)[2]
    if target:
        parts = target.split("/_history/")[0].rstrip("/").split("/")
        return parts[-1] or None if len(parts) >= 2 and parts[-2] == kind else None
    return _token(at(value, "identifier"))


def tokens(resource: Resource) -> Iterator[str]:
    """Under which other names this resource is referred to."""
    yield f"~{text(resource.get('id'))}"
    for identifier in each(resource.get("identifier")):
        token = _token(identifier)
        if token:
            yield token


def _token(identifier: Any) -> str | None:
    value = text(at(identifier, "value"))
    return f"?{text(at(identifier, 'system')) or ''}|{value}" if value else None


def first_of(resource: Resource, candidates: list[Any], kind: str) -> str | None:
    """The first that surely is a `kind`; else all that may be, to be looked up."""
    found = [one for one in (reference(resource, value, kind) for value in candidates) if one]
    sure = [one for one in found if not one.startswith("~")]
    return sure[0] if sure else " ".join(found) or None


def concept(resource: Resource, *names: str) -> str | None:
    """The words of the first CodeableConcept there is."""
    for name in names:
        value = resource.get(name)
        concept = at(value, 0) if isinstance(value, list) else value
        coding = at(concept, "coding", 0)
        found = text(at(concept, "text")) or text(at(coding, "display")) or text(at(coding, "code"))
        if found:
            return found
    return None


def words_of(resource: Resource, name: str) -> str:
    """All words and codes of one or several CodeableConcepts."""
    value = resource.get(name)
    found: list[Any] = []
    for concept in each(value) if isinstance(value, list) else each([value]):
        found.append(concept.get("text"))
        for coding in each(concept.get("coding")):
            found += [coding.get("display"), coding.get("code")]
    return " ".join(filter(None, map(text, found)))


def first_match(patterns: Mapping[str, str], words: str) -> str | None:
    """Return the first name whose pattern is found in `words`."""
    return next((word for word, pattern in patterns.items() if re.search(pattern, words, re.IGNORECASE)), None)


def day_of(given: str | None) -> str | None:
    """Return the day of a date or dateTime that tells one."""
    return given[:10] if given and len(given) >= len("2000-01-01") else None


def human_name(resource: Resource) -> str | None:
    """Return the name as it is used."""
    names = each(resource.get("name"))
    order = {"official": 0, "usual": 1, None: 2}
    for name in sorted(names, key=lambda one: order.get(text(one.get("use")), 3)):
        given = name.get("given")
        parts = [*(given if isinstance(given, list) else []), name.get("family")]
        found = text(name.get("text")) or " ".join(filter(None, map(text, parts)))
        if found:
            return found
    return None


def telecom(resource: Resource, systems: tuple[str, ...]) -> str | None:
    """Return the first number or address of these systems, a mobile one first."""
    lines = [one for one in each(resource.get("telecom")) if one.get("system") in systems and one.get("use") != "old"]
    lines.sort(key=lambda one: one.get("use") != "mobile")
    return next((found for one in lines if (found := text(one.get("value")))), None)


def earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    """Return the earlier of both; the only one there is."""
    return min(one, other) if one and other else one or other


def later(one: datetime | None, other: datetime | None) -> datetime | None:
    """The later of both; nothing without the first."""
    return max(one, other) if one and other else one


def iso(moment: datetime | None) -> str | None:
    """Return a moment as text."""
    return moment.isoformat() if moment else None


def text_or_iso(moment: datetime | None, given: Any) -> str | None:
    """What cannot be read stays as it is, so that the contract names it."""
    return iso(moment) or text(given)


def last_updated(resource: Resource, zone: ZoneInfo) -> datetime | None:
    """Return when the resource was last changed; a day counts as its end."""
    return instant(at(resource, "meta", "lastUpdated"), zone, is_end=True)
