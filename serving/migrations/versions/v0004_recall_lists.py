"""Recall lists: requests, lists, items, outcomes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "recall_requests",
        sa.Column("request_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("asked_at", INSTANT, nullable=False),
        sa.Column("asked_by", sa.String(80), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("problem", sa.String(400), nullable=True),
        sa.PrimaryKeyConstraint("request_id", name="pk_recall_requests"),
    )
    op.create_index("ix_recall_requests_finished_at", "recall_requests", ["finished_at"])
    op.create_table(
        "recall_lists",
        sa.Column("list_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("made_at", INSTANT, nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("hold_out_share", sa.Double(), nullable=False),
        sa.Column("seed", sa.String(32), nullable=False),
        sa.Column("ranked_by", sa.String(32), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=True),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("campaign_id", sa.String(64), nullable=True),
        sa.Column("started_at", INSTANT, nullable=True),
        sa.Column("started_by", sa.String(80), nullable=True),
        sa.Column("draws_recorded_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("list_id", name="pk_recall_lists"),
    )
    _create_items()
    _create_outcomes()


def downgrade() -> None:
    """Remove them."""
    for table in ("recall_outcomes", "recall_items", "recall_lists", "recall_requests"):
        op.drop_table(table)


def _create_items() -> None:
    op.create_table(
        "recall_items",
        sa.Column("list_id", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(16), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=False),
        sa.Column("clinic_id", sa.String(), nullable=False),
        sa.Column("household_id", sa.String(), nullable=False),
        sa.Column("patient_name", sa.String(), nullable=True),
        sa.Column("phone", sa.String(), nullable=True),
        sa.Column("channels", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("overdue_days", sa.Integer(), nullable=False),
        sa.Column("is_long_overdue", sa.Boolean(), nullable=False),
        sa.Column("value_cents", sa.Integer(), nullable=False),
        sa.Column("value_band", sa.String(8), nullable=False),
        sa.Column("response", sa.Double(), nullable=True),
        sa.Column("last_contact_at", INSTANT, nullable=True),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("list_id", "patient_id", name="pk_recall_items"),
        sa.ForeignKeyConstraint(
            ["list_id"], ["recall_lists.list_id"], name="fk_recall_items_list_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_recall_items_patient_id", "recall_items", ["patient_id"])


def _create_outcomes() -> None:
    op.create_table(
        "recall_outcomes",
        sa.Column("outcome_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("list_id", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("noted_at", INSTANT, nullable=False),
        sa.Column("noted_by", sa.String(80), nullable=False),
        sa.Column("undone_at", INSTANT, nullable=True),
        sa.Column("undone_by", sa.String(80), nullable=True),
        sa.Column("recorded_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("outcome_id", name="pk_recall_outcomes"),
        sa.ForeignKeyConstraint(
            ["list_id"], ["recall_lists.list_id"], name="fk_recall_outcomes_list_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_recall_outcomes_list_id_patient_id", "recall_outcomes", ["list_id", "patient_id"])
