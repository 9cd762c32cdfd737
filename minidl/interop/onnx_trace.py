"""What a model computes, as a list of steps: the graph that autograd records, read twice.

The model runs on x and on other numbers, in a batch one larger where the batch is to stay free. What both runs have in
common belongs to the model; an extent that differs follows the batch (`Varying`); all else that differs was computed
from the values of x where no operation sees it, and burning it in would be wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minidl import primitives as op
from minidl.autograd import Node, TensorBase, enable_grad, reach
from minidl.nn.module import Module
from minidl.tensor import Tensor

__all__ = ["Input", "Result", "Step", "Trace", "Varying", "is_varying", "trace"]


class Varying(NamedTuple):
    """A number or an array that differed between the two runs."""

    first: Any
    second: Any


class Input(NamedTuple):
    """The model's input of this number."""

    number: int


class Result(NamedTuple):
    """What the step of this number computed."""

    number: int


@dataclass
class Step:
    """One operation: its name, the module that ran it, its inputs and options, and the shape of its result."""

    op: str
    path: str  # of the module, dotted
    kind: str  # of the module
    inputs: list[Any]  # Input, Result, array, number or None; Varying where the runs differ
    options: dict[str, Any]
    shape: tuple[Any, ...]

    @property
    def where(self) -> str:
        return (
            f"{self.op!r} in {self.path} ({self.kind})" if self.path else f"{self.op!r} in {self.kind or 'the model'}"
        )


@dataclass
class Trace:
    steps: list[Step]
    outputs: list[Result | Input]
    batches: tuple[int, int] | None  # of the two runs, where they differ
    several: bool  # whether the model returned a list


def is_varying(value: Any) -> bool:
    """Whether anything in it differed between the runs."""
    if isinstance(value, Varying):
        return True
    if isinstance(value, slice):
        return any(map(is_varying, (value.start, value.stop, value.step)))
    return isinstance(value, tuple | list) and any(map(is_varying, value))


def trace(model: Module, inputs: Sequence[np.ndarray], dynamic_batch: bool) -> Trace:
    """Run the model and list what it did; parameters must not require gradients.

    Raises:
        ValueError: the model computes something else for other values, or an output does not depend on x.
        TypeError: it does not return a Tensor or a list of them.
    """
    more = int(dynamic_batch)
    first, second = Run(model, inputs), other_run(model, inputs, more)
    paths = {id(module): name for name, module in model.named_modules()}
    steps = [paired(a, b, first, second, paths) for a, b in zip(first.nodes, second.nodes, strict=False)]
    if len(first.nodes) != len(second.nodes) or first.ends != second.ends:
        raise another_way(f"{len(first.nodes)} and {len(second.nodes)} operations")
    batches = (inputs[0].shape[0], inputs[0].shape[0] + 1) if more else None
    return Trace(steps, first.ends, batches, first.several)


def other_run(model: Module, inputs: Sequence[np.ndarray], more: int) -> "Run":
    """Run the model on `more` images more, of random numbers; if it refuses those, between 0 and x's extremes."""
    rng = np.random.default_rng(0)
    shapes = [(x.shape[0] + more, *x.shape[1:]) if more else x.shape for x in inputs]
    normal = [rng.standard_normal(shape) for shape in shapes]
    between = [rng.uniform(x.min(initial=0), x.max(initial=0), shape) for x, shape in zip(inputs, shapes, strict=True)]
    for numbers in (normal, between):
        try:
            return Run(model, [v.astype(x.dtype) for v, x in zip(numbers, inputs, strict=True)])
        except Exception as error:
            failure = error
    raise ValueError(
        f"export_onnx: the model runs on x but fails on other numbers of shape {shapes[0]}: {failure}"
        + ("; for a model of one batch size pass dynamic_batch=False" if more else "")
    ) from failure


