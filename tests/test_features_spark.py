"""Features on Spark are those of DuckDB, on one machine and on a standalone master with two workers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from features.families import FAMILIES
from features.settings import Paths, Settings, Spark
from features.snapshots import build_snapshots, folder_of, snapshot_moments
from features.spark import spark_sql, tables_of

JAVA = pytest.mark.skipif(
    "REVISIT_SPARK_TESTS" not in os.environ or (shutil.which("java") is None and "JAVA_HOME" not in os.environ),
    reason="a Spark cluster needs Java 17 and minutes of time: set REVISIT_SPARK_TESTS",
)
KEYS = ["patient_id", "as_of"]
TOLERANCE = 1e-9


def dataset(settings: Settings, family: str) -> pd.DataFrame:
    folder = folder_of(settings, family).as_posix().replace("'", "''")
    rows = duckdb.sql(f"SELECT * FROM read_parquet('{folder}/*/*.parquet', hive_partitioning = false)").df()
    return rows.sort_values(KEYS).reset_index(drop=True)


@pytest.fixture
def cluster(repository: Path, tmp_path: Path) -> Iterator[str]:
    """A standalone master with two workers of one core each."""
    import pyspark

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    master, start = f"spark://127.0.0.1:{port}", Path(pyspark.__path__[0]) / "bin" / "spark-class"
    ours = ["--host", "127.0.0.1", "--webui-port", "0"]
    commands = [["master.Master", *ours, "--port", str(port)]]
    commands += [
        ["worker.Worker", *ours, "-c", "1", "-m", "1g", "-d", str(tmp_path / f"worker{n}"), master] for n in range(2)
    ]
    log = (tmp_path / "cluster.log").open("w")
    environ = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
    running = [
        subprocess.Popen([start, f"org.apache.spark.deploy.{name}", *rest], stdout=log, stderr=log, env=environ)
        for name, *rest in commands
    ]
    try:
        for _ in range(300):
            if (tmp_path / "cluster.log").read_text().count("Registering worker") >= 2:
                break
            time.sleep(0.2)
        yield master
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(timeout=30)
        log.close()


@JAVA
def test_a_cluster_computes_what_duckdb_computes(
    small_practice: Any, cluster: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every feature of every family, in buckets, on a master with two workers."""
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setattr("features.snapshots.PATIENTS_PER_BUCKET", 150)
    ours = small_practice.settings
    moments = snapshot_moments(date(2026, 1, 1), date(2026, 11, 1), "month", ours)[::5]
    theirs = ours.model_copy(
        update={"paths": Paths(data=tmp_path / "spark '2'", mlruns=tmp_path / "runs"), "spark": Spark(master=cluster)}
    )
    theirs.paths.data.mkdir()
    (theirs.paths.data / "records").symlink_to(ours.paths.records)
    build_snapshots(ours, moments)
    made = build_snapshots(theirs, moments, engine="spark")
    assert made.computed == len(moments) == 3
    for name, family in FAMILIES.items():
        expected, found = (dataset(settings, name) for settings in (ours, theirs))
        expected = expected[expected["as_of"].isin(found["as_of"])].reset_index(drop=True)
        assert len(found) > 100
        assert list(found.columns) == list(expected.columns)
        pd.testing.assert_frame_equal(found[KEYS], expected[KEYS], check_dtype=False)
        for feature in family.features:
            np.testing.assert_allclose(
                found[feature.name], expected[feature.name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=feature.name
            )


def test_every_family_can_be_translated() -> None:
    for family in FAMILIES.values():
        assert "spine" in tables_of(family)
        assert not tables_of(family) & set(family.parts)
        assert "epoch_us" not in spark_sql(family).lower()


def test_a_master_is_checked() -> None:
    with pytest.raises(ValueError, match="master"):
        Spark(master="http://somewhere")
