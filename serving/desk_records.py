"""What the desk's pages show of the records: bookings, patients with their names, visits, plans and contacts.

Read over everybody's records by night, over those of a few after an event; by
the same statements.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import duckdb

from features.as_of import attach_states, known
from features.duck import connect
from features.online_mirror import Mirror
from features.records.store import RecordStore
from features.records.tables import CHANNELS
from features.settings import Settings
from serving.schedule import Booking

DAYS_SHOWN_BACK = 7
OF_PATIENTS = ("appointments", "plan_items", "communications")
OF_THE_PRACTICE = ("patients", "contact_details", "clinics", "clinicians")
MOST_SHOWN = {"visits": 60, "items": 60, "contacts": 40}  # newest of each on a patient's page


@contextmanager
def desk_records(settings: Settings, patients: Collection[str] | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the records that the desk shows, as ``<table>_states``.

    Parameters
    ----------
    settings : Settings
        Of the practice.
    patients : collection of str, optional
        Only what is about these, read patient by patient; everybody by default.
    """
    with connect() as con:
        store = RecordStore(settings.paths.records)
        ids = None if patients is None else sorted(patients)
        store.attach(con, (*OF_THE_PRACTICE, *(OF_PATIENTS if ids is None else ())))
        if ids is not None:
            con.execute("SET threads = 1")
            mirror = Mirror(con, settings)
            for table in OF_PATIENTS:
                mirror.load(table, ids)
        con.execute("CREATE TEMP TABLE wanted AS SELECT unnest($ids::VARCHAR[]) AS patient_id", {"ids": ids or []})
        for table in (*OF_THE_PRACTICE, *OF_PATIENTS):
            is_ours = ids is not None and table in ("patients", "contact_details")
            attach_states(con, table, "patient_id IN (SELECT patient_id FROM wanted)" if is_ours else "true")
        if ids is None:
            con.execute("INSERT INTO wanted SELECT DISTINCT patient_id FROM patients_states")
        yield con


def clinic_names(con: duckdb.DuckDBPyConnection, now: datetime) -> dict[str, str]:
    """Name by clinic, of those whose name is recorded."""
    found = con.execute(
        f"SELECT clinic_id, clinic_name FROM clinics_states x WHERE {known('x', '$now')} AND clinic_name IS NOT NULL",
        {"now": now},
    )
    return dict(found.fetchall())


def bookings(con: duckdb.DuckDBPyConnection, now: datetime) -> list[Booking]:
    """The newest state of every booking of the last days and of all days ahead, with the patient's name."""
    of_others = ("patient_name", "birth_year", "clinician_name")
    columns = [name for name in Booking.__dataclass_fields__ if name not in of_others]
    found = con.execute(
        f"""SELECT {", ".join(f"b.{name}" for name in columns)}, c.full_name AS patient_name, p.birth_year,
                   s.display_name AS clinician_name
        FROM appointments_states b
        LEFT JOIN patients_states p ON p.patient_id = b.patient_id AND {known("p", "$now")}
        LEFT JOIN contact_details_states c ON c.patient_id = b.patient_id AND {known("c", "$now")}
        LEFT JOIN clinicians_states s ON s.clinician_id = b.clinician_id AND {known("s", "$now")}
        WHERE {known("b", "$now")} AND b.starts_at >= $since AND b.status <> 'rescheduled'
          AND b.patient_id IN (SELECT patient_id FROM wanted)""",
        {"now": now, "since": now - timedelta(days=DAYS_SHOWN_BACK)},
    )
    return [Booking(**row | {"is_start_time_known": row["is_start_time_known"] is not False}) for row in _rows(found)]


