"""Five years of records of many patients at once, for benchmarks that need millions of bookings.

The simulated practice plays every visit out and knows its truth; this draws only what a feature
reads, in SQL: who came when in which rhythm, what was booked, moved, missed, planned, paid and
said, and from when on each of that was known. 200,000 patients make some 5 million bookings,
10 million messages and 1 million plan items.

    from benchmarks.bulk_history import NOW, write_history
    settings = write_history(Path("folder"), patients=200_000, seed=7)  # records lie in settings.paths.records

Run as a command it writes such a history and prints what that took.
"""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks.harness import arguments, emit
from features.duck import connect
from features.records.store import BATCH_ROWS, Made, RecordStore, Rows, columns_of
from features.records.tables import TABLES
from features.settings import Paths, Settings

PATIENTS, QUICK_PATIENTS = 200_000, 2_000
NOW = datetime(2026, 11, 17, 2, tzinfo=UTC)  # ten in the morning in Shanghai; nothing later is known
DAYS = 1826  # five years
CLINICS, CLINICIANS = 10, 6  # clinicians of one clinic
BLOCK = 10_000  # patients whose states are unfolded at once
MEMORY = "700MB"
TARGETS: dict[str, tuple[str, float]] = {"cpu_s": ("<=", 240.0), "peak_gb": ("<=", 2.0)}

