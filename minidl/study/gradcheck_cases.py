"""What `minidl gradcheck all` checks: every operation and layer, several shapes each.

Inputs are evenly spaced values in random order, none of them 0: no case sits on a kink.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import minidl
from minidl import nn
from minidl import primitives as op
from minidl.nn import functional as F
from minidl.nn.whitening import whiten
from minidl.study.gradcheck import gradcheck, gradgradcheck
from minidl.study.gradcheck_report import GradcheckReport

__all__ = ["CASES", "Case"]

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Case:
    """Something to check.

    Attributes:
        name: of the operation or layer.
        function: of Tensors, or what makes a Module.
        shapes: of the inputs that are differentiated by.
        constants: further inputs.
        positive: inputs in (0, 1) instead of around 0.
        layer: whether `function` makes a Module.
        twice: whether second derivatives exist, too.
    """

    name: str
    function: Callable[..., Any]
    shapes: Shapes
    constants: tuple[Any, ...] = ()
    positive: bool = False
    layer: bool = False
    twice: bool = True

    def inputs(self, seed: int = 0) -> tuple[Any, ...]:
        """Draw the inputs."""
        rng = np.random.default_rng(seed)
        return (*(spaced(rng, shape, self.positive) for shape in self.shapes), *self.constants)

    def check(self, second: bool = False, rtol: float = 1e-6) -> GradcheckReport:
        """Run `gradcheck`, or `gradgradcheck` on a selection of elements, with the same random numbers every time."""
        state = minidl.get_rng_state()
        minidl.manual_seed(0)
        try:
            function = self.function() if self.layer else self.function
            if second:
                return gradgradcheck(function, self.inputs(), rtol=rtol, max_elements=16, progress=False)
            return gradcheck(function, self.inputs(), rtol=rtol, progress=False)
        finally:
            minidl.set_rng_state(state)


def spaced(rng: np.random.Generator, shape: tuple[int, ...], positive: bool) -> np.ndarray:
    n = int(np.prod(shape))
    values = rng.permutation(n) + rng.uniform(0.2, 0.4)
    return (values / n if positive else (values - n / 2) * (4 / max(n, 4))).reshape(shape)


def each(name: str, function: Callable[..., Any], *shapes: Shapes, **options: Any) -> list[Case]:
    """One case for each tuple of shapes."""
    return [Case(name, function, s, **options) for s in shapes]


def layers(name: str, *makes: Callable[[], nn.Module], shapes: Any, **options: Any) -> list[Case]:
    """One case for each module and tuple of shapes."""
    return [Case(name, make, s, layer=True, **options) for make in makes for s in shapes]


BROADCAST = (((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 4), (3, 1)))
VECTORS = (((5,),), ((3, 4),), ((2, 3, 2, 2),))
ROWS, IMAGES = (((4, 3),), ((6, 5),)), (((2, 3, 5, 5),), ((1, 3, 6, 4),))
LABELS = (np.array([0, 2, 1, 2]),)
POINTWISE = ("relu", "sigmoid", "tanh", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "logsigmoid")
POINTWISE += ("relu6", "hardtanh", "hardswish", "hardsigmoid")

NONLINEARITIES = (
    "ReLU",
    "Sigmoid",
    "Tanh",
    "LeakyReLU",
    "ELU",
    "SELU",
    "GELU",
    "SiLU",
    "Mish",
    "Softplus",
    "LogSigmoid",
)
NONLINEARITIES += ("ReLU6", "Hardtanh", "Hardswish", "Hardsigmoid")
LOSSES = ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss", "KLDivLoss")

CASES: list[Case] = [
    # --- arithmetic ---
    *each("add", lambda x, y: x + y, *BROADCAST),
    *each("subtract", lambda x, y: x - y, *BROADCAST),
    *each("multiply", lambda x, y: x * y, *BROADCAST),
    *each("divide", lambda x, y: x / y, *BROADCAST, positive=True),
    *each("power", lambda x, y: x**y, *BROADCAST, positive=True),
    *each("maximum", minidl.maximum, *BROADCAST),
    *each("minimum", minidl.minimum, *BROADCAST),
    *each("matmul", lambda x, y: x @ y, ((2, 3), (3, 4)), ((3,), (3,)), ((2, 2, 3), (2, 3, 2))),
    *each("negative", lambda x: -x, *VECTORS),
    *each("absolute", minidl.abs, *VECTORS),
    *each("exp", minidl.exp, *VECTORS),
    *each("log", minidl.log, *VECTORS, positive=True),
    *each("sqrt", minidl.sqrt, *VECTORS, positive=True),
    *each("expm1", np.expm1, *VECTORS),
    *each("erf", op.erf, *VECTORS),
    *each("clip", lambda x: x.clamp(-0.9, 1.1), *VECTORS),
    *each("cast", lambda x: op.cast(x, dtype=np.dtype(np.float64)), *VECTORS),
    *each("where", lambda x, y: minidl.where(x > y, x * y, y), *BROADCAST),
    # --- reductions and shapes ---
    *each("sum", lambda x: x.sum(), *VECTORS),
    *each("sum of an axis", lambda x: x.sum(-1, keepdim=True) * x, *VECTORS),
    *each("mean", lambda x: x.mean(0), *VECTORS),
    *each("var", lambda x: x.var(0), ((3, 4),), ((4, 2, 2),)),
    *each("max", lambda x: minidl.amax(x, -1), *VECTORS),
    *each("reshape", lambda x: x.reshape(-1) ** 2, *VECTORS),
    *each("transpose", lambda x: x.transpose(0, -1) ** 2, *VECTORS),
    *each("expand", lambda x: x.expand(3, *x.shape) ** 2, *VECTORS),
    *each("getitem", lambda x: x[1:, ..., ::2], ((3, 4),), ((3, 2, 5),)),
    *each("put", lambda x: op.put(x, index=(slice(1, None, 2),), shape=(7, *x.shape[1:])), ((3, 2),), ((3,),)),
    *each("concatenate", lambda x, y: minidl.cat((x, y), 0) ** 2, ((2, 3), (1, 3)), ((2,), (3,))),
    *each("pad", lambda x: F.pad(x, (1, 2, 0, 1)), ((2, 3),), ((1, 2, 3, 3),)),
    *each("unfold", lambda x: F.unfold(x, (2, 3), stride=(2, 1), padding=1), *IMAGES),
    *each("fold", lambda x: F.fold(x, (4, 4), 2, stride=2), ((1, 8, 4),), ((2, 4, 4),)),
    # --- convolutions, products, pooling ---
    *each("conv2d", F.conv2d, ((2, 3, 5, 5), (4, 3, 3, 3), (4,)), ((1, 2, 4, 6), (3, 2, 2, 1), (3,))),
    *each("conv2d, strided", lambda x, w, b: F.conv2d(x, w, b, 2, 1), ((2, 3, 5, 6), (4, 3, 3, 3), (4,))),
    *each("conv2d, dilated", lambda x, w, b: F.conv2d(x, w, b, 1, 2, 2), ((2, 2, 5, 6), (3, 2, 3, 2), (3,))),
    *each("conv2d, groups", lambda x, w, b: F.conv2d(x, w, b, 1, 1, 1, 2), ((2, 4, 4, 4), (6, 2, 3, 3), (6,))),
    *each("conv2d, depthwise", lambda x, w, b: F.conv2d(x, w, b, 1, 1, 1, 3), ((2, 3, 4, 4), (3, 1, 3, 3), (3,))),
    *each("conv2d, 1x1", F.conv2d, ((2, 3, 3, 3), (5, 3, 1, 1), (5,))),
    *each("linear", F.linear, ((4, 3), (5, 3), (5,)), ((2, 3, 4), (2, 4), (2,))),
    *each("max_pool2d", lambda x: F.max_pool2d(x, 2), *IMAGES),
    *each("max_pool2d, overlapping", lambda x: F.max_pool2d(x, 3, 2, 1), *IMAGES),
    *each("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 2, 1), *IMAGES),
    *each("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (2, 3)), *IMAGES),
    *each("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 2), *IMAGES),
    # --- nonlinearities ---
    *(case for name in POINTWISE for case in each(name, getattr(F, name), *VECTORS)),
    *each("gelu, tanh", lambda x: F.gelu(x, "tanh"), *VECTORS),
    *each("softmax", lambda x: F.softmax(x, 1), *ROWS, ((2, 3, 2, 2),)),
    *each("log_softmax", lambda x: F.log_softmax(x, 1), *ROWS, ((2, 3, 2, 2),)),
    *each("dropout", lambda x: F.dropout(x, 0.5), *VECTORS),
    *each("dropout2d", lambda x: F.dropout2d(x, 0.5), *IMAGES),
    # --- normalisation ---
    *each(
        "batch_norm",
        lambda x, gamma, beta: F.batch_norm(x, None, None, gamma, beta, training=True),
        *(((5, 3), (3,), (3,)), ((3, 2, 3, 3), (2,), (2,))),
    ),
    *each(
        "batch_norm, inference",
        lambda x, gamma, beta, mean: F.batch_norm(x, mean, mean * mean + 1, gamma, beta),
        *(((5, 3), (3,), (3,), (3,)), ((3, 2, 3, 3), (2,), (2,), (2,))),
    ),
    *each("layer_norm", lambda x, w, b: F.layer_norm(x, (4,), w, b), ((3, 4), (4,), (4,)), ((2, 3, 4), (4,), (4,))),
    *each("group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), ((2, 4, 3, 3), (4,), (4,))),
    *each("local_response_norm", lambda x: F.local_response_norm(x, 3, 0.5, 0.75, 2.0), ((2, 5, 3, 3),), ((2, 4, 3),)),
    *each("whiten, ZCA", lambda x: whiten(x, "zca", 1e-3), ((7, 3),), ((9, 4),), twice=False),
    *each("whiten, PCA", lambda x: whiten(x, "pca", 1e-3), ((7, 3),), ((9, 4),), twice=False),
    # --- losses ---
    *each("cross_entropy", F.cross_entropy, ((4, 3),), constants=LABELS),
    *each(
        "cross_entropy, smoothed", lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1), ((4, 3),), constants=LABELS
    ),
    *each("nll_loss", lambda x, y: F.nll_loss(F.log_softmax(x, 1), y), ((4, 3),), constants=LABELS),
    *each("mse_loss", F.mse_loss, *BROADCAST[:1]),
    *each("l1_loss", F.l1_loss, *BROADCAST[:1]),
    *each("smooth_l1_loss", F.smooth_l1_loss, *BROADCAST[:1]),
    *each("huber_loss", F.huber_loss, *BROADCAST[:1]),
    *each("binary_cross_entropy", F.binary_cross_entropy, *BROADCAST[:1], positive=True),
    *each("sigmoid cross-entropy", F.binary_cross_entropy_with_logits, *BROADCAST[:1], positive=True),
    *each("kl_div", lambda x, y: F.kl_div(F.log_softmax(x, 1), y, reduction="sum"), *BROADCAST[:1], positive=True),
    # --- layers and blocks ---
    *layers("Linear", lambda: nn.Linear(3, 4), lambda: nn.Linear(3, 2, bias=False), shapes=(((5, 3),),)),
    *layers("Conv2d", lambda: nn.Conv2d(3, 4, 3, 2, 1), lambda: nn.Conv2d(3, 6, 3, groups=3), shapes=IMAGES),
    *layers("BatchNorm1d", lambda: nn.BatchNorm1d(3), shapes=(((5, 3),), ((4, 3, 2),))),
    *layers("BatchNorm2d", lambda: nn.BatchNorm2d(3), shapes=IMAGES),
    *layers("BatchNorm2d, frozen", lambda: nn.BatchNorm2d(3).eval(), shapes=IMAGES),
    *layers("LayerNorm", lambda: nn.LayerNorm(4), shapes=(((3, 4),),)),
    *layers("GroupNorm", lambda: nn.GroupNorm(2, 4), shapes=(((2, 4, 3, 3),),)),
    *layers("Whitening", lambda: nn.Whitening(3), shapes=(((7, 3),), ((2, 3, 3, 3),)), twice=False),
    *layers("LocalResponseNorm", lambda: nn.LocalResponseNorm(3), shapes=(((2, 5, 3, 3),),)),
    *layers("ConvTranspose2d", lambda: nn.ConvTranspose2d(3, 2, 3, 2, 1, 1), shapes=(((2, 3, 3, 4),),)),
    *layers("PReLU", lambda: nn.PReLU(3), shapes=(((5, 3),), ((2, 3, 2, 2),))),
    *(case for name in NONLINEARITIES for case in layers(name, getattr(nn, name), shapes=VECTORS)),
    *(case for name in ("Softmax", "LogSoftmax") for case in layers(name, partial(getattr(nn, name), 1), shapes=ROWS)),
    *layers("Dropout", nn.Dropout, shapes=VECTORS),
    *layers("Dropout2d", nn.Dropout2d, shapes=IMAGES),
    *layers("MaxPool2d", lambda: nn.MaxPool2d(3, 2, 1), shapes=IMAGES),
    *layers("AvgPool2d", lambda: nn.AvgPool2d(2, ceil_mode=True), shapes=IMAGES),
    *layers("AdaptiveAvgPool2d", lambda: nn.AdaptiveAvgPool2d(2), shapes=IMAGES),
    *layers("AdaptiveMaxPool2d", lambda: nn.AdaptiveMaxPool2d(3), shapes=IMAGES),
    *layers("ZeroPad2d", lambda: nn.ZeroPad2d((1, 0, 2, 1)), shapes=IMAGES),
    *layers("ConstantPad2d", lambda: nn.ConstantPad2d(1, 0.5), shapes=IMAGES),
    *layers("ReflectionPad2d", lambda: nn.ReflectionPad2d(2), shapes=IMAGES),
    *layers("ReplicationPad2d", lambda: nn.ReplicationPad2d(2), shapes=IMAGES),
    *layers("Upsample", lambda: nn.Upsample(scale_factor=2), shapes=IMAGES),
    *layers("UpsamplingNearest2d", lambda: nn.UpsamplingNearest2d(scale_factor=2), shapes=IMAGES),
    *layers("UpsamplingBilinear2d", lambda: nn.UpsamplingBilinear2d(scale_factor=2), shapes=IMAGES),
    *layers("PixelShuffle", lambda: nn.PixelShuffle(2), shapes=(((2, 4, 2, 3),),)),
    *layers("ChannelShuffle", lambda: nn.ChannelShuffle(2), shapes=(((2, 4, 2, 3),),)),
    *layers("Flatten", nn.Flatten, shapes=IMAGES),
    *layers("Unflatten", lambda: nn.Unflatten(1, (2, 3)), shapes=(((4, 6),),)),
    *layers("ResidualBlock", lambda: nn.ResidualBlock(3, 3), lambda: nn.ResidualBlock(3, 4, 2, "A"), shapes=IMAGES),
    *layers("ResidualBlock, projection", lambda: nn.ResidualBlock(3, 4, 2, "B"), shapes=IMAGES),
    *layers("Bottleneck", lambda: nn.Bottleneck(3, 2, 2), shapes=IMAGES),
    *(case for name in LOSSES for case in layers(name, getattr(nn, name), shapes=BROADCAST[:1], positive=True)),
    *layers("NLLLoss", nn.NLLLoss, shapes=(((4, 3),),), constants=LABELS),
    *layers("CrossEntropyLoss", nn.CrossEntropyLoss, shapes=(((4, 3),),), constants=LABELS),
]
