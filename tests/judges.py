"""Judges of derivatives: they know nothing of how a gradient was made.

The upstream gradient is random: with ones, batch norm's dx and dgamma are zero, and a backward of zeros passes.
"""

import numpy as np


def relative_error(value, expected):
    """Largest difference over the largest expected value; infinite where shapes or NaN patterns differ."""
    value, expected = np.asarray(value), np.asarray(expected)
    if value.shape != expected.shape or not np.array_equal(np.isnan(value), np.isnan(expected)):
        return np.inf
    if not expected.size:
        return 0.0
    return float(np.nanmax(np.abs(value - expected))) / max(float(np.nanmax(np.abs(expected))), 1e-300)


def central_differences(f, inputs, i, step):
    """∂f/∂inputs[i], element by element, from f at ± step and ± 2 step (error of order step⁴)."""
    x = inputs[i]
    dx = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        values = []
        for shift in (step, -step, 2 * step, -2 * step):
            moved = x.copy()
            moved[index] += shift
            values.append(f(*inputs[:i], moved, *inputs[i + 1 :]))
        dx[index] = (8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * step)
    return dx


def gradient_errors(forward, backward, inputs, options, needs, step=1e-4, seed=1):
    """For each input that needs one: the relative error of backward's gradient against differences of forward."""
    y, saved = forward(*inputs, **options)
    dy = np.random.default_rng(seed).standard_normal(np.shape(y))
    gradients = backward(dy, saved, needs)

    def f(*arrays):
        return float(np.sum(forward(*arrays, **options)[0] * dy))

    return [
        relative_error(gradient, central_differences(f, inputs, i, step)) if need else float(gradient is not None)
        for i, (gradient, need) in enumerate(zip(gradients, needs, strict=True))
    ]
