"""Tables of the recall lists: what was asked for, who is on them, what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from serving.db import Base


class RecallRequestRow(Base):
    """One row per time a list was asked for, until and after the scorer has made it."""

    __tablename__ = "recall_requests"
    request_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    asked_at: Mapped[datetime]
    asked_by: Mapped[str] = mapped_column(String(80))
    calls: Mapped[int]
    finished_at: Mapped[datetime | None] = mapped_column(index=True)
    problem: Mapped[str | None] = mapped_column(String(400))


class RecallListRow(Base):
    """One row per list; `started_at` is null while nobody works on it."""

    __tablename__ = "recall_lists"
    list_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    made_at: Mapped[datetime]
    calls: Mapped[int]
    hold_out_share: Mapped[float]
    seed: Mapped[str] = mapped_column(String(32))
    ranked_by: Mapped[str] = mapped_column(String(32))
    model_version: Mapped[str | None] = mapped_column(String(64))
    counts: Mapped[list[dict[str, Any]]]
    campaign_id: Mapped[str | None] = mapped_column(String(64))
    started_at: Mapped[datetime | None]
    started_by: Mapped[str | None] = mapped_column(String(80))
    draws_recorded_at: Mapped[datetime | None]


class RecallItemRow(Base):
    """One row per list and patient, those held out included."""

    __tablename__ = "recall_items"
    __table_args__ = (Index("ix_recall_items_patient_id", "patient_id"),)
    list_id: Mapped[int] = mapped_column(ForeignKey("recall_lists.list_id", ondelete="CASCADE"), primary_key=True)
    patient_id: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[int]
    arm: Mapped[str] = mapped_column(String(16))
    propensity: Mapped[float]
    clinic_id: Mapped[str]
    household_id: Mapped[str]
    patient_name: Mapped[str | None]
    phone: Mapped[str | None]
    channels: Mapped[list[str]]
    overdue_days: Mapped[int]
    is_long_overdue: Mapped[bool]
    value_cents: Mapped[int]
    value_band: Mapped[str] = mapped_column(String(8))
    response: Mapped[float | None]
    last_contact_at: Mapped[datetime | None]
    reasons: Mapped[list[dict[str, Any]]]


class RecallOutcomeRow(Base):
    """One row per outcome that somebody noted; undoing it keeps the row."""

    __tablename__ = "recall_outcomes"
    __table_args__ = (Index("ix_recall_outcomes_list_id_patient_id", "list_id", "patient_id"),)
    outcome_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    list_id: Mapped[int] = mapped_column(ForeignKey("recall_lists.list_id", ondelete="CASCADE"))
    patient_id: Mapped[str]
    channel: Mapped[str] = mapped_column(String(16))
    outcome: Mapped[str] = mapped_column(String(16))
    noted_at: Mapped[datetime]
    noted_by: Mapped[str] = mapped_column(String(80))
    undone_at: Mapped[datetime | None]
    undone_by: Mapped[str | None] = mapped_column(String(80))
    recorded_at: Mapped[datetime | None]
