"""What the command line prints: tables and progress, drawn by rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from features.records.landing import ImportReport
    from serving.status import Status
    from training.no_show import Training

console = Console(highlight=False)

METRICS = ("auc", "ap", "brier", "log_loss", "ece", "lift10", "observed_to_expected")


def print_import(report: ImportReport) -> None:
    """Print what an import read, stored, changed, left and set aside."""
    table = Table(title=f"{report.rows:,} rows read", title_justify="left")
    table.add_column("table")
    for name in ("stored", "changed", "unchanged"):
        table.add_column(name, justify="right")
    for entry in report.tables:
        table.add_row(entry.table, f"{entry.stored:,}", f"{entry.changed:,}", f"{entry.unchanged:,}")
    console.print(table)
    if report.quarantined:
        faults = Table(title=f"{report.quarantined_rows:,} rows quarantined", title_justify="left")
        faults.add_column("reason")
        faults.add_column("rows", justify="right")
        for reason, count in report.quarantined.items():
            faults.add_row(escape(reason), f"{count:,}")
        console.print(faults)
    else:
        console.print("no row quarantined")
    for note in report.notes:
        console.print(f"note: {escape(note)}")
    if not report.has_changes:
        console.print("nothing new: the records are as they were")


def print_training(training: Training) -> None:
    """Print a model beside the rules of thumb, and whether it was promoted."""
    registered, evaluation = training.registered, training.evaluation
    table = Table(
        title=f"{registered.name} version {registered.version}: {training.examples:,} examples, "
        f"tested on {len(evaluation.label):,} visits from {evaluation.start:%Y-%m-%d}",
        title_justify="left",
    )
    table.add_column("")
    for metric in METRICS:
        table.add_column(metric, justify="right")
    for name, figures in evaluation.scores.items():
        table.add_row(name, *(f"{figures[metric]:.4f}" for metric in METRICS))
    console.print(table)
    for name, compared in evaluation.comparisons.items():
        c = compared["log_loss"]
        console.print(f"  log loss lower than {name} by {c.difference:.4f} (95 % {c.lower:.4f} to {c.upper:.4f})")
    if registered.is_champion:
        console.print(f"[green]promoted:[/] {registered.name} version {registered.version} is champion")
    else:
        console.print(f"[yellow]not promoted:[/] {'; '.join(evaluation.failures)}")


def print_status(status: Status) -> None:
    """Print what is stored, built, trained and served, with its age and what to do next."""
    table = Table(title="Revisit", title_justify="left", show_header=True)
    for name in ("", "what", "how much", "when", "age"):
        table.add_column(name, justify="right" if name == "how much" else "left")
    for line in status.lines:
        table.add_row(line.step, escape(line.what), line.how_much, line.when, line.age)
    console.print(table)
    for advice in status.advice:
        console.print(f"next: {escape(advice)}")
