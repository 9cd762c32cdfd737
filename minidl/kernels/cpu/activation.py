"""Nonlinearities, and losses element by element, in one pass over memory.

The formulas say the same as the texts in minidl.ops.activation and minidl.ops.loss, of a number x (or of what the text
saved), the target t of a loss, and the incoming gradient dy; a and b are the options in their order. "_backward_t" is
the gradient of the target.
"""

import math

import numpy as np
from numba.extending import intrinsic

from minidl.kernels import override
from minidl.kernels.cpu.elementary import absolute, erf, exp, expm1, log1p, normal, sigmoid, softplus, tanh
from minidl.kernels.cpu.elementwise import BLOCK, over
from minidl.kernels.cpu.jit import jit
from minidl.kernels.cpu.launch import job_of, share_out
from minidl.kernels.cpu.layout import floats
from minidl.kernels.cpu.vectors import Emitter, Vector, where

FEW = 1 << 10  # numbers for which NumPy's passes take no longer


def inside_gelu(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)


def gelu_tanh_backward(x, dy):
    t = tanh(inside_gelu(x))
    dt = (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return dy * (0.5 * (1 + t) + 0.5 * x * dt)


def gelu_backward(x, dy):
    Phi, density = normal(x)  # noqa: N806
    return dy * (Phi + x * density)


def silu_backward(x, dy):
    s = sigmoid(x)
    return dy * s * (1 + x * (1 - s))


def sigmoid_cross_entropy(x, t, pos_weight):
    rest = log1p(exp(-absolute(x)))  # softplus(x) and softplus(-x) are this and max(±x, 0)
    return pos_weight * t * (rest + where(x < 0, -x, 0)) + (1 - t) * (rest + where(x < 0, 0, x))


def huber(d, delta):
    near = where(d > delta, delta, d)
    return near * (d - 0.5 * near)


def cut_off(x, low, high):
    y = where(x < low, low, x)
    return where(y > high, high, y)


# fmt: off
FORMULAS = {
    "sigmoid_forward":     lambda x, t, dy, a, b: sigmoid(x),
    "sigmoid_backward":    lambda y, t, dy, a, b: dy * y * (1 - y),
    "tanh_forward":        lambda x, t, dy, a, b: tanh(x),
    "tanh_backward":       lambda y, t, dy, a, b: dy * (1 - y * y),
    "erf_forward":         lambda x, t, dy, a, b: erf(x),
    "erf_backward":        lambda x, t, dy, a, b: dy * (2 / math.sqrt(math.pi)) * exp(-x * x),
    "softplus_forward":    lambda x, t, dy, a, b: where(a * x > b, x, softplus(a * x) / a),
    "softplus_backward":   lambda x, t, dy, a, b: where(a * x > b, dy, dy * sigmoid(a * x)),
    "leaky_relu_forward":  lambda x, t, dy, a, b: where(x > 0, x, a * x),
    "leaky_relu_backward": lambda x, t, dy, a, b: where(x > 0, dy, a * dy),
    "elu_forward":         lambda x, t, dy, a, b: where(x > 0, x, a * expm1(where(x > 0, 0, x))),
    "elu_backward":        lambda x, t, dy, a, b: where(x <= 0, dy * a * exp(where(x > 0, 0, x)), dy),
    "gelu_forward":        lambda x, t, dy, a, b: x * normal(x)[0],
    "gelu_backward":       lambda x, t, dy, a, b: gelu_backward(x, dy),
    "gelu_tanh_forward":   lambda x, t, dy, a, b: 0.5 * x * (1 + tanh(inside_gelu(x))),
    "gelu_tanh_backward":  lambda x, t, dy, a, b: gelu_tanh_backward(x, dy),
    "silu_forward":        lambda x, t, dy, a, b: x * sigmoid(x),
    "silu_backward":       lambda x, t, dy, a, b: silu_backward(x, dy),
    "hardtanh_forward":    lambda x, t, dy, a, b: cut_off(x, a, b),
    "hardtanh_backward":   lambda x, t, dy, a, b: where(x <= a, 0, where(b <= x, 0, dy)),
    "clip_forward":        lambda x, t, dy, a, b: cut_off(x, a, b),
    "clip_backward":       lambda x, t, dy, a, b: where(a <= x, where(x <= b, dy, 0), 0),
    "hardswish_forward":   lambda x, t, dy, a, b: x * cut_off(x / 6 + 0.5, 0, 1),
    "hardswish_backward":  lambda x, t, dy, a, b: where(x <= -3, 0, where(x < 3, dy * (x / 3 + 0.5), dy)),
    "huber_forward":       lambda x, t, dy, a, b: huber(absolute(x - t), a),
    "huber_backward":      lambda x, t, dy, a, b: dy * cut_off(x - t, -a, a),
    "huber_backward_t":    lambda x, t, dy, a, b: -(dy * cut_off(x - t, -a, a)),
    "sigmoid_cross_entropy_forward":    lambda x, t, dy, a, b: sigmoid_cross_entropy(x, t, a),
    "sigmoid_cross_entropy_backward":   lambda x, t, dy, a, b: dy * ((1 - t) * sigmoid(x) - a * t * sigmoid(-x)),
    "sigmoid_cross_entropy_backward_t": lambda x, t, dy, a, b: dy * (a * softplus(-x) - softplus(x)),
}
# fmt: on
PLACES = {name: (0,) * k for k, name in enumerate(FORMULAS)}
OUTPUT_SAVED, WITH_TARGET = ("sigmoid", "tanh"), ("sigmoid_cross_entropy", "huber")
NUMBER = int | float | np.floating


@intrinsic
def value(typingctx, place, x, t, dy, a, b):
    """The value of a formula; `place` is a tuple as long as its place, so that each has compiled code of its own."""
    formula = list(FORMULAS.values())[place.count]

    def codegen(context, builder, signature, args):
        emitter = Emitter(builder, context.get_value_type(x), 1)
        return formula(*(Vector(emitter, arg) for arg in args[1:])).value

    return x(place, x, x, x, x, x), codegen


@jit
def evaluate(start, stop, crew, x, t, dy, place, options, y):
    """y = the value of the formula at that place, for blocks start..stop."""
    if crew:
        return share_out(job_of(start, stop), crew)
    part = slice(start * BLOCK, stop * BLOCK)
    x, t, dy, y, (a, b) = x[part], t[part], dy[part], y[part], options
    for i in range(y.size):
        y[i] = value(place, x[i], t[i], dy[i], a, b)


def operands(x, *others):
    """(x, t, numbers) of the arguments of a text, or of what it saved: t is x where there is none."""
    arrays = [v for v in others if isinstance(v, np.ndarray)]
    return x, *(arrays or [x]), [v for v in others if not isinstance(v, np.ndarray)]


def fit(op, first, *others):
    """Whether there are as many arrays as the formulas expect, all alike, and otherwise numbers."""
    arrays = [v for v in others if isinstance(v, np.ndarray)]
    return (
        first.size >= FEW
        and len(arrays) == (op in WITH_TARGET)
        and floats(first, *arrays)
        and all(v.shape == first.shape if isinstance(v, np.ndarray) else isinstance(v, NUMBER) for v in others)
    )


def evaluated(name, x, t, numbers, dy):
    a, b = (*map(x.dtype.type, numbers), *[x.dtype.type(0)] * (2 - len(numbers)))
    return over(evaluate, x, t, dy, more=(PLACES[name], (a, b)))


def register(op):
    @override(f"{op}_forward", "cpu", when=lambda *args, **options: fit(op, *args, *options.values()))
    def forward(*args, **options):
        args = *args, *options.values()
        y = evaluated(f"{op}_forward", *operands(*args), args[0])
        return y, y if op in OUTPUT_SAVED else args if len(args) > 1 else args[0]

    def fits_backward(dy, saved, needs):
        x, *others = saved if isinstance(saved, tuple) else (saved,)
        return fit(op, x, *others) and dy.shape == x.shape and dy.dtype == x.dtype

    @override(f"{op}_backward", "cpu", when=fits_backward)
    def backward(dy, saved, needs):
        args = operands(*(saved if isinstance(saved, tuple) else (saved,)))
        names = f"{op}_backward", f"{op}_backward_t"
        return tuple(evaluated(name, *args, dy) if need else None for name, need in zip(names, needs, strict=False))


for name in FORMULAS:
    if name.endswith("_forward"):
        register(name.removesuffix("_forward"))
