"""What happened in the end: the labels, each with the moment it became known."""

from __future__ import annotations

from datetime import datetime

import duckdb

from features.as_of import known
from features.schedule import ATTENDED, MISSED


def attach_no_show(con: duckdb.DuckDBPyConnection, until: datetime) -> None:
    """Make table ``no_show_label`` in `con`: one row per booking whose visit was kept or missed.

    A visit is missed if the patient did not come or cancelled less than 24
    hours before it. Earlier cancellations and moved bookings are neither, and
    carry no label.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With ``appointments_states`` (`features.as_of.attach_states`).
    until : datetime
        Only outcomes known before it count: a training run at `until` cannot
        have seen more. Columns: appointment_id, label (0 or 1), label_known_at.
    """
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE no_show_label AS
        SELECT appointment_id, (status IN {MISSED})::INTEGER AS label, known_at AS label_known_at
        FROM appointments_states
        WHERE {known("appointments_states", "$until")}
          AND (status IN {MISSED} OR status IN {ATTENDED})""",
        {"until": until},
    )
