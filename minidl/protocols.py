"""NumPy's protocols on Tensors: which ufuncs (NEP 13) and functions (NEP 18) a Tensor answers.

The texts of minidl.ops are written in these functions; so a text that is handed Tensors runs as it stands, and what it
computes is recorded and can be differentiated again.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import primitives as op
from minidl.autograd import TensorBase
from minidl.kernels import Kernel
from minidl.ops import activation, shape, windows
from minidl.primitives import floating, operands, unwrap


class NumPyProtocols(TensorBase):
    """What makes `np.exp(t)`, `array * t` and `np.sum(t, axis=0)` operations on the Tensor t."""

    __slots__ = ()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options or ufunc not in UFUNCS:
            return NotImplemented
        return UFUNCS[ufunc](*inputs)

    def __array_function__(self, function: Callable, types: Any, args: tuple, options: dict) -> Any:
        if function in FUNCTIONS:
            return FUNCTIONS[function](*args, **options)
        if isinstance(function, Kernel):
            return function.text(*args, **options)
        return NotImplemented


def constant(array: Any) -> TensorBase:
    return TensorBase.tensor_type(np.asarray(array))


def binary(operation: Callable) -> Callable[..., Any]:
    return lambda x, y: operation(*operands(x, y))


def compare(ufunc: np.ufunc) -> Callable[..., Any]:
    return lambda *inputs: constant(ufunc(*(unwrap(x) for x in inputs)))


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return x.mean(axis, keepdims)


def where(condition: Any, x: Any, y: Any) -> Any:
    return op.where(unwrap(condition), *operands(x, y))


def stack(tensors: Any, axis: int = 0) -> Any:
    axis %= len(tensors[0].shape) + 1
    expanded = [np.reshape(t, (*t.shape[:axis], 1, *t.shape[axis:])) for t in tensors]
    return op.concatenate(*expanded, axis=axis)


def pad(x: Any, widths: Any, constant_values: float = 0) -> Any:
    return op.pad(x, widths=tuple(widths), value=constant_values)


def transpose(x: Any, axes: Any = None) -> Any:
    return op.transpose(x, axes=tuple(axes) if axes is not None else tuple(reversed(range(x.ndim))))


UFUNCS = {
    np.add: binary(op.add),
    np.subtract: binary(op.subtract),
    np.multiply: binary(op.multiply),
    np.divide: lambda x, y: op.divide(*map(floating, operands(x, y))),
    np.power: binary(op.power),
    np.matmul: op.matrix_product,
    np.maximum: binary(op.maximum),
    np.minimum: binary(op.minimum),
    np.negative: op.negative,
    np.exp: lambda x: op.exp(floating(x)),
    np.log: lambda x: op.log(floating(x)),
    np.sqrt: lambda x: op.sqrt(floating(x)),
    np.absolute: op.absolute,
    np.tanh: lambda x: op.tanh(floating(x)),
    np.expm1: lambda x: op.expm1(floating(x)),
    np.sign: compare(np.sign),
    **{u: compare(u) for u in (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)},
    **{u: compare(u) for u in (np.bitwise_and, np.bitwise_or, np.isnan, np.isfinite)},
}

FUNCTIONS = {
    np.sum: lambda x, axis=None, keepdims=False: op.sum_(x, axis=axis, keepdims=keepdims),
    np.mean: mean,
    np.max: lambda x, axis=None, keepdims=False: op.amax(x, axis=axis, keepdims=keepdims),
    np.argmax: lambda x, axis=None: unwrap(x).argmax(axis=axis),
    np.reshape: lambda x, shape: op.reshape(x, shape=shape),
    np.transpose: transpose,
    np.broadcast_to: lambda x, shape: op.broadcast_to(x, shape=shape),
    np.concatenate: lambda tensors, axis=0: op.concatenate(*tensors, axis=axis),
    np.stack: stack,
    np.pad: pad,
    np.where: where,
    np.zeros_like: lambda x, dtype=None, shape=None: constant(np.zeros_like(unwrap(x), dtype=dtype, shape=shape)),
    np.ones_like: lambda x, dtype=None, shape=None: constant(np.ones_like(unwrap(x), dtype=dtype, shape=shape)),
    activation.sigmoid: op.sigmoid,
    activation.erf: op.erf,
    activation.softplus: lambda x, beta=1.0, threshold=math.inf: op.softplus(x, beta=beta, threshold=threshold),
    windows.unfold: lambda x, window, fill=0.0: op.unfold(x, window=window, fill=fill),
    windows.fold: lambda cols, window, size: op.fold(cols, window=window, size=size),
    shape.put: lambda values, index, shape: op.put(values, index=index, shape=shape),
}
