"""Errors as answers: one JSON shape for the API, one designed page for people."""

from __future__ import annotations

from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from features.errors import RevisitError
from serving.fhir_answers import fhir_answer, outcome

_FOR_PROGRAMS = ("/api", "/cds-services", "/fhir")
_CODES = {
    400: "bad_request",
    401: "not_signed_in",
    403: "refused",
    404: "not_found",
    405: "method_not_allowed",
    409: "not_now",
    413: "too_large",
    415: "unsupported_media_type",
    422: "not_valid",
    429: "too_many_attempts",
    500: "internal_error",
    503: "not_ready",
}


class Problem(HTTPException):
    """An answer other than the one asked for, with one clear sentence."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(status, detail=message)
        self.code = code or _CODES.get(status, "error")


def is_api(path: str) -> bool:
    """Whether a path is for programs: the JSON API, CDS Hooks, FHIR and the metrics."""
    return path == "/metrics" or any(path == folder or path.startswith(f"{folder}/") for folder in _FOR_PROGRAMS)


def is_fhir(path: str) -> bool:
    """Whether a path is FHIR's, which has its own shape of errors."""
    return path == "/fhir" or path.startswith("/fhir/")


def answer(request: Request, status: int, message: str, code: str | None = None) -> Response:
    """Answer with a problem, as JSON under ``/api`` and as a page elsewhere.

    Parameters
    ----------
    request : Request
        What was asked.
    status : int
        HTTP status.
    message : str
        One sentence in English, without personal data. Pages say it in the
        visitor's language where the catalog knows it.
    code : str, optional
        Stable name of the problem; by default the status's.
    """
    if is_fhir(request.url.path):
        return fhir_answer(outcome(status, message), status)
    if is_api(request.url.path):
        body = {"error": {"code": code or _CODES.get(status, "error"), "message": message}}
        return JSONResponse(body, status_code=status)
    from serving.pages.error import error_response

    return error_response(request, status, message)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer for `Problem` and the framework's own exceptions."""
    if isinstance(error, Problem):
        return answer(request, error.status_code, str(error.detail), error.code)
    status = error.status_code if isinstance(error, HTTPException) else 500
    return answer(request, status, f"{HTTPStatus(status).phrase}.")


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Name the parameters that are wrong, never what was sent."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    what = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in found)
    return answer(request, 422, f"The request does not fit: {what}.")


async def on_revisit_error(request: Request, error: Exception) -> Response:
    """Answer with the status that the error's class declares."""
    status = error.http_status if isinstance(error, RevisitError) else 500
    return answer(request, status, str(error))
