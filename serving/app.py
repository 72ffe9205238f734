"""The web application, without BentoML around it."""

from __future__ import annotations

from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from features.errors import RevisitError
from features.settings import Settings
from serving import api, db, problems
from serving.auth import prepare
from serving.client_tokens import ClientTokens
from serving.forecasts import Forecasts
from serving.guard import Guard
from serving.pages import NAVIGATION, ROUTERS
from serving.permissions import OPEN, SIGNED_IN, authorise, needs
from serving.problems import Problem
from serving.published import Published
from serving.rates import Rates
from serving.render import Renderer
from serving.web import Options, Web, web_of


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
        Pages at ``/``, the JSON API under ``/api/v1``.
    """
    options = Options.from_environment() if options is None else options
    engine = db.engine(settings.application_database)
    db.upgrade(engine)
    prepare()
    web = Web(
        settings=settings,
        options=options,
        engine=engine,
        renderer=Renderer(NAVIGATION),
        published=Published(engine, settings.zone),
        forecasts=Forecasts(settings.paths.forecasts),
        rates=Rates(options.requests_per_minute),
        tokens=ClientTokens(settings.cds_hooks),
    )
    app = FastAPI(
        title="Revisit",
        version="1",
        description=api.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(authorise)],
    )
    app.state.web = web
    app.add_middleware(Guard, web=web)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(RequestValidationError, problems.on_validation_error)
    app.add_exception_handler(RevisitError, problems.on_revisit_error)
    _add_routes(app)
    return app


def _add_routes(app: FastAPI) -> None:
    for router in api.ROUTERS:
        app.include_router(router, responses=api.ERRORS)
    for router in (*ROUTERS, api.metrics_router):
        app.include_router(router, include_in_schema=False)
    app.add_api_route("/", _home, include_in_schema=False)
    app.add_api_route("/healthz", _health, include_in_schema=False)
    app.add_api_route(f"{api.PREFIX}/openapi.json", _openapi, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")), name="static")


@needs(SIGNED_IN)
async def _home(request: Request) -> Response:
    first = web_of(request).renderer.shell(request).links
    if not first:
        raise Problem(403, "There is no page for your role yet.", "not_allowed")
    return RedirectResponse(first[0].href, status_code=303)


@needs(OPEN)
async def _health() -> Response:
    return PlainTextResponse("ok")


@needs(SIGNED_IN)
async def _openapi(request: Request) -> dict[str, object]:
    described: dict[str, object] = request.app.openapi()
    return described
