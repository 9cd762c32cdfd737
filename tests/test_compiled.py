"""`minidl.compile`: the same bits as the model, for every input, and whenever something has changed."""

import copy
import warnings

import numpy as np
import pytest
from at_once import at_once

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.kernels import use_kernels
from minidl.kernels.algorithms import set_conv_algorithm
from minidl.models import get_model
from minidl.optim import SGD

NETWORKS = {
    "resnet20": (2, 3, 32, 32),
    "resnet32": (1, 3, 32, 32),
    "plain20": (9, 3, 32, 32),
    "vgg19_cifar": (2, 3, 32, 32),
    "lenet": (3, 1, 28, 28),
    "lenet_dropout": (1, 1, 28, 28),
    "resnet18": (1, 3, 64, 64),
    "resnet50": (1, 3, 64, 64),
}


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def same(compiled, model, shape, dtype=minidl.float32):
    with minidl.no_grad():
        x = minidl.randn(*shape).to(dtype)
        y = compiled(x)
        np.testing.assert_array_equal(y.numpy(), model(x).numpy())
    return y


def plays(compiled):
    return [play is not None for play in compiled._passes.values()]


@pytest.fixture
def small():
    minidl.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8 * 16, 5)).eval()


SMALL = (2, 3, 8, 8)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_the_same_bits(name):
    minidl.manual_seed(0)
    model = get_model(name).eval()
    compiled = minidl.compile(model)
    for _ in range(3):
        same(compiled, model, NETWORKS[name])
    assert plays(compiled) == [True]


def test_each_shape_and_dtype_has_a_pass(small):
    compiled = minidl.compile(small)
    for shape in (SMALL, (1, *SMALL[1:]), SMALL):
        same(compiled, small, shape)
    assert plays(compiled) == [True, True]
    for batch in range(3, 12):
        same(compiled, small, (batch, *SMALL[1:]))
    assert len(plays(compiled)) == 8  # the oldest are gone


def test_float64(small):
    same(minidl.compile(small.double()), small, SMALL, minidl.float64)


def test_outputs_do_not_share_memory(small):
    compiled = minidl.compile(small)
    first = same(compiled, small, SMALL)
    before = first.numpy().copy()
    same(compiled, small, SMALL)
    np.testing.assert_array_equal(first.numpy(), before)


def test_changed_weights_are_noticed(small):
    compiled = minidl.compile(small)
    same(compiled, small, SMALL)
    with minidl.no_grad():
        small[0].weight.mul_(2)
    same(compiled, small, SMALL)
    small[5].bias.data = minidl.ones(5)
    same(compiled, small, SMALL)
    small.load_state_dict({name: value + 0.5 for name, value in small.state_dict().items() if value.ndim} | {
        "1.num_batches_tracked": minidl.tensor(3)
    })  # fmt: skip
    same(compiled, small, SMALL)


def test_training_in_between_is_noticed(small):
    compiled, optimizer = minidl.compile(small), SGD(small.parameters(), lr=0.1)
    for _ in range(2):
        same(compiled, small, SMALL)
        compiled.train()
        loss = F.cross_entropy(compiled(minidl.randn(*SMALL)), minidl.tensor([1, 2]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        compiled.eval()
    assert small[1].num_batches_tracked.item() == 2
    same(compiled, small, SMALL)
    assert plays(compiled) == [True]


def test_gradients_run_the_model(small):
    compiled, x = minidl.compile(small), minidl.randn(*SMALL).requires_grad_()
    same(compiled, small, SMALL)
    compiled(x).sum().backward()
    mine, x.grad = x.grad.numpy(), None
    small(x).sum().backward()
    np.testing.assert_array_equal(mine, x.grad.numpy())


def test_hooks_run(small):
    compiled, seen = minidl.compile(small), []
    same(compiled, small, SMALL)
    handle = small[2].register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    same(compiled, small, SMALL)
    assert seen == [(2, 8, 8, 8)] * 2
    handle.remove()
    del seen[:]
    same(compiled, small, SMALL)
    assert not seen


def test_algorithms_and_texts(small):
    compiled = minidl.compile(small)
    for algorithm in ("direct", "text", "auto"):
        set_conv_algorithm(algorithm)
        try:
            same(compiled, small, SMALL)
        finally:
            set_conv_algorithm("auto")
    with use_kernels(False):
        same(compiled, small, SMALL)


def test_layouts_of_the_input(small):
    compiled = minidl.compile(small)
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32).transpose(0, 3, 1, 2)
    with minidl.no_grad():
        for a in (x, np.ascontiguousarray(x), x):
            a = minidl.from_numpy(a)
            np.testing.assert_array_equal(compiled(a).numpy(), small(a).numpy())


class Noisy(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, training=True)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Looks(nn.Module):
    def forward(self, x):
        return x * float(np.abs(x.numpy()).max())


@pytest.mark.parametrize("kind", [Noisy, Pair, Looks])
def test_what_cannot_be_played_runs_as_it_is(kind):
    compiled, x = minidl.compile(kind().eval()), minidl.randn(4, 5)
    with minidl.no_grad():
        with pytest.warns(UserWarning, match=f"compile: {kind.__name__} runs as it is"):
            compiled(x)
        y = compiled(x)  # silently
    assert plays(compiled) == [False] and isinstance(y, tuple) == (kind is Pair)


def test_errors_are_those_of_the_model(small):
    compiled = minidl.compile(small)
    with minidl.no_grad():
        for _ in range(2):
            with pytest.raises((RuntimeError, ValueError), match="3"):
                compiled(minidl.randn(2, 4, 8, 8))
    same(compiled, small, SMALL)
    with pytest.raises(TypeError, match="compile: model must be a Module, got function"):
        minidl.compile(lambda x: x)


def test_compiled_inside_of_compiled(small):
    inner = minidl.compile(small)
    outer = minidl.compile(nn.Sequential(inner, nn.ReLU()).eval())
    with minidl.no_grad():
        for _ in range(3):
            x = minidl.randn(*SMALL)
            np.testing.assert_array_equal(outer(x).numpy(), F.relu(small(x)).numpy())


def test_it_is_a_module(small):
    compiled = minidl.compile(small)
    same(compiled, small, SMALL)
    assert list(compiled.state_dict()) == [f"_orig_mod.{name}" for name in small.state_dict()]
    assert compiled._orig_mod is small and list(compiled.parameters()) == list(small.parameters())
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = compiled.nothing_such
    other = copy.deepcopy(compiled)
    same(other, small, SMALL)
    assert other._orig_mod is not small and plays(other) == [True]


def test_threads_play_one_after_the_other(small):
    compiled, wrong = minidl.compile(small), []
    with minidl.no_grad():
        inputs = [minidl.randn(*SMALL) for _ in range(4)]
        expected = [small(x).numpy() for x in inputs]

    def work(x, y):
        with minidl.no_grad():
            for _ in range(50):
                if not np.array_equal(compiled(x).numpy(), y):
                    wrong.append(x)

    at_once(work, zip(inputs, expected, strict=True))
    assert not wrong
