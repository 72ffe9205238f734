"""Serving features: the training join, online reads, materialising, and one event until it is online.

Each figure stands beside the least that any store must do with the same bytes
in the same run: a plain join in DuckDB, a plain read, a plain bulk write.
Records of 200,000 patients (`benchmarks.bulk_history`), one snapshot of all of
their features.

    python -m benchmarks.feature_serving [--quick]

`REVISIT_BULK` names the folder of a bulk history that is there already, to
spare the minutes that writing one takes.
"""

from __future__ import annotations

import os
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks.bulk_history import NOW, history_at
from benchmarks.harness import arguments, emit
from features.contracts import PATIENT_CONTRACTS
from features.duck import connect
from features.families import FAMILIES
from features.online_events import record_event
from features.online_rows import OnlineRows, open_rows
from features.records.store import RecordStore
from features.settings import Online, Settings
from features.snapshots import build_snapshots, folder_of, midnight

PATIENTS, QUICK_PATIENTS = 200_000, 500
JOINED, QUICK_JOINED = 1_000_000, 2_000
READS, QUICK_READS = 300, 5
EVENTS, QUICK_EVENTS = 100, 3
CONTRACT = PATIENT_CONTRACTS["lapse"]
SERVERS = {"redis": "redis://127.0.0.1:6379/0", "postgres": "postgresql://root@127.0.0.1:5432/test"}
TARGETS: dict[str, tuple[str, float]] = {
    "materialize_ratio": ("<=", 5.0),
    "changed_only_excess_s": ("<=", 2.0),
    "event_to_online_p99_s": ("<=", 1.0),
}


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory(prefix="feature-serving-") as name:
        settings = prepare(Path(name), QUICK_PATIENTS if told.quick else PATIENTS, told.seed)
        metrics: dict[str, float] = {}
        peers: dict[str, dict[str, float | list[float]]] = {}
        ids = ids_of(settings)
        materialising(settings, metrics, peers)
        if not told.quick:
            for store, url in SERVERS.items():
                other = settings.model_copy(
                    update={"online": Online(store=store, url=url, prefix=f"bench{os.getpid()}")}
                )
                materialising(other, metrics, peers, f"_{store}")
        reading(settings, ids, QUICK_READS if told.quick else READS, told.seed, metrics, peers)
        joining(settings, ids, QUICK_JOINED if told.quick else JOINED, metrics, peers)
        recording(settings, QUICK_EVENTS if told.quick else EVENTS, told.seed, metrics, peers)
    emit("feature_serving", metrics, {} if told.quick else TARGETS, peers)


def prepare(folder: Path, patients: int, seed: int) -> Settings:
    """Records and last midnight's snapshot."""
    settings = history_at(folder, patients, seed)
    build_snapshots(settings, [midnight(NOW.astimezone(settings.zone).date(), settings)])
    (settings.paths.features / "schedule.parquet").unlink(missing_ok=True)
    return settings


def ids_of(settings: Settings) -> list[str]:
    """Patients of the snapshot."""
    files = folder_of(settings, "attendance").as_posix()
    return [key for (key,) in duckdb.sql(f"SELECT patient_id FROM '{files}/*/*.parquet' ORDER BY 1").fetchall()]


def materialising(settings: Settings, metrics: dict[str, float], peers: Any, suffix: str = "") -> None:
    """Write all of the snapshot, then one patient in a hundred; and the same bytes as plainly as can be."""
    from features.online_sync import write_patients_online

    store = feast_of(settings)
    before = server_cpu(settings)
    full = cpu(lambda: write_patients_online(settings, store, NOW)) + server_cpu(settings) - before
    with rewritten(settings):
        before = server_cpu(settings)
        changed = cpu(lambda: write_patients_online(settings, store, NOW)) + server_cpu(settings) - before
    plain = plain_write(settings)
    metrics |= {
        f"materialize_cpu_s{suffix}": full,
        f"materialize_ratio{suffix}": full / plain,
        f"changed_only_share{suffix}": changed / full,
        f"changed_only_excess_s{suffix}": changed - 0.02 * full,
    }
    peers.setdefault("plain_bulk_write", {})[f"cpu_s{suffix}"] = plain
    if suffix:
        from features.online_sync import rows_of

        for name in FAMILIES:
            rows_of(store).keep_only(name, None)


def feast_of(settings: Settings) -> Any:
    """Feast's store with the views of patients registered."""
    from features.definitions import definitions
    from features.store import open_feast

    store = open_feast(settings)
    store.apply(definitions(settings.paths.features))
    return store


