"""What the commands share."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

import minidl
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
