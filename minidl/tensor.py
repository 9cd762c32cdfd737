"""Tensor: an array that remembers how it was computed, with PyTorch's names and NumPy's protocols.

An operator here only brings its operands to one dtype and calls a primitive; the derivatives are in minidl.ops.
"""

import itertools
import weakref
from collections.abc import Callable, Iterator
from operator import attrgetter, setitem
from typing import Any

import numpy as np

from minidl import autograd
from minidl import primitives as op
from minidl.arguments import as_dtype, as_index, as_shape, check_fit, device, require_cpu
from minidl.autograd import Memory, TensorBase, is_grad_enabled
from minidl.elements import Elements
from minidl.kernels import array_type
from minidl.kernels.deferred import Deferred
from minidl.kernels.tape import compute, do
from minidl.primitives import floating, is_floating, matrix_product, operands, rank, to_dtype, unwrap

__all__ = ["Tensor"]

ARRAYS = (np.ndarray, Deferred)


class Handle:
    """What `register_hook` returns; `remove()` takes the hook away."""

    _numbers = itertools.count()

    def __init__(self, hooks: dict[int, Callable], hook: Callable):
        if not callable(hook):
            raise TypeError(f"hook must be callable, got {type(hook).__name__}")
        self.hooks, self.number = hooks, next(self._numbers)
        hooks[self.number] = hook

    def remove(self) -> None:
        self.hooks.pop(self.number, None)


def binary(operation: Callable, swapped: bool = False, prepare: Callable = lambda x: x) -> Callable[..., Any]:
    def method(self: "Tensor", other: Any) -> Any:
        pair = operands(self, other)
        if pair is None:
            return NotImplemented
        check(operation, self, other)
        x, y = map(prepare, reversed(pair) if swapped else pair)
        try:
            return operation(x, y)
        except ValueError:
            check_fit(operation.__name__, x, y)
            raise

    return method


def check(operation: Callable, x: Any, y: Any) -> None:
    """Refuse what PyTorch refuses of bools, where NumPy returns int8 or fails."""
    if operation not in (op.subtract, op.power):
        return
    bools = [isinstance(v, bool) or getattr(v, "dtype", None) == np.bool_ for v in (x, y)]
    if operation is op.subtract and any(bools):
        raise RuntimeError("-: a bool Tensor has no difference; use ~x to negate, x != y to compare, or x.float()")
    if operation is op.power and all(bools):
        raise RuntimeError("**: a bool Tensor has no power; use x.float()")


def compare(ufunc: np.ufunc) -> Callable[..., Any]:
    def method(self: "Tensor", other: Any) -> Any:
        pair = operands(self, other)
        return NotImplemented if pair is None else Tensor(np.asarray(compute(ufunc, *(unwrap(x) for x in pair))))

    return method


def conversion(dtype: Any) -> Callable[["Tensor"], "Tensor"]:
    return lambda self: to_dtype(self, dtype)


def in_place(operator: str) -> Callable[..., Any]:
    def method(self: "Tensor", other: Any) -> Any:
        recorded = is_grad_enabled() and (self.requires_grad or getattr(other, "requires_grad", False))
        keeps = recorded and operator in ("__mul__", "__truediv__")  # backward needs what self was
        result = getattr(self.clone() if keeps else self, operator)(other)
        return NotImplemented if result is NotImplemented else self.copy_(result)

    return method


def given(data: Any, *more: Any) -> Any:
    """The array of Tensor(2, 3), a shape; of Tensor([2, 3]), numbers; or of what is an array in another way.

    Raises:
        TypeError: something else.
    """
    if not more and array_type(data) is not None:
        return unwrap(data)
    try:
        if isinstance(data, list | tuple | np.generic) and not more:
            return np.array([unwrap(v) for v in data] if not isinstance(data, np.generic) else data, np.float32)
        return np.empty(as_shape((data, *more)), np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"Tensor: expected numbers or extents, got {(data, *more)}; see minidl.tensor") from error


