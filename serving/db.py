"""The application database: its tables, its engine and its upgrade.

SQLite by default, PostgreSQL by URL. Every instant is stored in UTC and comes
back aware of its zone, whichever database keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Connection,
    DateTime,
    Dialect,
    Engine,
    ForeignKey,
    Index,
    MetaData,
    String,
    create_engine,
    event,
)
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

from features.errors import StoreError

if TYPE_CHECKING:
    from alembic.config import Config

ROLES = ("front_desk", "marketing", "manager", "admin")
BUSY_TIMEOUT_MS = 5_000
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
}


class Instant(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no zone, so it is taken off and put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse moments without a zone, then store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise StoreError("An instant without a time zone cannot be stored; pass an aware datetime.")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Hand back UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {  # noqa: RUF012
        datetime: Instant,
        dict[str, Any]: JSON,
        list[dict[str, Any]]: JSON,
        list[str]: JSON(none_as_null=True),
    }


class UserRow(Base):
    """One row per person who may sign in; `clinics` is null for all."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint(f"role IN {ROLES}", name="role_known"),)
    username: Mapped[str] = mapped_column(String(64), primary_key=True)
    password_hash: Mapped[str]
    role: Mapped[str] = mapped_column(String(16))
    display_name: Mapped[str]
    is_disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    clinics: Mapped[list[str] | None]
    is_demo: Mapped[bool] = mapped_column(default=False)


class SessionRow(Base):
    """One row per signed-in browser; the token itself is never stored."""

    __tablename__ = "user_sessions"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    username: Mapped[str] = mapped_column(ForeignKey("users.username", ondelete="CASCADE"), index=True)
    csrf_token: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    last_seen_at: Mapped[datetime]


