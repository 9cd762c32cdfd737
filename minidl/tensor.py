"""Tensor: an array that remembers how it was computed, with PyTorch's names and NumPy's protocols.

An operator here only brings its operands to one dtype and calls a primitive; the derivatives are in minidl.ops.
"""

import builtins
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minidl import autograd
from minidl import primitives as op
from minidl.autograd import TensorBase, is_grad_enabled
from minidl.kernels import array_type
from minidl.primitives import floating, is_floating, operands, to_dtype, unwrap
from minidl.protocols import NumPyProtocols

__all__ = ["Tensor"]


class Extreme(NamedTuple):
    """What `x.max(dim)` returns."""

    values: "Tensor"
    indices: "Tensor"


class Handle:
    """What `register_hook` returns; `remove()` takes the hook away."""

    def __init__(self, hooks: dict[int, Callable], hook: Callable):
        self.hooks = hooks
        hooks[id(self)] = hook

    def remove(self) -> None:
        self.hooks.pop(id(self), None)


def binary(operation: Callable, swapped: bool = False, prepare: Callable = lambda x: x) -> Callable[..., Any]:
    def method(self: "Tensor", other: Any) -> Any:
        pair = operands(prepare(self), prepare(other))
        if pair is None:
            return NotImplemented
        return operation(*(reversed(pair) if swapped else pair))

    return method


def compare(ufunc: np.ufunc) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        return Tensor(np.asarray(ufunc(unwrap(self), unwrap(other))))

    return method


def unary(operation: Callable) -> Callable[..., Any]:
    return lambda self: operation(floating(self))


def in_place(operator: str) -> Callable[..., Any]:
    def method(self: "Tensor", other: Any) -> Any:
        result = getattr(self, operator)(other)
        return NotImplemented if result is NotImplemented else self.copy_(result)

    return method


def as_dims(dim: Any) -> tuple[int, ...] | None:
    return None if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)


def as_shape(dims: tuple) -> tuple[int, ...]:
    """The extents of f(2, 3) and of f((2, 3))."""
    return tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], list | tuple) else dims


