"""The log of a run: one row of numbers per epoch, as a list of dicts (the history) and as a CSV file."""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from typing import Any

from minidl.interop import write_atomically

__all__ = ["COLUMNS", "read_log", "write_log"]

COLUMNS = (
    "epoch",  # finished epochs
    "step",  # optimiser steps done
    "lr",  # learning rate of the epoch's last step
    "train_loss",  # means over the epoch, measured while training
    "train_top1",  # accuracies are in [0, 1]
    "val_loss",
    "val_top1",
    "val_top5",
    "images_per_s",  # while training, without the first step of a process (it compiles the kernels)
    "seconds",  # the whole epoch, validation included
)


def write_log(history: Iterable[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Write the history as CSV, atomically; a missing value is an empty cell.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in history:
        values = [row.get(name) for name in COLUMNS]
        writer.writerow(["" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in values])
    write_atomically(path, [text.getvalue().encode()])


def read_log(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read a log that `write_log` wrote: one dict of numbers per epoch, None for an empty cell.

    Raises:
        ValueError: other columns, or a cell that is not a number.
        OSError: the file cannot be read.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"read_log: {os.fspath(path)} must have the columns {', '.join(COLUMNS)}")
        try:
            return [{name: _number(name, row[name]) for name in COLUMNS} for row in reader]
        except (ValueError, TypeError):
            raise ValueError(f"read_log: {os.fspath(path)}, line {reader.line_num}: a cell is not a number") from None


def _number(name: str, text: str) -> int | float | None:
    if text == "":
        return None
    return int(text) if name in ("epoch", "step") else float(text)