# A uniform number per thing and purpose, between 0 and 1; a standard normal one; a moment by its day;
# a moment unless it lies ahead.
MACROS = """
    CREATE MACRO u(a, b, salt) AS ((hash(a, b, salt, getvariable('seed')) >> 12) + 0.5) / 4503599627370496.0;
    CREATE MACRO z(a, b, salt) AS sqrt(-2 * ln(u(a, b, salt))) * cos(6.283185307179586 * u(a, b, salt || '~'));
    CREATE MACRO on_day(day) AS getvariable('begun') + to_minutes(floor(day * 1440)::BIGINT);
    CREATE MACRO past(moment) AS CASE WHEN moment <= getvariable('now') THEN moment END
"""
# A third were there from the start; one in eight never came twice; the others stay about six years.
PEOPLE = f"""
    SELECT n, CASE WHEN u(n, 0, 'old') < 0.35 THEN 60 * u(n, 0, 'in') ELSE {DAYS - 60} * u(n, 0, 'in') END AS joined,
           CASE WHEN u(n, 0, 'once') < 0.12 THEN 20.0 ELSE -2200 * ln(u(n, 0, 'stay')) END AS stays,
           160 * exp(0.5 * z(n, 0, 'cycle')) AS cycle, z(n, 0, 'miss') AS misses, 1 + n % {CLINICS} AS clinic
    FROM range(1, $patients + 1) AS r(n)
"""
# Rounds of a check-up and the treatment that it leads to. A treatment is booked at the visit before.
BOOKINGS = f"""
    WITH rounds AS (SELECT *, unnest(range(least(1 + floor(stays / cycle), 20)::BIGINT)) AS round FROM people),
    begun AS (
        SELECT *, joined + cycle * (round + 0.5 * u(n, round, 'when')) AS begins,
               CASE WHEN u(n, round, 'plan') < 0.25 THEN 0 ELSE least(1 + floor(-4.3 * ln(u(n, round, 'steps'))), 24)
               END::BIGINT AS steps
        FROM rounds),
    steps AS (SELECT *, unnest(range(steps + 1)) AS step FROM begun),
    wished AS (
        SELECT *, begins + step * (8 + 5 * u(n, round, 'gap')) AS day,
               hash(n, round, step, getvariable('seed')) AS draw,
               CASE WHEN step = 0 THEN least(exp(1.8 + 1.1 * z(n, round, 'lead')), 60)
                    ELSE 7 + 4 * u(n, round, 'gap') END AS lead
        FROM steps),
    timed AS (
        SELECT *, on_day(floor(day) + (2 + draw % 21) / 48.0) AS starts_at,
               greatest(on_day(joined), starts_at - to_minutes((lead * 1440)::BIGINT)) AS booked_at,
               30 * (1 + (draw >> 8) % 3)::BIGINT AS minutes, (draw >> 16) % 1000 / 1000.0 AS luck,
               0.06 * exp(0.8 * misses - 0.3) * (0.6 + 0.05 * least(lead, 20)) AS missing,
               lead >= 2 AND starts_at > booked_at + INTERVAL 30 HOUR AS is_ahead,
               (draw >> 32) % 1000 / 1000.0 AS share
        FROM wished
        WHERE day <= joined + greatest(stays, 30) AND booked_at < getvariable('now')
          AND starts_at > booked_at + INTERVAL 1 HOUR),
    ended AS (
        SELECT *, CASE WHEN luck < missing THEN 'no_show'
                       WHEN luck > 0.97 THEN 'cancelled_late'
                       WHEN luck > 0.88 AND is_ahead THEN if(luck > 0.93, 'cancelled_early', 'rescheduled')
                       ELSE 'completed' END AS fate,
               past(CASE WHEN fate = 'cancelled_late' THEN starts_at - to_minutes((20 + 30 * share)::BIGINT)
                         WHEN fate IN ('cancelled_early', 'rescheduled')
                         THEN booked_at + (starts_at - INTERVAL 24 HOUR - booked_at) * greatest(share, 0.01)
                         ELSE starts_at + to_minutes(minutes) END) AS known
        FROM timed)
    SELECT row_number() OVER (ORDER BY n, round, step) AS booking, n, round, step, steps, joined, cycle, clinic,
           clinic * 100 + 1 + (hash(n, (draw >> 42) % 8 = 0) % {CLINICIANS})::BIGINT AS clinician,
           starts_at, booked_at, minutes, known, if(known IS NULL, 'booked', fate) AS status, share,
           CASE WHEN is_ahead AND fate IN ('completed', 'no_show', 'cancelled_late') AND (draw >> 44) % 100 < 8
                THEN past(booked_at + INTERVAL 1 HOUR) END AS moved_at,
           CASE WHEN step = 0 THEN if((draw >> 48) % 3 = 0, 'examination', 'hygiene')
                ELSE ['filling', 'root_canal', 'crown', 'orthodontics'][1 + ((hash(n, round) >> 4) % 4)::BIGINT] END
               AS line,
           CASE WHEN status = 'completed' THEN 1000 * (8 + 40 * (draw >> 52) % 64)::BIGINT END AS fee
    FROM ended
"""
# One row per thing in the contract's columns, as it is now.
THINGS: Mapping[str, str] = {
    "clinics": f"""
        SELECT 'K' || n AS clinic_id, 'Clinic ' || n AS clinic_name, on_day(-900) AS known_from_at
        FROM range(1, {CLINICS + 1}) AS r(n)""",
    "clinicians": f"""
        SELECT 'D' || (100 * k + d) AS clinician_id, 'K' || k AS clinic_id, 'dentist' AS role,
               on_day(-900) AS known_from_at
        FROM range(1, {CLINICS + 1}) AS r(k), range(1, {CLINICIANS + 1}) AS s(d)""",
    "patients": """
        SELECT 'P' || n AS patient_id, 'K' || clinic AS home_clinic_id, on_day(joined) AS known_from_at,
               if(n % 3 > 0, 'H' || n // 3, NULL) AS household_id, if(u(n, 0, 'sex') < 0.56, 'female', 'male') AS sex,
               if(u(n, 0, 'source') < 0.4, 'referral', ['search', 'walk_in', 'dianping'][1 + n % 3]) AS source_channel,
               if(u(n, 0, 'member') < 0.15, 'silver', NULL) AS membership, u(n, 0, 'ok') < 0.93 AS is_contact_allowed,
               if(source_channel = 'referral' AND n > 1, 'P' || 1 + (u(n, 0, 'by') * (n - 1))::BIGINT, NULL)
                   AS referred_by_id,
               2018 - (80 * pow(u(n, 0, 'age'), 1.3))::BIGINT AS birth_year, true AS is_profiling_allowed
        FROM people WHERE {block}""",
    "appointments": """
        SELECT 'A' || booking AS appointment_id, 'P' || n AS patient_id, 'K' || clinic AS clinic_id,
               'D' || clinician AS clinician_id, line AS service_line, status,
               if(step = 0, 'check_up', NULL) AS recall_type, minutes AS duration_minutes,
               fee AS fee_cents, true AS is_start_time_known,
               share < 0.4 AS is_requested_clinician, booked_at, starts_at, known AS status_known_at, moved_at
        FROM bookings WHERE {block}""",
    "plan_items": """
        WITH visits AS (
            SELECT *, max(known) FILTER (step = 0 AND status = 'completed') OVER (PARTITION BY n, round) AS found_at
            FROM bookings WHERE {block}),
        planned AS (
            SELECT *, u(n, round, 'accepts') < 0.55 AS is_accepted, hash(n, round) % 5 < 3 AS is_planned
            FROM visits WHERE found_at IS NOT NULL AND step BETWEEN 1 AND 3)
        SELECT 'I' || booking AS plan_item_id, 'T' || n || '-' || round AS plan_id, 'P' || n AS patient_id,
               'K' || clinic AS clinic_id, 'D' || clinician AS clinician_id,
               if(is_accepted, 'A' || booking, NULL) AS appointment_id, line AS service_line,
               ['routine', 'soon', 'urgent'][1 + n % 3] AS urgency, 30000 + 1000 * (booking % 90) AS fee_cents,
               found_at AS proposed_at,
               CASE WHEN is_accepted THEN past(found_at + INTERVAL 5 MINUTE) END AS accepted_at,
               CASE WHEN is_accepted THEN greatest(booked_at, accepted_at) END AS scheduled_at,
               CASE WHEN is_accepted AND status = 'completed' THEN greatest(known, scheduled_at) END AS completed_at,
               CASE WHEN NOT is_accepted AND share < 0.5 THEN past(found_at + INTERVAL 9 DAY) END AS declined_at
        FROM planned WHERE is_planned""",
    "communications": """
        WITH sent AS (
            SELECT *, 'reminder' AS purpose,
                   date_trunc('day', starts_at) - to_minutes(1320 - (500 * share)::BIGINT) AS sent_at, 1 AS kind
            FROM bookings WHERE {block} AND share < 0.85
            UNION ALL BY NAME
            SELECT *, 'reminder' AS purpose,
                   date_trunc('day', starts_at) - to_minutes(2760 - (500 * share)::BIGINT) AS sent_at, 2 AS kind
            FROM bookings WHERE {block} AND share BETWEEN 0.25 AND 0.8
            UNION ALL BY NAME
            SELECT *, 'follow_up' AS purpose, known + INTERVAL 26 HOUR AS sent_at, 3 AS kind
            FROM bookings WHERE {block} AND status = 'completed' AND share > 0.5
            UNION ALL BY NAME
            SELECT *, 'recall' AS purpose, known + to_days((cycle + 20 * nth)::INTEGER) AS sent_at, 3 + nth AS kind
            FROM bookings, range(1, 4) AS r(nth) WHERE {block} AND step = 0 AND status = 'completed'),
        told AS (
            SELECT *, u(booking, kind, 'answer') AS answer,
                   ['wechat', 'wechat', 'wechat', 'sms', 'phone'][1 + (hash(booking, kind) % 5)::BIGINT] AS channel
            FROM sent
            WHERE sent_at < getvariable('now') AND (purpose <> 'reminder' OR sent_at > booked_at)
              AND (purpose <> 'reminder' OR known IS NULL OR known > sent_at))
        SELECT 'M' || booking || '-' || kind AS communication_id, 'P' || n AS patient_id, channel, purpose,
               if(purpose = 'recall', NULL, 'A' || booking) AS appointment_id, 'out' AS direction, sent_at,
               sent_at AS delivered_at,
               CASE WHEN answer < 0.45 THEN past(sent_at + to_minutes((1 - 90 * ln(answer / 0.45))::BIGINT)) END
                   AS replied_at,
               CASE WHEN replied_at IS NOT NULL THEN if(answer < 0.36, 'confirmed',
                    if(channel = 'phone', 'no_answer', 'declined')) END AS outcome
        FROM told""",
    "recalls": """
        SELECT 'P' || n || '|check_up' AS recall_id, 'P' || n AS patient_id, 'check_up' AS recall_type,
               round(cycle)::BIGINT AS interval_days, CAST(starts_at AS DATE) + round(cycle)::INTEGER AS due_on,
               false AS is_disabled, known AS known_from_at
        FROM bookings WHERE {block} AND step = 0 AND status = 'completed'""",
    "payments": """
        SELECT 'F' || booking || '-' || kind AS payment_id, 'P' || n AS patient_id, 'K' || clinic AS clinic_id,
               'A' || booking AS appointment_id, kind, line AS service_line, fee AS amount_cents, known AS paid_at
        FROM bookings, (VALUES ('charge'), ('payment')) AS k(kind) WHERE {block} AND status = 'completed'""",
}


