"""What several FHIR resources tell together: visits and their bookings, replies, roles, places, merged numbers."""

from __future__ import annotations

import duckdb

from features.records.merging import end_of


def joined(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Put together, in the tables ``fhir_<name>``, what belongs together.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With the tables that `features.records.fhir.load_fhir` has read, references resolved.

    Returns
    -------
    dict of str to int
        What was done how often, for the report.
    """
    counts = _join_visits(con)
    _bound_schedules(con)
    counts |= _fold_replies(con)
    _first_states(con)
    _add_organizations(con)
    _add_roles(con)
    _home_clinics(con)
    counts |= _drop_contradictions(con)
    return {what: count for what, count in counts.items() if count}


def _join_visits(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Let an Encounter that belongs to an Appointment of the same patient tell that one's arrival and end."""
    con.execute(
        """CREATE OR REPLACE TEMP TABLE fhir_joined AS
        SELECT e.appointment_id AS encounter_id, a.appointment_id, e.status, e.status_known_at
        FROM fhir_visits e JOIN fhir_visits a
          ON e.kind = 'Encounter' AND a.kind = 'Appointment' AND e.of_appointment = a.appointment_id
         AND e.patient_id = a.patient_id"""
    )
    con.execute(
        """UPDATE fhir_visits SET status = 'completed', status_known_at = greatest(j.status_known_at, booked_at)
        FROM (SELECT appointment_id, min(status_known_at) AS status_known_at FROM fhir_joined
              WHERE status = 'completed' GROUP BY 1) AS j
        WHERE fhir_visits.appointment_id = j.appointment_id AND fhir_visits.status IN ('booked', 'arrived')"""
    )
    con.execute(
        """INSERT INTO fhir_visits
        SELECT a.* REPLACE ('arrived' AS status, j.arrived_at AS status_known_at)
        FROM fhir_visits a JOIN (SELECT appointment_id, min(status_known_at) AS arrived_at FROM fhir_joined
                                 WHERE status = 'arrived' GROUP BY 1) AS j USING (appointment_id)
        WHERE j.arrived_at >= a.booked_at
          AND (a.status = 'booked' OR (a.status = 'completed' AND j.arrived_at < a.status_known_at))"""
    )
    con.execute("DELETE FROM fhir_visits WHERE appointment_id IN (SELECT encounter_id FROM fhir_joined)")
    return {
        "Encounters belong to an Appointment and complete it": _count(con, "DISTINCT encounter_id", "fhir_joined"),
        "visits name no place; they count for the clinic 'main'": _count(
            con, "DISTINCT appointment_id", "fhir_visits WHERE place_id IS NULL AND organization_id IS NULL"
        ),
    }


def _bound_schedules(con: duckdb.DuckDBPyConnection) -> None:
    """Let an item have been put into a booking by the start of that booking at the latest."""
    con.execute(
        """UPDATE fhir_plan_items SET scheduled_at = greatest(v.starts_at, proposed_at)
        FROM (SELECT appointment_id, min(starts_at) AS starts_at FROM fhir_visits GROUP BY 1) AS v
        WHERE v.appointment_id = fhir_plan_items.appointment_id AND v.starts_at < fhir_plan_items.scheduled_at"""
    )


def _fold_replies(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Put the first answer to a message to that message; it is no message of its own then."""
    con.execute(
        """CREATE OR REPLACE TEMP TABLE fhir_replies AS
        SELECT m.communication_id, r.communication_id AS reply_id, r.sent_at AS replied_at,
               coalesce(r.outcome, m.outcome) AS outcome
        FROM fhir_communications m JOIN fhir_communications r
          ON r.in_response_to = m.communication_id AND r.patient_id = m.patient_id AND r.direction <> m.direction
         AND r.sent_at >= m.sent_at
        QUALIFY row_number() OVER (PARTITION BY m.communication_id ORDER BY r.sent_at, r.communication_id) = 1"""
    )
    con.execute(
        """UPDATE fhir_communications SET replied_at = r.replied_at, outcome = r.outcome FROM fhir_replies r
        WHERE r.communication_id = fhir_communications.communication_id"""
    )
    con.execute("DELETE FROM fhir_communications WHERE communication_id IN (SELECT reply_id FROM fhir_replies)")
    return {"messages answer another one and are kept with it": _count(con, "*", "fhir_replies")}


def _first_states(con: duckdb.DuckDBPyConnection) -> None:
    """Let sex and birth year be known from the first booking on; the rest from the resource's own time."""
    con.execute(
        """INSERT INTO fhir_patients BY NAME
        SELECT p._row, p.patient_id, p.sex, p.birth_year, v.first_at AS known_from_at
        FROM fhir_patients p JOIN (
            SELECT patient_id, min(booked_at) AS first_at FROM fhir_visits WHERE booked_at IS NOT NULL GROUP BY 1
        ) v USING (patient_id)
        WHERE p.known_from_at IS NULL OR v.first_at < p.known_from_at"""
    )


def _add_organizations(con: duckdb.DuckDBPyConnection) -> None:
    """Keep an Organization as a clinic where a visit names it and no Location."""
    con.execute(
        """INSERT INTO fhir_clinics SELECT * FROM fhir_organizations
        WHERE clinic_id IN (SELECT organization_id FROM fhir_visits WHERE place_id IS NULL)
          AND clinic_id NOT IN (SELECT clinic_id FROM fhir_clinics)"""
    )


def _add_roles(con: duckdb.DuckDBPyConnection) -> None:
    """Take role and place from the newest PractitionerRole; somebody left once all of theirs have ended."""
    con.execute(
        """CREATE OR REPLACE TEMP TABLE fhir_staff AS
        SELECT r.clinician_id, min(r._row) AS _row,
               arg_max(coalesce(r.place_id, c.clinic_id), newest) AS clinic_id, arg_max(r.role, newest) AS role,
               min(r.works_from_on) AS works_from_on,
               CASE WHEN bool_and(r.left_on IS NOT NULL) THEN max(r.left_on) END AS left_on,
               CASE WHEN bool_and(r.left_on IS NOT NULL) THEN arg_max(r.left_known_at, r.left_on) END AS left_known_at
        FROM (SELECT *, concat(coalesce(left_on, '9999'), works_from_on, lpad(_row::VARCHAR, 12, '0')) AS newest
              FROM fhir_roles WHERE clinician_id IS NOT NULL) r
        LEFT JOIN fhir_clinics c ON c.clinic_id = r.organization_id
        GROUP BY 1"""
    )
    con.execute(
        """UPDATE fhir_clinicians SET clinic_id = s.clinic_id, role = s.role, works_from_on = s.works_from_on,
               left_on = s.left_on, left_known_at = s.left_known_at
        FROM fhir_staff s WHERE s.clinician_id = fhir_clinicians.clinician_id"""
    )
    con.execute(
        """INSERT INTO fhir_clinicians BY NAME
        SELECT * FROM fhir_staff ANTI JOIN fhir_clinicians USING (clinician_id)"""
    )


def _home_clinics(con: duckdb.DuckDBPyConnection) -> None:
    """Let a patient belong to the one clinic that the Organization in charge of them is or runs."""
    con.execute(
        """UPDATE fhir_patients SET home_clinic_id = o.clinic_id
        FROM (SELECT coalesce(organization_id, clinic_id) AS organization_id, min(clinic_id) AS clinic_id
              FROM fhir_clinics GROUP BY 1 HAVING count(DISTINCT clinic_id) = 1) AS o
        WHERE o.organization_id = fhir_patients.organization_id"""
    )


def _drop_contradictions(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Leave out links that merge a number into two others, or round a circle; what is linked twice counts once."""
    into: dict[str, str] = {}
    kept, dropped = [], 0
    rows = con.execute("SELECT _row, old_id, new_id, merged_at FROM fhir_merges ORDER BY _row").fetchall()
    for row in rows:
        _, old, new, _ = row
        if old is None or new is None or into.get(old) == new:
            continue
        if old in into or end_of(into, new) == old:
            dropped += 1
            continue
        into[old] = new
        kept.append(row)
    con.execute("DELETE FROM fhir_merges")
    if kept:
        con.executemany("INSERT INTO fhir_merges VALUES (?, ?, ?, ?)", kept)
    return {"links between patients contradict others and were left out": dropped}


def _count(con: duckdb.DuckDBPyConnection, what: str, where: str) -> int:
    (count,) = con.execute(f"SELECT count({what}) FROM {where}").fetchall()[0]
    return int(count)