class Tensor(NumPyProtocols):
    """An array with a gradient. Make one with `minidl.tensor(data)`, `minidl.from_numpy(array)`, `minidl.zeros(...)`.

    Attributes:
        array: the NumPy (or CuPy) array itself.
        grad: the gradient collected by `backward()`, a Tensor or None.
        requires_grad: whether operations on this Tensor are recorded.
    """

    __slots__ = ()

    # --- what it is ---------------------------------------------------------------------------------------------
    dtype = property(lambda self: self.array.dtype, doc="NumPy dtype.")
    ndim = property(lambda self: self.array.ndim, doc="Number of axes.")
    shape = property(lambda self: self.array.shape, doc="Extent of each axis.")
    is_leaf = property(lambda self: self.node is None, doc="Whether no recorded operation made it.")
    grad_fn = property(lambda self: self.node, doc="The node that made it, or None.")
    data = property(lambda self: self.detach(), doc="The same memory, outside the graph.")
    T = property(lambda self: self.permute(*reversed(range(self.ndim))), doc="All axes reversed.")
    device = property(lambda self: "cuda" if array_type(self.array) == "cuda" else "cpu", doc="'cpu' or 'cuda'.")
    requires_grad = TensorBase.requires_grad.setter(lambda self, value: self.requires_grad_(value) and None)

    def requires_grad_(self, requires_grad: bool = True) -> "Tensor":
        """Ask for gradients by this Tensor, or no longer."""
        if requires_grad and not is_floating(self):
            raise RuntimeError(f"requires_grad_: only floating-point Tensors can require gradients, got {self.dtype}")
        if self.node is not None and not requires_grad:
            raise RuntimeError("requires_grad_: this Tensor was computed from others; x.detach() leaves the graph")
        self._requires_grad = bool(requires_grad)
        return self

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the extent of one axis."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        return self.array.size

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a 0-d Tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.item())

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        text = np.array2string(self.array, separator=", ", prefix="tensor(", threshold=200)
        kind = "" if self.dtype in (np.float32, np.int64, np.bool_) else f", dtype={self.dtype}"
        graph = f", grad_fn=<{self.node.name}>" if self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({text}{kind}{graph})"

    # --- leaving the Tensor ---------------------------------------------------------------------------------------
    def item(self) -> builtins.float | int | bool:
        """The only element, as a Python number."""
        if self.array.size != 1:
            raise RuntimeError(f"a Tensor of shape {self.shape} is not a single number; reduce it first")
        return self.array.item()

    def tolist(self) -> Any:
        return self.array.tolist()

    def numpy(self) -> np.ndarray:
        """The array, sharing memory; a Tensor that requires grad must be detached first."""
        if self.requires_grad:
            raise RuntimeError("numpy: this Tensor requires grad; use x.detach().numpy()")
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __float__(self) -> builtins.float:
        return builtins.float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only an integer Tensor of one element can be an index, got {self.dtype}")
        return int(self.item())

    def detach(self) -> "Tensor":
        """The same memory as a Tensor outside the graph."""
        alias = Tensor(self.array)
        alias.share_memory_of(self)
        return alias

    def to(self, target: Any) -> "Tensor":
        """Convert to a dtype (or to that of another Tensor); "cpu" is where Tensors live."""
        if isinstance(target, str) and target.split(":")[0] in ("cpu", "cuda"):
            if target.split(":")[0] != self.device:
                raise NotImplementedError(f"to: there is no device {target!r} yet; Tensors live in NumPy arrays")
            return self
        return to_dtype(self, target.dtype if isinstance(target, Tensor) else np.dtype(target))

    def float(self) -> "Tensor":
        return to_dtype(self, np.float32)

    def double(self) -> "Tensor":
        return to_dtype(self, np.float64)

    def long(self) -> "Tensor":
        return to_dtype(self, np.int64)

    def astype(self, dtype: Any) -> "Tensor":
        return to_dtype(self, dtype)

    # --- gradients ------------------------------------------------------------------------------------------------
    def backward(self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
        """Add the gradient of this Tensor to `.grad` of every leaf it depends on.

        Raises:
            RuntimeError: no graph, not a single number and no `gradient` given, or the graph was already freed.
        """
        autograd.backward(self, gradient, retain_graph, create_graph)

    def register_hook(self, hook: Callable[["Tensor"], "Tensor | None"]) -> Handle:
        """Call `hook(gradient)` when the gradient by this Tensor is complete; what it returns takes its place."""
        if not self.requires_grad:
            raise RuntimeError("register_hook: this Tensor does not require grad")
        if self.edge.hooks is None:
            self.edge.hooks = {}
        return Handle(self.edge.hooks, hook)

    def retain_grad(self) -> None:
        """Keep `.grad` also for a Tensor that is no leaf."""
        if not self.is_leaf:

            def keep(dy: Tensor) -> None:
                self.grad = dy if self.grad is None else self.grad + dy

            self.register_hook(keep)

    # --- arithmetic -----------------------------------------------------------------------------------------------
    # fmt: off
    __add__,     __radd__     = binary(op.add),      binary(op.add, swapped=True)
    __sub__,     __rsub__     = binary(op.subtract), binary(op.subtract, swapped=True)
    __mul__,     __rmul__     = binary(op.multiply), binary(op.multiply, swapped=True)
    __truediv__, __rtruediv__ = binary(op.divide, prepare=floating), binary(op.divide, swapped=True, prepare=floating)
    __pow__,     __rpow__     = binary(op.power),    binary(op.power, swapped=True)
    __matmul__,  __rmatmul__  = binary(op.matmul),   binary(op.matmul, swapped=True)
    __lt__, __le__, __gt__, __ge__ = map(compare, (np.less, np.less_equal, np.greater, np.greater_equal))
    __eq__, __ne__, __and__, __or__ = map(compare, (np.equal, np.not_equal, np.bitwise_and, np.bitwise_or))
    __iadd__, __isub__, __imul__, __itruediv__ = map(in_place, ("__add__", "__sub__", "__mul__", "__truediv__"))
    add,  sub,  mul,  div, pow, matmul = __add__,  __sub__,  __mul__,  __truediv__, __pow__, __matmul__
    add_, sub_, mul_, div_             = __iadd__, __isub__, __imul__, __itruediv__
    exp, log, sqrt, abs, relu          = map(unary, (op.exp, op.log, op.sqrt, op.absolute, op.relu))
    # fmt: on

    def __neg__(self) -> "Tensor":
        return op.negative(self)

    def __invert__(self) -> "Tensor":
        return Tensor(~self.array)

    # --- reductions -----------------------------------------------------------------------------------------------
    def sum(self, dim: Any = None, keepdim: bool = False) -> "Tensor":
        return op.sum_(self, axis=as_dims(dim), keepdims=keepdim)

    def mean(self, dim: Any = None, keepdim: bool = False) -> "Tensor":
        if not is_floating(self):
            raise RuntimeError(f"mean: a floating-point Tensor is needed, got {self.dtype}; use x.float().mean()")
        count = math.prod(self.shape if dim is None else [self.shape[d] for d in as_dims(dim)])
        return self.sum(dim, keepdim) / (count if count else math.nan)

    def amax(self, dim: Any = None, keepdim: bool = False) -> "Tensor":
        """The maximum; equal maxima share the gradient."""
        return op.amax(self, axis=as_dims(dim), keepdims=keepdim)

    def max(self, dim: int | None = None, keepdim: bool = False) -> "Tensor | Extreme":
        """The maximum, or (values, indices) of the first maximum along `dim`."""
        if dim is None:
            return self.amax()
        indices = self.argmax(dim, keepdim=True)
        grids = list(np.ogrid[tuple(slice(extent) for extent in indices.shape)])
        grids[dim] = indices.array
        values = self[tuple(grids)]
        return Extreme(values, indices) if keepdim else Extreme(values.squeeze(dim), indices.squeeze(dim))

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> "Tensor":
        return Tensor(np.asarray(self.array.argmax(axis=dim, keepdims=keepdim)))

    def any(self) -> "Tensor":
        return Tensor(np.asarray(self.array.any()))

    def all(self) -> "Tensor":
        return Tensor(np.asarray(self.array.all()))

    # --- shapes ---------------------------------------------------------------------------------------------------
    def reshape(self, *dims: Any) -> "Tensor":
        return op.reshape(self, shape=as_shape(dims))

    def view(self, *dims: Any) -> "Tensor":
        """As reshape: a view where the memory allows it, else a copy (channels-last activations need one)."""
        return op.reshape(self, shape=as_shape(dims))

    def permute(self, *dims: Any) -> "Tensor":
        return op.transpose(self, axes=tuple(d % self.ndim for d in as_shape(dims)))

    def transpose(self, dim0: int, dim1: int) -> "Tensor":
        dims = list(range(self.ndim))
        dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
        return self.permute(*dims)

    def t(self) -> "Tensor":
        if self.ndim > 2:
            raise RuntimeError(f"t: expected at most 2 axes, got shape {self.shape}")
        return self.T

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> "Tensor":
        first, last = start_dim % max(1, self.ndim), end_dim % max(1, self.ndim)
        return self.reshape(*self.shape[:first], math.prod(self.shape[first : last + 1]), *self.shape[last + 1 :])

    def squeeze(self, dim: int | None = None) -> "Tensor":
        gone = range(self.ndim) if dim is None else [dim % self.ndim]
        return self.reshape(*(n for i, n in enumerate(self.shape) if not (i in gone and n == 1)))

    def unsqueeze(self, dim: int) -> "Tensor":
        dims = list(self.shape)
        dims.insert(dim % (self.ndim + 1), 1)
        return self.reshape(*dims)

    def expand(self, *dims: Any) -> "Tensor":
        """Repeat axes of extent 1 without copying; -1 keeps an axis."""
        dims = as_shape(dims)
        lead = len(dims) - self.ndim
        return op.broadcast_to(self, shape=tuple(self.shape[i - lead] if n == -1 else n for i, n in enumerate(dims)))

    def clone(self) -> "Tensor":
        """A copy, in the graph."""
        return op.cast(self, dtype=self.dtype)

    def contiguous(self) -> "Tensor":
        """Itself: minidl's functions take any strides."""
        return self

    def __getitem__(self, index: Any) -> "Tensor":
        parts = index if isinstance(index, tuple) else (index,)
        parts = tuple(np.asarray(p) if isinstance(p, list) else unwrap(p) for p in parts)
        return op.getitem(self, index=parts)

    # --- in place -------------------------------------------------------------------------------------------------
    def copy_(self, source: Any) -> "Tensor":
        """Overwrite the elements with those of `source` (broadcast); this Tensor then is what `source` was."""
        source = source if isinstance(source, Tensor) else Tensor(np.asarray(source))
        if np.broadcast_shapes(source.shape, self.shape) != self.shape:
            raise RuntimeError(f"in-place change: shape {source.shape} does not fit into {self.shape}")
        recorded = is_grad_enabled() and (self.requires_grad or source.requires_grad)
        if recorded and self.is_leaf and self.requires_grad:
            raise RuntimeError("a leaf Tensor that requires grad is changed in place; do it under minidl.no_grad()")
        if recorded and self.is_view:
            raise NotImplementedError("in-place change of a view in the graph; write base[index] = ... instead")
        if recorded:
            source = op.cast(source.expand(*self.shape), dtype=self.dtype)
        if not np.can_cast(source.dtype, self.dtype, "same_kind"):
            raise RuntimeError(f"in-place change: {source.dtype} does not fit into {self.dtype}")
        np.copyto(self.array, source.array, casting="same_kind")
        self.version[0] += 1
        if recorded:
            self.node, self.seen = source.node, self.version[0]
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        value = value if isinstance(value, Tensor) else Tensor(np.asarray(value, self.dtype))
        index = tuple(unwrap(p) for p in index) if isinstance(index, tuple) else unwrap(index)
        if is_grad_enabled() and (self.requires_grad or value.requires_grad):
            chosen = np.zeros(self.shape, bool)
            chosen[index] = True
            placed = op.put(value.expand(*self.array[index].shape), index=index, shape=self.shape)
            self.copy_(op.where(chosen, placed, self))
        else:
            self.array[index] = value.array
            self.version[0] += 1

    def zero_(self) -> "Tensor":
        return self.fill_(0)

    def fill_(self, value: Any) -> "Tensor":
        return self.copy_(np.asarray(value, self.dtype))


TensorBase.tensor_type = Tensor
