"""Records: bring them, look at their history and quality, put them right."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.clock import now
from serving.commands.shared import friendly, settings

if TYPE_CHECKING:
    from features.records.store import RecordStore


def _store() -> RecordStore:
    from features.records.store import RecordStore

    return RecordStore(settings().paths.records)


@click.command("import")
@click.argument("source")
@click.option(
    "--mapping",
    "-m",
    required=True,
    type=click.Path(path_type=Path),
    help="How its columns are to be read: a file, or the name of a built-in mapping (fhir, open_dental).",
)
@friendly
def import_(source: str, mapping: Path) -> None:
    """Import an export of the practice's system (a file, a folder of files, a database's URL)."""
    from features.records.landing import import_files
    from features.records.mapping import load_mapping
    from features.records.sources import as_source
    from serving.console import print_import

    zone = settings().practice.time_zone
    print_import(import_files(_store(), as_source(source), load_mapping(mapping, zone), now(), zone))


@click.command()
@click.option("--clean", "is_cleaned", is_flag=True, help="Compact small files and remove outdated versions.")
@click.option("--keep-days", default=90, show_default=True, type=click.IntRange(min=0), help="With --clean.")
@friendly
def history(is_cleaned: bool, keep_days: int) -> None:
    """List the finished imports, newest last; any of them can be restored."""
    from features.records.history import clean
    from serving.console import print_history

    store = _store()
    if is_cleaned:
        done = clean(store, timedelta(days=keep_days), now())
        click.echo(
            f"{done.entries} states struck from the history, {done.compacted} small files put together, "
            f"{done.removed} files removed"
        )
    print_history(store.entries(), settings().zone)


@click.command()
@click.argument("number", type=int)
@friendly
def restore(number: int) -> None:
    """Make an earlier state of the records (its NUMBER in `revisit history`) the present one."""
    from features.records.history import restore as run

    entry = run(_store(), number, now())
    click.echo(f"the records are as in state {number}; this is state {entry.number}")


@click.command()
@click.argument("old")
@click.argument("new")
@friendly
def merge(old: str, new: str) -> None:
    """Say that patient OLD is patient NEW, from now on."""
    from features.records.merging import merge as run

    is_new = run(_store(), old, new, now())
    click.echo(f"patient {old} is {new} from now on" if is_new else f"patient {old} was {new} already")


@click.command()
@click.option("--rows", "is_by_row", is_flag=True, help="List every file, row, column and reason.")
@click.option("--csv", "out", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows to a file instead.")
@friendly
def quarantine(is_by_row: bool, out: Path | None) -> None:
    """Show the rows that were set aside, and why; never their values."""
    import csv

    from features.records.quarantine import Fault, quarantine_counts, quarantine_rows
    from serving.console import print_faults

    names = [field.name for field in fields(Fault)]
    if out:
        with out.open("w", encoding="utf-8-sig", newline="") as stream:  # the mark is for Excel
            writer = csv.writer(stream)
            writer.writerow(names)
            writer.writerows([getattr(fault, name) for name in names] for fault in quarantine_rows(_store()))
        click.echo(out)
    elif is_by_row:
        for fault in quarantine_rows(_store()):
            where = ".".join(filter(None, (fault.table, fault.column)))
            kind = f" ({fault.value_class})" if fault.value_class else ""
            click.echo(f"{fault.source}, row {fault.row}{f', {where}' if where else ''}{kind}: {fault.reason}")
    else:
        print_faults(quarantine_counts(_store()))


@click.command()
@click.option("--html", "out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Page to write.")
@friendly
def quality(out: Path) -> None:
    """Write a page on what is missing, impossible, doubled or suddenly different in the records."""
    from features.records.quality import assess
    from serving.quality_page import render_quality

    practice = settings().practice
    out.write_text(render_quality(assess(_store(), practice.time_zone, now()), practice.name), encoding="utf-8")
    click.echo(out)


COMMANDS = (import_, history, restore, merge, quarantine, quality)
