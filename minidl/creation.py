"""Functions that make Tensors, under PyTorch's names."""

from typing import Any

import numpy as np

from minidl.arguments import as_shape
from minidl.primitives import unwrap
from minidl.random import generator
from minidl.tensor import Tensor

__all__ = ["arange", "as_tensor", "empty", "from_numpy", "full", "ones", "ones_like", "rand", "randint", "randn"]
__all__ += ["randperm", "tensor", "zeros", "zeros_like"]


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Copy `data` (numbers, nested lists, an array) into a new Tensor; Python floats become float32.

    Raises:
        TypeError: `data` does not hold numbers.
    """
    data = unwrap(data)
    array = np.array(data, dtype=dtype)
    if dtype is None and not hasattr(data, "dtype") and array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"tensor: data must be numbers, got dtype {array.dtype}")
    return Tensor(array).requires_grad_(requires_grad)


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """Make a Tensor of `data`, without a copy where it is one or an array of that dtype already."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray) and dtype in (None, data.dtype):
        return from_numpy(data)
    return tensor(data, dtype)


def from_numpy(array: np.ndarray) -> Tensor:
    """Make a Tensor that shares the memory of `array`.

    Raises:
        TypeError: `array` is not a NumPy array of numbers.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a NumPy array, got {type(array).__name__}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"from_numpy: expected numbers, got dtype {array.dtype}")
    return Tensor(array)


def zeros(*size: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Make a Tensor of zeros: zeros(2, 3) or zeros((2, 3))."""
    return Tensor(np.zeros(as_shape(size), dtype)).requires_grad_(requires_grad)


def ones(*size: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Make a Tensor of ones."""
    return Tensor(np.ones(as_shape(size), dtype)).requires_grad_(requires_grad)


def full(size: Any, fill_value: float, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Make a Tensor in which every element is `fill_value`."""
    return Tensor(np.full(size, fill_value, dtype)).requires_grad_(requires_grad)


def empty(*size: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Make a Tensor whose elements are not set."""
    return Tensor(np.empty(as_shape(size), dtype)).requires_grad_(requires_grad)


def zeros_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Make zeros in the shape and memory layout of `x`."""
    return Tensor(np.zeros_like(unwrap(x), dtype=dtype))


def ones_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Make ones in the shape and memory layout of `x`."""
    return Tensor(np.ones_like(unwrap(x), dtype=dtype))


def arange(start: float, end: float | None = None, step: float = 1, dtype: Any = None) -> Tensor:
    """Make the numbers from start (default 0) up to, but without, end."""
    start, end = (0, start) if end is None else (start, end)
    return tensor(np.arange(start, end, step).tolist(), dtype)


def randn(*size: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Draw from N(0, 1)."""
    return Tensor(generator().standard_normal(as_shape(size), np.dtype(dtype))).requires_grad_(requires_grad)


def rand(*size: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Draw uniformly from [0, 1)."""
    return Tensor(generator().random(as_shape(size), np.dtype(dtype))).requires_grad_(requires_grad)


def randint(low: int, high: int, size: Any, dtype: Any = np.int64) -> Tensor:
    """Draw integers uniformly from [low, high)."""
    return Tensor(generator().integers(low, high, size, dtype))


def randperm(n: int) -> Tensor:
    """Draw a permutation of 0..n-1."""
    return Tensor(generator().permutation(n))
