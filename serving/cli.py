"""The `revisit` command.

Heavy libraries are imported inside the commands that need them, so that
``revisit --help`` answers at once. This and `serving.commands` are the places
in `serving` that call `training`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from serving.clock import now
from serving.commands import models, patient, people, records
from serving.commands.forecast import forecast, nightly_forecast
from serving.commands.mapping import mapping
from serving.commands.record import record
from serving.commands.shared import friendly as _friendly
from serving.commands.shared import settings as _settings
from serving.commands.simulate import simulate
from serving.quiet import quiet

if TYPE_CHECKING:
    from features.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="revisit")
def main() -> None:
    """Revisit (复诊): whom a clinic is about to lose, and whom to call first."""
    quiet()


for _command in (
    *records.COMMANDS,
    *models.COMMANDS,
    *people.COMMANDS,
    *patient.COMMANDS,
    forecast,
    mapping,
    record,
    simulate,
):
    main.add_command(_command)


@main.group()
def features() -> None:
    """Build features and register them in Feast."""


@features.command()
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), help="First day; by default that of the records.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="Last day; today by default.")
@click.option("--every", type=click.Choice(["week", "month"]), default="month", help="How far snapshots are apart.")
@click.option("--engine", type=click.Choice(["duckdb", "spark"]), default="duckdb", help="What computes them.")
@_friendly
def build(
    first: datetime | None, last: datetime | None, every: Literal["week", "month"], engine: Literal["duckdb", "spark"]
) -> None:
    """Compute what is missing of all patients' snapshots and all bookings; put it into Feast and online."""
    from features.online_sync import write_patients_online
    from features.store import build as run
    from features.store import build_patients, register
    from serving.console import progress

    settings, moment = _settings(), now()
    with progress("snapshots") as told:
        made = build_patients(settings, moment, first and first.date(), last and last.date(), every, told, engine)
    bookings = run(settings, moment)
    store = register(settings)
    click.echo(f"{made.computed:,} snapshots of all patients computed, {made.kept:,} were there")
    click.echo(f"{bookings.rows:,} rows of booking features, decision moments until {bookings.until}")
    if last is None:  # else the past alone was asked for
        online = write_patients_online(settings, store, moment)
        click.echo(f"{online.written:,} rows of patients written online, {online.unchanged:,} were there")


@features.command("catalogue")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@_friendly
def catalogue_(out: Path) -> None:
    """Write a page on every feature of the newest snapshot: what it means, how it is distributed."""
    from features.catalogue import catalogue
    from serving.catalogue_page import render_catalogue

    settings = _settings()
    out.write_text(render_catalogue(catalogue(settings), settings.practice), encoding="utf-8")
    click.echo(out)


@main.command()
@_friendly
def score() -> None:
    """Score all patients and every booking ahead, and publish the schedule to the pages."""
    from features.snapshots import built
    from serving.patient_scoring import score_patients
    from serving.scoring import score as run

    settings, moment = _settings(), now()
    if built(settings).snapshots:
        people = score_patients(settings, moment)
        asked = ", ".join(f"{count:,} for {name}" for name, count in people.scored.items())
        click.echo(f"{people.patients:,} patients stored; scored: {asked}")
    report = run(settings, moment)
    scored = ", ".join(f"{count:,} by {name}" for name, count in report.scored.items())
    click.echo(f"{report.bookings:,} bookings published; scored: {scored}")
    for problem in report.problems:
        click.echo(f"the champion before is still in use: {problem}")
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
@click.option("--again", "is_again", is_flag=True, help="Begin anew even if the last run broke off halfway.")
@_friendly
def nightly(is_again: bool) -> None:
    """Import, build features, score, prepare the recall list, forecast; go on where a crash ended."""
    from serving.nightly import STEPS, forecast_step, run_nightly

    settings = _settings()
    steps = (*STEPS, forecast_step(settings, nightly_forecast))
    raise SystemExit(0 if run_nightly(settings, now, steps, is_again=is_again) else 1)


@main.command()
@_friendly
def status() -> None:
    """Say in one screen what is stored, built, trained and served, and how old it is."""
    from serving.console import print_status
    from serving.status import status as look

    print_status(look(_settings(), now()))


@main.command()
@click.option("--patients", default=3000, show_default=True)
@click.option("--years", default=4, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--serve/--no-serve", "is_served", default=True, help="Stop after the data is ready.")
@_friendly
def demo(patients: int, years: int, host: str, port: int, is_served: bool) -> None:
    """Build a simulated practice from end to end and serve it."""
    from serving.demo import QUESTIONS, Demo, run_demo

    def train_all(settings: Settings, moment: datetime) -> str:
        from training.models import train_all as run
        from training.rolling import SMALL

        outcomes = list(run(settings, moment, QUESTIONS, effort=SMALL))
        return "; ".join(
            f"{o.name} {'champion' if o.training and o.training.registered.is_champion else 'not promoted'}"
            for o in outcomes
        )

    plan = Demo(patients=patients, years=years, host=host, port=port, is_served=is_served)
    raise SystemExit(run_demo(_settings(), plan, train_all, nightly_forecast, now()))


if __name__ == "__main__":
    main()
