"""Softmax, and the cross-entropy between it and a target distribution."""

import numpy as np

from minidl.kernels import kernel


def log_softmax(x, axis):
    """ln(exp(x) / Σ exp(x)), with the maximum taken out so that nothing overflows."""
    shifted = x - np.max(x, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


@kernel(y=r"x - \ln \sum_{axis} e^x")
def log_softmax_forward(x, *, axis):
    log_p = log_softmax(x, axis)
    return log_p, (log_p, axis)


@kernel(dx=r"dy - e^y \cdot \sum_{axis} dy")
def log_softmax_backward(dy, saved, needs):
    """dx = dy - p Σ dy."""
    log_p, axis = saved
    return (dy - np.exp(log_p) * np.sum(dy, axis=axis, keepdims=True),)


@kernel(y=r"\frac{e^x}{\sum_{axis} e^x}")
def softmax_forward(x, *, axis):
    p = np.exp(log_softmax(x, axis))
    return p, (p, axis)


@kernel(dx=r"y \cdot (dy - \sum_{axis} y \cdot dy)")
def softmax_backward(dy, saved, needs):
    """dx = p (dy - Σ p dy)."""
    p, axis = saved
    return (p * (dy - np.sum(p * dy, axis=axis, keepdims=True)),)


@kernel(log_p=r"x - \ln \sum_c e^x", loss=r"-\sum_c q \cdot log_p")
def cross_entropy_forward(x, q):
    """loss_i = -Σ_c q_ic ln p_ic, p = softmax(x): logits x (M, C), target q (M, C); where q is 0, so is the term."""
    log_p = log_softmax(x, axis=1)
    return -np.sum(np.where(q == 0, 0, q * log_p), axis=1), (log_p, q)


@kernel(dx=r"dloss \cdot (e^{log_p} \cdot \sum_c q - q)", dq=r"-dloss \cdot log_p")
def cross_entropy_backward(dloss, saved, needs):
    """dx = dloss (p Σ_c q - q), dq = -dloss ln p."""
    log_p, q = saved
    dloss = dloss[:, None]
    dx = dloss * (np.exp(log_p) * np.sum(q, axis=1, keepdims=True) - q) if needs[0] else None
    dq = -dloss * log_p if needs[1] else None
    return dx, dq


@kernel
def class_targets(labels, counts, weight, *, smoothing):
    """q_ic = w_c ((1 - s) [c = label_i] + s / C) for labels (M,), weight (C,); 0 where a label does not count."""
    C = len(weight)
    hot = np.eye(C, dtype=weight.dtype)[labels]
    return weight * ((1 - smoothing) * hot + smoothing / C) * counts[:, None]
