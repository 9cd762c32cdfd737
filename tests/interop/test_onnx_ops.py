"""Each operation as ONNX nodes: onnxruntime computes what the operation's text computes."""

import cases
import numpy as np
import pytest
from onnx_judge import compared, run

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.autograd import differentiable
from minidl.interop import export_onnx
from minidl.interop.onnx_ops import BUILDERS, TRAINING_ONLY
from minidl.kernels import get_kernel, list_kernels

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CASES = [case for case in cases.CASES if not case.large and case.op not in TRAINING_ONLY]


class Call(nn.Module):
    """A function as a model; `parameters` are handed to it after the input."""

    def __init__(self, function, *parameters):
        super().__init__()
        self.function = function
        self.constants = parameters
        for i, p in enumerate(parameters):
            if p is not None and p.dtype.kind == "f":
                setattr(self, f"p{i}", nn.Parameter(minidl.tensor(p)))

    def forward(self, *inputs):
        return self.function(*inputs, *(getattr(self, f"p{i}", p) for i, p in enumerate(self.constants)))


def exported(function, x, tmp_path, *others, **options):
    """Compare onnxruntime and minidl for x and each of the others; returns the graph."""
    model = function if isinstance(function, nn.Module) else Call(function)
    return onnx.load(compared(model, [x, *others], tmp_path, **options)).graph


def normal(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def single(value):
    """Options in float32."""
    return value.astype(np.float32) if getattr(value, "dtype", None) == np.float64 else value


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_operation(case, tmp_path):
    operation = differentiable(get_kernel(f"{case.op}_forward"), get_kernel(f"{case.op}_backward"))
    options = {key: single(value) for key, value in case.options.items()}
    if "dtype" in options:
        options["dtype"] = np.dtype(np.float64)
    arrays = case.inputs(np.float32)
    first = len(case.constants)
    constants = case.constants

    def function(x, *rest):
        return operation(*constants, x, *rest, **options)

    exported(Call(function, *arrays[first + 1 :]), arrays[first], tmp_path, dynamic_batch=False)


def test_every_operation_has_a_builder():
    operations = {name.removesuffix("_forward") for name in list_kernels() if name.endswith("_forward")}
    assert operations <= set(BUILDERS) | set(TRAINING_ONLY)


mask = np.arange(12).reshape(3, 4) % 5 == 0
INDICES = {
    "slices": (slice(None), slice(1, 3), slice(None, None, 2), slice(0, 100)),
    "backwards": (slice(None), slice(None, None, -1), slice(-1, 0, -2), slice(None, 1, -1)),
    "empty": (slice(None), slice(2, 2)),
    "integers": (slice(None), -1, Ellipsis, 2),
    "new axes": (None, slice(None), 1, None, slice(1, None), None),
    "one array": (slice(None), slice(None), np.array([[3, 0], [-1, 1]])),
    "array and integer": (slice(None), 1, np.array([0, 2, 2])),
    "arrays side by side": (slice(None), np.array([0, 2]), np.array([[1], [-1]]), slice(1, 3)),
    "arrays apart": (slice(None), np.array([0, 2]), slice(None), np.array([[1], [2]])),
    "arrays, slice and new axis": (slice(None), None, slice(1, None), np.array([0, 2]), np.array([1, 1])),
    "new axis between arrays": (slice(None), np.array([0, 2]), None, np.array([1, 1])),
    "mask": (slice(None), mask),
    "batch": slice(1, None),
    "last image": -1,
    "every other image backwards": slice(None, None, -2),
    "images": np.array([1, 0, -1]),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_indices(index, tmp_path):
    exported(lambda x: x[index], normal(4, 3, 4, 5), tmp_path, normal(7, 3, 4, 5))


def conv(*weight, **options):
    w, b = normal(*weight), normal(weight[0])
    return lambda x: F.conv2d(x, minidl.tensor(w), minidl.tensor(b), **options)


IMAGES = {
    "convolution, same, even kernel": conv(4, 3, 4, 2, padding="same"),
    "convolution, dilated": conv(4, 3, 3, 2, stride=(2, 1), padding=(3, 1), dilation=(2, 3)),
    "convolution, groups": conv(6, 1, 3, 3, groups=3, padding=1),
    "padding on one side": lambda x: F.pad(x, (0, 3, 1, 0), value=-2.0),
    "padding of channels": lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2)),
    "cropping": lambda x: F.pad(x, (-1, 2, 0, -3)),
    "reflection": lambda x: F.pad(x, (2, 1, 0, 3), mode="reflect"),
    "circle": lambda x: F.pad(x, (2, 1, 0, 3), mode="circular"),
    "maximum, ceil": lambda x: F.max_pool2d(x, (3, 2), 3, (1, 0), ceil_mode=True),
    "maximum, dilated, ceil": lambda x: F.max_pool2d(x, 2, (2, 3), 1, dilation=(3, 4), ceil_mode=True),
    "mean, ceil": lambda x: F.avg_pool2d(x, (3, 2), 3, (1, 0), ceil_mode=True),
    "mean, pixels inside": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "mean, ceil, pixels inside": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    "mean, divisor": lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5),
    "cells, equal": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "cells, single pixels": lambda x: F.adaptive_avg_pool2d(x, (9, 8)),
    "cells, overlapping": lambda x: F.adaptive_avg_pool2d(x, (2, 7)),
    "windows": lambda x: F.unfold(x, (3, 2), dilation=(2, 1), padding=1, stride=2),
    "windows and back": lambda x: F.fold(F.unfold(x, (3, 2), 2, 1, 2), (9, 8), (3, 2), 2, 1, 2),
}


