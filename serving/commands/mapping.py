"""`revisit mapping`: help with describing an export."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def mapping() -> None:
    """Describe how an export's columns are to be read."""


@mapping.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Where to write the draft; shown by default.")
@click.option("--time-zone", default="", help="Zone of the practice, such as Asia/Shanghai.")
def suggest(file: Path, out: Path | None, time_zone: str) -> None:
    """Draft a mapping from a file's header and values, and say what is unsure."""
    from features.errors import MappingError, RevisitError
    from features.records.suggest import suggest_mapping

    try:
        if out is not None and out.exists():
            raise MappingError(f"{out} exists already; give another name, or remove it.")
        draft = suggest_mapping(file, time_zone)
        if out is None:
            click.echo(draft, nl=False)
            return
        try:
            out.write_text(draft, encoding="utf-8")
        except OSError as error:
            raise MappingError(f"{out} cannot be written: {error.strerror}.") from None
    except RevisitError as error:
        click.echo(click.style("error: ", fg="red", bold=True) + str(error), err=True)
        raise SystemExit(2) from None
    doubts = sum(line.startswith("# unsure:") for line in draft.splitlines())
    gaps = sum(line.startswith("# missing:") for line in draft.splitlines())
    click.echo(f"{out}: {doubts} points to check, {gaps} columns missing; then: revisit import {file} -m {out}")
