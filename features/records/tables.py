"""The data contract: one declaration per table of a practice's records.

Every table is kept as a log of states. A row says what the practice's system
knew about one thing from ``known_at`` on; a later state of the same key never
overwrites an earlier one, so that any past moment can be looked at as it was.
Only `PATIENTS` and `APPOINTMENTS` are needed, and patients can be derived from
appointments; every other table unlocks more.
"""

from __future__ import annotations

from collections.abc import Mapping

from features.records.schema import Column, Milestone, Rule, Table

ALWAYS = "TIMESTAMPTZ '1970-01-01 00:00:00+00'"  # for what a practice has known ever since
ENDED = ("completed", "no_show", "cancelled_late", "cancelled_early", "rescheduled")
CHANNELS = ("wechat", "sms", "phone", "email", "letter")

CLINICS = Table(
    name="clinics",
    grain="clinic",
    key="clinic_id",
    known_from="known_from_at",
    known_default=ALWAYS,
    columns=(
        Column("clinic_id", "id", "The practice's own number or name of the clinic.", required=True),
        Column("clinic_name", "text", "Name shown on pages."),
        Column("region", "text", "City or district."),
        Column("opened_on", "date", "First day of work."),
        Column("known_from_at", "instant", "When the practice recorded this."),
    ),
    unlocks="names on the pages; derived from appointments if absent",
)

CLINICIANS = Table(
    name="clinicians",
    grain="clinician",
    key="clinician_id",
    known_from="known_from_at",
    known_default=f"coalesce(CAST(works_from_on AS TIMESTAMPTZ), {ALWAYS})",
    columns=(
        Column("clinician_id", "id", "The practice's own number of the clinician.", required=True),
        Column("clinic_id", "id", "Where they mostly work.", refers_to="clinics"),
        Column("display_name", "text", "Name shown on pages."),
        Column(
            "role",
            "text",
            "What they do.",
            values=("dentist", "hygienist", "assistant", "consultant", "nurse", "other"),
        ),
        Column("works_from_on", "date", "First day of work."),
        Column("left_on", "date", "Last day of work."),
        Column("left_known_at", "instant", "When the practice knew that they leave."),
        Column("known_from_at", "instant", "When the practice recorded this."),
    ),
    rules=(Rule("left_on", "left_on >= works_from_on", "the last day of work is before the first"),),
    milestones=(
        Milestone("left_known_at", ("left_on", "left_known_at"), known_default="CAST(left_on AS TIMESTAMPTZ)"),
    ),
    unlocks="features of continuity: whether the patient's clinician left",
)

PATIENTS = Table(
    name="patients",
    grain="patient: what the practice knows about a person, without names and phones",
    key="patient_id",
    known_from="known_from_at",
    columns=(
        Column("patient_id", "id", "The practice's own number of the patient.", required=True),
        Column("home_clinic_id", "id", "The clinic the patient belongs to.", refers_to="clinics"),
        Column("referred_by_id", "id", "The patient who recommended the practice.", refers_to="patients"),
        Column("household_id", "id", "People who share an address or a payer."),
        Column("sex", "text", "Sex as recorded.", values=("female", "male", "other", "unknown")),
        Column("source_channel", "text", "How the patient found the practice (referral, search, ...)."),
        Column("membership", "text", "Membership plan, if any."),
        Column("tags", "text", "Tags, separated by semicolons.", is_list=True),
        Column(
            "departure",
            "text",
            "Why the patient is no longer one, if so.",
            values=("deceased", "moved", "transferred", "inactive"),
        ),
        Column("birth_year", "integer", "Year of birth.", minimum=1880, maximum=2100),
        Column("is_contact_allowed", "boolean", "Whether recall messages and calls are allowed at all."),
        Column("is_wechat_allowed", "boolean", "Consent to WeChat messages."),
        Column("is_sms_allowed", "boolean", "Consent to text messages."),
        Column("is_phone_allowed", "boolean", "Consent to calls."),
        Column("is_email_allowed", "boolean", "Consent to e-mail."),
        Column("is_profiling_allowed", "boolean", "False where the patient refused automated scoring (PIPL art. 24)."),
        Column("first_seen_on", "date", "Day of the first visit."),
        Column("departed_on", "date", "Day of the departure."),
        Column("known_from_at", "instant", "When the practice recorded this about the patient."),
    ),
    unlocks="age, household, source and consent; derived from appointments if absent",
)

