"""`summary`: what a network is made of, layer by layer, and what it costs."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.creation import as_tensor
from minidl.nn.module import Module
from minidl.study.counts import Counts, counts_of
from minidl.study.kept import kept_for_backward
from minidl.study.layer_times import time_calls
from minidl.study.one_pass import OnePass, example_inputs, is_extent, one_pass
from minidl.study.summary_rows import Pass, Row, functional_operations, has_row, table_rows, tree_rows
from minidl.study.summary_view import COLUMNS, View, html_of, text_of
from minidl.tensor import Tensor

__all__ = ["Summary", "summary"]

CONVENTION = (
    "Multiply-adds count convolutions and matrix products; FLOPs count all arithmetic, a multiply-add as 2. "
    "Both are for one example, in {mode} mode."
)


@dataclass(frozen=True, repr=False)
class Summary:
    """What `summary` returns: `print` shows the table, a notebook shows it as HTML.

    Attributes:
        rows: the lines, with numbers for the batch that was run.
        counts: parameters, multiply-adds and FLOPs.
        input_bytes, pass_bytes, parameter_bytes: as torchsummary estimates them; a pass holds the outputs of all
            layers and their gradients.
        kept_bytes: what forward keeps for backward, as measured.
        seconds: of a forward pass; None where it was not measured.
    """

    rows: tuple[Row, ...]
    counts: Counts
    input_bytes: float
    pass_bytes: float
    parameter_bytes: int
    kept_bytes: float
    seconds: float | None
    view: View

    def __str__(self) -> str:
        return text_of(self.view)

    def __repr__(self) -> str:
        return f"<Summary: {self.counts.parameters:,} parameters, {self.counts.multiply_adds:,} multiply-adds>"

    def _repr_html_(self) -> str:
        return html_of(self.view)


def summary(
    model: Module,
    input_size: Any = None,
    *,
    input_data: Any = None,
    batch_size: int | None = None,
    dtypes: Any = None,
    depth: int | None = None,
    columns: Sequence[str] = ("parameters", "multiply_adds"),
    timing: bool = False,
    tree: bool = False,
    functional: bool = False,
    verbose: bool = True,
) -> Summary:
    """Show a network's layers with the shapes of their outputs, their parameters and what they cost.

    One pass is run over an example, in the mode that the network is in; the network is left as it was.

    Args:
        model: the network.
        input_size: extents of an input without the batch, e.g. (3, 224, 224), or a list of such, one for each input.
        input_data: instead of sizes: a batch, or a tuple or list with one for each input.
        batch_size: shown in shapes, used for memory and time; None for -1, memory of one example.
        dtypes: of the inputs, for `input_size`: one, or a list; None for the dtype of the parameters.
        depth: how deep to look into modules of modules; None for all the way, 1 for the network's own children.
        columns: any of "parameters", "multiply_adds", "flops" (forward), "flops_backward", "kept" (MB that forward
            keeps for backward).
        timing: measure how long each forward call takes, as the median of several runs.
        tree: one row for each module, indented and with its share of the parameters, instead of one for each call.
        functional: rows in the table for operations that no layer runs (those of blocks and of the network itself).
        verbose: print the result; a notebook shows it by itself, as the value of a cell's last line.

    Returns:
        Summary.

    Raises:
        ValueError, TypeError: arguments that do not fit, or inputs that the network cannot take: the message names
            the module that failed, and the shapes up to there.
    """
    unknown = [name for name in columns if name not in COLUMNS]
    if isinstance(columns, str) or unknown:
        raise ValueError(f"summary: columns must be among {', '.join(COLUMNS)}, got {columns!r}")
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
        raise ValueError(f"summary: depth must be an integer >= 0 or None, got {depth!r}")
    inputs = given_inputs(model, input_size, input_data, batch_size, dtypes)
    seen = one_pass("summary", model, inputs)
    times, seconds = None, None
    if timing:
        if input_data is None and batch_size is not None:
            inputs = example_inputs("summary", model, input_size, batch_size, dtypes)
        times, seconds = time_calls(model, inputs)
    kept = dict(zip(seen.operations, kept_for_backward(seen.operations, model), strict=True))
    observed = Pass(model, seen, kept, times)
    rows = tree_rows(observed, depth) if tree else table_rows(observed, depth, functional)
    shown = seen.examples if input_data is not None else batch_size
    scale = (shown or 1) / seen.examples
    counts = counts_of(model, seen)
    sizes = dict(
        input_bytes=scale * sum(x.numel() * x.dtype.itemsize for x in seen.inputs),
        pass_bytes=scale * sum(2 * call.bytes for call in seen.calls if has_row(call, None)),
        parameter_bytes=sum(p.numel() * p.dtype.itemsize for p in model.parameters()),
        kept_bytes=scale * sum(kept.values()),
    )
    totals = [*total_lines(counts, **sizes)]
    if seconds is not None:
        totals[-1].append(("Forward time (ms)", f"{1e3 * seconds:.2f} for a batch of {inputs[0].shape[0]}"))
    notes = notes_on(observed, counts, rows, depth, tree, functional)
    view = View(rows, (*columns, *["time"] * timing), tree, seen.examples, shown, counts.parameters, totals, notes)
    result = Summary(tuple(rows), counts, **sizes, seconds=seconds, view=view)
    if verbose and not in_notebook():
        print(result)
    return result


def given_inputs(model: Module, input_size: Any, input_data: Any, batch_size: int | None, dtypes: Any) -> list[Any]:
    """What to call the network with: the data, or a few examples of zeros."""
    if (input_size is None) == (input_data is None):
        raise ValueError("summary: give either input_size, e.g. (3, 224, 224), or input_data, a batch")
    if input_data is None:
        if batch_size is not None and not is_extent(batch_size):
            raise ValueError(f"summary: batch_size must be a positive integer or None, got {batch_size!r}")
        return example_inputs("summary", model, input_size, None, dtypes)
    if batch_size is not None or dtypes is not None:
        raise ValueError("summary: input_data has its own batch and dtypes; leave out batch_size and dtypes")
    if not isinstance(model, Module):
        raise TypeError(f"summary: model must be a Module, got {type(model).__name__}")
    batches = input_data if isinstance(input_data, list | tuple) else [input_data]
    for batch in batches:
        if not isinstance(batch, Tensor | np.ndarray):
            raise TypeError(
                f"summary: input_data must be a Tensor, an array, or a list of such, got {type(batch).__name__}"
            )
    if not batches:
        raise ValueError("summary: input_data holds no input")
    return [as_tensor(batch) for batch in batches]


def total_lines(
    counts: Counts, input_bytes: float, pass_bytes: float, parameter_bytes: int, kept_bytes: float
) -> list[list[tuple[str, str]]]:
    """The totals below the table, in three groups; the first two are torchsummary's."""
    MB = 1024**2
    return [
        [
            ("Total params", f"{counts.parameters:,}"),
            ("Trainable params", f"{counts.trainable_parameters:,}"),
            ("Non-trainable params", f"{counts.parameters - counts.trainable_parameters:,}"),
        ],
        [
            ("Input size (MB)", f"{input_bytes / MB:.2f}"),
            ("Forward/backward pass size (MB)", f"{pass_bytes / MB:.2f}"),
            ("Params size (MB)", f"{parameter_bytes / MB:.2f}"),
            ("Estimated Total Size (MB)", f"{(input_bytes + pass_bytes + parameter_bytes) / MB:.2f}"),
        ],
        [
            ("Multiply-adds", f"{counts.multiply_adds:,}"),
            ("FLOPs, forward", f"{counts.flops_forward:,}"),
            ("FLOPs, forward + backward", f"{counts.flops_forward_backward:,}"),
            ("Kept for backward (MB)", f"{kept_bytes / MB:.2f}"),
        ],
    ]


