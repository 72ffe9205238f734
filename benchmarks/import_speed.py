"""How fast, and in how much memory, an export becomes records.

Five million seeded bookings are imported from CSV and from Parquet, each in a process of its
own, and then 10,000 changed bookings into the result. The yardstick is DuckDB merely reading
the same file and sorting it by patient and time. CPU seconds are user and system time of the
process; memory is its highest resident size.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import arguments, emit

ROWS, QUICK_ROWS = 5_000_000, 50_000
CHANGES, QUICK_CHANGES = 10_000, 500
FULL_AT = datetime(2026, 11, 17, tzinfo=UTC)
CHANGED_AT = datetime(2026, 11, 18, tzinfo=UTC)
ENDINGS = ("csv", "parquet")
TARGETS: dict[str, tuple[str, float]] = {
    "ratio_to_duckdb": ("<=", 6.0),
    "incremental_share": ("<=", 0.10),
    "peak_gb": ("<=", 3.0),
}
MAPPING = """
name = "import speed"
time_zone = "Asia/Shanghai"
datetime_formats = ["%Y-%m-%d %H:%M:%S"]
[tables.appointments.columns]
appointment_id = "appointment_id"
patient_id = "patient_id"
clinic_id = "clinic_id"
clinician_id = "clinician_id"
service_line = "service_line"
status = { column = "status", values = { done = "completed", missed = "no_show", early = "cancelled_early" } }
duration_minutes = "duration_minutes"
fee_cents = "fee_cents"
booked_at = "booked_at"
starts_at = "starts_at"
status_known_at = "status_known_at"
"""
# Ten years, four visits a patient and year; one booking in fifty is still ahead.
BOOKINGS = """
    WITH drawn AS (SELECT range AS n, [(hash(range, $seed + i) % 2147483648)::BIGINT FOR i IN range(10)] AS draw
                   FROM range($rows))
    SELECT n + 1 AS appointment_id, draw[1] % greatest($rows // 20, 1) + 1 AS patient_id,
           draw[2] % 20 + 1 AS clinic_id, draw[3] % 120 + 1 AS clinician_id,
           ['hygiene', 'filling', 'orthodontics', 'implant'][draw[4] % 4 + 1] AS service_line,
           draw[5] % 100 AS fate, [15, 30, 45, 60][draw[6] % 4 + 1] AS duration_minutes, draw[7] % 200000 AS fee_cents,
           TIMESTAMP '2016-01-01 08:00:00' + to_minutes(draw[8] % (60 * 24 * 3650)) AS booked_at,
           booked_at + to_minutes(draw[9] % 60000 + 30) AS starts_at
    FROM drawn
"""
EXPORT = """
    SELECT appointment_id, patient_id, clinic_id, clinician_id, service_line,
           CASE WHEN fate < 2 THEN 'booked' WHEN fate < 12 THEN 'missed' WHEN fate < 22 THEN 'early' ELSE 'done' END
               AS status,
           duration_minutes, CASE WHEN fate >= 22 THEN fee_cents END AS fee_cents,
           strftime(booked_at, '%Y-%m-%d %H:%M:%S') AS booked_at,
           strftime(starts_at, '%Y-%m-%d %H:%M:%S') AS starts_at,
           CASE WHEN fate >= 2 THEN strftime(starts_at + INTERVAL 30 MINUTE, '%Y-%m-%d %H:%M:%S') END AS status_known_at
    FROM bookings
"""


class Used(NamedTuple):
    """What a step took."""

    cpu_s: float
    peak_gb: float


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    rows, changes = (QUICK_ROWS, QUICK_CHANGES) if told.quick else (ROWS, CHANGES)
    metrics: dict[str, float] = {}
    peers: dict[str, dict[str, float | list[float]]] = {"duckdb_read_and_sort": {}}
    with tempfile.TemporaryDirectory(prefix="import-speed-") as name:
        folder = Path(name)
        measured(generate, folder, rows, changes, told.seed)
        (folder / "mapping.toml").write_text(MAPPING, encoding="utf-8")
        for ending in ENDINGS:
            if not can_read(ending):
                continue
            suffix = "" if ending == "csv" else f"_{ending}"
            floor = measured(read_and_sort, folder, ending)
            full = measured(load, folder, ending, f"bookings.{ending}", FULL_AT)
            later = measured(load, folder, ending, f"changes.{ending}", CHANGED_AT)
            metrics |= {
                f"rows_per_cpu_s{suffix}": rows / full.cpu_s,
                f"ratio_to_duckdb{suffix}": full.cpu_s / floor.cpu_s,
                f"incremental_share{suffix}": later.cpu_s / full.cpu_s,
                f"peak_gb{suffix}": max(full.peak_gb, later.peak_gb),
                f"cpu_s{suffix}": full.cpu_s,
                f"incremental_cpu_s{suffix}": later.cpu_s,
            }
            peers["duckdb_read_and_sort"] |= {f"cpu_s{suffix}": floor.cpu_s, f"peak_gb{suffix}": floor.peak_gb}
    targets = {key: goal for key, goal in TARGETS.items() if not told.quick}
    targets |= {f"{key}_parquet": goal for key, goal in targets.items() if f"{key}_parquet" in metrics}
    emit("import_speed", metrics, targets, peers)


def measured(step: Callable[..., object], *given: Any, is_forked: bool = False) -> Used:
    """Run `step` in a fresh process, or in a copy of this one, which is quicker to make, and say what it took."""
    context = multiprocessing.get_context("fork" if is_forked else "spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_run, args=(theirs, step, given))
    child.start()
    theirs.close()
    used: Used = ours.recv()
    child.join()
    return used


def _run(pipe: Any, step: Callable[..., object], given: tuple[Any, ...]) -> None:
    import deltalake  # noqa: F401 - what every step loads anyway is not counted
    import duckdb  # noqa: F401

    import features.records.landing  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF)
    step(*given)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pipe.send(Used(cpu, after.ru_maxrss / 1024**2))


def generate(folder: Path, rows: int, changes: int, seed: int) -> None:
    """Write the export, and one of `changes` bookings that got another outcome a day later."""
    import duckdb

    con = duckdb.connect()
    con.execute(f"CREATE TABLE bookings AS {BOOKINGS}", {"rows": rows, "seed": seed})
    _write(con, EXPORT, folder / "bookings")
    con.execute(f"DELETE FROM bookings WHERE appointment_id % {rows // changes} <> 0")
    con.execute("UPDATE bookings SET starts_at = starts_at + INTERVAL 7 DAY, fate = 99 - fate")
    _write(con, EXPORT, folder / "changes")


def _write(con: Any, sql: str, path: Path) -> None:
    con.execute(f"COPY ({sql}) TO '{path}.csv' (HEADER)")
    con.execute(f"COPY ({sql}) TO '{path}.parquet'")


def read_and_sort(folder: Path, ending: str) -> None:
    """Do what any import must at least do."""
    import duckdb

    con = duckdb.connect()
    con.execute(f"SET temp_directory = '{folder}'")
    con.execute(f"CREATE TABLE sorted AS FROM '{folder}/bookings.{ending}' ORDER BY patient_id, booked_at")


def load(folder: Path, ending: str, name: str, at: datetime) -> None:
    """Import one file."""
    from features.records.landing import import_files
    from features.records.mapping import load_mapping
    from features.records.store import RecordStore

    report = import_files(RecordStore(folder / ending), folder / name, load_mapping(folder / "mapping.toml"), at)
    if report.quarantined_rows or not report.has_changes:
        raise SystemExit(f"{name}: {report.quarantined_rows} rows quarantined, changes: {report.has_changes}")


def can_read(ending: str) -> bool:
    """Whether records have a way in for such files."""
    from features.records.sources import READERS

    return f".{ending}" in READERS


if __name__ == "__main__":
    main()
