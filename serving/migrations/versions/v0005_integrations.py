"""Events received from other systems, tokens seen, feedback on cards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add tables."""
    op.create_table(
        "seen_tokens",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_seen_tokens"),
    )
    op.create_index("ix_seen_tokens_expires_at", "seen_tokens", ["expires_at"])
    _create_feedback()
    op.create_table(
        "received_events",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("source", sa.String(80), nullable=False),
        sa.Column("event_id", sa.String(100), nullable=False),
        sa.Column("thing_hash", sa.String(64), nullable=False),
        sa.Column("happened_at", INSTANT, nullable=True),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("desk_event_id", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_received_events"),
        sa.UniqueConstraint("source", "event_id", name="uq_received_events_source_event_id"),
    )
    op.create_index("ix_received_events_thing_hash", "received_events", ["thing_hash"])
    op.create_index("ix_received_events_received_at", "received_events", ["received_at"])


def _create_feedback() -> None:
    op.create_table(
        "card_feedback",
        sa.Column("feedback_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("service", sa.String(40), nullable=False),
        sa.Column("card", sa.String(36), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("suggestions", sa.JSON(), nullable=False),
        sa.Column("override_reason", sa.String(80), nullable=True),
        sa.Column("outcome_at", INSTANT, nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("client", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("feedback_id", name="pk_card_feedback"),
    )
    op.create_index("ix_card_feedback_card", "card_feedback", ["card"])


def downgrade() -> None:
    """Remove them."""
    for table in ("received_events", "card_feedback", "seen_tokens"):
        op.drop_table(table)
