"""The `revisit` command.

Heavy libraries are imported inside the commands that need them, so that
``revisit --help`` answers at once. This is the one place in `serving` that
calls `training`.
"""

from __future__ import annotations

import os
import warnings
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.clock import now
from serving.commands import records
from serving.commands.mapping import mapping
from serving.commands.shared import friendly as _friendly
from serving.commands.shared import settings as _settings
from serving.commands.simulate import simulate

if TYPE_CHECKING:
    from features.settings import Settings


# Libraries whose remarks are about their own insides; a user could do nothing about them.
_TALKATIVE = ("feast", "ibis", "mlflow")


def _quiet() -> None:
    """Leave the screen to our own lines: no remarks of MLflow, Feast and Ibis, no beacons, no progress bars.

    They are told before they are imported. Their warnings are dropped where
    they would be shown, because Feast sets filters of its own over any of ours.
    """
    for name, value in (
        ("BENTOML_DO_NOT_TRACK", "true"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        ("MLFLOW_LOGGING_LEVEL", "ERROR"),
    ):
        os.environ.setdefault(name, value)
    show = warnings.showwarning

    def show_ours(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        if not any(part in _TALKATIVE for part in Path(filename).parts):
            show(message, category, filename, *rest, **more)

    warnings.showwarning = show_ours


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="revisit")
def main() -> None:
    """Revisit (复诊): whom a clinic is about to lose, and whom to call first."""
    _quiet()


for _command in (*records.COMMANDS, mapping, simulate):
    main.add_command(_command)


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
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
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
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
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
