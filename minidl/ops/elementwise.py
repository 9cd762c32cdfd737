"""Arithmetic, element by element, with NumPy's broadcasting."""

import numpy as np

from minidl.kernels import kernel


def shape_of(x):
    return getattr(x, "shape", ())  # a Python number has none


def unbroadcast(dy, shape):
    """Sum `dy` over the axes along which an input of `shape` was repeated."""
    if dy.shape == tuple(shape):
        return dy
    lead = dy.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(lead + i for i, extent in enumerate(shape) if extent == 1)
    return np.reshape(np.sum(dy, axis=axes, keepdims=True), shape)


@kernel(z="x + y")
def add_forward(x, y):
    return x + y, (shape_of(x), shape_of(y))


@kernel(dx="unbroadcast(dz)", dy="unbroadcast(dz)")
def add_backward(dz, saved, needs):
    return tuple(unbroadcast(dz, shape) if need else None for shape, need in zip(saved, needs, strict=True))


@kernel(z="x - y")
def subtract_forward(x, y):
    return x - y, (shape_of(x), shape_of(y))


@kernel(dx="unbroadcast(dz)", dy="unbroadcast(-dz)")
def subtract_backward(dz, saved, needs):
    x_shape, y_shape = saved
    dx = unbroadcast(dz, x_shape) if needs[0] else None
    dy = unbroadcast(-dz, y_shape) if needs[1] else None
    return dx, dy


def beside(x, other):
    """x, where the gradient by `other` may be asked for; a number has none, and what stands beside it is not kept."""
    return x if hasattr(other, "shape") else None


@kernel(z=r"x \cdot y")
def multiply_forward(x, y):
    return x * y, (beside(x, y), beside(y, x), shape_of(x), shape_of(y))


@kernel(dx=r"unbroadcast(dz \cdot y)", dy=r"unbroadcast(dz \cdot x)")
def multiply_backward(dz, saved, needs):
    x, y, x_shape, y_shape = saved
    dx = unbroadcast(dz * y, x_shape) if needs[0] else None
    dy = unbroadcast(dz * x, y_shape) if needs[1] else None
    return dx, dy


@kernel(z=r"\frac{x}{y}")
def divide_forward(x, y):
    return x / y, (beside(x, y), y, shape_of(x))


@kernel(dx=r"unbroadcast(\frac{dz}{y})", dy=r"unbroadcast(-dz \cdot \frac{x}{y^2})")
def divide_backward(dz, saved, needs):
    x, y, x_shape = saved
    dx = unbroadcast(dz / y, x_shape) if needs[0] else None
    dy = unbroadcast(-dz * x / (y * y), shape_of(y)) if needs[1] else None
    return dx, dy


@kernel(z="x^y")
def power_forward(x, y):
    return x**y, (x, y)


@kernel(dx=r"unbroadcast(dz \cdot y \cdot x^{y - 1})", dy=r"unbroadcast(dz \cdot x^y \cdot \ln x)")
def power_backward(dz, saved, needs):
    """∂x^y/∂x = y x^(y-1), and 0 where y = 0; ∂x^y/∂y = x^y ln x, and 0 where x = 0 and y >= 0."""
    x, y = saved
    dx = dy = None
    if needs[0]:
        lower = y - 1 if isinstance(y, int | float) else np.where(y == 0, 1, y - 1)
        dx = unbroadcast(dz * y * x**lower, shape_of(x)) if not is_zero(y) else np.zeros_like(x)
    if needs[1]:
        at_zero = (x == 0) & (y >= 0)
        dy = unbroadcast(dz * np.where(at_zero, 0, x**y * np.log(np.where(at_zero, 1, x))), shape_of(y))
    return dx, dy


def is_zero(y):
    return isinstance(y, int | float) and y == 0


@kernel(y="-x")
def negative_forward(x):
    return -x, None


@kernel(dx="-dy")
def negative_backward(dy, saved, needs):
    return (-dy,)


@kernel(y="e^x")
def exp_forward(x):
    y = np.exp(x)
    return y, y


@kernel(dx=r"dy \cdot y")
def exp_backward(dy, y, needs):
    return (dy * y,)


@kernel(y=r"\ln x")
def log_forward(x):
    return np.log(x), x


