"""Sums, means and extremes of a Tensor, under PyTorch's names."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np

from minidl import primitives as op
from minidl.arguments import as_axes, as_axis
from minidl.autograd import TensorBase
from minidl.kernels.tape import compute
from minidl.primitives import is_floating, to_dtype
from minidl.protocols import NumPyProtocols


class Extreme(NamedTuple):
    """What `x.max(dim)` and `x.min(dim)` return."""

    values: TensorBase
    indices: TensorBase


def numpys_names(method: Callable) -> Callable:
    """Let a reduction be called with NumPy's `axis` and `keepdims` too, as PyTorch does."""

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, axis: Any = None, keepdims: bool | None = None, **options: Any) -> Any:
        if axis is not None:
            options["dim"] = axis
        if keepdims is not None:
            options["keepdim"] = keepdims
        return method(self, *arguments, **options)

    return call


class Reductions(NumPyProtocols):
    """The methods that make fewer numbers of many. `dim`: an axis, several, or None for all."""

    __slots__ = ()

    @numpys_names
    def sum(self, dim: Any = None, keepdim: bool = False) -> Self:
        """Σ x; of integers and bools as int64."""
        x = self if is_floating(self) else to_dtype(self, np.int64)
        return op.sum_(x, axis=as_axes("sum", dim, self.ndim), keepdims=keepdim)

    @numpys_names
    def mean(self, dim: Any = None, keepdim: bool = False) -> Self:
        """Σ x / m; NaN of nothing."""
        if not is_floating(self):
            raise RuntimeError(f"mean: a floating-point Tensor is needed, got {self.dtype}; use x.float().mean()")
        count = self._count("mean", dim)
        return self.sum(dim, keepdim) / (count if count else math.nan)

    @numpys_names
    def prod(self, dim: int | None = None, keepdim: bool = False) -> Self:
        """Π x along `dim`, or of all elements; of integers and bools as int64."""
        x = self if is_floating(self) else to_dtype(self, np.int64)
        if dim is None:
            return math.prod(x.reshape(-1).unbind(), start=x.tensor_type(np.ones((), x.dtype)))
        axis = as_axis("prod", dim, self.ndim)
        y = math.prod(x.unbind(axis), start=x.tensor_type(np.ones((), x.dtype))) if self.ndim else x.clone()
        return y.unsqueeze(axis) if keepdim and self.ndim else y

    @numpys_names
    def var(self, dim: Any = None, unbiased: bool = True, keepdim: bool = False) -> Self:
        """Σ (x - mean)² / (m - 1), or / m if not unbiased."""
        squares = ((self - self.mean(dim, keepdim=True)) ** 2).sum(dim, keepdim)
        return squares / (max(0, self._count("var", dim) - unbiased) or math.nan)

    @numpys_names
    def std(self, dim: Any = None, unbiased: bool = True, keepdim: bool = False) -> Self:
        """√var."""
        return self.var(dim, unbiased, keepdim).sqrt()

    def _count(self, function: str, dim: Any) -> int:
        axes = as_axes(function, dim, self.ndim)
        return self.array.size if axes is None else math.prod(self.shape[a] for a in axes)

    @numpys_names
    def amax(self, dim: Any = None, keepdim: bool = False) -> Self:
        """The maximum; equal maxima share the gradient; NaN wins."""
        axes = self._occupied("amax", dim)
        return op.amax(self, axis=axes, keepdims=keepdim)

    @numpys_names
    def amin(self, dim: Any = None, keepdim: bool = False) -> Self:
        """The minimum; equal minima share the gradient; NaN wins."""
        if not is_floating(self):
            axes = self._occupied("amin", dim)
            return self.tensor_type(np.asarray(self.array.min(axis=axes, keepdims=keepdim)))
        return -(-self).amax(dim, keepdim)

    def _occupied(self, function: str, dim: Any) -> tuple[int, ...] | None:
        axes = as_axes(function, dim, self.ndim)
        extents = self.shape if axes is None else [self.shape[a] for a in axes]
        if 0 in extents:
            kind = RuntimeError if dim is None else IndexError
            raise kind(f"{function}: nothing to compare along dim {dim} of {self.shape}")
        return axes

    @numpys_names
    def max(self, dim: Any = None, keepdim: bool = False) -> Self | Extreme:
        """The maximum, or (values, indices) of the first along `dim`; or of two Tensors, element by element."""
        if isinstance(dim, NumPyProtocols):
            return np.maximum(self, dim)
        return self._of_all(self.amax()) if dim is None else self._extreme(self.argmax(dim, keepdim=True), dim, keepdim)

    @numpys_names
    def min(self, dim: Any = None, keepdim: bool = False) -> Self | Extreme:
        """The minimum, or (values, indices) of the first along `dim`; or of two Tensors, element by element."""
        if isinstance(dim, NumPyProtocols):
            return np.minimum(self, dim)
        return self._of_all(self.amin()) if dim is None else self._extreme(self.argmin(dim, keepdim=True), dim, keepdim)

    def _of_all(self, y: Self) -> Self:
        """The extreme y, or, where that is NaN, the NaNs: then they share the gradient."""
        return self[np.isnan(self.array)].mean() if is_floating(self) and np.isnan(y.array) else y

    def _extreme(self, indices: Self, dim: int, keepdim: bool) -> Extreme:
        if self.ndim == 0:
            return Extreme(self.clone(), indices)
        grids = list(np.ogrid[tuple(slice(extent) for extent in indices.shape)])
        grids[dim] = indices.array
        values = self[tuple(grids)]
        return Extreme(values, indices) if keepdim else Extreme(values.squeeze(dim), indices.squeeze(dim))

    @numpys_names
    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Self:
        """Where the first maximum is, along `dim` or in the flattened Tensor; the first NaN counts as one."""
        return self._arg("argmax", np.argmax, dim, keepdim)

    @numpys_names
    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Self:
        """Where the first minimum is, along `dim` or in the flattened Tensor; the first NaN counts as one."""
        return self._arg("argmin", np.argmin, dim, keepdim)

    def _arg(self, function: str, find: Any, dim: Any, keepdim: bool) -> Self:
        axis = None if dim is None else as_axis(function, dim, self.ndim)
        if 0 in (self.shape if axis is None else self.shape[axis : axis + 1]):
            raise IndexError(f"{function}: nothing to compare along dim {dim} of {self.shape}")
        found = compute(find, self.array, axis=axis if self.ndim else None, keepdims=keepdim)
        return self.tensor_type(np.asarray(found))

    @numpys_names
    def any(self, dim: Any = None, keepdim: bool = False) -> Self:
        """Whether an element is not 0."""
        axes = as_axes("any", dim, self.ndim)
        return self.tensor_type(np.asarray(compute(np.any, self.array, axis=axes, keepdims=keepdim)))

    @numpys_names
    def all(self, dim: Any = None, keepdim: bool = False) -> Self:
        """Whether no element is 0."""
        axes = as_axes("all", dim, self.ndim)
        return self.tensor_type(np.asarray(compute(np.all, self.array, axis=axes, keepdims=keepdim)))
