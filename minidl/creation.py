"""Functions that make Tensors, under PyTorch's names."""

from typing import Any

import numpy as np

from minidl.arguments import as_dtype, as_shape, require_cpu
from minidl.primitives import unwrap
from minidl.random import generator
from minidl.tensor import Tensor

__all__ = ["arange", "as_tensor", "empty", "from_numpy", "full", "linspace", "ones", "ones_like", "rand", "randint"]
__all__ += ["rand_like", "randn", "randn_like", "randperm", "tensor", "zeros", "zeros_like"]


def _extents(function: str, size: tuple, device: Any = None) -> tuple[int, ...]:
    require_cpu(function, device)
    shape = as_shape(size)
    if min(shape, default=0) < 0:
        raise ValueError(f"{function}: extents must be >= 0, got {shape}")
    return shape


def _drawn_in(function: str, dtype: Any) -> np.dtype:
    found = as_dtype(function, dtype)
    if found not in (np.float32, np.float64):
        raise TypeError(f"{function}: dtype must be float32 or float64, got {found}")
    return found


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Copy `data` (numbers, nested lists, an array) into a new Tensor; Python floats become float32.

    Raises:
        TypeError: `data` does not hold numbers. ValueError: nested lists of different lengths.
    """
    require_cpu("tensor", device)
    data = unwrap(data)
    try:
        array = np.array(data)
    except ValueError as error:
        raise ValueError(f"tensor: data must be numbers or nested lists of equal lengths: {error}") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"tensor: data must be numbers, got dtype {array.dtype}")
    if dtype is not None:
        array = array.astype(as_dtype("tensor", dtype), copy=False)
    elif not hasattr(data, "dtype") and array.dtype == np.float64:
        array = array.astype(np.float32)
    return Tensor(array).requires_grad_(requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Make a Tensor of `data`, without a copy where it is one or an array of that dtype already."""
    require_cpu("as_tensor", device)
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


def zeros(*size: Any, dtype: Any = np.float32, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Make a Tensor of zeros: zeros(2, 3) or zeros((2, 3))."""
    return Tensor(np.zeros(_extents("zeros", size, device), as_dtype("zeros", dtype))).requires_grad_(requires_grad)


def ones(*size: Any, dtype: Any = np.float32, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Make a Tensor of ones."""
    return Tensor(np.ones(_extents("ones", size, device), as_dtype("ones", dtype))).requires_grad_(requires_grad)


def full(size: Any, fill_value: float, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Make a Tensor in which every element is `fill_value`, by default in the dtype that tensor(fill_value) has."""
    value = tensor(fill_value, dtype).array
    return Tensor(np.full(_extents("full", (size,), device), value, value.dtype)).requires_grad_(requires_grad)


def empty(*size: Any, dtype: Any = np.float32, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Make a Tensor whose elements are not set."""
    return Tensor(np.empty(_extents("empty", size, device), as_dtype("empty", dtype))).requires_grad_(requires_grad)


def zeros_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Make zeros in the shape and memory layout of `x`."""
    return Tensor(np.zeros_like(unwrap(x), dtype=dtype))


def ones_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Make ones in the shape and memory layout of `x`."""
    return Tensor(np.ones_like(unwrap(x), dtype=dtype))


def arange(start: float, end: float | None = None, step: float = 1, dtype: Any = None, device: Any = None) -> Tensor:
    """Make the numbers from start (default 0) up to, but without, end."""
    require_cpu("arange", device)
    start, end = (0, start) if end is None else (start, end)
    if step == 0:
        raise ValueError("arange: step must not be 0, got 0")
    integers = all(isinstance(v, int | np.integer) for v in (start, end, step))
    kind = (np.int64 if integers else np.float32) if dtype is None else as_dtype("arange", dtype)
    return Tensor(np.arange(start, end, step).astype(kind))


def linspace(start: float, end: float, steps: int, dtype: Any = np.float32) -> Tensor:
    """Make `steps` numbers at equal distances from start to end."""
    return Tensor(np.linspace(start, end, steps, dtype=as_dtype("linspace", dtype)))


def randn(*size: Any, dtype: Any = np.float32, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Draw from N(0, 1)."""
    return Tensor(
        generator().standard_normal(_extents("randn", size, device), _drawn_in("randn", dtype))
    ).requires_grad_(requires_grad)


def rand(*size: Any, dtype: Any = np.float32, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Draw uniformly from [0, 1)."""
    return Tensor(generator().random(_extents("rand", size, device), _drawn_in("rand", dtype))).requires_grad_(
        requires_grad
    )


def rand_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Draw uniformly from [0, 1), in the shape of `x`."""
    return rand(*x.shape, dtype=x.dtype if dtype is None else dtype)


def randn_like(x: Tensor, dtype: Any = None) -> Tensor:
    """Draw from N(0, 1), in the shape of `x`."""
    return randn(*x.shape, dtype=x.dtype if dtype is None else dtype)


def randint(low: int, high: Any, size: Any = None, dtype: Any = np.int64) -> Tensor:
    """Draw integers uniformly from [low, high): randint(low, high, size), or randint(high, size) from 0 on.

    Raises:
        ValueError: there is no such integer.
    """
    low, high, size = (0, low, high) if size is None else (low, high, size)
    if not low < high:
        raise ValueError(f"randint: low must be less than high, got {low} and {high}")
    return Tensor(generator().integers(low, high, _extents("randint", (size,)), as_dtype("randint", dtype)))


def randperm(n: int) -> Tensor:
    """Draw a permutation of 0..n-1."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
        raise ValueError(f"randperm: n must be an integer >= 0, got {n!r}")
    return Tensor(generator().permutation(int(n)))
