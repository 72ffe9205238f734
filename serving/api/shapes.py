"""What all answers of the API share: strict shapes, the one error, pages of lists."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from serving.problems import Problem

PREFIX = "/api/v1"
MOST_AT_ONCE = 200
Item = TypeVar("Item")
FIRST_YEAR, LAST_YEAR = 1900, 2200


def _within_reach(moment: datetime) -> datetime:
    if not FIRST_YEAR <= moment.year < LAST_YEAR:  # the calendar's ends have no UTC in some zones
        raise ValueError(f"a moment between {FIRST_YEAR} and {LAST_YEAR} is expected")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_within_reach)]


class Shape(BaseModel):
    """Base of every body: no unknown field comes in, and no error message repeats what was sent."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ErrorBody(Shape):
    """What went wrong, in one sentence."""

    code: str = Field(examples=["not_found"])
    message: str = Field(examples=["This clinic is not published here."])


class ErrorAnswer(Shape):
    """The one shape of every error."""

    error: ErrorBody


ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorAnswer} for code in (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
}


# A body can be too large, or no JSON.
BODY_ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": ErrorAnswer} for code in (413, 415)}


class PageAnswer(Shape, Generic[Item]):
    """One page of a list; `next` is null on the last."""

    items: list[Item]
    next: str | None = Field(description="Pass it as `after` to get the next page.", examples=["WzEyM10"])


Limit = Annotated[int, Query(ge=1, le=MOST_AT_ONCE, description="Items per page.")]
After = Annotated[str | None, Query(description="`next` of the page before.", max_length=200)]


def cursor(position: Sequence[str | int]) -> str:
    """Pack the sort key of a page's last item, such as ``[123]``, for `PageAnswer.next`."""
    packed = json.dumps(list(position), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def position(after: str | None, *kinds: type) -> list[Any] | None:
    """Unpack what `cursor` packed; None for the first page.

    Parameters
    ----------
    after : str or None
        As sent.
    *kinds : type
        Of each part of the sort key.

    Raises
    ------
    Problem
        400 if no page ever carried it.
    """
    if not after:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        fits = isinstance(found, list) and [type(part) for part in found] == list(kinds)
    except (ValueError, RecursionError):
        fits = False
    if not fits or any(isinstance(part, int) and abs(part) >= 2**63 for part in found):
        raise Problem(400, "`after` is not the `next` of any page.")
    return list(found)