class rewritten:  # noqa: N801 - reads as a statement
    """For a while, every hundredth patient's row in the snapshot differs in every family."""

    def __init__(self, settings: Settings) -> None:
        self._files = [path for name in FAMILIES for path in folder_of(settings, name).rglob("*.parquet")]

    def __enter__(self) -> None:
        with connect() as con:
            for path in self._files:
                columns = [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]
                first = next(name for name in columns if name not in ("patient_id", "as_of", "snapshot"))
                con.execute(
                    f"""COPY (SELECT * REPLACE (if(hash(patient_id) % 100 = 0, coalesce({first}, 0) + 1, {first})
                        AS {first}) FROM read_parquet('{path}', hive_partitioning = false)) TO '{path}.new'
                        (FORMAT parquet, COMPRESSION zstd)"""
                )
                path.rename(f"{path}.old")
                Path(f"{path}.new").rename(path)

    def __exit__(self, *_: object) -> None:
        for path in self._files:
            Path(f"{path}.old").rename(path)


def plain_write(settings: Settings) -> float:
    """CPU seconds of writing the same ids and bytes with the database's own bulk way, nothing compared."""
    rows = open_rows(settings.online, settings.paths.feast / "online.db")
    things = {name: stored(settings, rows, name) for name in FAMILIES}
    rows.close()
    before = server_cpu(settings)
    write = {"sqlite": plain_sqlite, "redis": plain_redis, "postgres": plain_postgres}[settings.online.store]
    return cpu(lambda: write(settings, things)) + server_cpu(settings) - before


def stored(settings: Settings, rows: OnlineRows, name: str) -> list[tuple[str, bytes]]:
    """Ids and bytes of a family as they are online."""
    from features.online_packing import slot_of

    found = rows.read(slot_of(name, [f.name for f in FAMILIES[name].features]), ids_of(settings))
    return [(key, packed) for key, (_, packed) in found.items()]


def plain_sqlite(settings: Settings, things: dict[str, list[tuple[str, bytes]]]) -> None:
    """One table per family, one statement each."""
    con = sqlite3.connect(settings.paths.data / "plain.db")
    con.execute("PRAGMA journal_mode = WAL")
    for name, rows in things.items():
        con.execute(f"CREATE TABLE {name} (id TEXT PRIMARY KEY, packed BLOB) WITHOUT ROWID")
        con.executemany(f"INSERT INTO {name} VALUES (?, ?)", rows)
        con.commit()
    con.close()


def plain_redis(settings: Settings, things: dict[str, list[tuple[str, bytes]]]) -> None:
    """One hash per family, in pipelines of 2,000."""
    import redis

    client = redis.Redis.from_url(settings.online.url)
    for name, rows in things.items():
        for start in range(0, len(rows), 2_000):
            client.hset(f"{settings.online.prefix}-plain-{name}", mapping=dict(rows[start : start + 2_000]))
    client.unlink(*(f"{settings.online.prefix}-plain-{name}" for name in things))
    client.close()


def plain_postgres(settings: Settings, things: dict[str, list[tuple[str, bytes]]]) -> None:
    """COPY, then the primary key that a read needs."""
    import psycopg

    with psycopg.connect(settings.online.url) as con:
        for name, rows in things.items():
            con.execute(f"CREATE TABLE {settings.online.prefix}_plain_{name} (id text PRIMARY KEY, packed bytea)")
            copying = f"COPY {settings.online.prefix}_plain_{name} FROM STDIN (FORMAT binary)"
            with con.cursor() as cursor, cursor.copy(copying) as copy:
                copy.set_types(["text", "bytea"])
                for row in rows:
                    copy.write_row(row)
        con.rollback()


def server_cpu(settings: Settings) -> float:
    """CPU seconds of the database server so far; 0 for SQLite, which is part of this process."""
    if settings.online.store == "redis":
        import redis

        client: Any = redis.Redis.from_url(settings.online.url)
        told = client.info("cpu")
        client.close()
        return float(told["used_cpu_user"] + told["used_cpu_sys"])
    if settings.online.store == "postgres":
        # Children that are gone count at the postmaster; those that live, by themselves.
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = stat.read_text().partition("(")[2].rpartition(") ")
            except OSError:
                continue
            if name.startswith("postgres"):
                fields = rest.split()
                ticks += int(fields[11]) + int(fields[12])
                if "postmaster" in name or fields[1] == "1":
                    ticks += int(fields[13]) + int(fields[14])
        return ticks / os.sysconf("SC_CLK_TCK")
    return 0.0


