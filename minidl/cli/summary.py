"""`minidl summary`: the layers of a network, and what they cost."""

import argparse
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from minidl import models
from minidl.cli.common import UsageError, add_command, natural, positive
from minidl.nn import Module
from minidl.study.summary import summary
from minidl.study.summary_view import COLUMNS

_EXAMPLES = """\
  minidl summary resnet20
  minidl summary resnet50 --tree --depth 2
  minidl summary resnet20 --input 3 64 64 --batch-size 32 --time
  minidl summary mynet.py:MyNet --input 3 32 32            a class, or a function, of a file of yours"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "summary", run, "show a network's layers and what they cost", _EXAMPLES)
    parser.add_argument(
        "model", metavar="MODEL", help=f"FILE.py:NAME, which is run, or one of {', '.join(models.list_models())}"
    )
    parser.add_argument(
        "--input",
        type=positive,
        nargs="+",
        action="append",
        metavar="N",
        help="extents of an input without the batch, again for each further input (default: the network's own)",
    )
    parser.add_argument("--batch-size", type=positive, metavar="N", help="for memory and time (default: one example)")
    parser.add_argument("--tree", action="store_true", help="the tree of modules instead of the calls in order")
    parser.add_argument("--depth", type=natural, metavar="N", help="how deep to look into modules of modules")
    parser.add_argument("--functional", action="store_true", help="rows for operations that no layer runs")
    parser.add_argument("--time", action="store_true", help="measure each layer's forward time")
    parser.add_argument(
        "--columns",
        nargs="+",
        choices=COLUMNS,
        default=["parameters", "multiply_adds"],
        metavar="NAME",
        help=f"among {', '.join(COLUMNS)} (default: parameters multiply_adds)",
    )


def run(args: argparse.Namespace) -> int:
    """Show."""
    model, size = load(args.model)
    size = args.input or size
    if size is None:
        raise UsageError("--input is needed: the extents of an input without the batch, e.g. --input 3 224 224")
    shown = summary(
        model,
        size,
        batch_size=args.batch_size,
        depth=args.depth,
        columns=args.columns,
        timing=args.time,
        tree=args.tree,
        functional=args.functional,
        verbose=False,
    )
    print(shown)
    return 0


def load(name: str) -> tuple[Module, tuple[int, ...] | None]:
    """Make a network of minidl.models by its name, or of the user's file; and the size of its input if it is known.

    Raises:
        UsageError: there is no such network, or it cannot be made without arguments.
    """
    if name in models.list_models():
        return models.get_model(name), documented_size(name)
    file, _, what = name.rpartition(":")
    if not file.endswith(".py"):
        try:
            models.get_model(name)
        except ValueError as error:
            raise UsageError(f"{error}; a network of your own is given as FILE.py:NAME") from error
    module = run_file(Path(file))
    if not callable(getattr(module, what, None)):
        raise UsageError(f"{file} defines no class or function {what!r}")
    try:
        model = getattr(module, what)()
    except TypeError as error:
        raise UsageError(f"{name} cannot be called without arguments: {error}") from error
    if not isinstance(model, Module):
        raise UsageError(f"{name} must make a Module, it made: {type(model).__name__}")
    return model, None


def documented_size(name: str) -> tuple[int, ...] | None:
    """The extents of "input (N, 3, 32, 32)" in the documentation of a network."""
    found = re.search(r"input \(N, ([\d, ]+)\)", inspect.getdoc(getattr(models, name, None)) or "")
    return tuple(int(extent) for extent in found[1].split(",")) if found else None


def run_file(path: Path) -> Any:
    """Run a Python file as a module; it may import what lies beside it."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module
