"""Tensors judged by closed forms and by NumPy; threads and memory."""

import gc
import threading

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.autograd import Node, TensorBase

RNG = np.random.default_rng(0)


def leaf(*shape):
    return minidl.from_numpy(RNG.standard_normal(shape)).requires_grad_()


INDICES = [
    *(0, -1, (1, 2), slice(1, None), slice(None, None, -1), slice(None, None, -2), (slice(None), None, 1), Ellipsis),
    *((..., 0), (None, ..., None), (0, ..., slice(1, 3)), [0, 1, 1], np.array([1, 0, 0]), (slice(None), [2, 0, 0])),
    *(
        ([0, 1], [2, 2]),
        (1, [0, 0, 2]),
        (slice(2, 0, -1), [1, 0]),
        (),
        slice(3, 1),
        np.zeros((2, 0), int),
        np.bool_(True),
    ),
    np.arange(24).reshape(2, 3, 4) % 5 == 0,
    np.array([True, False]),
    (slice(None), np.array([True, False, True])),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_is_numpys_and_its_gradient_counts(index):
    x = leaf(2, 3, 4)
    y = x[index]
    np.testing.assert_array_equal(y.detach().numpy(), x.array[index])
    dy = RNG.standard_normal(y.shape)
    y.backward(minidl.from_numpy(dy))
    expected = np.zeros(24)  # element by element: which element of x each element of y came from
    for source, value in zip(np.arange(24).reshape(2, 3, 4)[index].ravel(), dy.ravel(), strict=True):
        expected[source] += value
    np.testing.assert_allclose(x.grad.numpy().ravel(), expected, rtol=1e-15)


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_assignment_is_numpys_and_its_gradient_goes_where_the_value_went(index):
    x, expected = leaf(2, 3, 4), RNG.standard_normal(())
    y = x * 1
    expected = y.array.copy()
    value = leaf(*expected[index].shape)
    y[index] = value
    expected[index] = value.array
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    dy = RNG.standard_normal(y.shape)
    y.backward(minidl.from_numpy(dy))
    kept = np.ones(24, bool)
    kept[np.arange(24).reshape(2, 3, 4)[index].ravel()] = False
    np.testing.assert_array_equal(x.grad.numpy().ravel(), dy.ravel() * kept)
    assert value.grad is None or abs(value.grad.numpy().sum() - dy.ravel()[~kept].sum()) < 1e-12
    assert value.grad is not None or value.numel() == 0


def test_an_index_changed_later_does_not_change_the_gradient():
    x, index = leaf(3), np.array([0, 0, 1])
    y = x[index]
    index[:] = 2
    y.sum().backward()
    assert x.grad.tolist() == [2, 1, 0]


def test_setting_requires_grad():
    p = minidl.ones(2, 3)
    p.requires_grad = True
    assert p.requires_grad and p.is_leaf
    p.requires_grad = False
    assert not p.requires_grad
    with pytest.raises(RuntimeError, match="int64"):
        minidl.ones(2, dtype=minidl.int64).requires_grad_()


def test_many_hooks_without_their_handles():
    x, calls = leaf(2), []
    for i in range(50):
        x.register_hook(lambda g, i=i: calls.append(i))
    x.sum().backward()
    assert calls == list(range(50))


def test_retain_grad():
    x = leaf(3)
    y = x * 2
    y.retain_grad()
    y.retain_grad()  # twice is once
    (y * y).sum().backward()
    np.testing.assert_allclose(y.grad.numpy(), 2 * y.detach().numpy())
    with pytest.raises(RuntimeError, match="retain_grad"):
        x.detach().retain_grad()


def test_leaving_the_tensor():
    x = minidl.tensor([[1.5, 2.0]])
    assert x.tolist() == [[1.5, 2.0]] and x[0, 0].item() == 1.5 and x.numpy() is x.array
    assert np.asarray(x) is not None and np.shares_memory(np.asarray(x), x.array)
    assert np.array(x, dtype=np.float64).dtype == np.float64
    with pytest.raises(RuntimeError, match=r"\(1, 2\)"):
        x.item()
    with pytest.raises(RuntimeError, match="detach"):
        x.requires_grad_().numpy()
    assert len({x, x.detach(), x}) == 2
    assert (x == None) is False and (x != "a") is True  # noqa: E711


def test_text():
    assert repr(minidl.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(minidl.tensor([1, 2], dtype=minidl.int32)) == "tensor([1, 2], dtype=int32)"
    assert repr(minidl.tensor([1.0], requires_grad=True)) == "tensor([1.], requires_grad=True)"
    assert "grad_fn=<multiply>" in repr(leaf(2) * 2)
    assert repr(nn.Parameter(minidl.tensor([1.0]))).startswith("Parameter containing:\ntensor([1.]")
    assert len(repr(minidl.zeros(1000, 1000))) < 1000


def test_format():
    assert f"{minidl.tensor(1.256):.2f}" == "1.26" and f"{minidl.tensor([1.5])}" == "tensor([1.5])"
    assert f"{leaf():.3f}" and f"{minidl.tensor(7):3d}" == "  7"


def test_assigning_data():
    p = leaf(2)
    loss = (p * p).sum()
    p.data = minidl.tensor([1.0, 2.0, 3.0])
    assert p.shape == (3,) and p.requires_grad and p.is_leaf
    (p * 2).sum().backward()
    assert p.grad.tolist() == [2, 2, 2]
    with pytest.raises(TypeError, match="data.*list"):
        p.data = [1.0]
    with pytest.raises(RuntimeError):
        loss.backward()


def test_views_share_memory_and_copies_do_not():
    x = minidl.from_numpy(RNG.standard_normal((2, 3, 4)))
    for view in (x[0], x.T, x.reshape(6, 4), x.permute(1, 0, 2), x.detach(), x.data, x.expand(5, 2, 3, 4), x.squeeze()):
        assert np.shares_memory(view.array, x.array)
    for copy in (x.clone(), x[[0]], x.float(), x + 0, minidl.tensor(x)):
        assert not np.shares_memory(copy.array, x.array)
    y = x[0]
    y[0, 0] = 7
    assert x[0, 0, 0].item() == 7


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_sums_and_products_stay_accurate(dtype):
    """Pairwise or wider accumulation: errors of a few units in the last place, not of thousands."""
    eps = np.finfo(dtype).eps
    x = (RNG.random(1 << 18) + 0.5).astype(dtype)
    exact = np.sum(x.astype(np.longdouble))
    assert abs(minidl.from_numpy(x).sum().item() - exact) <= 8 * eps * exact
    assert abs(minidl.from_numpy(x).mean().item() - exact / x.size) <= 8 * eps * exact / x.size
    a, b = (RNG.random((3, 20000)) + 0.5).astype(dtype), (RNG.random((20000, 2)) + 0.5).astype(dtype)
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    error = np.abs((minidl.from_numpy(a) @ minidl.from_numpy(b)).numpy() - exact).max()
    assert error <= 64 * eps * exact.max()


BAD = {
    "matmul shapes": (lambda: minidl.ones(2, 3) @ minidl.ones(2, 3), RuntimeError, r"\(2, 3\) and \(2, 3\)"),
    "matmul from NumPy": (lambda: np.ones((2, 3), np.float32) @ minidl.ones(2, 3), RuntimeError, r"\(2, 3\)"),
    "matmul dtypes": (lambda: minidl.ones(2, 2) @ minidl.ones(2, 2).double(), RuntimeError, "float32 and float64"),
    "reshape": (lambda: minidl.ones(6).reshape(4, -1), RuntimeError, r"\(4, -1\).*\(6,\)"),
    "dim": (lambda: minidl.ones(2, 3).sum(2), IndexError, "dim 2"),
    "dims twice": (lambda: minidl.ones(2, 3).sum((0, -2)), RuntimeError, "twice"),
    "dim text": (lambda: minidl.ones(2, 3).sum("a"), TypeError, "'a'"),
    "index": (lambda: minidl.ones(2, 3)[2], IndexError, "2"),
    "index array": (lambda: minidl.ones(2, 3)[np.array([0, 5])], IndexError, "5"),
    "broadcast": (
        lambda: minidl.ones(2, 3) + minidl.ones(2),
        RuntimeError,
        r"add: shapes \(2, 3\) and \(2,\) do not fit: 3 and 2 on axis 1",
    ),
    "permute": (lambda: minidl.ones(2, 3).permute(0, 0), RuntimeError, r"\(0, 0\)"),
    "expand": (lambda: minidl.ones(2, 3).expand(2, 4), RuntimeError, r"\(2, 3\).*\(2, 4\)"),
    "dtype": (lambda: minidl.ones(2).to("float99"), TypeError, "float99"),
    "device": (lambda: minidl.ones(2).to("cuda"), NotImplementedError, "cuda"),
    "mean of integers": (lambda: minidl.tensor([1, 2]).mean(), RuntimeError, "int64"),
    "bool minus": (lambda: minidl.tensor([True]) - minidl.tensor([True]), RuntimeError, "bool"),
    "int plus= float": (lambda: minidl.tensor([1]).add_(0.5), RuntimeError, "float32.*int64"),
    "in place beyond": (lambda: minidl.ones(3).add_(minidl.ones(2, 3)), RuntimeError, r"\(2, 3\).*\(3,\)"),
    "leaf": (lambda: leaf(2).mul_(2), RuntimeError, "leaf"),
    "view in the graph": (lambda: (leaf(2, 3) * 1)[0].mul_(2), NotImplementedError, "base"),
    "text": (lambda: minidl.ones(2) + "a", TypeError, "str"),
    "cat shapes": (lambda: minidl.cat([minidl.ones(2, 3), minidl.ones(2, 2)]), RuntimeError, r"tensors\[1\].*\(2, 2\)"),
    "stack nothing": (lambda: minidl.stack([]), ValueError, "empty"),
    "hook": (lambda: leaf(2).register_hook(3), TypeError, "hook.*int"),
    "len": (lambda: len(minidl.tensor(1)), TypeError, "0-d"),
}


@pytest.mark.parametrize("call", BAD)
def test_bad_call(call):
    function, kind, message = BAD[call]
    with pytest.raises(kind, match=message):
        function()


def train(seed, steps=6):
    """A small network trained on noise; its weights."""
    rng = np.random.default_rng(seed)
    net = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.ResidualBlock(6, 8, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )
    for p in net.parameters():
        if p.ndim > 1:
            p.data.copy_(rng.standard_normal(p.shape).astype(np.float32) * 0.2)
        elif p is net[-1].bias:
            p.data.fill_(0)
    optimizer, loss_of = minidl.optim.SGD(net.parameters(), lr=0.05, momentum=0.9), nn.CrossEntropyLoss()
    for _ in range(steps):
        x = minidl.from_numpy(rng.standard_normal((8, 3, 12, 12)).astype(np.float32))
        optimizer.zero_grad()
        loss_of(net(x), minidl.from_numpy(rng.integers(0, 4, 8))).backward()
        optimizer.step()
    return np.concatenate([v.numpy().ravel().astype(np.float64) for v in net.state_dict().values()])


def in_threads(*functions):
    results, barrier = [None] * len(functions), threading.Barrier(len(functions))

    def work(i):
        barrier.wait()
        try:
            results[i] = functions[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(functions))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    return results


def test_four_threads_train_four_models_as_one_after_the_other():
    expected = [train(seed) for seed in range(4)]
    for found, serial in zip(in_threads(*(lambda s=s: train(s) for s in range(4))), expected, strict=True):
        np.testing.assert_array_equal(found, serial)


def test_modes_belong_to_their_thread():
    meet, x = threading.Barrier(2), leaf(2)

    def without():
        with minidl.no_grad(), minidl.use_kernels(False):
            meet.wait()
            y = (x * 2).requires_grad
            meet.wait()
            return y

    def recording():
        meet.wait()
        y = (x * 2).requires_grad, minidl.kernels.kernels_enabled()
        meet.wait()
        return y

    assert in_threads(without, recording) == [False, (True, True)]
    assert minidl.is_grad_enabled()


def test_training_leaves_no_garbage():
    """With the collector off, the number of live Tensors and nodes does not depend on the number of steps."""

    def alive():
        return sum(issubclass(type(o), TensorBase | Node) for o in gc.get_objects())

    layer = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = minidl.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    x, labels = minidl.randn(16, 4), minidl.randint(0, 3, (16,))

    def steps(count):
        for _ in range(count):
            optimizer.zero_grad()
            y = layer(x)
            y.retain_grad()
            y.register_hook(lambda g: g * 1)
            h = y * 1
            h += 1
            h[0] = y[1] + 0
            (g,) = minidl.autograd.grad(nn.functional.cross_entropy(h, labels), y, create_graph=True)
            (g.sum() + nn.functional.cross_entropy(layer(x), labels)).backward()
            optimizer.step()

    steps(3)
    gc.collect()
    gc.disable()
    try:
        before = alive()
        steps(300)
        assert alive() <= before + 5
        assert gc.collect() < 50
    finally:
        gc.enable()
