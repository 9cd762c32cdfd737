"""trace: one training step, operation by operation, forward and backward."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl.autograd import enable_grad
from minidl.nn import functional as F
from minidl.nn.module import Module
from minidl.primitives import is_floating
from minidl.study.explain import Explanation
from minidl.study.graph_text import shape_text
from minidl.study.one_pass import unchanged
from minidl.study.steps import UNASKED, UNKNOWN, Line, RecordedGraph, Step
from minidl.study.table import Table
from minidl.study.values import special, statistics
from minidl.tensor import Tensor
from minidl.watch import watch

__all__ = ["Trace", "trace"]

COLUMNS = [">", "", "operation", "module", "", ">shape", ">min", ">mean", ">max", ">std", ""]


class Trace(Sequence):
    """The steps of one training step, a list: first forward, as the operations ran, then backward, in reverse.

    Attributes:
        loss: its value.
        forward: how many of the steps are forward; the others are backward.
    """

    def __init__(self, steps: Sequence[Step], loss: float):
        there = [dataclasses.replace(step, backward=[]) for step in steps]
        back = [dataclasses.replace(step, inputs=[], options={}, forward=[]) for step in reversed(steps)]
        numbered = enumerate([*there, *back])
        self._steps = [dataclasses.replace(step, number=i) for i, step in numbered]
        self.loss, self.forward = loss, len(there)

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, i: Any) -> Any:
        return self._steps[i]

    def step(self, i: int) -> Explanation:
        """Everything about step i: equations, arrays, what is kept, or the gradients.

        Raises:
            IndexError: there are not so many.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"step: i must be from 0 to {len(self) - 1}, got {i}")
        return Explanation([self._steps[i]])

    def table(self) -> Table:
        """One row for each output forward and each gradient backward; those with NaN or Inf stand out."""
        rows, marked = [], []
        for step in self:
            way = "forward" if step.number < self.forward else "backward"
            head = [str(step.number), way, step.name, step.path]
            for line in shown(step, step.number < self.forward):
                x = line.value
                numbers = [*statistics(x), "", "", "", ""][:4]
                if not np.isfinite(x).all():
                    marked.append(len(rows))
                rows.append([*head, line.name, shape_text(x.shape), *numbers, special(x)])
                head = [""] * 4
        back = len(self) - self.forward
        remark = f"loss {self.loss:.6g}; {self.forward} operations forward, {back} backward; .step(i) shows one of them"
        return Table(COLUMNS, rows, "one training step", [remark], marked)

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<div style='max-height:36em;overflow:auto'>{self.table()._repr_html_()}</div>"

    def slider(self) -> Any:
        """A slider through the steps, for a notebook: an ipywidgets box.

        Raises:
            ImportError: ipywidgets is not installed.
        """
        try:
            import ipywidgets
        except ImportError as error:
            message = "slider: needs ipywidgets; install it with pip install 'minidl[notebooks]'"
            raise ImportError(message) from error
        slider = ipywidgets.IntSlider(value=0, min=0, max=len(self) - 1, description="step")
        page = ipywidgets.HTMLMath(value=self.step(0)._repr_html_())

        def turn(change: dict[str, Any]) -> None:
            page.value = self.step(change["new"])._repr_html_()

        slider.observe(turn, names="value")
        return ipywidgets.VBox([slider, page])


def shown(step: Step, forward: bool) -> list[Line]:
    """The lines of a step that a row is made of: the output, or the gradients."""
    lines = step.forward[-1:] if forward else [line for line in step.backward[1:] if line.note != UNASKED]
    return [line for line in lines if line.value is not UNKNOWN]


def trace(model: Module, x: Any, y: Any, criterion: Callable[[Any, Any], Tensor] | None = None) -> Trace:
    """Walk through one training step of a network: loss = criterion(model(x), y) and its gradients.

    The network runs in the mode that it is in. Its parameters, `.grad`, buffers and the generator stay as they were.

    Args:
        model: the network.
        x: its input, a Tensor or array, or a tuple of several. y: the target, a Tensor or array.
        criterion: returns a single number; None for cross-entropy.

    Returns:
        A Trace: a list of steps; `print` shows a table, `.step(i)` one operation, `.slider()` walks in a notebook.

    Raises:
        TypeError: `model` is no Module. ValueError: the loss is no single number, or depends on no gradient.
    """
    if not isinstance(model, Module):
        raise TypeError(f"trace: model must be a Module, got {type(model).__name__}")
    inputs = [as_input(v) for v in (x if isinstance(x, tuple) else (x,))]
    target = Tensor(y) if isinstance(y, np.ndarray) else y
    held: list[Tensor] = []  # every output of an operation, so that none has to be computed again

    def hold(operation: Any, given: tuple, options: dict, output: Tensor, saved: Any) -> None:
        held.append(output)

    with unchanged(model), enable_grad(), watch(hold):
        loss = (criterion or F.cross_entropy)(model(*inputs), target)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"trace: the criterion must return a Tensor of a single number, got {got}")
        if loss.node is None:
            raise ValueError("trace: no graph was recorded; the loss depends on nothing that requires a gradient")
        graph = RecordedGraph([loss], [None])
        return Trace(graph.steps(graph.nodes), loss.item())


def as_input(x: Any) -> Any:
    """A copy that requires a gradient, so that operations before the first parameter are recorded too."""
    if not isinstance(x, Tensor | np.ndarray):
        return x
    copy = Tensor(np.array(x.array if isinstance(x, Tensor) else x))
    return copy.requires_grad_() if is_floating(copy) else copy
