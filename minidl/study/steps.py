"""One recorded operation seen from inside: its equations with the numbers that they give, forward and backward."""

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl.autograd import FREED, Node
from minidl.kernels import Kernel
from minidl.kernels.deferred import settled
from minidl.study.batch_norm_check import by_autograd
from minidl.study.flow import gradients_of, value_of, values_of, was_changed
from minidl.study.formulas import differentials, output_name
from minidl.study.graph_boxes import Source
from minidl.tensor import Tensor

__all__ = ["UNASKED", "UNKNOWN", "Line", "RecordedGraph", "Step"]

UNKNOWN = object()  # stands for a value that was dropped, or not computed
SUMMED = ".grad: the sum over all that read it"
UNASKED = "not asked for"  # said of a gradient that nobody needs
SMALL = 1 << 18  # elements of inputs and output: beyond, an operation's text is not run for the numbers inside it


@dataclass
class Line:
    """A name, what it is equal to, and its number or array.

    Attributes:
        name: as in the code.
        formula: LaTeX with names of the code, or "".
        value: an array or anything else, or UNKNOWN.
        note: where it comes from.
        difference: the largest difference from what autograd finds through primitive operations in float64, and the
            largest value there.
    """

    name: str
    formula: str = ""
    value: Any = UNKNOWN
    note: str = ""
    difference: tuple[float, float] | None = None


