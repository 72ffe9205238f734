"""What two years of monthly snapshots of all patients' features cost, and how that grows.

A bulk history (`benchmarks.bulk_history`) of 20,000 and of 200,000 patients is built with
`features.snapshots`, every step in a process of its own. The limit is DuckDB scanning the same
records once, sorting them by patient and time, and writing a table of the result's size. Peers:
pandas, one group-by per feature and snapshot, on a hundredth of the patients; Featuretools, if a
Python that has it is named in REVISIT_FEATURETOOLS (it needs setuptools below 80, so it has a
Python of its own: `pip install featuretools 'setuptools<80' 'pandas<3' pyarrow`).

`REVISIT_BULK` names the folder of a bulk history of the large size that is there already.

Before the JSON line comes the sizing table of `docs/how-to/spark.md`, in Markdown.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.bulk_history import NOW, history_at, write_history
from benchmarks.harness import arguments, emit
from benchmarks.import_speed import Used, measured

PATIENTS, QUICK_PATIENTS = 200_000, 600
MONTHS, QUICK_MONTHS = 24, 3
SIZES = (20_000, 200_000, 3_000_000, 30_000_000, 300_000_000)
PANDAS_FEATURES = 10
TARGETS: dict[str, tuple[str, float]] = {
    "ratio_to_scan_sort": ("<=", 10.0),
    "peak_gb": ("<=", 2.0),
    "capped_peak_gb": ("<=", 2.0),
    "growth_10x": ("<=", 11.0),
    "night_share": ("<=", 0.06),
}
CAPPED = {"PATIENTS_PER_BUCKET": 10_000, "MEMORY": "600MB"}
FEATURETOOLS = """
import json, resource, sys, warnings
warnings.filterwarnings("ignore")
import featuretools as ft, pandas as pd
visits = pd.read_parquet(sys.argv[1]); cutoffs = pd.read_parquet(sys.argv[2])
es = ft.EntitySet("practice")
es.add_dataframe(dataframe_name="visits", dataframe=visits, index="visit", time_index="time")
es.normalize_dataframe("visits", "patients", "patient_id", make_time_index=False)
before = resource.getrusage(resource.RUSAGE_SELF)
matrix, _ = ft.dfs(entityset=es, target_dataframe_name="patients", cutoff_time=cutoffs, max_depth=1,
                   agg_primitives=["count", "mean", "sum", "max", "min", "std", "time_since_last"])
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([after.ru_utime - before.ru_utime, len(matrix) * matrix.shape[1]]))
"""


def main() -> None:
    """Run and print."""
    told = arguments(__doc__ or "")
    patients, months = (QUICK_PATIENTS, QUICK_MONTHS) if told.quick else (PATIENTS, MONTHS)
    with tempfile.TemporaryDirectory(prefix="feature-build-") as name:
        large, small = Path(name) / "large", Path(name) / "small"
        measured(history_at, large, patients, told.seed)
        measured(generate, small, patients // 10, told.seed)
        capped = measured(build, small, months, CAPPED)
        tenth = measured(build, small, months, {})
        full = measured(build, large, months, {})
        week = measured(build_one_more, large)
        limit = measured(scan_sort_write, large)
        peers, size = peers_of(small, months, patients // 10), size_of(large)
    cells = size["rows"] * size["features"]
    metrics = {
        "cpu_s": full.cpu_s,
        "rows_per_cpu_s": size["rows"] / full.cpu_s,
        "ratio_to_scan_sort": full.cpu_s / limit.cpu_s,
        "peak_gb": full.peak_gb,
        "capped_peak_gb": capped.peak_gb,
        "growth_10x": full.cpu_s / tenth.cpu_s,
        "night_cpu_s": week.cpu_s,
        "night_share": week.cpu_s / full.cpu_s,
        "bytes_per_patient_year": size["bytes"] / size["patient_years"],
        "cpu_ms_per_patient_snapshot": 1000 * full.cpu_s / size["rows"],
        "patients": float(patients),
        **size,
        **{f"ratio_to_{peer}": cells / full.cpu_s / told_["values_per_cpu_s"] for peer, told_ in peers.items()},
    }
    print(sizing(metrics))
    figures: dict[str, dict[str, float | list[float]]] = {peer: dict(one) for peer, one in peers.items()}
    figures["duckdb_scan_sort_write"] = {"cpu_s": limit.cpu_s, "peak_gb": limit.peak_gb}
    emit("feature_build", metrics, {} if told.quick else TARGETS, figures)


def sizing(metrics: Mapping[str, float]) -> str:
    """Markdown: disk and CPU by number of patients, in proportion to what was measured."""
    years = metrics["patient_years"] / metrics["patients"]
    snapshot = metrics["result_bytes"] / metrics["rows"]
    lines = [
        "| patients | records | one snapshot | CPU hours a night | CPU hours for 24 months |",
        "|---|---|---|---|---|",
    ]
    for patients in SIZES:
        records_gb = patients * years * metrics["bytes_per_patient_year"] / 1e9
        night_h = patients * metrics["night_cpu_s"] / metrics["patients"] / 3600
        all_h = patients * metrics["cpu_s"] / metrics["patients"] / 3600
        cells = f"{patients:,}", f"{records_gb:,.1f} GB", f"{patients * snapshot / 1e9:,.1f} GB"
        lines.append(f"| {' | '.join(cells)} | {night_h:,.2f} | {all_h:,.1f} |")
    return "\n".join(lines)


def generate(folder: Path, patients: int, seed: int) -> None:
    """Write the history."""
    write_history(folder, patients=patients, seed=seed)


def settings_of(folder: Path) -> Any:
    """Of the practice that `generate` wrote."""
    from features.settings import Paths, Settings

    return Settings(paths=Paths(data=folder / "data", mlruns=folder / "mlruns"))


def moments_of(folder: Path, months: int) -> list[Any]:
    """The last first-days of months before the history ends."""
    from features.snapshots import snapshot_moments

    today = NOW.date()
    return snapshot_moments(date(today.year - 3, 1, 1), today, "month", settings_of(folder))[-months:]


def build(folder: Path, months: int, limits: dict[str, Any]) -> None:
    """Compute all snapshots anew."""
    import shutil

    import features.snapshots

    settings = settings_of(folder)
    shutil.rmtree(settings.paths.features, ignore_errors=True)
    for name, value in limits.items():
        setattr(features.snapshots, name, value)
    features.snapshots.build_snapshots(settings, moments_of(folder, months))


def build_one_more(folder: Path) -> None:
    """Compute one more week on top of what is there."""
    from features.snapshots import build_snapshots

    build_snapshots(settings_of(folder), [*moments_of(folder, 1), NOW - timedelta(days=1)])


def scan_sort_write(folder: Path) -> None:
    """Do what any way must at least do: read the records, sort them, write a table of the result's size."""
    from features.duck import connect
    from features.families import FAMILIES, columns_read
    from features.patients import tables_read
    from features.records.store import RecordStore
    from features.records.tables import TABLES

    settings = settings_of(folder)
    with connect(folder) as con:
        con.execute("SET memory_limit = '1200MB'; SET preserve_insertion_order = false")
        RecordStore(settings.paths.records).attach(con, tables_read(FAMILIES.values()))
        for table, columns in columns_read(FAMILIES.values()).items():
            if "patient_id" in TABLES[table].column_names:
                wanted = ", ".join(dict.fromkeys(("patient_id", "known_at", *columns)))
                con.execute(f"CREATE TABLE sorted AS SELECT {wanted} FROM {table} ORDER BY patient_id, known_at")
                con.execute("DROP TABLE sorted")
        for family in FAMILIES:
            rows = f"read_parquet('{settings.paths.features}/{family}/*/*.parquet')"
            con.execute(f"COPY (SELECT * FROM {rows}) TO '{folder}/{family}.parquet' (COMPRESSION zstd)")


