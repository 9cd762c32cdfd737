"""Functional calls judged without another library: closed forms, accuracy, special values, bad calls."""

import re

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.nn import functional as F

RNG = np.random.default_rng(0)
KERNELS = pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "texts"])


@KERNELS
def test_batch_norm_is_accurate_far_from_zero(kernels):
    """Mean 300, std 1 in float32: as near to float64 as the rounding of x itself allows."""
    x = (RNG.standard_normal((16, 8, 16, 16)) + 300).astype(np.float32)
    dy = RNG.standard_normal(x.shape).astype(np.float32)
    results = []
    for dtype in (np.float32, np.float64):
        t = minidl.from_numpy(x.astype(dtype)).requires_grad_()
        with minidl.use_kernels(kernels):
            y = F.batch_norm(t, None, None, training=True)
            y.backward(minidl.from_numpy(dy.astype(dtype)))
        results.append((y.detach().numpy(), t.grad.numpy()))
    mean, var = x.astype(np.float64).mean((0, 2, 3)), x.astype(np.float64).var((0, 2, 3))
    exact = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
    np.testing.assert_allclose(results[1][0], exact, atol=1e-10)
    np.testing.assert_allclose(results[0][0], exact, atol=1e-4)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-4)


def test_running_statistics():
    """running = (1 - m) running + m new, unbiased variance; in place, so that the caller's Tensors change."""
    x = RNG.standard_normal((4, 3, 5, 6))
    mean, var = minidl.zeros(3, dtype=minidl.float64), minidl.ones(3, dtype=minidl.float64)
    F.batch_norm(minidl.from_numpy(x), mean, var, training=True, momentum=0.3)
    np.testing.assert_allclose(mean.numpy(), 0.3 * x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(var.numpy(), 0.7 + 0.3 * x.var((0, 2, 3), ddof=1), rtol=1e-12)
    before = mean.numpy().copy()
    F.batch_norm(minidl.from_numpy(x), mean, var, training=False)
    np.testing.assert_array_equal(mean.numpy(), before)


def test_cumulative_average():
    layer = nn.BatchNorm1d(2, momentum=None).double()
    batches = [RNG.standard_normal((5, 2)) for _ in range(4)]
    for x in batches:
        layer(minidl.from_numpy(x))
    np.testing.assert_allclose(layer.running_mean.numpy(), np.mean([x.mean(0) for x in batches], axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        layer.running_var.numpy(), np.mean([x.var(0, ddof=1) for x in batches], axis=0), rtol=1e-12
    )
    assert layer.num_batches_tracked.item() == 4
    layer.reset_running_stats()
    assert layer.num_batches_tracked.item() == 0 and layer.running_var.tolist() == [1, 1]


@KERNELS
def test_cross_entropy_of_huge_logits(kernels):
    """Differences of 10,000 neither overflow nor lose the gradient."""
    x = minidl.tensor([[5000.0, -5000.0, 0.0], [-5000.0, 5000.0, 5000.0]], dtype=minidl.float64, requires_grad=True)
    with minidl.use_kernels(kernels):
        loss = F.cross_entropy(x, minidl.tensor([1, 2]), reduction="none")
        loss.sum().backward()
    np.testing.assert_allclose(loss.detach().numpy(), [10000, np.log(2)])
    np.testing.assert_allclose(x.grad.numpy(), [[1, -1, 0], [0, 0.5, -0.5]])


def test_everything_ignored_is_nan_for_the_mean_and_zero_for_the_sum():
    x, labels = minidl.randn(3, 4), minidl.full((3,), -100, dtype=minidl.int64)
    assert np.isnan(F.cross_entropy(x, labels).item())
    assert F.cross_entropy(x, labels, reduction="sum").item() == 0


@KERNELS
def test_nan_never_vanishes(kernels):
    x = RNG.standard_normal((2, 3, 64, 64)).astype(np.float32)
    x[1, 2, 10, 11] = np.nan
    with minidl.use_kernels(kernels):
        for y in (F.relu(x), F.max_pool2d(x, 2), F.avg_pool2d(x, 2), F.adaptive_avg_pool2d(x, 2), F.softmax(x, 1)):
            assert np.isnan(y[1]).any() and not np.isnan(y[0]).any()
        assert np.isnan(F.conv2d(x, np.ones((2, 3, 3, 3), np.float32))[1]).any()


def test_padding_loses_no_negative_maximum():
    x = np.full((1, 1, 4, 4), -7.0)
    np.testing.assert_array_equal(F.max_pool2d(x, 3, 2, 1), np.full((1, 1, 2, 2), -7.0))
    np.testing.assert_array_equal(F.max_pool2d(np.full((1, 1, 4, 4), -np.inf), 3, 2, 1), np.full((1, 1, 2, 2), -np.inf))


def test_relu_in_place():
    x = RNG.standard_normal((3, 4))
    expected = np.maximum(x, 0)
    assert F.relu(x, inplace=True) is x
    np.testing.assert_array_equal(x, expected)
    leaf = minidl.randn(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        F.relu(leaf, inplace=True)
    y = leaf * 2
    assert F.relu(y, inplace=True) is y
    y.sum().backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), 2.0 * (leaf.detach().numpy() > 0))


X, W = minidl.randn(2, 3, 8, 8), minidl.randn(4, 3, 3, 3)
ROWS, LABELS = minidl.randn(4, 5), minidl.tensor([0, 1, 2, 3])
INTS = minidl.zeros(2, 3, 8, 8, dtype=minidl.int64)
BAD_CALLS = {
    "x of 3 channels, weight of 2": (lambda: F.conv2d(X, W[:, :2]), ValueError, "x has 3 channels.*expects 2"),
    "x of 2 axes": (lambda: F.conv2d(X[0, 0], W), ValueError, r"\(8, 8\)"),
    "weight of 3 axes": (lambda: F.conv2d(X, W[0]), ValueError, r"weight.*\(3, 3, 3\)"),
    "bias too long": (lambda: F.conv2d(X, W, minidl.zeros(5)), ValueError, r"bias.*\(5,\).*\(4,\)"),
    "bias of other dtype": (lambda: F.conv2d(X, W, minidl.zeros(4).double()), TypeError, "bias.*float64"),
    "weight of other dtype": (lambda: F.conv2d(X, W.double()), TypeError, "weight.*float64"),
    "integers convolved": (lambda: F.conv2d(INTS, W), TypeError, "x.*int64"),
    "a list convolved": (lambda: F.conv2d([[1.0]], W), TypeError, "x.*list"),
    "stride 0": (lambda: F.conv2d(X, W, stride=0), ValueError, "stride.*0"),
    "stride 1.5": (lambda: F.conv2d(X, W, stride=1.5), TypeError, "stride.*1.5"),
    "stride of 3": (lambda: F.conv2d(X, W, stride=(1, 1, 1)), TypeError, r"stride.*\(1, 1, 1\)"),
    "padding -1": (lambda: F.conv2d(X, W, padding=-1), ValueError, "padding.*-1"),
    "padding 'full'": (lambda: F.conv2d(X, W, padding="full"), ValueError, "padding.*'full'"),
    "same with stride": (lambda: F.conv2d(X, W, stride=2, padding="same"), ValueError, "same.*stride"),
    "dilation 0": (lambda: F.conv2d(X, W, dilation=0), ValueError, "dilation.*0"),
    "groups 3 of 4": (lambda: F.conv2d(X, W, groups=3), ValueError, "groups.*3"),
    "groups 0": (lambda: F.conv2d(X, W, groups=0), ValueError, "groups.*0"),
    "groups None": (lambda: F.conv2d(X, W, groups=None), ValueError, "groups.*None"),
    "kernel beyond image": (lambda: F.conv2d(X[:, :, :2], W), ValueError, "3 pixels.*2 pixels"),
    "dilated beyond image": (lambda: F.conv2d(X, W, dilation=4), ValueError, "9 pixels.*8 pixels"),
    "pool 0": (lambda: F.max_pool2d(X, 0), ValueError, "kernel_size.*0"),
    "pool beyond image": (lambda: F.max_pool2d(X, 9), ValueError, "9 pixels.*8 pixels"),
    "pool stride 0": (lambda: F.max_pool2d(X, 2, 0), ValueError, "stride.*0"),
    "pool padding": (lambda: F.max_pool2d(X, 2, padding=2), ValueError, "padding.*2"),
    "pool of rows": (lambda: F.max_pool2d(ROWS, 2), ValueError, r"\(4, 5\)"),
    "pool of integers": (lambda: F.max_pool2d(INTS, 2), TypeError, "int64"),
    "pool 'a'": (lambda: F.avg_pool2d(X, "a"), TypeError, "kernel_size.*'a'"),
    "divisor 0": (lambda: F.avg_pool2d(X, 2, divisor_override=0), ValueError, "divisor_override.*0"),
    "indices": (lambda: F.max_pool2d(X, 2, return_indices=True), NotImplementedError, "return_indices"),
    "adaptive 0": (lambda: F.adaptive_avg_pool2d(X, 0), ValueError, "0"),
    "adaptive of 3": (lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)), TypeError, r"output_size.*\(1, 2, 3\)"),
    "adaptive 1.5": (lambda: F.adaptive_avg_pool2d(X, 1.5), TypeError, "output_size.*1.5"),
    "linear of 6": (lambda: F.linear(ROWS, minidl.zeros(3, 6)), ValueError, r"\(4, 5\).*6"),
    "linear weight of 1 axis": (lambda: F.linear(ROWS, minidl.zeros(5)), ValueError, r"weight.*\(5,\)"),
    "linear bias": (lambda: F.linear(ROWS, minidl.zeros(3, 5), minidl.zeros(4)), ValueError, r"bias.*\(4,\)"),
    "linear of 0 axes": (lambda: F.linear(minidl.tensor(1.0), minidl.zeros(3, 5)), ValueError, r"\(\)"),
    "linear of ints": (lambda: F.linear(minidl.tensor([1, 2]), minidl.zeros(3, 2)), TypeError, "int64"),
    "one value a channel": (lambda: F.batch_norm(ROWS[:1], None, None, training=True), ValueError, "more than 1 value"),
    "no statistics": (lambda: F.batch_norm(ROWS, None, None), ValueError, "running_mean"),
    "statistics of 4": (
        lambda: F.batch_norm(ROWS, minidl.zeros(4), minidl.ones(5)),
        ValueError,
        r"running_mean.*\(4,\)",
    ),
    "gamma of 4": (
        lambda: F.batch_norm(ROWS, None, None, minidl.ones(4), training=True),
        ValueError,
        r"weight.*\(4,\)",
    ),
    "norm of a vector": (lambda: F.batch_norm(ROWS[0], None, None, training=True), ValueError, r"\(5,\)"),
    "norm eps -1": (lambda: F.batch_norm(ROWS, None, None, training=True, eps=-1.0), ValueError, "eps.*-1"),
    "label 5 of 5": (lambda: F.cross_entropy(ROWS, minidl.tensor([0, 1, 2, 5])), IndexError, "label 5.*0..4"),
    "label -1": (lambda: F.cross_entropy(ROWS, minidl.tensor([0, 1, 2, -1])), IndexError, "label -1"),
    "3 labels for 4": (lambda: F.cross_entropy(ROWS, LABELS[:3]), ValueError, r"\(3,\).*\(4,\)"),
    "labels as a list": (lambda: F.cross_entropy(ROWS, [0, 1, 2, 3]), TypeError, "target.*list"),
    "labels of bool": (lambda: F.cross_entropy(ROWS, LABELS > 1), TypeError, "target.*bool"),
    "probabilities of 4": (lambda: F.cross_entropy(ROWS, ROWS[:, :4]), ValueError, r"\(4, 4\)"),
    "probabilities in float64": (lambda: F.cross_entropy(ROWS, ROWS.double()), TypeError, "target.*float64"),
    "weight of 4": (lambda: F.cross_entropy(ROWS, LABELS, minidl.ones(4)), ValueError, r"weight.*\(4,\)"),
    "reduction 'avg'": (lambda: F.cross_entropy(ROWS, LABELS, reduction="avg"), ValueError, "reduction.*'avg'"),
    "smoothing 2": (lambda: F.cross_entropy(ROWS, LABELS, label_smoothing=2), ValueError, "label_smoothing.*2"),
    "smoothing nan": (
        lambda: F.cross_entropy(ROWS, LABELS, label_smoothing=np.nan),
        ValueError,
        "label_smoothing.*nan",
    ),
    "integer logits": (lambda: F.cross_entropy(LABELS[None], LABELS[:1]), TypeError, "int64"),
    "relu of a list": (lambda: F.relu([1.0]), TypeError, "list"),
    "softmax dim 2": (lambda: F.softmax(ROWS, 2), IndexError, "dim 2"),
    "log_softmax dim -3": (lambda: F.log_softmax(ROWS, -3), IndexError, "dim -3"),
    "softmax of a list": (lambda: F.softmax([1.0], 0), TypeError, "list"),
    "pad of 3": (lambda: F.pad(X, (1, 2, 3)), ValueError, r"\(1, 2, 3\)"),
    "pad 1": (lambda: F.pad(X, 1), TypeError, "pad.*1"),
    "pad mode": (lambda: F.pad(X, (1, 1), "mirror"), ValueError, "mode.*'mirror'"),
    "pad reflect 8 of 8": (lambda: F.pad(X, (8, 0), "reflect"), ValueError, "reflect.*8"),
    "pad circular 9 of 8": (lambda: F.pad(X, (9, 0), "circular"), ValueError, "circular.*9"),
    "crop beyond": (lambda: F.pad(X, (-5, -5)), ValueError, "-5"),
    "fold of 5 windows": (lambda: F.fold(minidl.zeros(1, 4, 5), (4, 4), 2), ValueError, r"\(1, 4, 5\)"),
    "one_hot of 7": (lambda: F.one_hot(minidl.tensor([7]), 5), ValueError, "7"),
    "one_hot of floats": (lambda: F.one_hot(ROWS, 5), TypeError, "float32"),
    "Conv2d(0, ...)": (lambda: nn.Conv2d(0, 1, 1), ValueError, "in_channels.*0"),
    "Conv2d groups": (lambda: nn.Conv2d(4, 4, 1, groups=3), ValueError, "groups=3"),
    "Conv2d kernel": (lambda: nn.Conv2d(4, 4, 0), ValueError, "kernel_size.*0"),
    "Conv2d mode": (lambda: nn.Conv2d(4, 4, 1, padding_mode="zero"), ValueError, "padding_mode.*'zero'"),
    "Linear(2.5, 1)": (lambda: nn.Linear(2.5, 1), ValueError, "in_features.*2.5"),
    "BatchNorm2d(0)": (lambda: nn.BatchNorm2d(0), ValueError, "num_features.*0"),
    "BatchNorm2d of rows": (lambda: nn.BatchNorm2d(5)(ROWS), ValueError, r"\(4, 5\)"),
    "BatchNorm1d of images": (lambda: nn.BatchNorm1d(3)(X), ValueError, r"\(2, 3, 8, 8\)"),
    "BatchNorm2d of other channels": (lambda: nn.BatchNorm2d(4)(X), ValueError, "3 channels.*4"),
    "CrossEntropyLoss reduction": (lambda: nn.CrossEntropyLoss(reduction="x")(ROWS, LABELS), ValueError, "'x'"),
}


@pytest.mark.parametrize("call", BAD_CALLS)
def test_bad_call(call):
    function, kind, message = BAD_CALLS[call]
    with pytest.raises(kind) as caught:
        function()
    assert type(caught.value) is kind
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)
