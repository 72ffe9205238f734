"""Who may do what: one table of permissions by role, and how a route says what it needs.

A route without a declaration is refused, whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import Request

from serving.db import ROLES
from serving.names import _
from serving.problems import Problem

# `key`: whether an API key may have it as a scope. `see.` permissions are fields of patients; a role without
# `see.names` is shown initials, and the practice's own number where there is no name.
_TABLE = """
                    front_desk  marketing  manager  admin  key
    schedule.view       x           -         x       x     x
    schedule.write      x           -         -       x     -
    patient.view        x           -         -       x     x
    recall.view         x           x         x       x     x
    recall.note         x           x         x       x     x
    recall.start        -           x         x       x     -
    recall.export       -           x         -       x     -
    forecast.view       -           -         x       x     x
    models.view         -           -         x       x     x
    events.write        -           -         -       -     x
    audit.view          -           -         -       x     x
    metrics.view        -           -         -       x     x
    see.names           x           x         -       x     -
    see.phones          x           x         -       x     -
    see.ages            x           -         -       x     -
    see.amounts         x           x         x       x     -
"""
OPEN = "open"  # for everybody, signed in or not
SIGNED_IN = "signed_in"  # for everybody who is signed in
_DECLARED = "needed_permission"
NOT_ALLOWED = _("Your role does not include this. Ask whoever runs Revisit.")

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def _read() -> dict[str, frozenset[str]]:
    head, *lines = (line.split() for line in _TABLE.strip().splitlines())
    return {
        name: frozenset(column for column, mark in zip(head, marks, strict=True) if mark == "x")
        for name, *marks in lines
    }


GRANTS: Mapping[str, frozenset[str]] = _read()
SCOPES = tuple(name for name, holders in GRANTS.items() if "key" in holders)


def permissions_of(role: str) -> frozenset[str]:
    """Return all that a role may do."""
    return frozenset(name for name, holders in GRANTS.items() if role in ROLES and role in holders)


def needs(permission: str) -> Callable[[Endpoint], Endpoint]:
    """Declare what an endpoint needs; stands directly above the function.

    Parameters
    ----------
    permission : str
        A name of `GRANTS`, or `OPEN`, or `SIGNED_IN`.

    Raises
    ------
    KeyError
        At import, if there is no such permission.
    """
    if permission not in (OPEN, SIGNED_IN):
        GRANTS[permission]

    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _DECLARED, permission)
        return endpoint

    return declare


def needed(endpoint: object) -> str | None:
    """Return what an endpoint has declared, or None."""
    found: str | None = getattr(endpoint, _DECLARED, None)
    return found


async def authorise(request: Request) -> None:
    """Dependency of every route: let only those pass who hold what the route needs.

    Raises
    ------
    Problem
        403 otherwise, and for a route that declares nothing.
    """
    permission = needed(request.scope.get("endpoint"))
    who = request.state.signed_in
    if permission == OPEN or (who and (permission == SIGNED_IN or permission in who.permissions)):
        return
    raise Problem(403, NOT_ALLOWED, "not_allowed")
