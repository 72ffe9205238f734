"""Notebooks run from top to bottom, define nothing and carry no outputs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
SLOWEST = 120  # seconds; far above what it takes, so that a busy machine does not fail it

# Runs the code cells as Jupyter would, and asks each cell's last expression how it looks.
RUN = """if True:
    import ast, json, sys
    space = {"__name__": "__main__"}
    for number, cell in enumerate(json.load(open(sys.argv[1], encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), space)
        if last is not None:
            print(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), space))"""


def cells(notebook: Path, kind: str) -> list[dict[str, Any]]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def code(notebook: Path) -> ast.Module:
    return ast.parse("\n".join("".join(cell["source"]) for cell in cells(notebook, "code")))


def test_notebooks_are_numbered() -> None:
    numbers = [int(found[1]) for path in NOTEBOOKS if (found := re.fullmatch(r"(\d\d)_[a-z_]+\.ipynb", path.name))]
    assert numbers == list(range(1, len(NOTEBOOKS) + 1))
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_carries_no_outputs(self, notebook: Path) -> None:
        assert {(cell["execution_count"], len(cell["outputs"])) for cell in cells(notebook, "code")} == {(None, 0)}
        assert "".join(cells(notebook, "markdown")[0]["source"]).startswith("# ")

    def test_defines_nothing(self, notebook: Path) -> None:
        defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert [node for node in ast.walk(code(notebook)) if isinstance(node, defining)] == []

    def test_imports_the_packages(self, notebook: Path) -> None:
        modules = {node.module or "" for node in ast.walk(code(notebook)) if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in modules} & {"features", "training", "serving"}

    def test_runs(self, notebook: Path, tmp_path: Path) -> None:
        environment = {**os.environ, "MPLBACKEND": "Agg", "TMPDIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(notebook)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SLOWEST, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert not list(tmp_path.iterdir()), "it leaves files behind"
