"""Elementary functions and losses in vectors: relative errors over their whole range, and what is no number."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl.kernels import get_kernel

RELATIVE = [("sigmoid", {}), ("tanh", {}), ("silu", {}), ("elu", dict(alpha=0.7))]
RELATIVE += [("softplus", dict(beta=1.0, threshold=np.inf))]
ABSOLUTE = [(op, {}) for op in ("erf", "gelu", "gelu_tanh", "hardswish")]  # the texts cancel, too, where y is near 0


def both(op, options, dtype, x):
    """What the kernel and the text, in the widest numbers, make of x."""
    kernel = get_kernel(f"{op}_forward")
    with np.errstate(all="ignore"):
        return kernel(x.astype(dtype), **options)[0], kernel.text(x.astype(dtype).astype(np.longdouble), **options)[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op, options", RELATIVE + ABSOLUTE, ids=str)
def test_accuracy(op, options, dtype):
    near, far = np.linspace(-3, 3, 4001), np.linspace(-80, 80, 4001)
    tiny = np.geomspace(1e-30, 1e-3, 200)
    y, exact = both(op, options, dtype, np.concatenate([near, far, tiny, -tiny]))
    scale = np.abs(exact) if (op, options) in RELATIVE else np.maximum(np.abs(exact), 1)
    assert np.all(np.abs(y - exact) <= 6 * np.finfo(dtype).eps * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op, options", RELATIVE + ABSOLUTE, ids=str)
def test_ends_of_the_range(op, options, dtype):
    """Where exp overflows or underflows, infinity, zeros with either sign, NaN."""
    most = np.finfo(dtype).max
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, most, -most, 88.8, 104, 709.8, 746, 1e-42, 5e-324])
    x = np.concatenate([special, -special, np.zeros(1024)])
    y, expected = both(op, options, dtype, x)
    with np.errstate(over="ignore"):
        expected = expected.astype(dtype)
    least = np.finfo(dtype).tiny if (op, options) in RELATIVE else 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=float(least))


def test_slopes_that_are_learned_and_slopes_that_are_numbers():
    x = minidl.randn(4, 8, 6, 7)
    for slope in (0.2, np.float32(0.2)):
        expected = np.where(x.numpy() > 0, x.numpy(), np.float32(0.2) * x.numpy())
        np.testing.assert_array_equal(F.leaky_relu(x, slope).numpy(), expected)
    slopes = minidl.full((8,), 0.2).requires_grad_()
    y = F.prelu(x, slopes)
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    y.sum().backward()
    np.testing.assert_allclose(slopes.grad.numpy(), np.minimum(x.numpy(), 0).sum((0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("C", [1, 3, 16, 17, 100, 900])
def test_rows_of_any_length(C):
    x = (10 * np.random.default_rng(C).standard_normal((4100 // C + 1, C))).astype(np.float32)
    exact = x.astype(np.float64)
    exact -= np.log(np.exp(exact - exact.max(1, keepdims=True)).sum(1, keepdims=True)) + exact.max(1, keepdims=True)
    np.testing.assert_allclose(F.log_softmax(x, 1), exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(F.softmax(x, 1), np.exp(exact), rtol=1e-4, atol=1e-7)
    rows = np.arange(len(x))
    np.testing.assert_allclose(F.cross_entropy(x, rows % C, reduction="none"), -exact[rows, rows % C], atol=1e-5)


def test_impossible_classes():
    """Logits of -inf: probability 0, and no loss where the target is 0 there."""
    logits = np.array([[1.0, -np.inf, 2.0], [0.0, 0.0, -np.inf]], np.float32)
    for times in (1, 1000):  # text and kernel
        x = minidl.tensor(np.tile(logits, (times, 1))).requires_grad_()
        loss = F.cross_entropy(x, np.tile([0, 1], times))
        loss.backward()
        np.testing.assert_allclose(loss.item(), (np.log(1 + np.e) + np.log(2)) / 2, rtol=1e-6)
        assert np.isfinite(x.grad.numpy()).all() and x.grad.numpy()[0, 1] == x.grad.numpy()[1, 2] == 0
        assert F.cross_entropy(x, np.ones(2 * times, int)).item() == np.inf
