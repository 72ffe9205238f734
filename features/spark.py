"""The same families on Spark, for when one machine is too small: their SQL, translated, over the same facts.

Facts are made by DuckDB, bucket of patients by bucket (`features.buckets`),
and written as Parquet to a folder that all workers see. Spark then computes
all buckets at once. Families are pure functions of ``spine`` and facts, both
in whole numbers, so the values agree with DuckDB's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import sqlglot
from sqlglot import exp

from features.errors import SettingsError
from features.patients import Bucket
from features.settings import Settings
from features.spec import Family

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SHUFFLE_PARTITIONS_PER_CORE = 2
PARTITION = "yyyyMMdd'T'HHmmss'Z'"  # of a snapshot's folder, as `features.snapshots` names it
SETUP: Mapping[str, str] = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # else nanoseconds of no zone
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}


def spark_sql(family: Family) -> str:
    """The family's SQL in Spark's dialect; a number with a decimal point is a double there too, never a DECIMAL."""
    tree = sqlglot.parse_one(family.sql, read="duckdb")
    return tree.transform(_as_double).sql(dialect="spark")


def tables_of(family: Family) -> set[str]:
    """Tables that the family's SQL reads: ``spine`` and what was made beside it."""
    tree = sqlglot.parse_one(family.sql, read="duckdb")
    return {table.name for table in tree.find_all(exp.Table)} - {part.alias for part in tree.find_all(exp.CTE)}


def write_facts(con: duckdb.DuckDBPyConnection, families: Iterable[Family], bucket: Bucket, folder: Path) -> None:
    """Write what `families` read of one bucket as Parquet.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        After `features.patients.attach_patients` for the bucket.
    families : iterable of Family
        Whose tables are written.
    bucket : Bucket
        Patients are numbered within it; the written numbers differ between buckets.
    folder : Path
        Gets one folder per table and one file per bucket; a table about no patient is written once.
    """
    for table in sorted({name for family in families for name in tables_of(family)}):
        columns = con.sql(f"SELECT * FROM {table} LIMIT 0").columns
        if "patient_no" not in columns and bucket.number > 0:
            continue
        number = f"REPLACE (CAST(patient_no AS BIGINT) * {bucket.of} + {bucket.number} AS patient_no)"
        place = folder / table / f"bucket_{bucket.number:04d}.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        con.execute(
            f"COPY (SELECT * {number if 'patient_no' in columns else ''} FROM {table}) "
            f"TO '{place.as_posix().replace(chr(39), chr(39) * 2)}' (FORMAT parquet)"
        )


def write_families(settings: Settings, families: Mapping[str, Family], facts: Path, target: Path) -> None:
    """Compute `families` on Spark and write them, partitioned by snapshot.

    Parameters
    ----------
    settings : Settings
        ``spark.master`` says where it runs.
    families : mapping of str to Family
        By name.
    facts : Path
        What `write_facts` wrote; every worker must see it under this name.
    target : Path
        Gets ``<family>/snapshot=.../``.

    Raises
    ------
    SettingsError
        If pyspark or Java is missing, or the master does not answer.
    """
    with session(settings) as spark:
        for table in sorted({name for family in families.values() for name in tables_of(family)}):
            spark.read.parquet(_uri(facts / table)).createOrReplaceTempView(table)
        for name, family in families.items():
            rows = spark.sql(f'SELECT *, date_format(as_of, "{PARTITION}") AS snapshot FROM ({spark_sql(family)})')
            rows.repartition("snapshot").write.mode("overwrite").partitionBy("snapshot").parquet(_uri(target / name))


def configuration(settings: Settings) -> dict[str, str]:
    """What a Spark session is opened with."""
    return {"spark.master": settings.spark.master, "spark.app.name": "revisit features", **SETUP}


@contextmanager
def session(settings: Settings) -> Iterator[SparkSession]:
    """Open Spark on the master of the settings; one that is already open is used and left open.

    Raises
    ------
    SettingsError
        If pyspark or Java is missing, or the master does not answer.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise SettingsError("--engine spark needs pyspark; install it with `pip install 'revisit[spark]'`.") from None
    master = settings.spark.master
    before = SparkSession.getActiveSession()
    try:
        builder = SparkSession.builder
        for name, value in configuration(settings).items():
            builder = builder.config(name, value)
        spark = before or builder.getOrCreate()
        cores = spark.sparkContext.defaultParallelism
        spark.conf.set("spark.sql.shuffle.partitions", str(SHUFFLE_PARTITIONS_PER_CORE * cores))
    except (PySparkException, OSError) as error:
        raise SettingsError(
            f"Spark does not start on [spark] master = {master} ({type(error).__name__}); "
            "it needs Java 17 or newer (set JAVA_HOME) and a master that answers."
        ) from error
    try:
        yield spark
    finally:
        if before is None:
            spark.stop()


def _as_double(node: exp.Expression) -> exp.Expression:
    is_decimal = isinstance(node, exp.Literal) and not node.is_string and "." in node.name and "e" not in node.name
    return exp.Literal.number(f"{node.name}e0") if is_decimal else node


def _uri(path: Path) -> str:
    return f"file://{path.absolute().as_posix()}"  # Hadoop takes names as they are, not percent-encoded
