"""The command line: every command's way, its errors in one line, its screen of states."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

Run = Callable[..., Result]
HEAVY = ("pandas", "numpy", "duckdb", "feast", "mlflow", "lightgbm", "sklearn", "bentoml", "rich", "sqlalchemy")
MAPPING = """
name = "Desk"
time_zone = "Asia/Shanghai"
datetime_formats = ["%Y-%m-%d %H:%M"]
[tables.appointments]
[tables.appointments.columns]
appointment_id = "id"
patient_id = "patient"
clinic_id = "clinic"
booked_at = "booked"
starts_at = "starts"
status = "status"
"""
EXPORT = """id,patient,clinic,booked,starts,status
A1,P1,K1,2026-01-05 09:00,2026-01-12 10:00,completed
A2,P2,K1,2026-01-05 09:30,2026-01-12 11:00,no_show
"""


def one_line(result: Result, *words: str) -> None:
    """A mendable error: code 2, one line that starts with ``error:``, no traceback."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


def desk(folder: Path) -> tuple[Path, Path]:
    (folder / "m.toml").write_text(MAPPING)
    (folder / "export.csv").write_text(EXPORT)
    return folder / "export.csv", folder / "m.toml"


@pytest.mark.parametrize("arguments", [["--help"], ["features", "--help"], ["demo", "-h"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = f"""
import sys
from serving.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code == 0
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_every_command_explains_itself(revisit: Run) -> None:
    listed = revisit("--help").stdout
    for command in ("import", "simulate", "features", "train", "score", "serve", "status", "user", "demo"):
        assert f"  {command} " in listed
        assert revisit(command, "--help").exit_code == 0


def test_from_import_to_status(revisit: Run, tmp_path: Path) -> None:
    """One small practice through every state that the screen can show."""
    assert "next: revisit import" in revisit("status").stdout
    made = revisit("simulate", "export", "--patients", 400, "--years", 3, "--seed", 4)
    assert made.exit_code == 0, made.output
    assert "appointments.csv" in made.stdout
    first = revisit("import", "export", "--mapping", "export/mapping.toml")
    assert first.exit_code == 0, first.output
    assert "no row quarantined" in first.stdout
    assert "nothing new" in revisit("import", "export", "-m", "export/mapping.toml").stdout
    imported = revisit("status").stdout
    assert "nothing yet" not in imported
    assert "patients (version 0)" in imported
    assert "next: revisit features build" in imported

    built = revisit("features", "build")
    assert built.exit_code == 0, built.output
    assert "rows of booking features, decision moments until" in built.stdout
    assert "next: revisit train" in revisit("status").stdout

    for name in ("no_show_booking", "no_show_evening"):
        trained = revisit("train", name)
        assert trained.exit_code == 0, trained.output
        assert "promoted:" in trained.stdout
        for rule in ("prior", "past_rate", "lead_time", "spline_logistic"):
            assert f"log loss lower than {rule}" in trained.stdout
    looked = revisit("status").stdout
    assert "not trained" not in looked
    assert "no_show_booking" in looked
    assert "nothing published yet" in looked
    assert "next: revisit score" in looked

    scored = revisit("score")
    assert scored.exit_code == 0, scored.output
    assert "bookings published" in scored.stdout
    served = revisit("status").stdout
    assert "schedule by" in served
    assert "next: revisit serve" in served

    table = pd.read_csv("export/patients.csv", dtype=str)
    table["membership"] = "gold"
    table.to_csv("export/patients.csv", index=False)
    assert revisit("import", "export", "-m", "export/mapping.toml").exit_code == 0
    assert "features build (records have changed since)" in revisit("status").stdout
    assert {path.name for path in tmp_path.iterdir()} == {"data", "export", "mlruns"}


def test_status_tells_the_age_of_what_is_old() -> None:
    from datetime import timedelta

    from serving.status import age

    assert [age(timedelta(**span)) for span in ({"days": 1}, {"hours": 49}, {"minutes": 61}, {"minutes": 2})] == [
        "1 day",
        "2 days",
        "1 hour",
        "2 minutes",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], ["revisit features build"]),
        (["score"], ["revisit features build"]),
        (["features", "build"], ["revisit import"]),
        (["train", "laps"], ["there is no contract 'laps'", "no_show_booking", "no_show_evening", "lapse"]),
        (["import", "nowhere.csv", "--mapping", "nowhere.toml"], ["nowhere.toml"]),
        (["simulate", "out", "--patients", "0"], ["patients must be a whole number from 1"]),
    ],
)
def test_errors_are_one_line(revisit: Run, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    one_line(revisit(*arguments), *words)
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[practice]\ntime_zone = 'Mars/Base'", ["practice.time_zone", "IANA"]),
        ("[practice]\nnmae = 'x'", ["practice.nmae", "practice.example.toml"]),
        ("not toml", ["is not TOML"]),
    ],
)
def test_bad_settings_are_one_line(revisit: Run, tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "practice.toml").write_text(text)
    for command in ("status", "train", "score"):
        one_line(revisit(command), *words)


def test_train_before_import_even_after_an_empty_look(revisit: Run) -> None:
    assert revisit("status").exit_code == 0
    one_line(revisit("train"), "revisit features build")


def test_port_taken_is_one_line(revisit: Run, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        one_line(revisit("serve", "--port", port), str(port), "--port")
        one_line(revisit("demo", "--port", port), str(port), "--port")
    assert not (tmp_path / "data" / "records").exists()  # nothing was begun


def test_a_port_that_cannot_be_is_a_usage_error(revisit: Run) -> None:
    refused = revisit("serve", "--port", 99999)
    assert refused.exit_code == 2
    assert "99999" in refused.stderr
    one_line(revisit("serve", "--host", "no.such.host.invalid"), "no.such.host.invalid")


def test_users_are_added_once(revisit: Run) -> None:
    add = ("user", "add", "mei", "--role", "manager", "--password", "a long password")
    assert revisit(*add).stdout == "mei may sign in as manager\n"
    one_line(revisit(*add), "'mei' is taken")
    one_line(revisit("user", "add", "li", "--password", "short"), "10 to 256 characters")
    assert revisit("user", "add", "li", "--role", "dentist", "--password", "a long password").exit_code == 2


def test_a_demo_never_mixes_with_a_practices_own_records(revisit: Run, tmp_path: Path) -> None:
    source, mapping = desk(tmp_path)
    assert revisit("import", source, "-m", mapping).exit_code == 0
    one_line(revisit("demo", "--no-serve"), "own records", "REVISIT_DATA=")
    assert not (tmp_path / "data" / "demo.json").exists()


def test_a_demo_keeps_its_size(revisit: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "demo.json").write_text(json.dumps({"patients": 400, "years": 3, "seed": 7}))
    one_line(revisit("demo", "--no-serve", "--patients", 500, "--years", 3), "another size")


def test_a_demo_that_cannot_be_leaves_nothing_behind(revisit: Run, tmp_path: Path) -> None:
    one_line(revisit("demo", "--no-serve", "--patients", 0), "patients must be a whole number")
    assert not (tmp_path / "data" / "demo.json").exists()


def test_brackets_are_not_taken_for_colours(revisit: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from features.records.landing import ImportReport
    from serving.console import print_import, print_status
    from serving.status import Line, Status

    print_import(ImportReport(rows=1, quarantined={"a [/] b": 1}, quarantined_rows=1, tables=(), notes=("see [x] y",)))
    print_status(Status((Line("stored", "[bold]"),), ("[next]",)))
    said = capsys.readouterr().out
    for text in ("a [/] b", "see [x] y", "[bold]", "[next]"):
        assert text in said


def test_remarks_of_libraries_are_dropped_and_ours_are_not() -> None:
    from serving.quiet import quiet

    heard: list[str] = []
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: heard.append(str(message))
        quiet()
        warnings.showwarning("theirs", UserWarning, "/x/site-packages/mlflow/pyfunc/model.py", 1)
        warnings.showwarning("ours", UserWarning, "/x/serving/cli.py", 1)
    assert heard == ["ours"]
