"""Tables of what other systems send: events received, tokens seen, what became of cards."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from serving.db import Base


class SeenTokenRow(Base):
    """One row per signed token that was used, until it would have ended anyhow."""

    __tablename__ = "seen_tokens"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class CardFeedbackRow(Base):
    """One row per answer to a card of decision support; no free text."""

    __tablename__ = "card_feedback"
    feedback_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    service: Mapped[str] = mapped_column(String(40))
    card: Mapped[str] = mapped_column(String(36), index=True)
    outcome: Mapped[str] = mapped_column(String(16))
    suggestions: Mapped[list[str]]
    override_reason: Mapped[str | None] = mapped_column(String(80))
    outcome_at: Mapped[datetime]
    received_at: Mapped[datetime]
    client: Mapped[str] = mapped_column(String(200))
