"""ONNX nodes for each operation of minidl: one builder each, written after the operation's text in minidl.ops.

A builder gets the graph, the inputs as Values (None where one is absent) and the options, adds nodes, and returns the
name of the result.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.interop.onnx_graph import Graph, Value
from minidl.interop.onnx_moves import MOVES, getitem, padding_of

__all__ = ["BUILDERS", "TRAINING_ONLY"]

TRAINING_ONLY = ("dropout", "whiten")  # random numbers, an eigendecomposition


def plainly(op: str, **attributes: Any) -> Callable[..., str]:
    """The builder of an operation that ONNX has under the same meaning."""
    return lambda g, *inputs: g.add(op, *inputs, **attributes)


def like(x: Value, number: float) -> np.ndarray:
    return np.asarray(number, x.dtype)


# --- arithmetic -------------------------------------------------------------------------------------------------------


def cast(g: Graph, x: Value, *, dtype: Any) -> str:
    return g.add("Cast", x, to=np.dtype(dtype))


def reduction(op: str) -> Callable[..., str]:
    def build(g: Graph, x: Value, *, axis: Any = None, keepdims: bool = False) -> str:
        axes = () if axis is None else (g.ints(*np.atleast_1d(axis)),)
        return g.add(op, x, *axes, keepdims=int(keepdims))

    return build


def linear(g: Graph, x: Value, weight: Value, bias: Value | None) -> str:
    if x.ndim == 2:
        return g.add("Gemm", x, weight, bias, transB=1)
    y = g.add("MatMul", x, g.add("Transpose", weight, perm=[1, 0]))
    return y if bias is None else g.add("Add", y, bias)


# --- images -----------------------------------------------------------------------------------------------------------


def windows_of(window: Any, size: Any) -> dict[str, Any]:
    return dict(kernel_shape=list(window.kernel_size), strides=list(window.stride), pads=padding_of(window, size))


def conv2d(g: Graph, x: Value, weight: Value, bias: Value | None, *, window: Any, groups: int) -> str:
    options = windows_of(window, x.shape[2:])
    return g.add("Conv", x, weight, bias, **options, dilations=list(window.dilation), group=groups)


def max_pool2d(g: Graph, x: Value, *, window: Any) -> str:
    options = windows_of(window, x.shape[2:])
    if any(p >= k for p, k in zip(options["pads"], 2 * options["kernel_shape"], strict=True)):  # ONNX forbids it
        (top, left, bottom, right), options["pads"] = options["pads"], [0, 0, 0, 0]
        x = g.add("Pad", x, g.ints(0, 0, top, left, 0, 0, bottom, right), like(x, -math.inf), mode="constant")
    return g.add("MaxPool", x, **options, dilations=list(window.dilation))


def avg_pool2d(g: Graph, x: Value, *, window: Any, divisor: Any) -> str:
    """AveragePool divides by all pixels of a window, or by those inside the image; another divisor is a factor."""
    options = windows_of(window, x.shape[2:])
    if np.array_equal(np.broadcast_to(divisor, window.output), pixels_inside(window, x.shape[2:])):
        return g.add("AveragePool", x, **options, count_include_pad=0)
    y, pixels = g.add("AveragePool", x, **options, count_include_pad=1), math.prod(window.kernel_size)
    factor = np.asarray(pixels / divisor, x.dtype)
    return y if (factor == 1).all() else g.add("Mul", y, factor)


def pixels_inside(window: Any, size: Any) -> np.ndarray:
    """How many pixels of the image each window holds: (OH, OW)."""
    counts = []
    for extent, k, s, p, o in zip(size, window.kernel_size, window.stride, window.padding, window.output, strict=True):
        start = np.arange(o) * s - p
        counts.append(np.minimum(start + k, extent) - np.maximum(start, 0))
    return np.multiply.outer(*counts)


def adaptive_avg_pool2d(g: Graph, x: Value, *, rows: np.ndarray, columns: np.ndarray) -> str:
    """Global or plain average pooling where the cells are equal, else the matrix products of the definition."""
    (OH, H), (OW, W) = rows.shape, columns.shape
    if (OH, OW) == (H, W):
        return x.name
    if (OH, OW) == (1, 1):
        return g.add("GlobalAveragePool", x)
    if H % OH == 0 and W % OW == 0:
        cell = [H // OH, W // OW]
        return g.add("AveragePool", x, kernel_shape=cell, strides=cell)
    return g.add("MatMul", g.add("MatMul", rows, x), np.ascontiguousarray(columns.T))


def adaptive_max_pool2d(g: Graph, x: Value, *, index: Any) -> str:
    """Global or plain maximum pooling where the cells are equal, else the definition's gather and maximum."""
    H, W = x.shape[2:]
    OH, OW = g.step.shape[2:]
    if (OH, OW) == (H, W):
        return x.name
    if (OH, OW) == (1, 1):
        return g.add("GlobalMaxPool", x)
    if H % OH == 0 and W % OW == 0:
        cell = [H // OH, W // OW]
        return g.add("MaxPool", x, kernel_shape=cell, strides=cell)
    return g.add("ReduceMax", getitem(g, x, index=index), g.ints(4, 5), keepdims=0)


# --- normalisation ----------------------------------------------------------------------------------------------------


def batch_norm_inference(g: Graph, x: Value, gamma: Value, beta: Value, mean: Value, var: Value, *, eps: float) -> str:
    return g.add("BatchNormalization", x, gamma, beta, mean, var, epsilon=eps)


def normalize(g: Graph, x: Value, *, axes: Any, eps: float) -> str:
    over = g.ints(*(axis % x.ndim for axis in axes))
    centred = g.add("Sub", x, g.add("ReduceMean", x, over))
    var = g.add("ReduceMean", g.add("Mul", centred, centred), over)
    return g.add("Div", centred, g.add("Sqrt", g.add("Add", var, like(x, eps))))


def batch_norm(g: Graph, x: Value, gamma: Value, beta: Value, *, eps: float) -> str:
    """By the batch's own statistics."""
    channel = g.ints(-1, *[1] * (x.ndim - 2))
    x_hat = normalize(g, x, axes=(0, *range(2, x.ndim)), eps=eps)
    scaled = g.add("Mul", x_hat, g.add("Reshape", gamma, channel))
    return g.add("Add", scaled, g.add("Reshape", beta, channel))


def local_response_norm(g: Graph, x: Value, *, size: int, alpha: float, beta: float, k: float) -> str:
    """LRN where as many neighbours count on both sides, else written out."""
    if size % 2 and x.ndim == 4:
        return g.add("LRN", x, size=size, alpha=alpha, beta=beta, bias=k)
    rest, C = [0] * (x.ndim - 2), x.shape[1]
    squares = g.add("Mul", x, x)
    around = g.add("Pad", squares, g.ints(0, size // 2, *rest, 0, (size - 1) // 2, *rest), mode="constant")
    parts = [g.add("Slice", around, g.ints(i), g.ints(i + C), g.ints(1)) for i in range(size)]
    total = g.add("Sum", *parts)
    d = g.add("Add", g.add("Mul", total, like(x, alpha / size)), like(x, k))
    return g.add("Div", x, g.add("Pow", d, like(x, beta)))


# --- activations ------------------------------------------------------------------------------------------------------


def clip(g: Graph, x: Value, *, low: float | None, high: float | None) -> str:
    return g.add("Clip", x, *(None if limit is None else like(x, limit) for limit in (low, high)))


def leaky_relu(g: Graph, x: Value, slope: Value) -> str:
    if slope.constant is not None and slope.constant.size == 1 and not g.is_parameter(slope.constant):
        return g.add("LeakyRelu", x, alpha=slope.constant.item())
    return g.add("PRelu", x, slope)


def elu(g: Graph, x: Value, *, alpha: float) -> str:
    return g.add("Elu", x, alpha=alpha)


def gelu(g: Graph, x: Value) -> str:
    half = g.add("Mul", x, like(x, 0.5))
    return g.add("Mul", half, g.add("Add", g.add("Erf", g.add("Div", x, like(x, math.sqrt(2)))), like(x, 1)))


def gelu_tanh(g: Graph, x: Value) -> str:
    cube = g.add("Mul", g.add("Mul", x, g.add("Mul", x, x)), like(x, 0.044715))
    inside = g.add("Mul", g.add("Add", x, cube), like(x, math.sqrt(2 / math.pi)))
    return g.add("Mul", g.add("Mul", x, like(x, 0.5)), g.add("Add", g.add("Tanh", inside), like(x, 1)))


def silu(g: Graph, x: Value) -> str:
    return g.add("Mul", x, g.add("Sigmoid", x))


def softplus(g: Graph, x: Value, *, beta: float, threshold: float) -> str:
    scaled = x if beta == 1 else g.add("Mul", x, like(x, beta))
    y = g.add("Softplus", scaled)
    y = y if beta == 1 else g.add("Div", y, like(x, beta))
    return y if math.isinf(threshold) else g.add("Where", g.add("Greater", scaled, like(x, threshold)), x, y)


def expm1(g: Graph, x: Value) -> str:
    """exp(x) - 1 for x > 0; below, Elu, which is exact near 0."""
    return g.add("Where", g.add("Greater", x, like(x, 0)), g.add("Sub", g.add("Exp", x), like(x, 1)), g.add("Elu", x))


# --- losses -----------------------------------------------------------------------------------------------------------


def softmax(op: str) -> Callable[..., str]:
    return lambda g, x, *, axis: g.add(op, x, axis=axis)


def cross_entropy(g: Graph, x: Value, q: Value) -> str:
    terms = g.add("Mul", q, g.add("LogSoftmax", x, axis=1))
    terms = g.add("Where", g.add("Equal", q, like(q, 0)), like(x, 0), terms)
    return g.add("Neg", g.add("ReduceSum", terms, g.ints(1), keepdims=0))


def binary_cross_entropy(g: Graph, p: Value, t: Value) -> str:
    def log(v: Any) -> str:
        return g.add("Max", g.add("Log", g.add("Max", v, like(p, 3e-44))), like(p, -100))

    hit = g.add("Mul", t, log(p))
    miss = g.add("Mul", g.add("Sub", like(t, 1), t), log(g.add("Sub", like(p, 1), p)))
    return g.add("Neg", g.add("Add", hit, miss))


def sigmoid_cross_entropy(g: Graph, x: Value, t: Value, *, pos_weight: Any) -> str:
    weighted = g.add("Mul", t, np.asarray(pos_weight, x.dtype))
    hit = g.add("Mul", weighted, g.add("Softplus", g.add("Neg", x)))
    return g.add("Add", hit, g.add("Mul", g.add("Sub", like(t, 1), t), g.add("Softplus", x)))


def huber(g: Graph, x: Value, t: Value, *, delta: float) -> str:
    d = g.add("Abs", g.add("Sub", x, t))
    near = g.add("Min", d, np.asarray(delta, x.dtype))
    return g.add("Mul", near, g.add("Sub", d, g.add("Mul", near, np.asarray(0.5, x.dtype))))


FIXED: dict[str, Callable[..., str]] = {
    **dict(add=plainly("Add"), subtract=plainly("Sub"), multiply=plainly("Mul"), divide=plainly("Div")),
    **dict(power=plainly("Pow"), negative=plainly("Neg"), exp=plainly("Exp"), log=plainly("Log")),
    **dict(sqrt=plainly("Sqrt"), absolute=plainly("Abs"), maximum=plainly("Max"), minimum=plainly("Min")),
    **dict(where=plainly("Where"), matmul=plainly("MatMul"), cast=cast, clip=clip),
    **dict(sum=reduction("ReduceSum"), amax=reduction("ReduceMax"), linear=linear, conv2d=conv2d),
    **dict(max_pool2d=max_pool2d, avg_pool2d=avg_pool2d),
    **dict(adaptive_avg_pool2d=adaptive_avg_pool2d, adaptive_max_pool2d=adaptive_max_pool2d),
    **dict(batch_norm=batch_norm, batch_norm_inference=batch_norm_inference, normalize=normalize),
    **dict(local_response_norm=local_response_norm),
    **dict(relu=plainly("Relu"), sigmoid=plainly("Sigmoid"), tanh=plainly("Tanh"), erf=plainly("Erf"), expm1=expm1),
    **dict(leaky_relu=leaky_relu, elu=elu, gelu=gelu, gelu_tanh=gelu_tanh, silu=silu, softplus=softplus),
    **dict(hardtanh=lambda g, x, *, low, high: clip(g, x, low=low, high=high), hardswish=plainly("HardSwish")),
    **dict(softmax=softmax("Softmax"), log_softmax=softmax("LogSoftmax"), cross_entropy=cross_entropy),
    **dict(huber=huber, binary_cross_entropy=binary_cross_entropy, sigmoid_cross_entropy=sigmoid_cross_entropy),
}

#: By operation: its builder, and the options that may follow the batch.
BUILDERS: dict[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    **{op: (builder, ()) for op, builder in FIXED.items()},
    **MOVES,
}