def notes_on(seen: Pass, counts: Counts, rows: list[Row], depth: int | None, tree: bool, functional: bool) -> list[str]:
    """The remarks below the totals."""
    notes = []
    alone = functional_operations(seen.trace, depth)
    if alone and not tree and not functional:
        names = ", ".join(f"{number} {name}" for name, number in Counter(o.name for o in alone).most_common())
        notes.append(f"Operations that no layer runs: {names}. functional=True gives them rows.")
    if not tree:
        missing = unlisted(seen.model, seen.trace, depth)
        if missing:
            names = ", ".join(list(missing)[:3]) + (", ..." if len(missing) > 3 else "")
            notes.append(f"Parameters in no row: {sum(missing.values()):,} ({names}).")
    if any(row.shared for row in rows):
        notes.append("(Parameters in brackets) are shared, and counted in the row that has them first.")
    notes.append(CONVENTION.format(mode="training" if seen.model.training else "evaluation"))
    if counts.estimated:
        notes.append(f"FLOPs of {', '.join(counts.estimated)} are estimated: 1 per element of output and gradient.")
    return notes


def unlisted(model: Module, seen: OnePass, depth: int | None) -> dict[str, int]:
    """Parameters of modules that were not called, or have no row: name and how many numbers."""
    listed = {
        id(p)
        for call in seen.calls
        if has_row(call, depth)
        for p in call.module.parameters(recurse=call.depth == depth or not list(call.module.children()))
    }
    return {name: p.numel() for name, p in model.named_parameters() if id(p) not in listed}


def in_notebook() -> bool:
    """Whether a notebook runs this, which shows values by itself."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