def write_history(folder: Path, patients: int, seed: int) -> Settings:
    """Write the records of a practice with `patients` patients.

    Clinics, clinicians, patients, bookings, plan items, messages, recalls and payments, through the
    record store's own commit; every state stands there with the moment from which it was known.

    Parameters
    ----------
    folder : Path
        Empty or missing; records go to ``folder/data/records``.
    patients : int
        About 25 bookings, 50 messages and 5 plan items each.
    seed : int
        The same seed gives the same records (with the same DuckDB: its hash draws them).

    Returns
    -------
    Settings
        Of a practice in Shanghai with these records; take `NOW` as its present.
    """
    settings = Settings(paths=Paths(data=folder / "data", mlruns=folder / "mlruns"))
    store = RecordStore(settings.paths.records)
    with tempfile.TemporaryDirectory(prefix="bulk-history-") as scratch, connect(Path(scratch)) as con:
        con.execute(f"SET memory_limit = '{MEMORY}'")
        con.execute(f"SET VARIABLE seed = {int(seed)}; {MACROS}")
        con.execute("SET VARIABLE now = $now::TIMESTAMPTZ", {"now": NOW})
        con.execute(f"SET VARIABLE begun = date_trunc('day', getvariable('now')) - to_days({DAYS})")
        con.execute(f"CREATE TABLE people AS {PEOPLE}", {"patients": patients})
        con.execute(f"CREATE TABLE bookings AS {BOOKINGS}")
        with store.importing():
            changes: dict[str, Rows] = {name: _states(con, name, patients) for name in THINGS}
            store.commit(changes, Made("import", NOW, ("bulk history",)))
    return settings


