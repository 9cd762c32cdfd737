"""Reverse-mode differentiation: nodes, the sweep over them, and `differentiable`: an operation of two texts.

A node keeps what its backward text saved, the nodes (or leaves) its inputs came from, and a weak reference to its
output. The graph is therefore made of nodes: arrays that no backward needs go as soon as the user drops them.
"""

import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minidl.grad_mode import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minidl.kernels import Kernel
from minidl.kernels.buffers import is_buffer, owner, shares_memory
from minidl.kernels.deferred import Deferred, settled
from minidl.ops.elementwise import add_forward
from minidl.watch import here

__all__ = ["backward", "differentiable", "enable_grad", "grad", "is_grad_enabled", "no_grad", "set_grad_enabled"]

_clock = itertools.count()
FREED = object()  # stands where a node's saved arrays were


class Memory:
    """What Tensors of the same memory share: how often it was changed, and the results that still have to read it."""

    __slots__ = ("changes", "waiting")

    def __init__(self, changes: int = 0):
        self.changes = changes
        self.waiting: list[weakref.ref] = []

    def awaited_by(self, y: "TensorBase") -> None:
        """Note that a deferred array will be made from it; those that are gone no longer count."""
        self.waiting = [reference for reference in self.waiting if reference() is not None] + [weakref.ref(y)]

    def about_to_change(self) -> None:
        """Make the deferred arrays that depend on it."""
        for reference in self.waiting:
            if (y := reference()) is not None:
                y.array  # noqa: B018
        self.waiting = []


class TensorBase:
    """What the graph knows of a Tensor: its array, its gradient, where it came from, and how often it was changed."""

    __slots__ = ("__weakref__", "_requires_grad", "grad", "held", "hooks", "is_view", "memory", "node", "seen")

    tensor_type: type  # the class of results; minidl.tensor sets it

    def __init__(self, array: Any, requires_grad: bool = False, node: "Node | None" = None):
        self.held = array  # the array, or a Deferred: its shape and dtype can be read without making it
        self.grad: TensorBase | None = None
        self.node = node
        self.hooks: dict[int, Callable] | None = None
        self.memory = Memory()
        self.seen = 0  # the changes of memory that `node` describes
        self.is_view = False
        self._requires_grad = requires_grad

    @property
    def array(self) -> Any:
        """The NumPy (or CuPy) array."""
        if isinstance(self.held, Deferred):
            self.held = self.held.array
        return self.held

    @array.setter
    def array(self, array: Any) -> None:
        self.held = array

    @property
    def requires_grad(self) -> bool:
        """Whether gradients by this Tensor are wanted: it was asked for, or an input of its node requires one."""
        return self._requires_grad or self.node is not None

    def share_memory_of(self, other: "TensorBase") -> None:
        """Note that this Tensor is a view of `other`'s memory: a change of either is a change of both."""
        self.memory, self.seen, self.is_view = other.memory, other.memory.changes, True

    def become(self, y: "TensorBase") -> None:
        """Take over the array and the history of y, which nobody else has seen."""
        self.held, self.node, self.memory, self.seen = y.held, y.node, y.memory, y.seen

    @property
    def edge(self) -> "Node | TensorBase":
        """What gradients by this Tensor are collected under: its node, or itself if it is a leaf."""
        return self if self.node is None else self.node