def size_of(folder: Path) -> dict[str, float]:
    """Rows and features that came out; bytes of records; years that patients were known."""
    from features.duck import connect
    from features.families import FAMILIES
    from features.records.store import RecordStore

    settings = settings_of(folder)
    with connect() as con:
        RecordStore(settings.paths.records).attach(con, ["patients"])
        (years,) = con.execute(
            "SELECT sum(epoch($now::TIMESTAMPTZ - first)) / 31557600 "
            "FROM (SELECT min(known_at) AS first FROM patients GROUP BY patient_id)",
            {"now": NOW},
        ).fetchall()[0]
        family = next(iter(FAMILIES))
        found = f"read_parquet('{settings.paths.features}/{family}/*/*.parquet')"
        (rows,) = con.execute(f"SELECT count(*) FROM {found} WHERE as_of <= $last", {"last": NOW}).fetchall()[0]
    return {
        "rows": rows,
        "features": float(sum(len(one.features) for one in FAMILIES.values())),
        "bytes": float(sum(file.stat().st_size for file in settings.paths.records.rglob("*.parquet"))),
        "result_bytes": float(sum(file.stat().st_size for file in settings.paths.features.rglob("*.parquet"))),
        "patient_years": years,
    }


def peers_of(folder: Path, months: int, patients: int) -> dict[str, dict[str, float]]:
    """Values per CPU second of pandas and, where it is there, of Featuretools."""
    tables = folder / "peers"
    measured(export, folder, months, patients)
    pandas: Used = measured(with_pandas, tables)
    rows = json.loads((tables / "rows.json").read_text())
    peers = {"pandas": {"cpu_s": pandas.cpu_s, "values_per_cpu_s": rows * PANDAS_FEATURES / pandas.cpu_s}}
    python = os.environ.get("REVISIT_FEATURETOOLS")
    if python:
        command = [python, "-c", FEATURETOOLS, str(tables / "visits.parquet"), str(tables / "few.parquet")]
        cpu_s, values = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        peers["featuretools"] = {"cpu_s": cpu_s, "values_per_cpu_s": values / cpu_s}
    return peers


