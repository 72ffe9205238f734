"""Other systems: decision support (CDS Hooks 2.0) and FHIR R4 out, held against the specifications."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema_rs
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.operationoutcome import OperationOutcome
from sqlalchemy import text

from features.errors import SettingsError
from features.settings import CdsClient, CdsHooks, Paths, Settings
from serving.app import create_app
from serving.client_tokens import ClientTokens
from serving.clock import now
from serving.keys import create_key
from serving.sample_day import sample_day
from serving.schedule import publish_schedule
from serving.web import Options

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.10 asks for httpx2; httpx is what MLflow and others bring
    from fastapi.testclient import TestClient

ZONE = ZoneInfo("Asia/Shanghai")
BASE = "https://revisit.example"
ISSUER = "https://ehr.example/"
VIEW = "/cds-services/revisit-patient-view"
MARKER = "Zqmarker"
FIXTURES = Path(__file__).parent / "cds_hooks"
EC_KEY, RSA_KEY = ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)


def public(kid: str, key: Any) -> dict[str, Any]:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    made = kind.to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, "use": "sig"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The application with tomorrow published, and one client system that signs its calls."""
    folder = tmp_path_factory.mktemp("integrations")
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"keys": [public("ec", EC_KEY), public("rsa", RSA_KEY)]}))
    hooks = CdsHooks(base_url=BASE, clients=(CdsClient(issuer=ISSUER, jwks=str(keys)),))
    made = create_app(Settings(paths=Paths(data=folder), cds_hooks=hooks), Options(requests_per_minute=10**6))
    sample = sample_day(now().astimezone(ZONE).date() + timedelta(days=1), ZONE)
    publish_schedule(
        made.state.web.engine,
        sample.bookings,
        sample.scores,
        sample.clinics,
        as_of=sample.as_of,
        published_at=sample.published_at,
    )
    yield made
    made.state.web.engine.dispose()


@pytest.fixture
def client(app: Any) -> TestClient:
    made = TestClient(app, follow_redirects=False)
    key = create_key(app.state.web.engine, "chart", ["patient.view"], now())
    made.headers["Authorization"] = f"Bearer {key}"
    return made


def at_risk(app: Any, least: float = 0.30) -> Any:
    """A booking at high risk, and its score."""
    sample = sample_day(now().astimezone(ZONE).date() + timedelta(days=1), ZONE)
    booking = {b.appointment_id: b for b in sample.bookings if b.status == "booked"}
    score = next(s for s in reversed(sample.scores) if s.probability >= least and s.appointment_id in booking)
    return booking[score.appointment_id], score


def token(**changed: Any) -> str:
    at = int(now().timestamp())
    claims = {
        "iss": ISSUER, "aud": BASE + VIEW, "iat": at, "exp": at + 120, "jti": str(uuid.uuid4()), "tenant": "t1"
    }  # fmt: skip
    header = {"kid": changed.pop("kid", "ec"), "typ": "JWT"}
    key, algorithm = changed.pop("key", EC_KEY), changed.pop("algorithm", "ES384")
    claims = {name: value for name, value in (claims | changed).items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers=header)


def example(name: str, **context: Any) -> dict[str, Any]:
    """A request of the specification's own, about one of our patients."""
    found: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return found | {"context": found["context"] | context}


def schema(name: str) -> Any:
    described = json.loads((FIXTURES / "schemas.json").read_text(encoding="utf-8"))
    return jsonschema_rs.validator_for({"$ref": f"#/$defs/{name}", **described}, validate_formats=True)


def test_the_schemas_tell_the_specifications_examples_from_others() -> None:
    given = json.loads((FIXTURES / "response-example.json").read_text(encoding="utf-8"))
    assert schema("Response").is_valid(given)
    for broken in (
        {"summary": "x" * 140},
        {"indicator": "hard-stop"},
        {"source": {}},
        {"suggestions": [{"label": "x"}]},
    ):
        assert not schema("Response").is_valid({"cards": [given["cards"][0] | broken]}), broken
    assert schema("Request").is_valid(example("patient-view"))
    assert not schema("Request").is_valid(example("patient-view") | {"hookInstance": "1"})


@pytest.mark.parametrize("language", ["en", "zh"])
def test_cards_are_as_specified(app: Any, client: TestClient, language: str) -> None:
    booking, score = at_risk(app)
    client.headers["Accept-Language"] = {"en": "en-GB,zh;q=.5", "zh": "de, zh-CN;q=0.9, en;q=0.8"}[language]
    services = TestClient(app).get("/cds-services", headers={"Accept-Language": client.headers["Accept-Language"]})
    schema("Services").validate(services.json())
    for service in services.json()["services"]:
        asked = example(service["hook"], patientId=booking.patient_id)
        schema("Request").validate(asked)
        answer = client.post(f"/cds-services/{service['id']}", json=asked)
        assert answer.status_code == 200, answer.text
        schema("Response").validate(answer.json())
        card = answer.json()["cards"][0]
        assert (card["indicator"], len(card["suggestions"])) == ("warning", 1)
        assert f"{round(100 * score.probability)} %" in card["summary"]
        assert ("爽约" in card["summary"]) == (language == "zh") == ("记录" in card["detail"])
        assert booking.patient_name not in answer.text


