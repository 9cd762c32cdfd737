"""`minidl weights`: what a file of weights holds."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidl.cli.common import UsageError, add_command
from minidl.interop import load
from minidl.tensor import Tensor

COLUMNS = ("name", "shape", "dtype", "min", "max", "mean", "std")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    examples = "  minidl weights resnet50.pth\n  minidl weights runs/resnet20-cifar10-1/checkpoint.safetensors"
    parser = add_command(commands, "weights", run, "list what a file of weights holds", examples)
    parser.add_argument("file", type=Path, metavar="FILE", help="a .safetensors, .npz, .pth, .pt or .th file")


def run(args: argparse.Namespace) -> int:
    """Show."""
    if not args.file.is_file():
        raise UsageError(f"there is no file {args.file}")
    found = list(entries(load(args.file)))
    arrays = [(name, value) for name, value in found if isinstance(value, np.ndarray)]
    lines = [COLUMNS, *((_printable(name), *statistics(array)) for name, array in arrays)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines if arrays else []:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    for name, value in found:
        if not isinstance(value, np.ndarray):
            print(f"{_printable(name)} = {_printable(repr(value))}")
    total, size = sum(array.size for _, array in arrays), sum(array.nbytes for _, array in arrays)
    print(f"{len(arrays)} tensors, {total:,} numbers, {size:,} bytes in memory")
    return 0


def entries(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, array or plain value) of nested dicts, lists and tuples."""
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(item, Tensor | Mapping | list | tuple) for item in value):
        pairs = enumerate(value)
    else:
        yield name, value.numpy() if isinstance(value, Tensor) else value
        return
    for key, item in pairs:
        yield from entries(item, f"{name}.{key}" if name else str(key))


def statistics(array: np.ndarray) -> tuple[str, ...]:
    """Describe an array by its shape, dtype, minimum, maximum, mean and standard deviation."""
    values: list[str] = ["", "", "", ""]
    if array.size and array.dtype.kind in "biuf":
        numbers = array.astype(np.float64)
        with np.errstate(all="ignore"):
            values = [f"{f(numbers):.4g}" for f in (np.min, np.max, np.mean, np.std)]
    return (str(array.shape), str(array.dtype), *values)


def _printable(text: str) -> str:
    """Show control characters, which a name in a file may hold, as escapes."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown if len(shown) <= 100 else shown[:97] + "..."
