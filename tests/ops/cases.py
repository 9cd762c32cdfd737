"""The one table of operations: small inputs and options for each, which every generic judge runs through.

Values are all different, none is 0, and those that are compared are further apart than the judges' steps: no case sits
on a kink.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl.kernels import get_kernel
from minidl.nn.geometry import adaptive_index, adaptive_weights, sliding, window_divisor


@dataclass
class Case:
    op: str  # without _forward
    shapes: list  # of the inputs that gradients are taken by; None for an input that is absent
    options: dict = field(default_factory=dict)
    positive: bool = False  # inputs > 0
    linear: bool = False  # in each input, piece by piece: central differences are exact up to rounding
    probabilities: bool = False  # inputs in (0, 1)
    constants: tuple = ()  # inputs before the differentiable ones
    constants_after: tuple = ()
    arrays_only: bool = False  # the text needs NumPy's linear algebra, which neither Tensors nor the stand-in answer
    large: bool = False  # enough work for every path of a kernel, too much for one difference per element

    def __str__(self):
        options = ",".join(f"{k}={v}" for k, v in self.options.items() if not hasattr(v, "shape"))
        return f"{self.op}{self.shapes}{options}".replace(" ", "")

    def inputs(self, dtype=np.float64, seed=0):
        """The input arrays, rows first."""
        rng = np.random.default_rng(seed)
        arrays = [self.array(rng, i, shape, dtype) for i, shape in enumerate(self.shapes)]
        return [*self.constants, *arrays, *self.constants_after]

    def array(self, rng, i, shape, dtype):
        if shape is None:
            return None
        n = int(np.prod(shape))
        if self.probabilities:
            return (0.1 + 0.8 * (rng.permutation(n) + 0.5) / n).reshape(shape).astype(dtype)
        values = (rng.permutation(n) - n / 2 + (0.25, 0.6, 0.4, 0.3, 0.35)[i]) * (4 / max(n, 4))
        return (np.abs(values) + 0.1 if self.positive else values).reshape(shape).astype(dtype)

    @property
    def needs(self):
        differentiable = (shape is not None for shape in self.shapes)
        return (*(False for _ in self.constants), *differentiable, *(False for _ in self.constants_after))


def window(size, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), ceil=False):
    return sliding("case", size, kernel, stride, padding, dilation, ceil)


def conv(x, weight, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, bias=True, large=False):
    w = window(x[2:], weight[2:], stride, padding, dilation)
    shapes = [x, weight, weight[:1] if bias else None]
    return Case("conv2d", shapes, dict(window=w, groups=groups), linear=True, large=large)


def avg(x, kernel, stride, padding=(0, 0), ceil=False, include=True):
    w = window(x[2:], kernel, stride, padding, ceil=ceil)
    divisor = window_divisor(w, x[2:], include, None, np.float64)
    return Case("avg_pool2d", [x], dict(window=w, divisor=divisor), linear=True)


def adaptive(x, cells):
    rows, columns = (adaptive_weights(n, c, np.float64) for n, c in zip(x[2:], cells, strict=True))
    return Case("adaptive_avg_pool2d", [x], dict(rows=rows, columns=columns), linear=True)


_targets = np.random.default_rng(5).dirichlet(np.ones(300), 70) * (np.arange(300) % 7 > 0)  # some are 0
_mask = np.arange(12).reshape(3, 4) % 3 == 0
_slices = (slice(None), slice(None, None, -2))
_fancy = (np.array([2, 0, 2]), np.array([1, 1, 1]))
_window = window((5, 6), (3, 2), (2, 1), (1, 1), (1, 2))

BINARY = [[(3, 4), (3, 4)], [(3, 4), (4,)], [(2, 1, 4), (3, 1)], [(), (2, 3)], [(3, 0), (1, 0)]]
UNARY = [[(3, 4)], [()], [(0, 3)]]

CASES: list[Case] = [
    *(Case(op, s, linear=True) for op in ("add", "subtract", "multiply", "maximum", "minimum") for s in BINARY),
    *(Case(op, s, positive=True) for op in ("divide", "power") for s in BINARY),
    *(Case(op, s, linear=True) for op in ("negative", "absolute", "relu") for s in UNARY),
    Case("relu", [(4, 16, 25, 25)], large=True),
    Case("add", [(4, 16, 25, 25), (4, 16, 25, 25)], large=True),
    *(Case(op, s, positive=True) for op in ("exp", "log", "sqrt") for s in UNARY),
    *(
        Case(op, s)
        for op in ("sigmoid", "tanh", "expm1", "erf", "gelu", "gelu_tanh", "silu", "hardswish")
        for s in UNARY
    ),
    *(
        Case(op, [(3, 7, 8, 9)], large=True)
        for op in ("sigmoid", "tanh", "erf", "gelu", "gelu_tanh", "silu", "hardswish")
    ),
    *(Case("softplus", s, dict(beta=2.0, threshold=3.0)) for s in UNARY),
    Case("softplus", [(3, 7, 8, 9)], dict(beta=2.0, threshold=3.0), large=True),
    Case("leaky_relu", [(3, 7, 8, 9)], linear=True, constants_after=(np.float64(0.1),), large=True),
    Case("elu", [(3, 7, 8, 9)], dict(alpha=0.7), large=True),
    *(Case(op, [(3, 7, 8, 9)], dict(low=-1.0, high=0.5), linear=True, large=True) for op in ("hardtanh", "clip")),
    *(Case("leaky_relu", [*s, ()], linear=True) for s in UNARY),
    Case("leaky_relu", [(2, 3, 4), (3, 1)], linear=True),
    *(Case("elu", s, dict(alpha=0.7)) for s in UNARY),
    *(Case("hardtanh", s, dict(low=-1.0, high=0.5), linear=True) for s in UNARY),
    *(Case("clip", [(3, 4)], dict(low=a, high=b), linear=True) for a, b in ((-1.0, 0.5), (None, 1.0), (0.0, None))),
    *(
        Case("dropout", [(3, 4)], dict(p=p), linear=True, constants_after=(_mask[:, :n],))
        for p, n in ((0.4, 4), (1, 1))
    ),
    Case("where", [(3, 4), (4,)], constants=(_mask,), linear=True),
    Case("cast", [(3, 4)], dict(dtype=np.dtype(np.float64)), linear=True),
    *(
        Case(op, [(2, 3, 4)], dict(axis=axis, keepdims=keepdims), linear=True)
        for op in ("sum", "amax")
        for axis in (None, 1, -1, (0, 2))
        for keepdims in (False, True)
    ),
    Case("reshape", [(2, 6)], dict(shape=(3, 4)), linear=True),
    Case("transpose", [(2, 3, 4)], dict(axes=(2, 0, 1)), linear=True),
    Case("broadcast_to", [(3, 1)], dict(shape=(2, 3, 4)), linear=True),
    Case("concatenate", [(2, 3), (2, 1), (2, 2)], dict(axis=1), linear=True),
    Case("concatenate", [(2, 3), (1, 3)], dict(axis=-2), linear=True),
    Case("pad", [(2, 3)], dict(widths=((1, 0), (2, 1)), value=7.0), linear=True),
    Case("pad", [(2, 3, 1, 1)], dict(widths=((0, 1), (2, 1), (1, 1), (0, 2)), value=7.0), linear=True),
    Case("pad", [(2, 3, 4, 5)], dict(widths=((0, 0), (2, 3), (0, 0), (0, 0))), linear=True),
    *(Case("getitem", [(3, 4)], dict(index=i), linear=True) for i in (1, _slices, _fancy, _mask, (..., None, 2))),
    Case("put", [(3, 2)], dict(index=_slices, shape=(3, 4)), linear=True),
    Case("put", [(3,)], dict(index=_fancy, shape=(3, 4)), linear=True),
    *(
        Case("matmul", s, linear=True)
        for s in ([(2, 3), (3, 4)], [(3,), (3,)], [(2, 3), (3,)], [(3,), (3, 4)], [(2, 1, 2, 3), (5, 3, 4)])
    ),
    *(
        Case("linear", s, linear=True)
        for s in ([(4, 3), (5, 3), (5,)], [(2, 3, 4), (3, 4), None], [(3,), (2, 3), (2,)])
    ),
    Case("linear", [(70, 33), (35, 33), (35,)], linear=True, large=True),
    Case("matmul", [(70, 33), (33, 40)], linear=True, large=True),
    Case("unfold", [(2, 3, 5, 6)], dict(window=_window), linear=True),
    Case("fold", [(2, 3, 6, *_window.output)], dict(window=_window, size=(5, 6)), linear=True),
    conv((2, 3, 5, 6), (4, 3, 3, 3), padding=(1, 1)),
    conv((2, 3, 7, 6), (4, 3, 3, 2), (2, 3), (1, 0), bias=False),
    conv((1, 4, 8, 7), (6, 2, 3, 3), (1, 2), (2, 3), (2, 1), groups=2),
    conv((2, 4, 6, 6), (8, 1, 3, 3), padding=(1, 1), groups=4),
    conv((2, 5, 7, 6), (5, 1, 3, 3), padding=(1, 1), groups=5),
    conv((2, 5, 7, 8), (5, 1, 3, 2), (2, 3), (1, 2), (2, 1), groups=5, bias=False),
    conv((2, 5, 4, 4), (3, 5, 1, 1), bias=False),
    conv((2, 17, 4, 5), (19, 17, 1, 1), (2, 2)),
    conv((1, 1, 9, 9), (2, 1, 5, 5), padding=(7, 7), dilation=(1, 4)),
    conv((3, 16, 6, 6), (24, 16, 3, 3), padding=(1, 1), large=True),
    conv((2, 16, 9, 9), (40, 16, 3, 3), (2, 2), (1, 1), large=True),
    conv((20, 3, 11, 13), (16, 3, 3, 3), padding=(1, 1), large=True),
    conv((9, 20, 7, 8), (37, 20, 3, 2), (2, 2), (1, 0), large=True),
    conv((9, 5, 6, 9), (3, 5, 2, 3), (1, 2), (0, 2), (2, 1), bias=False, large=True),
    *(
        Case("max_pool2d", [(2, 3, 6, 7)], dict(window=window((6, 7), *w)), linear=True)
        for w in (
            ((2, 2), (2, 2)),
            ((3, 3), (2, 2), (1, 1)),
            ((2, 3), (1, 2), (1, 1), (2, 1)),
            ((3, 2), (2, 2), (0, 0), (1, 1), True),
        )
    ),
    avg((2, 3, 6, 7), (2, 2), (2, 2)),
    avg((2, 3, 6, 7), (3, 2), (2, 2), (1, 1), ceil=True, include=False),
    avg((2, 3, 6, 7), (3, 3), (2, 2), (1, 1), ceil=True),
    *(adaptive((2, 3, 6, 7), cells) for cells in ((1, 1), (2, 3), (6, 7), (4, 9))),
    *(
        Case("adaptive_max_pool2d", [(2, 3, *size)], dict(index=adaptive_index(size, cells)), linear=True)
        for size, cells in (((6, 7), (4, 3)), ((3, 2), (5, 2)))
    ),
    *(Case("batch_norm", [s, s[1:2], s[1:2]], dict(eps=1e-5)) for s in ((6, 3), (4, 3, 5), (3, 4, 3, 2))),
    Case("batch_norm", [(5, 17, 9, 8), (17,), (17,)], dict(eps=1e-5), large=True),
    *(
        Case("batch_norm_inference", [s, s[1:2], s[1:2], s[1:2], s[1:2]], dict(eps=1e-3), positive=True)
        for s in ((6, 3), (3, 4, 3, 2))
    ),
    *(Case(op, [(2, 3, 4)], dict(axis=a)) for op in ("softmax", "log_softmax") for a in (0, 1, -1)),
    *(Case(op, [(70, 300)], dict(axis=1), large=True) for op in ("softmax", "log_softmax")),
    Case("cross_entropy", [(4, 5), (4, 5)], positive=True),
    Case("cross_entropy", [(70, 300)], constants_after=(_targets,), large=True),
    Case("huber", [(3, 4), (3, 4)], dict(delta=0.7)),
    Case("huber", [(30, 70), (30, 70)], dict(delta=0.5), large=True),
    Case("binary_cross_entropy", [(3, 4), (3, 4)], probabilities=True),
    *(Case("sigmoid_cross_entropy", [(3, 4), (3, 4)], dict(pos_weight=w)) for w in (1.0, np.array([0.5, 2, 3, 1]))),
    Case("sigmoid_cross_entropy", [(70, 300)], dict(pos_weight=2.0), constants_after=(_targets,), large=True),
    Case("sigmoid_cross_entropy", [(30, 70), (30, 70)], dict(pos_weight=0.5), large=True),
    *(Case("whiten", [(7, 3)], dict(mode=mode, eps=1e-3), arrays_only=True) for mode in ("zca", "pca")),
    *(Case("normalize", [(3, 4, 5)], dict(axes=axes, eps=1e-3)) for axes in ((2,), (-2, -1))),
    Case("normalize", [(2, 3, 2, 4, 3)], dict(axes=(2, 3, 4), eps=1e-3)),
    Case("normalize", [(9, 3, 1030)], dict(axes=(-1, 1), eps=1e-3), large=True),
    *(Case("local_response_norm", [(2, 5, 3)], dict(size=n, alpha=0.3, beta=0.75, k=2.0)) for n in (1, 2, 3, 5, 12)),
]


def text_of(op: str, direction: str) -> Any:
    return get_kernel(f"{op}_{direction}")
