"""Tensor methods as free functions, and functions of several Tensors, under PyTorch's names."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl import primitives as op
from minidl.arguments import as_axis
from minidl.primitives import operands, unwrap
from minidl.tensor import Tensor

__all__ = [
    "allclose",
    "cat",
    "concat",
    "einsum",
    "equal",
    "is_tensor",
    "isfinite",
    "isnan",
    "maximum",
    "minimum",
    "stack",
    "where",
]


def _free(name: str) -> Callable[..., Any]:
    def function(x: Tensor, *arguments: Any, **options: Any) -> Any:
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected a Tensor, got {type(x).__name__}")
        return getattr(x, name)(*arguments, **options)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Compute `x.{name}(...)`."
    return function


_methods = ("abs", "add", "amax", "amin", "argmax", "argmin", "argsort", "bernoulli", "bmm", "ceil", "chunk", "clamp")
_methods += ("clip", "div", "eq", "erf", "exp", "expm1", "flatten", "flip", "floor", "gather", "ge", "gt", "le", "log")
_methods += ("log_softmax", "lt", "masked_fill", "matmul", "max", "mean", "min", "mm", "movedim", "mul", "narrow", "ne")
_methods += ("numel", "permute", "pow", "prod", "relu", "relu_", "reshape", "round", "rsqrt", "sigmoid", "sign")
_methods += ("softmax", "sort", "split", "sqrt", "square", "squeeze", "std", "sub", "sum", "swapaxes", "t", "tanh")
_methods += ("topk", "transpose", "unbind", "unflatten", "unsqueeze", "var")
globals().update({name: _free(name) for name in _methods})
__all__ += _methods


def _tensors(function: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The Tensors of a list, in one dtype."""
    if isinstance(tensors, Tensor) or not all(isinstance(t, Tensor) for t in tensors):
        raise TypeError(f"{function}: expected a list of Tensors, got {tensors!r}")
    if not tensors:
        raise ValueError(f"{function}: the list of Tensors is empty")
    dtype = np.result_type(*(t.dtype for t in tensors))
    floats = [t.dtype for t in tensors if t.dtype.kind == "f"]
    return [t.to(np.result_type(*floats) if floats else dtype) for t in tensors]


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join Tensors along an axis that exists; the other extents must be equal.

    Raises:
        TypeError, ValueError: not a list of Tensors, or an empty one. RuntimeError: shapes that do not fit.
    """
    tensors = _tensors("cat", tensors)
    first = tensors[0].shape
    axis = as_axis("cat", dim, len(first))
    for i, t in enumerate(tensors):
        fits = first and t.ndim == len(first)
        if not fits or any(a != axis and n != m for a, (n, m) in enumerate(zip(t.shape, first, strict=True))):
            raise RuntimeError(f"cat: tensors[{i}] has shape {t.shape}, which does not fit {first} along dim {dim}")
    return op.concatenate(*tensors, axis=axis)


concat = cat


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join Tensors of one shape along a new axis.

    Raises:
        TypeError, ValueError: not a list of Tensors, or an empty one. RuntimeError: shapes that differ.
    """
    tensors = _tensors("stack", tensors)
    for i, t in enumerate(tensors):
        if t.shape != tensors[0].shape:
            raise RuntimeError(f"stack: tensors[{i}] has shape {t.shape} but tensors[0] has {tensors[0].shape}")
    axis = as_axis("stack", dim, tensors[0].ndim + 1)
    return cat([t.unsqueeze(axis) for t in tensors], axis)


def einsum(equation: str, *tensors: Tensor) -> Tensor:
    """Multiply one or two Tensors, element by element along axes of one letter, and sum over letters that `->` drops.

    For example "bij,bjk->bik" is a product of matrices, "ij->ji" a transposition, "ij,ij->i" a row by row product.

    Raises:
        ValueError: three Tensors or more, a letter twice in one of them, no `->`, or letters that do not fit the axes.
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    names = inputs.split(",")
    repeated = any(len(set(n)) < len(n) for n in (*names, output))
    if not arrow or repeated or len(names) != len(tensors) or len(names) > 2 or not set(output) <= set("".join(names)):
        raise ValueError(f"einsum: {equation!r} must name 1 or 2 Tensors, each letter once in each, as in 'ij,jk->ik'")
    extents: dict[str, int] = {}
    for name, x in zip(names, tensors, strict=True):
        if len(name) != x.ndim or any(extents.setdefault(i, n) != n for i, n in zip(name, x.shape, strict=True)):
            raise ValueError(f"einsum: {equation!r} does not fit shapes {[t.shape for t in tensors]}")
    first, second = names[0], names[1] if len(names) == 2 else ""
    kept = [i for i in first if i in second and i in output]
    summed = [i for i in first if i in second and i not in output]
    ours, theirs = ([i for i in n if i in output and i not in m] for n, m in ((first, second), (second, first)))
    parts = [_laid_out(first, tensors[0], kept, ours, summed)]
    if second:
        parts.append(_laid_out(second, tensors[1], kept, summed, theirs))
    y = parts[0].matmul(parts[1]) if second else parts[0]
    letters = [*kept, *ours, *theirs]
    return y.reshape([extents[i] for i in letters]).permute([letters.index(i) for i in output])


def _laid_out(name: str, x: Tensor, *groups: list[str]) -> Tensor:
    """x as an array of 3 axes, one for each group of letters; letters in none of them are summed over."""
    gone = [axis for axis, letter in enumerate(name) if not any(letter in group for group in groups)]
    x = x.sum(gone) if gone else x
    letters = [letter for axis, letter in enumerate(name) if axis not in gone]
    x = x.permute([letters.index(letter) for group in groups for letter in group])
    ends = [len(groups[0]), len(groups[0]) + len(groups[1])]
    parts = (x.shape[: ends[0]], x.shape[ends[0] : ends[1]], x.shape[ends[1] :])
    return x.reshape([math.prod(part) for part in parts])


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """Take x where `condition`, else y.

    Raises:
        TypeError: `condition` is not bool.
    """
    if getattr(condition, "dtype", None) != np.bool_:
        raise TypeError(f"where: condition must be a bool Tensor, got {getattr(condition, 'dtype', condition)}")
    if not isinstance(x, Tensor) and not isinstance(y, Tensor):
        x = Tensor(np.asarray(x, np.float32 if isinstance(x, float) or isinstance(y, float) else None))
    return op.where(unwrap(condition), *operands(x, y))


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """The larger element of two Tensors; equal ones share the gradient; NaN wins."""
    return np.maximum(x, y)


def minimum(x: Tensor, y: Tensor) -> Tensor:
    """The smaller element of two Tensors; equal ones share the gradient; NaN wins."""
    return np.minimum(x, y)


def isnan(x: Tensor) -> Tensor:
    """Where elements are NaN."""
    return Tensor(np.asarray(np.isnan(unwrap(x))))


def isfinite(x: Tensor) -> Tensor:
    """Where elements are neither NaN nor infinite."""
    return Tensor(np.asarray(np.isfinite(unwrap(x))))


def equal(x: Tensor, y: Tensor) -> bool:
    """Tell whether shapes and all elements are equal."""
    return np.array_equal(unwrap(x), unwrap(y))


def allclose(x: Tensor, y: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Tell whether |x - y| <= atol + rtol |y| everywhere."""
    return np.allclose(unwrap(x), unwrap(y), rtol, atol, equal_nan)


def is_tensor(x: Any) -> bool:
    """Tell whether `x` is a Tensor."""
    return isinstance(x, Tensor)