CONTACT_DETAILS = Table(
    name="contact_details",
    grain="patient: name and phone; read by serving alone",
    key="patient_id",
    known_from="known_from_at",
    columns=(
        Column("patient_id", "id", "The practice's own number of the patient.", required=True, refers_to="patients"),
        Column("full_name", "text", "Name as the desk would say it.", is_personal=True),
        Column("phone", "text", "Phone number as recorded.", is_personal=True),
        Column("email", "text", "E-mail address as recorded.", is_personal=True),
        Column("known_from_at", "instant", "When the practice recorded it."),
    ),
    unlocks="names on the front desk's pages",
)

APPOINTMENTS = Table(
    name="appointments",
    grain="booking",
    key="appointment_id",
    known_from="booked_at",
    columns=(
        Column("appointment_id", "id", "The practice's own number of the booking.", required=True),
        Column("patient_id", "id", "Who is booked.", required=True, refers_to="patients"),
        Column("clinic_id", "id", "Where.", required=True, refers_to="clinics"),
        Column("clinician_id", "id", "With whom.", refers_to="clinicians"),
        Column("service_line", "text", "What for: hygiene, filling, orthodontics, ..."),
        Column(
            "status",
            "text",
            "Latest known state. Late cancellation: less than 24 hours before the start.",
            required=True,
            values=("booked", "arrived", *ENDED),
        ),
        Column("recall_type", "text", "Kind of recall visit, if it is one."),
        Column("duration_minutes", "integer", "Planned length.", minimum=1, maximum=24 * 60),
        Column("fee_cents", "integer", "Fee charged, in the currency's minor unit.", minimum=0),
        Column("is_start_time_known", "boolean", "False where the export gives the day alone."),
        Column("is_requested_clinician", "boolean", "Whether the patient asked for this clinician."),
        Column("booked_at", "instant", "When the booking was made.", required=True),
        Column("starts_at", "instant", "When the visit is to start.", required=True),
        Column("status_known_at", "instant", "When the practice's system learned the status."),
    ),
    rules=(
        Rule("starts_at", "starts_at >= booked_at", "the appointment lies before its booking"),
        Rule("booked_at", f"booked_at >= {ALWAYS}", "the booking time is before 1970"),
        Rule(
            "status_known_at",
            "status_known_at >= booked_at OR starts_at < booked_at",
            "the status is older than the booking",
        ),
    ),
    milestones=(
        Milestone(
            known_at="status_known_at",
            columns=("status", "status_known_at", "fee_cents"),
            until_then={"status": "booked"},
            known_default=(
                "CASE WHEN status <> 'booked' THEN "
                "greatest(booked_at, least(starts_at + INTERVAL 24 HOUR, $moment::TIMESTAMPTZ)) END"
            ),
        ),
    ),
    unlocks="no-show risk, lapse and return, demand",
)

