"""Functions of each element, and what picks, orders and draws elements, under PyTorch's names."""

from collections.abc import Callable
from numbers import Real
from typing import Any, Self

import numpy as np

from minidl import primitives as op
from minidl.arguments import as_axis, as_dtype, as_shape, require_cpu
from minidl.grad_mode import is_grad_enabled
from minidl.primitives import floating, is_floating, matrix_product, to_dtype, unwrap
from minidl.random import generator
from minidl.reductions import Extreme
from minidl.shaping import Shaping


def unary(operation: Callable, prepare: Callable = floating) -> Callable[..., Any]:
    return lambda self: operation(prepare(self))


def rounded(ufunc: np.ufunc) -> Callable[..., Any]:
    """A function that is constant piece by piece: it has no gradient."""
    return lambda self: self.tensor_type(np.asarray(ufunc(self.array)))


def in_place(method: str) -> Callable[..., Any]:
    """Compute self.method(...) and store it in self; a backward that reads self reads a copy."""

    def changed(self: Any, *arguments: Any, **options: Any) -> Any:
        recorded = is_grad_enabled() and self.requires_grad
        return self.copy_(getattr(self.clone() if recorded else self, method)(*arguments, **options))

    return changed


class Elements(Shaping):
    """The methods that compute each element by itself, or pick, order and draw elements."""

    __slots__ = ()

    exp, log, sqrt = map(unary, (op.exp, op.log, op.sqrt))
    sigmoid, tanh, erf, expm1 = map(unary, (op.sigmoid, op.tanh, op.erf, op.expm1))
    abs, relu = unary(op.absolute, lambda x: x), unary(op.relu, lambda x: x)
    floor, ceil, round, sign = map(rounded, (np.floor, np.ceil, np.rint, np.sign))
    __abs__ = abs

    def square(self) -> Self:
        """x²."""
        return self * self

    def rsqrt(self) -> Self:
        """1 / √x."""
        return 1 / self.sqrt()

    def clamp(self, min: Any = None, max: Any = None) -> Self:
        """The elements, cut off at min and max, numbers or None."""
        if min is None and max is None:
            raise RuntimeError("clamp: min or max must be a number, got None for both")
        for name, limit in (("min", min), ("max", max)):
            if limit is not None and not isinstance(limit, Real):
                raise TypeError(f"clamp: {name} must be a number or None, got {type(limit).__name__}")
        fractions = any(isinstance(limit, float) for limit in (min, max))
        return op.clip(floating(self) if fractions else self, low=min, high=max)

    clip = clamp

    def softmax(self, dim: int) -> Self:
        """exp(x) / Σ exp(x) along `dim`."""
        return op.softmax_(floating(self), axis=as_axis("softmax", dim, self.ndim))

    def log_softmax(self, dim: int) -> Self:
        """x - ln Σ exp(x) along `dim`."""
        return op.log_softmax(floating(self), axis=as_axis("log_softmax", dim, self.ndim))

    relu_, sigmoid_, tanh_, clamp_ = map(in_place, ("relu", "sigmoid", "tanh", "clamp"))
    exp_, sqrt_, abs_, floor_ = map(in_place, ("exp", "sqrt", "abs", "floor"))

    # --- matrix products --------------------------------------------------------------------------------------------
    def mm(self, other: Self) -> Self:
        """x @ y of two matrices."""
        return self._product("mm", other, 2)

    def bmm(self, other: Self) -> Self:
        """x @ y of each pair of matrices: (N, I, K) and (N, K, J) -> (N, I, J)."""
        if self.shape[:1] != other.shape[:1]:
            raise RuntimeError(f"bmm: shapes {self.shape} and {other.shape} hold different numbers of matrices")
        return self._product("bmm", other, 3)

    def _product(self, function: str, other: Self, ndim: int) -> Self:
        if self.ndim != ndim or other.ndim != ndim:
            raise RuntimeError(f"{function}: expected two Tensors of {ndim} axes, got {self.shape} and {other.shape}")
        return matrix_product(self, other)

    # --- picking and ordering -------------------------------------------------------------------------------------
    def masked_fill(self, mask: Any, value: float) -> Self:
        """`value` where the bool Tensor `mask` (broadcast) is True, else x."""
        if getattr(mask, "dtype", None) != np.bool_:
            raise RuntimeError(f"masked_fill: mask must be a bool Tensor, got {getattr(mask, 'dtype', mask)}")
        return op.where(unwrap(mask), value, self)

    masked_fill_ = in_place("masked_fill")

    def gather(self, dim: int, index: Any) -> Self:
        """y[i][j] = x[index[i][j]][j] for dim 0, x[i][index[i][j]] for dim 1, and so on."""
        axis, index = as_axis("gather", dim, self.ndim), unwrap(index)
        if index.dtype.kind not in "iu" or index.ndim != self.ndim:
            raise RuntimeError(f"gather: index must be integers with {self.ndim} axes, got {index.dtype} {index.shape}")
        return self._along(axis, index)

    def _along(self, axis: int, index: np.ndarray) -> Self:
        grids = list(np.ogrid[tuple(slice(extent) for extent in index.shape)])
        grids[axis] = index
        return self[tuple(grids)] if self.ndim else self.clone()

    def sort(self, dim: int = -1, descending: bool = False, stable: bool = False) -> Extreme:
        """(values, indices) in increasing order along `dim`, NaN last; equal elements stay in their order."""
        axis = as_axis("sort", dim, self.ndim)
        if not self.ndim:
            return Extreme(self.clone(), self.tensor_type(np.zeros((), np.int64)))
        if descending:  # the last of the reversed elements comes first, so equal ones stay in their order
            last = self.shape[axis] - 1
            order = last - np.flip(np.flip(self.array, axis).argsort(axis=axis, kind="stable"), axis)
        else:
            order = self.array.argsort(axis=axis, kind="stable")
        return Extreme(self._along(axis, order), self.tensor_type(order))

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = False) -> Self:
        """The indices that sort along `dim`."""
        return self.sort(dim, descending).indices

    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Extreme:
        """(values, indices) of the k largest elements along `dim` (or smallest), in order."""
        axis = as_axis("topk", dim, self.ndim)
        if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= (self.shape[axis] if self.ndim else 1):
            raise RuntimeError(f"topk: k must be an integer in 0..{self.shape[axis] if self.ndim else 1}, got {k!r}")
        values, indices = self.sort(axis, descending=largest)
        return Extreme(*(part.narrow(axis, 0, k) if self.ndim else part for part in (values, indices)))

    # --- drawing --------------------------------------------------------------------------------------------------
    def normal_(self, mean: float = 0.0, std: float = 1.0) -> Self:
        """Draw every element from N(mean, std²)."""
        return self.copy_(generator().normal(mean, std, self.shape))

    def uniform_(self, a: float = 0.0, b: float = 1.0) -> Self:
        """Draw every element from U(a, b)."""
        return self.copy_(generator().uniform(a, b, self.shape))

    def bernoulli_(self, p: Any = 0.5) -> Self:
        """Make every element 1 with probability p, a number or a Tensor, else 0."""
        return self.copy_((generator().random(self.shape) < unwrap(p)).astype(self.dtype))

    def bernoulli(self) -> Self:
        """1 with the probability that the element of x is, else 0."""
        return self.tensor_type((generator().random(self.shape) < self.array).astype(self.dtype))

    # --- others of its kind ---------------------------------------------------------------------------------------
    def new_zeros(self, *size: Any, dtype: Any = None, device: Any = None) -> Self:
        """Zeros, by default in the dtype of x."""
        return self.new_full(as_shape(size), 0, dtype, device)

    def new_ones(self, *size: Any, dtype: Any = None, device: Any = None) -> Self:
        """Ones, by default in the dtype of x."""
        return self.new_full(as_shape(size), 1, dtype, device)

    def new_empty(self, *size: Any, dtype: Any = None, device: Any = None) -> Self:
        """Elements that are not set, by default in the dtype of x."""
        return self.new_full(as_shape(size), 0, dtype, device)

    def new_full(self, size: Any, fill_value: float, dtype: Any = None, device: Any = None) -> Self:
        """`fill_value` everywhere, by default in the dtype of x."""
        require_cpu("new_full", device)
        dtype = self.dtype if dtype is None else as_dtype("new_full", dtype)
        return self.tensor_type(np.full(as_shape((size,)), fill_value, dtype))

    def new_tensor(self, data: Any, dtype: Any = None) -> Self:
        """A copy of `data`, by default in the dtype of x."""
        return self.tensor_type(np.array(unwrap(data), self.dtype if dtype is None else as_dtype("new_tensor", dtype)))

    def type_as(self, other: Self) -> Self:
        """In the dtype of `other`."""
        return to_dtype(self, other.dtype)

    def is_floating_point(self) -> bool:
        return is_floating(self)
