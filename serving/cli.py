"""The `revisit` command.

Heavy libraries are imported inside the commands that need them, so that
``revisit --help`` answers at once. This is the one place in `serving` that
calls `training`.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.clock import now
from serving.commands.shared import friendly as _friendly
from serving.commands.shared import settings as _settings
from serving.commands.simulate import simulate

if TYPE_CHECKING:
    from features.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="revisit")
def main() -> None:
    """Revisit (复诊): whom a clinic is about to lose, and whom to call first."""
    for name in ("BENTOML_DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "true")


@main.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--mapping", "-m", required=True, type=click.Path(path_type=Path), help="How its columns are to be read.")
@_friendly
def import_(source: Path, mapping: Path) -> None:
    """Import an export of the practice's system (a file, or a folder of files)."""
    from features.records.landing import import_files
    from features.records.mapping import load_mapping
    from features.records.store import RecordStore
    from serving.console import print_import

    settings = _settings()
    report = import_files(RecordStore(settings.paths.records), source, load_mapping(mapping), now())
    print_import(report)


main.add_command(simulate)


@main.group()
def features() -> None:
    """Build features and register them in Feast."""


@features.command()
@_friendly
def build() -> None:
    """Compute features for every decision moment up to now, and register them."""
    from features.store import build as run
    from features.store import register

    settings = _settings()
    made = run(settings, now())
    register(settings)
    click.echo(f"{made.rows:,} rows of features, decision moments until {made.until}")


@main.command()
@click.argument("contract", default="all")
@_friendly
def train(contract: str) -> None:
    """Train one contract's model, or all; a model that beats the rules becomes champion."""
    from features.contracts import CONTRACTS
    from features.errors import SettingsError
    from serving.console import print_training

    if contract != "all" and contract not in CONTRACTS:
        raise SettingsError(f"there is no contract {contract!r}; there are {', '.join(CONTRACTS)} (or: all).")
    from training.no_show import train as run

    settings, moment = _settings(), now()
    for name in CONTRACTS if contract == "all" else (contract,):
        print_training(run(settings, CONTRACTS[name], moment))


@main.command()
@_friendly
def score() -> None:
    """Score every booking ahead and publish the schedule to the pages."""
    from serving.scoring import score as run

    report = run(_settings(), now())
    scored = ", ".join(f"{count:,} by {name}" for name, count in report.scored.items())
    click.echo(f"{report.bookings:,} bookings published; scored: {scored}")
    for name in report.without_model:
        click.echo(f"{name}: no model is in use (none has beaten the rules yet); its bookings are shown unscored")


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=3000, show_default=True)
@_friendly
def serve(host: str, port: int) -> None:
    """Serve the pages and the API with BentoML."""
    from serving.running import run_service

    raise SystemExit(run_service(_settings(), host, port))


@main.command()
@_friendly
def status() -> None:
    """Say in one screen what is stored, built, trained and served, and how old it is."""
    from serving.console import print_status
    from serving.status import status as look

    print_status(look(_settings(), now()))


@main.group()
def user() -> None:
    """People who may sign in."""


@user.command("add")
@click.argument("username")
@click.option("--role", type=click.Choice(["front_desk", "marketing", "manager", "admin"]), default="front_desk")
@click.option("--name", help="Name shown on the pages; the user name by default.")
@click.password_option()
@_friendly
def add_user(username: str, role: str, name: str | None, password: str) -> None:
    """Add a person; the password is asked for."""
    from serving import db
    from serving.auth import create_user

    engine = db.engine(_settings().application_database)
    db.upgrade(engine)
    create_user(engine, username, password, role, name or username)
    click.echo(f"{username} may sign in as {role}")


@main.command()
@click.option("--patients", default=3000, show_default=True)
@click.option("--years", default=4, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=3000, show_default=True)
@click.option("--serve/--no-serve", "is_served", default=True, help="Stop after the data is ready.")
@_friendly
def demo(patients: int, years: int, host: str, port: int, is_served: bool) -> None:
    """Build a simulated practice from end to end and serve it."""
    from features.contracts import CONTRACTS
    from serving.demo import Demo, run_demo

    def train_all(settings: Settings, moment: datetime) -> str:
        from training.no_show import train as run

        made = [run(settings, contract, moment) for contract in CONTRACTS.values()]
        return "; ".join(
            f"{m.registered.name} AUC {m.evaluation.scores['model']['auc']:.3f}"
            f" ({'champion' if m.registered.is_champion else 'not promoted'})"
            for m in made
        )

    plan = Demo(patients=patients, years=years, host=host, port=port, is_served=is_served)
    raise SystemExit(run_demo(_settings(), plan, train_all, now()))


if __name__ == "__main__":
    main()
