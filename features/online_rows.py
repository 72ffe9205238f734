"""Where online rows lie: SQLite, Redis or PostgreSQL, each one packed row per thing and view.

A row is the moment it holds for and the view's features as doubles, in one
piece. The newest moment wins, whoever writes last. Feast's own stores keep one
row per feature and encode every value by itself: 24 times the room and 80
times the work of the packed row (measured: `benchmarks/feature_serving.py`).
"""

from __future__ import annotations

import sqlite3
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from features.online_packing import Row

if TYPE_CHECKING:
    from features.settings import Online

ROWS_AT_ONCE = 2_000
NOTES = "notes"


class OnlineRows(Protocol):
    """What a place for online rows can do; `slot` is a view with one layout of features (`slot_of`)."""

    def write(self, slot: str, rows: Iterable[Row]) -> None:
        """Put rows there; one whose moment is older than what is there is left out."""

    def read(self, slot: str, ids: Sequence[str]) -> Mapping[str, tuple[int, bytes]]:
        """Moment and packed doubles of those of `ids` that are there."""

    def remove(self, slot: str, ids: Sequence[str], until_us: int) -> None:
        """Remove rows whose moment is not after `until_us`."""

    def keep_only(self, view: str, slot: str | None) -> None:
        """Drop all slots of a view but one, with their notes."""

    def note(self, slot: str) -> str:
        """Return what was last noted about a slot; empty if nothing was, or if it was emptied since."""

    def set_note(self, slot: str, text: str) -> None:
        """Note something about a slot."""

    def close(self) -> None:
        """Let go of this thread's connection."""


def open_rows(chosen: Online, path: Path) -> OnlineRows:
    """Open the place that the settings choose; `path` is that of SQLite's file."""
    if chosen.store == "redis":
        return RedisRows(chosen.url, chosen.prefix)
    if chosen.store == "postgres":
        return PostgresRows(chosen.url, chosen.prefix)
    return SqliteRows(path, chosen.prefix)


