"""Examples of the recall question: randomised draws, what came of them, which channels were allowed."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from features.as_of import attach_states, known
from features.duck import connect
from features.recall_labels import attach_recall
from features.records.store import RecordStore
from features.records.tables import CHANNELS, TABLES
from features.settings import Settings

RECORDS = ("patients", "appointments", "campaign_arms")
CONSENTS = {c: f"is_{c}_allowed" for c in CHANNELS if f"is_{c}_allowed" in TABLES["patients"].column_names}


def recall_outcomes(settings: Settings, until: datetime, versions: dict[str, int]) -> pd.DataFrame:
    """Randomised draws whose eight weeks are over.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    until : datetime
        The moment of training; what was not known by then does not count.
    versions : dict of str to int
        Versions of the records to read.

    Returns
    -------
    pandas.DataFrame
        One row per draw, oldest first: the columns of ``recall_label``
        (`features.recall_labels.attach_recall`) and one per channel that the
        practice asks consent for, whether the patient allowed it at the draw.
        Empty if no campaign was randomised.
    """
    with connect() as con:
        RecordStore(settings.paths.records).attach(con, RECORDS, versions)
        for table in RECORDS:
            attach_states(con, table)
        attach_recall(con, until)
        allowed = ", ".join(f"coalesce(p.{column}, true) AS {channel}" for channel, column in CONSENTS.items())
        draws: pd.DataFrame = con.sql(
            f"""SELECT d.*, {allowed}
            FROM recall_label d LEFT JOIN patients_states p ON p.patient_id = d.patient_id AND {known("p", "d.as_of")}
            ORDER BY d.as_of, d.arm_id"""
        ).df()
    return draws
