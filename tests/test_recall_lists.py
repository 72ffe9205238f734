"""Recall lists from records to page, file and back: nothing from the future, consent, hold-out, outcomes."""

from __future__ import annotations

import csv
import io
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from sqlalchemy import select, text

from features.as_of import attach_states
from features.duck import connect
from features.online_events import record_event
from features.recall_due import due_patients
from features.recall_labels import attach_recall
from features.records.store import RecordStore
from features.settings import Paths, Settings
from serving import auth, consents, db
from serving.app import create_app
from serving.clock import now
from serving.db import reading, writing
from serving.desk_events import waiting
from serving.patient_data import delete_patient
from serving.recall_build import answer_requests, is_list_due, prepare
from serving.recall_lists import (
    NoRecallListError,
    RecallError,
    ask,
    newest_request,
    note,
    read_items,
    read_lists,
    start,
)
from serving.recall_returns import bring_back
from serving.recall_tables import RecallItemRow, RecallOutcomeRow
from serving.schedule import Booking, publish_schedule
from serving.web import Options
from training.randomised import hold_out_odds

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.10 asks for httpx2; httpx is what MLflow and others bring
    from fastapi.testclient import TestClient

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
SOON = NOW + timedelta(minutes=30)


@pytest.fixture
def practice(small_practice: Any, tmp_path: Path) -> Settings:
    """The small practice's records, in a folder that may be changed."""
    shutil.copytree(small_practice.settings.paths.records, tmp_path / "data" / "records")
    return small_practice.settings.model_copy(
        update={"paths": Paths(data=tmp_path / "data", mlruns=tmp_path / "mlruns")}
    )


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    cheap = auth.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(auth, "_hasher", lambda: cheap)
    made = create_app(Settings(paths=Paths(data=tmp_path)), Options())
    for name, role, clinics in (
        ("ma", "marketing", None),
        ("boss", "manager", None),
        ("desk", "front_desk", ["north"]),
        ("root", "admin", None),
    ):
        auth.create_user(made.state.web.engine, name, "correct horse", role, name, clinics=clinics)
    yield made
    made.state.web.engine.dispose()


def client_of(app: Any, username: str) -> tuple[TestClient, dict[str, str]]:
    engine = app.state.web.engine
    client = TestClient(app, follow_redirects=False)
    token = auth.sign_in(engine, username, "correct horse", now())
    client.cookies.set("revisit_session", token)
    who = auth.find_session(engine, token, now())
    assert who is not None
    return client, {"csrf_token": who.csrf_token}


def arms(settings: Settings) -> list[tuple[Any, ...]]:
    with connect() as con:
        RecordStore(settings.paths.records).attach(con, ["campaign_arms"])
        return con.execute(
            "SELECT patient_id, arm, propensity FROM campaign_arms WHERE campaign_id LIKE 'RECALL-%'"
        ).fetchall()


def test_who_is_due_is_what_was_known_then(small_practice: Any) -> None:
    settings = small_practice.settings
    then = NOW - timedelta(days=200)
    seen = due_patients(settings, then)
    with connect() as con:
        small_practice.store.attach(con, ["patients", "appointments", "communications", "payments", "recalls"])
        kept = con.execute(
            """SELECT patient_id, max(starts_at) FROM (SELECT *, row_number() OVER (
                   PARTITION BY appointment_id ORDER BY known_at DESC) AS n FROM appointments WHERE known_at < ?)
               WHERE n = 1 AND status IN ('arrived', 'completed') GROUP BY 1""",
            [then],
        ).fetchall()
        ahead = con.execute(
            """SELECT DISTINCT patient_id FROM (SELECT *, row_number() OVER (
                   PARTITION BY appointment_id ORDER BY known_at DESC) AS n FROM appointments WHERE known_at < ?)
               WHERE n = 1 AND status = 'booked' AND starts_at >= ?""",
            [then, then],
        ).fetchall()
    last = dict(kept)
    assert len(seen) > 30
    for row in seen.to_dict("records"):
        assert (then - last[row["patient_id"]]) / timedelta(days=1) == pytest.approx(row["days_since_last_visit"])
        assert row["days_since_due"] >= 0
    assert set(seen.loc[seen["has_booking_ahead"], "patient_id"]) <= {patient for (patient,) in ahead}
    # The long overdue are there: nobody drops out because the date has passed.
    assert seen["days_since_due"].max() > 180