class Run:
    """One run of the model: its outputs, and the nodes that they depend on, oldest first."""

    def __init__(self, model: Module, arrays: Sequence[np.ndarray]):
        self.leaves = [Tensor(array).requires_grad_() for array in arrays]
        with enable_grad():
            # Clones, so that the model may change its inputs in place.
            y = model(*(op.cast(leaf, dtype=leaf.dtype) for leaf in self.leaves))
        self.several = isinstance(y, tuple | list)
        outputs = list(y) if self.several else [y]
        for i, tensor in enumerate(outputs):
            if not isinstance(tensor, TensorBase):
                raise TypeError(
                    f"export_onnx: the model must return a Tensor or a list of them; output {i} is "
                    f"a {type(tensor).__name__}"
                )
            if tensor.node is None:
                raise ValueError(
                    f"export_onnx: output {i} of the model does not depend on x by any recorded operation "
                    "(detach, no_grad, a comparison or .array cut it off)"
                )
        self.same: dict[int, Any] = {}  # what a node that changes nothing has for input
        self.nodes = []
        for node in reach((y.node for y in outputs), {})[0]:
            if changes_nothing(node):
                self.same[id(node)] = node.inputs[0]
            else:
                self.nodes.append(node)
        self.places = {id(node): place for place, node in enumerate(self.nodes)}
        self.ends = [self.source(y.node) for y in outputs]

    def source(self, x: Any) -> Any:
        """Where an operation's input comes from."""
        while id(x) in self.same:
            x = self.same[id(x)]
        if isinstance(x, Node):
            return Result(self.places[id(x)])
        for number, leaf in enumerate(self.leaves):
            if x is leaf:
                return Input(number)
        return x.array if isinstance(x, TensorBase) else x


def changes_nothing(node: Node) -> bool:
    """Whether it only notes that a Tensor took over another's elements (a copy); fused kernels do without the note."""
    if node.name == "cast":
        return node.options["dtype"] == node.saved
    return node.name == "broadcast_to" and tuple(node.shape) == tuple(node.saved)


def paired(a: Node, b: Node, first: Run, second: Run, paths: dict[int, str]) -> Step:
    """The step that two nodes of the same place in the two runs stand for."""
    module = next((m for m in reversed(a.modules) if id(m) in paths), None)
    kind = type(a.modules[-1]).__name__ if a.modules else ""
    step = Step(a.name, paths.get(id(module), ""), kind, [], a.options, a.shape)
    sources = [[run.source(x) for x in node.inputs] for run, node in ((first, a), (second, b))]
    if a.name != b.name or list(map(link, sources[0])) != list(map(link, sources[1])):
        raise another_way(f"{step.where} and {b.name!r}")
    step.inputs = [merge(u, v) for u, v in zip(*sources, strict=True)]
    step.options = {key: merge(value, b.options[key]) for key, value in a.options.items()}
    step.shape = merge(a.shape, b.shape)
    return step


def link(source: Any) -> Any:
    return source if isinstance(source, Input | Result) else None


def another_way(what: str) -> ValueError:
    return ValueError(
        f"export_onnx: the model goes another way for other numbers or another batch size ({what}); "
        "a file holds one way only"
    )


def merge(a: Any, b: Any) -> Any:
    """What two runs have in common; Varying where they differ."""
    if isinstance(a, slice) and isinstance(b, slice):
        return slice(merge(a.start, b.start), merge(a.stop, b.stop), merge(a.step, b.step))
    if isinstance(a, tuple | list) and type(a) is type(b) and len(a) == len(b):
        merged = [merge(u, v) for u, v in zip(a, b, strict=True)]
        make: Callable = getattr(type(a), "_make", type(a))  # a named tuple
        return make(merged)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        floating = getattr(a, "dtype", np.dtype(int)).kind == "f"
        return a if type(a) is type(b) and np.array_equal(a, b, equal_nan=floating) else Varying(a, b)
    return a if a is b or a == b or (a != a and b != b) else Varying(a, b)