def people(con: duckdb.DuckDBPyConnection, now: datetime) -> list[dict[str, Any]]:
    """One row per patient: number, clinic, name, year of birth, household, departure, what was refused.

    The clinic is the home clinic, else that of the last booking.
    """
    allowed = ", ".join(f"p.is_{channel}_allowed" for channel in _consents())
    found = con.execute(
        f"""SELECT p.patient_id, coalesce(p.home_clinic_id, b.clinic_id) AS clinic_id, c.full_name AS patient_name,
                   p.birth_year, p.household_id, p.departure, p.is_profiling_allowed,
                   p.is_contact_allowed, {allowed}
        FROM patients_states p
        LEFT JOIN contact_details_states c ON c.patient_id = p.patient_id AND {known("c", "$now")}
        LEFT JOIN (SELECT patient_id, arg_max(clinic_id, booked_at) AS clinic_id FROM appointments_states
                   GROUP BY patient_id) b ON b.patient_id = p.patient_id
        WHERE {known("p", "$now")} AND p.patient_id IN (SELECT patient_id FROM wanted)
        ORDER BY p.patient_id""",
        {"now": now},
    )
    return [_with_refusals(row) for row in _rows(found)]


def cards(
    con: duckdb.DuckDBPyConnection, people: Iterable[Mapping[str, Any]], now: datetime
) -> dict[str, dict[str, Any]]:
    """By patient: ``visits``, ``items`` and ``contacts``, newest first, moments in seconds since 1970; ``consents``."""
    made: dict[str, dict[str, Any]] = {row["patient_id"]: {"consents": row["consents"]} for row in people}
    for part, sql in _parts().items():
        found = con.execute(
            f"""SELECT patient_id, to_json(list(one ORDER BY sorted DESC, id)[1:{MOST_SHOWN[part]}]) AS listed
            FROM ({sql}) WHERE patient_id IN (SELECT patient_id FROM wanted) GROUP BY patient_id""",
            {"now": now},
        )
        for patient_id, listed in found.fetchall():
            made.setdefault(patient_id, {})[part] = json.loads(listed)
    return made


def _parts() -> Mapping[str, str]:
    def clinician(state: str) -> str:
        return f"""LEFT JOIN clinicians_states s ON s.clinician_id = {state}.clinician_id AND {known("s", "$now")}"""

    def seconds(*columns: str) -> str:
        return ", ".join(f"{name.removesuffix('_at')}: epoch(x.{name})::BIGINT" for name in columns)

    return {
        "visits": f"""SELECT x.patient_id, x.starts_at AS sorted, x.appointment_id AS id,
            {{id: x.appointment_id, "at": epoch(x.starts_at)::BIGINT, status: x.status, service: x.service_line,
              clinician: coalesce(s.display_name, x.clinician_id), clinician_id: x.clinician_id, clinic: x.clinic_id,
              minutes: x.duration_minutes, has_time: coalesce(x.is_start_time_known, true)}} AS one
            FROM appointments_states x {clinician("x")} WHERE {known("x", "$now")}""",
        "items": f"""SELECT x.patient_id, x.proposed_at AS sorted, x.plan_item_id AS id,
            {{id: x.plan_item_id, plan: x.plan_id, service: x.service_line, cents: x.fee_cents, urgency: x.urgency,
              clinician: coalesce(s.display_name, x.clinician_id),
              {seconds("proposed_at", "accepted_at", "scheduled_at", "completed_at", "declined_at")}}} AS one
            FROM plan_items_states x {clinician("x")} WHERE {known("x", "$now")}""",
        "contacts": f"""SELECT x.patient_id, x.sent_at AS sorted, x.communication_id AS id,
            {{id: x.communication_id, direction: x.direction, channel: x.channel, purpose: x.purpose,
              outcome: x.outcome, {seconds("sent_at", "replied_at")}}} AS one
            FROM communications_states x WHERE {known("x", "$now")}""",
    }


def _consents() -> tuple[str, ...]:
    return tuple(channel for channel in CHANNELS if channel != "letter")  # of letters nothing is recorded


def _with_refusals(row: dict[str, Any]) -> dict[str, Any]:
    said = {channel: row.pop(f"is_{channel}_allowed") for channel in _consents()} | {
        "all": row.pop("is_contact_allowed")
    }
    refused = tuple(channel for channel, is_allowed in said.items() if is_allowed is False)
    is_scored = row["is_profiling_allowed"] is not False
    return row | {"refused_channels": refused, "is_scoring_allowed": is_scored, "consents": said}


def _rows(found: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
