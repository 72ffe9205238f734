"""What the serving benchmarks share: a trained practice, the running service, keep-alive clients, memory and CPU."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from features.contracts import CONTRACTS
from features.records.landing import import_files
from features.records.mapping import load_mapping
from features.settings import Paths, Settings
from features.simulator import PracticePlan, simulate, write_export
from features.store import build, build_patients, register
from serving.clock import now
from serving.running import start_scorer, start_service, wait_until_ready
from serving.scoring import score

HOST = "127.0.0.1"
TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as trial:
        trial.bind((HOST, 0))
        return int(trial.getsockname()[1])


def trained_practice(folder: Path, patients: int, years: int, seed: int, *, is_trained: bool = True) -> Settings:
    """A simulated practice as of now: imported, built, trained, scored."""
    from training.no_show import train

    settings, at = Settings(paths=Paths(data=folder / "data", mlruns=folder / "mlruns")), now()
    export = folder / "export"
    write_export(simulate(PracticePlan(now=at, patients=patients, years=years, seed=seed)), export)
    from features.records.store import RecordStore

    import_files(RecordStore(settings.paths.records), export, load_mapping(export / "mapping.toml"), at)
    build_patients(settings, at, first=at.date() - timedelta(days=2))
    build(settings, at)
    register(settings)
    for contract in CONTRACTS.values() if is_trained else ():
        train(settings, contract, at)
    score(settings, at)
    return settings


@dataclass
class Service:
    """The running service."""

    port: int
    process: subprocess.Popen[bytes]
    startup_s: float
    startup_cpu_s: float = 0.0
    scorer: subprocess.Popen[bytes] | None = None

    def pids(self) -> list[int]:
        """Of the service, its workers included, without the scorer."""
        return tree(self.process.pid)


@contextmanager
def running(settings: Settings, *, has_scorer: bool = False) -> Iterator[Service]:
    """Start the service as ``revisit serve`` does, without limits on how often one asks."""
    os.environ["REVISIT_REQUESTS_PER_MINUTE"] = str(10**9)
    begun, port = time.monotonic(), free_port()
    made = Service(port, start_service(settings, HOST, port), 0.0)
    try:
        wait_until_ready(made.process, HOST, port)
        made.startup_s, made.startup_cpu_s = time.monotonic() - begun, cpu_s(made.pids())
        made.scorer = start_scorer(settings) if has_scorer else None
        yield made
    finally:
        for process in (made.scorer, made.process):
            if process is not None:
                process.terminate()
                process.wait(20)


def tree(pid: int) -> list[int]:
    """A process and all that it started."""
    found, pending = [], [pid]
    while pending:
        one = pending.pop()
        found.append(one)
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                pending += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds that processes have used."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICK


def memory_mb(pids: Sequence[int]) -> float:
    """Memory of processes, what they share counted once (PSS)."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


@dataclass
class Client:
    """One keep-alive connection."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)
    connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Send a request, return status and body."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        sent = None if body is None else json.dumps(body).encode()
        headers = self.headers | ({} if sent is None else {"Content-Type": "application/json"})
        self.connection.request(method, path, sent, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()


def timed(client: Client, path: str, count: int) -> list[float]:
    """Ask one after the other, on a connection that is open; seconds of each."""
    client.connection = None  # servers close one that was idle
    client.ask("GET", path)
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        status, _body = client.ask("GET", path)
        found.append(time.perf_counter() - begun)
        if status != 200:
            raise RuntimeError(f"{path} answered {status}")
    return found


def together(port: int, path: str, headers: dict[str, str], clients: int, each: int) -> tuple[list[float], float, int]:
    """Many keep-alive clients at once; seconds of each answer, seconds in all, how many failed."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}:{port}", *(f"{name}: {value}" for name, value in headers.items())]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    times: list[float] = []
    failed = 0

    async def one() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(HOST, port)
        for _ in range(each):
            begun = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            times.append(time.perf_counter() - begun)
            failed += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    async def everybody() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(clients)))
        return time.perf_counter() - begun

    whole = asyncio.run(everybody())
    return times, whole, failed


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which a share of them lies."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def until(is_so: Callable[[], bool], seconds: float) -> float:
    """Ask again and again until it is so; return how long that took, or endless if it never was."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        if is_so():
            return time.perf_counter() - begun
        time.sleep(0.005)
    return float("inf")


def next_champion(settings: Settings, name: str) -> str:
    """Register the champion's model once more and let the alias name that; return its version."""
    import mlflow

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = settings.paths.tracking_uri
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    held = client.get_model_version_by_alias(name, "champion")
    made = client.create_model_version(name, held.source, held.run_id, tags=dict(held.tags))
    client.set_registered_model_alias(name, "champion", made.version)
    return str(made.version)


def local_day(moment: datetime, settings: Settings) -> str:
    """The practice's day of a moment, as the API takes it."""
    return moment.astimezone(settings.zone).date().isoformat()
