"""Counts: against sums made by hand, PyTorch's counter of FLOPs, and the figures of the papers."""

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.kernels import get_kernel, list_kernels
from minidl.models import get_model
from minidl.nn import functional as F
from minidl.study import count
from minidl.study.costs import cost, is_known


def totals(counts):
    return counts.multiply_adds, counts.flops_forward, counts.flops_forward_backward - counts.flops_forward


def test_convolution_with_groups_and_stride():
    conv = nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2)  # 9x8 -> 5x5
    products = 6 * 5 * 5 * (4 // 2) * 3 * 2
    bias = 6 * 5 * 5
    # no gradient of the input: backward is dW, and db
    assert totals(count(conv, (4, 9, 8))) == (products, 2 * products + bias, 2 * products + bias)


def test_a_chain_by_hand():
    model = nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 2))
    counts = count(model, (3,))
    assert counts.parameters == counts.trainable_parameters == 15 + 12
    assert counts.multiply_adds == 15 + 10
    assert counts.flops_forward == 2 * 15 + 5 + (2 * 10 + 2)
    backward = 2 * 15 + 5 + (2 * 10 + 2 * 10 + 2)  # dW; relu; dx, dW, db
    assert counts.flops_forward_backward == counts.flops_forward + backward
    assert [(o.name, o.path, o.shape) for o in counts.operations] == [
        ("linear", "0", (2, 5)),
        ("relu", "1", (2, 5)),
        ("linear", "2", (2, 2)),
    ]
    assert counts.by_module()["2"] == (10, 22, 42)


def test_batch_norm_in_training_and_evaluation():
    model = nn.BatchNorm2d(3)
    assert totals(count(model, (3, 4, 4))) == (0, 7 * 48, 4 * 48)  # dgamma: 3, dbeta: 1
    assert totals(count(model.eval(), (3, 4, 4))) == (0, 3 * 48, 4 * 48)
    inner = count(nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.BatchNorm2d(3)), (1, 4, 4))
    assert totals(inner) == (48, 96 + 7 * 48, 96 + 9 * 48)


def test_pooling():
    assert totals(count(nn.MaxPool2d(2), (1, 4, 4))) == (0, 16, 0)
    assert totals(count(nn.AvgPool2d(2), (1, 4, 4))) == (0, 16 + 4, 0)
    assert totals(count(nn.AdaptiveAvgPool2d(1), (2, 3, 3))) == (0, 18 + 2, 0)
    assert totals(count(nn.AdaptiveAvgPool2d(2), (1, 3, 3))) == (0, 16 + 4, 0)  # four cells of 2x2 that overlap


class Shared(nn.Module):
    """One layer, called twice; its results are added."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        h = self.fc(x)
        return self.fc(h) + h


def test_a_module_called_twice_costs_twice_and_gradients_are_added():
    counts = count(Shared(), (4,))
    assert counts.parameters == 16
    # backward: dW, dx of the second call, dW of the first; the two gradients of h and of W are added
    sums = (2 * 4 + 16) // 2  # of a batch of two, for one example
    assert totals(counts) == (32, 64 + 4, 32 + 64 - 32 + 32 + sums)


class Functional(nn.Module):
    """No layers: parameters and functions."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(minidl.ones(3, 2, 1, 1))
        self.v = nn.Parameter(minidl.ones(12, 5))
        self.dead = nn.Parameter(minidl.ones(12, 5))

    def forward(self, x):
        h = F.relu(F.conv2d(x, self.w)).flatten(1)
        h @ self.dead  # forward only: nothing depends on it
        return np.exp(h @ self.v) * 2.0


def test_functional_calls_are_counted():
    counts = count(Functional(), (2, 2, 2))
    assert counts.multiply_adds == 24 + 60 + 60
    assert counts.flops_forward == 48 + 12 + 120 + 120 + 5 + 5
    assert counts.flops_forward_backward - counts.flops_forward == 48 + 12 + (120 + 120) + 5 + 5
    assert counts.estimated == ()


def test_frozen_parameters_get_no_gradients():
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
    model[1].requires_grad_(False)
    counts = count(model, (3,))
    assert (counts.parameters, counts.trainable_parameters) == (20, 12)
    assert totals(counts) == (20, 40, 24 + 16)  # dW of the first, dx of the second
    assert totals(count(model.requires_grad_(False), (3,))) == (20, 40, 0)


def test_an_operation_that_is_not_known_is_estimated():
    assert not is_known("anything_else")
    assert cost("anything_else", [(2, 3), ()], (2, 3), (True, False)) == (0, 6, 6)


def test_every_forward_text_has_a_cost():
    own = [name for name in list_kernels() if get_kernel(name).__module__.startswith("minidl.ops")]
    names = [name.removesuffix("_forward") for name in own if name.endswith("_forward")]
    assert "conv2d" in names
    assert [name for name in names if not is_known(name)] == []


