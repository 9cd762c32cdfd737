"""Arguments that name axes, extents, elements and dtypes, checked as PyTorch checks them."""

import math
import operator
from typing import Any

import numpy as np

from minidl.primitives import unwrap

__all__ = ["as_axes", "as_axis", "as_dtype", "as_index", "as_shape", "check_fit", "device", "new_shape", "require_cpu"]


def as_axis(function: str, dim: Any, ndim: int) -> int:
    """`dim` counted from 0; a 0-d Tensor has one axis in this respect.

    Raises:
        TypeError: `dim` is no integer. IndexError: there is no such axis.
    """
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"{function}: dim must be an integer, got {dim!r}")
    dim, count = operator.index(dim), max(1, ndim)
    if not -count <= dim < count:
        raise IndexError(f"{function}: dim {dim} is out of range; a Tensor of {ndim} axes has {-count}..{count - 1}")
    return dim % count


def as_axes(function: str, dim: Any, ndim: int) -> tuple[int, ...] | None:
    """The axes of a reduction, None for all of them: None and () mean all, as in PyTorch.

    Raises:
        TypeError, IndexError: as `as_axis`. RuntimeError: an axis appears twice.
    """
    if dim is None:
        return None
    axes = tuple(as_axis(function, d, ndim) for d in (dim if isinstance(dim, list | tuple) else (dim,)))
    if len(set(axes)) < len(axes):
        raise RuntimeError(f"{function}: dim {dim} names an axis twice")
    return axes if axes and ndim else None


def as_shape(dims: tuple) -> tuple[int, ...]:
    """The extents of f(2, 3) and of f((2, 3)).

    Raises:
        TypeError: an extent is no integer.
    """
    dims = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], list | tuple) else dims
    for d in dims:
        if isinstance(d, bool) or not hasattr(d, "__index__"):
            raise TypeError(f"a shape must be integers, got {dims!r}")
    return tuple(operator.index(d) for d in dims)


def new_shape(function: str, dims: tuple, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The extents that a Tensor of `shape` is given, with -1 replaced by what fits.

    Raises:
        RuntimeError: the elements do not fit.
    """
    dims, size = as_shape(dims), math.prod(shape)
    known = math.prod(d for d in dims if d != -1)
    if dims.count(-1) > 1 or any(d < -1 for d in dims):
        raise RuntimeError(f"{function}: {dims} must be extents >= 0, at most one of them -1")
    if -1 in dims and known and size % known == 0:
        dims = tuple(size // known if d == -1 else d for d in dims)
    if -1 in dims or math.prod(dims) != size:
        raise RuntimeError(f"{function}: {dims} does not fit {size} elements of shape {shape}")
    return dims


def check_fit(function: str, x: Any, y: Any) -> None:
    """Check that the shapes of two operands can be brought to one.

    Raises:
        RuntimeError: their extents differ on an axis, and neither is 1.
    """
    shapes = [tuple(getattr(v, "shape", ())) for v in (x, y)]
    for axis, extents in enumerate(zip(*map(reversed, shapes), strict=False), start=1):
        if extents[0] != extents[1] and 1 not in extents:
            raise RuntimeError(
                f"{function}: shapes {shapes[0]} and {shapes[1]} do not fit: {extents[0]} and {extents[1]} on axis "
                f"{max(map(len, shapes)) - axis}"
            )


def as_index(index: Any) -> tuple:
    """An index as a tuple of slices, integers, None, Ellipsis, and arrays that belong to nobody else.

    It has an Ellipsis in any case: so NumPy returns a view also of a single element.
    """
    parts = tuple(_part(p) for p in (index if isinstance(index, tuple) else (index,)))
    return parts if any(p is Ellipsis for p in parts) else (*parts, Ellipsis)


def _part(part: Any) -> Any:
    part = unwrap(part)
    if isinstance(part, list | range) and not len(part):
        return np.zeros(0, np.int64)
    if isinstance(part, list | range | np.ndarray):
        part = np.array([unwrap(p) for p in part] if isinstance(part, list) else part)
        return int(part) if part.ndim == 0 and part.dtype.kind in "iu" else part
    return part


def as_dtype(function: str, dtype: Any) -> np.dtype:
    """`dtype` as NumPy's, if it is one of numbers.

    Raises:
        TypeError: it is none.
    """
    try:
        found = np.dtype(dtype) if dtype is not None else None
    except TypeError:
        found = None
    if found is None or found.kind not in "biuf":
        raise TypeError(f"{function}: expected a dtype of numbers, such as minidl.float32, got {dtype!r}")
    return found


class device(str):
    """Where Tensors live, under PyTorch's name: device("cpu"). It is the string, with a `type` and an `index`.

    Raises:
        RuntimeError: the name is not "cpu" or "cuda", with or without a number ("cuda:0").
    """

    def __new__(cls, name: str) -> "device":
        kind, colon, index = str(name).partition(":")
        if kind not in ("cpu", "cuda") or (colon and not index.isdigit()):
            raise RuntimeError(f"device: expected 'cpu' or 'cuda', got {name!r}")
        return super().__new__(cls, name)

    @property
    def type(self) -> str:
        return str(self).partition(":")[0]

    @property
    def index(self) -> int | None:
        number = str(self).partition(":")[2]
        return int(number) if number else None


def require_cpu(function: str, where: Any) -> None:
    """Check that Tensors are wanted on the CPU (or anywhere: None).

    Raises:
        NotImplementedError: they are wanted elsewhere.
    """
    if where is not None and device(where).type != "cpu":
        raise NotImplementedError(f"{function}: there is no device {str(where)!r} yet; Tensors live in NumPy arrays")
