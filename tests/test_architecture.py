"""The shape of the code: who imports whom, what importing costs, how long things may grow."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("features", "training", "serving")
LONGEST_FUNCTION, LONGEST_MODULE = 60, 450
HEAVY = ("bentoml", "mlflow", "lightgbm", "feast", "pandas")
MAY_READ_NAMES = (
    "features/records/",
    "features/simulator/",
    "serving/desk_records.py",
    "serving/recall_build.py",
)
ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_importing_makes_no_file(tmp_path: Path) -> None:
    code = f"""if True:
        import importlib, pkgutil
        for package in map(importlib.import_module, {PACKAGES!r}):
            for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
                if ".feast_repo" not in module.name and ".migrations" not in module.name:
                    importlib.import_module(module.name)"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == []


def test_command_line_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"import sys, serving.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert run_python(code, tmp_path).stdout.strip() == "[]"


def test_story_runs_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_names_and_phones_are_read_in_few_places() -> None:
    readers = {
        shown(path)
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "contact_details" in node.value
    }
    assert readers, "the test looks for nothing"
    assert {name for name in readers if not name.startswith(MAY_READ_NAMES)} == set()


def test_features_are_built_from_tables_without_names() -> None:
    from features import schedule
    from features.records.tables import PERSONAL_TABLES

    assert PERSONAL_TABLES.isdisjoint(schedule.RECORDS)


def test_names_and_phones_stay_in_personal_tables() -> None:
    from features.records.tables import PERSONAL_TABLES, TABLES

    holders = {name for name, table in TABLES.items() if {"full_name", "phone"} & set(table.column_names)}
    assert holders == set(PERSONAL_TABLES)


def test_no_module_shadows_the_standard_library() -> None:
    names = {path.stem: shown(path) for path in MODULES if path.stem != "__init__"}
    assert {names[name] for name in names.keys() & sys.stdlib_module_names} == set()


def test_functions_and_modules_stay_short() -> None:
    long_functions = {
        f"{shown(path)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in MODULES
        for node in functions(path)
        if node.end_lineno and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    }
    long_modules = {
        shown(path): lines
        for path in MODULES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_MODULE
    }
    assert (long_functions, long_modules) == ({}, {})


def test_public_things_say_what_they_do() -> None:
    silent = []
    for path in MODULES:
        if "migrations" in path.parts:
            continue
        module = tree(path)
        if path.stem != "__init__" and not ast.get_docstring(module):
            silent.append(shown(path))
        scopes = [module, *(node for node in module.body if isinstance(node, ast.ClassDef))]
        for scope in scopes:
            if isinstance(scope, ast.ClassDef) and scope.name.startswith("_"):
                continue
            silent += [
                f"{shown(path)}:{node.name}"
                for node in scope.body
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
            ]
    assert silent == []


def test_table_says_its_grain() -> None:
    from features.records.tables import TABLES

    for table in TABLES.values():
        assert table.grain
        assert table.key == table.column_names[0]
        assert table.known_from in table.column_names
        for column in table.columns:
            suffixes = {"_id": "id", "_at": "instant", "_on": "date", "_cents": "integer", "_minutes": "integer"}
            for suffix, kind in suffixes.items():
                if column.name.endswith(suffix):
                    assert column.type == kind, column.name
            assert (column.type == "boolean") == column.name.startswith("is_"), column.name