def test_from_records_to_a_started_list_and_back(practice: Settings) -> None:
    made = prepare(practice, NOW, 20)
    engine = db.engine(practice.application_database)
    (found,) = read_lists(engine, None, 5)
    items = read_items(engine, found.list_id, None, NOW)
    frame = due_patients(practice, NOW).set_index("patient_id")
    assert len(items) == made.contact == found.counts.contact
    assert made.hold_out == found.counts.hold_out == 2
    assert found.counts.due == len(frame)
    assert found.counts.kept_off + made.contact + made.hold_out + made.waiting == len(frame)
    for item in items:
        facts = frame.loc[item.patient_id]
        assert not facts["has_booking_ahead"]
        assert facts["is_contact_allowed"] is not False
        assert facts[f"is_{item.channels[0]}_allowed"] in ((True, None) if item.channels[0] == "phone" else (True,))
        assert len(item.reasons) == 3
    with pytest.raises(RecallError):
        note(engine, found.list_id, items[0].patient_id, "reached", "mei", NOW, None)

    again = prepare(practice, SOON, 30)
    (resized,) = read_lists(engine, None, 5)
    assert (resized.calls, again.contact > made.contact) == (30, True), "it took the place of the first"
    start(engine, resized.list_id, "mei", SOON)
    assert not is_list_due(engine, SOON)
    assert is_list_due(engine, SOON + timedelta(days=7))
    people = [item.patient_id for item in read_items(engine, resized.list_id, None, SOON)]
    for patient, outcome in zip(people, ("booked", "no_answer", "stop"), strict=False):
        note(engine, resized.list_id, patient, outcome, "mei", SOON, None)  # type: ignore[arg-type]
    assert bring_back(practice, engine, SOON + timedelta(minutes=1)) == (again.contact + again.hold_out, 0)
    later = SOON + timedelta(minutes=16)
    assert bring_back(practice, engine, later) == (0, 3)
    assert bring_back(practice, engine, later) == (0, 0)
    for event in waiting(engine):  # as the scorer takes them in
        assert record_event(practice, event.record_table, event.record, later).is_new

    drawn = arms(practice)
    assert Counter(arm for _, arm, _ in drawn) == {"contact": again.contact, "hold_out": again.hold_out}
    odds = again.hold_out / (again.contact + again.hold_out)
    assert {round(chance, 9) for _, arm, chance in drawn if arm == "hold_out"} == {round(odds, 9)}
    with connect() as con:
        RecordStore(practice.paths.records).attach(con, ["campaign_arms", "appointments", "patients", "communications"])
        for table in ("campaign_arms", "appointments", "patients"):
            attach_states(con, table)
        attach_recall(con, SOON + timedelta(days=57))
        labels = con.sql("SELECT * FROM recall_label WHERE campaign_id LIKE 'RECALL-%'").df()
        said = con.execute(
            "SELECT patient_id, outcome FROM communications WHERE campaign_id LIKE 'RECALL-%' AND outcome IS NOT NULL"
        ).fetchall()
    assert hold_out_odds(labels)[0] == pytest.approx(odds)
    assert dict(said) == dict(zip(people, ("confirmed", "no_answer", "opted_out"), strict=False))

    third = prepare(practice, later, 30)
    drawn_before = {patient for patient, *_ in drawn}
    newest = read_lists(engine, None, 1)[0]
    with reading(engine) as session:
        now_on = {
            r.patient_id for r in session.scalars(select(RecallItemRow).where(RecallItemRow.list_id == third.list_id))
        }
    assert not now_on & drawn_before, "neither called again at once, nor called while held out"
    assert newest.counts.excluded["hold_out"] >= again.hold_out
    assert newest.counts.excluded["do_not_contact"] >= 1
    delete_patient(practice, people[0], later, "mei")
    with reading(engine) as session:
        assert people[0] not in set(session.scalars(select(RecallItemRow.patient_id)))
        assert people[0] not in set(session.scalars(select(RecallOutcomeRow.patient_id)))
    engine.dispose()


def test_wishes_are_answered_by_the_scorer(practice: Settings) -> None:
    engine = db.engine(practice.application_database)
    db.upgrade(engine)
    ask(engine, 500, "mei", NOW)
    ask(engine, 12, "mei", NOW)
    answer_requests(practice, engine, NOW)
    wish = newest_request(engine)
    assert wish is not None
    assert (wish.calls, wish.finished_at, wish.problem) == (12, NOW, None)
    assert [one.calls for one in read_lists(engine, None, 5)] == [12]
    shutil.rmtree(practice.paths.records)
    ask(engine, 13, "mei", SOON)
    answer_requests(practice, engine, SOON)
    refused = newest_request(engine)
    assert refused is not None
    assert "revisit import" in str(refused.problem)
    for wrong in (0, 501):
        with pytest.raises(RecallError):
            ask(engine, wrong, "mei", NOW)
    engine.dispose()


