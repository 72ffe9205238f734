"""Serving: a day of 80 bookings with reasons over the API, beside the least that a server can do.

The limit is a bare FastAPI route under uvicorn that reads the same bytes from
the same database by one statement, with the same garbage collection; a second
one notes who asked, as ours must. Both run beside the service, and blocks of
requests are shuffled, so that a busy machine slows all alike.

    python -m benchmarks.serving [--quick]
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from benchmarks.harness import arguments, emit
from benchmarks.serving_load import (
    HOST,
    Client,
    cpu_s,
    free_port,
    local_day,
    memory_mb,
    next_champion,
    quantile,
    running,
    timed,
    together,
    trained_practice,
    tree,
    until,
)
from features.settings import Paths, Settings
from serving import db
from serving.clock import now
from serving.keys import create_key
from serving.sample_day import sample_day
from serving.schedule import publish_schedule, read_publication

BOOKINGS = 80
DAY = date(2026, 11, 23)
PATH = f"/api/v1/schedule?clinic=east&day={DAY}"
BLOCKS, QUICK_BLOCKS = 14, 2
REQUESTS, QUICK_REQUESTS = 150, 20
CLIENTS, EACH, QUICK_EACH = 32, 60, 3
EVENTS, QUICK_EVENTS = 100, 2
CHAMPION = "no_show_evening"
TARGETS: dict[str, tuple[str, float]] = {
    "p99_ms_1_client": ("<", 50.0),
    "longest_ms_1_client": ("<", 50.0),
    "p50_ratio": ("<=", 1.3),
    "cpu_ratio": ("<=", 1.4),
    "throughput_ratio": (">=", 0.6),
    "event_to_flag_p99_s": ("<", 2.0),
    "startup_s": ("<", 5.0),
    "failed_requests": ("<=", 0.0),
}
# Run by uvicorn in a process of its own: argv is the database, the port, and whether it notes who asked.
BARE = """
import gc, sqlite3, sys
import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
con = sqlite3.connect(sys.argv[1], isolation_level=None, check_same_thread=False)
con.execute("PRAGMA journal_mode=WAL")
con.execute("PRAGMA synchronous=NORMAL")
con.execute("PRAGMA busy_timeout=5000")
app = FastAPI()
is_noting = sys.argv[3] == "noting"
@app.get("/api/v1/schedule")
async def schedule(clinic: str, day: str) -> Response:
    if is_noting:
        con.execute("INSERT INTO bench_audit (clinic, day) VALUES (?, ?)", (clinic, day))
    (body,) = con.execute("SELECT body FROM bench_answers WHERE clinic = ? AND day = ?", (clinic, day)).fetchone()
    return Response(body, media_type="application/json")
