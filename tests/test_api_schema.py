"""The API against its own description: whatever schemathesis makes of it, no answer is a failure of ours."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from features.settings import Paths, Settings
from serving.app import create_app
from serving.clock import now
from serving.keys import create_key
from serving.permissions import SCOPES
from serving.sample_day import sample_day
from serving.schedule import publish_schedule
from serving.web import Options

EXAMPLES = 15  # per operation
CHECKS = (not_a_server_error, status_code_conformance, response_schema_conformance)


@pytest.fixture(scope="module")
def api(
    tmp_path_factory: pytest.TempPathFactory, recall_list: Callable[..., int], store_forecast: Callable[..., None]
) -> Iterator[Any]:
    """The application's schema, asked for in-process with a key of all scopes."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = create_app(Settings(paths=Paths(data=tmp_path_factory.mktemp("api"))), Options(requests_per_minute=10**9))
    engine = app.state.web.engine
    sample = sample_day(date(2026, 11, 23), ZoneInfo("Asia/Shanghai"))
    publish_schedule(
        engine, sample.bookings, sample.scores, sample.clinics, as_of=sample.as_of, published_at=sample.published_at
    )
    recall_list(engine, now())
    store_forecast(app.state.web.settings, now())
    headers = {"Authorization": f"Bearer {create_key(engine, 'schemathesis', SCOPES, now())}"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its test client, about httpx
        yield schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers=headers), headers
    engine.dispose()


def test_no_answer_is_a_failure_of_ours(api: Any) -> None:
    described, headers = api
    asked: list[str] = []
    for found in described.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @hypothesis_settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        def ask(case: Any) -> None:
            asked.append(case.path)
            case.call_and_validate(headers=headers, checks=CHECKS)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its test client, about httpx
            ask()
    paths = described.raw_schema["paths"]
    assert {path.split("/")[1] for path in asked} == {"api", "cds-services", "fhir"}
    assert set(asked) == set(paths)
    assert len(asked) >= len(paths) * EXAMPLES / 2


def test_answers_have_examples_and_every_error_is_described(api: Any) -> None:
    described, _ = api
    for operations in described.raw_schema["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert {"400", "401", "403", "404", "422", "429", "503"} <= operation["responses"].keys()
    schemas = described.raw_schema["components"]["schemas"]
    assert "examples" in schemas["ErrorBody"]["properties"]["code"]
    assert "examples" in schemas["BookingAnswer"]["properties"]["patient_id"]