@kernel(dx=r"\frac{dy}{x}")
def log_backward(dy, x, needs):
    return (dy / x,)


@kernel(y=r"\sqrt{x}")
def sqrt_forward(x):
    y = np.sqrt(x)
    return y, y


@kernel(dx=r"\frac{dy}{2 y}")
def sqrt_backward(dy, y, needs):
    return (dy / (2 * y),)


@kernel(y="|x|")
def absolute_forward(x):
    return np.absolute(x), x


@kernel(dx=r"dy \cdot sign(x)")
def absolute_backward(dy, x, needs):
    return (dy * np.sign(x),)


@kernel(z=r"\max(x, y)")
def maximum_forward(x, y):
    return np.maximum(x, y), (x, y)


@kernel(
    dx=r"unbroadcast(dz \cdot (\mathbf{1}[x > y] + \frac{1}{2} \mathbf{1}[x = y]))",
    dy=r"unbroadcast(dz \cdot (\mathbf{1}[y > x] + \frac{1}{2} \mathbf{1}[x = y]))",
)
def maximum_backward(dz, saved, needs):
    return choose_backward(dz, saved, needs, np.less)


@kernel(z=r"\min(x, y)")
def minimum_forward(x, y):
    return np.minimum(x, y), (x, y)


@kernel(
    dx=r"unbroadcast(dz \cdot (\mathbf{1}[x < y] + \frac{1}{2} \mathbf{1}[x = y]))",
    dy=r"unbroadcast(dz \cdot (\mathbf{1}[y < x] + \frac{1}{2} \mathbf{1}[x = y]))",
)
def minimum_backward(dz, saved, needs):
    return choose_backward(dz, saved, needs, np.greater)


def choose_backward(dz, saved, needs, loses):
    """Give dz to the chosen input, half of it to each where they are equal, all to both beside NaN."""
    x, y = saved
    shared = np.where(x == y, dz / 2, dz)
    dx = unbroadcast(np.where(loses(x, y), 0, shared), shape_of(x)) if needs[0] else None
    dy = unbroadcast(np.where(loses(y, x), 0, shared), shape_of(y)) if needs[1] else None
    return dx, dy


@kernel(y=r"\min(\max(x, low), high)")
def clip_forward(x, *, low, high):
    """y = x, cut off at low and high; either may be None."""
    y = x if low is None else np.maximum(x, low)
    return y if high is None else np.minimum(y, high), (x, low, high)


@kernel(dx=r"dy \cdot \mathbf{1}[low \leq x \leq high]")
def clip_backward(dy, saved, needs):
    """dx = dy where x was let through, also at the limits."""
    x, low, high = saved
    dx = dy if low is None else np.where(x >= low, dy, 0)
    return (dx if high is None else np.where(x <= high, dx, 0),)


@kernel(z=r"\mathbf{1}[condition] \cdot x + \mathbf{1}[not \, condition] \cdot y")
def where_forward(condition, x, y):
    return np.where(condition, x, y), (condition, shape_of(x), shape_of(y))


@kernel(dx=r"unbroadcast(dz \cdot \mathbf{1}[condition])", dy=r"unbroadcast(dz \cdot \mathbf{1}[not \, condition])")
def where_backward(dz, saved, needs):
    condition, x_shape, y_shape = saved
    dx = unbroadcast(np.where(condition, dz, 0), x_shape) if needs[1] else None
    dy = unbroadcast(np.where(condition, 0, dz), y_shape) if needs[2] else None
    return None, dx, dy


@kernel(y=r"\max(x, 0)")
def relu_forward(x):
    """y = max(x, 0); NaN stays NaN."""
    y = np.maximum(x, 0)
    return y, y


@kernel(dx=r"dy \cdot \mathbf{1}[y > 0]")
def relu_backward(dy, y, needs):
    """dx = dy where y > 0, and 0 at the kink."""
    return (np.where(y <= 0, 0, dy),)


@kernel(y="dtype(x)")
def cast_forward(x, *, dtype):
    return x.astype(dtype), x.dtype


@kernel(dx="dtype_x(dy)")
def cast_backward(dy, dtype, needs):
    return (dy.astype(dtype),)