class ApiKeyRow(Base):
    """One row per API key; the secret itself is never stored, `clinics` is null for all."""

    __tablename__ = "api_keys"
    key_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]]
    clinics: Mapped[list[str] | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class SignInFailureRow(Base):
    """One row per user name, known or not, with failed attempts since the last success."""

    __tablename__ = "sign_in_failures"
    username: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[datetime]
    locked_until: Mapped[datetime | None]


class ClinicRow(Base):
    """One row per clinic of the published schedule."""

    __tablename__ = "clinics"
    clinic_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


class BookingRow(Base):
    """One row per booking of the published schedule."""

    __tablename__ = "bookings"
    __table_args__ = (Index("ix_bookings_clinic_id_starts_at", "clinic_id", "starts_at"),)
    appointment_id: Mapped[str] = mapped_column(primary_key=True)
    clinic_id: Mapped[str] = mapped_column(ForeignKey("clinics.clinic_id", ondelete="CASCADE"))
    clinician_id: Mapped[str | None]
    patient_id: Mapped[str]
    patient_name: Mapped[str | None]
    birth_year: Mapped[int | None]
    service_line: Mapped[str | None]
    starts_at: Mapped[datetime]
    is_start_time_known: Mapped[bool]
    duration_minutes: Mapped[int | None]
    status: Mapped[str] = mapped_column(String(24))
    booked_at: Mapped[datetime]
    published_at: Mapped[datetime]
    clinician_name: Mapped[str | None]


class ScoreRow(Base):
    """One row per booking and contract."""

    __tablename__ = "scores"
    appointment_id: Mapped[str] = mapped_column(
        ForeignKey("bookings.appointment_id", ondelete="CASCADE"), primary_key=True
    )
    contract: Mapped[str] = mapped_column(String(64), primary_key=True)
    probability: Mapped[float]
    model_name: Mapped[str]
    model_version: Mapped[str]
    as_of: Mapped[datetime]
    scored_at: Mapped[datetime]
    reasons: Mapped[list[dict[str, Any]]]


class PublicationRow(Base):
    """One row per time the schedule was published; the newest is what pages show."""

    __tablename__ = "publications"
    publication_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    published_at: Mapped[datetime]
    as_of: Mapped[datetime]
    booking_count: Mapped[int]
    model_versions: Mapped[dict[str, Any]]
    context: Mapped[dict[str, Any]] = mapped_column(default=dict)


class AuditRow(Base):
    """One row per act on patient data or accounts; the database refuses changes to it."""

    __tablename__ = "audit_log"
    audit_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    username: Mapped[str | None]
    action: Mapped[str] = mapped_column(String(64))
    clinic_id: Mapped[str | None]
    day: Mapped[date | None]
    row_count: Mapped[int | None]
    model_version: Mapped[str | None]
    subject: Mapped[str | None] = mapped_column(String(32), index=True)
    detail: Mapped[str | None] = mapped_column(String(200))


class AuditSubjectRow(Base):
    """One row per patient whom the audit log speaks of.

    The log, which cannot be changed, knows a patient by a random mark alone;
    without this row, gone when the patient's data are deleted, it names nobody.
    """

    __tablename__ = "audit_subjects"
    subject: Mapped[str] = mapped_column(String(32), primary_key=True)
    patient_id: Mapped[str] = mapped_column(unique=True)


class ConsentRow(Base):
    """One row per statement of a patient about one channel; the newest one holds."""

    __tablename__ = "consents"
    __table_args__ = (Index("ix_consents_patient_id_channel", "patient_id", "channel"),)
    consent_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    patient_id: Mapped[str]
    channel: Mapped[str] = mapped_column(String(16))
    is_allowed: Mapped[bool]
    stated_at: Mapped[datetime]
    source: Mapped[str] = mapped_column(String(64))
    recorded_by: Mapped[str] = mapped_column(String(80))
    recorded_at: Mapped[datetime]


class NightlyRunRow(Base):
    """One row per nightly run."""

    __tablename__ = "nightly_runs"
    run_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class NightlyStepRow(Base):
    """One row per nightly run and step that was begun."""

    __tablename__ = "nightly_steps"
    run_id: Mapped[int] = mapped_column(ForeignKey("nightly_runs.run_id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    note: Mapped[str]


def engine(url: str) -> Engine:
    """Open the application database; nothing is created but SQLite's folder.

    Parameters
    ----------
    url : str
        ``sqlite:///...`` or ``postgresql+psycopg://...``.

    Returns
    -------
    Engine
        With parameters hidden from error messages, since they hold names.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, hide_parameters=True, pool_pre_ping=True)
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    made = create_engine(parsed, hide_parameters=True)
    event.listen(made, "connect", _prepare_sqlite)
    event.listen(made, "begin", _begin_sqlite)
    return made


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Python's driver would otherwise begin transactions at the first write only,
    # and a page reading three tables could see two publications.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "foreign_keys=ON",
        "synchronous=NORMAL",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    # A reader that turns into a writer fails at once instead of waiting its turn.
    is_writing = connection.get_execution_options().get("is_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")


@contextmanager
def reading(bound: Engine) -> Iterator[Session]:
    """Open a session whose statements all see the same state."""
    options: dict[str, Any] = {}
    if bound.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    with Session(bound.execution_options(**options)) as session:
        yield session


@contextmanager
def writing(bound: Engine) -> Iterator[Session]:
    """Open a session that commits at the end, or leaves everything as it was."""
    with Session(bound.execution_options(is_writing=True)) as session, session.begin():
        yield session


def upgrade(bound: Engine) -> None:
    """Bring the tables to the newest version; running it again changes nothing.

    Parameters
    ----------
    bound : Engine
        As made by `engine`.
    """
    from alembic import command

    with bound.execution_options(is_writing=True).begin() as connection:
        command.upgrade(_migrations(connection), "head")


def downgrade(bound: Engine, revision: str) -> None:
    """Take the tables back to an earlier version; what only newer ones can hold is lost.

    Parameters
    ----------
    bound : Engine
        As made by `engine`.
    revision : str
        Such as ``0001``; ``base`` removes everything.
    """
    from alembic import command

    with bound.execution_options(is_writing=True).begin() as connection:
        command.downgrade(_migrations(connection), revision)


def _migrations(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    folder = Path(__file__).with_name("migrations").as_posix()
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
