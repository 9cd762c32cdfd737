"""Losses element by element: of numbers, of probabilities of one class."""

import numpy as np

from minidl.kernels import kernel
from minidl.ops.activation import sigmoid, softplus


@kernel(loss=r"-(t \cdot \ln p + (1 - t) \cdot \ln(1 - p))")
def binary_cross_entropy_forward(p, t):
    """loss = -(t ln p + (1 - t) ln(1 - p)), no logarithm below -100: probability p and target t in [0, 1]."""
    return -(t * log(p) + (1 - t) * log(1 - p)), (p, t)


@kernel(dp=r"dloss \cdot \frac{p - t}{p (1 - p)}", dt=r"dloss \cdot (\ln(1 - p) - \ln p)")
def binary_cross_entropy_backward(dloss, saved, needs):
    """dp = dloss (p - t) / (p (1 - p)), dt = dloss (ln(1 - p) - ln p)."""
    p, t = saved
    dp = dloss * (p - t) / np.maximum(p * (1 - p), 1e-12) if needs[0] else None
    dt = dloss * (log(1 - p) - log(p)) if needs[1] else None
    return dp, dt


def log(p):
    tiny = 3e-44  # its logarithm is just below -100
    return np.maximum(np.log(np.maximum(p, tiny)), -100)


@kernel(loss=r"-(pos_weight \cdot t \cdot \ln \sigma(x) + (1 - t) \cdot \ln(1 - \sigma(x)))")
def sigmoid_cross_entropy_forward(x, t, *, pos_weight):
    """loss = -(w t ln σ(x) + (1 - t) ln(1 - σ(x))): logit x, target t in [0, 1], weight w of positive targets.

    ln σ(x) = -ln(1 + exp(-x)) and ln(1 - σ(x)) = -ln(1 + exp(x)), so nothing overflows.
    """
    return pos_weight * t * softplus(-x) + (1 - t) * softplus(x), (x, t, pos_weight)


@kernel(
    dx=r"dloss \cdot ((1 - t) \cdot \sigma(x) - pos_weight \cdot t \cdot (1 - \sigma(x)))",
    dt=r"dloss \cdot (\ln(1 - \sigma(x)) - pos_weight \cdot \ln \sigma(x))",
)
def sigmoid_cross_entropy_backward(dloss, saved, needs):
    """dx = dloss ((1 - t) σ(x) - w t (1 - σ(x))), which is dloss (σ(x) - t) where w = 1; the loss is linear in t."""
    x, t, pos_weight = saved
    dx = dloss * ((1 - t) * sigmoid(x) - pos_weight * t * sigmoid(-x)) if needs[0] else None
    dt = dloss * (pos_weight * softplus(-x) - softplus(x)) if needs[1] else None
    return dx, dt


@kernel(
    near=r"\min(|x - t|, delta)",
    loss=r"near \cdot (|x - t| - \frac{1}{2} near)",
)
def huber_forward(x, t, *, delta):
    """loss = d²/2 where |d| <= δ, else δ (|d| - δ/2), d = x - t (Huber 1964)."""
    d = np.absolute(x - t)
    near = np.minimum(d, delta)
    return near * (d - 0.5 * near), (x, t, delta)


@kernel(dx=r"dloss \cdot \min(\max(x - t, -delta), delta)", dt="-dx")
def huber_backward(dloss, saved, needs):
    """dx = dloss d, cut off at ±δ; dt = -dx."""
    x, t, delta = saved
    dx = dloss * np.minimum(np.maximum(x - t, -delta), delta)
    return dx if needs[0] else None, -dx if needs[1] else None
