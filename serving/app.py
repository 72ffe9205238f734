"""The web application, without BentoML around it."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from features.errors import RevisitError
from features.settings import Settings
from serving import db, problems
from serving.api import schedule as schedule_api
from serving.auth import prepare
from serving.guard import Guard
from serving.pages import NAVIGATION, ROUTERS
from serving.published import Published
from serving.render import Renderer
from serving.web import Options, Web


def create_app(settings: Settings, options: Options | None = None) -> FastAPI:
    """Make the application over an upgraded or empty database.

    Parameters
    ----------
    settings : Settings
        The practice's.
    options : Options, optional
        By default from the environment.

    Returns
    -------
    FastAPI
        Pages at ``/``, the JSON API under ``/api``.
    """
    engine = db.engine(settings.application_database)
    db.upgrade(engine)
    prepare()
    web = Web(
        settings=settings,
        options=Options.from_environment() if options is None else options,
        engine=engine,
        renderer=Renderer(NAVIGATION),
        published=Published(engine, settings.zone),
    )
    app = FastAPI(title="Revisit", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.state.web = web
    app.add_middleware(Guard, web=web)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(RequestValidationError, problems.on_validation_error)
    app.add_exception_handler(RevisitError, problems.on_revisit_error)
    _add_routes(app)
    return app


def _add_routes(app: FastAPI) -> None:
    app.include_router(schedule_api.router, prefix="/api")
    for router in ROUTERS:
        app.include_router(router, include_in_schema=False)
    app.add_api_route("/", _home, include_in_schema=False)
    app.add_api_route("/healthz", _health, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")), name="static")


async def _home() -> Response:
    return RedirectResponse("/schedule", status_code=303)


async def _health() -> Response:
    return PlainTextResponse("ok")