def reading(settings: Settings, ids: list[str], times: int, seed: int, metrics: dict[str, float], peers: Any) -> None:
    """Read 1, 50 and 500 patients: ours, Feast's own way, and the plain table."""
    from features.online_sync import read_patients_online

    store, draw = feast_of(settings), random.Random(seed)
    service = store.get_feature_service(CONTRACT.name)
    plain = sqlite3.connect(settings.paths.data / "plain.db")
    ratios = []
    for count in (1, 50, 500):
        asked = [draw.sample(ids, min(count, len(ids))) for _ in range(times)]
        ours = milliseconds(lambda some: read_patients_online(store, CONTRACT, some, NOW), asked)
        direct = milliseconds(lambda some: read_plain(plain, some), asked)
        feasts = milliseconds(
            lambda some: store.get_online_features(service, [{"patient_id": key} for key in some]).to_dict(),
            asked[: max(2, times // 10)],
        )
        metrics |= {f"online_{count}_p50_ms": ours[0], f"online_{count}_p99_ms": ours[1]}
        peers.setdefault("plain_read", {}).update(
            {f"online_{count}_p50_ms": direct[0], f"online_{count}_p99_ms": direct[1]}
        )
        peers.setdefault("feast_get_online_features", {}).update(
            {f"online_{count}_p50_ms": feasts[0], f"online_{count}_p99_ms": feasts[1]}
        )
        ratios.append(ours[0] / direct[0])
    metrics["online_ratio"] = ratios[1]
    plain.close()


def read_plain(con: sqlite3.Connection, ids: Sequence[str]) -> None:
    """Bytes of every family, as numbers."""
    marks = ", ".join("?" * len(ids))
    for name in FAMILIES:
        found = con.execute(f"SELECT packed FROM {name} WHERE id IN ({marks})", ids).fetchall()
        np.frombuffer(b"".join(packed for (packed,) in found))


def joining(settings: Settings, ids: list[str], rows: int, metrics: dict[str, float], peers: Any) -> None:
    """Feast's point-in-time join of all features, and DuckDB's plain join on the snapshot."""
    import pandas as pd

    from features.examples import with_features

    moment = pd.Timestamp(midnight(NOW.astimezone(settings.zone).date(), settings))
    asked = pd.DataFrame({"patient_id": np.resize(np.array(ids, dtype=object), rows)})
    asked["as_of"] = moment + pd.to_timedelta(np.arange(rows) // len(ids), unit="h")
    store = feast_of(settings)
    with_features(store, CONTRACT, asked[:10])
    ours = cpu(lambda: with_features(store, CONTRACT, asked))
    with connect() as con:
        con.register("asked", asked)
        joins = "".join(
            f" JOIN read_parquet('{folder_of(settings, name)}/*/*.parquet') AS {name} USING (patient_id)"
            for name in FAMILIES
        )
        columns = ", ".join(CONTRACT.feature_names)
        plain = cpu(lambda: con.sql(f"SELECT patient_id, asked.as_of, {columns} FROM asked{joins}").df())
    metrics |= {"historical_cpu_s": ours, "historical_ratio": ours / plain}
    peers["duckdb_join"] = {"cpu_s": plain}


def recording(settings: Settings, events: int, seed: int, metrics: dict[str, float], peers: Any) -> None:
    """New bookings, missed visits and messages at the desk, one after the other, until each is online."""
    with connect() as con:
        RecordStore(settings.paths.records).attach(con, ["appointments"])
        known = con.execute(
            """SELECT appointment_id, patient_id, clinic_id FROM appointments WHERE status = 'booked'
            AND starts_at > $now ORDER BY hash(appointment_id, $seed) LIMIT $count""",
            {"now": NOW, "seed": seed, "count": events + 1},
        ).fetchall()
    copied = cpu(
        lambda: record_event(settings, "appointments", {"appointment_id": known[0][0], "status": "arrived"}, NOW)
    )
    walls, cpus = [], []
    for n, (booking, patient, clinic) in enumerate(known[1:]):
        now = NOW + timedelta(minutes=n + 1)
        booked = {"patient_id": patient, "clinic_id": clinic, "status": "booked", "starts_at": now + timedelta(days=9)}
        table, row = (
            ("appointments", {"appointment_id": f"new{n}", **booked}),
            ("appointments", {"appointment_id": booking, "status": "cancelled_late"}),
            ("communications", {"communication_id": f"new{n}", "patient_id": patient, "direction": "out",
                                "channel": "phone", "purpose": "recall"}),
        )[n % 3]  # fmt: skip
        begun, spent = time.perf_counter(), time.process_time()
        done = record_event(settings, table, row, now)
        walls.append(time.perf_counter() - begun)
        cpus.append(time.process_time() - spent)
        if not done.patients:
            raise SystemExit(f"event {n} brought nobody online")
    metrics |= {
        "event_to_online_p50_s": float(np.quantile(walls, 0.5)),
        "event_to_online_p99_s": float(np.quantile(walls, 0.99)),
        "event_cpu_p99_s": float(np.quantile(cpus, 0.99)),
        "mirror_cpu_s": copied,
    }


def milliseconds(step: Callable[[Any], object], given: Sequence[Any]) -> tuple[float, float]:
    """p50 and p99 of a step's wall time; the first call is not counted."""
    step(given[0])
    walls = []
    for one in given:
        begun = time.perf_counter()
        step(one)
        walls.append((time.perf_counter() - begun) * 1000)
    return float(np.quantile(walls, 0.5)), float(np.quantile(walls, 0.99))


def cpu(step: Callable[[], object]) -> float:
    """CPU seconds of this process for a step."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
