"""One pass of a network over an example, seen from inside: the modules it calls and the operations they run.

The network is left as it was: its buffers, training flags and the generator are put back, also after an error.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.arguments import as_dtype
from minidl.autograd import Node, enable_grad, reach
from minidl.creation import zeros
from minidl.nn.module import Module
from minidl.primitives import is_floating
from minidl.random import get_rng_state, set_rng_state
from minidl.study.costs import Cost, cost
from minidl.tensor import Tensor
from minidl.watch import watch

__all__ = [
    "ModuleCall",
    "Operation",
    "OnePass",
    "example_inputs",
    "is_extent",
    "tensors_in",
    "total_cost",
    "one_pass",
    "unchanged",
]


@dataclass(eq=False)
class Operation:
    """One call of an operation; `calls` are those of the modules that ran it, the outermost first."""

    name: str
    calls: "tuple[ModuleCall, ...]"
    shapes: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    cost: Cost
    node: Node | None

    @property
    def path(self) -> str:
        """The path of the innermost module."""
        return self.calls[-1].path if self.calls else ""


@dataclass(eq=False)
class ModuleCall:
    """One call of a module; `depth` is the number of calls around it."""

    path: str
    module: Module
    depth: int
    shapes: Sequence[tuple[int, ...]] = ()  # of the Tensors in its output
    bytes: int = 0  # of the Tensors in its output


@dataclass
class OnePass:
    """What happened: calls and operations in the order in which they ended."""

    inputs: list[Tensor]
    events: list[ModuleCall | Operation]
    output: Any

    @property
    def operations(self) -> list[Operation]:
        return [event for event in self.events if isinstance(event, Operation)]

    @property
    def calls(self) -> list[ModuleCall]:
        return [event for event in self.events if isinstance(event, ModuleCall)]

    @property
    def examples(self) -> int:
        """Extent of the batch: axis 0 of the first input."""
        return self.inputs[0].shape[0] if self.inputs and self.inputs[0].ndim else 1


def total_cost(operations: Iterable[Operation]) -> Cost:
    return sum((operation.cost for operation in operations), Cost())


def tensors_in(value: Any) -> list[Tensor]:
    """The Tensors in a Tensor, a list, a tuple or a dict of such."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in tensors_in(item)] if isinstance(value, list | tuple) else []


def example_inputs(function: str, model: Module, input_size: Any, batch_size: int | None, dtypes: Any) -> list[Tensor]:
    """Zeros of the sizes asked for, with a batch axis in front.

    Args:
        function: named by errors.
        input_size: extents without the batch, e.g. (3, 224, 224), or a list or tuple of such, one for each input.
        batch_size: examples; None for 2 in training mode, where batch norm needs more than one value, else 1.
        dtypes: of all inputs, or a list with one for each; None for the dtype of the network's parameters.

    Raises:
        ValueError, TypeError: sizes, a batch size or dtypes that are none.
    """
    if not isinstance(model, Module):
        raise TypeError(f"{function}: model must be a Module, got {type(model).__name__}")
    if batch_size is None:
        batch_size = 2 if model.training else 1
    if not is_extent(batch_size):
        raise ValueError(f"{function}: batch_size must be a positive integer, got {batch_size!r}")
    sizes = as_sizes(function, input_size)
    dtypes = list(dtypes) if isinstance(dtypes, list | tuple) else [dtypes] * len(sizes)
    if len(dtypes) != len(sizes):
        raise ValueError(f"{function}: dtypes has {len(dtypes)} entries for {len(sizes)} inputs")
    own = next((p.dtype for p in model.parameters() if is_floating(p)), np.dtype(np.float32))
    found = [own if dtype is None else as_dtype(function, dtype) for dtype in dtypes]
    return [zeros(batch_size, *size, dtype=dtype) for size, dtype in zip(sizes, found, strict=True)]


