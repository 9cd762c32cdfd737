"""Gradients cut down before a step, under PyTorch's names (there in torch.nn.utils)."""

import math
from collections.abc import Iterable

import numpy as np

from minidl.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def with_gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p for p in parameters if p.grad is not None]


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Scale all gradients by max_norm / norm, if their common norm is larger (Pascanu et al. 2013, arXiv 1211.5063).

    Args:
        parameters: their `.grad` are changed in place. max_norm: largest norm that is left. norm_type: p, or infinity.

    Returns:
        The norm (Σ |g|^p)^(1/p) before.
    """
    found = with_gradients(parameters)
    p = float(norm_type)
    if not p > 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be > 0, got {norm_type}")
    if math.isinf(p):
        norm = max((float(np.abs(v.grad.array).max(initial=0)) for v in found), default=0.0)
    else:
        norm = sum(float((np.abs(v.grad.array) ** p).sum(dtype=np.float64)) for v in found) ** (1 / p)
    scale = min(1.0, max_norm / (norm + 1e-6)) if norm == norm else norm
    for v in found:
        v.grad.mul_(scale)
    return Tensor(np.asarray(norm, found[0].grad.dtype if found else np.float32))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Cut every element of the gradients off at -clip_value and clip_value."""
    for v in with_gradients(parameters):
        v.grad.clamp_(-float(clip_value), float(clip_value))
