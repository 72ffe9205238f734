"""Patients and their scores, what was done at the desk, events told there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add columns and tables."""
    op.add_column("bookings", sa.Column("clinician_name", sa.String(), nullable=True))
    op.add_column("publications", sa.Column("context", sa.JSON(), nullable=False, server_default="{}"))
    _create_patients()
    op.create_table(
        "desk_actions",
        sa.Column("action_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("appointment_id", sa.String(), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("clinic_id", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("done_by", sa.String(80), nullable=False),
        sa.Column("done_at", INSTANT, nullable=False),
        sa.Column("undone_by", sa.String(80), nullable=True),
        sa.Column("undone_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("action_id", name="pk_desk_actions"),
    )
    op.create_index("ix_desk_actions_clinic_id_day", "desk_actions", ["clinic_id", "day"])
    op.create_index("ix_desk_actions_patient_id", "desk_actions", ["patient_id"])
    op.create_table(
        "desk_events",
        sa.Column("event_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("clinic_id", sa.String(), nullable=True),
        sa.Column("record_table", sa.String(32), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("told_by", sa.String(80), nullable=False),
        sa.Column("told_at", INSTANT, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("problem", sa.String(), nullable=True),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("event_id", name="pk_desk_events"),
    )
    op.create_index("ix_desk_events_patient_id", "desk_events", ["patient_id"])
    op.create_index("ix_desk_events_state", "desk_events", ["state"])


def downgrade() -> None:
    """Remove them."""
    for table in ("desk_events", "desk_actions", "patient_scores", "patient_cards", "patients"):
        op.drop_table(table)
    op.drop_column("publications", "context")
    op.drop_column("bookings", "clinician_name")


def _create_patients() -> None:
    op.create_table(
        "patients",
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("clinic_id", sa.String(), nullable=True),
        sa.Column("patient_name", sa.String(), nullable=True),
        sa.Column("search_name", sa.String(), nullable=False),
        sa.Column("birth_year", sa.Integer(), nullable=True),
        sa.Column("household_id", sa.String(), nullable=True),
        sa.Column("departure", sa.String(16), nullable=True),
        sa.Column("is_scoring_allowed", sa.Boolean(), nullable=False),
        sa.Column("refused_channels", sa.JSON(), nullable=True),
        sa.Column("days_overdue", sa.Integer(), nullable=True),
        sa.Column("open_items", sa.Integer(), nullable=False),
        sa.Column("pending_items", sa.Integer(), nullable=False),
        sa.Column("open_cents", sa.Integer(), nullable=False),
        sa.Column("unanswered", sa.Integer(), nullable=False),
        sa.Column("recalls_missed", sa.Integer(), nullable=False),
        sa.Column("family_due", sa.Integer(), nullable=False),
        sa.Column("has_booking_ahead", sa.Boolean(), nullable=False),
        sa.Column("as_of", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("patient_id", name="pk_patients"),
    )
    for column in ("clinic_id", "search_name", "household_id"):
        op.create_index(f"ix_patients_{column}", "patients", [column])
    op.create_table(
        "patient_cards",
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.Column("as_of", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("patient_id", name="pk_patient_cards"),
    )
    op.create_table(
        "patient_scores",
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("question", sa.String(32), nullable=False),
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("is_at_risk", sa.Boolean(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("as_of", INSTANT, nullable=False),
        sa.Column("scored_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "question", "week", name="pk_patient_scores"),
    )
