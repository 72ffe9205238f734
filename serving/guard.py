"""The guard in front of everything: who may pass, what a request may carry, what headers go out.

Everything needs a session, or under ``/api`` a key, unless it is listed here;
what a route needs beyond that is in `serving.permissions`. Forms carry a token,
the API takes JSON alone, websockets are refused, and whatever breaks inside
ends in an answer that tells nothing about the data.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from anyio import to_thread
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.auth import NOTED_EVERY, SignedIn, find_session, is_same_token, note_presence
from serving.client_tokens import is_signed
from serving.clock import now
from serving.keys import find_key
from serving.metrics import NO_ROUTE
from serving.names import _
from serving.problems import answer, is_api, is_fhir
from serving.web import Web

logger = logging.getLogger("revisit.web")

OPEN_PATHS = ("/sign-in", "/healthz", "/livez", "/readyz", "/cds-services", "/fhir/metadata")
OPEN_FOLDERS = ("/static/", "/language/")
MAX_BODY = 64 * 1024
LARGE_BODIES = {"/api/v1/events/open-dental": 4 * 1024 * 1024}  # a thousand rows with all that is dropped
MAX_FIELDS = 50
FORM = "application/x-www-form-urlencoded"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HTTPS_ONLY = "max-age=31536000"
_TOO_MANY_FIELDS = f"A form has at most {MAX_FIELDS} fields."
_TOO_OFTEN = _("Too many requests. Wait a minute, then try again.")


def is_open(path: str) -> bool:
    """Whether a path needs no session."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


class Guard:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, web: Web) -> None:
        self.app = app
        self.web = web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it here."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        outgoing = _Outgoing(send, scope["path"], self.web.options.has_secure_cookies)
        request = Request(scope, receive)
        began = time.perf_counter()
        try:
            await self._answer(request, scope, receive, outgoing)
        finally:
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            self.web.metrics.note(scope["method"], route, outgoing.status, time.perf_counter() - began)

    async def _answer(self, request: Request, scope: Scope, receive: Receive, outgoing: _Outgoing) -> None:
        try:
            refusal = await self._refusal(request)
            if refusal is None:
                await self.app(scope, _replaying(request, receive), outgoing)
            else:
                await refusal(scope, receive, outgoing)
        except Exception as error:
            _log(error, scope)
            if outgoing.status:
                raise RuntimeError("The answer broke off; see the log above.") from None
            await answer(request, 500, "Something broke on our side.")(scope, receive, outgoing)

    async def _refusal(self, request: Request) -> Response | None:
        path, address = request.url.path, request.client.host if request.client else ""
        request.state.form = {}
        request.state.signed_in = None
        if "authorization" in request.headers and is_api(path) and not self.web.rates.may_show_key(address):
            return answer(request, 429, _TOO_OFTEN)
        who = request.state.signed_in = await self._who(request, address)
        if not self.web.rates.may_ask(who.username if who else f"at {address}"):
            return answer(request, 429, _TOO_OFTEN)
        if who is None and not is_open(path):
            return _ask_to_sign_in(request)
        if request.method in SAFE_METHODS:
            return None
        if path == "/sign-in" and not self.web.rates.may_sign_in(address):
            return answer(request, 429, _TOO_OFTEN)
        if not _is_same_origin(request):
            return answer(request, 403, "The request came from another site.")
        most = LARGE_BODIES.get(path, MAX_BODY)
        body = await _body(request, most)
        if body is None:
            return answer(request, 413, f"The request is larger than {most // 1024} KB.")
        request.state.body = body
        return _check_content(request, body, who, self.web.options.form_cookie)

    async def _who(self, request: Request, address: str) -> SignedIn | None:
        """Whose key or session it is; a key alone counts where one is shown, and pages take none."""
        web, at = self.web, now()
        shown = request.headers.get("authorization")
        if shown is not None:
            if not is_api(request.url.path):
                return None
            program = await self._program(request, shown, at)
            if program is None:
                web.rates.note_refused_key(address)
            return program
        token = request.cookies.get(web.options.session_cookie)
        if not token:
            return None
        who = await web.read(find_session, web.engine, token, at, is_demo=web.options.is_demo)
        # A page left open asks for news by itself; that is nobody being there.
        is_polling = "hx-request" in request.headers and "if-none-match" in request.headers
        if who and who.last_seen_at and at - who.last_seen_at >= NOTED_EVERY and not is_polling:
            await to_thread.run_sync(note_presence, web.engine, token, at)
        return who

    async def _program(self, request: Request, shown: str, at: datetime) -> SignedIn | None:
        web, path = self.web, request.url.path
        if is_signed(shown):
            if not path.startswith("/cds-services") or not shown.lower().startswith("bearer "):
                return None
            token = shown[len("bearer ") :].strip()
            return await to_thread.run_sync(web.tokens.read, web.engine, token, path, at)
        return await web.read(find_key, web.engine, shown, at)


