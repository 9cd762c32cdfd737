"""What the commands share."""

import argparse
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

import minidl
from minidl import models
from minidl.nn import Module
from minidl.training import Checkpoint, Recipe, latest_checkpoint, load_checkpoint

CHECKPOINT = "checkpoint.safetensors"  # the names of the files in a run's folder
LOG = "log.csv"
CURVES = "curves.png"


class UsageError(Exception):
    """The command line asks for something that cannot be; exit code 2."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"minidl: error: {one_line(message)} (see `{self.prog} --help`)\n")


def one_line(message: Any) -> str:
    """Return a message without its line breaks."""
    return " ".join(str(message).split())


def add_command(commands: Any, name: str, run: Any, description: str, examples: str) -> argparse.ArgumentParser:
    """Add a command with its help; `run(args)` returns the exit code."""
    parser = commands.add_parser(
        name,
        help=description,
        description=description[0].upper() + description[1:] + ".",
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # SUPPRESS: `minidl --debug train` must not be undone by the default of `minidl train`
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    parser.set_defaults(run=run)
    return parser


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how to compute, not what."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the dataset (default: it is looked for)")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads that compute (default: one per core)")
    parser.add_argument("--workers", type=natural, default=1, metavar="N", help="threads that load (default: 1)")


def apply_machine_options(args: argparse.Namespace) -> None:
    """Check the data folder and set the number of threads."""
    if args.data is not None and not args.data.exists():
        raise UsageError(f"--data: there is no folder {args.data}")
    if args.threads is not None:
        minidl.set_num_threads(args.threads)


def positive(text: str) -> int:
    """Parse an integer above 0."""
    return _integer(text, 1)


def natural(text: str) -> int:
    """Parse an integer from 0 on."""
    return _integer(text, 0)


def _integer(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected an integer >= {least}, got {text!r}")
    return value


def load_run(path: Path) -> tuple[Path, Checkpoint, Recipe]:
    """Load a run from its folder, where the newest checkpoint counts, or from a checkpoint file.

    Returns:
        (folder, checkpoint, recipe)

    Raises:
        UsageError: there is nothing at `path`, or a checkpoint that no `minidl train` wrote.
        ValueError: a damaged file.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    if not file.exists():
        raise UsageError(f"there is no checkpoint {file}")
    checkpoint = latest_checkpoint(file) if path.is_dir() else load_checkpoint(file)
    if not isinstance(checkpoint.configuration.get("recipe"), dict):
        raise UsageError(f"{file} holds no recipe: it was not written by `minidl train`")
    return file.parent, checkpoint, Recipe.from_dict(checkpoint.configuration["recipe"])


def percent(share: float) -> str:
    """Show a share in [0, 1] as "NN.NN %"."""
    return f"{100 * share:.2f} %"


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the network that a command looks at, and the extents of its input."""
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


def load_network(args: argparse.Namespace) -> tuple[Module, Any]:
    """Make the network that `add_network` asked for; return it with the extents of its inputs.

    Raises:
        UsageError: there is no such network, it cannot be made without arguments, or its input is not known.
    """
    model, size = make_network(args.model)
    size = args.input or size
    if size is None:
        raise UsageError("--input is needed: the extents of an input without the batch, e.g. --input 3 224 224")
    return model, size


def make_network(name: str) -> tuple[Module, tuple[int, ...] | None]:
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
