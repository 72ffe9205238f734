"""Features on Spark are those of DuckDB, on one machine and on a standalone master with two workers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from features.contracts import LAPSE
from features.families import FAMILIES
from features.settings import Paths, Settings, Spark
from features.snapshots import PLAN_FAMILIES, build_snapshots, folder_of, snapshot_moments
from features.spark import session, spark_sql, tables_of
from features.spec import Family
from features.store import register

JAVA = pytest.mark.skipif(
    shutil.which("java") is None and "JAVA_HOME" not in os.environ,
    reason="Spark needs Java 17 or newer (default-jre-headless), on the PATH or named by JAVA_HOME",
)
# What a Java machine spends on making code faster pays in minutes, not for so little.
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
TOLERANCE = 1e-9


def moments_of(settings: Settings) -> list[datetime]:
    """Three snapshots, five months apart."""
    return snapshot_moments(date(2026, 1, 1), date(2026, 11, 1), "month", settings)[::5]


def dataset(settings: Settings, family: Family) -> pd.DataFrame:
    folder = folder_of(settings, family.name).as_posix().replace("'", "''")
    rows = duckdb.sql(f"SELECT * FROM read_parquet('{folder}/*/*.parquet', hive_partitioning = false)").df()
    return rows.sort_values([*family.ids, "as_of"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A standalone master with two workers of one core each."""
    import pyspark

    folder = tmp_path_factory.mktemp("cluster")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    master, start = f"spark://127.0.0.1:{port}", Path(pyspark.__path__[0]) / "bin" / "spark-class"
    ours = ["--host", "127.0.0.1", "--webui-port", "0"]
    commands = [["master.Master", *ours, "--port", str(port)]]
    commands += [
        ["worker.Worker", *ours, "-c", "1", "-m", "1g", "-d", str(folder / f"worker{n}"), master] for n in range(2)
    ]
    with pytest.MonkeyPatch.context() as patch, (folder / "cluster.log").open("w") as log:
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("JAVA_TOOL_OPTIONS", QUICK_JAVA)
        environ = os.environ | {"SPARK_DAEMON_MEMORY": "256m"}
        running = [
            subprocess.Popen([start, f"org.apache.spark.deploy.{name}", *rest], stdout=log, stderr=log, env=environ)
            for name, *rest in commands
        ]
        try:
            for _ in range(300):
                if (folder / "cluster.log").read_text().count("Registering worker") >= 2:
                    break
                time.sleep(0.2)
            yield master
        finally:
            for process in reversed(running):
                process.terminate()
            for process in running:
                process.wait(timeout=30)


@pytest.fixture(scope="module")
def spark(cluster: str) -> Iterator[Settings]:
    """Settings of the cluster, with a session on it open: what follows uses it and leaves it open."""
    settings = Settings(spark=Spark(master=cluster))
    with session(settings):
        yield settings


@JAVA
def test_a_cluster_computes_what_duckdb_computes(
    small_practice: Any, spark: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every feature of every family, those of plans too, in buckets, on a master with two workers."""
    monkeypatch.setattr("features.snapshots.PATIENTS_PER_BUCKET", 150)
    ours = small_practice.settings
    theirs = ours.model_copy(
        update={"paths": Paths(data=tmp_path / "spark '2'", mlruns=tmp_path / "runs"), "spark": spark.spark}
    )
    theirs.paths.data.mkdir()
    (theirs.paths.data / "records").symlink_to(ours.paths.records)
    for families in (FAMILIES, PLAN_FAMILIES):
        build_snapshots(ours, moments_of(ours), families)
        assert build_snapshots(theirs, moments_of(ours), families, engine="spark").computed == len(moments_of(ours))
    for family in (FAMILIES | PLAN_FAMILIES).values():
        expected, found = (dataset(settings, family) for settings in (ours, theirs))
        expected = expected[expected["as_of"].isin(found["as_of"])].reset_index(drop=True)
        assert len(found) > 100
        assert list(found.columns) == list(expected.columns)
        keys = [*family.ids, "as_of"]
        pd.testing.assert_frame_equal(found[keys], expected[keys], check_dtype=False)
        for feature in family.features:
            np.testing.assert_allclose(
                found[feature.name], expected[feature.name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=feature.name
            )


@JAVA
@pytest.mark.filterwarnings("ignore:The spark offline store is an experimental:RuntimeWarning")
def test_feast_joins_on_spark_what_it_joins_on_duckdb(small_practice: Any, spark: Settings, tmp_path: Path) -> None:
    """The point-in-time join of all features of a contract, at moments up to two months after a snapshot."""
    ours = small_practice.settings
    build_snapshots(ours, moments_of(ours))
    draw = np.random.default_rng(7)
    asked = dataset(ours, FAMILIES["attendance"])[["patient_id", "as_of"]].sample(2000, replace=True, random_state=7)
    asked["event_timestamp"] = asked.pop("as_of") + pd.to_timedelta(draw.integers(0, 60 * 24, len(asked)), unit="h")
    asked["row_number"] = range(len(asked))
    found = []
    for engine in ("duckdb", "spark"):
        settings = ours.model_copy(
            update={
                "paths": Paths(data=tmp_path / engine),
                "spark": Spark(master=spark.spark.master, joins=engine == "spark"),
            }
        )
        settings.paths.data.mkdir()
        settings.paths.features.symlink_to(ours.paths.features)
        store = register(settings)
        job = store.get_historical_features(entity_df=asked.copy(), features=store.get_feature_service("lapse"))
        found.append(job.to_df().set_index("row_number").sort_index()[list(LAPSE.feature_names)].astype(float))
    duck, other = found
    assert 0.05 < duck["visits_kept_count_ever"].isna().mean() < 0.5, "beyond the snapshots' span nothing is joined"
    pd.testing.assert_frame_equal(other, duck, check_exact=True)


def test_every_family_can_be_translated() -> None:
    for family in (FAMILIES | PLAN_FAMILIES).values():
        assert family.spine in tables_of(family)
        assert not tables_of(family) & set(family.parts)
        assert "epoch_us" not in spark_sql(family).lower()


def test_a_master_is_checked() -> None:
    with pytest.raises(ValueError, match="master"):
        Spark(master="http://somewhere")
