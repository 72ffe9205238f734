"""What came of randomised contacts: the examples of the recall question."""

from __future__ import annotations

from datetime import datetime

import duckdb

from features.as_of import known
from features.schedule import ATTENDED

RECALL_DAYS = 56  # a recall's effect is judged after eight weeks
HOLD_OUT = "hold_out"  # the arm that nobody contacts


def attach_recall(con: duckdb.DuckDBPyConnection, until: datetime) -> None:
    """Make table ``recall_label`` in `con`: one row per randomised draw whose eight weeks are over.

    Everybody drawn counts as drawn, whether or not the message arrived, and
    whoever moved, died or opted out since counts as not come: to leave them
    out would compare different people, because a contact can be what made a
    patient opt out (intention to treat).

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With ``campaign_arms_states``, ``appointments_states`` and
        ``patients_states`` (`features.as_of.attach_states`).
    until : datetime
        Only what was known before it counts. Columns: arm_id, campaign_id,
        patient_id, household_id (the patient's own number where none is
        recorded), as_of (the moment of the draw), arm, channel, propensity (of
        the arm drawn; null where it was not logged), label (1: an attended
        visit within 56 days of the draw), label_known_at.
    """
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE recall_label AS
        WITH draws AS (
            SELECT arm_id, campaign_id, patient_id, arm, channel, propensity, assigned_at AS as_of,
                   assigned_at + INTERVAL {RECALL_DAYS} DAY AS ends_at
            FROM campaign_arms_states AS a WHERE {known("a", "$until")} AND ends_at < $until),
        visits AS (
            SELECT patient_id, starts_at, known_at FROM appointments_states AS s
            WHERE {known("s", "$until")} AND status IN {ATTENDED}),
        households AS (
            SELECT patient_id, household_id FROM patients_states AS p WHERE {known("p", "$until")}),
        outcomes AS (
            SELECT arm_id, min(visits.known_at) AS came_known_at
            FROM draws JOIN visits USING (patient_id)
            WHERE visits.starts_at > as_of AND visits.starts_at <= ends_at
            GROUP BY arm_id)
        SELECT arm_id, campaign_id, patient_id, coalesce(household_id, patient_id) AS household_id,
               as_of, arm, channel, propensity,
               (came_known_at IS NOT NULL)::INTEGER AS label,
               greatest(ends_at, came_known_at) AS label_known_at
        FROM draws LEFT JOIN outcomes USING (arm_id) LEFT JOIN households USING (patient_id)
        ORDER BY as_of, arm_id""",
        {"until": until},
    )