class Node:
    """One recorded operation: y = forward(*inputs, **options)."""

    __slots__ = (
        *("forward", "backward", "inputs", "options", "needs", "saved", "versions"),
        *("output", "shape", "hooks", "index", "modules", "__weakref__"),
    )

    def __init__(self, forward: Kernel, backward: Kernel, inputs: Sequence, options: dict, needs: tuple[bool, ...]):
        self.forward, self.backward, self.options, self.needs = forward, backward, options, needs
        # An input that needs a gradient is held by its edge, a constant by its array.
        pairs = zip(inputs, needs, strict=True)
        self.inputs = tuple([x.edge if need else getattr(x, "array", x) for x, need in pairs])
        self.index, self.modules = next(_clock), tuple(here.modules)
        self.hooks: dict[int, Callable] | None = None

    @property
    def name(self) -> str:
        return self.forward.name.removesuffix("_forward")

    def keep(self, saved: Any, inputs: Sequence[TensorBase], output: TensorBase) -> None:
        """Keep `saved` for backward, and note the versions of the Tensors whose memory is in it."""
        self.saved, self.output = saved, weakref.ref(output)
        self.shape = output.held.shape
        owners = {id(owner(a)) for a in (saved if isinstance(saved, tuple) else (saved,))}
        self.versions = [
            (t.memory, t.memory.changes, t.held.shape) for t in (*inputs, output) if id(owner(t.held)) in owners
        ]

    def check_usable(self) -> None:
        """Raise RuntimeError where the saved arrays are gone, or no longer hold what forward saw."""
        if self.saved is FREED:
            raise RuntimeError(
                f"{self.name}: the arrays saved for backward were freed by an earlier backward pass; "
                "pass retain_graph=True to the first one, or compute the output again"
            )
        for memory, before, shape in self.versions:
            if memory.changes != before:
                raise RuntimeError(
                    f"{self.name}: an array of shape {shape} that it saved for backward was changed in place "
                    f"({memory.changes - before} time(s) since); change a copy (x.clone()) instead"
                )

    def __repr__(self) -> str:
        return f"<{self.name} node, output {self.shape}>"