def test_the_page_by_role(web: Any, recall_list: Callable[..., int]) -> None:
    engine = web.state.web.engine
    client, form = client_of(web, "ma")
    assert "There is no list yet" in client.get("/recall").text
    number = recall_list(engine, now())
    page = client.get("/recall").text
    for words in ("王小明 1", "+86 1001", "12,345", "5 weeks", "1 more of the family is due", "Start this list"):
        assert words in page
    assert "王小明 7" not in page, "held out"
    assert "p3" in page, "no name on record"
    assert "Excel" not in page, "handed out once it is started"
    assert client.get(f"/recall/export?list={number}").status_code == 409
    assert client.post("/recall/start", data={**form, "list": str(number)}).status_code == 303
    assert client.post("/recall/start", data={**form, "list": str(number)}).status_code == 409
    manager, _ = client_of(web, "boss")
    seen = manager.get("/recall").text
    assert "王小明" not in seen
    assert "+86" not in seen
    assert "王某" in seen
    desk, own = client_of(web, "desk")
    seen = desk.get("/recall").text
    assert "王小明 2" in seen
    assert "王小明 1" not in seen, "another clinic's"
    assert "Calls per week" not in seen
    refused = desk.post("/recall/note", data={**own, "list": str(number), "patient": "p1", "outcome": "booked"})
    assert refused.status_code == 404
    assert (
        desk.post("/recall/note", data={**own, "list": str(number), "patient": "p2", "outcome": "x"}).status_code == 400
    )
    held_out = client.post("/recall/note", data={**form, "list": str(number), "patient": "p7", "outcome": "booked"})
    assert held_out.status_code == 404
    assert client.post("/recall/ask", data={**form, "calls": "25"}).status_code == 303
    assert "A list is being prepared" in client.get("/recall").text
    assert client.get("/recall/waiting").status_code == 204
    for wrong in ("", "-1", "1e3", "999", "9" * 50):
        assert client.post("/recall/ask", data={**form, "calls": wrong}).status_code in (400, 409)


def test_an_outcome_is_noted_undone_and_audited(web: Any, recall_list: Callable[..., int]) -> None:
    engine = web.state.web.engine
    number = recall_list(engine, now(), "ma")
    client, form = client_of(web, "ma")
    sent = {**form, "list": str(number), "patient": "p1", "outcome": "stop"}
    row = client.post("/recall/note", data=sent, headers={"HX-Request": "true"}).text
    assert "Wants no contact" in row
    assert 'hx-swap-oob="true"' in row
    assert "1 of 6 done" in row
    assert consents.standing(engine, ["p1"], now())["p1", "all"].is_allowed is False
    noted = re.search(r'name="noted" value="(\d+)"', row)
    assert noted is not None
    undone = client.post("/recall/undo", data={**form, "noted": noted[1]}, headers={"HX-Request": "true"}).text
    assert "0 of 6 done" in undone
    assert consents.standing(engine, ["p1"], now())["p1", "all"].is_allowed is True
    again = client.post("/recall/note", data={**sent, "outcome": "booked"})
    assert (again.status_code, again.headers["location"]) == (303, f"/recall?list={number}")
    with writing(engine) as session:
        session.scalars(
            select(RecallOutcomeRow).order_by(RecallOutcomeRow.outcome_id.desc())
        ).first().recorded_at = now()  # type: ignore[union-attr]
    items = {item.patient_id: item for item in read_items(engine, number, None, now())}
    assert items["p1"].noted is not None
    assert not items["p1"].noted.can_be_undone
    late = client.post("/recall/undo", data={**form, "noted": str(items["p1"].noted.outcome_id)})
    assert late.status_code == 409
    with engine.connect() as connection:
        acts = connection.execute(text("SELECT action, detail, subject FROM audit_log ORDER BY audit_id")).all()
    assert [act.action for act in acts] == ["note_recall", "undo_recall", "note_recall"]
    assert all(act.subject and "p1" not in str(act.detail) for act in acts)
    with pytest.raises(NoRecallListError):
        note(engine, number, "p9", "booked", "ma", now(), None)


