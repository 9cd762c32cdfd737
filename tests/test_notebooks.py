"""The notebooks run from the first cell to the last, in small, and the solutions of their exercises are right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))


def run(path, folder):
    """Run a notebook in a process of its own, in an empty folder."""
    environment = {**os.environ, "MINIDL_QUICK": "1", "MPLBACKEND": "Agg"}
    environment.pop("MINIDL_DATA", None)
    command = [sys.executable, "-W", "error", str(ROOT / "tests" / "notebook_run.py"), str(path)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_its_exercises_can_be_solved(path, tmp_path):
    outcome = run(path, tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert os.listdir(tmp_path) == []


def test_there_are_notebooks():
    assert NOTEBOOKS


HEAD = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
---

# Title

"""


def cell(code, tags=""):
    return "```{code-cell} ipython3\n" + (f":tags: [{tags}]\n\n" if tags else "") + code + "\n```\n\ntext\n\n"


IMPORT = cell("from minidl.study.exercises import check")
STUB = cell("def double(x):\n    raise NotImplementedError", "exercise")
CHECK = cell("check(double, value=lambda f: f(2) == 4)", "check")
SOLUTION = cell("def double(x):\n    return 2 * x", "hide-cell, solution")


@pytest.mark.parametrize(
    "cells, complaint",
    [
        (cell("1 / 0"), 'notebook.md", line 13, in <module>'),
        (cell("import warnings\nwarnings.warn('old', DeprecationWarning)"), "DeprecationWarning"),
        (cell("class A:\n    def _repr_html_(self):\n        raise OSError\nA()"), "OSError"),
        (cell("%matplotlib inline"), "commands of IPython"),
        (IMPORT + STUB + CHECK, "an exercise is a cell each"),
        (IMPORT + STUB + CHECK + SOLUTION.replace("2 * x", "3 * x"), "should say 'right'"),
        (IMPORT + STUB.replace("raise NotImplementedError", "return 4") + CHECK + SOLUTION, "should say 'not yet'"),
        (IMPORT + STUB + CHECK.replace("check(", "dict(f=") + SOLUTION, "should say 'not yet'"),
        (cell("1").replace("```\n\ntext", "``"), "1 cells begin, 0 can be read"),
    ],
)
def test_the_harness_finds(cells, complaint, tmp_path):
    path = tmp_path / "notebook.md"
    path.write_text(HEAD + cells)
    outcome = run(path, tmp_path)
    assert outcome.returncode != 0
    assert complaint in outcome.stderr


@pytest.mark.parametrize(
    "options", [":tags: [solution]", "---\njupyter:\n  source_hidden: true\ntags: [solution]\n---"]
)
def test_the_harness_finds_nothing_wrong_with_a_right_notebook(options, tmp_path):
    path = tmp_path / "notebook.md"
    solution = SOLUTION.replace(":tags: [hide-cell, solution]", options)
    path.write_text(HEAD + IMPORT + STUB + CHECK + solution + cell("double(4)"))
    outcome = run(path, tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.split("\n") == ["double: not yet", "double: right", "8", ""]