class differentiable:
    """Make an operation on Tensors of a forward and a backward text.

        op = differentiable(f_forward, f_backward)
        y = op(x, ..., **options)

    Inputs may be Tensors, arrays, numbers or None; without a Tensor among them the result is an array. The operation
    is recorded if an input requires a gradient and recording is on.
    """

    def __init__(self, forward: Kernel, backward: Kernel):
        self.forward, self.backward = forward, backward
        self.__name__ = forward.name.removesuffix("_forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.with_saved(*inputs, **options)[0]

    @np.errstate(all="ignore")  # NaN and Inf travel on in silence, as in PyTorch
    def with_saved(self, *inputs: Any, **options: Any) -> tuple[Any, Any]:
        """Return (y, saved): also what the forward text saved for backward, as arrays."""
        tensors = [x for x in inputs if isinstance(x, TensorBase)]
        y, saved = self.forward(*[x.held if isinstance(x, TensorBase) else x for x in inputs], **options)
        y = np.asarray(y) if isinstance(y, np.generic) else y  # NumPy's reductions return scalars
        if not tensors:
            return settled(y), saved
        output = TensorBase.tensor_type(y)
        if getattr(y, "base", None) is not None:
            for x in tensors:
                if shares_memory(y, x.held):
                    output.share_memory_of(x)
        if isinstance(y, Deferred):
            y.read = [m for x in tensors if x.held.ndim > 1 for m in (x.memory, *getattr(x.held, "read", ()))]
            for memory in y.read:  # vectors were copied
                memory.awaited_by(output)
        if is_grad_enabled():
            needs = tuple([isinstance(x, TensorBase) and x.requires_grad for x in inputs])
            if True in needs:
                for x in tensors:
                    if x.node is not None and x.seen != x.memory.changes:
                        raise RuntimeError(
                            f"{self.__name__}: an input of shape {x.held.shape} is a view, made before its memory was "
                            "changed in place; take the view again"
                        )
                output.node = Node(self.forward, self.backward, inputs, options, needs)
                output.node.keep(saved, tensors, output)
        for watcher in here.watchers:
            watcher(self, inputs, options, output, saved)
        return output, saved


def grad(
    outputs: TensorBase | Sequence[TensorBase],
    inputs: TensorBase | Sequence[TensorBase],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[TensorBase | None, ...]:
    """Return the gradients of `outputs` by `inputs`, as `torch.autograd.grad`; nothing else is computed.

    Args:
        outputs: Tensor(s) to differentiate.
        inputs: Tensor(s) to differentiate by.
        grad_outputs: the incoming gradient of each output; None for 1 where the output has a single element.
        retain_graph: keep the saved arrays for another pass (default: as `create_graph`).
        create_graph: make the gradients differentiable again.
        allow_unused: give None for an input that the outputs do not depend on, instead of an error.

    Raises:
        RuntimeError: an output has no graph, an input is unused or needs no gradient, or the graph was freed.
    """
    outputs, inputs = as_list(outputs), as_list(inputs)
    grads = as_list(grad_outputs) if grad_outputs is not None else [None] * len(outputs)
    for i, x in enumerate(inputs):
        if not x.requires_grad:
            raise RuntimeError(f"grad: inputs[{i}] does not require grad; call x.requires_grad_() before the forward")
    found = sweep(outputs, grads, retain_graph, create_graph, wanted=[x.edge for x in inputs])
    result = tuple(found.get(id(x.edge)) for x in inputs)
    if not allow_unused and any(g is None for g in result):
        unused = [i for i, g in enumerate(result) if g is None]
        raise RuntimeError(f"grad: inputs {unused} were not used for the outputs; pass allow_unused=True to get None")
    return tuple(g if g is None else as_tensor(g) for g in result)


def backward(
    tensors: TensorBase | Sequence[TensorBase],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add the gradients of `tensors` to `.grad` of every leaf that they depend on, as `torch.autograd.backward`."""
    tensors = as_list(tensors)
    grads = as_list(grad_tensors) if grad_tensors is not None else [None] * len(tensors)
    leaves: dict[int, TensorBase] = {}
    found = sweep(tensors, grads, retain_graph, create_graph, leaves=leaves)
    given = {id(owner(g.array if isinstance(g, TensorBase) else g)) for g in grads}
    for key, leaf in leaves.items():
        if key in found:
            dleaf = found[key]
            memory = owner(dleaf)
            if not create_graph and (id(memory) in given or not (memory is dleaf or is_buffer(memory))):
                dleaf = memory = np.array(dleaf)  # .grad belongs to the leaf alone: the user may change it in place
            given.add(id(memory))
            if leaf.grad is None:
                leaf.grad = as_tensor(dleaf)
            else:
                with set_grad_enabled(create_graph):
                    leaf.grad = leaf.grad + dleaf


def Variable(data: TensorBase, requires_grad: bool = False, volatile: bool = False) -> TensorBase:  # noqa: N802
    """Return the Tensor itself: the name that Tensors with gradients had before PyTorch 0.4."""
    return data.requires_grad_() if requires_grad else data


def as_list(x: Any) -> list:
    return list(x) if isinstance(x, list | tuple) else [x]


def as_tensor(g: Any) -> TensorBase:
    return g if isinstance(g, TensorBase) else TensorBase.tensor_type(np.asarray(g) if np.isscalar(g) else g)


@np.errstate(all="ignore")
def sweep(
    outputs: Sequence[TensorBase],
    dys: Sequence[Any],
    retain_graph: bool | None,
    create_graph: bool,
    wanted: Sequence[Any] | None = None,
    leaves: dict[int, TensorBase] | None = None,
) -> dict[int, Any]:
    """Carry gradients from `outputs` back to the `wanted` edges, or to all leaves (put into `leaves`).

    Returns the gradients by id of edge: arrays, or Tensors with `create_graph`. Nodes are visited from the newest to
    the oldest, so each is complete when its turn comes; no recursion, whatever the depth.
    """
    retain = create_graph if retain_graph is None else retain_graph
    gradients: dict[int, Any] = {}
    for y, dy in zip(outputs, dys, strict=True):
        dy = initial_gradient(y, dy)
        accumulate(gradients, y.edge, dy if create_graph else dy.array)
    nodes, leaves = reach((y.edge for y in outputs), {} if leaves is None else leaves)
    targets = {id(edge) for edge in wanted or ()}
    needed = {id(node) for node in nodes} if wanted is None else leading_to(targets, nodes)  # all lead to a leaf
    reached, values = needed | targets, recall(nodes, needed) if create_graph else {}
    for node in reversed(nodes):
        key, needs = id(node), node.needs
        dy = gradients.get(key)
        if dy is None:
            continue
        if node.hooks:
            dy = gradients[key] = run_hooks(node.hooks, dy, create_graph)
        if key not in targets:
            del gradients[key]
        if key not in needed:
            continue
        node.check_usable()
        if wanted is not None:
            needs = tuple([need and id(x) in reached for x, need in zip(node.inputs, needs, strict=True)])
        if create_graph:
            with enable_grad():
                inputs = [values[id(x)] if need else x for x, need in zip(node.inputs, node.needs, strict=True)]
                _, saved = node.forward.text(*inputs, **node.options)  # the text, replayed on Tensors
                dxs = node.backward.text(dy, saved, needs)
        else:
            dxs = node.backward(dy, node.saved, needs)
        if not retain:
            node.saved = FREED
        for x, need, dx in zip(node.inputs, needs, dxs, strict=True):
            if need:
                accumulate(gradients, x, dx)
    for key, leaf in leaves.items():
        if leaf.hooks and key in gradients:
            gradients[key] = run_hooks(leaf.hooks, gradients[key], create_graph)
    return {key: settled(g) for key, g in gradients.items()}


def initial_gradient(y: TensorBase, dy: Any) -> TensorBase:
    if not isinstance(y, TensorBase):
        raise TypeError(f"backward: expected a Tensor, got {type(y).__name__}")
    if not y.requires_grad:
        raise RuntimeError(
            "backward: this Tensor has no graph: nothing it was computed from requires grad "
            "(or it was computed under no_grad); set requires_grad=True on what you differentiate by"
        )
    if dy is None:
        if y.array.size != 1:
            raise RuntimeError(
                f"backward: the gradient can be left out only for a single number, but this Tensor has shape "
                f"{y.array.shape}; reduce it (y.sum()) or pass a gradient of that shape"
            )
        return as_tensor(np.ones_like(y.array))
    dy = as_tensor(dy if isinstance(dy, TensorBase) else np.asarray(dy, y.array.dtype))
    if dy.array.shape != y.array.shape:
        raise RuntimeError(f"backward: gradient has shape {dy.array.shape} but the Tensor has {y.array.shape}")
    return dy


def accumulate(gradients: dict[int, Any], edge: Any, dx: Any) -> None:
    key, shape = id(edge), edge.shape
    if dx.shape != shape:
        raise RuntimeError(f"backward: a gradient of shape {dx.shape} arrived for a Tensor of shape {shape}")
    before = gradients.get(key)
    # A new array for the sum: dx may belong to somebody else.
    gradients[key] = dx if before is None else add_forward(before, dx)[0]


def reach(edges: Iterable[Any], leaves: dict[int, TensorBase]) -> tuple[list[Node], dict[int, TensorBase]]:
    """All nodes that the edges depend on, oldest first; leaves are put into `leaves`."""
    nodes: dict[int, Node] = {}
    stack = list(edges)
    while stack:
        edge = stack.pop()
        if isinstance(edge, Node):
            if id(edge) not in nodes:
                nodes[id(edge)] = edge
                stack += [x for x, need in zip(edge.inputs, edge.needs, strict=True) if need]
        else:
            leaves[id(edge)] = edge
    return sorted(nodes.values(), key=lambda node: node.index), leaves


def leading_to(targets: set[int], nodes: Sequence[Node]) -> set[int]:
    """The ids of nodes with a target among what their inputs depend on."""
    needed: set[int] = set()
    for node in nodes:
        if any(n and (id(x) in targets or id(x) in needed) for x, n in zip(node.inputs, node.needs, strict=True)):
            needed.add(id(node))
    return needed


def recall(nodes: Sequence[Node], needed: set[int]) -> dict[int, TensorBase]:
    """The value of every edge as a Tensor in the graph; one that the user dropped is computed again."""
    values: dict[int, TensorBase] = {}
    for node in nodes:
        for x, need in zip(node.inputs, node.needs, strict=True):
            if need and not isinstance(x, Node):
                values[id(x)] = x
        if id(node) in needed:
            node.check_usable()
        y = node.output()
        if y is None or y.node is not node:
            arrays = [values[id(x)].array if need else x for x, need in zip(node.inputs, node.needs, strict=True)]
            y = TensorBase.tensor_type(np.asarray(node.forward(*arrays, **node.options)[0]))
            y.node = node
        values[id(node)] = y
    return values


def run_hooks(hooks: dict[int, Callable], dy: Any, create_graph: bool) -> Any:
    for hook in list(hooks.values()):
        replaced = hook(as_tensor(dy))
        if replaced is not None:
            if replaced.shape != dy.shape:
                raise RuntimeError(f"hook: returned a gradient of shape {replaced.shape}, expected {dy.shape}")
            dy = replaced if create_graph else replaced.array
    return dy
