"""The front desk's pages: flags, what was done, finding patients, one patient; over stored rows alone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from features.contracts import PATIENT_CONTRACTS
from features.labels import SEED_MISSED_RECALLS, SEED_UNANSWERED
from features.settings import Desk, Paths, Settings
from serving import auth, consents
from serving.app import create_app
from serving.clock import now
from serving.db import reading
from serving.decisions import FLAGS, NO_ACTION, flags_of, patient_flags, suggested_action
from serving.desk_events import waiting
from serving.explanation import Reason
from serving.i18n import LANGUAGES, language
from serving.patient_reasons import patient_reasons, seed_rule
from serving.patients import (
    Patient,
    PatientScore,
    Standing,
    forget_others,
    read_dossier,
    search,
    standings,
    store_patients,
)
from serving.reasons import SENTENCES, sentence
from serving.sample_day import sample_day
from serving.schedule import Booking, publish_schedule
from serving.score_chart import score_chart
from serving.web import Options

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.10 asks for httpx2; httpx is what MLflow and others bring
    from fastapi.testclient import TestClient

ZONE = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 11, 23)
AT = datetime(2026, 11, 22, 13, tzinfo=ZoneInfo("UTC"))
HOSTILE = "<script>alert('x')</script>\" onload=\"y"
CALM = Patient(
    patient_id="p1",
    clinic_id="east",
    patient_name="王雨桐",
    birth_year=1980,
    household_id=None,
    departure=None,
    is_scoring_allowed=True,
    refused_channels=(),
    days_overdue=-30,
    open_items=0,
    pending_items=0,
    open_cents=0,
    unanswered=0,
    recalls_missed=0,
    family_due=0,
    has_booking_ahead=True,
    as_of=AT,
)
BOOKING = Booking("a1", "east", "p1", AT, AT)


def lapse(
    patient_id: str, chance: float | None, *, is_at_risk: bool, at: datetime = AT, kind: Any = "model"
) -> PatientScore:
    why = (Reason("overdue", 1, 0.8, {"days": 21}), Reason("booked", -1, -0.3, {"bookings": 1, "days": 1}))
    return PatientScore(patient_id, "lapse", chance, kind, "2", is_at_risk, why, at, at)


# Flags and the one action


@given(
    overdue=st.none() | st.integers(-400, 800),
    items=st.integers(0, 30),
    pending=st.integers(0, 30),
    unanswered=st.integers(0, 9),
    family=st.integers(0, 4),
    at_risk=st.booleans(),
    band=st.sampled_from([None, "low", "medium", "high"]),
    status=st.sampled_from(["booked", "arrived", "completed", "no_show", "cancelled_late", "cancelled_early"]),
    refuses_calls=st.booleans(),
)
def test_one_action_that_fits_the_flags(
    overdue: Any, items: int, pending: int, unanswered: int, family: int, at_risk: bool, band: Any, status: str,
    refuses_calls: bool,
) -> None:  # fmt: skip
    patient = replace(
        CALM, days_overdue=overdue, open_items=items, pending_items=min(pending, items), unanswered=unanswered,
        family_due=family, refused_channels=("phone",) if refuses_calls else (),
    )  # fmt: skip
    standing = Standing(patient, {"lapse": lapse("p1", 0.5 if at_risk else 0.1, is_at_risk=at_risk)})
    booking = replace(BOOKING, status=status)
    flags = flags_of(booking, band, standing, Desk())
    action = suggested_action(booking, None, band, flags, standing)
    assert list(flags) == [flag for flag in FLAGS if flag in flags]
    if status in ("no_show", "cancelled_late", "cancelled_early"):
        assert (flags, action) == ((), "none")
        return
    assert set(flags) - {"no_show"} == set(patient_flags(standing, Desk()))
    assert ("no_show" in flags) == (status == "booked" and band in ("medium", "high"))
    assert ("overdue" in flags) == (overdue is not None and overdue > 14)
    if refuses_calls:
        assert action != "confirm_by_phone"
    if action not in NO_ACTION:
        assert flags, "nothing is suggested without a flag that says why"
    if {"lapse", "overdue"} & set(flags):
        assert action in ("offer_next_visit", "confirm_by_phone", "send_reminder")


def test_reasons_are_the_patients_own_numbers_and_never_age_or_sex() -> None:
    contract = PATIENT_CONTRACTS["lapse"]
    features = dict.fromkeys(contract.feature_names, 3.0)
    added = dict.fromkeys(contract.feature_names, 0.01) | {
        "years_since_birth": 9.0, "is_female": 9.0, "days_since_due": 1.5, "any_visit_log_odds": -2.0,
        "clinic_load_share_14d": 7.0,
    }  # fmt: skip
    found = patient_reasons(contract, features, added)
    assert [reason.code for reason in found][:2] == ["visit_rhythm", "overdue"]
    of_rhythm = [f.name for f in contract.features if f.reason == "visit_rhythm"]
    assert found[0].contribution == pytest.approx(-2.0 + 0.01 * len(of_rhythm))
    assert found[1].values == {"days": 3.0}
    for reason in found:
        for code in LANGUAGES:
            said = sentence(reason, language(code))
            assert said
            assert "%(" not in said


@pytest.mark.parametrize("code", sorted(SENTENCES))
def test_every_sentence_can_be_said_without_numbers(code: str) -> None:
    for name in LANGUAGES:
        assert sentence(Reason(code, 1, 1.0, {}), language(name))


@given(st.integers(0, 9), st.integers(0, 9))
def test_the_rule_of_thumb(unanswered: int, missed: int) -> None:
    is_lost, why = seed_rule(
        {"messages_unanswered_row_count_ever": unanswered, "recalls_missed_row_count_ever": float(missed)}
    )
    assert is_lost == (unanswered >= SEED_UNANSWERED or missed > SEED_MISSED_RECALLS) == bool(why)


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1)), min_size=2, max_size=30, unique_by=lambda one: one[0]))
def test_scores_are_drawn_in_time_and_higher_is_higher(scores: list[tuple[int, float]]) -> None:
    drawn = score_chart([(AT + timedelta(days=day), chance, "") for day, chance in sorted(scores)], 0.25)
    assert drawn is not None
    assert [p.x for p in drawn.points] == sorted(p.x for p in drawn.points)
    assert all(0 <= p.x <= drawn.width and 0 <= p.y <= drawn.height for p in drawn.points)
    for (_, one), first in zip(sorted(scores), drawn.points, strict=True):
        assert (first.y < drawn.threshold) == (one > 0.25) or abs(one - 0.25) < 0.01
    assert score_chart([(AT, 0.5, "")]) is None


# Stored rows


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Any]:
    made = create_app(Settings(paths=Paths(data=tmp_path)), Options())
    fill(made)
    yield made
    made.state.web.engine.dispose()


def fill(app: Any) -> None:
    """The sample day; its third patient is at risk and has a dossier, the fourth belongs to their household."""
    engine, sample = app.state.web.engine, sample_day(DAY, ZONE)
    third, fourth = sample.bookings[3].patient_id, sample.bookings[5].patient_id
    moment = int(datetime(2026, 6, 1, 2, tzinfo=ZoneInfo("UTC")).timestamp())
    ahead = int(sample.bookings[3].starts_at.timestamp())
    people = [
        replace(CALM, patient_id=b.patient_id, patient_name=b.patient_name, birth_year=b.birth_year)
        for b in sample.bookings
    ]
    people[3] = replace(
        people[3], days_overdue=60, open_items=2, pending_items=2, open_cents=123_400, unanswered=3, family_due=1,
        household_id="h1", refused_channels=("sms",), patient_name=HOSTILE,
    )  # fmt: skip
    people[5] = replace(people[5], household_id="h1", clinic_id="north")
    item = {"plan": "t", "service": "crown", "cents": 61_700, "urgency": "soon", "clinician": "Dr. Lin",
            "proposed": moment, "accepted": None, "scheduled": None, "completed": None, "declined": None}  # fmt: skip
    visit = {"clinician": "Dr. Lin", "clinician_id": "Dr. Lin", "clinic": "east", "minutes": 30, "has_time": True}
    card = {
        "visits": [
            visit | {"id": "a003", "at": ahead, "status": "booked", "service": "checkup"},
            visit | {"id": "a0", "at": moment, "status": "completed", "service": "hygiene"},
        ],
        "items": [item | {"id": "i1"}, item | {"id": "i2"}],
        "contacts": [{"id": "c", "direction": "out", "channel": "phone", "purpose": "recall", "outcome": "no_answer",
                      "sent": moment + 1, "replied": None}],
        "consents": {"all": True, "sms": False, "phone": None, "wechat": True, "email": None},
    }  # fmt: skip
    for weeks in (2, 1, 0):
        at = AT - timedelta(weeks=weeks)
        scores = [lapse(third, 0.5 - 0.1 * weeks, is_at_risk=True, at=at)]
        store_patients(engine, [replace(person, as_of=at) for person in people], {third: card}, scores)
    assert fourth != third
    publish_schedule(
        engine, sample.bookings, sample.scores, sample.clinics, as_of=sample.as_of, published_at=sample.published_at
    )


@pytest.fixture
def client(app: Any, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    cheap = auth.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(auth, "_hasher", lambda: cheap)
    return signed_in(app, "mei", "front_desk")


def signed_in(app: Any, name: str, role: str, clinics: list[str] | None = None) -> TestClient:
    engine = app.state.web.engine
    auth.create_user(engine, name, "correct horse", role, name.title(), clinics=clinics)
    made = TestClient(app, follow_redirects=False)
    made.cookies.set("revisit_session", auth.sign_in(engine, name, "correct horse", now()))
    return made


def token_of(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def words(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def acts(app: Any) -> list[str]:
    with app.state.web.engine.connect() as connection:
        return list(connection.execute(text("SELECT action FROM audit_log ORDER BY audit_id")).scalars())


def patient_at(number: int) -> str:
    return sample_day(DAY, ZONE).bookings[number].patient_id


def test_scores_are_kept_week_by_week_and_the_newest_counts(app: Any) -> None:
    engine, third = app.state.web.engine, patient_at(3)
    dossier = read_dossier(engine, third)
    assert dossier is not None
    assert [round(score.probability or 0, 2) for score in dossier.history["lapse"]] == [0.3, 0.4, 0.5]
    again = lapse(third, 0.9, is_at_risk=True, at=AT + timedelta(hours=3))
    store_patients(engine, [replace(dossier.standing.patient, as_of=AT + timedelta(hours=3))], {}, [again])
    with reading(engine) as session:
        assert standings(session, [third, "nobody"])[third].scores["lapse"].probability == 0.9
    found = read_dossier(engine, third)
    assert found is not None
    assert len(found.history["lapse"]) == 3, "the same week"
    assert [one.patient_id for one in found.household] == [patient_at(5)]
    forget_others(engine, AT + timedelta(hours=1))
    assert read_dossier(engine, patient_at(0)) is None
    forget_others(engine, AT + timedelta(weeks=200))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM patient_scores")).scalar() == 0


def test_the_day_says_flags_in_both_languages_and_sorts_and_filters(client: TestClient) -> None:
    page = client.get("/schedule?clinic=east&day=2026-11-23").text
    said = words(page)
    for expected in ("At risk 50%", "Overdue 8 weeks", "2 items open · ¥1,234", "3 unanswered", "1 of the family due"):
        assert expected in said
    assert "Recall overdue for 3 weeks" in said, "reasons of lapsing where no-show is low"
    assert "Offer the next visit before leaving" in said
    assert "<script>alert" not in page
    client.cookies.set("revisit_language", "zh")
    chinese = words(client.get("/schedule?clinic=east&day=2026-11-23").text)
    client.cookies.delete("revisit_language")
    assert all(expected in chinese for expected in ("流失风险 50%", "逾期 8 周", "离店前预约下次复诊"))
    for only in ("lapse", "overdue", "treatment", "unanswered", "family"):
        alone = client.get(f"/schedule?clinic=east&day=2026-11-23&only={only}").text
        assert alone.count('role="row"') == 2, only
    assert client.get("/schedule?clinic=east&day=2026-11-23&only=no_show").text.count('role="row"') == 7
    by_lapse = client.get("/schedule?clinic=east&day=2026-11-23&sort=lapse").text
    assert by_lapse.index("陈思远") < by_lapse.index("Maria Keller")
    lin = client.get("/schedule?clinic=east&day=2026-11-23&clinician=Dr.+Lin").text
    assert lin.count('role="row"') == 7
    assert '<option value="Dr. Lin" selected>' in lin


def test_one_tap_notes_what_was_done_and_one_undoes_it(app: Any, client: TestClient) -> None:
    path = "/schedule?clinic=east&day=2026-11-23"
    page = client.get(path).text
    token, poll = token_of(page), "/schedule/board?clinic=east&day=2026-11-23"
    before = client.get(poll).headers["etag"]
    sent = {"csrf_token": token, "done": "offer_next_visit:a003", "only": "flagged"}
    plain = client.post("/schedule/note", data=sent)
    assert plain.status_code == 303
    assert plain.headers["location"] == "/schedule?only=flagged&clinic=east&day=2026-11-23"
    noted = client.get(poll, headers={"If-None-Match": before})
    assert noted.status_code == 200, "others see it with their next poll"
    assert re.search(r"Offer the next visit before leaving: done \d\d:\d\d, mei", words(noted.text))
    undone = client.post("/schedule/note", data={"csrf_token": token, "undo": "a003"}, headers={"HX-Request": "true"})
    assert undone.text.lstrip().startswith('<section id="board"')
    assert "done 1" not in words(undone.text)
    assert 'value="offer_next_visit:a003"' in undone.text
    with app.state.web.engine.connect() as connection:
        rows = connection.execute(text("SELECT done_by, undone_by, undone_at FROM desk_actions")).all()
    assert [(row.done_by, row.undone_by) for row in rows] == [("mei", "mei")], "undoing keeps the row"
    assert acts(app).count("note_action") == acts(app).count("undo_action") == 1
    for wrong in ({"done": "none:a003"}, {"done": "sell:a003"}, {"done": "offer_next_visit:zzz"}, {"undo": "zzz"}, {}):
        assert client.post("/schedule/note", data={"csrf_token": token} | wrong).status_code in (400, 404)
    assert client.post("/schedule/note", data={"done": "offer_next_visit:a003"}).status_code == 403
    north = signed_in(app, "bo", "front_desk", ["north"])
    theirs = token_of(north.get("/patients").text)
    stranger = north.post("/schedule/note", data={"csrf_token": theirs, "done": "offer_next_visit:a003"})
    assert stranger.status_code == 404
    manager = signed_in(app, "boss", "manager")
    board = manager.get(path).text
    assert 'name="done"' not in board
    assert "/patient?" not in board


def test_patients_are_found_and_what_was_typed_is_kept_nowhere(app: Any, client: TestClient) -> None:
    engine = app.state.web.engine
    assert [one.patient_name for one in search(engine, " maria  K", None, by_name=True)] == ["Maria Keller"]
    assert search(engine, "Maria", None, by_name=False) == []
    assert search(engine, "%", None, by_name=True) == search(engine, "_", None, by_name=True) == []
    assert [one.patient_id for one in search(engine, patient_at(2).upper(), None, by_name=False)] == [patient_at(2)]
    assert search(engine, "Jonas", frozenset({"north"}), by_name=True) == []
    token = token_of(client.get("/patients").text)
    found = client.post("/patients", data={"csrf_token": token, "words": "keller"})
    assert "Maria Keller" in found.text
    partial = client.post("/patients", data={"csrf_token": token, "words": "zzz"}, headers={"HX-Request": "true"})
    assert "Nobody found" in partial.text
    assert "<html" not in partial.text
    assert client.post("/patients", data={"csrf_token": token, "words": HOSTILE}).text.count("<script>alert") == 0
    with engine.connect() as connection:
        logged = repr(connection.execute(text("SELECT * FROM audit_log WHERE action = 'search_patients'")).all())
    assert "search_patients" in logged
    assert "keller" not in logged.lower()
    assert "zzz" not in logged


def test_one_patients_page(app: Any, client: TestClient) -> None:
    third = patient_at(3)
    engine = app.state.web.engine
    before = AT - timedelta(weeks=9)
    consents.take_down(engine, consents.Statement(third, "wechat", False, before, "phone", "mei", before))
    page = client.get(f"/patient?id={third}").text
    said = words(page)
    for expected in (
        "50%", "model version 2", "Chance of missing the recall window", "Recall overdue for 3 weeks",
        "Crown × 2", "Proposed, not agreed to", "Treatment proposed", "Cleaning", "No answer", "1 Jun 2026",
        "Text message: refused", "WeChat: refused", "Contact: allowed", "¥1,234", "Household",
    ):  # fmt: skip
        assert expected in said, expected
    assert page.count("<circle") == 3, "each score over time"
    assert 'aria-label="Week by week: 8 Nov: 30%, 15 Nov: 40%, 22 Nov: 50%"' in page
    assert f'href="/patient?id={patient_at(5)}"' in page
    assert "<script>alert" not in page
    inert = page.replace("&#34; onload=&#34;y", "")  # the name, as text
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|hx-on|https?://", inert)
    assert f"<title>{third}" in page, "no name in the browser's history"
    client.cookies.set("revisit_language", "zh")
    chinese = client.get(f"/patient?id={third}").text.replace(
        "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34; onload=&#34;y", ""
    )
    allowed = (
        r"&lt;|Revisit demo practice|English|Mei|Dr|Lin|Xu|East Lake|North Gate|RDH|Amélie Laurent|Jonas Weber|p\d+"
    )
    left = re.findall(r"[A-Za-z]{2,}", re.sub(allowed, "", words(chinese)))
    assert left == []
    assert client.get("/patient?id=nobody").status_code == client.get("/patient").status_code == 404
    assert signed_in(app, "bo", "front_desk", ["north"]).get(f"/patient?id={third}").status_code == 404
    assert signed_in(app, "boss", "manager").get(f"/patient?id={third}").status_code == 403
    assert "view_patient" in acts(app)


def test_who_refused_to_be_scored_and_rules_are_named(app: Any, client: TestClient) -> None:
    engine, first = app.state.web.engine, patient_at(0)
    person = replace(CALM, patient_id=first, is_scoring_allowed=False)
    store_patients(engine, [person], {}, [])
    assert "The patient refused to be scored." in words(client.get(f"/patient?id={first}").text)
    thumb = replace(lapse(first, None, is_at_risk=True, kind="seed_rule"), model_version="")
    store_patients(engine, [replace(person, is_scoring_allowed=True)], {}, [thumb])
    said = words(client.get(f"/patient?id={first}").text)
    assert "rule in use: unanswered contacts, missed recalls" in said
    assert "At risk" in said
    rule = replace(lapse(first, 0.4, is_at_risk=True, kind="rule"), model_version="1")
    store_patients(engine, [replace(person, is_scoring_allowed=True)], {}, [rule])
    assert "rule in use: weeks past due" in words(client.get(f"/patient?id={first}").text)


def test_what_is_told_at_the_desk_waits_for_the_scorer(app: Any, client: TestClient) -> None:
    third, engine = patient_at(3), app.state.web.engine
    page = client.get(f"/patient?id={third}").text
    token = token_of(page)
    live = client.get(f"/patient/live?id={third}")
    assert client.get(f"/patient/live?id={third}", headers={"If-None-Match": live.headers["etag"]}).status_code == 304
    form = {"csrf_token": token, "id": third}
    contact = {"direction": "out", "channel": "phone", "purpose": "recall", "outcome": "no_answer"}
    booking = {"clinic": "east", "day": "2027-03-01", "time": "09:30", "minutes": "30", "service": "hygiene"}
    assert client.post("/patient/contact", data=form | contact).headers["location"] == f"/patient?id={third}"
    assert client.post("/patient/booking", data=form | booking).status_code == 303
    assert client.post("/patient/change", data=form | {"change": "cancelled:a003"}).status_code == 303
    told = waiting(engine)
    assert [event.record_table for event in told] == ["communications", "appointments", "appointments"]
    assert told[1].record["starts_at"] == "2027-03-01T09:30:00+08:00"
    assert told[2].record["status"] in ("cancelled_early", "cancelled_late")
    assert all(event.told_by == "mei" for event in told)
    after = client.get(f"/patient/live?id={third}", headers={"If-None-Match": live.headers["etag"]})
    assert "Being taken in" in after.text
    for path, wrong in (
        ("contact", {"channel": "smoke"}), ("contact", {}), ("booking", booking | {"day": "2020-01-01"}),
        ("booking", booking | {"clinic": "nowhere"}), ("booking", booking | {"minutes": "9999"}),
        ("booking", booking | {"time": "late"}), ("change", {"change": "eaten:a003"}),
    ):  # fmt: skip
        assert client.post(f"/patient/{path}", data=form | wrong).status_code == 400, (path, wrong)
    assert client.post("/patient/change", data=form | {"change": "arrived:zzz"}).status_code == 404
    assert client.post("/patient/contact", data={"id": third} | contact).status_code == 403
    assert len(waiting(engine)) == 3
    assert {"add_contact", "add_booking", "change_booking"} <= set(acts(app))


def test_the_same_as_json(app: Any, client: TestClient) -> None:
    third = patient_at(3)
    listed, after = [], None
    while True:
        answer = client.get("/api/v1/patients", params={"limit": 7} | ({"after": after} if after else {})).json()
        listed += answer["items"]
        after = answer["next"]
        if after is None:
            break
    assert [one["patient_id"] for one in listed] == sorted({b.patient_id for b in sample_day(DAY, ZONE).bookings})
    one = next(one for one in listed if one["patient_id"] == third)
    assert one["flags"] == ["lapse", "overdue", "treatment", "unanswered", "family"]
    assert one["open_cents"] == 123_400
    dossier = client.get("/api/v1/patient", params={"id": third, "lang": "zh"}).json()
    assert [score["probability"] for score in dossier["history"]] == [pytest.approx(p) for p in (0.3, 0.4, 0.5)]
    assert dossier["history"][0]["reasons"][0]["text"] == "复诊逾期 3 周"
    assert dossier["household"] == [patient_at(5)]
    assert "Jonas" not in repr(dossier)
    booking = client.get("/api/v1/schedule?clinic=east&day=2026-11-23").json()["bookings"][3]
    assert booking["flags"] == one["flags"]
    assert booking["suggested_action"] == "offer_next_visit"
    header = {"X-CSRF-Token": token_of(client.get("/patients").text)}
    body = {"appointment_id": "a003", "action": "offer_next_visit"}
    assert client.post("/api/v1/actions", json=body, headers=header).json() == body
    assert "done" in words(client.get("/schedule?clinic=east&day=2026-11-23").text)
    assert client.post("/api/v1/actions", json=body | {"action": None}, headers=header).status_code == 200
    assert client.post("/api/v1/actions", json=body | {"action": "none"}, headers=header).status_code == 422
    assert client.post("/api/v1/actions", json=body).status_code == 403
    assert client.get("/api/v1/patient?id=nobody").json()["error"]["code"] == "not_found"
    north = signed_in(app, "bo", "front_desk", ["north"])
    assert [one["patient_id"] for one in north.get("/api/v1/patients").json()["items"]] == [patient_at(5)]
    assert north.get("/api/v1/patient", params={"id": third}).status_code == 404
