"""Clinics of users, API keys, idle sessions, subjects of the audit log, consents, nightly runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
LONG_AGO = "1970-01-01 00:00:00"  # sessions from before have idled: sign in again


def upgrade() -> None:
    """Add columns and tables."""
    op.add_column("users", sa.Column("clinics", sa.JSON(), nullable=True))
    op.add_column("users", sa.Column("is_demo", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE users SET is_demo = true WHERE username = 'demo'")
    op.add_column("user_sessions", sa.Column("last_seen_at", INSTANT, nullable=False, server_default=LONG_AGO))
    op.add_column("audit_log", sa.Column("subject", sa.String(32), nullable=True))
    op.add_column("audit_log", sa.Column("detail", sa.String(200), nullable=True))
    op.create_index("ix_audit_log_subject", "audit_log", ["subject"])
    op.create_table(
        "audit_subjects",
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_audit_subjects"),
        sa.UniqueConstraint("patient_id", name="uq_audit_subjects_patient_id"),
    )
    _create_keys()
    _create_consents()
    _create_nightly()


def downgrade() -> None:
    """Remove them."""
    for table in ("nightly_steps", "nightly_runs", "consents", "api_keys", "audit_subjects"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION consents_refuse()")
    op.drop_index("ix_audit_log_subject", "audit_log")
    for table, column in (
        ("audit_log", "detail"),
        ("audit_log", "subject"),
        ("user_sessions", "last_seen_at"),
        ("users", "is_demo"),
        ("users", "clinics"),
    ):
        op.drop_column(table, column)


def _create_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("clinics", sa.JSON(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_keys"),
    )


def _create_consents() -> None:
    op.create_table(
        "consents",
        sa.Column("consent_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("is_allowed", sa.Boolean(), nullable=False),
        sa.Column("stated_at", INSTANT, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("recorded_by", sa.String(80), nullable=False),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("consent_id", name="pk_consents"),
    )
    op.create_index("ix_consents_patient_id_channel", "consents", ["patient_id", "channel"])
    # Statements are taken back by newer ones; rows go only when the patient's data are deleted.
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION consents_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'consents are never rewritten'; END $$"
        )
        op.execute(
            "CREATE TRIGGER consents_no_update BEFORE UPDATE ON consents "
            "FOR EACH STATEMENT EXECUTE FUNCTION consents_refuse()"
        )
    else:
        op.execute(
            "CREATE TRIGGER consents_no_update BEFORE UPDATE ON consents "
            "BEGIN SELECT RAISE(ABORT, 'consents are never rewritten'); END"
        )


def _create_nightly() -> None:
    op.create_table(
        "nightly_runs",
        sa.Column("run_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("run_id", name="pk_nightly_runs"),
    )
    op.create_table(
        "nightly_steps",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "name", name="pk_nightly_steps"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["nightly_runs.run_id"], name="fk_nightly_steps_run_id", ondelete="CASCADE"
        ),
    )
