"""explain: what a network computed, operation by operation: the formula, the numbers, the derivatives, the proof."""

import contextlib
import difflib
import html
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl.autograd import Node, differentiable, enable_grad
from minidl.kernels import get_kernel, list_kernels
from minidl.nn.module import Module
from minidl.primitives import is_floating
from minidl.study.flow import was_changed
from minidl.study.graph_text import shape_text
from minidl.study.one_pass import tensors_in, unchanged
from minidl.study.step_view import PLAIN, html_of, text_of
from minidl.study.steps import Line, RecordedGraph, Step
from minidl.tensor import Tensor
from minidl.watch import watch

__all__ = ["Explanation", "explain"]

OPEN = 3  # steps: so many are shown unfolded in a notebook


class Explanation:
    """Steps of a graph: text in a terminal, LaTeX in a notebook.

    Attributes:
        steps: what is shown (minidl.study.steps.Step), in the order in which it ran.
        remarks: lines above.
        left_out: how many operations are not shown; they stood after the first `before` that are.
    """

    def __init__(self, steps: Sequence[Step], remarks: Sequence[str] = (), left_out: int = 0, before: int = 0):
        self.steps, self.remarks = list(steps), list(remarks)
        self.left_out, self.before = left_out, before

    def _parts(self, show: Callable[[Step], str], remark: Callable[[str], str]) -> list[str]:
        parts = [show(step) for step in self.steps]
        if self.left_out:
            gap = f'... {self.left_out:,} not shown: limit=None shows all operations, path="..." those of one module'
            parts.insert(self.before, remark(gap))
        return [*map(remark, self.remarks), *parts]

    def __str__(self) -> str:
        return "\n\n".join(self._parts(text_of, str))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        opened = len(self.steps) <= OPEN

        def remark(text: str) -> str:
            return f"<div class='{PLAIN}'>{html.escape(text)}</div>"

        return f"<div>{''.join(self._parts(lambda step: html_of(step, opened), remark))}</div>"