def _check_content(request: Request, body: bytes, who: SignedIn | None, form_cookie: str) -> Response | None:
    expected = who.csrf_token if who else None
    if request.url.path == "/sign-in":
        expected = request.cookies.get(form_cookie)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if is_api(request.url.path):
        if is_fhir(request.url.path) and media_type == FORM:  # how FHIR searches without an id in the address
            fields = _fields(body)
            if fields is None:
                return answer(request, 400, _TOO_MANY_FIELDS)
            request.state.form = fields
        elif media_type != "application/json":
            return answer(request, 415, "The API takes application/json alone.")
        if who and who.role == "key":  # no browser sends it by itself, so no other site can make it
            return None
        given = request.headers.get("x-csrf-token")
    else:
        if media_type != FORM:
            return answer(request, 415, f"Forms are sent as {FORM}.")
        fields = _fields(body)
        if fields is None:
            return answer(request, 400, _TOO_MANY_FIELDS)
        request.state.form = fields
        given = request.state.form.get("csrf_token")
    if not is_same_token(given, expected):
        return answer(request, 403, "The form is out of date. Go back, reload the page and try again.")
    return None


def _fields(body: bytes) -> dict[str, str] | None:
    """Read a form; None if it has too many fields."""
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return None
    return {name: values[-1] for name, values in fields.items()}


def _ask_to_sign_in(request: Request) -> Response:
    path = request.url.path
    if is_api(path):
        return answer(request, 401, "Sign in first.")
    is_partial = request.headers.get("hx-request") == "true"
    back = "/schedule" if is_partial else path + (f"?{request.url.query}" if request.url.query else "")
    target = f"/sign-in?next={quote(back, safe='')}" if back != "/" else "/sign-in"
    if is_partial:
        return Response(status_code=401, headers={"HX-Redirect": target})
    return RedirectResponse(target, status_code=303)


def _is_same_origin(request: Request) -> bool:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


async def _body(request: Request, most: int) -> bytes | None:
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or len(length) > 12 or int(length) > most:
        return None
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _replaying(request: Request, receive: Receive) -> Receive:
    if not hasattr(request.state, "body"):
        return receive
    pending: list[Message] = [{"type": "http.request", "body": request.state.body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


class _Outgoing:
    """Adds the security headers to whatever answer goes out."""

    def __init__(self, send: Send, path: str, is_https_only: bool) -> None:
        self.send = send
        self.is_static = path.startswith("/static/")
        self.is_https_only = is_https_only
        self.status = 0  # not begun

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY_HEADERS)
            headers["Cache-Control"] = "public, max-age=86400" if self.is_static else "no-store"
            if self.is_https_only:
                headers["Strict-Transport-Security"] = HTTPS_ONLY
        await self.send(message)


def _log(error: Exception, scope: Scope) -> None:
    # Messages of exceptions and full paths may hold personal data; places in the code do not.
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-6:]]
    route = getattr(scope.get("route"), "path", "(no route)")
    logger.error("%s while answering %s %s at %s", type(error).__name__, scope["method"], route, " <- ".join(places))
