"""History: earlier states of the records, brought back or let go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from deltalake import DeltaTable

from features.errors import StoreError
from features.records.store import Entry, Made, RecordStore


@dataclass(frozen=True)
class Cleaned:
    """What cleaning did.

    Attributes
    ----------
    entries : int
        States that can be restored no more.
    compacted : int
        Small files that were put together into larger ones.
    removed : int
        Files that no kept state refers to.
    """

    entries: int
    compacted: int
    removed: int


def restore(store: RecordStore, number: int, at: datetime) -> Entry:
    """Make an earlier state the present one, as a new entry of the log.

    Nothing is destroyed: the states in between stay, and can be restored in turn.

    Parameters
    ----------
    store : RecordStore
        Of the practice.
    number : int
        Number of the state (``revisit history``).
    at : datetime
        Now (aware).

    Returns
    -------
    Entry
        The new state; the present one if it is the same already.

    Raises
    ------
    StoreError
        If there is no such state, or its files are gone, or an import is running.
    """
    with store.importing():
        entries = {entry.number: entry for entry in store.entries()}
        if number not in entries:
            listed = ", ".join(map(str, entries)) or "none: nothing has been imported"
            raise StoreError(f"there is no state {number} to restore; there are {listed} (revisit history).")
        versions = entries[number].versions
        for name, version in versions.items():
            store.files(name, version)
        if versions == store.versions():
            return store.entries()[-1]
        return store.publish(versions, Made("restore", at, (f"state {number}",)))


def clean(store: RecordStore, keep: timedelta, at: datetime) -> Cleaned:
    """Put small files together, and remove what only states older than `keep` refer to.

    The steps are ordered so that a crash between any two leaves every state of
    the log readable; the next cleaning finishes what was left.

    Parameters
    ----------
    store : RecordStore
        Of the practice.
    keep : timedelta
        States made within it before `at` stay, and so does the present one.
    at : datetime
        Now (aware).

    Returns
    -------
    Cleaned

    Raises
    ------
    StoreError
        If an import is running, or the present state's files are gone.
    """
    with store.importing():
        before = store.entries()
        if not before:
            return Cleaned(0, 0, 0)
        since = at - keep
        versions = dict(before[-1].versions)
        compacted = sum(_compact(store, name, versions) for name in list(versions))
        outdated = [entry for entry in before[:-1] if entry.made.at < since]
        if outdated or versions != before[-1].versions:
            store.publish(versions, Made("clean", at), since)
        removed = sum(vacuum(store, path) for path in sorted(store.root.iterdir()) if (path / "_delta_log").is_dir())
        return Cleaned(len(before) + 1 - len(store.entries()) if outdated else 0, compacted, removed)


def _compact(store: RecordStore, name: str, versions: dict[str, int]) -> int:
    """Put a table's small files together; enter its new version, if it got one."""
    store.roll_back(name, versions[name])
    table = DeltaTable(store.root / name)
    before = set(table.file_uris())
    done = table.optimize.compact()
    after = DeltaTable(store.root / name)
    if set(after.file_uris()) != set(store.files(name, versions[name])):
        versions[name] = after.version()
    return int(done["numFilesRemoved"]) if set(after.file_uris()) != before else 0


def vacuum(store: RecordStore, path: Path) -> int:
    """Remove the files of a table that no state of the log refers to."""
    kept = sorted({entry.versions[path.name] for entry in store.entries() if path.name in entry.versions})
    store.roll_back(path.name, store.versions().get(path.name))
    options = {"retention_hours": 0, "enforce_retention_duration": False, "full": True, "keep_versions": kept}
    # Delta goes on listing files long gone, and each run would leave its traces in the log.
    outdated: int = sum((path / name).exists() for name in DeltaTable(path).vacuum(dry_run=True, **options))
    if outdated:
        DeltaTable(path).vacuum(dry_run=False, **options)
    return outdated
