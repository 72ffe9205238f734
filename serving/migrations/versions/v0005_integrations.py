"""Events received from other systems, tokens seen, feedback on cards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0002"
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
    for table in ("card_feedback", "seen_tokens"):
        op.drop_table(table)