PLAN_ITEMS = Table(
    name="plan_items",
    grain="treatment-plan item",
    key="plan_item_id",
    known_from="proposed_at",
    columns=(
        Column("plan_item_id", "id", "The practice's own number of the item.", required=True),
        Column("plan_id", "id", "The plan it belongs to."),
        Column("patient_id", "id", "Whose plan.", required=True, refers_to="patients"),
        Column("clinic_id", "id", "Where.", refers_to="clinics"),
        Column("clinician_id", "id", "Who proposed it.", refers_to="clinicians"),
        Column("appointment_id", "id", "The booking in which it is to be done.", refers_to="appointments"),
        Column("service_line", "text", "What kind of treatment."),
        Column("procedure_code", "text", "The practice's or a national code."),
        Column("urgency", "text", "How soon it should be done.", values=("routine", "soon", "urgent")),
        Column("fee_cents", "integer", "Proposed fee, in the currency's minor unit.", minimum=0),
        Column("proposed_at", "instant", "When it was proposed.", required=True),
        Column("accepted_at", "instant", "When the patient agreed."),
        Column("scheduled_at", "instant", "When it was put into a booking."),
        Column("completed_at", "instant", "When it was done."),
        Column("declined_at", "instant", "When the patient refused, or the item was dropped."),
    ),
    rules=(
        Rule("accepted_at", "accepted_at >= proposed_at", "the item was accepted before it was proposed"),
        Rule("scheduled_at", "scheduled_at >= proposed_at", "the item was scheduled before it was proposed"),
        Rule("completed_at", "completed_at >= proposed_at", "the item was completed before it was proposed"),
        Rule("declined_at", "declined_at >= proposed_at", "the item was declined before it was proposed"),
        Rule("declined_at", "declined_at IS NULL OR completed_at IS NULL", "the item is both completed and declined"),
    ),
    milestones=(
        Milestone("accepted_at", ("accepted_at",)),
        Milestone("scheduled_at", ("scheduled_at", "appointment_id")),
        Milestone("completed_at", ("completed_at",)),
        Milestone("declined_at", ("declined_at",)),
    ),
    unlocks="treatment completion and open treatment on the schedule",
)

COMMUNICATIONS = Table(
    name="communications",
    grain="message or call",
    key="communication_id",
    known_from="sent_at",
    columns=(
        Column("communication_id", "id", "The practice's own number of the message.", required=True),
        Column("patient_id", "id", "With whom.", required=True, refers_to="patients"),
        Column("appointment_id", "id", "The booking it is about, if any.", refers_to="appointments"),
        Column("campaign_id", "id", "The campaign it belongs to, if any."),
        Column("direction", "text", "Who spoke first.", required=True, values=("out", "in")),
        Column("channel", "text", "By which way.", required=True, values=CHANNELS),
        Column(
            "purpose",
            "text",
            "What for.",
            required=True,
            values=("reminder", "recall", "follow_up", "marketing", "other"),
        ),
        Column(
            "outcome", "text", "What came of it.", values=("confirmed", "declined", "no_answer", "opted_out", "other")
        ),
        Column("sent_at", "instant", "When it was sent or called.", required=True),
        Column("delivered_at", "instant", "When it was delivered."),
        Column("replied_at", "instant", "When the patient answered."),
    ),
    rules=(
        Rule("delivered_at", "delivered_at >= sent_at", "the delivery is older than the message"),
        Rule("replied_at", "replied_at >= sent_at", "the reply is older than the message"),
    ),
    milestones=(
        Milestone("delivered_at", ("delivered_at",)),
        Milestone("replied_at", ("replied_at", "outcome")),
    ),
    unlocks="reminders and answers as features, contact fatigue, uplift of recall",
)

RECALLS = Table(
    name="recalls",
    grain="recall: one patient's next due visit of one type",
    key="recall_id",
    known_from="known_from_at",
    key_of=("patient_id", "recall_type"),
    columns=(
        Column("recall_id", "id", "The practice's own number of the recall.", required=True),
        Column("patient_id", "id", "Who is due.", required=True, refers_to="patients"),
        Column("recall_type", "text", "Kind of recall: check-up, hygiene, periodontal, ...", required=True),
        Column("disabled_reason", "text", "Why it is switched off, if it is."),
        Column("interval_days", "integer", "Prescribed interval.", minimum=1, maximum=3660),
        Column("is_disabled", "boolean", "Whether it is switched off."),
        Column("due_on", "date", "When the next visit is due."),
        Column("disabled_until_on", "date", "Until when it is switched off."),
        Column("known_from_at", "instant", "When the practice recorded this."),
    ),
    unlocks="prescribed due dates; derived from visits if absent",
)

