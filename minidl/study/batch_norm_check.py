"""Batch norm from operations that everybody knows, with every intermediate of the paper and the gradient by it."""

from typing import Any

import numpy as np

from minidl.autograd import enable_grad, grad
from minidl.ops.batch_norm import batch_axes, per_channel
from minidl.tensor import Tensor

__all__ = ["by_autograd"]


def by_autograd(x: Any, gamma: Any, beta: Any, dy: Any, eps: float) -> dict[str, np.ndarray]:
    """Algorithm 1 from primitive operations in float64, and the six derivatives of section 3 as autograd finds them.

    Args:
        x, dy: arrays (N, C, ...). gamma, beta: arrays (C,). eps: added to the variance.

    Returns:
        mean, var, inv_std, x_hat, y, dx_hat, dvar, dmean, dx, dgamma, dbeta by name.
    """
    x, gamma, beta = (Tensor(np.asarray(v, np.float64)).requires_grad_() for v in (x, gamma, beta))
    axes = batch_axes(x)
    with enable_grad():
        mean = np.mean(x, axis=axes, keepdims=True)
        var = np.mean((x - mean) ** 2, axis=axes, keepdims=True)
        inv_std = 1 / np.sqrt(var + eps)
        x_hat = (x - mean) * inv_std
        y = per_channel(gamma, x) * x_hat + per_channel(beta, x)
    values = dict(mean=mean, var=var, inv_std=inv_std, x_hat=x_hat, y=y)
    by = dict(dx_hat=x_hat, dvar=var, dmean=mean, dx=x, dgamma=gamma, dbeta=beta)
    found = grad(y, list(by.values()), np.asarray(dy, np.float64))
    return {name: v.detach().array for name, v in (*values.items(), *zip(by, found, strict=True))}
