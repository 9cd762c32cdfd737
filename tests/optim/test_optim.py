"""Optimisers and schedules without another library: by hand, state, bad options."""

import numpy as np
import pytest

import minidl
from minidl.optim import SGD
from minidl.optim.lr_scheduler import MultiStepLR, OneCycleLR


def parameter(*values):
    return minidl.tensor(values, dtype=minidl.float64, requires_grad=True)


def test_two_steps_by_hand():
    p = parameter(1.0)
    optimizer = SGD([p], lr=0.1, momentum=0.5, weight_decay=1.0)
    for expected in (1 - 0.1 * (2 + 1), 0.7 - 0.1 * (0.5 * 3 + 2 + 0.7)):
        p.grad = minidl.tensor([2.0], dtype=minidl.float64)
        optimizer.step()
        np.testing.assert_allclose(p.detach().numpy(), [expected], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("momentum", [0, 0.9])
def test_all_parameters_in_one_launch_move_as_by_the_text(momentum, dtype):
    rng = np.random.default_rng(0)
    values, gradients = ([rng.standard_normal(size).astype(dtype) for size in (5, 70_000, 1, 40_000)] for _ in range(2))
    paths = []
    for kernels in (True, False):
        with minidl.use_kernels(kernels):
            params = [minidl.tensor(value, requires_grad=True) for value in values]
            optimizer = SGD(params, lr=0.1, momentum=momentum, weight_decay=0.01, nesterov=momentum > 0)
            for _ in range(2):
                for p, gradient in zip(params, gradients, strict=True):
                    p.grad = minidl.from_numpy(np.repeat(gradient, 2)[::2])  # not contiguous
                optimizer.step()
        paths.append([p.detach().numpy() for p in params])
    for kernel, text, value in zip(*paths, values, strict=True):
        assert not np.allclose(text, value, atol=0.1)
        np.testing.assert_array_equal(kernel, text)


def test_a_step_does_not_change_gradients_or_dtypes():
    p = minidl.ones(3, requires_grad=True)
    p.grad = minidl.full((3,), 0.5)
    SGD([p], lr=np.float64(0.1), momentum=0.9, weight_decay=0.1).step()
    assert p.grad.tolist() == [0.5] * 3 and p.dtype == np.float32


def test_parameters_stay_leaves_and_saved_ones_are_noticed():
    p = parameter(1.0, 2.0)
    loss = (p * p).sum()
    loss.backward(retain_graph=True)
    optimizer = SGD([p], lr=0.1)
    optimizer.step()
    assert p.is_leaf and p.requires_grad
    with pytest.raises(RuntimeError, match="multiply.*changed in place"):
        loss.backward()
    optimizer.zero_grad()
    assert p.grad is None


def test_a_gradient_of_another_shape_is_refused():
    p = parameter(1.0, 2.0)
    p.grad = minidl.ones(1, dtype=minidl.float64)
    with pytest.raises(ValueError, match=r"\(1,\).*\(2,\)"):
        SGD([p], lr=0.1).step()
    assert p.tolist() == [1, 2]


def test_frozen_parameters_stay():
    p, frozen = parameter(1.0), parameter(1.0)
    optimizer = SGD([p, frozen], lr=0.1, weight_decay=1.0)
    p.grad = minidl.ones(1, dtype=minidl.float64)
    optimizer.step()
    assert frozen.item() == 1 and p.item() < 1


def test_step_with_a_closure():
    p = parameter(1.0)
    optimizer = SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p * 3).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    np.testing.assert_allclose(p.item(), 0.7)


def test_a_failed_load_changes_nothing():
    p = parameter(1.0, 2.0)
    optimizer = SGD([p], lr=0.1, momentum=0.9)
    p.grad = minidl.ones(2, dtype=minidl.float64)
    optimizer.step()
    good = optimizer.state_dict()
    group = good["param_groups"][0]
    bad = {
        "groups": {**good, "param_groups": []},
        r"\[2\].*\[1\]": {**good, "param_groups": [{**group, "params": [0, 1]}]},
        "parameter 7": {**good, "state": {7: good["state"][0]}},
        r"\(3,\)": {**good, "state": {0: {"momentum_buffer": minidl.zeros(3)}}},
        "lr.*-1": {**good, "param_groups": [{**group, "lr": -1}]},
        "state": {"param_groups": good["param_groups"]},
    }
    for message, state in bad.items():
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(state)
        assert optimizer.param_groups[0]["lr"] == 0.1
        np.testing.assert_array_equal(optimizer.state[p]["momentum_buffer"].numpy(), [1, 1])


