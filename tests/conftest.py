"""What several test files share: where things are, small practices, ways to import them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from features.duck import connect
from features.records.landing import ImportReport, import_files
from features.records.mapping import load_mapping
from features.records.schema import SQL_TYPES
from features.records.store import QUARANTINE, RecordStore
from features.records.tables import TABLES
from features.settings import NoShow, Paths, Practice, Settings
from features.simulator import PracticePlan, simulate, write_export

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)  # a Tuesday, half past nine in Shanghai

hypothesis_settings.register_profile(
    "revisit", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("revisit")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data(repository: Path) -> Path:
    """Folder of the real public data sets, which are not part of the repository."""
    return Path(os.environ.get("REVISIT_SHARED", repository.parent / "shared")) / "data"


@pytest.fixture(scope="session")
def brazil_csv(shared_data: Path) -> Path:
    path = shared_data / "no_show_brazil" / "KaggleV2-May-2016.csv"
    if not path.is_file():
        pytest.skip(f"the real data set {path} is not here (REVISIT_SHARED names the folder that holds data/)")
    return path


@pytest.fixture
def revisit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command line in a folder of its own; its data folder is ``tmp_path / "data"``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REVISIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        from serving.cli import main

        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run


class PracticeFolder:
    """Records under one folder, filled by import or straight by states."""

    def __init__(self, root: Path, time_zone: str = "Asia/Shanghai", evening_hour: int = 21) -> None:
        self.root = root
        self.settings = Settings(
            practice=Practice(time_zone=time_zone),
            no_show=NoShow(evening_hour=evening_hour),
            paths=Paths(data=root / "data", mlruns=root / "mlruns"),
        )
        self.store = RecordStore(self.settings.paths.records)

    def load(self, mapping: str, source: str | bytes, at: datetime = NOW, name: str = "export.csv") -> ImportReport:
        """Import one file."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "mapping.toml").write_text(mapping, encoding="utf-8")
        (self.root / name).write_bytes(source if isinstance(source, bytes) else source.encode())
        return import_files(self.store, self.root / name, load_mapping(self.root / "mapping.toml"), at)

    def rows(self, sql: str, versions: Mapping[str, int] | None = None) -> list[tuple[object, ...]]:
        """Query the stored tables."""
        with connect() as con:
            self.store.attach(con, [*TABLES, QUARANTINE], versions)
            return con.execute(sql).fetchall()


@pytest.fixture(scope="session")
def practice_at() -> type[PracticeFolder]:
    """Class of practices in a folder (tests cannot import from one another)."""
    return PracticeFolder


@pytest.fixture
def practice_here(tmp_path: Path) -> PracticeFolder:
    return PracticeFolder(tmp_path)


def fill(con: duckdb.DuckDBPyConnection, tables: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
    """Make tables of the contract in `con` out of dicts, one per state, ``known_at`` included."""
    for name in ("patients", "appointments", "communications"):
        columns = {c.name: SQL_TYPES[c.type] for c in TABLES[name].columns}
        columns |= {"known_at": "TIMESTAMPTZ", "recorded_at": "TIMESTAMPTZ"}
        con.execute(f"DROP TABLE IF EXISTS {name}")
        con.execute(f"CREATE TEMP TABLE {name} ({', '.join(f'{c} {kind}' for c, kind in columns.items())})")
        rows = [[state.get(column) for column in columns] for state in tables.get(name, ())]
        if rows:
            con.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})", rows)


@pytest.fixture(scope="session")
def fill_tables() -> Callable[..., None]:
    return fill


@pytest.fixture(scope="session")
def small_practice(tmp_path_factory: pytest.TempPathFactory) -> PracticeFolder:
    """300 simulated patients, imported and built; in a folder whose name needs quoting."""
    from features.store import build

    practice = PracticeFolder(tmp_path_factory.mktemp("practice") / "诊所 '1'")
    export = practice.root / "export"
    write_export(simulate(PracticePlan(now=NOW, patients=300, years=2)), export)
    import_files(practice.store, export, load_mapping(export / "mapping.toml"), NOW)
    build(practice.settings, NOW)
    return practice