def export(folder: Path, months: int, patients: int) -> None:
    """Visits and moments of a tenth of the patients, as plain tables."""
    from features.duck import connect
    from features.records.store import RecordStore

    tables = folder / "peers"
    tables.mkdir()
    moments = moments_of(folder, months)
    with connect() as con:
        RecordStore(settings_of(folder).paths.records).attach(con, ["appointments"])
        con.execute(
            f"""COPY (SELECT row_number() OVER () AS visit, patient_id, starts_at::TIMESTAMP AS time,
                known_at::TIMESTAMP AS known, status, duration_minutes AS minutes FROM appointments
                WHERE status IN ('completed', 'no_show') AND CAST(substr(patient_id, 2) AS BIGINT) <= {patients // 10})
                TO '{tables}/visits.parquet'"""
        )
        patients_seen = f"SELECT DISTINCT patient_id FROM '{tables}/visits.parquet'"
        cutoffs = f"""SELECT patient_id, as_of::TIMESTAMP AS time
            FROM ({patients_seen}), (SELECT unnest($moments::TIMESTAMPTZ[]) AS as_of)"""
        con.execute(f"COPY ({cutoffs}) TO '{tables}/cutoffs.parquet'", {"moments": moments})
        con.execute(f"COPY (FROM '{tables}/cutoffs.parquet' LIMIT 1000) TO '{tables}/few.parquet'")
        (rows,) = con.execute(f"SELECT count(*) FROM '{tables}/cutoffs.parquet'").fetchall()[0]
    (tables / "rows.json").write_text(json.dumps(rows))


def with_pandas(tables: Path) -> None:
    """Ten features of `PANDAS_FEATURES`, grouped by patient once per snapshot."""
    import pandas as pd

    visits, cutoffs = (pd.read_parquet(tables / f"{name}.parquet") for name in ("visits", "cutoffs"))
    visits = visits.sort_values(["patient_id", "time"])
    visits["kept"] = visits["status"].eq("completed")
    visits["gap"] = visits.groupby("patient_id")["time"].diff().dt.days
    made = []
    for moment, spine in cutoffs.groupby("time"):
        seen = visits[visits["known"] < moment]
        kept = seen[seen["kept"]]
        rows = spine.set_index("patient_id")
        by = kept.groupby("patient_id")
        for days in (90, 180, 365, 730):
            recent = kept[kept["time"] > moment - pd.Timedelta(days=days)]
            rows[f"kept_{days}"] = recent.groupby("patient_id").size()
        rows["kept"], rows["missed"] = by.size(), seen[~seen["kept"]].groupby("patient_id").size()
        rows["since_last"] = (moment - by["time"].max()).dt.days
        rows["gap_median"], rows["gap_max"] = by["gap"].median(), by["gap"].max()
        rows["minutes"] = by["minutes"].sum()
        made.append(rows)
    pd.concat(made).to_parquet(tables / "pandas.parquet")


if __name__ == "__main__":
    main()
