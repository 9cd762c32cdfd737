"""trace: one training step, step by step, against a backward pass; the network stays as it was."""

import sys
import types

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.nn import functional as F
from minidl.study import Explanation, trace


def network():
    minidl.manual_seed(3)
    layers = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(12, 4)
    return nn.Sequential(*layers)


def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((5, 2, 4, 4)).astype(np.float32), np.array([0, 3, 1, 2, 1])


def test_forward_then_backward_in_reverse():
    found = trace(network(), *batch())
    names = [step.name for step in found]
    assert names[:6] == ["conv2d", "batch_norm", "relu", "dropout", "reshape", "linear"]
    assert len(found) == 2 * found.forward and names[found.forward :] == names[: found.forward][::-1]
    assert [step.number for step in found] == list(range(len(found)))
    assert [step.path for step in found[:6]] == list("012345")
    assert all(not step.backward for step in found[: found.forward])
    assert all(not step.forward and step.backward for step in found[found.forward :])


def test_values_are_those_of_a_training_step():
    model, (x, y) = network(), batch()
    state = minidl.get_rng_state()
    found = trace(model, x, y)
    minidl.set_rng_state(state)
    loss = F.cross_entropy(model(minidl.tensor(x)), minidl.tensor(y))
    loss.backward()
    assert found.loss == loss.item()
    gradients = {(step.path, line.name): line.value for step in found for line in step.backward}
    for path, name, p in (
        *(("0", "dweight", model[0].weight), ("0", "dbias", model[0].bias)),
        *(("1", "dgamma", model[1].weight), ("1", "dbeta", model[1].bias), ("5", "dweight", model[5].weight)),
    ):
        np.testing.assert_array_equal(gradients[path, name], p.grad.numpy())
    assert gradients["0", "dx"].shape == x.shape


def test_the_model_is_left_as_it_was():
    model, (x, y) = network(), batch()
    model[5].eval()
    model[0].weight.grad = minidl.ones(3, 2, 3, 3)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = {name: (t, t.array.copy(), t.memory.changes) for name, t in tensors.items()}
    state = minidl.get_rng_state()
    mine = minidl.tensor(x, requires_grad=True)
    trace(model, mine, y)
    for name, t in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        same, array, changes = before[name]
        assert t is same and t.memory.changes == changes
        np.testing.assert_array_equal(t.array, array)
    assert repr(minidl.get_rng_state()) == repr(state)
    assert mine.grad is None and model[0].bias.grad is None
    np.testing.assert_array_equal(model[0].weight.grad.numpy(), 1)
    assert [m.training for m in model] == [True] * 5 + [False]


def test_the_table_and_one_step():
    found = trace(network(), *batch())
    text = str(found)
    assert text.splitlines()[0] == "one training step" and f"loss {found.loss:.6g}; " in text
    row = next(line for line in text.splitlines() if "forward   conv2d" in line).split()
    y = found[0].forward[-1].value
    assert row[:6] == ["0", "forward", "conv2d", "0", "y", "5×3×2×2"]
    assert row[6:] == [f"{v:.4g}" for v in (y.min(), y.mean(dtype=float), y.max(), y.std(dtype=float))]
    norm = next(i for i, step in enumerate(found) if step.name == "batch_norm" and step.backward)
    for name in ("dx_hat", "dvar", "dmean", "dgamma", "dbeta"):
        assert f" {name} " in text
    one = found.step(norm)
    assert isinstance(one, Explanation)
    assert f"{norm}  batch_norm" in str(one) and "differs from autograd" in str(one) and "forward\n" not in str(one)
    assert "<table>" in found._repr_html_()
    assert str(found.step(-1)) == str(found.step(len(found) - 1))
    with pytest.raises(IndexError, match=rf"from 0 to {len(found) - 1}, got {len(found)}"):
        found.step(len(found))


def test_what_is_not_finite_stands_out():
    found = trace(nn.Linear(2, 1), np.ones((3, 2), np.float32), None, lambda out, _: (out / 0).sum())
    table = found.table()
    assert table.marked and all("Inf" in table.rows[i][-1] or "NaN" in table.rows[i][-1] for i in table.marked)


def test_own_criterion_and_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, a, b):
            return self.layer(a) * b

    a, b = np.ones((3, 2), np.float32), np.full((3, 1), 2, np.float32)
    found = trace(Two(), (a, b), np.zeros((3, 1), np.float32), F.mse_loss)
    assert found[0].path == "layer" and found[1].name == "multiply"


def test_bad_calls():
    model, x = nn.Linear(2, 2), np.ones((1, 2), np.float32)
    for call, error, text in (
        (lambda: trace(3, x, 0), TypeError, "model must be a Module, got int"),
        (lambda: trace(model, x, 0, lambda out, y: out), ValueError, r"single number, got shape \(1, 2\)"),
        (lambda: trace(model, x, 0, lambda out, y: 3.0), ValueError, "got float"),
        (lambda: trace(model, x, 0, lambda out, y: out.detach().sum()), ValueError, "no graph was recorded"),
    ):
        with pytest.raises(error, match=text):
            call()


def test_the_slider_turns_the_page(monkeypatch):
    class Widget(types.SimpleNamespace):
        def observe(self, hook, names):
            assert names == "value"
            self.hook = hook

    parts = {name: Widget for name in ("IntSlider", "HTMLMath")}
    widgets = types.SimpleNamespace(VBox=lambda children: children, **parts)
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    found = trace(nn.Linear(2, 2), np.ones((1, 2), np.float32), np.array([0]))
    slider, page = found.slider()
    assert (slider.min, slider.max) == (0, len(found) - 1)
    assert page.value == found.step(0)._repr_html_()
    slider.hook({"new": 2})
    assert page.value == found.step(2)._repr_html_()


def test_without_ipywidgets_the_slider_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    found = trace(nn.Linear(2, 2), np.ones((1, 2), np.float32), np.array([0]))
    with pytest.raises(ImportError, match=r"pip install 'minidl\[notebooks\]'"):
        found.slider()