gc.collect(); gc.freeze(); gc.set_threshold(50_000, 20, 50)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False, log_level="warning")
"""


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    metrics: dict[str, float] = {}
    peers: dict[str, dict[str, float | list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        a_day(Path(name) / "day", told.quick, told.seed, metrics, peers)
        events(Path(name) / "practice", told.quick, told.seed, metrics)
    emit("serving", metrics, {} if told.quick else TARGETS, peers)


def a_day(folder: Path, is_quick: bool, seed: int, metrics: dict[str, float], peers: dict[str, dict]) -> None:
    """One client, then many, against ours and the bare routes."""
    settings = Settings(paths=Paths(data=folder, mlruns=folder / "mlruns"))
    headers = publish(settings)
    with running(settings) as service:
        ours = Client(service.port, headers)
        keep_answer(settings, ours)
        database = folder / "revisit.db"
        with bare(database, "plain") as plain, bare(database, "noting") as noting:
            servers = {"ours": (service.port, service.pids()), "bare": plain, "bare_noting": noting}
            for port, _ in servers.values():
                timed(Client(port, headers), PATH, 30)
            alone(servers, headers, is_quick, seed, metrics, peers)
            crowd(servers, headers, is_quick, seed, metrics, peers)
        metrics["peak_mb"] = memory_mb(service.pids())
        metrics |= {"startup_s": service.startup_s, "startup_cpu_s": service.startup_cpu_s}


def publish(settings: Settings) -> dict[str, str]:
    """Publish a day of 80 bookings; return the headers of a program that may read it."""
    engine = db.engine(settings.application_database)
    db.upgrade(engine)
    sample = sample_day(DAY, settings.zone, BOOKINGS)
    opens, step = sample.bookings[0].starts_at, timedelta(minutes=6)
    packed = [replace(one, starts_at=opens + number * step) for number, one in enumerate(sample.bookings)]
    publish_schedule(
        engine, packed, sample.scores, sample.clinics, as_of=sample.as_of, published_at=sample.published_at
    )
    key = create_key(engine, "benchmark", ["schedule.view"], now())
    engine.dispose()
    return {"Authorization": f"Bearer {key}"}


def keep_answer(settings: Settings, ours: Client) -> None:
    """Put what the service answers where the bare routes read it."""
    status, body = ours.ask("GET", PATH)
    if status != 200 or body.count(b"appointment_id") != BOOKINGS or b'"reasons":[{' not in body:
        raise RuntimeError(f"expected {BOOKINGS} bookings with reasons, came status {status}, {len(body)} bytes")
    with sqlite3.connect(settings.paths.data / "revisit.db") as con:
        con.execute("CREATE TABLE bench_answers (clinic TEXT, day TEXT, body BLOB, PRIMARY KEY (clinic, day))")
        con.execute("CREATE TABLE bench_audit (clinic TEXT, day TEXT)")
        con.execute("INSERT INTO bench_answers VALUES ('east', ?, ?)", (str(DAY), body))
    con.close()


@contextmanager
def bare(database: Path, kind: str) -> Iterator[tuple[int, list[int]]]:
    """Run a bare route."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", BARE, str(database), str(port), kind])
    try:
        client = Client(port)

        def answers() -> bool:
            try:
                return client.ask("GET", PATH)[0] == 200
            except OSError:
                client.connection = None
                return False

        if until(answers, 60) == float("inf"):
            raise RuntimeError(f"nothing answers at {HOST}:{port}")
        yield port, tree(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def alone(servers, headers, is_quick, seed, metrics, peers) -> None:
    """One client: shuffled blocks, ratios within each."""
    blocks, count = (QUICK_BLOCKS, QUICK_REQUESTS) if is_quick else (BLOCKS, REQUESTS)
    clients = {name: Client(port, headers) for name, (port, _) in servers.items()}
    times: dict[str, list[float]] = {name: [] for name in servers}
    medians: dict[str, list[float]] = {name: [] for name in servers}
    costs: dict[str, list[float]] = {name: [] for name in servers}
    order, chance = list(servers), random.Random(seed)
    for _ in range(blocks):
        chance.shuffle(order)
        for name in order:
            before = cpu_s(servers[name][1])
            found = timed(clients[name], PATH, count)
            costs[name].append((cpu_s(servers[name][1]) - before) / count)
            times[name] += found
            medians[name].append(statistics.median(found))
    metrics |= _figures(times["ours"])
    metrics["cpu_ms"] = 1000 * statistics.mean(costs["ours"])
    for name, suffix in (("bare", ""), ("bare_noting", "_noting")):
        metrics[f"p50_ratio{suffix}"] = _ratio(medians["ours"], medians[name])
        metrics[f"cpu_ratio{suffix}"] = _ratio(costs["ours"], costs[name])
        peers[name] = {**_figures(times[name]), "cpu_ms": 1000 * statistics.mean(costs[name])}


def _figures(times: list[float]) -> dict[str, float]:
    return {
        "p50_ms_1_client": 1000 * statistics.median(times),
        "p99_ms_1_client": 1000 * quantile(times, 0.99),
        "longest_ms_1_client": 1000 * max(times),
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one / max(other, 1e-9) for one, other in zip(ours, theirs, strict=True))


def crowd(servers, headers, is_quick, seed, metrics, peers) -> None:
    """Many clients at once: requests per second, in shuffled rounds."""
    each, rounds = (QUICK_EACH, 1) if is_quick else (EACH, 4)
    rates: dict[str, list[float]] = {name: [] for name in servers}
    late: dict[str, list[float]] = {name: [] for name in servers}
    failures = 0
    order, chance = list(servers), random.Random(seed)
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            times, whole, failed = together(servers[name][0], PATH, headers, CLIENTS, each)
            rates[name].append(len(times) / whole)
            late[name] += times
            failures += failed if name == "ours" else 0
    metrics["requests_per_s_32_clients"] = statistics.median(rates["ours"])
    metrics["p99_ms_32_clients"] = 1000 * quantile(late["ours"], 0.99)
    metrics["throughput_ratio"] = _ratio(rates["ours"], rates["bare"])
    metrics["throughput_ratio_noting"] = _ratio(rates["ours"], rates["bare_noting"])
    metrics["failed_requests"] = float(failures)
    for name in ("bare", "bare_noting"):
        peers[name]["requests_per_s_32_clients"] = statistics.median(rates[name])
        peers[name]["p99_ms_32_clients"] = 1000 * quantile(late[name], 0.99)


def events(folder: Path, is_quick: bool, seed: int, metrics: dict[str, float]) -> None:
    """From an event at the door to the flag that changed; then a champion that changes under load."""
    settings = trained_practice(folder, *((150, 1) if is_quick else (1200, 3)), seed, is_trained=not is_quick)
    engine = db.engine(settings.application_database)
    key = create_key(engine, "benchmark", ["schedule.view", "events.write"], now())
    headers = {"Authorization": f"Bearer {key}"}
    with running(settings, has_scorer=True) as service:
        client = Client(service.port, headers)
        took = list(changed_flags(settings, client, QUICK_EVENTS if is_quick else EVENTS, seed))
        metrics["event_to_flag_p50_s"] = statistics.median(took[1:])
        metrics["event_to_flag_p99_s"] = quantile(took[1:], 0.99)
        metrics["event_to_flag_first_s"] = took[0]  # the scorer opens its models and Feast
        if not is_quick:
            metrics["swap_s"], failed = swap(settings, service.port, headers, engine)
            metrics["failed_requests"] += failed
        scorer = tree(service.scorer.pid) if service.scorer else []
        metrics["scorer_mb"] = memory_mb(scorer)
    engine.dispose()


def changed_flags(settings: Settings, client: Client, count: int, seed: int) -> Iterator[float]:
    """New bookings of known patients, and changed ones, by turns; seconds until the API shows each."""
    bookings = ahead(settings)
    random.Random(seed).shuffle(bookings)
    for number, (appointment, patient, clinic, day) in enumerate(bookings[:count]):
        is_new = number % 2 == 0
        key = f"bench-{number}" if is_new else appointment
        row = {"appointment_id": key, "patient_id": patient, "status": "booked" if is_new else "cancelled_early"}
        if is_new:
            row |= {"clinic_id": clinic, "starts_at": f"{day}T15:00:00", "duration_minutes": 30}
        path = f"/api/v1/schedule?clinic={clinic}&day={day}"
        expected = f'"appointment_id":"{key}"'.encode()

        def is_shown(path: str = path, expected: bytes = expected, status: str = row["status"]) -> bool:
            _, body = client.ask("GET", path)
            after = body.partition(expected)[2].partition(b'"appointment_id"')[0]
            return f'"status":"{status}"'.encode() in after

        status, _ = client.ask("POST", "/api/v1/events", {"events": [{"id": key, "table": "appointments", "row": row}]})
        if status != 202:
            raise RuntimeError(f"the event was answered with {status}")
        yield until(is_shown, 60)


def ahead(settings: Settings) -> list[tuple[str, str, str, str]]:
    """Bookings from the day after tomorrow on: number, patient, clinic, local day."""
    engine = db.engine(settings.application_database)
    since = now() + timedelta(days=2)
    with db.reading(engine) as session:
        rows = session.query(db.BookingRow).filter(db.BookingRow.starts_at > since, db.BookingRow.status == "booked")
        found = [(r.appointment_id, r.patient_id, r.clinic_id, local_day(r.starts_at, settings)) for r in rows]
    engine.dispose()
    return sorted(found)


def swap(settings: Settings, port: int, headers: dict[str, str], engine) -> tuple[float, int]:
    """A new champion while eight clients ask: seconds until it is in use, answers that were no success."""
    _, _, clinic, day = ahead(settings)[0]
    path, over, failures = f"/api/v1/schedule?clinic={clinic}&day={day}", threading.Event(), []

    def ask() -> None:
        while not over.is_set():
            failures.append(together(port, path, headers, 8, 10)[2])

    asking = threading.Thread(target=ask)
    asking.start()
    version = next_champion(settings, CHAMPION)

    def is_in_use() -> bool:
        publication = read_publication(engine)
        return publication is not None and publication.model_versions.get(CHAMPION) == version

    took = until(is_in_use, 120)
    over.set()
    asking.join()
    return took, sum(failures)


if __name__ == "__main__":
    main()