def history_at(folder: Path, patients: int, seed: int) -> Settings:
    """Settings of a history under `folder`: a new one, or links to that of ``REVISIT_BULK``, which stays as it is."""
    there = os.environ.get("REVISIT_BULK")
    if not there:
        return write_history(folder, patients, seed)
    source, target = Path(there) / "data" / "records", folder / "data" / "records"
    for path in source.rglob("*"):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            os.link(path, place)
    return Settings(paths=Paths(data=folder / "data", mlruns=folder / "mlruns"))


def _states(con: duckdb.DuckDBPyConnection, name: str, patients: int) -> pa.RecordBatchReader:
    """Every state of a table's things, block of patients by block, oldest first within a patient."""
    schema = con.sql(_unfolded(con, name, "false")).to_arrow_table().schema
    starts = range(1, patients + 1, BLOCK) if "{block}" in THINGS[name] else (1,)

    def batches() -> Iterator[pa.RecordBatch]:
        for first in starts:
            block = f"n BETWEEN {first} AND {first + BLOCK - 1}"
            yield from con.sql(_unfolded(con, name, block)).to_arrow_reader(BATCH_ROWS)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _unfolded(con: duckdb.DuckDBPyConnection, name: str, block: str) -> str:
    """SQL of the states of `name`: one per moment at which something of the thing became known."""
    table, things = TABLES[name], THINGS[name].format(block=block)
    given = con.sql(things).columns
    milestones = [milestone for milestone in table.milestones if milestone.known_at in given]
    moments = [table.known_from, *(milestone.known_at for milestone in milestones)]
    shown = {column: f"{column if column in given else 'NULL'}::{kind}" for column, kind in columns_of(name).items()}
    for milestone in milestones:
        for column in milestone.columns:
            before = f"'{milestone.until_then[column]}'" if column in milestone.until_then else "NULL"
            shown[column] = f"if({milestone.known_at} <= known_at, {shown[column]}, {before})"
    if "moved_at" in given:  # until then, the visit lay three days later
        moments.append("moved_at")
        shown["starts_at"] = "if(moved_at > known_at, starts_at + INTERVAL 72 HOUR, starts_at)"
    shown |= {"known_at": "known_at", "recorded_at": "getvariable('now')"}
    columns = ", ".join(f"{sql} AS {column}" for column, sql in shown.items())
    owner = "patient_id" if "patient_id" in given else table.key
    return f"""
        SELECT {columns} FROM (SELECT *, unnest(list_distinct([{", ".join(moments)}])) AS known_at FROM ({things}))
        ORDER BY {owner}, known_at"""


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    patients = QUICK_PATIENTS if told.quick else PATIENTS
    with tempfile.TemporaryDirectory(prefix="bulk-history-") as folder:
        settings = write_history(Path(folder), patients, told.seed)
        used = resource.getrusage(resource.RUSAGE_SELF)
        metrics = {"cpu_s": used.ru_utime + used.ru_stime, "peak_gb": used.ru_maxrss / 1024**2}
        with connect() as con:
            RecordStore(settings.paths.records).attach(con, list(THINGS))
            for name in THINGS:
                key = TABLES[name].key
                (things, states), *_ = con.sql(f"SELECT count(DISTINCT {key}), count(*) FROM {name}").fetchall()
                metrics |= {name: things, f"{name}_states": states}
        metrics["gb_on_disk"] = sum(file.stat().st_size for file in Path(folder).rglob("*.parquet")) / 1024**3
    emit("bulk_history", metrics, {} if told.quick else TARGETS, {})


if __name__ == "__main__":
    main()