def test_who_is_unknown_or_at_no_risk_gets_no_card(client: TestClient) -> None:
    assert client.post(VIEW, json=example("patient-view")).json() == {"cards": []}
    wrong = client.post(VIEW, json=example("appointment-book"))
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "bad_request")
    assert client.post("/cds-services/other", json=example("patient-view")).status_code == 422
    assert client.post(VIEW, json={"hook": "patient-view"}).status_code == 422
    assert client.get(VIEW).status_code == 405


def test_a_key_of_other_clinics_sees_nothing(app: Any, client: TestClient) -> None:
    booking, _ = at_risk(app)
    key = create_key(app.state.web.engine, "north", ["patient.view"], now(), ["north"])
    client.headers["Authorization"] = f"Bearer {key}"
    assert client.post(VIEW, json=example("patient-view", patientId=booking.patient_id)).json() == {"cards": []}
    found = client.get("/fhir/RiskAssessment", params={"patient": booking.patient_id}).json()
    assert (found["total"], found["entry"]) == (0, [])


@pytest.mark.parametrize(("key", "kid", "algorithm"), [(EC_KEY, "ec", "ES384"), (RSA_KEY, "rsa", "RS384")])
def test_signed_calls_are_let_in_once(app: Any, key: Any, kid: str, algorithm: str) -> None:
    client, once = TestClient(app), token(key=key, kid=kid, algorithm=algorithm)
    asked = example("patient-view", patientId=at_risk(app)[0].patient_id)
    first = client.post(VIEW, json=asked, headers={"Authorization": f"Bearer {once}"})
    assert (first.status_code, len(first.json()["cards"])) == (200, 1)
    assert client.post(VIEW, json=asked, headers={"Authorization": f"Bearer {once}"}).status_code == 401
    listed = token(key=key, kid=kid, algorithm=algorithm, aud=[BASE + VIEW])
    assert client.post(VIEW, json=asked, headers={"Authorization": f"Bearer {listed}"}).status_code == 200
    with app.state.web.engine.connect() as connection:
        who = connection.execute(text("SELECT DISTINCT username FROM audit_log WHERE action = 'cds_patient-view'"))
        assert (f"client:{ISSUER}",) in who.all()


