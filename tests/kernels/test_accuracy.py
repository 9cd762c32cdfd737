"""Long sums in float32, judged by their distance to float64 beside PyTorch's own distance."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F

torch = pytest.importorskip("torch")


def positive(seed, *shape):
    """All of one sign: rounding errors of a long sum do not cancel."""
    return np.abs(np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def compare(minidl_value, torch_value, exact):
    assert np.abs(minidl_value - exact).max() <= 4 * np.abs(torch_value - exact).max()


@pytest.mark.parametrize("terms", [300, 2_000, 20_000])
def test_dot_products(terms):
    x, w = positive(0, 33, terms), positive(1, 17, terms)
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    compare(F.linear(x, w), torch.nn.functional.linear(torch.tensor(x), torch.tensor(w)).numpy(), exact)
    compare(np.matmul(minidl.tensor(x), w.T.copy()).array, (torch.tensor(x) @ torch.tensor(w).T).numpy(), exact)


def test_sums():
    x = positive(2, 1 << 18)
    exact = x.astype(np.float64).sum()
    assert abs(minidl.tensor(x).sum().item() - exact) <= max(
        4 * abs(torch.tensor(x).sum().item() - exact), 1e-7 * exact
    )


@pytest.mark.parametrize("channels", [16, 512])
def test_convolution_and_its_gradients(channels):
    x, w, dy = positive(3, 8, channels, 8, 8), positive(4, 16, channels, 3, 3), positive(5, 8, 16, 8, 8)

    def with_torch(dtype):
        leaves = [torch.tensor(a.astype(dtype), requires_grad=True) for a in (x, w)]
        y = torch.nn.functional.conv2d(*leaves, padding=1)
        y.backward(torch.tensor(dy.astype(dtype)))
        return [y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]

    leaves = [minidl.tensor(a, requires_grad=True) for a in (x, w)]
    y = F.conv2d(*leaves, padding=1)
    y.backward(dy)
    found = [y.detach().array, *(leaf.grad.array for leaf in leaves)]
    for f, t, exact in zip(found, with_torch(np.float32), with_torch(np.float64), strict=True):
        compare(f, t, exact)


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "texts"])
def test_batch_norm_far_from_zero(kernels):
    """Mean 300, deviation 1."""
    x = (np.random.default_rng(6).standard_normal((64, 8, 16, 16)) + 300).astype(np.float32)
    wide = x.astype(np.float64)
    mean, var = wide.mean((0, 2, 3), keepdims=True), wide.var((0, 2, 3), keepdims=True)
    with minidl.use_kernels(kernels):
        y = F.batch_norm(x, None, None, training=True)
    expected = torch.nn.functional.batch_norm(torch.tensor(x), None, None, training=True).numpy()
    compare(y, expected, (wide - mean) / np.sqrt(var + 1e-5))
