"""Run a MyST notebook without Jupyter: `python tests/notebook_run.py notebooks/NN-name.md [--figures FOLDER]`.

Cells are fenced by ```{code-cell} ipython3 and ```. An exercise is three cells, told by their tags:

    :tags: [exercise]             a function that the reader fills in; here it raises NotImplementedError
    :tags: [check]                check(function, name=test, ...) of minidl.study.exercises
    :tags: [hide-cell, solution]  the same function, filled in; `:jupyter: {source_hidden: true}` folds it in JupyterLab

The cells run in order. The check must say "not yet" of the exercise, and "right" of the solution.
"""

import ast
import contextlib
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path

CELL = re.compile(r"^```\{code-cell\} ipython3\n((?::.*\n)+|---\n(?:.*\n)*?---\n)?\n?((?:.*\n)*?)```$", re.MULTILINE)
TAGS = re.compile(r"^:?tags: \[(.*)\]$", re.MULTILINE)  # as people write them, or as jupytext does
EXERCISE = ["exercise", "check", "solution"]


@dataclass(frozen=True)
class Cell:
    """Code, its tags, and the line of the file that it begins after."""

    code: str
    tags: tuple[str, ...]
    line: int


class NotebookError(Exception):
    """The notebook is not in the form that is described above, or an exercise does not do what it should."""


def cells_of(text: str) -> list[Cell]:
    """The code cells of a notebook."""
    if not re.match(r"---\n(.*\n)*?kernelspec:\n(.*\n)*?---\n", text) or "format_name: myst" not in text:
        raise NotebookError("the notebook must begin with jupytext's front matter: format_name: myst, kernelspec")
    cells = []
    for match in CELL.finditer(text):
        tags = TAGS.search(match[1] or "")
        names = tuple(re.split(r", *", tags[1])) if tags else ()
        cells.append(Cell(match[2], names, text.count("\n", 0, match.start(2))))
    if len(cells) != text.count("{code-cell}"):
        raise NotebookError(f"{text.count('{code-cell}')} cells begin, {len(cells)} can be read")
    roles = [role for cell in cells for role in EXERCISE if role in cell.tags]
    if roles != EXERCISE * (len(roles) // 3):
        raise NotebookError(f"an exercise is a cell each of exercise, check, solution, in this order; got {roles}")
    return cells


def run(cell: Cell, names: dict, path: Path) -> str:
    """Run a cell as Jupyter does, which also shows the value of its last line; returns what it printed."""
    if re.search(r"^\s*[%!]", cell.code, re.MULTILINE):
        raise NotebookError(f"{path}:{cell.line}: commands of IPython (% and !) are not run here")
    tree = ast.parse("\n" * cell.line + cell.code, str(path))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, str(path), "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), str(path), "eval"), names)
        if value is not None and not cell.code.rstrip().endswith(";"):
            if hasattr(value, "_repr_html_"):
                value._repr_html_()
            print(value)
    sys.stdout.write(printed.getvalue())
    return printed.getvalue()


def run_all(path: Path, figures: Path | None = None) -> None:
    """Run all cells; save the figures of each if asked to.

    Raises:
        NotebookError: see above. Whatever a cell raises.
    """
    import matplotlib.pyplot as plt

    names, check = {"__name__": "__main__"}, None
    for number, cell in enumerate(cells_of(path.read_text(encoding="utf-8"))):
        printed = run(cell, names, path)
        if "check" in cell.tags:
            check = cell
            judge(printed, "not yet", path, cell)
        if "solution" in cell.tags:
            judge(run(check, names, path), "right", path, check)
        for i in plt.get_fignums():
            if figures is not None:
                figures.mkdir(parents=True, exist_ok=True)
                plt.figure(i).savefig(figures / f"{path.stem}-{number}-{i}.png", dpi=80)
            else:
                plt.figure(i).canvas.draw()
        plt.close("all")


def judge(printed: str, expected: str, path: Path, cell: Cell) -> None:
    verdicts = re.findall(r"^\w+: (not yet|right)", printed, re.MULTILINE)
    if not verdicts or set(verdicts) != {expected}:
        raise NotebookError(f"{path}:{cell.line}: the check should say {expected!r}, it printed {printed!r}")


if __name__ == "__main__":
    words = sys.argv[1:]
    run_all(Path(words[0]), Path(words[2]) if words[1:2] == ["--figures"] else None)
