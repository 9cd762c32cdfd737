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


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_gradients_of_a_whole_resnet20_step(algorithm):
    """Most of the error is where a rounding turns a ReLU on or off; PyTorch's own two layouts differ tenfold in it."""
    from minidl.bench.networks import WORKS, define

    network = WORKS["resnet20"]
    rng = np.random.default_rng(1)
    images, labels = rng.standard_normal((64, 3, 32, 32), np.float32), rng.integers(0, 10, 64)
    torch.manual_seed(1)
    weights = network.build(define(torch.nn, torch.nn.functional)).state_dict()

    def with_torch(dtype, layout):
        model = network.build(define(torch.nn, torch.nn.functional))
        model.load_state_dict(weights)
        model = model.to(dtype=dtype, memory_format=layout)
        x = torch.tensor(images, dtype=dtype).contiguous(memory_format=layout)
        torch.nn.functional.cross_entropy(model(x), torch.tensor(labels)).backward()
        return {name: p.grad.double().numpy() for name, p in model.named_parameters()}

    exact = with_torch(torch.float64, torch.contiguous_format)

    def error(gradients):
        squares = [(((gradients[k] - g) ** 2).sum(), (g**2).sum()) for k, g in exact.items()]
        return np.sqrt(np.sum(squares, axis=0)[0] / np.sum(squares, axis=0)[1])

    model = minidl.models.resnet20()
    model.load_state_dict({name: minidl.tensor(value.numpy()) for name, value in weights.items()})
    with minidl.set_conv_algorithm(algorithm):
        F.cross_entropy(model(minidl.tensor(images)), minidl.tensor(labels)).backward()
    found = error({name: p.grad.array for name, p in model.named_parameters()})
    assert found <= 5 * error(with_torch(torch.float32, torch.channels_last))
    assert found <= 0.02
