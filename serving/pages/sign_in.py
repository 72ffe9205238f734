"""Signing in and out, and the language switch."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import partial

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from serving import audit, auth
from serving.clock import now
from serving.i18n import LANGUAGES
from serving.names import _
from serving.permissions import OPEN, SIGNED_IN, needs
from serving.problems import Problem
from serving.render import PageContext, respond
from serving.web import (
    DEMO_ACCOUNTS,
    LANGUAGE_COOKIE,
    language_of,
    local_path,
    signed_in,
    web_of,
)

router = APIRouter()
# argon2 takes 64 MB and a core for a fifth of a second: never more than two at once.
_hashing = CapacityLimiter(2)
_YEAR = 365 * 24 * 3600


@dataclass(frozen=True)
class SignInPage(PageContext):
    """The sign-in form.

    Attributes
    ----------
    next : str
        Where to go afterwards.
    csrf_token : str
        Ties the form to this browser.
    username, problem : str
        What was typed and why it was refused.
    demo : tuple of (str, str)
        User name and password of the demo accounts, in demo mode.
    """

    next: str
    csrf_token: str
    username: str
    problem: str
    demo: tuple[tuple[str, str], ...]


@router.get("/sign-in")
@needs(OPEN)
async def show(request: Request) -> Response:
    """Show the form; whoever is signed in already goes on."""
    target = local_path(request.query_params.get("next"))
    if signed_in(request):
        return RedirectResponse(target, status_code=303)
    return _form(request, target)


@router.post("/sign-in")
@needs(OPEN)
async def submit(request: Request) -> Response:
    """Check the password; on success open a new session and end the old one."""
    web, form = web_of(request), request.state.form
    username, target = form.get("username", ""), local_path(form.get("next"))
    old = request.cookies.get(web.options.session_cookie)
    try:
        check = partial(auth.sign_in, is_demo=web.options.is_demo)
        token = await to_thread.run_sync(check, web.engine, username, form.get("password", ""), now(), limiter=_hashing)
    except (auth.SignInRefusedError, auth.SignInLockedError) as error:
        await audit.note(request, "sign_in_refused")
        return _form(request, target, username, str(error), error.http_status)
    await to_thread.run_sync(auth.sign_out, web.engine, old)
    act = audit.Act(now(), "sign_in", username=username.strip().casefold())
    await to_thread.run_sync(audit.record, web.engine, act)
    response = RedirectResponse(target, status_code=303)
    _set_cookie(request, response, web.options.session_cookie, token, int(auth.SESSION_LASTS.total_seconds()))
    response.delete_cookie(web.options.form_cookie, secure=web.options.has_secure_cookies, httponly=True)
    return response


@router.post("/sign-out")
@needs(SIGNED_IN)
async def leave(request: Request) -> Response:
    """End the session, on the server and in the browser."""
    web = web_of(request)
    await to_thread.run_sync(auth.sign_out, web.engine, request.cookies.get(web.options.session_cookie))
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(web.options.session_cookie, secure=web.options.has_secure_cookies, httponly=True)
    return response


@router.get("/language/{code}")
@needs(OPEN)
async def switch_language(request: Request, code: str) -> Response:
    """Remember the language and go back to where the visitor was."""
    if code not in LANGUAGES:
        raise Problem(404, "Not Found.")
    response = RedirectResponse(local_path(request.query_params.get("next")), status_code=303)
    _set_cookie(request, response, LANGUAGE_COOKIE, code, _YEAR)
    return response


def _form(request: Request, target: str, username: str = "", problem: str = "", status: int = 200) -> Response:
    web, say = web_of(request), language_of(request)
    token = request.cookies.get(web.options.form_cookie) or secrets.token_urlsafe(32)
    context = SignInPage(
        shell=web.renderer.shell(request),
        next=target,
        csrf_token=token,
        username=username,
        problem=say.text(problem) if problem else "",
        demo=tuple((name, password) for name, password, _role in DEMO_ACCOUNTS) if web.options.is_demo else (),
    )
    response = respond(request, context, status)
    _set_cookie(request, response, web.options.form_cookie, token, 3600)
    return response


def _set_cookie(request: Request, response: Response, name: str, value: str, lasts: int) -> None:
    is_secure = web_of(request).options.has_secure_cookies
    response.set_cookie(name, value, max_age=lasts, httponly=True, samesite="lax", secure=is_secure, path="/")


# Said by serving.auth.
_KNOWN = (
    _("The user name or the password is wrong."),
    _("Too many failed attempts. Wait five minutes, then try again."),
)
