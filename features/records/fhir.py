"""FHIR R4 in: a folder of NDJSON files, as a bulk export writes it.

Resources are read one by one with the standard library's JSON and flattened
in `features.records.fhir_resources`. A validating library (fhir.resources)
was left out on purpose: it refuses a whole resource for one odd field, while
an import must keep what it can and name what it cannot.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from features.errors import FileError
from features.records import fhir_resources as flat
from features.records.fhir_elements import Resource, Row, text, tokens
from features.records.fhir_joins import joined
from features.records.files import RawTable, Rejected

BATCH_ROWS = 20_000
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "patients": (
        "patient_id",
        "home_clinic_id",
        "organization_id",
        "sex",
        "birth_year",
        "departure",
        "departed_on",
        "known_from_at",
    ),
    "contact_details": ("patient_id", "full_name", "phone", "email", "known_from_at"),
    "visits": (
        "appointment_id",
        "patient_id",
        "place_id",
        "organization_id",
        "clinician_id",
        "service_line",
        "recall_type",
        "status",
        "duration_minutes",
        "is_start_time_known",
        "booked_at",
        "starts_at",
        "status_known_at",
        "kind",
        "of_appointment",
    ),
    "plan_items": (
        "plan_item_id",
        "plan_id",
        "patient_id",
        "clinician_id",
        "appointment_id",
        "service_line",
        "procedure_code",
        "proposed_at",
        "accepted_at",
        "scheduled_at",
        "completed_at",
        "declined_at",
        "is_time_missing",
    ),
    "communications": (
        "communication_id",
        "patient_id",
        "appointment_id",
        "direction",
        "channel",
        "purpose",
        "outcome",
        "sent_at",
        "delivered_at",
        "replied_at",
        "in_response_to",
    ),
    "clinicians": (
        "clinician_id",
        "clinic_id",
        "display_name",
        "role",
        "works_from_on",
        "left_on",
        "left_known_at",
    ),
    "roles": (
        "clinician_id",
        "place_id",
        "organization_id",
        "role",
        "works_from_on",
        "left_on",
        "left_known_at",
    ),
    "clinics": ("clinic_id", "clinic_name", "region", "organization_id"),
    "organizations": ("clinic_id", "clinic_name", "region", "organization_id"),
    "merges": ("old_id", "new_id", "merged_at"),
    "tokens": ("kind", "token", "id"),
}
_REFERENCES = {
    "patients": {"organization_id": "Organization"},
    "roles": {"clinician_id": "Practitioner", "place_id": "Location", "organization_id": "Organization"},
    "clinics": {"organization_id": "Organization"},
    "merges": {"old_id": "Patient", "new_id": "Patient"},
    "visits": {
        "patient_id": "Patient",
        "place_id": "Location",
        "organization_id": "Organization",
        "clinician_id": "Practitioner",
        "of_appointment": "Appointment",
    },
    "plan_items": {"patient_id": "Patient", "clinician_id": "Practitioner", "appointment_id": "Appointment"},
    "communications": {
        "patient_id": "Patient",
        "appointment_id": "Appointment",
        "in_response_to": "Communication",
    },
}
_FLATTEN: Mapping[str, Callable[[Resource, ZoneInfo], Iterator[tuple[str, Row]]]] = {
    "Patient": flat.patient,
    "Appointment": flat.appointment,
    "Encounter": flat.encounter,
    "CarePlan": flat.care_plan,
    "Communication": flat.communication,
    "Practitioner": flat.practitioner,
    "PractitionerRole": flat.practitioner_role,
    "Location": flat.place,
    "Organization": flat.place,
}
_NEVER_SENT = ("preparation", "not-done", "on-hold", "stopped")


@dataclass(frozen=True)
class FhirFolder:
    """What a folder held: text tables, where each record stood, what was left out."""

    raws: dict[str | None, RawTable]
    parts: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]


def load_fhir(con: duckdb.DuckDBPyConnection, source: Path, time_zone: str) -> FhirFolder:
    """Load every NDJSON file of a folder into DuckDB text tables.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        Where the tables ``fhir_<name>`` are made, one per key of `COLUMNS`.
    source : Path
        A folder, or one file; what a line holds tells its type, not the file's name.
    time_zone : str
        Zone of dates without a time.

    Returns
    -------
    FhirFolder

    Raises
    ------
    FileError
        If there is no such file, or none of them holds a resource that is read.
    """
    loader = _Loader(con, ZoneInfo(time_zone))
    parts, before = [], 0
    for path in _files(source):
        parts.append((path.name, before))
        before += loader.read(path, before)
    loader.flush()
    if not loader.used:
        raise FileError(
            f"{source.name} holds no FHIR resource that is read ({', '.join(_FLATTEN)}), one JSON object per line."
        )
    _resolve(con)
    loader.notes.update(joined(con))
    lines = dict.fromkeys(COLUMNS, 0) | {"patients": loader.used + len(loader.rejected)}
    raws: dict[str | None, RawTable] = {
        name: RawTable(f"fhir_{name}", columns, lines[name], tuple(loader.rejected) if name == "patients" else ())
        for name, columns in COLUMNS.items()
        if name != "merges"  # read by the landing itself, once all tables are staged
    }
    notes = (f"{count:,} {what}." for what, count in sorted(loader.notes.items()))
    return FhirFolder(raws, tuple(parts), tuple(notes))


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise FileError(f"{source} does not exist; expected a folder of NDJSON files.")
    files = sorted(source.glob("*.ndjson")) if source.is_dir() else [source]
    if not files:
        raise FileError(f"{source} holds no .ndjson file; expected a FHIR bulk export, such as Patient.ndjson.")
    return files


class _Loader:
    """Reads resources and writes their rows in batches, so that memory stays flat."""

    def __init__(self, con: duckdb.DuckDBPyConnection, zone: ZoneInfo) -> None:
        self.notes: Counter[str] = Counter()
        self.rejected: list[Rejected] = []
        self.used = 0
        self._con = con
        self._zone = zone
        self._rows: dict[str, list[tuple[int, Row]]] = {name: [] for name in COLUMNS}
        for name, columns in COLUMNS.items():
            declared = ", ".join(f"{column} VARCHAR" for column in columns)
            con.execute(f"CREATE OR REPLACE TEMP TABLE fhir_{name} (_row BIGINT, {declared})")

    def read(self, path: Path, before: int) -> int:
        """Read one file whose lines are numbered from `before`; return how many there are."""
        number = 0
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    self._line(line, before + number)
        return number

    def flush(self) -> None:
        for name in COLUMNS:
            self._flush(name)

    def _line(self, line: bytes, row: int) -> None:
        resource = _parsed(line)
        reason = None
        if resource is None:
            reason = "the line is no JSON object in UTF-8"
        elif not isinstance(resource.get("resourceType"), str):
            reason = "the object has no resourceType"
        elif resource["resourceType"] in _FLATTEN and not text(resource.get("id")):
            reason = "the resource has no id"
        if resource is None or reason:
            self.rejected.append(Rejected(row, reason or ""))
        elif self._is_read(resource):
            self._add(resource, row)

    def _is_read(self, resource: Resource) -> bool:
        kind, status = resource["resourceType"], resource.get("status")
        if kind not in _FLATTEN:
            self.notes[f"resources of type {str(text(kind))[:40]} are of no use here and were left out"] += 1
            return False
        if status == "entered-in-error":
            self.used += 1
            self.notes[f"resources of type {kind} were entered in error and left out"] += 1
            return False
        if kind == "Communication" and status in _NEVER_SENT and not flat.is_unanswered(resource):
            self.used += 1
            self.notes["messages were never sent and left out"] += 1
            return False
        return True

    def _add(self, resource: Resource, row: int) -> None:
        kind = resource["resourceType"]
        self.used += 1
        made = 0
        for name, values in _FLATTEN[kind](resource, self._zone):
            self._append(name, row, values)
            made += 1
            if values.get("is_time_missing"):
                self.notes["plan items are completed, but nothing tells when; they count as open"] += 1
        if not made:
            self.notes[f"resources of type {kind} hold no activity and store nothing"] += 1
        if kind not in ("CarePlan", "Encounter", "PractitionerRole"):
            for token in tokens(resource):
                self._append("tokens", row, {"kind": kind, "token": token, "id": text(resource.get("id"))})

    def _append(self, name: str, row: int, values: Row) -> None:
        self._rows[name].append((row, values))
        if len(self._rows[name]) >= BATCH_ROWS:
            self._flush(name)

    def _flush(self, name: str) -> None:
        rows = self._rows[name]
        if not rows:
            return
        columns = COLUMNS[name]
        arrays = [pa.array([values.get(column) for _, values in rows], pa.string()) for column in columns]
        numbers = pa.array([row for row, _ in rows], pa.int64())
        batch = pa.Table.from_arrays([numbers, *arrays], names=["_row", *columns])
        self._con.register("fhir_batch", batch)
        self._con.execute(f"INSERT INTO fhir_{name} SELECT * FROM fhir_batch")
        self._con.unregister("fhir_batch")
        rows.clear()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _resolve(con: duckdb.DuckDBPyConnection) -> None:
    """Turn ``?system|value`` and ``~id`` into ids; what names nobody in the export becomes nothing."""
    for name, columns in _REFERENCES.items():
        for column, kind in columns.items():
            con.execute(
                f"""UPDATE fhir_{name} SET {column} = found.id
                FROM (SELECT {column} AS given, min(t.id) AS id
                      FROM (SELECT DISTINCT {column}, unnest(
                                CASE WHEN {column}[1] = '?' THEN [{column}] ELSE string_split({column}, ' ') END
                            ) AS asked
                            FROM fhir_{name} WHERE {column}[1] IN ('?', '~'))
                      LEFT JOIN fhir_tokens t ON t.kind = ? AND t.token = asked
                      GROUP BY 1) AS found
                WHERE {column} = found.given""",
                [kind],
            )
