"""Gradient norms against finite differences and PyTorch, what the measurement leaves alone, and covariate shift."""

import matplotlib
import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.models import get_model
from minidl.study.gradient_flow import covariate_shift, deep_mlp, draw_gradient_flow, gradient_norms

matplotlib.use("Agg")

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 3, 5, 5)), np.arange(6) % 4


class Net(nn.Module):
    """Two layers with weights; the output of the first is moved by `shift`, by which one can differentiate."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 4)
        self.drop, self.shift = nn.Dropout(0.5), np.zeros((6, 2, 3, 3))

    def forward(self, x):
        s = self.conv(x) + minidl.tensor(self.shift)
        return self.fc(self.drop(F.relu(self.bn(s)).mean((2, 3))))


def make():
    minidl.manual_seed(0)
    return Net().double()


def test_norms_are_those_of_finite_differences():
    model, h = make(), 1e-6
    rng, gradient = minidl.get_rng_state(), np.zeros(model.shift.shape)
    for place in np.ndindex(gradient.shape):
        for sign in (1, -1):
            minidl.set_rng_state(rng)  # the same units are dropped
            model.shift[place] = sign * h
            loss = F.cross_entropy(model(minidl.tensor(X)), minidl.tensor(Y)).item()
            gradient[place] += sign * loss / (2 * h)
        model.shift[place] = 0
    minidl.set_rng_state(rng)
    norms = gradient_norms(model, X, Y)
    assert list(norms) == ["conv", "fc"]
    np.testing.assert_allclose(norms["conv"], np.linalg.norm(gradient), rtol=1e-5)


def test_nothing_of_the_model_changes():
    model, rng = make(), minidl.get_rng_state()
    model.conv.weight.grad = minidl.ones_like(model.conv.weight)
    kept = model.conv.weight.grad
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    with minidl.no_grad():
        first = gradient_norms(model, X, Y)
    assert gradient_norms(model, X, Y) == first
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)
    assert model.conv.weight.grad is kept and (kept.numpy() == 1).all() and model.fc.weight.grad is None
    assert minidl.get_rng_state() == rng and model.training

    def fail(logits, y):
        raise ArithmeticError("no loss")

    with pytest.raises(ArithmeticError):
        gradient_norms(model, X, Y, fail)
    assert model.conv.weight.grad is kept and model.fc.weight.grad is None and minidl.get_rng_state() == rng
    np.testing.assert_array_equal(model.bn.running_mean.numpy(), before["bn.running_mean"])


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_norms_are_those_of_pytorch(activation):
    torch = pytest.importorskip("torch")
    model = deep_mlp(4, 7, activation, in_features=75, num_classes=4, batch_norm=True).double()
    act = {"sigmoid": torch.nn.Sigmoid, "tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[activation]
    layers = [torch.nn.Flatten()]
    for size in (75, 7, 7, 7):
        layers += [torch.nn.Linear(size, 7, bias=False), torch.nn.BatchNorm1d(7), act()]
    theirs = torch.nn.Sequential(*layers, torch.nn.Linear(7, 4)).double()
    theirs.load_state_dict({name: torch.tensor(value.numpy()) for name, value in model.state_dict().items()})
    seen = {}

    def look(name):
        def hook(layer, inputs, output):
            output.register_hook(lambda dy: seen.__setitem__(name, dy.norm().item()))

        return hook

    for name, layer in theirs.named_children():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(look(name))
    torch.nn.functional.cross_entropy(theirs(torch.tensor(X)), torch.tensor(Y)).backward()
    found = gradient_norms(model, X, Y)
    assert found.keys() == seen.keys() and list(found) == ["1", "4", "7", "10", "13"]
    np.testing.assert_allclose([found[name] for name in seen], list(seen.values()), rtol=1e-9)


def test_sigmoids_lose_the_gradient_and_batch_norm_keeps_it():
    minidl.manual_seed(0)

    def lost(*args, **options):  # first layer's norm relative to the last one's
        norms = list(
            gradient_norms(deep_mlp(12, 30, *args, in_features=75, num_classes=4, **options).double(), X, Y).values()
        )
        assert len(norms) == 13
        return norms[1] / norms[-1]

    assert lost("sigmoid") < 1e-6
    assert lost("sigmoid", batch_norm=True) > 1e-2 and lost("tanh") > 1e-2 and lost("relu") > 1e-2
    assert lost("tanh", gain=3.0) > 5


def test_plain_nets_have_larger_gradients_at_the_front_than_residual_ones():
    minidl.manual_seed(0)
    x, y = RNG.standard_normal((4, 3, 8, 8)).astype(np.float32), np.arange(4)
    plain, residual = (list(gradient_norms(get_model(name), x, y).values()) for name in ("plain20", "resnet20"))
    assert len(plain) == len(residual) == 20
    assert plain[0] / plain[-2] > 2 * residual[0] / residual[-2]


def test_picture():
    models = {"net": make(), "before": {"a": 1.0, "b": 2.0, "c": 4.0}}
    axes = draw_gradient_flow(models, X, Y)
    assert [line.get_label() for line in axes.lines] == ["net", "before"] and axes.get_yscale() == "log"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), list(gradient_norms(models["net"], X, Y).values()))
    assert axes.lines[1].get_xdata().tolist() == [0, 0.5, 1]
    assert draw_gradient_flow({"one": {"a": 1.0}}, axes=axes) is axes
    matplotlib.pyplot.close("all")


def clouds(count, rng):
    y = rng.integers(0, 3, count)
    centres = np.random.default_rng(5).standard_normal((3, 8))
    return (centres[y] + 0.3 * rng.standard_normal((count, 8))).astype(np.float32), y


def test_covariate_shift():
    rng = np.random.default_rng(1)
    data, state = (*clouds(300, rng), *clouds(90, rng)), minidl.get_rng_state()
    shift = covariate_shift(*data, steps=120, every=50, width=10, lr=0.5, batch_size=20)
    assert minidl.get_rng_state() == state
    assert shift.steps.tolist() == [0, 50, 100, 120]
    bare, normed = "without batch norm", "with batch norm"
    assert list(shift.accuracy) == list(shift.percentiles) == [bare, normed]
    assert shift.percentiles[bare].shape == (4, 3, 10) and shift.accuracy[bare].shape == (4,)
    assert shift.accuracy[normed][-1] > 0.95 and shift.accuracy[normed][-1] > shift.accuracy[bare][1]
    for values in shift.percentiles.values():
        assert (np.diff(values, axis=1) > 0).all()  # 15 < 50 < 85
    # γ = 1, β = 0 at first: values of mean 0 and variance 1, so that most of them lie between -1.5 and 1.5
    assert np.abs(shift.percentiles[normed][0]).max() < 2 and np.ptp(shift.percentiles[normed][0], axis=0).min() > 1
    again = covariate_shift(*data, steps=120, every=50, width=10, lr=0.5, batch_size=20)
    np.testing.assert_array_equal(again.percentiles[bare], shift.percentiles[bare])
    moved = np.ptp(shift.percentiles[bare][:, 1], axis=0)
    assert sorted(moved).index(moved[shift.typical(bare)]) == 5

    accuracy, *rest = shift.plot().axes
    assert [line.get_label() for line in accuracy.lines] == [bare, normed]
    for name, ax in zip((bare, normed), rest, strict=True):
        unit = shift.percentiles[name][:, :, shift.typical(name)]
        np.testing.assert_array_equal([line.get_ydata() for line in ax.lines], unit.T)
    assert rest[0].get_ylim() == rest[1].get_ylim()
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: deep_mlp(3, 10, "swish"), "activation must be one of sigmoid, tanh, relu, got 'swish'"),
        (lambda: deep_mlp(0, 10, "relu"), "depth must be a positive integer, got 0"),
        (
            lambda: gradient_norms(nn.ReLU(), X, Y, lambda logits, y: minidl.tensor(0.0, requires_grad=True)),
            "reaches no",
        ),
        (lambda: covariate_shift(X, Y, X[:, :2], Y), r"x_test \(6, 2, 5, 5\) does not fit"),
        (lambda: covariate_shift(X, Y[:3], X, Y), r"x \(6, 3, 5, 5\) does not fit its labels \(3,\)"),
        (lambda: covariate_shift(X, Y, X, Y, steps=0), "steps must be a positive integer, got 0"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()