class SqliteRows:
    """One table per slot in a file; readers and one writer at a time, of any process."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._path, self._prefix, self._local = path, prefix, threading.local()

    def write(self, slot: str, rows: Iterable[Row]) -> None:
        """Put rows there in one transaction."""
        table = self._table(slot)
        with self._con as con:
            con.executemany(
                f"""INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE
                SET as_of_us = excluded.as_of_us, packed = excluded.packed WHERE excluded.as_of_us >= as_of_us""",
                rows,
            )

    def read(self, slot: str, ids: Sequence[str]) -> Mapping[str, tuple[int, bytes]]:
        """Moment and packed doubles of those of `ids` that are there."""
        table, found = self._table(slot), {}
        for some in _batches(ids):
            marks = ", ".join("?" * len(some))
            for key, as_of_us, packed in self._con.execute(f"SELECT * FROM {table} WHERE id IN ({marks})", some):
                found[key] = (as_of_us, packed)
        return found

    def remove(self, slot: str, ids: Sequence[str], until_us: int) -> None:
        """Remove rows whose moment is not after `until_us`."""
        table = self._table(slot)
        with self._con as con:
            con.executemany(f"DELETE FROM {table} WHERE id = ? AND as_of_us <= ?", ((key, until_us) for key in ids))

    def keep_only(self, view: str, slot: str | None) -> None:
        """Drop all slots of a view but one, with their notes."""
        self._table(NOTES)
        found = self._con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        names = _others([name for (name,) in found], f"{self._prefix}_{view}", slot and f"{self._prefix}_{slot}")
        with self._con as con:
            for name in names:
                con.execute(f'DROP TABLE "{name}"')
                con.execute(f"DELETE FROM {self._table(NOTES)} WHERE id = ?", (name.removeprefix(f"{self._prefix}_"),))
        self._local.tables.clear()

    def note(self, slot: str) -> str:
        """Return what was last noted about a slot."""
        found = self.read(NOTES, [slot]).get(slot)
        return found[1].decode() if found else ""

    def set_note(self, slot: str, text: str) -> None:
        """Note something about a slot."""
        self.write(NOTES, [(slot, 0, text.encode())])

    def close(self) -> None:
        """Let go of this thread's connection."""
        if hasattr(self._local, "con"):
            self._local.con.close()
            del self._local.con

    @property
    def _con(self) -> sqlite3.Connection:
        """A connection of this thread."""
        if not hasattr(self._local, "con"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._local.con, self._local.tables = sqlite3.connect(self._path, timeout=30), set()
            self._local.con.execute("PRAGMA journal_mode = WAL")
            self._local.con.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last writes, never break
        con: sqlite3.Connection = self._local.con
        return con

    def _table(self, slot: str) -> str:
        name = f'"{self._prefix}_{slot}"'
        con = self._con
        if name not in self._local.tables:
            con.execute(
                f"CREATE TABLE IF NOT EXISTS {name} (id TEXT PRIMARY KEY, as_of_us INTEGER, packed BLOB) WITHOUT ROWID"
            )
            self._local.tables.add(name)
        return name


# What is newer stays: the moment stands in front of the packed doubles.
_PUT = """
for i = 1, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if not old or struct.unpack('>I8', old) <= struct.unpack('>I8', ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end"""
_REMOVE = """
for i = 2, #ARGV do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if old and struct.unpack('>I8', old) <= tonumber(ARGV[1]) then redis.call('HDEL', KEYS[1], ARGV[i]) end
end"""
_MOMENT = struct.Struct(">Q")


class RedisRows:
    """One hash per slot."""

    def __init__(self, url: str, prefix: str) -> None:
        import redis

        self._redis: Any = redis.Redis.from_url(url)
        self._prefix = prefix
        self._put, self._remove = self._redis.register_script(_PUT), self._redis.register_script(_REMOVE)

    def write(self, slot: str, rows: Iterable[Row]) -> None:
        """Put rows there, some thousand in one step."""
        for some in _batches(rows):
            said: list[str | bytes] = []
            for key, as_of_us, packed in some:
                said += (key, _MOMENT.pack(as_of_us) + packed)
            self._put(keys=[self._key(slot)], args=said)

    def read(self, slot: str, ids: Sequence[str]) -> Mapping[str, tuple[int, bytes]]:
        """Moment and packed doubles of those of `ids` that are there."""
        found = {}
        for some in _batches(ids):
            for key, value in zip(some, self._redis.hmget(self._key(slot), some), strict=True):
                if value is not None:
                    found[key] = (_MOMENT.unpack_from(value)[0], value[_MOMENT.size :])
        return found

    def remove(self, slot: str, ids: Sequence[str], until_us: int) -> None:
        """Remove rows whose moment is not after `until_us`."""
        for some in _batches(ids):
            self._remove(keys=[self._key(slot)], args=[until_us, *some])

    def keep_only(self, view: str, slot: str | None) -> None:
        """Drop all slots of a view but one; the notes lie in the slots."""
        keys = [key.decode() for key in self._redis.scan_iter(f"{self._key(view)}_*", count=1000)]
        for key in _others(keys, self._key(view), slot and self._key(slot)):
            self._redis.unlink(key)

    def note(self, slot: str) -> str:
        """Return what was last noted about a slot."""
        value = self._redis.hget(self._key(slot), "")
        return value[_MOMENT.size :].decode() if value else ""

    def set_note(self, slot: str, text: str) -> None:
        """Note something about a slot, under the id that no thing has."""
        self._redis.hset(self._key(slot), "", _MOMENT.pack(0) + text.encode())

    def close(self) -> None:
        """Let go of all connections."""
        self._redis.close()

    def _key(self, slot: str) -> str:
        return f"{self._prefix}:{slot}"


class PostgresRows:
    """One table per slot, in the schema that the connection finds first."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url, self._prefix, self._local = url, prefix, threading.local()

    def write(self, slot: str, rows: Iterable[Row]) -> None:
        """Put rows there in one transaction."""
        table = self._table(slot)
        sql = f"""INSERT INTO {table} AS old SELECT * FROM unnest(%b::text[], %b::bigint[], %b::bytea[])
            ON CONFLICT (id) DO UPDATE SET as_of_us = excluded.as_of_us, packed = excluded.packed
            WHERE excluded.as_of_us >= old.as_of_us"""
        with self._con.transaction():
            for some in _batches(rows):
                self._con.execute(sql, tuple(map(list, zip(*some, strict=True))))

    def read(self, slot: str, ids: Sequence[str]) -> Mapping[str, tuple[int, bytes]]:
        """Moment and packed doubles of those of `ids` that are there."""
        sql = f"SELECT id, as_of_us, packed FROM {self._table(slot)} WHERE id = ANY(%s)"
        return {key: (as_of_us, packed) for key, as_of_us, packed in self._con.execute(sql, [list(ids)], binary=True)}

    def remove(self, slot: str, ids: Sequence[str], until_us: int) -> None:
        """Remove rows whose moment is not after `until_us`."""
        self._con.execute(
            f"DELETE FROM {self._table(slot)} WHERE id = ANY(%s) AND as_of_us <= %s", [list(ids), until_us]
        )

    def keep_only(self, view: str, slot: str | None) -> None:
        """Drop all slots of a view but one, with their notes."""
        found = self._con.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()").fetchall()
        notes = self._table(NOTES)
        names = _others([name for (name,) in found], f"{self._prefix}_{view}", slot and f"{self._prefix}_{slot}")
        with self._con.transaction():
            for name in names:
                self._con.execute(f'DROP TABLE "{name}"')
                self._con.execute(f"DELETE FROM {notes} WHERE id = %s", [name.removeprefix(f"{self._prefix}_")])
        self._local.tables.clear()

    def note(self, slot: str) -> str:
        """Return what was last noted about a slot."""
        found = self.read(NOTES, [slot]).get(slot)
        return found[1].decode() if found else ""

    def set_note(self, slot: str, text: str) -> None:
        """Note something about a slot."""
        self.write(NOTES, [(slot, 0, text.encode())])

    def close(self) -> None:
        """Let go of this thread's connection."""
        if hasattr(self._local, "con"):
            self._local.con.close()
            del self._local.con

    @property
    def _con(self) -> Any:
        """A connection of this thread; a broken one is replaced."""
        import psycopg

        if not hasattr(self._local, "con") or self._local.con.closed:
            self._local.con, self._local.tables = psycopg.connect(self._url, autocommit=True), set()
        return self._local.con

    def _table(self, slot: str) -> str:
        name = f'"{self._prefix}_{slot}"'
        con = self._con
        if name not in self._local.tables:
            if con.execute("SELECT to_regclass(%s)", [name]).fetchone()[0] is None:
                con.execute(f"CREATE TABLE IF NOT EXISTS {name} (id text PRIMARY KEY, as_of_us bigint, packed bytea)")
            self._local.tables.add(name)
        return name


def _batches(things: Iterable[Any]) -> Iterator[list[Any]]:
    ahead = iter(things)
    while some := list(islice(ahead, ROWS_AT_ONCE)):
        yield some


def _others(names: Iterable[str], view: str, kept: str | None) -> list[str]:
    """Those of `names` that are slots of `view`, but not the one `kept`; no layout holds an underscore."""
    return [name for name in names if name.rpartition("_")[0] == view and name != kept]
