"""Matrix products: y = x @ w, and the linear layer y = x Wᵀ + b."""

import numpy as np

from minidl.kernels import kernel
from minidl.ops.elementwise import unbroadcast


def swap_last(x):
    return np.transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


@kernel(y=r"x \, w")
def matmul_forward(x, w):
    return x @ w, (x, w)


@kernel(dx=r"dy \, w^T", dw="x^T dy")
def matmul_backward(dy, saved, needs):
    """dx = dy wᵀ and dw = xᵀ dy, summed over broadcast batches; a 1-D operand acts as a row (x) or a column (w)."""
    x, w = saved
    rows = np.reshape(x, (1, -1)) if x.ndim == 1 else x
    columns = np.reshape(w, (-1, 1)) if w.ndim == 1 else w
    batch = dy.shape[: dy.ndim - (x.ndim > 1) - (w.ndim > 1)]
    dy = np.reshape(dy, (*batch, rows.shape[-2], columns.shape[-1]))
    dx = np.reshape(unbroadcast(dy @ swap_last(columns), rows.shape), x.shape) if needs[0] else None
    dw = np.reshape(unbroadcast(swap_last(rows) @ dy, columns.shape), w.shape) if needs[1] else None
    return dx, dw


@kernel(y=r"x \, weight^T + bias")
def linear_forward(x, weight, bias):
    """y = x Wᵀ + b for x (..., IN), weight (OUT, IN), bias (OUT,) or None."""
    y = x @ np.transpose(weight, (1, 0))
    return y if bias is None else y + bias, (x, weight)


@kernel(dx=r"dy \, weight", dweight="dy^T x", dbias=r"\sum_{rows} dy")
def linear_backward(dy, saved, needs):
    x, weight = saved
    OUT, IN = weight.shape
    rows = np.reshape(dy, (-1, OUT))
    dx = dy @ weight if needs[0] else None
    dweight = np.transpose(rows, (1, 0)) @ np.reshape(x, (-1, IN)) if needs[1] else None
    dbias = np.sum(rows, axis=0) if needs[2] else None
    return dx, dweight, dbias