PAYMENTS = Table(
    name="payments",
    grain="charge or payment",
    key="payment_id",
    known_from="paid_at",
    columns=(
        Column("payment_id", "id", "The practice's own number of the entry.", required=True),
        Column("patient_id", "id", "For whom.", required=True, refers_to="patients"),
        Column("clinic_id", "id", "Where.", refers_to="clinics"),
        Column("appointment_id", "id", "The visit it belongs to, if any.", refers_to="appointments"),
        Column("plan_item_id", "id", "The plan item it belongs to, if any.", refers_to="plan_items"),
        Column("kind", "text", "What it is.", required=True, values=("charge", "payment", "refund", "adjustment")),
        Column("service_line", "text", "What was charged or paid for."),
        Column("method", "text", "How it was paid."),
        Column("list_cents", "integer", "Amount before discount, in the currency's minor unit."),
        Column("discount_cents", "integer", "Discount, in the currency's minor unit."),
        Column("amount_cents", "integer", "Amount, in the currency's minor unit.", required=True),
        Column("paid_at", "instant", "When it was charged or paid.", required=True),
    ),
    rules=(
        Rule(
            "amount_cents",
            "amount_cents = list_cents - discount_cents",
            "the amount is not the list price less discount",
        ),
        Rule(
            "amount_cents", "amount_cents >= 0 OR kind IN ('refund', 'adjustment')", "a charge or payment is negative"
        ),
    ),
    unlocks="value of a patient, revenue forecast",
)

CAMPAIGN_ARMS = Table(
    name="campaign_arms",
    grain="campaign and patient: which arm the patient was drawn into",
    key="arm_id",
    known_from="assigned_at",
    key_of=("campaign_id", "patient_id"),
    columns=(
        Column("arm_id", "id", "Campaign and patient.", required=True),
        Column("campaign_id", "id", "The campaign.", required=True),
        Column("patient_id", "id", "Who was drawn.", required=True, refers_to="patients"),
        Column("arm", "text", "The arm; `hold_out` is contacted by nobody.", required=True),
        Column("channel", "text", "By which way the arm is contacted, if it is.", values=CHANNELS),
        Column("propensity", "number", "Probability with which this arm was drawn.", minimum=0, maximum=1),
        Column("assigned_at", "instant", "When it was drawn.", required=True),
    ),
    rules=(Rule("propensity", "propensity > 0", "an arm that cannot be drawn was drawn"),),
    unlocks="the measured effect of recall; written by Revisit itself",
)

CLOSURES = Table(
    name="closures",
    grain="clinic-day closed",
    key="closure_id",
    known_from="known_from_at",
    known_default="CAST(closed_on AS TIMESTAMPTZ)",
    key_of=("clinic_id", "closed_on"),
    columns=(
        Column("closure_id", "id", "Clinic and day.", required=True),
        Column("clinic_id", "id", "Which clinic.", required=True, refers_to="clinics"),
        Column("reason", "text", "Why, if recorded."),
        Column("closed_on", "date", "Which day.", required=True),
        Column("known_from_at", "instant", "When it was announced."),
    ),
    unlocks="opening days in the forecast",
)

CAPACITY = Table(
    name="capacity",
    grain="clinic and weekday: chair hours from a day on",
    key="capacity_id",
    known_from="known_from_at",
    known_default=f"coalesce(CAST(valid_from_on AS TIMESTAMPTZ), {ALWAYS})",
    key_of=("clinic_id", "weekday", "valid_from_on"),
    columns=(
        Column("capacity_id", "id", "Clinic, weekday and first day.", required=True),
        Column("clinic_id", "id", "Which clinic.", required=True, refers_to="clinics"),
        Column("weekday", "integer", "Monday is 0.", required=True, minimum=0, maximum=6),
        Column("chairs", "integer", "Chairs in use.", minimum=0, maximum=500),
        Column("chair_hours", "number", "Hours in which a chair is staffed.", required=True, minimum=0, maximum=12_000),
        Column("valid_from_on", "date", "From which day on."),
        Column("known_from_at", "instant", "When it was decided."),
    ),
    unlocks="capacity beside the forecast",
)

