"""The page shown when there is no page."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from serving.names import _
from serving.render import PageContext, respond
from serving.web import language_of, web_of

_TITLES = {
    403: _("This was stopped for safety"),
    404: _("There is no such page"),
    429: _("Please wait a moment"),
    500: _("Something broke on our side"),
    503: _("Not ready yet"),
}
_OTHER = _("This request cannot be answered")
# Sentences that come from elsewhere in the code, said in the visitor's language.
_KNOWN = (
    _("Not Found."),
    _("Something broke on our side."),
    _("The request came from another site."),
    _("The form is out of date. Go back, reload the page and try again."),
    _("This clinic is not published here."),
    _("The day must be written like 2026-11-21."),
    _("There is no page for your role yet."),
)
_HINTS = {
    403: _("Nothing was changed."),
    404: _("The link may be old, or the address mistyped."),
    500: _("Nothing you did was lost. Try again; if it stays, tell whoever runs Revisit the time it happened."),
}


@dataclass(frozen=True)
class ErrorPage(PageContext):
    """What went wrong and where to go from here.

    Attributes
    ----------
    status : int
        HTTP status.
    title, message, hint : str
        From short to long.
    """

    status: int
    title: str
    message: str
    hint: str


def error_response(request: Request, status: int, message: str) -> Response:
    """Answer with the error page, in the visitor's language."""
    say = language_of(request)
    title = say.text(_TITLES.get(status, _OTHER))
    said = say.text(message).rstrip(".")
    is_stated = said == title or message == "Not Found."
    context = ErrorPage(
        shell=web_of(request).renderer.shell(request),
        status=status,
        title=title,
        message="" if is_stated else say.text(message),
        hint=say.text(_HINTS[status]) if status in _HINTS else "",
    )
    return respond(request, context, status)