def explain(
    source: Any, *inputs: Any, gradient: Any = None, limit: int | None = 20, path: str | None = None, **options: Any
) -> Explanation:
    """Show every operation of a graph: equations, shapes, arrays, what is kept for backward, the gradient through it.

        explain(loss)
        explain(F.conv2d, x, weight, padding=1)
        explain(nn.BatchNorm2d(3), x)
        explain("cross_entropy")

    Arrays of up to 16 elements are shown in full, larger ones by their statistics. Each number inside batch norm,
    forward and backward, is compared with autograd through primitive operations in float64. No `.grad`, buffer or
    random state changes; hooks on Tensors run.

    Args:
        source: a Tensor with a graph; a function or Module, which is run on `inputs` and `options`; or the name of an
            operation, run on them as its text in minidl.ops takes them, and without them only its equations are shown.
        inputs: of the function; copies are used, and of arrays (or if no Tensor requires a gradient) every floating one
            requires a gradient.
        gradient: the gradient by the output. Default: 1 for a single number; for a function's output of several
            numbers, random ones of seed 0. After a backward pass that freed the graph, `.grad` is shown.
        limit: at most so many operations, the first and the last ones; None for all.
        path: only the operations run by the module of this path, e.g. "layer1.0.bn1".

    Returns:
        An Explanation: `print` it, or let the notebook show it.

    Raises:
        TypeError: `source` or `limit` is of another type. ValueError: no graph was recorded, no operation has this
            name, or no module this path. RuntimeError: what backward needs was changed in place.
    """
    check_limit(limit)
    remarks: list[str] = []
    held: list[Tensor] = []  # so that no intermediate is dropped
    if isinstance(source, Tensor):
        if inputs or options:
            raise TypeError("explain: inputs and options belong to a function, but source is a Tensor")
        output = source
    elif isinstance(source, str) and not inputs and not options:
        return Explanation([equations_of(operation_named(source))])
    elif isinstance(source, str) or callable(source):
        output = run(operation_named(source) if isinstance(source, str) else source, inputs, options, held)
    else:
        raise TypeError(f"explain: source must be a Tensor, a function or a name, got {type(source).__name__}")
    if output is None or output.node is None:
        raise ValueError("explain: no graph was recorded; nothing that the output depends on requires a gradient")
    if gradient is None and held and output.numel() != 1:
        gradient = np.random.default_rng(0).standard_normal(output.shape).astype(output.dtype)
        remarks.append(f"the gradient by the output, {shape_text(output.shape)}, is random (seed 0)")
    graph = RecordedGraph([output], [gradient] if gradient is not None or output.numel() == 1 else None)
    if graph.freed:
        remarks.append("gradients: those in .grad; a backward pass freed the graph (retain_graph=True keeps it)")
    elif graph.gradients is None:
        remarks.append("gradients: those in .grad; the output is no single number, gradient=... makes them flow")
    if any(map(was_changed, graph.nodes)):
        remarks.append(
            "inputs are as they are now: some were changed in place since; what was read from them is left out"
        )
    nodes = at_path(graph, path)
    last = nodes[len(nodes) - limit // 2 :] if limit is not None and len(nodes) > limit else []
    first = nodes[: limit - len(last)] if last or limit == 1 else nodes
    return Explanation(graph.steps([*first, *last]), remarks, len(nodes) - len(first) - len(last), len(first))


def check_limit(limit: Any) -> None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | np.integer)):
        raise TypeError(f"explain: limit must be an integer or None, got {limit!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"explain: limit must be positive or None, got {limit}")


def run(function: Callable[..., Any], inputs: Sequence[Any], options: dict[str, Any], held: list[Tensor]) -> Any:
    """Call a function on copies of its inputs, holding everything that it computes; a Module stays as it was.

    Returns the first Tensor that came out with a graph, or None.
    """
    asked = any(isinstance(x, Tensor) and x.requires_grad for x in (*inputs, *options.values()))

    def copied(x: Any) -> Any:
        if not isinstance(x, Tensor | np.ndarray):
            return x
        copy = Tensor(np.array(x.array if isinstance(x, Tensor) else x))
        wanted = (x.requires_grad or not asked) if isinstance(x, Tensor) else True
        return copy.requires_grad_() if wanted and is_floating(copy) else copy

    def hold(operation: Any, given: tuple, options: dict, output: Tensor, saved: Any) -> None:
        held.append(output)

    with contextlib.ExitStack() as stack:
        if isinstance(function, Module):
            stack.enter_context(unchanged(function))
        stack.enter_context(enable_grad())
        stack.enter_context(watch(hold))
        output = function(*map(copied, inputs), **{name: copied(x) for name, x in options.items()})
    return next((t for t in tensors_in(output) if t.node is not None), None)


def operation_named(name: str) -> differentiable:
    """The operation of two registered texts."""
    names = [kernel.removesuffix("_forward") for kernel in list_kernels() if kernel.endswith("_forward")]
    if name not in names:
        near = difflib.get_close_matches(name, names) or names
        raise ValueError(f"explain: there is no operation named {name!r}; there is {', '.join(near)}")
    return differentiable(get_kernel(f"{name}_forward"), get_kernel(f"{name}_backward"))


def equations_of(operation: differentiable) -> Step:
    """An operation without numbers."""
    lines = [[Line(*pair) for pair in k.formulas.items()] for k in (operation.forward, operation.backward)]
    return Step(None, operation.__name__, forward=lines[0], backward=lines[1], kept=[])


def at_path(graph: RecordedGraph, path: str | None) -> list[Node]:
    """The nodes that the module of this path ran; all for None."""
    if path is None:
        return graph.nodes
    found = [n for n in graph.nodes if f"{graph.path(n)}.".startswith(f"{path}.")]
    if not found:
        paths = sorted({graph.path(node) for node in graph.nodes} - {""})
        near = difflib.get_close_matches(path, paths, n=5, cutoff=0.4) or paths[:8]
        raise ValueError(f"explain: no module of path {path!r} ran an operation; there is {', '.join(near) or 'none'}")
    return found
