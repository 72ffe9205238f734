"""Tables of the front desk: patients as the pages show them, their scores, what was done, what was told."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from serving.db import Base


class PatientRow(Base):
    """One row per patient: who it is and what the flags are made of."""

    __tablename__ = "patients"
    patient_id: Mapped[str] = mapped_column(primary_key=True)
    clinic_id: Mapped[str | None] = mapped_column(index=True)
    patient_name: Mapped[str | None]
    search_name: Mapped[str] = mapped_column(index=True)
    birth_year: Mapped[int | None]
    household_id: Mapped[str | None] = mapped_column(index=True)
    departure: Mapped[str | None] = mapped_column(String(16))
    is_scoring_allowed: Mapped[bool]
    refused_channels: Mapped[list[str] | None]
    days_overdue: Mapped[int | None]
    open_items: Mapped[int]
    pending_items: Mapped[int]
    open_cents: Mapped[int]
    unanswered: Mapped[int]
    recalls_missed: Mapped[int]
    family_due: Mapped[int]
    has_booking_ahead: Mapped[bool]
    as_of: Mapped[datetime]


class PatientCardRow(Base):
    """One row per patient: visits, plans and contacts of their page, without names."""

    __tablename__ = "patient_cards"
    patient_id: Mapped[str] = mapped_column(primary_key=True)
    card: Mapped[dict[str, Any]]
    as_of: Mapped[datetime]


class PatientScoreRow(Base):
    """One row per patient, question and week; the newest score of the week stands."""

    __tablename__ = "patient_scores"
    patient_id: Mapped[str] = mapped_column(primary_key=True)
    question: Mapped[str] = mapped_column(String(32), primary_key=True)
    week: Mapped[date] = mapped_column(primary_key=True)
    probability: Mapped[float | None]
    kind: Mapped[str] = mapped_column(String(16))
    model_version: Mapped[str]
    is_at_risk: Mapped[bool]
    reasons: Mapped[list[dict[str, Any]]]
    as_of: Mapped[datetime]
    scored_at: Mapped[datetime]


class DeskActionRow(Base):
    """One row per thing that somebody noted as done about a booking; undoing it keeps the row."""

    __tablename__ = "desk_actions"
    __table_args__ = (Index("ix_desk_actions_clinic_id_day", "clinic_id", "day"),)
    action_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    appointment_id: Mapped[str]
    patient_id: Mapped[str] = mapped_column(index=True)
    clinic_id: Mapped[str]
    day: Mapped[date]
    action: Mapped[str] = mapped_column(String(32))
    done_by: Mapped[str] = mapped_column(String(80))
    done_at: Mapped[datetime]
    undone_by: Mapped[str | None] = mapped_column(String(80))
    undone_at: Mapped[datetime | None]


class DeskEventRow(Base):
    """One row per event told at the desk or by another system, until and after the scorer has taken it in."""

    __tablename__ = "desk_events"
    event_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    patient_id: Mapped[str] = mapped_column(index=True)
    clinic_id: Mapped[str | None]
    record_table: Mapped[str] = mapped_column(String(32))
    record: Mapped[dict[str, Any]]
    told_by: Mapped[str] = mapped_column(String(80))
    told_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16), index=True)
    problem: Mapped[str | None]
    finished_at: Mapped[datetime | None]
