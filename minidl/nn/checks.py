"""Checks that the functions of networks share."""

from typing import Any

import numpy as np

from minidl.primitives import is_floating

__all__ = ["batched", "like_input", "positive", "require", "require_4d"]


def require(function: str, **arrays: Any) -> None:
    """Check that the named arguments are floating-point Tensors or arrays of one dtype."""
    dtypes = {getattr(x, "dtype", None) for x in arrays.values() if x is not None}
    if len(dtypes) == 1 and getattr(*dtypes, "kind", None) == "f":
        return
    first = None
    for name, x in arrays.items():
        if x is None:
            continue
        if not hasattr(x, "dtype") or not hasattr(x, "shape"):
            raise TypeError(f"{function}: {name} must be a Tensor or an array, got {type(x).__name__}")
        if not is_floating(x):
            raise TypeError(f"{function}: {name} must be floating point, got dtype {x.dtype}")
        if first is not None and x.dtype != first[1]:
            raise TypeError(f"{function}: {name} has dtype {x.dtype} but {first[0]} has {first[1]}")
        first = first or (name, x.dtype)


def require_4d(function: str, x: Any) -> Any:
    """Check that x holds one image or a batch of them."""
    require(function, x=x)
    if x.ndim not in (3, 4):
        raise ValueError(f"{function}: x must have shape (N, C, H, W) or (C, H, W), got {x.shape}")
    return x


def batched(x: Any) -> Any:
    """(C, H, W) as a batch of one."""
    return x if x.ndim == 4 else x.reshape(1, *x.shape)


def like_input(y: Any, x: Any) -> Any:
    """The batch y, or its only image where x was one."""
    return y if x.ndim == 4 else y.reshape(*y.shape[1:])


def positive(function: str, **values: Any) -> None:
    """Check that the named arguments are integers > 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{function}: {name} must be a positive integer, got {value!r}")
