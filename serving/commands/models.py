"""Models: train them, list them, promote one, go back, write the card."""

from __future__ import annotations

from pathlib import Path

import click

from serving.clock import now
from serving.commands.shared import friendly, settings


@click.command()
@click.argument("contract", default="all")
@click.option("--again", "is_forced", is_flag=True, help="Train even what was trained on the same records.")
@friendly
def train(contract: str, is_forced: bool) -> None:
    """Train one contract's model, or all; a model that beats the rules becomes champion.

    What was trained on the same records is skipped, so a run that was cut off
    goes on. A question that fails keeps the champion it has, and the others go on.
    """
    from features.errors import SettingsError
    from serving.console import console, print_training
    from training.models import QUESTIONS, train_all

    if contract != "all" and contract not in QUESTIONS:
        raise SettingsError(f"there is no contract {contract!r}; there are {', '.join(QUESTIONS)} (or: all).")
    names, failed = tuple(QUESTIONS) if contract == "all" else (contract,), []
    here, moment = settings(), now()
    with console.status("training") as shown:
        outcomes = train_all(here, moment, names, lambda name, step: shown.update(f"{name}: {step}"), is_forced)
        for number, outcome in enumerate(outcomes, start=1):
            if outcome.training:
                print_training(outcome.training)
            elif outcome.error:
                failed.append(outcome.name)
                click.echo(click.style("error: ", fg="red", bold=True) + outcome.error, err=True)
            else:
                click.echo(f"{outcome.name}: trained on these records already (--again trains it anew)")
            shown.update(f"{number} of {len(names)} done")
    if failed:
        click.echo(f"not trained: {', '.join(failed)}; the models in use stay", err=True)
        raise SystemExit(2)


@click.group(invoke_without_command=True)
@click.pass_context
@friendly
def models(context: click.Context) -> None:
    """List the versions of every model: figures, aliases, what the gate said."""
    if context.invoked_subcommand is None:
        from serving.console import print_models
        from training.models import versions

        print_models(versions(settings()))


@models.command("card")
@click.argument("name")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--version", "number", type=click.IntRange(1), help="The champion by default, else the newest.")
@friendly
def card(name: str, out: Path, number: int | None) -> None:
    """Write the model card of NAME as one HTML page."""
    from training.models import card_of

    out.write_text(card_of(settings(), name, number), encoding="utf-8")
    click.echo(out)


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(1), required=False)
@friendly
def promote(name: str, version: int | None) -> None:
    """Make a version of NAME the champion, by default the newest; refused if it did not pass the gate."""
    from training.models import promote as run

    made = run(settings(), name, version)
    click.echo(f"{name} version {made.number} is champion")


@click.command()
@click.argument("name")
@friendly
def rollback(name: str) -> None:
    """Make the version of NAME that was champion before the champion again."""
    from training.models import rollback as run

    made = run(settings(), name)
    click.echo(f"{name} version {made.number} is champion again")


COMMANDS = (train, models, promote, rollback)
