"""Checks that the functions of networks share."""

from typing import Any

from minidl.primitives import is_floating

__all__ = ["require"]


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
