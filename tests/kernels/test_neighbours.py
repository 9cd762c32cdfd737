"""Convolutions with few channels out, pixels together, against the text."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.kernels import use_kernels
from minidl.kernels.cpu import neighbours
from minidl.kernels.cpu.jit import VECTOR_BYTES
from minidl.ops.windows import Window

#        images, channels in, out, height, width, kernel, stride, padding
CASES = [
    (11, 16, 3, 6, 8, (3, 3), (1, 1), (1, 1)),
    (3, 5, 1, 7, 28, (5, 5), (1, 1), (2, 2)),
    (13, 4, 2, 9, 16, (3, 5), (2, 2), (1, 2)),
    (22, 3, 4, 4, 12, (1, 3), (1, 2), (0, 1)),
    (11, 100, 3, 5, 10, (3, 3), (1, 1), (1, 1)),  # sums longer than a run
]


def arrays(N, C, OC, H, W, kernel, *_):
    rng = np.random.default_rng(0)
    shapes = (N, C, H, W), (OC, C, *kernel), (OC,)
    return [minidl.from_numpy(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolution_against_the_text(case):
    stride, padding = case[-2:]
    x, w, b = arrays(*case)
    y = F.conv2d(x, w, b, stride, padding)
    window = Window(case[5], stride, padding, (1, 1), tuple(y.shape[2:]))
    assert neighbours.fits(window, 1, np.dtype(np.float32), case[0], case[2]) == (2 * case[2] <= VECTOR_BYTES // 4)
    with use_kernels(False):
        exact = F.conv2d(x.double(), w.double(), b.double(), stride, padding)
    np.testing.assert_allclose(y.numpy(), exact.numpy(), atol=2e-6 * np.abs(exact.numpy()).max() + 1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_input_gradient_of_a_first_layer(channels):
    x, w, _ = arrays(6, channels, 16, 8, 12, (3, 3))
    results = []
    for kernels in (True, False):
        with use_kernels(kernels):
            leaf = x.detach().requires_grad_()
            F.conv2d(leaf, w, padding=1).square().sum().backward()
            results.append(leaf.grad.numpy())
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-4)


def test_batch_norm_and_relu_on_the_way():
    minidl.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU()).eval()
    model[1].running_mean.uniform_(-1, 1)
    model[1].running_var.uniform_(0.5, 2)
    x, results = minidl.randn(12, 8, 6, 8), []
    for kernels in (True, False):
        with use_kernels(kernels), minidl.no_grad():
            results.append(model(x).numpy())
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)


def test_what_is_left_to_the_direct_kernel():
    window = Window((3, 3), (1, 1), (1, 1), (1, 1), (8, 8))
    float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
    assert neighbours.fits(window, 1, float32, 8, 1) and not neighbours.fits(window, 1, float32, 7, 1)
    assert not neighbours.fits(window, 3, float32, 8, 1) and not neighbours.fits(window, 1, float64, 8, 1)
    assert not neighbours.fits(window._replace(dilation=(1, 2)), 1, float32, 8, 1)
    assert not neighbours.fits(window._replace(output=(99, 7)), 1, float32, 8, 3)  # no two pixels divide a row


def test_direct_keeps_pixels_apart():
    x, w, _ = arrays(12, 4, 2, 6, 8, (3, 3))
    x.array[0, 0, 0, 0] = np.inf
    minidl.set_conv_algorithm("direct")
    try:
        bad = ~np.isfinite(F.conv2d(x, w, padding=1).numpy())
    finally:
        minidl.set_conv_algorithm("auto")
    assert bad[0, 0].sum() == 4 and bad.sum() == 8  # the windows that meet it, and no others
