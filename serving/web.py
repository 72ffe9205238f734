"""What every request of the web worker shares: settings, database, renderer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from features.errors import SettingsError
from features.settings import Settings
from serving.auth import SignedIn
from serving.client_tokens import ClientTokens
from serving.forecasts import Forecasts
from serving.i18n import LANGUAGES, Language, language
from serving.metrics import Metrics
from serving.published import Published
from serving.rates import Rates

if TYPE_CHECKING:
    from serving.render import Renderer

P = ParamSpec("P")
R = TypeVar("R")

# User name, password and role; shown on the sign-in page, and of use in demo mode only.
DEMO_ACCOUNTS = (
    ("demo", "demo-front-desk", "front_desk"),
    ("demo-marketing", "demo-marketing", "marketing"),
    ("demo-manager", "demo-manager", "manager"),
    ("demo-admin", "demo-admin", "admin"),
)
LANGUAGE_COOKIE = "revisit_language"


@dataclass(frozen=True)
class Options:
    """How the web worker is run, as opposed to what the practice is.

    Attributes
    ----------
    is_demo : bool
        Show the demo account on the sign-in page (``REVISIT_DEMO=1``).
    has_secure_cookies : bool
        Send cookies over HTTPS only (``REVISIT_SECURE_COOKIES=1``); turn it on
        behind TLS.
    requests_per_minute : int
        How often one person or program may ask
        (``REVISIT_REQUESTS_PER_MINUTE``).
    """

    is_demo: bool = False
    has_secure_cookies: bool = False
    requests_per_minute: int = 1200

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Options:
        """Read the ``REVISIT_*`` switches."""
        env = os.environ if environ is None else environ
        return cls(
            is_demo=env.get("REVISIT_DEMO") == "1",
            has_secure_cookies=env.get("REVISIT_SECURE_COOKIES") == "1",
            requests_per_minute=_whole(env, "REVISIT_REQUESTS_PER_MINUTE", cls.requests_per_minute),
        )

    @property
    def session_cookie(self) -> str:
        """Name of the session cookie; the prefix makes browsers insist on HTTPS."""
        return "__Host-revisit" if self.has_secure_cookies else "revisit_session"

    @property
    def form_cookie(self) -> str:
        """Name of the cookie that ties the sign-in form to the browser it was sent to."""
        return "__Host-revisit-form" if self.has_secure_cookies else "revisit_form"


@dataclass(frozen=True)
class Web:
    """Made once per worker, kept in ``app.state.web``."""

    settings: Settings
    options: Options
    engine: Engine
    renderer: Renderer
    published: Published
    rates: Rates
    forecasts: Forecasts
    tokens: ClientTokens
    metrics: Metrics = field(default_factory=Metrics)

    async def read(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a short read: SQLite answers faster than a thread starts, PostgreSQL may not."""
        if self.engine.dialect.name == "sqlite":
            return function(*args, **kwargs)
        return await run_in_threadpool(function, *args, **kwargs)


def _whole(env: Mapping[str, str], name: str, default: int) -> int:
    given = env.get(name, "").strip() or str(default)
    if not given.isdecimal() or int(given) < 1:
        raise SettingsError(f"{name} must be a whole number above 0.")
    return int(given)


def web_of(request: Request) -> Web:
    """Return what the application was made with."""
    found: Web = request.app.state.web
    return found


def signed_in(request: Request) -> SignedIn | None:
    """Return who is signed in; the guard found out before."""
    found: SignedIn | None = getattr(request.state, "signed_in", None)
    return found


def language_of(request: Request, asked: str | None = None) -> Language:
    """Return the language asked for, else the one the visitor chose before, else the practice's."""
    chosen = asked or request.cookies.get(LANGUAGE_COOKIE, "")
    return language(chosen if chosen in LANGUAGES else web_of(request).settings.practice.language)


def accepted_language(request: Request) -> Language:
    """Return the language that a program's ``Accept-Language`` asks for, else the practice's.

    Of several, the one with the highest weight of those there are.
    """
    asked = []
    for part in request.headers.get("accept-language", "")[:200].split(","):
        tag, _, weight = part.strip().partition(";q=")
        code = tag.partition("-")[0].lower()
        asked += [(_weight(weight), code)] if code in LANGUAGES else []
    best = max(asked, key=lambda pair: pair[0], default=(0.0, ""))
    return language_of(request, best[1] if best[0] > 0 else None)


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0) if text else 1.0
    except ValueError:
        return 0.0


def local_path(target: str | None, default: str = "/") -> str:
    r"""Return `target` if it is a path of this site, so that no link leads visitors away.

    Examples
    --------
    >>> local_path("/schedule?day=2026-11-21"), local_path("//evil.example"), local_path("/\\evil")
    ('/schedule?day=2026-11-21', '/', '/')
    """
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")) or not target.isprintable():
        return default
    return target.replace("\\", "%5C")
