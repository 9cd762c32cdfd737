"""Optimisers and schedules against PyTorch's: whole trajectories, also across a state dict."""

import itertools
import json

import numpy as np
import pytest

import minidl

torch = pytest.importorskip("torch")
STEPS = 24
SHAPES = [(4, 3), (5,), ()]
RNG = np.random.default_rng(0)
STARTS = [RNG.standard_normal(s) for s in SHAPES]
GRADIENTS = [[RNG.standard_normal(s) for s in SHAPES] for _ in range(STEPS)]


def options():
    for momentum, dampening, decay, nesterov, maximize in itertools.product(
        (0, 0.9), (0, 0.3), (0, 0.05), (False, True), (False, True)
    ):
        if not (nesterov and (momentum == 0 or dampening)):
            yield dict(momentum=momentum, dampening=dampening, weight_decay=decay, nesterov=nesterov, maximize=maximize)


def trajectory(library, build, reload_at=None, schedule=None):
    """The parameters and the options of all groups after every step."""
    params = [library.tensor(s, dtype=library.float64, requires_grad=True) for s in STARTS]
    optimizer = build(library, params)
    scheduler = schedule and schedule(library, optimizer)
    path = []
    for step, gradients in enumerate(GRADIENTS):
        if step == reload_at:
            state = optimizer.state_dict()
            position = scheduler and scheduler.state_dict()
            params = [library.tensor(np.asarray(p.detach()), requires_grad=True) for p in params]
            optimizer = build(library, params)
            scheduler = schedule and schedule(library, optimizer)
            optimizer.load_state_dict(state)
            if scheduler:
                scheduler.load_state_dict(json.loads(json.dumps(position)) if library is minidl else position)
        for i, (p, g) in enumerate(zip(params, gradients, strict=True)):
            # One parameter has no gradient in every third step, and keeps its place and velocity.
            p.grad = None if i == 1 and step % 3 == 1 else library.tensor(g, dtype=library.float64)
        optimizer.step()
        if scheduler:
            scheduler.step()
        numbers = [[g[k] for k in ("lr", "momentum")] for g in optimizer.param_groups]
        path.append((np.concatenate([np.ravel(np.asarray(p.detach())) for p in params]), np.array(numbers)))
    return path


def assert_same_path(ours, theirs):
    for step, ((p, n), (q, m)) in enumerate(zip(ours, theirs, strict=True)):
        np.testing.assert_allclose(p, q, rtol=1e-10, atol=1e-12, err_msg=f"parameters after step {step}")
        np.testing.assert_allclose(n, m, rtol=1e-12, atol=1e-15, err_msg=f"lr and momentum after step {step}")


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "texts"])
@pytest.mark.parametrize("reload_at", [None, 10])
@pytest.mark.parametrize("chosen", list(options()), ids=str)
def test_sgd(chosen, reload_at, kernels):
    with minidl.use_kernels(kernels):
        ours = trajectory(minidl, lambda lib, params: lib.optim.SGD(params, lr=0.1, **chosen), reload_at)
    assert_same_path(ours, trajectory(torch, lambda lib, params: lib.optim.SGD(params, lr=0.1, **chosen), reload_at))


def grouped(library, params):
    groups = [{"params": params[:1], "lr": 0.3, "weight_decay": 0.1}, {"params": params[1:], "momentum": 0.5}]
    return library.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)


def one_group(library, params):
    return library.optim.SGD(params, lr=0.05, momentum=0.9)


SCHEDULES = {
    "MultiStepLR": lambda lib, o: lib.optim.lr_scheduler.MultiStepLR(o, [5, 11, 11, 20], gamma=0.3),
    "MultiStepLR defaults": lambda lib, o: lib.optim.lr_scheduler.MultiStepLR(o, milestones=[8]),
    "OneCycleLR": lambda lib, o: lib.optim.lr_scheduler.OneCycleLR(o, 0.4, total_steps=STEPS + 1),
    "OneCycleLR by epochs": lambda lib, o: lib.optim.lr_scheduler.OneCycleLR(o, 0.4, epochs=5, steps_per_epoch=6),
    "OneCycleLR linear": lambda lib, o: lib.optim.lr_scheduler.OneCycleLR(
        o, 0.4, total_steps=30, pct_start=0.45, anneal_strategy="linear", div_factor=10, final_div_factor=7.0
    ),
    "OneCycleLR no momentum": lambda lib, o: lib.optim.lr_scheduler.OneCycleLR(
        o, 0.4, total_steps=30, cycle_momentum=False
    ),
    "OneCycleLR momenta": lambda lib, o: lib.optim.lr_scheduler.OneCycleLR(
        o, 0.4, total_steps=30, base_momentum=0.5, max_momentum=0.99, pct_start=0.1
    ),
    "OneCycleLR three phases": lambda lib, o: lib.optim.lr_scheduler.OneCycleLR(
        o, 0.4, total_steps=30, three_phase=True, pct_start=0.3
    ),
    "OneCycleLR pct 0": lambda lib, o: lib.optim.lr_scheduler.OneCycleLR(o, 0.4, total_steps=30, pct_start=0.0),
}


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")  # PyTorch's of a schedule reloaded before a step
@pytest.mark.parametrize("reload_at", [None, 10])
@pytest.mark.parametrize("build", [one_group, grouped])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name, build, reload_at):
    ours = trajectory(minidl, build, reload_at, SCHEDULES[name])
    assert_same_path(ours, trajectory(torch, build, reload_at, SCHEDULES[name]))


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
def test_one_peak_per_group_and_the_end_of_the_cycle():
    rates = []
    for library in (minidl, torch):
        params = [library.zeros(2, requires_grad=True) for _ in range(2)]
        optimizer = library.optim.SGD([{"params": [p]} for p in params], lr=0.1, momentum=0.9)
        schedule = library.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[0.1, 1.0], total_steps=10)
        path = [schedule.get_last_lr()]
        for _ in range(9):
            optimizer.step()
            schedule.step()
            path.append(schedule.get_last_lr())
        rates.append(path)
        schedule.step()  # PyTorch allows this one
        with pytest.raises(ValueError, match="1[01]"):
            schedule.step()
    np.testing.assert_allclose(*rates, rtol=1e-12)


def test_state_dicts_have_one_form():
    states = []
    for library in (minidl, torch):
        params = [library.zeros(2, requires_grad=True) for _ in range(3)]
        optimizer = library.optim.SGD([{"params": params[:2]}, {"params": params[2:], "lr": 1.0}], momentum=0.9)
        params[2].grad = library.ones(2)
        optimizer.step()
        states.append(optimizer.state_dict())
    ours, theirs = states
    assert ours.keys() == theirs.keys() and ours["state"].keys() == theirs["state"].keys() == {2}
    for mine, other in zip(ours["param_groups"], theirs["param_groups"], strict=True):
        assert mine.items() <= other.items()
