"""How FHIR answers: its media type, and its shape of errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

MEDIA_TYPE = "application/fhir+json"
_ISSUES = {401: "login", 403: "forbidden", 404: "not-found", 405: "not-supported", 413: "too-long", 429: "throttled"}

Resource = dict[str, Any]


def fhir_answer(resource: Mapping[str, Any], status: int = 200) -> Response:
    """Answer with a resource."""
    body = json.dumps(resource, ensure_ascii=False, separators=(",", ":"))
    return Response(body, status_code=status, media_type=MEDIA_TYPE)


def outcome(status: int, message: str) -> Resource:
    """Say what went wrong, as FHIR does."""
    kind = _ISSUES.get(status, "invalid" if status < 500 else "exception")
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": kind, "diagnostics": message}],
    }
