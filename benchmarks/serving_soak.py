"""Ten minutes of mixed load at half of what is possible, while a champion changes, a night runs and an import comes.

Programs read days, patients' risks (CDS Hooks, FHIR) and send events. Watched:
answers that are no success, the longest wait, and memory from the second
minute to the last.

    python -m benchmarks.serving_soak [--quick]
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import arguments, emit
from benchmarks.serving import CHAMPION, ahead
from benchmarks.serving_load import Client, memory_mb, next_champion, quantile, running, together, trained_practice
from features.settings import Settings
from serving import db
from serving.clock import now
from serving.keys import create_key
from serving.permissions import SCOPES

SECONDS, QUICK_SECONDS = 600.0, 4.0
CLIENTS = 4
SHARE = 0.5  # of the most that the service can answer
MIX = {"day": 70, "cards": 12, "fhir": 12, "clinics": 5, "event": 1}
TARGETS: dict[str, tuple[str, float]] = {
    "failed_requests": ("<=", 0.0),
    "memory_growth_mb": ("<=", 25.0),
    "disturbances_failed": ("<=", 0.0),
}


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    seconds = QUICK_SECONDS if told.quick else SECONDS
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        size = (150, 1) if told.quick else (1200, 3)
        settings = trained_practice(Path(name), *size, told.seed, is_trained=not told.quick)
        metrics = soak(settings, Path(name) / "export", seconds, told.seed, is_quick=told.quick)
    emit("serving_soak", metrics, {} if told.quick else TARGETS, {})


def soak(settings: Settings, export: Path, seconds: float, seed: int, *, is_quick: bool) -> dict[str, float]:
    """Load, disturb, watch."""
    engine = db.engine(settings.application_database)
    headers = {"Authorization": f"Bearer {create_key(engine, 'soak', SCOPES, now())}"}
    engine.dispose()
    bookings = ahead(settings)
    with running(settings, has_scorer=True) as service:
        _, _, clinic, day = bookings[0]
        times, whole, _ = together(service.port, f"/api/v1/schedule?clinic={clinic}&day={day}", headers, CLIENTS, 100)
        rate = SHARE * len(times) / whole
        over, counts, waits = threading.Event(), Counter[str](), []
        asking = [
            threading.Thread(
                target=_ask,
                args=(Client(service.port, headers), bookings, rate / CLIENTS, seed + n, over, counts, waits),
            )
            for n in range(CLIENTS)
        ]
        memory: list[float] = []
        for thread in asking:
            thread.start()
        disturbing = threading.Thread(target=_disturb, args=(settings, export, seconds, counts, is_quick))
        disturbing.start()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(min(10.0, seconds / 8))
            memory.append(memory_mb(service.pids()))
        disturbing.join()
        over.set()
        for thread in asking:
            thread.join()
    settled = memory[max(1, len(memory) // 5) :]
    quarter = max(1, len(settled) // 4)
    return {
        "seconds": seconds,
        "requests": float(counts["requests"]),
        "requests_per_s": counts["requests"] / seconds,
        "events": float(counts["events"]),
        "failed_requests": float(counts["failed"]),
        "disturbances": float(counts["disturbances"]),
        "disturbances_failed": float(counts["disturbances_failed"]),
        "p50_ms": 1000 * statistics.median(waits),
        "p99_ms": 1000 * quantile(waits, 0.99),
        "longest_ms": 1000 * max(waits),
        "memory_first_mb": statistics.median(settled[:quarter]),
        "memory_last_mb": statistics.median(settled[-quarter:]),
        "memory_growth_mb": statistics.median(settled[-quarter:]) - statistics.median(settled[:quarter]),
    }


def _ask(
    client: Client,
    bookings: list[tuple[str, str, str, str]],
    rate: float,
    seed: int,
    over: threading.Event,
    counts: Counter[str],
    waits: list[float],
) -> None:
    """One program: a request every 1/rate seconds, whatever the answer took."""
    chance, due = random.Random(seed), time.perf_counter()
    while not over.is_set():
        kind = chance.choices(list(MIX), list(MIX.values()))[0]
        method, path, body, expected = _request(kind, *chance.choice(bookings))
        begun = time.perf_counter()
        try:
            status, _ = client.ask(method, path, body)
        except OSError:
            status, client.connection = 0, None
        waits.append(time.perf_counter() - begun)
        counts["requests"] += 1
        counts["failed"] += status != expected
        counts["events"] += kind == "event"
        due = max(due + 1 / rate, time.perf_counter() - 1)
        over.wait(max(0.0, due - time.perf_counter()))


def _request(kind: str, appointment: str, patient: str, clinic: str, day: str) -> tuple[str, str, object, int]:
    number = str(uuid.uuid4())
    if kind == "cards":
        asked = {"hook": "patient-view", "hookInstance": number, "context": {"userId": "x", "patientId": patient}}
        return "POST", "/cds-services/revisit-patient-view", asked, 200
    if kind == "fhir":
        return "GET", f"/fhir/RiskAssessment?patient={patient}", None, 200
    if kind == "clinics":
        return "GET", "/api/v1/clinics", None, 200
    if kind == "event":
        row = {"appointment_id": appointment, "patient_id": patient, "duration_minutes": 20 + len(number) % 40}
        return "POST", "/api/v1/events", {"events": [{"id": number, "table": "appointments", "row": row}]}, 202
    return "GET", f"/api/v1/schedule?clinic={clinic}&day={day}", None, 200


def _disturb(settings: Settings, export: Path, seconds: float, counts: Counter[str], is_quick: bool) -> None:
    """A new champion, a night's run and an import, one after the other, each a sixth of the time apart."""

    def nightly() -> None:
        from serving.nightly import run_nightly

        if not run_nightly(settings, now, is_again=True, say=lambda _text: None):
            raise RuntimeError("the night's run did not come to its end")

    def imported() -> None:
        from features.records.landing import import_files
        from features.records.mapping import load_mapping
        from features.records.store import RecordStore

        import_files(RecordStore(settings.paths.records), export, load_mapping(export / "mapping.toml"), now())

    jobs: list[Callable[[], object]] = (
        [imported] if is_quick else [lambda: next_champion(settings, CHAMPION), nightly, imported]
    )
    for job in jobs:
        time.sleep(seconds / 6)
        counts["disturbances"] += 1
        try:
            job()
        except Exception as error:
            counts["disturbances_failed"] += 1
            print(f"{type(error).__name__}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
