"""The documentation says what is there: generated pages are current, commands and links exist, examples work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

from features import labels, schedule
from features.contracts import CONTRACTS
from features.records.mapping import load_mapping
from features.records.store import KEPT_COLUMNS, QUARANTINE, QUARANTINE_COLUMNS, RecordStore
from features.records.tables import TABLES
from features.settings import Settings, load_settings
from serving.cli import main

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "docs/**/*.py", "docs/**/*.toml", "benchmarks/*.md", "notebooks/*.ipynb")
    for path in ROOT.glob(pattern)
)
PAGES = [path for path in WRITTEN if path.suffix == ".md"]
REFERENCE = ROOT / "docs" / "reference"
FORBIDDEN = (*(f"/{folder}/" for folder in ("work", "tmp", "root", "home")), "index-url")  # of some machine
MODULES = {"benchmarks": "benchmarks", "docs": "docs"}  # what `python -m` may name
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
IMPORT_PAGE = ROOT / "docs" / "how-to" / "import.md"


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def reference(name: str) -> str:
    return text_of(REFERENCE / f"{name}.md")


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text_of(page)) if kind == language]


def command_lines() -> Iterator[tuple[str, str]]:
    """Yield (page, line) of every command in a code block."""
    for page in PAGES:
        for block in blocks(page, "sh") + ([] if "reference" in page.parts else blocks(page, "")):
            for line in block.splitlines():
                if line.strip() and not line.startswith("#"):
                    yield shown(page), line.strip()


def all_commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", found) for inner, found in all_commands(command))
        else:
            yield name, command


def setting_names(group: Any, prefix: str = "") -> Iterator[str]:
    for name in type(group).model_fields:
        value = getattr(group, name)
        if isinstance(value, BaseModel):
            yield from setting_names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_reference_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_stale_reference_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from docs import generate

    monkeypatch.setattr(generate, "REFERENCE", tmp_path)
    assert generate.stale() == sorted(generate.pages())
    for name, text in generate.pages().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert generate.stale() == []
    (tmp_path / "tables.md").write_text("old", encoding="utf-8")
    (tmp_path / "left_over.md").write_text("old", encoding="utf-8")
    assert generate.stale() == ["left_over.md", "tables.md"]


def test_every_command_and_option_is_in_the_reference() -> None:
    page = reference("commands")
    for name, command in all_commands(main):
        section = page.partition(f"## `revisit {name}`\n")[2].partition("\n## ")[0]
        assert section, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                missing = [text for text in (*parameter.opts, *parameter.secondary_opts) if f"`{text}`" not in section]
                assert missing == [], name
            else:
                assert (parameter.name or "").upper() in section, name


def test_every_setting_is_explained() -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \|.*\| (.*?) \|$", reference("settings"), re.MULTILINE))
    assert [name for name in setting_names(Settings()) if not rows.get(name, "").strip()] == []


def test_example_settings_are_the_defaults(tmp_path: Path) -> None:
    example = load_settings(ROOT / "practice.example.toml", environ={})
    assert example == load_settings(environ={}, path=_empty(tmp_path))


def _empty(folder: Path) -> Path:
    path = folder / "empty.toml"
    path.touch()
    return path


def test_every_environment_variable_is_explained() -> None:
    code = [
        path for folder in ("features", "training", "serving", "benchmarks") for path in ROOT.glob(f"{folder}/**/*.py")
    ]
    read = {name for path in code for name in re.findall(r"[\"'`](REVISIT_[A-Z_]*[A-Z])[\"'`=]", text_of(path))}
    assert len(read) >= 4
    assert {name for name in read if f"| `{name}` |" not in reference("settings")} == set()


def test_every_table_and_column_is_in_the_reference() -> None:
    page = reference("tables")
    for name, columns in {
        **{table.name: table.column_names for table in TABLES.values()},
        QUARANTINE: tuple(QUARANTINE_COLUMNS),
    }.items():
        section = page.partition(f"## `{name}`\n")[2].partition("\n## ")[0]
        assert [column for column in columns if f"| `{column}` |" not in section] == [], name
    assert all(f"| `{column}` |" in page for column in KEPT_COLUMNS)


def test_every_feature_and_contract_is_in_the_reference() -> None:
    features, contracts = reference("features"), reference("contracts")
    for feature in (*schedule.FEATURES, labels.REMINDER_OUTAGE):
        assert f"| `{feature.name}` |" in features
    for contract in CONTRACTS.values():
        section = contracts.partition(f"## `{contract.name}`\n")[2].partition("\n## ")[0]
        assert contract.question in section
        assert [name for name in contract.feature_names if f"`{name}`" not in section] == []


def check_command(line: str) -> None:
    """Fail where a documented command, option or target is not there."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[0] == "make":
        targets = re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE)
        assert [word for word in words[1:] if "=" not in word and word not in targets] == []
        assert all(f"$({word.partition('=')[0]})" in text_of(ROOT / "Makefile") for word in words if "=" in word)
    elif words[0] == "revisit":
        check_revisit(words[1:])
    elif words[:2] == ["python", "-m"]:
        assert words[2].split(".")[0] in MODULES
        assert (ROOT / Path(*words[2].split("."))).with_suffix(".py").is_file()
    elif words[0] == "cp":
        assert (ROOT / words[1]).is_file()
    else:
        assert words[0] in {".", "mlflow", "pip", "cd", "./spark-class"}


def check_revisit(words: list[str]) -> None:
    command: click.Command = main
    path = "revisit"
    while isinstance(command, click.Group):
        assert words, f"{path} wants a command"
        assert words[0] in command.commands, f"{path} has no command {words[0]}"
        path, command, words = f"{path} {words[0]}", command.commands[words[0]], words[1:]
    command.make_context(path, words)


