"""Imports point one way, from the command line down to the kernels."""

import ast
from pathlib import Path

import pytest

import minidl

ROOT = Path(minidl.__file__).parent

#: Each room may import from the rooms before it, and from itself.
ORDER = [
    *(
        "grad_mode",  # a flag of each thread; it imports nothing
        "watch",  # nor does this: lists of each thread
        "kernels",
        "random",
        "ops",
        "autograd",
        "primitives",
        "arguments",
        "protocols",
        "reductions",
        "shaping",
        "elements",
        "tensor",
    ),
    *("cuda", "functions", "creation", "nn", "optim", "models", "passes", "compiled"),
    *("data", "interop", "study", "training", "bench", "cli", "__main__"),
]
FILES = sorted(ROOT.rglob("*.py"))


def room(path):
    part = path.relative_to(ROOT).parts[0]
    return part.removesuffix(".py")


def imported_rooms(source):
    """The rooms of minidl that a source imports from, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"minidl.{alias.name}" for alias in node.names] if node.module == "minidl" else [node.module or ""]
            assert node.level == 0, "imports are absolute"
        else:
            continue
        for name in names:
            if name.startswith("minidl."):
                yield name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = room(path)
    if here == "__init__":
        return
    assert here in ORDER, f"{here} has no place in the order of rooms"
    for there in imported_rooms(path.read_text()):
        if there in ORDER:  # else a public name of minidl itself, such as __version__
            assert ORDER.index(there) <= ORDER.index(here), f"{path} imports from {there}"


def test_the_reader_of_imports_sees_them_all():
    source = "import minidl.nn\ndef f():\n    from minidl import tensor\n    from minidl.cli import main\nimport numpy"
    assert list(imported_rooms(source)) == ["nn", "tensor", "cli"]


def test_what_a_student_reads_is_short():
    core = [*(ROOT / "ops").glob("*.py"), ROOT / "autograd.py", ROOT / "tensor.py"]
    assert sum(len(path.read_text().splitlines()) for path in core) < 2000


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 400