class Tensor(Elements):
    """An array with a gradient. Make one with `minidl.tensor(data)`, `minidl.from_numpy(array)`, `minidl.zeros(...)`.

    Tensor(array) shares the array's memory. As PyTorch's constructor, Tensor([2, 3]) copies numbers into float32, and
    Tensor(2, 3) makes a Tensor of that shape whose elements are not set.

    Attributes:
        array: the NumPy (or CuPy) array itself.
        grad: the gradient collected by `backward()`, a Tensor or None.
        requires_grad: whether operations on this Tensor are recorded.
    """

    __slots__ = ()

    def __init__(self, data: Any = 0, *more: Any):
        array = data if isinstance(data, ARRAYS) and not more else given(data, *more)
        TensorBase.__init__(self, array)

    # --- what it is ---------------------------------------------------------------------------------------------
    dtype = property(attrgetter("held.dtype"), doc="NumPy dtype.")
    ndim = property(attrgetter("held.ndim"), doc="Number of axes.")
    shape = property(attrgetter("held.shape"), doc="Extent of each axis.")
    is_leaf = property(lambda self: self.node is None, doc="Whether no recorded operation made it.")
    grad_fn = property(lambda self: self.node, doc="The node that made it, or None.")
    T = property(lambda self: op.transpose(self, axes=tuple(range(self.ndim))[::-1]), doc="All axes reversed.")
    device = property(lambda self: device("cuda" if array_type(self.held) == "cuda" else "cpu"), doc="cpu or cuda.")
    is_cuda = property(lambda self: self.device == "cuda", doc="Whether it lives on a GPU.")

    @TensorBase.requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def data(self) -> "Tensor":
        """The same memory, outside the graph; assigning another Tensor takes over its array."""
        return self.detach()

    @data.setter
    def data(self, other: "Tensor") -> None:
        if not isinstance(other, Tensor):
            raise TypeError(f"data: expected a Tensor, got {type(other).__name__}")
        self.array = other.array
        self.memory = Memory(self.memory.changes + 1)  # no longer the memory of its old views
        self.seen = self.memory.changes

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
        return self.held.size

    nelement, ndimension = numel, dim

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

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.ndim == 0 and spec else str(self), spec)

    # --- leaving the Tensor ---------------------------------------------------------------------------------------
    def item(self) -> float | int | bool:
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

    def __float__(self) -> float:
        return float(self.item())

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

    def to(self, *target: Any, dtype: Any = None, device: Any = None, non_blocking: Any = None) -> "Tensor":
        """Convert to a dtype (or to that of another Tensor); "cpu" is where Tensors live."""
        y = self
        for t in (*target, device, dtype):
            if isinstance(t, str) and t.split(":")[0] in ("cpu", "cuda"):
                require_cpu("to", t)
            elif t is not None and not isinstance(t, bool):  # PyTorch's non_blocking may stand here
                y = to_dtype(y, as_dtype("to", t.dtype if isinstance(t, TensorBase) else t))
        return y

    def cpu(self) -> "Tensor":
        """Itself: this is where Tensors live."""
        return self

    def cuda(self, device: Any = None, non_blocking: Any = None) -> "Tensor":
        """Raise NotImplementedError: there are no Tensors on a GPU yet."""
        require_cpu("cuda", "cuda")

    def type(self, dtype: Any = None) -> Any:
        """In another dtype; without one, the name of its own."""
        return str(self.dtype) if dtype is None else self.to(dtype)

    def astype(self, dtype: Any) -> "Tensor":
        return to_dtype(self, as_dtype("astype", dtype))

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
        if not self.requires_grad:
            raise RuntimeError("retain_grad: this Tensor does not require grad")
        if self.is_leaf or "retain_grad" in (self.node.hooks or {}):
            return
        this = weakref.ref(self)  # the node must not keep its output alive

        def keep(dy: Tensor) -> None:
            if (y := this()) is not None:
                y.grad = dy if y.grad is None else y.grad + dy

        self.node.hooks = {**(self.node.hooks or {}), "retain_grad": keep}

    # --- arithmetic -----------------------------------------------------------------------------------------------
    # fmt: off
    __add__,     __radd__     = binary(op.add),      binary(op.add, swapped=True)
    __sub__,     __rsub__     = binary(op.subtract), binary(op.subtract, swapped=True)
    __mul__,     __rmul__     = binary(op.multiply), binary(op.multiply, swapped=True)
    __truediv__, __rtruediv__ = binary(op.divide, prepare=floating), binary(op.divide, swapped=True, prepare=floating)
    __pow__,     __rpow__     = binary(op.power),    binary(op.power, swapped=True)
    __matmul__,  __rmatmul__  = matrix_product,      lambda self, other: matrix_product(other, self)
    __lt__, __le__, __gt__, __ge__ = map(compare, (np.less, np.less_equal, np.greater, np.greater_equal))
    __eq__, __ne__, __and__, __or__ = map(compare, (np.equal, np.not_equal, np.bitwise_and, np.bitwise_or))
    __rand__, __ror__ = __and__, __or__
    __iadd__, __isub__, __imul__, __itruediv__ = map(in_place, ("__add__", "__sub__", "__mul__", "__truediv__"))
    add,  sub,  mul,  div, pow, matmul = __add__,  __sub__,  __mul__,  __truediv__, __pow__, __matmul__
    add_, sub_, mul_, div_             = __iadd__, __isub__, __imul__, __itruediv__
    lt, le, gt, ge, eq, ne             = __lt__, __le__, __gt__, __ge__, __eq__, __ne__
    # fmt: on

    def __neg__(self) -> "Tensor":
        return op.negative(self)

    def __pos__(self) -> "Tensor":
        return self

    def __invert__(self) -> "Tensor":
        return Tensor(compute(np.invert, self.array))

    # --- copies and elements ----------------------------------------------------------------------------------------
    def clone(self) -> "Tensor":
        """A copy, in the graph."""
        return op.cast(self, dtype=self.dtype)

    def contiguous(self) -> "Tensor":
        """Itself: minidl's functions take any strides."""
        return self

    def is_contiguous(self) -> bool:
        return True

    def __getitem__(self, index: Any) -> "Tensor":
        return op.getitem(self, index=as_index(index))

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
            raise NotImplementedError(
                "in-place change of a view in the graph; write base[index] = base[index] + ... instead"
            )
        if recorded:
            source = op.cast(source.expand(*self.shape), dtype=self.dtype)
        if rank(source.dtype) > rank(self.dtype):
            raise RuntimeError(f"in-place change: {source.dtype} does not fit into {self.dtype}")
        self.memory.about_to_change()
        do(np.copyto, self.array, source.array, "unsafe")
        self.memory.changes += 1
        if recorded:
            self.node, self.seen = source.node, self.memory.changes
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        value = value if isinstance(value, Tensor) else Tensor(np.asarray(value, self.dtype))
        index = as_index(index)
        if is_grad_enabled() and (self.requires_grad or value.requires_grad):
            place = np.arange(self.array.size).reshape(self.shape)[index]
            source = np.full(self.shape, -1)  # for each element, which one of `value` it becomes
            source.reshape(-1)[place] = np.arange(place.size).reshape(place.shape)
            placed = value.expand(*place.shape).reshape(-1)[np.maximum(source, 0)] if place.size else value.sum()
            self.copy_(op.where(source >= 0, to_dtype(placed, self.dtype), self))
        else:
            self.memory.about_to_change()
            do(setitem, self.array, index, value.array)
            self.memory.changes += 1

    def zero_(self) -> "Tensor":
        return self.fill_(0)

    def fill_(self, value: Any) -> "Tensor":
        return self.copy_(np.asarray(value, self.dtype))

    # --- dtypes: last, because they hide Python's names in this class -------------------------------------------
    float, double, long, int, bool = map(conversion, (np.float32, np.float64, np.int64, np.int32, np.bool_))


TensorBase.tensor_type = Tensor