@pytest.mark.parametrize(("page", "line"), list(command_lines()))
def test_documented_command_exists(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click.Option, "prompt_for_value", lambda *_: "a long sentence")
    check_command(line)


@pytest.mark.parametrize(
    "line",
    [
        "make everything",
        "revisit forecast",
        "revisit score --fast",
        "revisit import",
        "cp nothing.toml x",
        "rm -rf data",
    ],
)
def test_unknown_command_is_noticed(line: str) -> None:
    with pytest.raises((AssertionError, click.ClickException)):
        check_command(line)


def test_readme_names_both_commands_and_every_command() -> None:
    for name in ("README.md", "README.zh-CN.md"):
        lines = [line for page, line in command_lines() if page == name]
        assert [line.split("#")[0].strip() for line in lines[:2]] == ["make demo", "make test"]
    told = {line for _, line in command_lines()}
    for name, _ in all_commands(main):
        assert any(f"revisit {name}" in line for line in told) or f"revisit {name}" in text_of(ROOT / "README.md"), name


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    prose = FENCE.sub("", text_of(page))
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.is_relative_to(ROOT), target
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", text_of(found), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("page", WRITTEN, ids=shown)
def test_nothing_about_the_machine_it_was_written_on(page: Path) -> None:
    assert [word for word in FORBIDDEN if word in text_of(page)] == []


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures
    assert {path.name: path.stat().st_size for path in pictures if path.stat().st_size > 200_000} == {}


def test_two_languages_show_the_same_figures() -> None:
    english, chinese = (
        {
            figure
            for line in text_of(ROOT / name).splitlines()
            if line.startswith("| ")
            for figure in re.findall(r"\.\d{3}\b", line)
        }
        for name in ("README.md", "README.zh-CN.md")
    )
    assert chinese <= english


def test_toml_of_the_how_to_is_toml() -> None:
    found = [tomllib.loads(block) for page in PAGES for block in blocks(page, "toml")]
    assert len(found) > 5


def test_examples_of_mappings_load() -> None:
    examples = sorted((ROOT / "docs" / "examples").glob("*.toml"))
    assert examples
    for path in examples:
        assert load_mapping(path).tables


def test_smallest_import_does_what_the_page_says(tmp_path: Path, revisit: Callable[..., Any]) -> None:
    (tmp_path / "bookings.csv").write_text(blocks(IMPORT_PAGE, "csv")[0], encoding="utf-8")
    (tmp_path / "bookings.toml").write_text(blocks(IMPORT_PAGE, "toml")[0], encoding="utf-8")
    first = revisit("import", "bookings.csv", "--mapping", "bookings.toml")
    assert first.exit_code == 0, first.output
    assert re.search(r"appointments +│ +3 │ +0 │ +0", first.output)
    assert "3 rows quarantined" in first.output
    for reason in (
        "a required value is missing",
        "the appointment lies before its booking",
        "the value is none of booked",
    ):
        assert reason in first.output
    again = revisit("import", "bookings.csv", "--mapping", "bookings.toml")
    assert "nothing new: the records are as they were" in again.output


def test_quarantine_is_listed_as_the_page_says(tmp_path: Path, revisit: Callable[..., Any]) -> None:
    (tmp_path / "bookings.csv").write_text(blocks(IMPORT_PAGE, "csv")[0], encoding="utf-8")
    (tmp_path / "bookings.toml").write_text(blocks(IMPORT_PAGE, "toml")[0], encoding="utf-8")
    revisit("import", "bookings.csv", "--mapping", "bookings.toml")
    listing = next(block for block in blocks(IMPORT_PAGE, "sh") if "revisit quarantine" in block)
    for line in listing.splitlines():
        shown = revisit(*line.split("#")[0].split()[1:])
        assert shown.exit_code == 0, shown.output
        assert "bookings.csv" in shown.output, line
    assert RecordStore(tmp_path / "data" / "records").versions().keys() == {"appointments", "derived", "quarantine"}


def test_computed_status_of_the_how_to(tmp_path: Path, practice_here: Any) -> None:
    computed = next(block for block in blocks(IMPORT_PAGE, "toml") if "cancelled_late" in block)
    mapping = f"""time_zone = "Europe/London"
[tables.appointments.columns]
appointment_id = "Number"
patient_id = "Number"
clinic_id = {{ value = "North" }}
booked_at = "Made"
starts_at = "Start"
{computed}"""
    made, start = "2026-03-01 08:00", "2026-03-09 14:00"
    rows = {
        "1": ("cancelled", "2026-03-09 08:00"),
        "2": ("cancelled", "2026-03-07 08:00"),
        "3": ("came", "2026-03-09 15:00"),
        "4": ("missed", "2026-03-09 15:00"),
        "5": ("open", ""),
    }
    lines = [f"{number},{made},{start},{state},{changed}" for number, (state, changed) in rows.items()]
    practice_here.load(mapping, "\n".join(["Number,Made,Start,State,Changed", *lines]))
    newest = practice_here.rows(
        "SELECT arg_max(status, known_at) FROM appointments GROUP BY appointment_id ORDER BY appointment_id"
    )
    assert [status for (status,) in newest] == ["cancelled_late", "cancelled_early", "completed", "no_show", "booked"]


def test_results_are_dated_and_name_their_benchmarks() -> None:
    results = text_of(ROOT / "benchmarks" / "RESULTS.md")
    assert re.search(r"^## \d{4}-\d\d-\d\d: ", results, re.MULTILINE)
    for path in (ROOT / "benchmarks").glob("*.py"):
        if path.stem not in {"__init__", "harness", "bulk_history", "returns", "serving_load"}:  # what benchmarks share
            assert f"python -m benchmarks.{path.stem}" in results
