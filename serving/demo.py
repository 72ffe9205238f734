"""The demo: a simulated practice from export to page, step by step, each only if it is due."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from features.contracts import CONTRACTS
from features.errors import StoreError
from features.forecasts import versions
from features.records.landing import import_files
from features.records.mapping import load_mapping
from features.records.store import RecordStore
from features.settings import Settings
from features.simulator import PracticePlan, simulate, write_export
from features.store import build, build_patients, last_build, register
from serving import db
from serving.auth import AccountError, create_user
from serving.console import console
from serving.models import find_champion, newest_runs
from serving.patient_scoring import score_patients
from serving.recall_build import prepare
from serving.recall_lists import read_lists
from serving.running import must_be_free, service, wait, wait_until_ready
from serving.schedule import read_publication
from serving.scoring import score
from serving.web import DEMO_ACCOUNTS

USERNAME, PASSWORD, _ = DEMO_ACCOUNTS[0]
SEED = 7

# What the demo trains, with little effort; `revisit train` trains all, with more.
QUESTIONS = (*CONTRACTS, "lapse", "return_90d", "recall")

Step = Callable[[Settings, datetime], str]


@dataclass(frozen=True)
class Demo:
    """How large the demo is and where it listens."""

    patients: int = 3000
    years: int = 4
    host: str = "127.0.0.1"
    port: int = 3000
    is_served: bool = True


def run_demo(settings: Settings, demo: Demo, train: Step, forecast: Step, now: datetime) -> int:
    """Make what is missing, then serve.

    Parameters
    ----------
    settings : Settings
        Where everything goes.
    demo : Demo
        Size and address.
    train : callable
        Trains all contracts and says what came of it; handed in because
        serving does not import training.
    forecast : callable
        Forecasts the months ahead, likewise.
    now : datetime
        The moment of the simulated export, on the first run.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    StoreError
        If the data folder holds records that no demo made.
    """
    _must_be_a_demo(settings, demo)
    if demo.is_served:
        must_be_free(demo.host, demo.port)
    steps: list[tuple[str, Callable[[], str]]] = [
        ("simulate a practice and import it", lambda: _records(settings, demo, now)),
        ("build features and register them in Feast", lambda: _features(settings, now)),
        ("train and prove the models, track them in MLflow", lambda: _models(settings, train, now)),
        ("score the bookings ahead and publish the schedule", lambda: _publication(settings, now)),
        ("prepare a recall list", lambda: _recall(settings, now)),
        ("forecast the months ahead", lambda: _forecasts(settings, forecast, now)),
        ("add the demo accounts", lambda: _accounts(settings)),
    ]
    begun = time.monotonic()
    _run(steps)
    console.print(
        f"ready after {time.monotonic() - begun:.0f} s, records and models in", escape(str(settings.paths.data))
    )
    if not demo.is_served:
        return 0
    with service(settings, demo.host, demo.port, is_demo=True) as process:
        wait_until_ready(process, demo.host, demo.port)
        _invite(settings, demo)
        return wait(process)


def _run(steps: list[tuple[str, Callable[[], str]]]) -> None:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        whole = progress.add_task("", total=len(steps))
        for number, (title, step) in enumerate(steps, start=1):
            progress.update(whole, description=f"[{number}/{len(steps)}] {title}")
            begun = time.monotonic()
            made = step()
            progress.console.print(f"[green]✓[/] {title} [dim]({time.monotonic() - begun:.1f} s)[/]\n  {made}")
            progress.advance(whole)


def _must_be_a_demo(settings: Settings, demo: Demo) -> None:
    marker = _marker(settings)
    if RecordStore(settings.paths.records).versions() and not marker.exists():
        raise StoreError(
            f"{settings.paths.data} holds a practice's own records; the demo would mix with them. "
            "Give the demo a folder of its own: REVISIT_DATA=demo-data REVISIT_MLRUNS=demo-mlruns revisit demo"
        )
    if marker.exists() and json.loads(marker.read_text()) != _size(demo):
        raise StoreError(
            f"{settings.paths.data} holds a demo of another size; remove the folder, or name another in REVISIT_DATA."
        )


def _records(settings: Settings, demo: Demo, now: datetime) -> str:
    records, folder = RecordStore(settings.paths.records), settings.paths.data / "demo"
    if records.versions():
        return "already there"
    plan = PracticePlan(
        now=now,
        patients=demo.patients,
        years=demo.years,
        seed=SEED,
        time_zone=settings.practice.time_zone,
        language="zh" if settings.practice.language == "zh" else "en",
    )
    marker = _marker(settings)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(_size(demo)))
    write_export(simulate(plan), folder)
    report = import_files(records, folder, load_mapping(folder / "mapping.toml"), now)
    shutil.rmtree(folder)  # names and phones are kept in one place, where they can be deleted on request
    stored = {table.table: table.stored for table in report.tables}
    main = ("patients", "appointments", "communications")
    return ", ".join(f"{stored[name]:,} {name}" for name in main) + f", {len(stored)} tables in all"


def _features(settings: Settings, now: datetime) -> str:
    before = last_build(settings)
    is_current = before is not None and before.records == RecordStore(settings.paths.records).versions()
    prints = {contract.name: contract.fingerprint for contract in CONTRACTS.values()}
    if before and is_current and before.fingerprints == prints and _is_today(settings, before.until, now):
        return f"{before.rows:,} rows already there"
    snapshots = build_patients(settings, now)
    made = build(settings, now)
    register(settings)
    return f"{made.rows:,} rows, one per booking and decision moment; {snapshots.computed:,} snapshots of all patients"


def _models(settings: Settings, train: Step, now: datetime) -> str:
    newest = newest_runs(settings, list(CONTRACTS.values()))
    if all(name in newest and newest[name].fingerprint == c.fingerprint for name, c in CONTRACTS.items()):
        return ", ".join(f"{name} version {version.number}" for name, version in newest.items()) + " already there"
    return train(settings, now)


def _publication(settings: Settings, now: datetime) -> str:
    engine = db.engine(settings.application_database)
    db.upgrade(engine)
    publication = read_publication(engine)
    champions = {name: find_champion(settings, contract) for name, contract in CONTRACTS.items()}
    in_use = {(name, version.number) for name, version in champions.items() if version}
    used = set(publication.model_versions.items()) if publication else set()
    is_by_champions = used <= in_use and bool(used) == bool(in_use)
    if publication and is_by_champions and _is_today(settings, publication.as_of.isoformat(), now):
        return f"{publication.booking_count:,} bookings already there"
    people = score_patients(settings, now)
    report = score(settings, now)
    return f"{report.bookings:,} bookings, {sum(report.scored.values()):,} scored; {people.patients:,} patients"


def _recall(settings: Settings, now: datetime) -> str:
    engine = db.engine(settings.application_database)
    if read_lists(engine, None, 1):
        return "already there"
    made = prepare(settings, now)
    return f"{made.contact:,} patients to contact, {made.hold_out:,} held out by chance, {made.waiting:,} wait"


def _forecasts(settings: Settings, forecast: Step, now: datetime) -> str:
    return "already there" if versions(settings) else forecast(settings, now)


def _accounts(settings: Settings) -> str:
    engine = db.engine(settings.application_database)
    for name, password, role in DEMO_ACCOUNTS:
        with suppress(AccountError):  # it is there from an earlier run
            create_user(engine, name, password, role, f"Demo {role.replace('_', ' ')}", is_demo=True)
    return ", ".join(f"{name} / {password}" for name, password, _role in DEMO_ACCOUNTS)


def _invite(settings: Settings, demo: Demo) -> None:
    url = f"http://{demo.host}:{demo.port}/"
    console.print(
        Panel.fit(
            f"Open [bold]{url}[/] and sign in as [bold]{USERNAME}[/] with [bold]{PASSWORD}[/]\n\n"
            "Look at: today's schedule, the reasons beside each flag, the action to take;\n"
            "a patient's page; 中文 in the top corner; a narrow window.\n"
            f"The list of whom to call, as {_who('marketing')}; the months ahead, as {_who('manager')}.\n\n"
            "The models: mlflow ui --backend-store-uri\n"
            f"{escape(settings.paths.tracking_uri)}\n\n"
            "Ctrl-C ends the demo; what was built stays.",
            title="Revisit 复诊 is running",
            border_style="green",
        )
    )


def _who(role: str) -> str:
    name, password, _role = next(account for account in DEMO_ACCOUNTS if account[2] == role)
    return f"[bold]{name}[/] with [bold]{password}[/]"


def _marker(settings: Settings) -> Path:
    return settings.paths.data / "demo.json"


def _size(demo: Demo) -> dict[str, int]:
    return {"patients": demo.patients, "years": demo.years, "seed": SEED}


def _is_today(settings: Settings, moment: str, now: datetime) -> bool:
    zone = settings.zone
    return datetime.fromisoformat(moment).astimezone(zone).date() == now.astimezone(zone).date()
