"""The JSON API under ``/api/v1``: one module with a ``router`` per resource.

A module makes its ``router`` with ``prefix=PREFIX`` (so that metrics and log
know the whole template), declares what each endpoint needs
(`serving.permissions.needs`), and is named in `ROUTERS`.
"""

from __future__ import annotations

from serving.api import (
    actions,
    audit,
    cds_hooks,
    clinics,
    events,
    fhir,
    forecasts,
    metrics,
    patients,
    recall,
    schedule,
)
from serving.api.shapes import ERRORS, PREFIX

DESCRIPTION = (
    "What the pages show, for other programs. Sign in with a key: `Authorization: Bearer KID.SECRET` "
    "(`revisit key add`). Lists come in pages: `next` of one answer is `after` of the next request. "
    "Every error has the one shape `ErrorAnswer`."
)
ROUTERS = (
    schedule.router,
    clinics.router,
    patients.router,
    actions.router,
    recall.router,
    forecasts.router,
    audit.router,
    events.router,
    cds_hooks.router,
    fhir.router,
)
metrics_router = metrics.router

__all__ = ["DESCRIPTION", "ERRORS", "PREFIX", "ROUTERS", "metrics_router"]