def test_tokens_that_are_refused(app: Any) -> None:
    at = now()
    ago = int((at - timedelta(hours=1)).timestamp())
    other = ec.generate_private_key(ec.SECP384R1())
    pem = "-----BEGIN PUBLIC KEY-----"
    refused = {
        "another issuer": token(iss="https://else.example/"),
        "another address": token(aud=BASE + "/cds-services/revisit-appointment-book"),
        "another host": token(aud="https://else.example" + VIEW),
        "over": token(iat=ago, exp=ago + 120),
        "long-lived": token(exp=int(at.timestamp()) + 86_400),
        "of tomorrow": token(iat=int(at.timestamp()) + 3_600, exp=int(at.timestamp()) + 3_700),
        "another key": token(key=other),
        "unknown key": token(kid="nobody"),
        "shared secret": token(key=pem * 3, algorithm="HS384"),
        "unsigned": token(key=None, algorithm="none"),
        "another algorithm": token(key=RSA_KEY, kid="rsa", algorithm="RS512"),
        **{f"no {name}": token(**{name: None}) for name in ("iss", "aud", "exp", "iat", "jti")},
        "odd claims": token(jti=["x"]),
        "no numbers": token(iat="now", exp="later"),
        "no token": "a.b.c",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for why, sent in refused.items():
            answer = TestClient(app, client=(why, 1)).post(
                VIEW, json=example("patient-view"), headers={"Authorization": f"Bearer {sent}"}
            )
            assert answer.status_code == 401, why
    elsewhere = TestClient(app).get("/api/v1/clinics", headers={"Authorization": f"Bearer {token()}"})
    assert elsewhere.status_code == 401, "a client's token is for decision support alone"


def test_private_and_broken_keys_are_refused(tmp_path: Path) -> None:
    secret = jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY, as_dict=True) | {"kid": "ec"}
    for name, content in (("private", {"keys": [secret]}), ("empty", {}), ("no kid", {"keys": [{"kty": "EC"}]})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        with pytest.raises(SettingsError, match=r"cds_hooks"):
            ClientTokens(CdsHooks(base_url=BASE, clients=(CdsClient(issuer=ISSUER, jwks=str(path)),)))
    with pytest.raises(ValueError, match="base_url"):
        CdsHooks(clients=(CdsClient(issuer=ISSUER, jwks="keys.json"),))


def test_feedback_is_kept_without_its_words(app: Any, client: TestClient) -> None:
    card = client.post(VIEW, json=example("patient-view", patientId=at_risk(app)[0].patient_id)).json()["cards"][0]
    reason = card["overrideReasons"][0]
    answers = [
        {"outcome": "accepted", "acceptedSuggestions": [{"id": card["suggestions"][0]["uuid"]}]},
        {"outcome": "overridden", "overrideReason": {"reason": reason, "userComment": MARKER}},
        {"outcome": "overridden", "overrideReason": {"reason": {"code": MARKER, "system": "urn:x"}}},
        {"outcome": "overridden"},
    ]
    sent = [{"card": card["uuid"], "outcomeTimestamp": "2026-12-11T00:00:00Z", **answer} for answer in answers]
    assert client.post(f"{VIEW}/feedback", json={"feedback": sent}).status_code == 200
    with app.state.web.engine.connect() as connection:
        kept = connection.execute(text("SELECT * FROM card_feedback")).all()
    assert MARKER not in repr(kept)
    assert [(row.card, row.outcome, row.override_reason) for row in kept] == [
        (card["uuid"], "accepted", None),
        (card["uuid"], "overridden", "confirmed"),
        (card["uuid"], "overridden", "other"),
        (card["uuid"], "overridden", None),
    ]
    counted = app.state.web.metrics.text(None).decode()
    assert 'revisit_card_feedback_total{outcome="overridden",service="revisit-patient-view"} 3.0' in counted
    lacking = {"feedback": [sent[0] | {"acceptedSuggestions": []}]}
    assert client.post(f"{VIEW}/feedback", json=lacking).status_code == 422
    assert client.post(f"{VIEW}/feedback", json={"feedback": []}).status_code == 422


@pytest.mark.parametrize("how", ["get", "form"])
@pytest.mark.parametrize("name", ["patient", "subject"])
def test_fhir_searches(app: Any, client: TestClient, how: str, name: str) -> None:
    booking, score = at_risk(app)
    found = {}
    for kind in ("RiskAssessment", "Flag"):
        asked = {name: f"Patient/{booking.patient_id}", "_unknown": "1"}
        address = f"/fhir/{kind}" if how == "get" else f"/fhir/{kind}/_search"
        answer = client.get(address, params=asked) if how == "get" else client.post(address, data=asked)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/fhir+json")
        bundle = Bundle.model_validate_json(answer.text)
        assert (bundle.type, bundle.total, len(bundle.entry)) == ("searchset", 1, 1)
        assert bundle.entry[0].fullUrl == f"{BASE}/fhir/{kind}/{bundle.entry[0].resource.id}"
        assert booking.patient_name not in answer.text
        found[kind] = bundle.entry[0].resource
    risk = found["RiskAssessment"].prediction[0]
    assert float(risk.probabilityDecimal) == pytest.approx(score.probability, abs=1e-4)
    assert risk.qualitativeRisk.coding[0].code == "high"
    assert found["RiskAssessment"].basis[0].reference == f"Appointment/{booking.appointment_id}"
    assert datetime.fromisoformat(str(found["Flag"].period.end)) == booking.starts_at


def test_fhir_tells_what_it_can_and_what_went_wrong(app: Any, client: TestClient) -> None:
    CapabilityStatement.model_validate_json(TestClient(app).get("/fhir/metadata").text)
    low = sample_day(date(2026, 11, 23), ZONE).bookings[5].patient_id
    assert client.get("/fhir/Flag", params={"patient": low}).json()["total"] == 0
    assert client.get("/fhir/RiskAssessment", params={"patient": low, "_count": "0"}).json()["entry"] == []
    for asked, status in (({}, 400), ({"patient": "a", "subject": "b"}, 400), ({"patient": "p", "_count": "x"}, 400)):
        answer = client.get("/fhir/RiskAssessment", params=asked)
        assert answer.status_code == status
        OperationOutcome.model_validate_json(answer.text)
    for address, status in (("/fhir/Patient", 404), ("/fhir/Flag/1", 404)):
        answer = client.get(address)
        assert answer.status_code == status
        OperationOutcome.model_validate_json(answer.text)
    nobody = TestClient(app).get("/fhir/Flag", params={"patient": "p"})
    assert (nobody.status_code, OperationOutcome.model_validate_json(nobody.text).issue[0].code) == (401, "login")
    xml = client.post("/fhir/Flag/_search", content=b"<x/>", headers={"Content-Type": "application/xml"})
    assert xml.status_code == 415