@pytest.mark.parametrize("function", IMAGES.values(), ids=IMAGES)
def test_images(function, tmp_path):
    exported(function, normal(2, 3, 9, 8), tmp_path, normal(1, 3, 9, 8), normal(5, 3, 9, 8))


def test_local_response_norm_of_even_sizes(tmp_path):
    operation = differentiable(get_kernel("local_response_norm_forward"), get_kernel("local_response_norm_backward"))
    for size in (4, 5):
        options = dict(size=size, alpha=0.5, beta=0.7, k=1.5)
        exported(lambda x, options=options: operation(x, **options), normal(2, 7, 3, 4), tmp_path, normal(3, 7, 3, 4))


ARITHMETIC = {
    "numbers on both sides": lambda x: 2 - (3 * x + 1) / 4 + 1 / (abs(x) + 2),
    "powers": lambda x: (x * x + 1) ** 0.5 + x**2 + 2**x,
    "broadcasting": lambda x: x + x[:, :1] * minidl.tensor(normal(4)) - x[0],
    "mean and variance of each image": lambda x: (
        (x - x.mean((1, 2), keepdim=True)) / (x.var(1, keepdim=True) + 1).sqrt()
    ),
    "sums": lambda x: x.sum() + x.sum(0) + x.amax(1, keepdim=True) - x.amin(),
    "constant mask": lambda x: minidl.where(minidl.tensor(mask), x, 0.0) + minidl.where(minidl.tensor(mask), 1.5, x),
    "extremes": lambda x: minidl.maximum(x, -x) + minidl.minimum(x, x * 2),
    "products": lambda x: (x @ x.transpose(1, 2)) @ minidl.tensor(normal(5, 3, 2))[:, None][2],
    "linear, three axes": lambda x: F.linear(x, minidl.tensor(normal(5, 4)), minidl.tensor(normal(5))),
    "to float64 and back": lambda x: (x.double() * 2).float() + x.long().float(),
}


@pytest.mark.parametrize("function", ARITHMETIC.values(), ids=ARITHMETIC)
def test_arithmetic(function, tmp_path):
    exported(function, normal(2, 3, 4), tmp_path, normal(2, 3, 4) * 3, normal(5, 3, 4))


def test_a_wrong_builder_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setitem(BUILDERS, "add", (lambda g, x, y: g.add("Sub", x, y), ()))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        exported(lambda x: x + 1, normal(2, 3), tmp_path)


def whitened():
    layer = nn.Whitening(3)
    layer(minidl.tensor(normal(20, 3, 9, 8)))
    return layer


LAYERS = [
    *(nn.ELU(0.7), nn.GELU(), nn.GELU("tanh"), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(-0.5, 0.8), nn.Identity()),
    *(
        nn.LeakyReLU(0.2),
        nn.LogSigmoid(),
        nn.LogSoftmax(1),
        nn.Mish(),
        nn.PReLU(),
        nn.PReLU(3),
        nn.ReLU(True),
        nn.ReLU6(),
    ),
    *(
        nn.SELU(),
        nn.SiLU(),
        nn.Sigmoid(),
        nn.Softmax(-1),
        nn.Softplus(2.0, 1.0),
        nn.Tanh(),
        nn.Dropout(),
        nn.Dropout2d(),
    ),
    *(nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((3, None)), nn.AdaptiveMaxPool2d(1), nn.AdaptiveMaxPool2d((3, 5))),
    *(nn.AdaptiveMaxPool2d((3, 2)), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1), nn.Conv2d(3, 6, 3, groups=3)),
    *(nn.Conv2d(3, 4, 3, padding=2, padding_mode="reflect"), nn.Linear(8, 5), nn.Flatten(), nn.Unflatten(1, (3, 1))),
    *(nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3, track_running_stats=False)),
    *(nn.GroupNorm(1, 3), nn.GroupNorm(3, 3, affine=False), nn.LayerNorm((9, 8)), nn.LocalResponseNorm(3, 0.5, k=2.0)),
    *(nn.ConstantPad2d((1, 2, 0, 1), 3.0), nn.ZeroPad2d(1), nn.ReflectionPad2d(2), nn.ReplicationPad2d((0, 1, 2, 3))),
    *(nn.ChannelShuffle(3), nn.PixelShuffle(1), nn.Upsample(scale_factor=2), nn.UpsamplingBilinear2d((5, 12))),
    *(nn.Upsample((4, 20), mode="bilinear"), nn.ResidualBlock(3, 5, 2, "A"), nn.Bottleneck(3, 2, 2), whitened()),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: repr(layer).split("\n")[0])
def test_layers(layer, tmp_path):
    exported(layer, normal(2, 3, 9, 8), tmp_path, *([] if batch_statistics(layer) else [normal(5, 3, 9, 8)]))


def batch_statistics(layer):
    return isinstance(layer, nn.BatchNorm2d) and not layer.track_running_stats


LOSSES = [nn.L1Loss(), nn.MSELoss(), nn.BCEWithLogitsLoss(), nn.BCELoss()]
LOSSES += [nn.CrossEntropyLoss(label_smoothing=0.1), nn.SmoothL1Loss(), nn.HuberLoss()]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_losses(loss, tmp_path):
    for batch in (4, 7):
        x, t = np.random.default_rng(0).uniform(0.1, 0.9, (2, batch, 3)).astype(np.float32)
        if batch == 4:
            export_onnx(loss, (x, t), tmp_path / "a.onnx")
        (z,) = run(tmp_path / "a.onnx", x, t)
        np.testing.assert_allclose(z, loss(minidl.tensor(x), minidl.tensor(t)).numpy(), rtol=1e-5)
