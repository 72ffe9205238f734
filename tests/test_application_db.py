"""The application database on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError, StatementError

from features.errors import StoreError
from features.settings import Paths, Settings
from serving import audit, consents, db
from serving.auth import create_user, find_session, sign_in
from serving.keys import create_key, find_key
from serving.nightly import Step, newest_run, run_nightly
from serving.sample_day import sample_day
from serving.schedule import (
    Booking,
    publish_schedule,
    read_day,
    read_overview,
    read_publication,
    read_schedule,
)

ZONE = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 11, 23)
POSTGRESQL = "postgresql+psycopg://postgres@127.0.0.1:5432/{}"


def _postgresql() -> Iterator[Engine]:
    name = f"revisit_{uuid.uuid4().hex[:12]}"
    admin = create_engine(
        POSTGRESQL.format("postgres"), isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3}
    )
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError:
        admin.dispose()
        pytest.skip("no PostgreSQL answers at 127.0.0.1:5432 for user postgres")
    engine = db.engine(POSTGRESQL.format(name))
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "postgresql":
        yield from _postgresql()
        return
    made = db.engine(f"sqlite:///{tmp_path / 'new folder' / 'app.db'}")
    yield made
    made.dispose()


@pytest.fixture
def upgraded(engine: Engine) -> Engine:
    db.upgrade(engine)
    return engine


def _publish(engine: Engine, day: date = DAY, count: int = 16) -> int:
    sample = sample_day(day, ZONE, count)
    return publish_schedule(
        engine,
        sample.bookings,
        sample.scores,
        sample.clinics,
        as_of=sample.as_of,
        published_at=sample.published_at,
    )


def test_upgrade_makes_the_tables_of_the_models_and_can_be_repeated(engine: Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    db.upgrade(engine)
    db.upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, db.Base.metadata) == []
    indexes = {tuple(index["column_names"]) for index in inspect(engine).get_indexes("bookings")}
    assert ("clinic_id", "starts_at") in indexes


def test_downgrade_goes_all_the_way_and_back(upgraded: Engine) -> None:
    audit.record(upgraded, audit.Act(datetime(2026, 1, 1, tzinfo=UTC), "view_patient", "mei", patient_id="P1"))
    create_user(upgraded, "mei", "a long password", "front_desk", "Mei", clinics=["east"])
    db.downgrade(upgraded, "0001")
    assert "consents" not in inspect(upgraded).get_table_names()
    db.upgrade(upgraded)
    with upgraded.connect() as connection:
        assert connection.execute(text("SELECT username, subject FROM audit_log")).all() == [("mei", None)]
        assert connection.execute(text("SELECT username, is_demo FROM users")).all() == [("mei", False)]
    db.downgrade(upgraded, "base")
    assert inspect(upgraded).get_table_names() == ["alembic_version"]
    db.upgrade(upgraded)


def test_keys_consents_and_nightly_runs_on_both(upgraded: Engine, tmp_path: Path) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    made = create_key(upgraded, "screen", ["schedule.view"], now, ["east"])
    who = find_key(upgraded, f"Bearer {made}", now)
    assert who is not None
    assert who.clinics == frozenset({"east"})
    said = consents.Statement("P1", "sms", True, now, "phone", "mei", now)
    consents.take_down(upgraded, said)
    assert consents.standing(upgraded, ["P1", "P2"], now) == {("P1", "sms"): said}
    with pytest.raises(DBAPIError, match="never rewritten"), upgraded.begin() as connection:
        connection.execute(text("UPDATE consents SET is_allowed = false"))
    url = upgraded.url.render_as_string(hide_password=False)
    settings = Settings(paths=Paths(data=tmp_path / "data"), database_url=url)
    assert run_nightly(settings, lambda: now, [Step("first", lambda _s, _n: "done")], say=lambda _text: None)
    run = newest_run(upgraded)
    assert run is not None
    assert [(step.name, step.state, step.note) for step in run.steps] == [("first", "done", "done")]
    for act in ("view_patient", "view_patient"):
        audit.record(upgraded, audit.Act(now, act, "mei", patient_id="P1"))
    assert [entry.act.patient_id for entry in audit.read(upgraded, 5, patient_ids=["P1"])] == ["P1", "P1"]


def test_upgrade_works_from_any_directory(tmp_path: Path) -> None:
    code = f"from serving import db; db.upgrade(db.engine('sqlite:///{tmp_path}/a.db'))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert sorted(path.name for path in tmp_path.iterdir())[0] == "a.db"


def test_sqlite_waits_keeps_foreign_keys_and_lets_readers_read(tmp_path: Path) -> None:
    engine = db.engine(f"sqlite:///{tmp_path / 'app.db'}")
    with engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        ]
    engine.dispose()
    assert found == ["wal", 1, 5000]


def test_a_day_comes_back_as_published(upgraded: Engine) -> None:
    _publish(upgraded)
    found = read_day(upgraded, "east", DAY, ZONE)
    sample = sample_day(DAY, ZONE)
    assert [booking for booking, _ in found] == list(sample.bookings)
    by_contract = {(score.appointment_id, score.contract): score for score in sample.scores}
    for booking, score in found:
        evening = by_contract.get((booking.appointment_id, "no_show_evening"))
        assert score == (evening or by_contract.get((booking.appointment_id, "no_show_booking")))
    assert found[-2][1] is None
    assert read_day(upgraded, "north", DAY, ZONE) == []
    assert read_day(upgraded, "east", DAY + timedelta(days=1), ZONE) == []
    overview = read_overview(upgraded, ZONE)
    assert (overview.first_day, overview.last_day) == (DAY, DAY)
    assert list(overview.clinics) == ["east", "north"]
    assert read_schedule(upgraded, "nowhere", DAY, ZONE) is None


def test_the_local_day_decides(upgraded: Engine) -> None:
    def at(hour: int, minute: int) -> Booking:
        moment = datetime(2026, 11, 22, hour, minute, tzinfo=UTC)
        return Booking(f"{hour}:{minute}", "east", "p", moment, moment - timedelta(days=1))

    bookings = [at(15, 59), at(16, 0), at(23, 59)]
    now = datetime(2026, 11, 22, tzinfo=UTC)
    publish_schedule(upgraded, bookings, [], {}, as_of=now, published_at=now)
    assert [b.appointment_id for b, _ in read_day(upgraded, "east", DAY, ZONE)] == ["16:0", "23:59"]
    assert read_overview(upgraded, ZONE).clinics == {"east": "east"}


def test_publishing_again_replaces_everything(upgraded: Engine) -> None:
    first = _publish(upgraded)
    second = _publish(upgraded, DAY + timedelta(days=1), count=5)
    assert second > first
    assert read_day(upgraded, "east", DAY, ZONE) == []
    assert len(read_day(upgraded, "east", DAY + timedelta(days=1), ZONE)) == 5
    newest = read_publication(upgraded)
    assert newest is not None
    assert (newest.publication_id, newest.booking_count) == (second, 5)
    assert newest.model_versions == {"no_show_booking": "3", "no_show_evening": "3"}


def test_a_failure_halfway_leaves_the_old_state(upgraded: Engine) -> None:
    first = _publish(upgraded)
    sample = sample_day(DAY + timedelta(days=1), ZONE)
    twice = (*sample.scores, sample.scores[-1])
    with pytest.raises(DBAPIError) as caught:
        publish_schedule(
            upgraded,
            sample.bookings,
            twice,
            sample.clinics,
            as_of=sample.as_of,
            published_at=sample.published_at,
        )
    assert "王雨桐" not in str(caught.value)
    assert len(read_day(upgraded, "east", DAY, ZONE)) == 16
    newest = read_publication(upgraded)
    assert newest is not None
    assert newest.publication_id == first


def test_a_reader_sees_one_publication_while_another_is_written(upgraded: Engine) -> None:
    first = _publish(upgraded)
    with db.reading(upgraded) as session:
        assert session.execute(text("SELECT count(*) FROM bookings")).scalar() == 16
        _publish(upgraded, count=3)
        assert session.execute(text("SELECT count(*) FROM scores")).scalar() == 27
        assert session.execute(text("SELECT max(publication_id) FROM publications")).scalar() == first
    assert len(read_day(upgraded, "east", DAY, ZONE)) == 3


def test_scores_that_cannot_be_are_refused(upgraded: Engine) -> None:
    sample = sample_day(DAY, ZONE)
    score = sample.scores[0]
    for wrong, message in (
        (replace(score, appointment_id="x9"), "have no booking: x9"),
        (replace(score, contract="lapse"), "lapse have no place"),
        (replace(score, probability=1.2), "not within 0 and 1: a000"),
    ):
        with pytest.raises(StoreError, match=message):
            publish_schedule(
                upgraded,
                sample.bookings,
                [wrong],
                {},
                as_of=sample.as_of,
                published_at=sample.published_at,
            )


def test_the_audit_log_only_grows(upgraded: Engine) -> None:
    audit.record(upgraded, audit.Act(datetime(2026, 1, 1, tzinfo=UTC), "view_schedule", "mei", "east", DAY, 3))
    for statement in ("UPDATE audit_log SET username = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(DBAPIError, match="append-only"), upgraded.begin() as connection:
            connection.execute(text(statement))
    with upgraded.connect() as connection:
        assert connection.execute(text("SELECT username, row_count FROM audit_log")).all() == [("mei", 3)]


def test_instants_need_a_zone(upgraded: Engine) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(StatementError, match="without a time zone"):
        audit.record(upgraded, audit.Act(naive, "view_schedule"))


def test_accounts_work_on_both(upgraded: Engine) -> None:
    create_user(upgraded, "Mei", "a long password", "front_desk", "Mei")
    now = datetime(2026, 11, 23, tzinfo=UTC)
    token = sign_in(upgraded, "mei", "a long password", now)
    who = find_session(upgraded, token, now)
    assert who is not None
    assert (who.username, who.role) == ("mei", "front_desk")
