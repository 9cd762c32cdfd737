"""Nonlinearities judged without another library: accuracy, special values, in place, bad calls."""

import math

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.nn import functional as F
from minidl.ops.activation import erf, sigmoid

WITH_INPLACE = ["relu", "relu6", "leaky_relu", "elu", "selu", "silu", "mish", "hardtanh", "hardsigmoid", "hardswish"]


def test_erf_is_as_exact_as_the_c_library():
    x = np.linspace(-7, 7, 4001)
    assert np.abs(erf(x) - [math.erf(v) for v in x]).max() < 1e-15
    np.testing.assert_array_equal(erf(np.array([np.inf, -np.inf, 100.0, -100.0])), [1, -1, 1, -1])


def test_sigmoid_is_exact_in_its_tails_and_warns_of_nothing():
    """The text itself, on arrays; warnings are errors."""
    x = np.array([-1000.0, -700.0, -40.0, 0.0, 40.0, 1000.0])
    expected = [0.0, math.exp(-700), math.exp(-40), 0.5, 1.0, 1.0]
    np.testing.assert_allclose(sigmoid(x), expected, rtol=1e-15)
    assert sigmoid(np.float32([-1000, 1000])).tolist() == [0, 1]


def test_third_derivative_of_sigmoid_at_0():
    """-1/8: where the text has a corner, the derivatives have none."""
    x = minidl.tensor(0.0, dtype=minidl.float64, requires_grad=True)
    y = x.sigmoid()
    for expected in (0.25, 0.0, -0.125):
        (y,) = minidl.autograd.grad(y, x, create_graph=True)
        assert y.item() == expected


@pytest.mark.parametrize("name", WITH_INPLACE)
def test_in_place(name):
    function = getattr(F, name)
    values = np.random.default_rng(0).standard_normal((3, 40)) * 3
    x = minidl.tensor(values, requires_grad=True)
    expected = function(x)
    expected.sum().backward()
    dx, x.grad = x.grad, None
    h = x * 1
    assert function(h, inplace=True) is h
    h.sum().backward()
    np.testing.assert_array_equal(h.detach().numpy(), expected.detach().numpy())
    np.testing.assert_allclose(x.grad.numpy(), dx.numpy(), rtol=1e-15)
    with pytest.raises(RuntimeError, match="leaf"):
        function(x, inplace=True)
    array = values.copy()
    assert function(array, inplace=True) is array
    np.testing.assert_array_equal(array, expected.detach().numpy())


def test_in_place_methods():
    values = np.array([-2.0, 0.5, 3.0])
    for name, arguments in (("relu_", ()), ("sigmoid_", ()), ("tanh_", ()), ("clamp_", (-1, 1))):
        x = minidl.tensor(values, requires_grad=True)
        h = x * 1
        assert getattr(h, name)(*arguments) is h
        h.sum().backward()
        same = getattr(minidl, name[:-1])(minidl.tensor(values), *arguments)
        np.testing.assert_array_equal(h.detach().numpy(), same.numpy())
        assert x.grad is not None


def test_an_activation_that_backward_reads_may_not_be_overwritten():
    x = minidl.randn(3, requires_grad=True)
    h = x * 1
    y = F.silu(h)
    F.relu(h, inplace=True)
    with pytest.raises(RuntimeError, match="silu.*changed in place"):
        y.sum().backward()


@pytest.mark.parametrize("layer", ["SiLU", "GELU", "Sigmoid", "Softplus", "Dropout", "LocalResponseNorm"])
def test_layers_have_no_state(layer):
    arguments = (3,) if layer == "LocalResponseNorm" else ()
    assert not getattr(nn, layer)(*arguments).state_dict()


BAD_CALLS = {
    "sigmoid of integers": (lambda: F.sigmoid(minidl.tensor([1])), TypeError, "sigmoid: x.*int64"),
    "silu of a list": (lambda: F.silu([1.0]), TypeError, "silu: x.*list"),
    "gelu, approximate": (lambda: F.gelu(minidl.ones(2), "erf"), ValueError, "approximate.*'erf'"),
    "hardtanh, limits": (lambda: F.hardtanh(minidl.ones(2), 1, -1), ValueError, "min_val.*1.*-1"),
    "prelu of 3 channels, 2 weights": (
        lambda: F.prelu(minidl.ones(2, 3), minidl.ones(2)),
        ValueError,
        r"weight.*\(2,\).*\(3,\)",
    ),
    "PReLU of 0": (lambda: nn.PReLU(0), ValueError, "num_parameters.*0"),
    "clamp without limits": (lambda: minidl.ones(2).clamp(), RuntimeError, "min or max"),
    "clamp to a word": (lambda: minidl.ones(2).clamp("a"), TypeError, "min.*str"),
    "mse of two shapes": (
        lambda: F.mse_loss(minidl.ones(3, 1), minidl.ones(3)),
        ValueError,
        r"target.*\(3,\).*\(3, 1\)",
    ),
    "smooth_l1, beta": (lambda: F.smooth_l1_loss(minidl.ones(2), minidl.ones(2), beta=-1.0), ValueError, "beta.*-1"),
    "huber, delta": (lambda: F.huber_loss(minidl.ones(2), minidl.ones(2), delta=0), ValueError, "delta.*0"),
    "mse, reduction": (lambda: F.mse_loss(minidl.ones(2), minidl.ones(2), "avg"), ValueError, "reduction.*'avg'"),
    "probability 2": (
        lambda: F.binary_cross_entropy(minidl.ones(2) * 2, minidl.ones(2)),
        RuntimeError,
        r"probabilities in \[0, 1\].*2",
    ),
    "weights of 3 for 2": (
        lambda: F.binary_cross_entropy_with_logits(minidl.ones(2), minidl.ones(2), pos_weight=minidl.ones(3)),
        ValueError,
        "pos_weight|broadcast",
    ),
    "nll, label 5": (lambda: F.nll_loss(minidl.ones(1, 5), minidl.tensor([5])), IndexError, "label 5.*0..4"),
    "nll of probabilities": (lambda: F.nll_loss(minidl.ones(1, 5), minidl.ones(1, 5)), TypeError, "target.*float32"),
    "group_norm, groups": (lambda: F.group_norm(minidl.ones(2, 3), 2), ValueError, "num_groups.*2"),
    "GroupNorm, groups": (lambda: nn.GroupNorm(2, 3), ValueError, "num_groups=2.*3"),
    "layer_norm, shape": (lambda: F.layer_norm(minidl.ones(2, 3), (2,)), ValueError, r"\(2, 3\).*2"),
    "lrn, size": (lambda: F.local_response_norm(minidl.ones(1, 2, 3), 0), ValueError, "size.*0"),
    "lrn of rows": (lambda: F.local_response_norm(minidl.ones(1, 2), 3), ValueError, r"\(1, 2\)"),
    "adaptive maximum, indices": (
        lambda: F.adaptive_max_pool2d(minidl.ones(1, 2, 2), 1, True),
        NotImplementedError,
        "return_indices",
    ),
    "adaptive maximum of 0": (lambda: F.adaptive_max_pool2d(minidl.ones(1, 2, 2), 0), ValueError, "0"),
}


@pytest.mark.parametrize("call", BAD_CALLS)
def test_bad_call(call):
    function, kind, message = BAD_CALLS[call]
    with pytest.raises(kind, match=message):
        function()


def test_softmax_without_dim_warns_as_pytorch_does():
    with pytest.warns(UserWarning, match="dim was left out; 1 is taken"):
        y = F.softmax(minidl.ones(2, 4))
    assert y[0, 0].item() == 0.25
