"""Running the service as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from features.errors import StoreError
from features.settings import Settings
from serving import db

SERVICE = "serving.service:Revisit"
SCORER = "serving.scorer"
START_SECONDS = 60
END_SECONDS = 15
RESTART_SECONDS = 5


def must_be_free(host: str, port: int) -> None:
    """Make sure that the service can listen there.

    Raises
    ------
    StoreError
        If it cannot.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        raise StoreError(
            f"cannot listen on {host}, port {port} ({error.strerror}); name another with --port."
        ) from None


def start_service(settings: Settings, host: str, port: int, *, is_demo: bool = False) -> subprocess.Popen[bytes]:
    """Start BentoML on the pages and the API, with these settings.

    Parameters
    ----------
    settings : Settings
        Of the practice; the process is told its folders and its database.
    host, port
        Where to listen.
    is_demo : bool
        Whether the sign-in page names the demo account.

    Returns
    -------
    subprocess.Popen
        Started, not yet ready; `wait_until_ready` waits.
    """
    must_be_free(host, port)
    db.upgrade(db.engine(settings.application_database))
    environment = _environment(settings)
    if is_demo:
        environment["REVISIT_DEMO"] = "1"
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--host", host, "--port", str(port)]
    return subprocess.Popen(command, env=environment)  # noqa: S603 - our own interpreter and module


def start_scorer(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the scorer that keeps what is published up with the champions."""
    command = [sys.executable, "-m", SCORER]
    return subprocess.Popen(command, env=_environment(settings))  # noqa: S603 - our own interpreter and module


def _environment(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "REVISIT_DATA": str(settings.paths.data),
        "REVISIT_MLRUNS": str(settings.paths.mlruns),
        "REVISIT_DATABASE_URL": settings.application_database,
        "BENTOML_HOME": str(settings.paths.data / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def wait_until_ready(process: subprocess.Popen[bytes], host: str, port: int) -> None:
    """Wait until the service answers.

    Raises
    ------
    StoreError
        If it ends, or does not answer in time.
    """
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise StoreError(f"the service ended with code {process.returncode}; is port {port} taken? Try --port.")
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/readyz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise StoreError(f"the service did not answer on {host}:{port} within {START_SECONDS} seconds.")


def run_service(settings: Settings, host: str, port: int) -> int:
    """Start the service and stay until it ends; return its exit code."""
    with service(settings, host, port) as process:
        return wait(process)


def wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the service and return its exit code; an interrupt is how it is meant to end."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0


@contextmanager
def service(settings: Settings, host: str, port: int, *, is_demo: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Run the service and its scorer for as long as the block lasts: whatever ends the command ends them too.

    Parameters
    ----------
    settings, host, port, is_demo
        As for `start_service`.

    Yields
    ------
    subprocess.Popen
        Started, not yet ready.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a request to end is an interrupt
    try:
        process = start_service(settings, host, port, is_demo=is_demo)
        is_over = threading.Event()
        keeper = threading.Thread(target=_keep_scoring, args=(settings, is_over))
        keeper.start()
        try:
            yield process
        finally:
            is_over.set()
            _end(process)
            keeper.join()
    finally:
        signal.signal(signal.SIGTERM, before)


def _keep_scoring(settings: Settings, is_over: threading.Event) -> None:
    """Keep a scorer running until it is over; the pages do without one meanwhile."""
    while not is_over.is_set():
        process = start_scorer(settings)
        while not is_over.wait(0.2) and process.poll() is None:
            pass
        if is_over.is_set():
            _end(process)
        is_over.wait(RESTART_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