@pytest.mark.parametrize("training", [True, False])
def test_convolutions_and_linear_layers_as_pytorch_counts_them(training):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    def build(nn):
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, bias=False),  # with groups, PyTorch counts dW once for each
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * 3 * 3, 10, bias=False),
        ).train(training)

    counter = FlopCounterMode(display=False)
    with counter:
        build(torch.nn)(torch.zeros(4, 3, 14, 14)).sum().backward()
    counts = count(build(nn), (3, 14, 14), batch_size=4)
    products = [o for o in counts.operations if o.multiply_adds]
    assert len(products) == 3
    assert 4 * sum(o.flops_forward + o.flops_backward for o in products) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "options", "size", "multiply_adds", "parameters"),
    [
        ("resnet20", {}, (3, 32, 32), 40_551_040, 269_722),
        ("resnet50", {"stride_in_1x1": True}, (3, 224, 224), 3_857_973_248, 25_557_032),
        ("resnet50", {}, (3, 224, 224), 4_089_184_256, 25_557_032),
    ],
)
def test_figures_of_the_papers(name, options, size, multiply_adds, parameters):
    counts = count(get_model(name, **options).eval(), size)
    assert (counts.multiply_adds, counts.parameters) == (multiply_adds, parameters)


class Noisy(nn.Module):
    """Changes all that a forward pass may change."""

    def __init__(self, fails=False):
        super().__init__()
        self.bn, self.fails = nn.BatchNorm1d(3), fails
        self.register_buffer("calls", minidl.zeros(1))

    def forward(self, x):
        self.calls = self.calls + 1
        y = self.bn(x + minidl.randn(*x.shape))
        if self.fails:
            raise RuntimeError("stop")
        return y


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_network_and_the_generator_are_left_as_they_were(fails, training):
    model = Noisy(fails).train(training)
    model.bn.eval()  # a mode of its own
    before = {key: value.array.copy() for key, value in model.state_dict().items()}
    rng, calls = minidl.get_rng_state(), model.calls
    model.bn.train()
    if fails:
        with pytest.raises(ValueError, match="stop"):
            count(model, (3,), batch_size=4)
    else:
        count(model, (3,), batch_size=4)
    assert minidl.get_rng_state() == rng and model.calls is calls
    assert (model.training, model.bn.training) == (training, True)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value.array, before[key])
    assert all(p.grad is None for p in model.parameters())
    assert not model.bn._forward_hooks and not model.bn._forward_pre_hooks
    assert minidl.is_grad_enabled()


def test_a_graph_made_before_can_still_be_used():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.eval()
    y = model(minidl.ones(2, 3)).sum()  # saved the running statistics
    model.train()
    count(model, (3,))
    y.backward()


def test_integer_inputs_several_inputs_and_dtypes():
    class Lookup(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(minidl.ones(7, 3, dtype=np.float64))

        def forward(self, index, x):
            assert (index.dtype, x.dtype) == (np.int64, np.float64)
            return self.table[index] * x

    counts = count(Lookup(), [(5,), (5, 3)], dtype=[np.int64, None])
    assert counts.flops_forward == 15
    assert counts.flops_forward_backward == 15 + 15 + 15  # the product; rows taken twice are added


@pytest.mark.parametrize("size", [(3, -1), (3, 0), "3", (3, 2.5), None, [(3,), 4], True])
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match="count: input_size must be positive extents without the batch"):
        count(nn.ReLU(), size)


def test_other_arguments_that_do_not_fit():
    with pytest.raises(TypeError, match="count: model must be a Module, got str"):
        count("resnet20", (3, 32, 32))
    with pytest.raises(ValueError, match="batch_size must be a positive integer, got 0"):
        count(nn.ReLU(), (3,), batch_size=0)
    with pytest.raises(ValueError, match="dtypes has 1 entries for 2 inputs"):
        count(nn.ReLU(), [(3,), (3,)], dtype=[np.float32])


def test_a_failure_names_the_module_and_the_shapes_up_to_there():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), nn.Flatten(), nn.Linear(100, 10))
    with pytest.raises(ValueError) as caught:
        count(model, (3, 8, 8))
    assert str(caught.value).splitlines() == [
        "count: the network failed on input (2, 3, 8, 8) in 2 (Linear): ValueError: linear: x has (2, 288) but weight "
        "(10, 100) expects 100 on the last axis",
        "shapes up to there (the last ones):",
        "  0.0 (Conv2d): (2, 8, 6, 6)",
        "  0.1 (ReLU): (2, 8, 6, 6)",
        "  1 (Flatten): (2, 288)",
    ]
    with pytest.raises(ValueError, match=r"in its own forward: AttributeError"):
        count(type("Broken", (nn.Module,), {"forward": lambda self, x: x.nothing})(), (3,))
