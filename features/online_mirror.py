"""A copy of the records in the order of patients, so that one patient is read without reading everybody.

The records are kept in the order in which they came. Beside them lies, per
table, one file sorted by patient and a list of which thing is whose. What was
recorded since is read from the records' own newest files; when that is much,
or when files that were copied are no longer what counts (a restored state, a
cleaning, an erasure), the copy is made anew. So it may be missing or old, but
what is read through it is always what the records say.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb

from features import schedule
from features.families import FAMILIES
from features.patients import tables_read
from features.records.store import RecordStore, columns_of, parquet_sql
from features.records.tables import TABLES
from features.settings import Settings

# Tables about patients; those without personal values alone.
MIRRORED = tuple(
    name
    for name in dict.fromkeys((*tables_read(FAMILIES.values()), *schedule.RECORDS))
    if name != "patients" and "patient_id" in TABLES[name].column_names
)
MOST_FILES = 100  # recorded since the copy was made
MOST_SHARE, MOST_BYTES = 0.05, 16_000_000  # of the copied files' bytes; whatever the share, less than this is little
GROUP_ROWS = 20_480  # what is read at least
MEMORY = "1500MB"


class Mirror:
    """Records of one practice, patient by patient, as of one state of the records.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        Where tables are made.
    settings : Settings
        Of the practice.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
        self._con = con
        self._store = RecordStore(settings.paths.records)
        self._versions = self._store.versions()
        self._zone = settings.practice.time_zone
        self._root = settings.paths.features / "mirror"
        path = self._root / "mirror.json"
        self._copied: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for table in MIRRORED:
            self._keep_in_step(table)

    def owners(self, table: str, keys: Sequence[str]) -> list[str]:
        """Patients whom any state of the things `keys` was ever about."""
        key = TABLES[table].key
        found = self._con.execute(
            f"""SELECT owner FROM {self._keys(table)} WHERE key_hash IN (SELECT hash(unnest($keys::VARCHAR[])))
            UNION SELECT patient_id FROM {self._new(table)} WHERE {key} IN (SELECT unnest($keys::VARCHAR[]))""",
            {"keys": list(keys)},
        )
        return [owner for (owner,) in found.fetchall()]

    def append(self, table: str) -> None:
        """Take in what was just recorded: ``fresh_<table>``."""
        self._con.execute(f"INSERT INTO {self._new(table)} BY NAME SELECT * FROM fresh_{table}")

    def load(self, table: str, patients: Iterable[str]) -> None:
        """Make `table`: every state of all that ever was about one of `patients`."""
        key, columns = TABLES[table].key, ", ".join(columns_of(table))
        wanted = {"ids": sorted(set(patients))}
        ours = "SELECT unnest($ids::VARCHAR[])"
        # Things that came to these patients since may have been about others before.
        self._con.execute(
            f"""CREATE OR REPLACE TEMP TABLE own_keys AS
            SELECT DISTINCT {key} AS key FROM {self._new(table)} WHERE patient_id IN ({ours})""",
            wanted,
        )
        (came,) = self._con.execute("SELECT list(key) FROM own_keys").fetchall()[0]
        others = sorted(set(self.owners(table, came)) - set(wanted["ids"])) if came else []
        owners = "', '".join(owner.replace("'", "''") for owner in (*wanted["ids"], *others))
        self._con.execute(
            f"""CREATE OR REPLACE TEMP TABLE {table} AS
            WITH copied AS (
                SELECT * FROM {self._copy(table)}
                WHERE owner IN ('{owners}') AND (owner IN ({ours}) OR {key} IN (SELECT key FROM own_keys)))
            SELECT DISTINCT {columns} FROM copied
            UNION ALL SELECT {columns} FROM {self._new(table)}
            WHERE {key} IN (SELECT key FROM own_keys) OR {key} IN (SELECT {key} FROM copied)""",
            wanted,
        )

    def booked_between(self, spans: Sequence[tuple[Any, Any]]) -> list[str]:
        """Patients of bookings that were made within one of the `spans` of moments."""
        if not spans:
            return []
        found = self._con.execute(
            f"""SELECT DISTINCT patient_id
            FROM (SELECT patient_id, booked_at FROM {self._copy("appointments")} UNION ALL
                  SELECT patient_id, booked_at FROM {self._new("appointments")}) AS b
            JOIN (SELECT unnest($firsts::TIMESTAMPTZ[]) AS first, unnest($lasts::TIMESTAMPTZ[]) AS last) AS spans
              ON b.booked_at BETWEEN spans.first AND spans.last
            WHERE b.booked_at BETWEEN $low::TIMESTAMPTZ AND $high::TIMESTAMPTZ""",
            {
                "firsts": [first for first, _ in spans],
                "lasts": [last for _, last in spans],
                "low": min(first for first, _ in spans),
                "high": max(last for _, last in spans),
            },
        )
        return [patient for (patient,) in found.fetchall()]

    def outcomes(self) -> str:
        """SQL of every visit's first outcome in the practice (`features.schedule.outcomes_sql`)."""
        fresh = schedule.outcomes_sql(self._new("appointments"), self._zone)
        copied = self._file("appointments", "outcomes")
        if copied is None:
            return fresh
        old = f"SELECT * FROM read_parquet('{_quoted(copied)}')"
        return f"""
            {old} WHERE key_hash NOT IN (SELECT key_hash FROM ({fresh}))
            UNION ALL
            SELECT * FROM (SELECT * FROM ({old}) WHERE key_hash IN (SELECT key_hash FROM ({fresh}))
                           UNION ALL ({fresh}))
            QUALIFY row_number() OVER (PARTITION BY key_hash ORDER BY known_at) = 1"""

    def _keep_in_step(self, table: str) -> None:
        files = self._store.files(table, self._versions[table]) if table in self._versions else []
        copy = self._copied.get(table)
        names = {Path(file).name for file in files}
        is_same = copy is not None and copy["made_by"] == self._made_by() and set(copy["files"]) <= names
        added = [name for name in sorted(names) if not (is_same and copy and name in set(copy["files"]))]
        if added and (not is_same or self._is_much(table, added, len(names))):
            self._copy_anew(table, sorted(names))
            added = []
        rows = parquet_sql(self._store.root, table, added)
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE new_{table} AS {rows}")

    def _is_much(self, table: str, added: Sequence[str], total: int) -> bool:
        if len(added) > MOST_FILES:
            return True
        sizes = {name: (self._store.root / table / name).stat().st_size for name in added}
        copied = self._file(table, "rows")
        return sum(sizes.values()) > max(MOST_BYTES, MOST_SHARE * (copied.stat().st_size if copied else 0))

    def _copy_anew(self, table: str, names: Sequence[str]) -> None:
        """Write the copy beside the old one, then say so: whoever reads the old one goes on."""
        number = self._copied.get(table, {"number": 0})["number"] + 1
        folder = self._root / table / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        con = self._con.cursor()
        con.execute(f"SET memory_limit = '{MEMORY}'; SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
        rows, key = parquet_sql(self._store.root, table, names), TABLES[table].key
        self._write(
            con,
            f"SELECT DISTINCT hash({key}) AS key_hash, patient_id AS owner FROM ({rows}) ORDER BY key_hash",
            folder / "keys",
        )
        keys = f"read_parquet('{_quoted(folder / 'keys.parquet')}')"
        con.execute(
            f"""CREATE OR REPLACE TEMP TABLE moved AS SELECT key_hash, owner FROM {keys}
            WHERE key_hash IN (SELECT key_hash FROM {keys} GROUP BY key_hash HAVING count(*) > 1)"""
        )
        self._write(
            con,
            f"""SELECT *, patient_id AS owner FROM ({rows}) WHERE hash({key}) NOT IN (SELECT key_hash FROM moved)
            UNION ALL SELECT r.*, moved.owner FROM ({rows}) AS r JOIN moved ON moved.key_hash = hash(r.{key})
            ORDER BY owner""",
            folder / "rows",
        )
        if table == "appointments":
            self._write(con, f"{schedule.outcomes_sql(f'({rows})', self._zone)} ORDER BY known_at", folder / "outcomes")
        con.close()
        self._copied[table] = {"number": number, "files": list(names), "made_by": self._made_by()}
        fresh = self._root / "mirror.new"
        fresh.write_text(json.dumps(self._copied), encoding="utf-8")
        fresh.replace(self._root / "mirror.json")
        for old in (self._root / table).iterdir():
            if int(old.name) < number - 1:
                shutil.rmtree(old, ignore_errors=True)

    def _write(self, con: duckdb.DuckDBPyConnection, sql: str, path: Path) -> None:
        con.execute(f"COPY ({sql}) TO '{_quoted(path)}.parquet' (FORMAT parquet, ROW_GROUP_SIZE {GROUP_ROWS})")

    def _made_by(self) -> str:
        return f"{duckdb.__version__} {self._zone}"  # hashes are those of one version

    def _file(self, table: str, what: str) -> Path | None:
        copy = self._copied.get(table)
        return self._root / table / str(copy["number"]) / f"{what}.parquet" if copy else None

    def _copy(self, table: str) -> str:
        file = self._file(table, "rows")
        return (
            f"read_parquet('{_quoted(file)}')" if file else f"(SELECT *, patient_id AS owner FROM new_{table} LIMIT 0)"
        )

    def _keys(self, table: str) -> str:
        file = self._file(table, "keys")
        return f"read_parquet('{_quoted(file)}')" if file else "(SELECT 0::UBIGINT AS key_hash, '' AS owner LIMIT 0)"

    def _new(self, table: str) -> str:
        return f"new_{table}"


def _quoted(path: Path) -> str:
    return path.as_posix().replace("'", "''")
