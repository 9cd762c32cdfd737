"""The operations that Tensor's operators and NumPy's functions are made of, and the dtypes they meet in."""

from typing import Any

import numpy as np

from minidl.autograd import TensorBase, differentiable
from minidl.kernels import array_type
from minidl.ops import activation, elementwise, linear, shape, softmax, windows


def _pair(module: Any, name: str) -> differentiable:
    return differentiable(getattr(module, f"{name}_forward"), getattr(module, f"{name}_backward"))


add = _pair(elementwise, "add")
subtract = _pair(elementwise, "subtract")
multiply = _pair(elementwise, "multiply")
divide = _pair(elementwise, "divide")
power = _pair(elementwise, "power")
negative = _pair(elementwise, "negative")
exp = _pair(elementwise, "exp")
log = _pair(elementwise, "log")
sqrt = _pair(elementwise, "sqrt")
absolute = _pair(elementwise, "absolute")
maximum = _pair(elementwise, "maximum")
minimum = _pair(elementwise, "minimum")
where = _pair(elementwise, "where")
clip = _pair(elementwise, "clip")
cast = _pair(elementwise, "cast")
relu = _pair(elementwise, "relu")
sigmoid = _pair(activation, "sigmoid")
tanh = _pair(activation, "tanh")
expm1 = _pair(activation, "expm1")
erf = _pair(activation, "erf")
softplus = _pair(activation, "softplus")
sum_ = _pair(shape, "sum")
amax = _pair(shape, "amax")
reshape = _pair(shape, "reshape")
transpose = _pair(shape, "transpose")
broadcast_to = _pair(shape, "broadcast_to")
concatenate = _pair(shape, "concatenate")
pad = _pair(shape, "pad")
getitem = _pair(shape, "getitem")
put = _pair(shape, "put")
matmul = _pair(linear, "matmul")
unfold = _pair(windows, "unfold")
fold = _pair(windows, "fold")
softmax_ = _pair(softmax, "softmax")
log_softmax = _pair(softmax, "log_softmax")


def unwrap(x: Any) -> Any:
    """The array of a Tensor; anything else as it is."""
    return x.array if isinstance(x, TensorBase) else x


def is_floating(x: Any) -> bool:
    return isinstance(x, float) or (hasattr(x, "dtype") and x.dtype.kind == "f")


def rank(dtype: np.dtype) -> int:
    """Order of the kinds of dtype: bool 0, integers 1, floating 2."""
    return {"b": 0, "u": 1, "i": 1, "f": 2}[dtype.kind]


def to_dtype(x: Any, dtype: Any) -> Any:
    """Cast a Tensor or an array whose dtype differs; a number stays as it is."""
    if not hasattr(x, "dtype") or x.dtype == dtype:
        return x
    return cast(x, dtype=np.dtype(dtype)) if isinstance(x, TensorBase) else x.astype(dtype)


def floating(x: Any) -> Any:
    """Bring integers to float32, as functions like exp need them."""
    return x if is_floating(x) else to_dtype(x, np.float32)


def operands(x: Any, y: Any) -> tuple[Any, Any] | None:
    """Bring two operands to one dtype by PyTorch's rules; None if one of them is no number, array or Tensor.

    Numbers and zero-dimensional Tensors never raise the precision of an array: float32 * np.float64(2) is float32.
    """
    if isinstance(x, TensorBase) and isinstance(y, TensorBase) and x.held.dtype == y.held.dtype:
        return x, y
    x, y = (v.item() if isinstance(v, np.generic) else v for v in (x, y))
    if not all(array_type(v) is not None or isinstance(v, bool | int | float) for v in (x, y)):
        return None
    dtypes = [(v.ndim > 0, v.dtype) for v in (x, y) if array_type(v) is not None]
    highest = max(rank(dtype) for _, dtype in dtypes)
    if highest < 2 and (isinstance(x, float) or isinstance(y, float)):
        return to_dtype(x, np.float32), to_dtype(y, np.float32)
    if highest == 0 and any(isinstance(v, int) and not isinstance(v, bool) for v in (x, y)):
        return to_dtype(x, np.int64), to_dtype(y, np.int64)
    dtypes = [(extended, dtype) for extended, dtype in dtypes if rank(dtype) == highest]
    decisive = [dtype for extended, dtype in dtypes if extended] or [dtype for _, dtype in dtypes]
    dtype = np.result_type(*decisive)
    return to_dtype(x, dtype), to_dtype(y, dtype)


def matrix_product(x: Any, y: Any) -> Any:
    """x @ y by NumPy's rules, checked before any kernel sees it.

    Raises:
        RuntimeError: shapes or dtypes that do not fit.
    """
    if not (hasattr(x, "shape") and hasattr(y, "shape")):
        return NotImplemented
    if x.dtype != y.dtype:
        raise RuntimeError(f"matmul: dtypes {x.dtype} and {y.dtype} differ; convert one, e.g. y.to(x.dtype)")
    if 0 in (x.ndim, y.ndim) or x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        raise RuntimeError(f"matmul: shapes {tuple(x.shape)} and {tuple(y.shape)} do not fit: (..., K) @ (..., K, N)")
    return matmul(x, y)
