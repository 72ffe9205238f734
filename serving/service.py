"""The BentoML service: the web application and nothing else.

Each setting below answers a measured trap: tracing and access log cost more
than a page and print paths, BentoML's metrics keep one series per raw path, a
full garbage collection stops the worker for 150 ms, BentoML's own pages tell
about the service and load foreign scripts.
"""

from __future__ import annotations

import gc
import os
from typing import Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

PROBES = ("/livez", "/healthz", "/readyz")


class Pages:
    """The web application, made when the worker starts rather than at import.

    It is no Starlette instance, so BentoML hands it every path that is not its
    own, and its index page is never reached.
    """

    def __init__(self) -> None:
        self._app: ASGIApp | None = None

    def open(self) -> ASGIApp:
        """Make the application once."""
        if self._app is None:
            from features.settings import load_settings
            from serving.app import create_app

            self._app = create_app(load_settings())
        return self._app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.open()(scope, receive, send)


pages = Pages()


class PagesFirst:
    """Sends everything but the probes to the pages, past BentoML's ``/schema.json``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Choose by path."""
        is_ours = scope["type"] == "websocket" or (scope["type"] == "http" and scope["path"] not in PROBES)
        await (pages if is_ours else self.app)(scope, receive, send)


@bentoml.asgi_app(pages, path="/", name="pages")
@bentoml.service(
    name="revisit",
    workers=1,
    traffic={"timeout": 30},
    http={"host": "127.0.0.1", "port": 3000},
    tracing={"excluded_urls": ".*"},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Revisit:
    """Pages and API of one practice."""

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    def prepare(self) -> None:
        """Load everything, then keep what is loaded out of later garbage collections."""
        pages.open()
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    def __is_ready__(self) -> bool:
        """Whether the database answers."""
        web: Any = getattr(pages.open(), "state").web  # noqa: B009
        with web.engine.connect() as connection:
            return bool(connection.exec_driver_sql("SELECT 1").scalar())


Revisit.add_asgi_middleware(PagesFirst)  # type: ignore[attr-defined]
