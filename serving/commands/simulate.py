"""``revisit simulate``: write the export of a practice whose truth is known."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from serving.clock import now
from serving.commands.shared import friendly, settings

PRESETS = ("default", "null", "no_heterogeneity", "insured", "dirty", "chain")
FORMATS = ("csv-en", "csv-zh", "fhir", "open-dental")
CHAIN = 8  # clinics of the preset chain, unless told


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--preset", type=click.Choice(PRESETS), default="default", show_default=True)
@click.option("--patients", default=3000, show_default=True)
@click.option("--clinics", default=None, type=int, help=f"1 by default; {CHAIN} in a chain.")
@click.option("--years", default=4, show_default=True)
@click.option("--seed", default=7, show_default=True)
@click.option("--format", "dialect", type=click.Choice(FORMATS), default="csv-en", show_default=True)
@click.option("--database", default="", help="URL of the empty database to fill, for open-dental.")
@click.option(
    "--until", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"]), help="Moment of the export; now by default."
)
@click.option("--truth-runs", default=0, show_default=True, help="Runs per snapshot for the true chance to return.")
@friendly
def simulate(out: Path, until: datetime | None, clinics: int | None, truth_runs: int, **chosen: Any) -> None:
    """Write the export of a simulated practice with known truth, and its mapping."""
    from features.simulator import PracticePlan, simulate_clinics, write_parts

    practice = settings()
    dialect, database = chosen.pop("dialect"), chosen.pop("database")
    if bool(database) != (dialect == "open-dental"):
        raise click.UsageError("--format open-dental and --database URL belong together.")
    plan = PracticePlan(
        now=until.replace(tzinfo=practice.zone) if until else now(),
        clinics=clinics if clinics is not None else CHAIN if chosen["preset"] == "chain" else 1,
        time_zone=practice.practice.time_zone,
        language="zh" if practice.practice.language == "zh" else "en",
        **chosen,
    )
    for path in write_parts(plan, simulate_clinics(plan, truth_runs=truth_runs), out, dialect, database):
        click.echo(path)
