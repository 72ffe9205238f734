"""Tables of what other systems send: events received, tokens seen, what became of cards."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String, UniqueConstraint
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


class ReceivedEventRow(Base):
    """One row per event that a program sent: what it is known by, not what it says."""

    __tablename__ = "received_events"
    __table_args__ = (
        UniqueConstraint("source", "event_id", name="uq_received_events_source_event_id"),
        Index("ix_received_events_thing_hash", "thing_hash"),
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    source: Mapped[str] = mapped_column(String(80))
    event_id: Mapped[str] = mapped_column(String(100))
    thing_hash: Mapped[str] = mapped_column(String(64))
    happened_at: Mapped[datetime | None]
    received_at: Mapped[datetime] = mapped_column(index=True)
    desk_event_id: Mapped[int | None]
