"""`revisit patient`: one patient's data on request."""

from __future__ import annotations

from pathlib import Path

import click

from serving.clock import now
from serving.commands.people import operator
from serving.commands.shared import friendly, settings


@click.group()
def patient() -> None:
    """One patient's data, on the patient's request."""


@patient.command()
@click.argument("patient_id")
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@friendly
def export(patient_id: str, out: Path) -> None:
    """Write all that is kept about one patient to a JSON file."""
    from serving.patient_data import export_patient

    text = export_patient(settings(), patient_id, now(), operator())
    out.touch(mode=0o600)
    out.write_text(text, encoding="utf-8")
    click.echo(out)


@patient.command()
@click.argument("patient_id")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
@friendly
def delete(patient_id: str, is_sure: bool) -> None:
    """Delete one patient from records, features and application, and from every earlier state of the records."""
    from serving.patient_data import delete_patient

    if not is_sure:
        click.confirm("This cannot be undone, and no earlier state of the records can be restored. Delete?", abort=True)
    done = delete_patient(settings(), patient_id, now(), operator())
    for name, count in {**done.records, **done.application}.items():
        click.echo(f"{name}: {count:,} rows deleted")
    if done.records:
        click.echo("Build features and scores again now: revisit features build && revisit score")
    else:
        click.echo("nothing was left of this patient in the records")


COMMANDS = (patient,)
