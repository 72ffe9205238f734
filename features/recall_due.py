"""Who is due for a recall at a moment, and all that decides whether and how they may be reached."""

from __future__ import annotations

from datetime import datetime

import duckdb
import pandas as pd

from features.as_of import attach_states, known
from features.duck import connect
from features.errors import NotBuiltError
from features.families.attendance import ATTENDANCE
from features.families.contacts import CONTACTS
from features.families.due import DUE_DATES
from features.families.money import MONEY
from features.patients import attach_patients, family_rows, tables_read
from features.recall_labels import HOLD_OUT, RECALL_DAYS
from features.records.store import RecordStore
from features.settings import Settings

FAMILIES = (ATTENDANCE, DUE_DATES, MONEY, CONTACTS)
ARMS = "campaign_arms"
RECALLS = "c.direction = 'out' AND c.purpose IN ('recall', 'marketing') AND c.sent_at < $now"
CONSENTS = (
    "is_contact_allowed",
    "is_wechat_allowed",
    "is_sms_allowed",
    "is_phone_allowed",
    "is_email_allowed",
    "is_profiling_allowed",
)


def due_patients(settings: Settings, now: datetime) -> pd.DataFrame:
    """Read everybody who was seen before and is past the due date, as known at `now`.

    Nobody is left out because the date is long past, or because of what forbids
    a recall: that is the reader's to judge, and to count.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    now : datetime
        Aware; nothing recorded at or after it is seen.

    Returns
    -------
    pandas.DataFrame
        One row per patient: patient_id, household_id (or the patient's own
        number), clinic_id, departure, `CONSENTS` (null where not recorded),
        days_since_due, recall_interval_days, recalls_missed,
        has_disabled_recall, days_since_last_visit, visits_kept,
        visits_gap_days (median), has_booking_ahead, paid_365d_cents,
        paid_mean_cents, answered_share (of messages that asked for an answer),
        messages_sent, last_recall_at, recalls_365d (recall and marketing
        contacts), opted_out_at, held_out_at (hold-out drawn and still measured).

    Raises
    ------
    NotBuiltError
        If nothing has been imported.
    """
    records = RecordStore(settings.paths.records)
    if "appointments" not in records.versions():
        raise NotBuiltError("there are no records yet; run `revisit import FILE --mapping MAPPING` first.")
    with connect() as con:
        records.attach(con, (*tables_read(FAMILIES), ARMS))
        attach_patients(con, settings, FAMILIES, [now])
        attach_states(con, ARMS)
        for family in FAMILIES:
            con.execute(f"CREATE TEMP TABLE of_{family.name} AS {family_rows(con, family).sql_query()}")
        _attach_contacts(con, now)
        found: pd.DataFrame = con.execute(_due_sql(), {"now": now}).df()
    return found


def _attach_contacts(con: duckdb.DuckDBPyConnection, now: datetime) -> None:
    """Make ``recall_contacts``, ``opt_outs`` and ``held_out``: one row per patient who has any."""
    con.execute(
        f"""CREATE TEMP TABLE recall_contacts AS
        SELECT patient_id, max(sent_at) AS last_recall_at,
               count_if(sent_at > $now - INTERVAL 365 DAY) AS recalls_365d
        FROM communications_states c WHERE {known("c", "$now")} AND {RECALLS} GROUP BY patient_id""",
        {"now": now},
    )
    con.execute(
        f"""CREATE TEMP TABLE opt_outs AS
        SELECT patient_id, max(coalesce(replied_at, sent_at)) AS opted_out_at
        FROM communications_states c WHERE {known("c", "$now")} AND outcome = 'opted_out' GROUP BY patient_id""",
        {"now": now},
    )
    con.execute(
        f"""CREATE TEMP TABLE held_out AS
        SELECT patient_id, max(assigned_at) AS held_out_at
        FROM campaign_arms_states a WHERE {known("a", "$now")} AND arm = '{HOLD_OUT}'
          AND assigned_at > $now - INTERVAL {RECALL_DAYS} DAY GROUP BY patient_id""",
        {"now": now},
    )


def _due_sql() -> str:
    return f"""SELECT p.patient_id, coalesce(p.household_id, p.patient_id) AS household_id,
           p.home_clinic_id AS clinic_id, p.departure, {", ".join(f"p.{name}" for name in CONSENTS)},
           CAST(d.days_since_due AS DOUBLE) AS days_since_due,
           d.recall_interval_mean_ever_days AS recall_interval_days,
           d.recalls_missed_row_count_ever AS recalls_missed, d.has_disabled_recall = 1 AS has_disabled_recall,
           a.days_since_last_visit, a.visits_kept_count_ever AS visits_kept,
           a.visits_gap_median_ever_days AS visits_gap_days, a.has_booking_ahead = 1 AS has_booking_ahead,
           m.spend_paid_sum_365d_cents AS paid_365d_cents, m.spend_paid_mean_ever_cents AS paid_mean_cents,
           c.messages_answered_share_ever AS answered_share, c.messages_sent_count_365d AS messages_sent,
           r.last_recall_at, coalesce(r.recalls_365d, 0) AS recalls_365d, o.opted_out_at, h.held_out_at
    FROM of_attendance a
    JOIN of_due d USING (patient_id) JOIN of_money m USING (patient_id) JOIN of_contacts c USING (patient_id)
    JOIN patients_states p ON p.patient_id = a.patient_id AND {known("p", "$now")}
    LEFT JOIN recall_contacts r ON r.patient_id = a.patient_id
    LEFT JOIN opt_outs o ON o.patient_id = a.patient_id
    LEFT JOIN held_out h ON h.patient_id = a.patient_id
    WHERE a.visits_kept_count_ever > 0 AND d.days_since_due >= 0
    ORDER BY a.patient_id"""