@dataclass
class Step:
    """An operation: what goes in, its equations forward, what it keeps, its equations backward.

    Attributes:
        number: in the order in which the operations ran; None for an operation that did not run.
        name: of the operation.
        path, kind: of the innermost module that ran it, and the module's type; "" outside of modules.
        shape: of the output, if it ran.
        options: name -> value. inputs, forward: lines. backward: lines, the first is the incoming gradient; none where
            no gradient is known.
        kept: what is saved for backward; None after it was freed.
        bytes: of the arrays in it.
    """

    number: int | None
    name: str
    path: str = ""
    kind: str = ""
    shape: tuple[int, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    inputs: list[Line] = field(default_factory=list)
    forward: list[Line] = field(default_factory=list)
    kept: list[Line] | None = None
    bytes: int = 0
    backward: list[Line] = field(default_factory=list)


class RecordedGraph:
    """The graph of some outputs, from which steps are made.

    Args:
        outputs: Tensors with a graph.
        upstream: their gradients (None for 1); None to take gradients from `.grad` only.
    """

    def __init__(self, outputs: Sequence[Tensor], upstream: Sequence[Any] | None):
        self.source = Source(outputs, [], None, {}, None)
        self.nodes = self.source.nodes
        self.number = {id(node): i for i, node in enumerate(self.nodes)}
        self.freed = any(node.saved is FREED for node in self.nodes)
        self.gradients = None if upstream is None or self.freed else gradients_of(outputs, upstream)

    def path(self, node: Node) -> str:
        return self.source.paths.get(id(node.modules[-1]), "") if node.modules else ""

    def steps(self, wanted: Collection[Node]) -> list[Step]:
        """The steps of the wanted nodes."""
        values, again = values_of(self.nodes, wanted)
        return [self.step(node, values, again) for node in wanted]

    def step(self, node: Node, values: dict[int, np.ndarray], again: Collection[int]) -> Step:
        kind = type(node.modules[-1]).__name__ if node.modules else ""
        step = Step(self.number[id(node)], node.name, self.path(node), kind, tuple(node.shape), node.options)
        given = [value_of(x, values) if need else settled(x) for x, need in zip(node.inputs, node.needs, strict=True)]
        names = input_names(node)
        origins = map(self.origin, node.inputs)
        rows = zip(names, given, node.needs, origins, strict=True)
        step.inputs = [Line(name, "", UNKNOWN if x is None and need else x, note) for name, x, need, note in rows]
        arrays = [x for x in (*given, values.get(id(node))) if hasattr(x, "shape")]
        inside = node.name == "batch_norm" or sum(x.size for x in arrays) <= SMALL
        known = all(x is not None for x, need in zip(given, node.needs, strict=True) if need) and not was_changed(node)
        own: dict[str, Any] = run_inside(node.forward, given, node.options)[1] if inside and known else {}
        output, note = output_name(node.backward), "computed again" if id(node) in again else ""
        for name, formula in node.forward.formulas.items():
            value = values.get(id(node), UNKNOWN) if name == output else own.get(name, UNKNOWN)
            step.forward.append(Line(name, formula, value, note if name == output else ""))
        if node.saved is not FREED:
            step.kept = kept_lines(node)
            step.bytes = sum(line.value.nbytes for line in step.kept if isinstance(line.value, np.ndarray))
        dy = self.gradient(node)
        if dy is not None and known:
            step.backward = self.backward(node, names, given, dy, inside)
            if node.name == "batch_norm":
                compare(step, by_autograd(*given, dy, node.options["eps"]))
        else:
            leaves = [(name, self.gradient(x)) for name, x in zip(names, node.inputs, strict=True)]
            step.backward = [Line(f"d{name}", "", dx, SUMMED) for name, dx in leaves if dx is not None]
        return step

    @np.errstate(all="ignore")
    def backward(self, node: Node, names: Sequence[str], given: Sequence[Any], dy: Any, inside: bool) -> list[Line]:
        """The incoming gradient, and the equations of the derivatives with their values."""
        lines = [Line(f"d{output_name(node.backward)}", "", np.asarray(dy), "the incoming gradient")]
        saved = node.saved if node.saved is not FREED else node.forward(*given, **node.options)[1]
        dxs = zip(names, node.backward(dy, saved, node.needs), node.needs, strict=True)
        found = {f"d{name}": np.asarray(settled(dx)) for name, dx, need in dxs if need}
        own = run_inside(node.backward, (dy, settled_all(saved), node.needs), {})[1] if inside else {}
        unasked = {f"d{name}" for name, need in zip(names, node.needs, strict=True) if not need}
        for name, formula in node.backward.formulas.items():
            if name == "darrays":
                lines += [Line(key, f"dy[part_{i + 1}]", value) for i, (key, value) in enumerate(found.items())]
            else:
                value = found.get(name, own.get(name))
                note = UNASKED if name in unasked else ""
                lines.append(Line(name, formula, UNKNOWN if value is None else value, note))
        return lines

    def gradient(self, edge: Any) -> np.ndarray | None:
        """The gradient by a node's output or a leaf: as it flowed just now, or as `.grad` keeps it."""
        if not isinstance(edge, Node | Tensor):
            return None
        if self.gradients is not None:
            return self.gradients.get(id(edge))
        x = edge.output() if isinstance(edge, Node) else edge
        return x.grad.array if x is not None and x.edge is edge and x.grad is not None else None

    def origin(self, x: Any) -> str:
        """Where an input comes from."""
        if isinstance(x, Node):
            return f"from {self.number[id(x)]}"
        name = self.source.parameters.get(id(x)) or self.source.buffers.get(id(x))
        return name or ("leaf" if isinstance(x, Tensor) else "" if x is None else "constant")


def input_names(node: Node) -> list[str]:
    """The names that the forward text gives to its inputs; arrays_1, arrays_2, ... where it takes any number."""
    names = [name[1:] for name in differentials(node.forward)]
    if len(names) != len(node.inputs) or names == ["arrays"]:
        return [f"arrays_{i + 1}" for i in range(len(node.inputs))]
    return names


def run_inside(kernel: Kernel, args: Sequence[Any], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Run a text on arrays; returns its result, and its own variables as they were at its end."""
    seen: dict[str, Any] = {}

    def at_return(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is kernel.text.__code__:
            seen.update(frame.f_locals)

    before: Callable | None = sys.getprofile()
    sys.setprofile(at_return)
    try:
        with np.errstate(all="ignore"):
            result = kernel.text(*args, **options)
    finally:
        sys.setprofile(before if callable(before) else None)
    return result, seen


def settled_all(saved: Any) -> Any:
    return tuple(map(settled, saved)) if type(saved) is tuple else settled(saved)


def kept_lines(node: Node) -> list[Line]:
    """What the node saved, by the names that the text's return statement gives."""
    names = saved_names(node.forward)
    saved = node.saved if type(node.saved) is tuple and len(names) != 1 else (node.saved,)
    names = names if len(names) == len(saved) else [f"saved[{i}]" for i in range(len(saved))]
    return [Line(name, "", settled(value)) for name, value in zip(names, saved, strict=True) if value is not None]


@functools.cache
def saved_names(kernel: Kernel) -> list[str]:
    """How the forward text writes what it saves: ["x", "gamma", "mean", ...] for `return y, (x, gamma, mean, ...)`."""
    try:
        source = textwrap.dedent(inspect.getsource(kernel.text))
    except OSError:  # no source at hand
        return []
    returned = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Return)]
    saved = next((v.elts[1] for v in returned if isinstance(v, ast.Tuple) and len(v.elts) == 2), None)
    if saved is None:
        return []
    return [ast.unparse(v) for v in saved.elts] if isinstance(saved, ast.Tuple) else [ast.unparse(saved)]


@np.errstate(all="ignore")
def compare(step: Step, exact: dict[str, np.ndarray]) -> None:
    """Note beside each line how far it is from the exact value."""
    for line in (*step.forward, *step.backward):
        if line.name in exact and isinstance(line.value, np.ndarray):
            expected = exact[line.name].reshape(line.value.shape)
            off = np.abs(line.value - expected).max() if expected.size else 0.0
            line.difference = float(off), float(np.abs(expected).max()) if expected.size else 0.0
