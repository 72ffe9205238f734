"""Features of those whom something new concerns, by the statements of the snapshots, over their records alone."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta

import duckdb
import numpy as np

from features import schedule
from features.families import FAMILIES
from features.online_mirror import MIRRORED, Mirror
from features.online_packing import pack, slot_of
from features.online_rows import OnlineRows, open_rows
from features.patients import attach_patients, tables_read
from features.records.merging import spans, stored_merges
from features.records.store import RecordStore
from features.settings import Settings

# Figures of whole clinics are those of the day's beginning: what the night put online stays right all day.
AT_THE_DESK = {name: family for name, family in FAMILIES.items() if family.context is None}

MOMENT = timedelta(microseconds=1)  # what is known from now on is seen from the next moment on
BREATH = timedelta(seconds=schedule.SECONDS_AFTER_BOOKING)
SITTING = timedelta(minutes=schedule.SESSION_MINUTES)


def refresh_online(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    mirror: Mirror,
    patients: Iterable[str],
    since: datetime,
    now: datetime,
) -> tuple[int, int]:
    """Compute the features of patients, their households and their bookings, and put them online.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        That of `mirror`.
    settings : Settings
        Of the practice.
    mirror : Mirror
        With all that is recorded.
    patients : iterable of str
        About whom something was recorded.
    since : datetime
        The moment from which it was known: bookings decided upon before keep their features.
    now : datetime
        Aware.

    Returns
    -------
    tuple of (int, int)
        How many patients and how many bookings were put online.
    """
    with closing(open_rows(settings.online, settings.paths.feast / "online.db")) as rows:
        people = _People(con, RecordStore(settings.paths.records))
        affected = people.household(people.merged(patients))
        loaded = people.merged(people.sent(people.household(affected)))
        people.keep(loaded)
        for table in MIRRORED:
            mirror.load(table, loaded)
        con.execute("CREATE TEMP TABLE affected AS SELECT unnest($ids::VARCHAR[]) AS id", {"ids": sorted(affected)})
        condition = "patient_id IN (SELECT id FROM affected)"
        attach_patients(con, settings, AT_THE_DESK.values(), [now + MOMENT], condition)
        for name, family in AT_THE_DESK.items():
            _push(con, rows, name, [f.name for f in family.features], family.sql, "patient_id")
        (count,) = con.execute("SELECT count(*) FROM spine").fetchall()[0]
        return count, _refresh_bookings(con, settings, mirror, people, loaded, rows, since, now)


def _refresh_bookings(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    mirror: Mirror,
    people: _People,
    loaded: set[str],
    rows: OnlineRows,
    since: datetime,
    now: datetime,
) -> int:
    """Bookings that are decided upon after `since`: those of the patients, and those made in the same sitting."""
    others = mirror.booked_between([(since - BREATH, since + SITTING)]) if now - since < SITTING else []
    if set(others) - loaded:
        mirror.load("appointments", {*loaded, *others})
    schedule.build_spine(con, settings)
    con.execute(
        "DELETE FROM spine WHERE NOT (as_of > $since AND as_of <= $until)", {"since": since, "until": now + BREATH}
    )
    decided = con.execute(
        """SELECT DISTINCT a.booked_at, s.as_of FROM spine s JOIN appointments a USING (appointment_id)"""
    ).fetchall()
    if not decided:
        return 0
    companions = mirror.booked_between([(booked_at - SITTING, booked_at + BREATH) for booked_at, _ in decided])
    everyone = {*loaded, *others, *companions}
    if everyone - loaded:
        mirror.load("appointments", everyone)
        mirror.load("communications", {*loaded, *others})
        people.keep(everyone)
    schedule.build_schedule(con, settings, _summed_outcomes(mirror, [as_of for _, as_of in decided]))
    newest = "SELECT * FROM schedule QUALIFY row_number() OVER (PARTITION BY appointment_id ORDER BY as_of DESC) = 1"
    return _push(con, rows, "schedule", [f.name for f in schedule.FEATURES], newest, "appointment_id")


def _summed_outcomes(mirror: Mirror, moments: Iterable[datetime]) -> str:
    """SQL of the practice's outcomes, summed between the moments at which the features look at their totals."""
    days = (0, schedule.CLINIC_DAYS, schedule.SERVICE_DAYS)
    edges = sorted({moment - timedelta(days=back) for moment in moments for back in days})
    span = " + ".join(f"(known_at >= TIMESTAMPTZ '{edge.isoformat()}')::INTEGER" for edge in edges)
    return f"""
        SELECT clinic_id, service_line, is_ahead, max(known_at) AS known_at,
               sum(ended)::BIGINT AS ended, sum(missed)::BIGINT AS missed
        FROM ({mirror.outcomes()}) GROUP BY clinic_id, service_line, is_ahead, {span}"""


class _People:
    """Who belongs together; makes ``patients``, and every table that is not about patients."""

    def __init__(self, con: duckdb.DuckDBPyConnection, store: RecordStore) -> None:
        self._con = con
        store.attach(con, [name for name in tables_read(FAMILIES.values()) if name not in MIRRORED])
        con.execute("CREATE TEMP TABLE everybody AS SELECT * FROM patients")
        con.execute("DROP VIEW patients")
        self._survivors = [(span.patient_id, span.survivor_id) for span in spans(stored_merges(con))]

    def household(self, patients: Iterable[str]) -> set[str]:
        """Those, and everybody who ever shared a household with one of them."""
        found = self._con.execute(
            """SELECT DISTINCT patient_id FROM everybody WHERE household_id IN (
                SELECT household_id FROM everybody WHERE patient_id IN (SELECT unnest($ids::VARCHAR[])))""",
            {"ids": sorted(patients)},
        )
        return {*patients, *(patient for (patient,) in found.fetchall())}

    def sent(self, patients: Iterable[str]) -> set[str]:
        """Those, and everybody who was recommended by one of them."""
        found = self._con.execute(
            "SELECT DISTINCT patient_id FROM everybody WHERE referred_by_id IN (SELECT unnest($ids::VARCHAR[]))",
            {"ids": sorted(patients)},
        )
        return {*patients, *(patient for (patient,) in found.fetchall())}

    def merged(self, patients: Iterable[str]) -> set[str]:
        """Those, and all numbers that ever were one with them."""
        same = set(patients)
        return same | {one for pair in self._survivors if same & set(pair) for one in pair}

    def keep(self, patients: Iterable[str]) -> None:
        """Make ``patients`` of those alone."""
        self._con.execute(
            """CREATE OR REPLACE TEMP TABLE patients AS
            SELECT * FROM everybody WHERE patient_id IN (SELECT unnest($ids::VARCHAR[]))""",
            {"ids": sorted(patients)},
        )


def _push(
    con: duckdb.DuckDBPyConnection, rows: OnlineRows, view: str, names: Iterable[str], found: str, key: str
) -> int:
    """Put online what the SQL `found` gives; planned once, since for few rows planning is most of the work."""
    ordered = sorted(names)
    sql = f"SELECT {key}, epoch_us(as_of), {', '.join(ordered)} FROM ({found})"
    made = con.execute(sql).fetchall()
    values = np.array([row[2:] for row in made], dtype=np.float64).reshape(len(made), len(ordered))
    moments = np.array([row[1] for row in made], dtype=np.int64)
    rows.write(slot_of(view, ordered), pack([row[0] for row in made], moments, values))
    return len(made)
