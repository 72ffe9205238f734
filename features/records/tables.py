"""The data contract: one declaration per table of a practice's records.

Every table is kept as a log of states. A row says what the practice's system
knew about one thing from ``known_at`` on; a later state of the same key never
overwrites an earlier one, so that any past moment can be looked at as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ColumnType = Literal["id", "text", "integer", "number", "boolean", "instant", "date"]

SQL_TYPES: Mapping[ColumnType, str] = {
    "id": "VARCHAR",
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "instant": "TIMESTAMPTZ",
    "date": "DATE",
}


@dataclass(frozen=True)
class Column:
    """One column of the contract.

    Attributes
    ----------
    name : str
        Suffixes tell the type: ``_id``, ``_at`` (instant, UTC), ``_on`` (date),
        ``_cents`` (minor unit of the currency), ``_minutes``; booleans start ``is_``.
    type : str
        Key of `SQL_TYPES`.
    description : str
        One sentence for the generated reference.
    required : bool
        Whether a row without it goes to quarantine.
    values : tuple of str
        The only values allowed, if any.
    minimum, maximum : float, optional
        Inclusive bounds.
    """

    name: str
    type: ColumnType
    description: str
    required: bool = False
    values: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Rule:
    """A condition over one row; a row for which it is false goes to quarantine."""

    column: str
    sql: str
    reason: str


@dataclass(frozen=True)
class Milestone:
    """Columns that the practice's system learned later than the row itself.

    An export shows a booking's outcome beside its booking time; the outcome
    was not known then. On import a row is therefore unfolded: a first state
    with ``until_then`` in the columns, a second one, known at ``known_at``,
    with what the export says.
    """

    known_at: str
    columns: tuple[str, ...]
    until_then: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One table of the contract; `grain` completes "one row per ..."."""

    name: str
    grain: str
    key: str
    columns: tuple[Column, ...]
    known_from: str
    rules: tuple[Rule, ...] = ()
    milestone: Milestone | None = None

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns, in contract order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Return the column called `name`."""
        return next(column for column in self.columns if column.name == name)


PATIENTS = Table(
    name="patients",
    grain="patient: what the practice knows about a person, without names and phones",
    key="patient_id",
    known_from="known_from_at",
    columns=(
        Column("patient_id", "id", "The practice's own number of the patient.", required=True),
        Column("known_from_at", "instant", "When the practice recorded this about the patient.", required=True),
        Column("birth_year", "integer", "Year of birth.", minimum=1880, maximum=2100),
        Column("sex", "text", "Sex as recorded.", values=("female", "male", "other", "unknown")),
        Column("home_clinic_id", "id", "The clinic the patient belongs to."),
        Column("first_seen_on", "date", "Day of the first visit."),
        Column("source_channel", "text", "How the patient found the practice (referral, search, ...)."),
        Column("referred_by_id", "id", "The patient who recommended the practice."),
        Column("household_id", "id", "People who share an address or a payer."),
        Column("membership", "text", "Membership plan, if any."),
        Column("tags", "text", "Tags, separated by semicolons."),
        Column("is_contact_allowed", "boolean", "Whether recall messages and calls are allowed."),
    ),
)

CONTACT_DETAILS = Table(
    name="contact_details",
    grain="patient: name and phone; read by serving alone",
    key="patient_id",
    known_from="known_from_at",
    columns=(
        Column("patient_id", "id", "The practice's own number of the patient.", required=True),
        Column("known_from_at", "instant", "When the practice recorded it.", required=True),
        Column("full_name", "text", "Name as the desk would say it."),
        Column("phone", "text", "Phone number as recorded."),
    ),
)

ENDED = ("completed", "no_show", "cancelled_late", "cancelled_early", "rescheduled")

APPOINTMENTS = Table(
    name="appointments",
    grain="booking",
    key="appointment_id",
    known_from="booked_at",
    columns=(
        Column("appointment_id", "id", "The practice's own number of the booking.", required=True),
        Column("patient_id", "id", "Who is booked.", required=True),
        Column("clinic_id", "id", "Where.", required=True),
        Column("clinician_id", "id", "With whom."),
        Column("service_line", "text", "What for: hygiene, filling, orthodontics, ..."),
        Column("booked_at", "instant", "When the booking was made.", required=True),
        Column("starts_at", "instant", "When the visit is to start.", required=True),
        Column("is_start_time_known", "boolean", "False where the export gives the day alone."),
        Column("duration_minutes", "integer", "Planned length.", minimum=1, maximum=24 * 60),
        Column(
            "status",
            "text",
            "Latest known state. Late cancellation: less than 24 hours before the start.",
            required=True,
            values=("booked", "arrived", *ENDED),
        ),
        Column("status_known_at", "instant", "When the practice's system learned the status."),
        Column("is_requested_clinician", "boolean", "Whether the patient asked for this clinician."),
        Column("recall_type", "text", "Kind of recall visit, if it is one."),
        Column("fee_cents", "integer", "Fee charged, in the currency's minor unit.", minimum=0),
    ),
    rules=(
        Rule("starts_at", "starts_at >= booked_at", "the appointment lies before its booking"),
        Rule(
            "booked_at",
            "booked_at >= TIMESTAMPTZ '1970-01-01 00:00:00+00'",
            "the booking time is before 1970",
        ),
        Rule(
            "status_known_at",
            "status_known_at >= booked_at OR starts_at < booked_at",
            "the status is older than the booking",
        ),
    ),
    milestone=Milestone(
        known_at="status_known_at",
        columns=("status", "status_known_at", "fee_cents"),
        until_then={"status": "booked"},
    ),
)

COMMUNICATIONS = Table(
    name="communications",
    grain="message or call",
    key="communication_id",
    known_from="sent_at",
    columns=(
        Column("communication_id", "id", "The practice's own number of the message.", required=True),
        Column("patient_id", "id", "With whom.", required=True),
        Column("appointment_id", "id", "The booking it is about, if any."),
        Column("direction", "text", "Who spoke first.", required=True, values=("out", "in")),
        Column(
            "channel",
            "text",
            "By which way.",
            required=True,
            values=("wechat", "sms", "phone", "email", "letter"),
        ),
        Column(
            "purpose",
            "text",
            "What for.",
            required=True,
            values=("reminder", "recall", "follow_up", "marketing", "other"),
        ),
        Column("campaign_id", "id", "The campaign it belongs to, if any."),
        Column("sent_at", "instant", "When it was sent or called.", required=True),
        Column("replied_at", "instant", "When the patient answered."),
        Column(
            "outcome",
            "text",
            "What came of it.",
            values=("confirmed", "declined", "no_answer", "opted_out", "other"),
        ),
    ),
    rules=(Rule("replied_at", "replied_at >= sent_at", "the reply is older than the message"),),
    milestone=Milestone(known_at="replied_at", columns=("replied_at", "outcome")),
)

TABLES: Mapping[str, Table] = {table.name: table for table in (PATIENTS, CONTACT_DETAILS, APPOINTMENTS, COMMUNICATIONS)}
