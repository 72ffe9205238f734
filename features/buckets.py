"""The records cut into buckets of patients, once per build: each bucket then reads its own part alone.

Patients are independent of each other but for those who ever shared a
household, so households stay together and a part holds everybody whom its
patients' features look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb

from features.families import columns_read
from features.patients import Bucket, attach_members
from features.records.tables import TABLES
from features.spec import Family

ROWS_HELD = 50_000  # per part and thread while parts are written


def choose_buckets(con: duckdb.DuckDBPyConnection, patients_per_bucket: int) -> list[Bucket]:
    """Divide the patients, households whole, into buckets of about `patients_per_bucket`.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With ``patients`` attached. Gets ``bucket_homes``: one row per patient
        (member, bucket).
    patients_per_bucket : int
        Memory grows with it.

    Returns
    -------
    list of Bucket
    """
    (patients,) = con.execute("SELECT count(DISTINCT patient_id) FROM patients").fetchall()[0]
    of = max(1, -(-patients // patients_per_bucket))
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE bucket_homes AS
        SELECT patient_id AS member, hash(coalesce(min(household_id), patient_id)) % {of} AS bucket
        FROM patients GROUP BY patient_id"""
    )
    return [Bucket(number, of) for number in range(of)]


def write_parts(
    con: duckdb.DuckDBPyConnection, buckets: Sequence[Bucket], families: Iterable[Family], folder: Path
) -> dict[str, tuple[str, ...]]:
    """Write what `families` read, divided by bucket, in one pass over the records.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        With the record tables attached and ``bucket_homes``.
    buckets : sequence of Bucket
        Of `choose_buckets`.
    families : iterable of Family
        Whose columns are kept.
    folder : Path
        Gets one folder per table and bucket.

    Returns
    -------
    dict of str to tuple of str
        Columns of the tables that were divided: those about patients.
    """
    attach_members(con, buckets)
    con.execute(f"SET partitioned_write_flush_threshold = {ROWS_HELD}")
    tables: dict[str, tuple[str, ...]] = {"patients": tuple(TABLES["patients"].column_names)}
    for table, columns in columns_read(families).items():
        if "patient_id" in TABLES[table].column_names:
            tables.setdefault(table, tuple(dict.fromkeys((TABLES[table].key, "patient_id", *columns))))
    for table, columns in tables.items():
        folder.mkdir(parents=True, exist_ok=True)
        con.execute(
            f"COPY ({_divided(con, table, columns)}) TO '{_quoted(folder / table)}' "
            "(FORMAT parquet, PARTITION_BY (bucket), OVERWRITE_OR_IGNORE)"
        )
    return tables


def attach_part(
    con: duckdb.DuckDBPyConnection, bucket: Bucket, tables: dict[str, tuple[str, ...]], folder: Path
) -> None:
    """Make each of `tables` a view of the bucket's part, in place of the whole table."""
    for table, columns in tables.items():
        part = folder / table / f"bucket={bucket.number}"
        chosen, source = ", ".join((*columns, "known_at", "recorded_at")), f"read_parquet('{_quoted(part)}/*.parquet')"
        if not part.exists():
            source = f"read_parquet('{_quoted(folder / table)}/*/*.parquet') WHERE false"
            if not any((folder / table).rglob("*.parquet")):
                continue  # nothing is recorded: the whole table is as empty
        con.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS SELECT {chosen} FROM {source}")


def _divided(con: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str]) -> str:
    """SQL of a table's rows with their bucket; a thing's states stay together, whomever they were about."""
    key = TABLES[table].key
    chosen = ", ".join(f"t.{column}" for column in (*columns, "known_at", "recorded_at"))
    ours = f"SELECT {chosen}, m.bucket FROM {table} t JOIN bucket_members m ON m.member = t.patient_id"
    if key == "patient_id":
        return ours
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE strays AS SELECT DISTINCT {key} AS stray FROM {table} WHERE hash({key}) IN (
            SELECT hash({key}) FROM {table} GROUP BY hash({key})
            HAVING min(hash(patient_id)) <> max(hash(patient_id)) OR count(patient_id) < count(*))"""
    )
    if not con.execute("SELECT 1 FROM strays LIMIT 1").fetchall():
        return ours
    theirs = f"""SELECT {chosen}, b.bucket FROM {table} t JOIN (
        SELECT DISTINCT u.{key} AS stray, m.bucket FROM {table} u JOIN bucket_members m ON m.member = u.patient_id
        WHERE u.{key} IN (SELECT stray FROM strays)) b ON b.stray = t.{key}"""
    return f"{ours} WHERE t.{key} NOT IN (SELECT stray FROM strays) UNION ALL {theirs}"


def _quoted(path: Path) -> str:
    return path.as_posix().replace("'", "''")