def is_extent(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0


def as_sizes(function: str, input_size: Any) -> list[tuple[int, ...]]:
    """One tuple of extents for each input."""
    if isinstance(input_size, int | np.integer):
        input_size = (input_size,)
    if isinstance(input_size, list | tuple):
        several = len(input_size) > 0 and all(isinstance(size, list | tuple) for size in input_size)
        sizes = [tuple(size) for size in (input_size if several else [input_size])]
        if all(is_extent(extent) for size in sizes for extent in size):
            return sizes
    raise ValueError(
        f"{function}: input_size must be positive extents without the batch, e.g. (3, 224, 224), or a list of such, "
        f"one for each input; got {input_size!r}"
    )


@contextlib.contextmanager
def unchanged(model: Module) -> Iterator[None]:
    """Put back buffers, training flags and the generator's state at the end of the block."""
    modules, rng = list(model.modules()), get_rng_state()
    flags = [module.training for module in modules]
    registers = [dict(module._buffers) for module in modules]
    buffers = [(b, b.array.copy(), b.memory.changes) for b in model.buffers()]
    try:
        yield
    finally:
        set_rng_state(rng)
        for module, flag, register in zip(modules, flags, registers, strict=True):
            object.__setattr__(module, "training", flag)
            module._buffers.clear()
            module._buffers.update(register)
        for buffer, array, changes in buffers:
            buffer.array[...] = array
            buffer.memory.changes = changes  # the same bits again: what was saved of it is still good


def one_pass(function: str, model: Module, inputs: Sequence[Any]) -> OnePass:
    """Run the network once in the mode it is in, recording gradients' graph, and note what it calls.

    Args:
        function: named by errors.
        model: the network.
        inputs: what it is called with.

    Raises:
        ValueError: the network cannot take these inputs; the message tells where it failed, and the shapes up to there.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    events: list[ModuleCall | Operation] = []
    running: list[ModuleCall] = []

    def enter(module: Module, _: tuple) -> None:
        running.append(ModuleCall(paths[id(module)], module, len(running)))

    def leave(module: Module, _: tuple, output: Any) -> None:
        while (call := running.pop()).module is not module:
            pass  # calls that ended in an error which the network handled
        call.shapes = [tuple(t.shape) for t in tensors_in(output)]
        call.bytes = sum(t.numel() * t.dtype.itemsize for t in tensors_in(output))
        events.append(call)

    def see(operation: Any, given: tuple, options: dict, output: Tensor, saved: Any) -> None:
        shapes = tuple(tuple(getattr(getattr(x, "held", x), "shape", ())) for x in given)
        needs = output.node.needs if output.node is not None else ()
        counted = is_floating(output)  # the arithmetic of indices and counters is not
        costs = cost(operation.__name__, shapes, output.shape, needs, options) if counted else Cost()
        events.append(Operation(operation.__name__, tuple(running), shapes, tuple(output.shape), costs, output.node))

    with contextlib.ExitStack() as stack:
        stack.enter_context(unchanged(model))
        for module in model.modules():
            for handle in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave)):
                stack.callback(handle.remove)
        stack.enter_context(enable_grad())
        stack.enter_context(watch(see))
        try:
            output = model(*inputs)
        except Exception as error:
            raise ValueError(failure(function, inputs, running, events, error)) from error
    keep_what_backward_runs(events, output)
    return OnePass([x for x in inputs if isinstance(x, Tensor)], events, output)


def keep_what_backward_runs(events: Sequence[Any], output: Any) -> None:
    """Take the backward cost from operations that the output does not depend on; add the sums of gradients."""
    nodes, _ = reach([t.edge for t in tensors_in(output) if t.requires_grad], {})
    run, arrived, sums = {id(node) for node in nodes}, set(), dict.fromkeys(map(id, nodes), 0)
    for node in reversed(nodes):
        for x, need in zip(node.inputs, node.needs, strict=True):
            if need and id(x) in arrived:
                sums[id(node)] += math.prod(x.shape)
            arrived.add(id(x) if need else None)
    for event in events:
        if isinstance(event, Operation):
            back = event.cost.backward + sums[id(event.node)] if id(event.node) in run else 0
            event.cost = event.cost._replace(backward=back)


def failure(function: str, inputs: Sequence[Any], running: list, events: list, error: Exception) -> str:
    """Tell in which module forward failed, and the shapes up to there."""
    shown = ", ".join(str(tuple(x.shape)) for x in inputs if hasattr(x, "shape"))
    lines = []
    for event in [e for e in events if isinstance(e, ModuleCall) and e.path and not list(e.module.children())][-8:]:
        lines.append(f"  {event.path} ({type(event.module).__name__}): {', '.join(map(str, event.shapes))}")
    call = running[-1] if running else None
    where = f"{call.path} ({type(call.module).__name__})" if call and call.path else "its own forward"
    before = "\nshapes up to there (the last ones):\n" + "\n".join(lines) if lines else ""
    return (
        f"{function}: the network failed on input {shown or '()'} in {where}: {type(error).__name__}: {error}{before}"
    )
