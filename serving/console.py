"""What the command line prints: tables and progress, drawn by rich."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from zoneinfo import ZoneInfo

    from features.records.landing import ImportReport
    from features.records.quarantine import Faults
    from features.records.store import Entry
    from serving.audit import Entry as AuditEntry
    from serving.status import Status
    from training.models import ModelVersion, Training
    from training.recall_training import RecallTraining

console = Console(highlight=False)

METRICS = ("auc", "ap", "brier", "log_loss", "ece", "lift10", "observed_to_expected")
AMOUNT_METRICS = ("deviance", "rmse", "gini", "share10", "observed_to_expected")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while something runs; what is yielded is told the finished and all steps."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def told(finished: int, of: int) -> None:
            bar.update(task, completed=finished, total=of)

        yield told


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
    for one in report.missing:
        console.print(
            f"note: {one.rows:,} rows of {one.table} name {one.things:,} {one.refers_to} in {one.column} that no table "
            f"brought{'; kept by their numbers alone' if one.is_derived else ''}"
        )
    if report.locked:
        table = Table(title="not brought yet", title_justify="left")
        for name in ("table", "would unlock"):
            table.add_column(name)
        for name, unlocks in report.locked.items():
            table.add_row(name, unlocks)
        console.print(table)
    if not report.has_changes:
        console.print("nothing new: the records are as they were")


def print_history(entries: Sequence[Entry], zone: ZoneInfo) -> None:
    """Print the finished states of the records, newest last."""
    table = Table(title="history", title_justify="left")
    table.add_column("number", justify="right")
    for name in ("when", "what", "of", "stored and changed", "versions"):
        table.add_column(name)
    for entry in entries:
        made = entry.made
        counts = [f"{name} +{new:,} ~{changed:,}" for name, (new, changed) in made.counts.items() if new or changed]
        table.add_row(
            str(entry.number),
            f"{made.at.astimezone(zone):%Y-%m-%d %H:%M}",
            made.kind,
            ", ".join(made.sources),
            "\n".join(counts),
            ", ".join(f"{name} {version}" for name, version in sorted(entry.versions.items())),
        )
    console.print(table if entries else "nothing has been imported yet")


def print_faults(faults: Sequence[Faults]) -> None:
    """Print what is in quarantine, the most frequent faults first."""
    if not faults:
        console.print("no row is in quarantine")
        return
    table = Table(title="quarantine", title_justify="left")
    for name in ("reason", "table", "column", "file", "mapping"):
        table.add_column(name)
    table.add_column("rows", justify="right")
    for one in faults:
        table.add_row(one.reason, one.table, one.column, one.source, one.mapping, f"{one.rows:,}")
    console.print(table)


def print_audit(entries: Sequence[AuditEntry], zone: ZoneInfo) -> None:
    """Print acts of the audit log, the newest first."""
    table = Table(title="audit log", title_justify="left")
    for name in ("when", "who", "what", "clinic", "day", "rows", "patient", "models", "detail"):
        table.add_column(name, justify="right" if name == "rows" else "left")
    for entry in entries:
        act = entry.act
        shown = (act.clinic_id, act.day, act.row_count, act.patient_id, act.model_version, act.detail)
        table.add_row(
            f"{act.at.astimezone(zone):%Y-%m-%d %H:%M:%S}",
            escape(act.username or ""),
            act.action,
            *("" if value is None else escape(str(value)) for value in shown),
        )
    console.print(table if entries else "nothing is recorded yet")


def print_training(training: Training) -> None:
    """Print a model beside the rules of thumb, and whether it was promoted; of recall, the verdict."""
    if not hasattr(training, "evaluation"):
        _print_policy(training)
        return
    registered, evaluation = training.registered, training.evaluation
    table = Table(
        title=f"{registered.name} version {registered.version}: {training.examples:,} examples, "
        f"tested on {len(evaluation.label):,} from {evaluation.start:%Y-%m-%d}",
        title_justify="left",
    )
    table.add_column("")
    shown = METRICS if "auc" in evaluation.scores["model"] else AMOUNT_METRICS
    for metric in shown:
        table.add_column(metric, justify="right")
    for name, figures in evaluation.scores.items():
        table.add_row(name, *(f"{figures[metric]:.4f}" for metric in shown))
    console.print(table)
    for name, compared in evaluation.comparisons.items():
        c = next(iter(compared.values()))
        score = c.metric.replace("_", " ")
        console.print(f"  {score} lower than {name} by {c.difference:.4f} (95 % {c.lower:.4f} to {c.upper:.4f})")
    if registered.is_champion:
        console.print(f"[green]promoted:[/] {registered.name} version {registered.version} is champion")
    else:
        console.print(f"[yellow]not promoted:[/] {'; '.join(evaluation.failures)}")


def _print_policy(training: RecallTraining) -> None:
    registered, policy = training.registered, training.policy
    console.print(f"[bold]{registered.name}[/] version {registered.version}: {training.examples:,} randomised draws")
    console.print(f"  {escape(policy.sentences['en'])}")
    console.print(f"  ranked by {policy.rank_by}; channels in this order: {', '.join(policy.channels) or 'none tried'}")


def print_models(found: Sequence[ModelVersion]) -> None:
    """Print every registered version: its figures, its aliases, what the gate said."""
    if not found:
        console.print("no model has been trained yet; next: revisit train")
        return
    table = Table(title="Models", title_justify="left")
    for name in ("model", "version", "trained until", "alias", "AUC", "log loss", "gate"):
        table.add_column(name, justify="right" if name in ("version", "AUC", "log loss") else "left")
    for version in found:
        shown = version.metrics if version.kind == "model" else {}
        figures = (f"{shown[name]:.4f}" if name in shown else "-" for name in ("auc", "log_loss"))
        table.add_row(
            version.name,
            str(version.number),
            version.trained_until[:10],
            ", ".join(version.aliases),
            *figures,
            escape(version.gate),
        )
    console.print(table)


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
