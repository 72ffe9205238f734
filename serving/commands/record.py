"""``revisit record``: one event at the desk, online at once."""

from __future__ import annotations

import click

from serving.clock import now
from serving.commands.shared import friendly, settings

KINDS = {"appointment": "appointments", "contact": "communications", "plan-item": "plan_items"}


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)), metavar="KIND")
@click.argument("number")
@click.argument("columns", nargs=-1)
@friendly
def record(kind: str, number: str, columns: tuple[str, ...]) -> None:
    """Add or change one thing of a KIND: appointment, contact or plan-item, by its NUMBER in the practice's system.

    COLUMNS are those of the data contract, each as name=value; of a thing that is known, those that changed are
    enough: revisit record appointment A17 status=no_show
    """
    from features.errors import EventError
    from features.online_events import record_event
    from features.records.tables import TABLES

    table = KINDS[kind]
    wrong = [place for place, text in enumerate(columns, start=1) if "=" not in text]
    if wrong:
        raise EventError(f"expected COLUMN=VALUE after the number; number {wrong[0]} of them has no `=`.")
    told = {name: value or None for name, _, value in (text.partition("=") for text in columns)}
    done = record_event(settings(), table, {**told, TABLES[table].key: number}, now())
    what = "added" if done.is_new else "changed" if done.is_change else "was so already"
    click.echo(f"{kind} {number} {what}; online: {done.patients} patients, {done.bookings} bookings")
