"""What several test files share: where things are, small practices, ways to import them."""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
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
from features.simulator import PracticePlan, SimulatedPractice, simulate, write_export

NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)  # a Tuesday, half past nine in Shanghai

os.environ["COLUMNS"] = "200"  # consoles made at import keep the width of that moment

hypothesis_settings.register_profile(
    "revisit", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("revisit")


@pytest.fixture(scope="session")
def is_off() -> Callable[[pd.Series, pd.Series, int], bool]:
    """Whether a mean difference is no chance: told (differences, group of each, how many such comparisons are made).

    Only groups vary independently. The largest of the comparisons is beyond the limit once in a thousand (Bonferroni).
    """

    def told(difference: pd.Series, group: pd.Series, comparisons: int) -> bool:
        by_group = difference.groupby(group).sum()
        limit = NormalDist().inv_cdf(1 - 0.001 / comparisons / 2)
        return abs(by_group.sum()) > limit * float(np.sqrt((by_group**2).sum()))

    return told


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
def benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Run a benchmark's small setting in this process, which has imported its libraries already; its last line."""

    def run(name: str, data: Path | None = None) -> dict[str, Any]:
        chosen = () if data is None else ("--data", str(data))
        monkeypatch.setattr("sys.argv", [name, "--quick", *chosen])
        disabled = logging.root.manager.disable
        try:
            with warnings.catch_warnings():
                importlib.import_module(f"benchmarks.{name}").main()
        finally:
            logging.disable(disabled)
        told: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
        assert set(told) == {"name", "date", "metrics", "targets", "peers", "machine"}
        assert told["name"] == name
        return told

    return run


@pytest.fixture
def revisit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command line in a folder of its own; its data folder is ``tmp_path / "data"``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REVISIT_DATA", str(tmp_path / "data"))

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


MERGED = {"old_id": "VARCHAR", "new_id": "VARCHAR"}


def fill(con: duckdb.DuckDBPyConnection, tables: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
    """Make tables of the contract in `con` out of dicts, one per state, ``known_at`` included."""
    for name in dict.fromkeys(("patients", "appointments", "communications", *tables)):
        told = {c.name: SQL_TYPES[c.type] for c in TABLES[name].columns} if name in TABLES else MERGED
        columns = {**told, "known_at": "TIMESTAMPTZ", "recorded_at": "TIMESTAMPTZ"}
        con.execute(f"DROP TABLE IF EXISTS {name}")
        con.execute(f"CREATE TEMP TABLE {name} ({', '.join(f'{c} {kind}' for c, kind in columns.items())})")
        states = tables.get(name, ())
        rows = pa.table({column: [state.get(column) for state in states] for column in columns})
        con.register("rows_of_fill", rows)
        con.execute(f"INSERT INTO {name} SELECT * FROM rows_of_fill")
        con.unregister("rows_of_fill")


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


MARKER = "Zqmarker"  # part of every name and phone of the trained practice


@dataclass
class TrainedPractice:
    """A simulated practice that went from export to registered models; all it printed and logged is in `said`."""

    folder: PracticeFolder
    simulated: SimulatedPractice
    said: io.StringIO
    trainings: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return self.folder.settings

    def examples(self, name: str) -> pd.DataFrame:
        """Examples of a contract, as its training read them."""
        from features.contracts import CONTRACTS
        from features.store import last_build, open_feast, training_set

        store, built = open_feast(self.settings), last_build(self.settings)
        assert built is not None
        return training_set(self.settings, store, CONTRACTS[name], NOW, built.records)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep what is printed and logged, at every level."""
        ear, root = logging.StreamHandler(self.said), logging.getLogger()
        level = root.level
        root.addHandler(ear)
        root.setLevel(logging.DEBUG)
        try:
            with redirect_stdout(self.said), redirect_stderr(self.said):
                yield
        finally:
            root.removeHandler(ear)
            root.setLevel(level)


@pytest.fixture(scope="session")
def trained_practice(tmp_path_factory: pytest.TempPathFactory) -> TrainedPractice:
    """1,200 simulated patients, 3 years: imported, built, trained; both models beat the rules on this seed."""
    from features.contracts import CONTRACTS
    from features.store import build, register
    from serving.console import print_import, print_training
    from training.no_show import train

    root = tmp_path_factory.mktemp("trained")
    made = TrainedPractice(
        PracticeFolder(root), simulate(PracticePlan(now=NOW, patients=1200, years=3, seed=7)), io.StringIO()
    )
    contacts = made.simulated.tables["contact_details"]
    contacts["full_name"] = MARKER + " " + contacts["patient_id"]
    contacts["phone"] = "+86-000-" + MARKER + "-" + contacts["patient_id"].str[1:]
    write_export(made.simulated, root / "export")
    with made.listening():
        mapping = load_mapping(root / "export" / "mapping.toml")
        print_import(import_files(made.folder.store, root / "export", mapping, NOW))
        build(made.settings, NOW)
        register(made.settings)
        for name, contract in CONTRACTS.items():
            made.trainings[name] = train(made.settings, contract, NOW)
            print_training(made.trainings[name])
    return made


@pytest.fixture(scope="session")
def recall_list() -> Callable[..., int]:
    """Function that stores a recall list of six patients and one held out; returns its number."""
    return _recall_list


def _recall_list(engine: Any, at: datetime, started_by: str | None = None, name: str = "王小明") -> int:
    from serving.db import writing
    from serving.recall_tables import RecallItemRow, RecallListRow

    counts = [
        {"clinic_id": "east", "due": 20, "contact": 4, "hold_out": 1, "waiting": 9, "excluded": {"booked": 6}},
        {"clinic_id": "north", "due": 5, "contact": 2, "hold_out": 0, "waiting": 0, "excluded": {"no_channel": 3}},
    ]
    with writing(engine) as session:
        row = RecallListRow(
            made_at=at, calls=6, hold_out_share=0.1, seed="s", ranked_by="return_90d", model_version="3", counts=counts,
            started_at=at if started_by else None, started_by=started_by,
            campaign_id="RECALL-TEST" if started_by else None,
        )  # fmt: skip
        session.add(row)
        session.flush()
        for place in range(1, 8):
            is_held_out = place == 7
            session.add(
                RecallItemRow(
                    list_id=row.list_id, patient_id=f"p{place}", place=0 if is_held_out else place,
                    arm="hold_out" if is_held_out else "contact", propensity=1 / 7 if is_held_out else 6 / 7,
                    clinic_id="north" if place in (2, 4) else "east", household_id=f"h{place}",
                    patient_name=f"{name} {place}" if place != 3 else None, phone=f"+86 100{place}",
                    channels=["phone", "sms"] if place != 4 else ["wechat"], overdue_days=40 * place,
                    is_long_overdue=place > 4, value_cents=1_234_500 // place,
                    value_band=("high", "medium", "low")[(place - 1) // 2 % 3], response=0.3 if place < 6 else None,
                    last_contact_at=at - timedelta(days=400) if place % 2 else None,
                    reasons=[
                        {"code": code, "direction": 1, "contribution": 0.0, "values": values}
                        for code, values in (
                            ("family", {"people": place}), ("chance", {"percent": 30}), ("missed", {"recalls": 2}),
                            ("never_asked", {}), ("answers", {"percent": 60}), ("visits", {"visits": 8}),
                            ("last_visit", {"months": place}), ("interval", {"months": 6}),
                        )[place - 1 : place + 2]
                    ],
                )
            )  # fmt: skip
        return row.list_id


@pytest.fixture(scope="session")
def store_forecast() -> Callable[..., None]:
    """Function that keeps a forecast of two clinics and two treatments as `revisit forecast` does, figures made up."""
    return _store_forecast


def _store_forecast(settings: Settings, made_at: datetime, level: float = 100.0) -> None:
    from features import forecasts

    parts = {
        "practice": ("practice", "", "", 4.0),
        "clinic:east": ("clinic", "east", "", 3.0),
        "clinic:north": ("clinic", "north", "", 1.0),
        "service_line:hygiene": ("service_line", "", "hygiene", 2.5),
        "service_line:crown": ("service_line", "", "crown", 1.5),
        "clinic_line:east/hygiene": ("clinic_line", "east", "hygiene", 2.0),
    }
    months = pd.period_range("2024-10", "2027-09", freq="M")
    quantiles = {f"q{q}": 0.8 + q / 250 for q in range(10, 100, 10)}  # of the level: q50 is it
    made, past, tested, words = [], [], [], []
    for measure, factor in (("revenue", 50.0), ("visits", 1.0)):
        for series, (kind, clinic, line, size) in parts.items():
            for n, month in enumerate(months):
                value = level * factor * size * (1 + (n % 12) / 24)
                spread = {name: value * share for name, share in quantiles.items()}
                key = {"measure": measure, "series": series, "level": kind, "month": month}
                if n < 24:
                    past.append({**key, "actual": value})
                    if n >= 12:
                        origin = {"method": "revisit", "origin": months[11], "step": n - 11, "scale": 1.0}
                        tested.append({**key, **origin, "actual": value, **spread})
                else:
                    node = {"clinic": clinic, "service_line": line, "clinician": "", "note": ""}
                    more = {"step": n - 23, "is_provisional": month.year == 2027, "mean": value}
                    made.append({**key, **node, **more, **spread})
            words += [
                {"measure": measure, "series": series, "language": language, "text": said}
                for language, said in (
                    ("en", f"{series}: 9 of 12 fell inside."),
                    ("zh", "12 个月中有 9 个月落在区间内。"),
                )
                if kind != "clinic_line"
            ]
    hours = [
        {"clinic": clinic, "month": month, "needed": 300.0 + 10 * n, "needed_q90": 330.0 + 10 * n, "available": 450.0,
         "usable": 382.5 if clinic == "east" else None, "overload": 0.06 * n if clinic == "east" else None,
         "add_hours": (10.0 * n - 52.5) / 0.85 if clinic == "east" else None, "is_closure_assumed": n > 2}
        for clinic in ("east", "north") for n, month in enumerate(months[24:])
    ]  # fmt: skip
    shelves = [
        {"supply": f"{clinic}-{name}", "clinic": clinic, "supply_name": name, "unit": "box", "needed_month": 12.4,
         "in_stock": 30.0, "reorder_point": 10.0, "months_left": left, "order": 20.0, "alert": alert}
        for clinic, name, left, alert in (
            ("east", "gloves", 0, "order now"), ("east", "paste", 9, ""), ("north", "wire", 1, "order soon")
        )
    ]  # fmt: skip
    forecasts.store(settings, forecasts.ACTUALS, pd.DataFrame(past))
    forecasts.store(settings, forecasts.BACKTEST, pd.DataFrame(tested))
    forecasts.store(settings, forecasts.WORDS, pd.DataFrame(words))
    forecasts.store(settings, forecasts.CAPACITY, pd.DataFrame(hours))
    forecasts.store(settings, forecasts.CONSUMABLES, pd.DataFrame(shelves))
    forecasts.store_version(settings, made_at, pd.DataFrame(made))