def test_a_loaded_state_is_a_copy():
    p, q = parameter(1.0), parameter(1.0)
    first, second = SGD([p], lr=0.1, momentum=0.9), SGD([q], lr=0.5, momentum=0.1)
    p.grad = q.grad = minidl.ones(1, dtype=minidl.float64)
    first.step()
    second.load_state_dict(first.state_dict())
    second.step()
    assert first.state[p]["momentum_buffer"].item() == 1
    np.testing.assert_allclose(second.state[q]["momentum_buffer"].item(), 1.9)


P = [parameter(1.0)]
BAD = {
    "lr -1": (lambda: SGD(P, lr=-1), ValueError, "lr.*-1"),
    "lr nan": (lambda: SGD(P, lr=float("nan")), ValueError, "lr.*nan"),
    "lr text": (lambda: SGD(P, lr="0.1"), TypeError, "lr.*'0.1'"),
    "momentum -1": (lambda: SGD(P, momentum=-1), ValueError, "momentum.*-1"),
    "weight_decay -1": (lambda: SGD(P, weight_decay=-1), ValueError, "weight_decay.*-1"),
    "nesterov without momentum": (lambda: SGD(P, nesterov=True), ValueError, "nesterov"),
    "nesterov with dampening": (lambda: SGD(P, momentum=0.9, dampening=0.1, nesterov=True), ValueError, "nesterov"),
    "nothing": (lambda: SGD([]), ValueError, "params is empty"),
    "one Tensor": (lambda: SGD(P[0]), TypeError, "list"),
    "a number": (lambda: SGD([3]), TypeError, "int"),
    "a product": (lambda: SGD([P[0] * 2]), ValueError, "leaves"),
    "twice": (lambda: SGD([P[0], P[0]]), ValueError, "twice"),
    "group without params": (lambda: SGD([{"lr": 1}]), ValueError, "params"),
    "an unknown option": (lambda: SGD([{"params": P, "rate": 1}]), ValueError, "rate"),
    "group lr -1": (lambda: SGD([{"params": P, "lr": -1}]), ValueError, "lr.*-1"),
    "milestones unsorted text": (lambda: MultiStepLR(SGD(P), ["a"]), TypeError, "milestones.*'a'"),
    "gamma text": (lambda: MultiStepLR(SGD(P), [1], gamma="x"), TypeError, "gamma.*'x'"),
    "schedule of a model": (lambda: MultiStepLR(3, [1]), TypeError, "optimizer.*int"),
    "no length": (lambda: OneCycleLR(SGD(P, momentum=0.9), 1.0), ValueError, "total_steps"),
    "length 0": (lambda: OneCycleLR(SGD(P, momentum=0.9), 1.0, total_steps=0), ValueError, "total_steps.*0"),
    "length 1.5": (lambda: OneCycleLR(SGD(P, momentum=0.9), 1.0, total_steps=1.5), ValueError, "total_steps.*1.5"),
    "epochs 0": (lambda: OneCycleLR(SGD(P), 1.0, epochs=0, steps_per_epoch=2), ValueError, "epochs.*0"),
    "pct 2": (lambda: OneCycleLR(SGD(P), 1.0, total_steps=5, pct_start=2), ValueError, "pct_start.*2"),
    "strategy": (
        lambda: OneCycleLR(SGD(P), 1.0, total_steps=5, anneal_strategy="x"),
        ValueError,
        "anneal_strategy.*'x'",
    ),
    "two peaks": (lambda: OneCycleLR(SGD(P), [1.0, 2.0], total_steps=5), ValueError, "max_lr"),
    "div_factor 0": (lambda: OneCycleLR(SGD(P), 1.0, total_steps=5, div_factor=0), ValueError, "div_factor.*0"),
}


@pytest.mark.parametrize("call", BAD)
def test_bad_options(call):
    function, kind, message = BAD[call]
    with pytest.raises(kind, match=message):
        function()


def test_text():
    text = repr(SGD(P, lr=0.1, momentum=0.9))
    assert text.startswith("SGD (\nParameter Group 0\n") and "    lr: 0.1\n" in text and text.endswith("\n)")


def test_a_schedules_state_of_another_kind_is_refused():
    one, other = OneCycleLR(SGD(P, momentum=0.9), 1.0, total_steps=5), MultiStepLR(SGD(P), [1])
    with pytest.raises(ValueError, match="milestones"):
        other.load_state_dict(one.state_dict())
