"""The comparison with PyTorch: twins agree, whatever is wrong is found, and nothing changes."""

import sys

import numpy as np
import pytest

import minidl
from minidl.interop import compare_with_torch


def build(nn):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch


X = np.random.default_rng(0).standard_normal((4, 3, 4, 4))
Y = np.array([0, 4, 2, 2])


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": Y},
        {"target": Y, "steps": 5, "sgd": {"lr": 0.05, "weight_decay": 1e-2, "nesterov": True}},
        {"target": np.ones((4, 5)), "loss": "mse_loss", "steps": 1},
    ],
)
def test_twins_agree(torch, options, double):
    report = compare_with_torch(build(minidl.nn), build(torch.nn), X, double=double, **options)
    assert report.relative < (1e-10 if double else 1e-4)
    names = {(row.what, row.name) for row in report.rows}
    after = "after 1 step" if options.get("steps") == 1 else f"after {options.get('steps', 3)} steps"
    assert names >= {("output", ""), ("loss", ""), ("gradient", "input"), ("gradient", "0.weight")}
    assert names >= {("buffer", "1.running_var"), (f"weight {after}", "4.bias"), (f"buffer {after}", "1.running_mean")}
    assert [row.relative for row in report.rows] == sorted((row.relative for row in report.rows), reverse=True)
    table = str(report).splitlines()
    assert table[0].split() == ["what", "name", "shape", "absolute", "relative"] and len(table) == 1 + len(names)


def test_nothing_changes(torch):
    ours, theirs = build(minidl.nn), build(torch.nn)
    ours(minidl.tensor(X, dtype=minidl.float32)).sum().backward()
    before = {name: value.numpy().copy() for name, value in ours.state_dict().items()}
    grads = {name: p.grad.numpy().copy() for name, p in ours.named_parameters()}
    twin = {name: value.numpy().copy() for name, value in theirs.state_dict().items()}
    drawn, drawn_there = minidl.get_rng_state(), torch.get_rng_state()
    compare_with_torch(ours, theirs, X, target=Y, double=True)
    for name, value in ours.state_dict().items():
        assert value.dtype == before[name].dtype
        np.testing.assert_array_equal(value.numpy(), before[name])
        np.testing.assert_array_equal(theirs.state_dict()[name].numpy(), twin[name])
    for name, p in ours.named_parameters():
        np.testing.assert_array_equal(p.grad.numpy(), grads[name])
    assert all(p.grad is None and p.dtype == torch.float32 for p in theirs.parameters())
    assert minidl.get_rng_state() == drawn and torch.equal(torch.get_rng_state(), drawn_there)


def test_evaluation_mode(torch):
    ours, theirs = build(minidl.nn).eval(), build(torch.nn)
    report = compare_with_torch(ours, theirs, minidl.tensor(X), steps=0, double=True)
    assert report.relative < 1e-10 and theirs.training
    assert not report.of("weight") and all(row.absolute == 0 for row in report.of("buffer"))
    assert compare_with_torch(ours, theirs, torch.tensor(X), steps=0, double=True).rows == report.rows


def test_what_differs_is_found(torch):
    theirs = build(torch.nn)

    def worst(model, **options):
        return compare_with_torch(model, theirs, X, target=Y, double=True, **options)

    other = build(minidl.nn)
    other[1].momentum = 0.11
    assert {row.name for row in worst(other).rows if row.relative > 1e-10} == {"1.running_mean", "1.running_var"}
    other = build(minidl.nn)
    other[1].eps = 1.01e-5
    assert 1e-9 < worst(other).of("output")[0].relative < 1e-4

    class Wrong(minidl.nn.Module):
        """The right values, and a gradient that is 0.1 % off."""

        def forward(self, x):
            return x * 1.001 - x.detach() * 0.001

    other = build(minidl.nn)
    other[3] = minidl.nn.Sequential(minidl.nn.Flatten(), Wrong())
    report = worst(other, steps=0)
    assert report.of("output")[0].relative < 1e-10
    wrong = {row.name: row.relative for row in report.of("gradient")}
    assert all(5e-4 < wrong[name] < 2e-3 for name in ("input", "0.weight", "1.weight", "1.bias"))
    assert wrong["4.weight"] < 1e-10


def test_nan_on_one_side_is_the_worst(torch):
    class Broken(minidl.nn.Linear):
        def forward(self, x):
            return super().forward(x) * float("nan")

    report = compare_with_torch(Broken(3, 2), torch.nn.Linear(3, 2), X[:, :, 0, 0], steps=0)
    assert report.of("output")[0].absolute == np.inf and report.relative == np.inf
    both = compare_with_torch(minidl.nn.Linear(3, 2), torch.nn.Linear(3, 2), np.full((2, 3), np.nan), steps=0)
    assert both.of("output")[0].absolute == 0


def test_wrong_arguments(torch):
    ours, theirs = minidl.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    x = X[:, :, 0, 0]
    with pytest.raises(RuntimeError, match=r"weight has shape \(4, 3\), expected \(2, 3\)"):
        compare_with_torch(ours, torch.nn.Linear(3, 4), x)
    with pytest.raises(RuntimeError, match="unexpected keys: 0.weight"):
        compare_with_torch(ours, torch.nn.Sequential(theirs), x)
    with pytest.raises(ValueError, match="steps must be an integer >= 0, got -1"):
        compare_with_torch(ours, theirs, x, steps=-1)
    with pytest.raises(ValueError, match="loss must be a function .* got 'no_loss'"):
        compare_with_torch(ours, theirs, x, target=Y, loss="no_loss")
    with pytest.raises(ValueError, match="loss 'mse_loss' needs a target"):
        compare_with_torch(ours, theirs, x, loss="mse_loss")

    class Pair(minidl.nn.Linear):
        def forward(self, x):
            return x, x

    with pytest.raises(TypeError, match="must return one Tensor, got tuple"):
        compare_with_torch(Pair(3, 2), theirs, x)

    class Turned(minidl.nn.Linear):
        def forward(self, x):
            return super().forward(x).T

    with pytest.raises(ValueError, match=r"output has shape \(2, 4\), PyTorch's has \(4, 2\)"):
        compare_with_torch(Turned(3, 2), theirs, x)


def test_without_pytorch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'minidl\[torch\]'"):
        compare_with_torch(minidl.nn.Linear(3, 2), None, X)