CHART_NOTES = Table(
    name="chart_notes",
    grain="visit note and its review",
    key="chart_note_id",
    known_from="visited_at",
    columns=(
        Column("chart_note_id", "id", "The practice's own number of the note.", required=True),
        Column("patient_id", "id", "About whom.", required=True, refers_to="patients"),
        Column("appointment_id", "id", "The visit.", refers_to="appointments"),
        Column("clinician_id", "id", "Whose note.", refers_to="clinicians"),
        Column(
            "review_state",
            "text",
            "未写 已写 已忽略 待整改 已整改.",
            values=("unwritten", "written", "ignored", "to_correct", "corrected"),
        ),
        Column("visited_at", "instant", "When the visit was.", required=True),
        Column("reviewed_at", "instant", "When the state was set."),
    ),
    milestones=(Milestone("reviewed_at", ("review_state", "reviewed_at"), {"review_state": "unwritten"}),),
    unlocks="the scorecard's record quality",
)

SUPPLIES = Table(
    name="supplies",
    grain="stock item at a clinic",
    key="supply_id",
    known_from="counted_at",
    columns=(
        Column("supply_id", "id", "The practice's own number of the item.", required=True),
        Column("clinic_id", "id", "Where it is kept.", refers_to="clinics"),
        Column("supply_name", "text", "What it is."),
        Column("unit", "text", "Piece, box, millilitre, ..."),
        Column("unit_cost_cents", "integer", "Cost of one unit, in the currency's minor unit.", minimum=0),
        Column("stock_quantity", "number", "Units in stock when counted.", minimum=0),
        Column("reorder_quantity", "number", "Stock at which to order.", minimum=0),
        Column("counted_at", "instant", "When it was counted.", required=True),
    ),
    unlocks="stock, reorder points and alerts",
)

SUPPLY_USE = Table(
    name="supply_use",
    grain="service line and supply: how much one visit uses",
    key="supply_use_id",
    known_from="known_from_at",
    known_default=ALWAYS,
    key_of=("service_line", "supply_id"),
    columns=(
        Column("supply_use_id", "id", "Service line and supply.", required=True),
        Column("supply_id", "id", "Which item.", required=True, refers_to="supplies"),
        Column("service_line", "text", "For which kind of visit.", required=True),
        Column("quantity", "number", "Units per visit.", required=True, minimum=0),
        Column("known_from_at", "instant", "From when on."),
    ),
    unlocks="consumables forecast",
)

LEDGER = Table(
    name="ledger",
    grain="clinic, month and account",
    key="ledger_id",
    known_from="known_from_at",
    known_default="CAST(month_on + INTERVAL 1 MONTH AS TIMESTAMPTZ)",
    key_of=("clinic_id", "month_on", "account"),
    columns=(
        Column("ledger_id", "id", "Clinic, month and account.", required=True),
        Column("clinic_id", "id", "Which clinic.", required=True, refers_to="clinics"),
        Column("account", "text", "revenue, consumables, lab, rent, payroll, ...", required=True),
        Column("amount_cents", "integer", "Sum of the month, in the currency's minor unit.", required=True),
        Column("month_on", "date", "First day of the month.", required=True),
        Column("known_from_at", "instant", "When the month was closed."),
    ),
    rules=(Rule("month_on", "day(month_on) = 1", "the month is not given by its first day"),),
    unlocks="the scorecard's cost ratios",
)

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        CLINICS,
        CLINICIANS,
        PATIENTS,
        CONTACT_DETAILS,
        APPOINTMENTS,
        PLAN_ITEMS,
        COMMUNICATIONS,
        RECALLS,
        PAYMENTS,
        CAMPAIGN_ARMS,
        CLOSURES,
        CAPACITY,
        CHART_NOTES,
        SUPPLIES,
        SUPPLY_USE,
        LEDGER,
    )
}

# Names, phones and addresses of patients: for serving alone.
PERSONAL_TABLES = frozenset(
    table.name for table in TABLES.values() if any(column.is_personal for column in table.columns)
)
