"""Merged patients: two numbers that turned out to be one person.

A merge says that patient `old_id` is `new_id` from `known_at` on. Nothing
stored is rewritten: `survivors` tells, for every moment, whose history a
number belongs to, and `features.as_of` reads through it. Before `known_at` the
two stay apart, as they did for everybody at the practice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb

from features.duck import connect
from features.errors import MappingError, StoreError
from features.records.store import MERGES, Made, RecordStore

_KEYS = {"file", "old", "new", "merged_at", "ids"}


@dataclass(frozen=True)
class MergeSource:
    """The ``[merges]`` section of a mapping: a file with a column each, or the pairs themselves."""

    file: str = ""
    old: str = "old_id"
    new: str = "new_id"
    merged_at: str = ""
    ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Merge:
    """Patient `old_id` is `new_id` from `known_at` on."""

    old_id: str
    new_id: str
    known_at: datetime


@dataclass(frozen=True)
class Span:
    """From `from_at` until `until_at` (None: ever), number `patient_id` belonged to `survivor_id`."""

    patient_id: str
    survivor_id: str
    from_at: datetime | None
    until_at: datetime | None


def parse_merges(given: Any, problems: list[str]) -> MergeSource | None:
    """Read the ``[merges]`` section of a mapping; add what is wrong with it to `problems`."""
    if given is None:
        return None
    entry = given if isinstance(given, dict) else {"": given}
    ids = entry.get("ids", {})
    texts = {key: value for key, value in entry.items() if key != "ids"}
    if set(entry) - _KEYS or not all(isinstance(value, str) and value for value in texts.values()):
        problems.append(f"merges: there are {', '.join(sorted(_KEYS))}; each but ids is text")
    elif not isinstance(ids, dict) or not all(isinstance(value, str) and value for value in ids.values()):
        problems.append('merges: ids must be pairs of text, such as ids = { P17 = "P3" }')
    elif ("file" in texts) == ("ids" in entry):
        problems.append("merges needs either file (with old and new, its columns) or ids")
    else:
        return MergeSource(**texts, ids=ids)
    return None


def spans(merges: Iterable[Merge]) -> Iterator[Span]:
    """Yield whose history each merged number belonged to, and when; chains are followed.

    Parameters
    ----------
    merges : iterable of Merge
        Without cycles, at most one per `old_id`.

    Yields
    ------
    Span
        Per number, without gaps, from ever to ever.
    """
    into = {merge.old_id: merge for merge in merges}
    for number in into:
        survivor, since, current = number, None, number
        while current in into:
            merge = into[current]
            current = merge.new_id
            if since is None or merge.known_at > since:
                yield Span(number, survivor, since, merge.known_at)
                since = merge.known_at
            survivor = current
        yield Span(number, survivor, since, None)


def news(known: Sequence[Merge], told: Sequence[Merge]) -> list[Merge]:
    """Choose the merges that say something new.

    Parameters
    ----------
    known, told : sequence of Merge
        Those of the records, and those that come.

    Returns
    -------
    list of Merge

    Raises
    ------
    StoreError
        If a patient would be merged into themselves, round a circle, or into two others.
    """
    into = {merge.old_id: merge.new_id for merge in known}
    fresh = []
    for merge in told:
        survivor = end_of(into, merge.new_id)
        if merge.old_id in into and end_of(into, merge.old_id) == survivor:
            continue
        if survivor == merge.old_id:
            raise StoreError(
                f"patient {merge.old_id} cannot be merged into {merge.new_id}: {merge.new_id} is that patient already. "
                "Turn the merge round, or restore the state before the wrong one (revisit history, revisit restore)."
            )
        if merge.old_id in into:
            raise StoreError(
                f"patient {merge.old_id} is merged into {end_of(into, merge.old_id)} already, and cannot be {survivor} "
                "too. Merge those two, or restore the state before the wrong merge (revisit history, revisit restore)."
            )
        into[merge.old_id] = merge.new_id
        fresh.append(merge)
    return fresh


def stored_merges(con: duckdb.DuckDBPyConnection) -> list[Merge]:
    """Read the merges of a connection to which records are attached."""
    rows = con.execute(f"SELECT old_id, new_id, known_at FROM {MERGES} ORDER BY recorded_at, known_at, old_id")
    return [Merge(old, new, known_at) for old, new, known_at in rows.fetchall()]


def merges_in(con: duckdb.DuckDBPyConnection, source: MergeSource, raw: str, moments: str, at: datetime) -> list[Merge]:
    """Read the merges of a loaded file, or of the mapping itself.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With the file loaded as text.
    source : MergeSource
        Which columns to read.
    raw : str
        Table of the file.
    moments : str
        SQL of the moment of a merge, over the file's columns.
    at : datetime
        What to take where none is given.

    Returns
    -------
    list of Merge

    Raises
    ------
    MappingError
        If a row lacks one of its two numbers.
    """
    if not source.file:
        return [Merge(old, new, at) for old, new in source.ids.items()]
    old, new = (f"nullif(trim({_name(column)}), '')" for column in (source.old, source.new))
    rows = con.execute(f"SELECT _row, {old}, {new}, {moments} FROM {raw} ORDER BY _row").fetchall()
    for number, one, other, _ in rows:
        if one is None or other is None:
            raise MappingError(
                f"{source.file}, row {number}: expected the numbers of two patients ({source.old}, {source.new}), "
                "came a blank one. Complete the row, or leave it out."
            )
    return [Merge(one, other, moment or at) for _, one, other, moment in rows]


def merge(store: RecordStore, old: str, new: str, at: datetime) -> bool:
    """Say that patient `old` is `new` from `at` on.

    Parameters
    ----------
    store : RecordStore
        Of the practice.
    old, new : str
        The number that goes and the one that stays.
    at : datetime
        Now (aware).

    Returns
    -------
    bool
        False if that was known.

    Raises
    ------
    StoreError
        If the records know no such patient, or the merge contradicts an earlier one.
    """
    with store.importing(), connect() as con:
        store.attach(con, ["patients"])
        for number in (old, new):
            if not con.execute("SELECT 1 FROM patients WHERE patient_id = ? LIMIT 1", [number]).fetchall():
                raise StoreError(f"the records know no patient {number}; give the numbers as the export has them.")
        fresh = news(stored_merges(con), [Merge(old, new, at)])
        if not fresh:
            return False
        put_merges(con, "fresh_merges", fresh, at)
        store.commit({MERGES: con.sql("SELECT * FROM fresh_merges")}, Made("merge", at, counts={MERGES: (1, 0)}))
        return True


def put_merges(con: duckdb.DuckDBPyConnection, name: str, merges: Sequence[Merge], at: datetime) -> None:
    """Make table `name` of `merges`, in the columns in which they are stored."""
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE {name} AS
        SELECT unnest($old::VARCHAR[]) AS old_id, unnest($new::VARCHAR[]) AS new_id,
               unnest($known::TIMESTAMPTZ[]) AS known_at, $at::TIMESTAMPTZ AS recorded_at""",
        {
            "old": [merge.old_id for merge in merges],
            "new": [merge.new_id for merge in merges],
            "known": [merge.known_at for merge in merges],
            "at": at,
        },
    )


def attach_survivors(con: duckdb.DuckDBPyConnection) -> bool:
    """Make table ``survivors`` (one row per `Span`) unless it is there; say whether anybody was merged.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With records attached, which drops what older records had left. Tables
        put there without merges hold none.
    """
    try:
        return bool(con.execute("SELECT 1 FROM survivors LIMIT 1").fetchall())
    except duckdb.CatalogException:
        pass
    try:
        found = list(spans(stored_merges(con)))
    except duckdb.CatalogException:
        return False
    con.execute(
        """CREATE TEMP TABLE survivors AS
        SELECT unnest($old::VARCHAR[]) AS patient_id, unnest($new::VARCHAR[]) AS survivor_id,
               unnest($from::TIMESTAMPTZ[]) AS from_at, unnest($until::TIMESTAMPTZ[]) AS until_at""",
        {
            "old": [span.patient_id for span in found],
            "new": [span.survivor_id for span in found],
            "from": [span.from_at for span in found],
            "until": [span.until_at for span in found],
        },
    )
    return bool(found)


def end_of(into: Mapping[str, str], number: str) -> str:
    """Follow merges (old number to new) from `number` to the one that stays."""
    while number in into:
        number = into[number]
    return number


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