def test_handing_out_looks_at_consent_again(web: Any, recall_list: Callable[..., int]) -> None:
    engine, at = web.state.web.engine, now()
    number = recall_list(engine, at, "ma", name="=HYPERLINK(1)")
    for patient, channel, is_allowed in (("p1", "phone", False), ("p2", "all", False), ("p4", "wechat", False)):
        consents.take_down(engine, consents.Statement(patient, channel, is_allowed, at, "phone", "mei", at))
    booking = Booking("a1", "east", "p5", at + timedelta(days=3), at)
    publish_schedule(engine, [booking], [], {"east": "East"}, as_of=at, published_at=at)
    client, form = client_of(web, "ma")
    client.post("/recall/note", data={**form, "list": str(number), "patient": "p6", "outcome": "reached"})
    answer = client.get(f"/recall/export?list={number}&format=csv")
    assert answer.headers["content-disposition"].endswith('.csv"')
    lines = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [line[1] for line in lines[1:]] == ["p1", "p3"]
    assert lines[1][2] == "'=HYPERLINK(1) 1"
    assert lines[1][5] == "Text message", "the call was refused"
    book = openpyxl.load_workbook(io.BytesIO(client.get(f"/recall/export?list={number}&format=xlsx").content))
    cells = list(book.active.iter_rows(values_only=True))  # type: ignore[union-attr]
    assert [row[1] for row in cells[1:]] == ["p1", "p3"]
    assert all(cell.data_type != "f" for row in book.active.iter_rows() for cell in row)  # type: ignore[union-attr]
    page = client.get("/recall").text
    assert page.count("do not contact") == 2
    assert "Has booked since" in page
    with engine.connect() as connection:
        acts = connection.execute(text("SELECT row_count, detail FROM audit_log WHERE action = 'export_recall'")).all()
    assert acts[0] == (2, f"csv, list {number}, 3 left out by consent or booking")
    manager, _ = client_of(web, "boss")
    assert manager.get(f"/recall/export?list={number}").status_code == 403
    assert client.get(f"/recall/export?list={number}&format=exe").status_code == 400
    assert client.get("/recall/export?list=77").status_code == 404


def test_the_api_does_what_the_page_does(web: Any, recall_list: Callable[..., int]) -> None:
    engine = web.state.web.engine
    first, number = recall_list(engine, now()), recall_list(engine, now())
    client, form = client_of(web, "ma")
    token = {"X-CSRF-Token": form["csrf_token"]}
    page = client.get("/api/v1/recall/lists?limit=1").json()
    assert [one["list_id"] for one in page["items"]] == [number]
    rest = client.get(f"/api/v1/recall/lists?limit=1&after={page['next']}").json()
    assert ([one["list_id"] for one in rest["items"]], rest["next"]) == ([first], None)
    assert client.get(f"/api/v1/recall/lists/{number}").json()["excluded"] == {"booked": 6, "no_channel": 3}
    got, after = [], None
    while True:
        query = {"limit": 4, "lang": "zh"} | ({"after": after} if after else {})
        answer = client.get(f"/api/v1/recall/lists/{number}/items", params=query).json()
        got += answer["items"]
        after = answer["next"]
        if after is None:
            break
    assert [one["patient_id"] for one in got] == ["p1", "p2", "p3", "p4", "p5", "p6"]
    assert got[0]["reasons"][0]["text"] == "家人中另有 1 位也已到期"
    assert "王小明" not in str(got)
    wish = {"list_id": number, "patient_id": "p1", "outcome": "booked"}
    early = client.post("/api/v1/recall/outcomes", json=wish, headers=token)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "not_now")
    assert client.post(f"/api/v1/recall/lists/{first}/start", json={}, headers=token).status_code == 409, "a newer one"
    started = client.post(f"/api/v1/recall/lists/{number}/start", json={}, headers=token).json()
    assert started["campaign_id"] == f"RECALL-{now():%Y%m%d}-{number}"
    noted = client.post("/api/v1/recall/outcomes", json=wish, headers=token)
    assert noted.status_code == 201
    undo = f"/api/v1/recall/outcomes/{noted.json()['outcome_id']}/undo"
    assert client.post(undo, json={}, headers=token).status_code == 200
    assert client.post("/api/v1/recall/lists", json={"calls": 30}, headers=token).status_code == 202
    assert client.post("/api/v1/recall/lists", json={"calls": 0}, headers=token).status_code == 422
    assert client.get(f"/api/v1/recall/lists/{number}/export?format=csv").status_code == 200
    assert client.get("/api/v1/recall/lists/99/items").status_code == 404
    desk, _ = client_of(web, "desk")
    own = desk.get(f"/api/v1/recall/lists/{number}").json()
    assert (own["due"], own["to_contact"], own["excluded"]) == (5, 2, {"no_channel": 3})


def test_nothing_english_is_left_on_the_chinese_page(web: Any, recall_list: Callable[..., int]) -> None:
    number = recall_list(web.state.web.engine, now())
    client, form = client_of(web, "ma")
    client.cookies.set("revisit_language", "zh")
    allowed = r"Revisit demo practice|English|Excel|CSV|east|north|ma|revisit nightly|p3"
    for path in ("/recall", f"/recall?list={number}&only=done"):
        page = re.sub(r"<[^>]+>", " ", client.get(path).text)
        assert re.findall(r"[A-Za-z]{2,}", re.sub(allowed, "", page)) == []
    client.post("/recall/start", data={**form, "list": str(number)})
    client.post("/recall/note", data={**form, "list": str(number), "patient": "p1", "outcome": "no_answer"})
    page = re.sub(r"<[^>]+>", " ", client.get("/recall").text)
    assert re.findall(r"[A-Za-z]{2,}", re.sub(allowed, "", page)) == []
