"""Recording training: the figures against NumPy's, the file, the pictures, and that training does not notice."""

import contextlib

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.study.compare_recordings import draw_recordings
from minidl.study.recorder import Recorder
from minidl.study.recording import QUANTILES, Recording

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.conv(x))).mean((2, 3)))


def train(steps, every=None):
    minidl.manual_seed(0)
    model, rng = Small(), np.random.default_rng(0)
    optimizer = minidl.optim.SGD(model.parameters(), lr=0.1)
    recorder = Recorder(model, every or steps + 1)
    x, y = minidl.from_numpy(rng.standard_normal((8, 2, 5, 5)).astype(np.float32)), minidl.tensor(np.arange(8) % 3)
    for _ in range(steps):
        if every is None:
            step(model, optimizer, x, y)
        else:
            with recorder.step():
                step(model, optimizer, x, y)
    return model, recorder.recording, x


def step(model, optimizer, x, y):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def test_every_third_step_is_recorded_by_layer():
    _, recording, _ = train(7, every=3)
    assert recording.steps == [0, 3, 6]
    assert list(recording.layers["activation"]) == ["conv", "bn", ":relu", "fc"]
    assert sorted(recording.layers["gradient"]) == sorted(recording.layers["activation"])
    assert list(recording.parameters) == [name for name, _ in Small().named_parameters()]
    assert recording.layer("activation", "conv")["quantiles"].shape == (3, len(QUANTILES))


def test_training_does_not_notice():
    plain, recorded = (train(5, every)[0].state_dict() for every in (None, 1))
    for name, value in plain.items():
        np.testing.assert_array_equal(value.numpy(), recorded[name].numpy(), err_msg=name)


def test_figures_are_those_of_numpy():
    minidl.manual_seed(0)
    model, (_, recording, x) = Small(), train(1, every=1)
    y = model.conv(x).detach().numpy()
    found = {name: values[0] for name, values in recording.layer("activation", "conv").items()}
    np.testing.assert_allclose([found["mean"], found["std"]], [y.mean(), y.std()], rtol=1e-5)
    np.testing.assert_allclose(found["norm"], np.linalg.norm(y), rtol=1e-5)
    np.testing.assert_allclose(found["quantiles"], np.quantile(y, QUANTILES, method="nearest"), rtol=1 / 120)
    assert found["histogram"].sum() == y.size and found["dead"] == 0
    weight = recording.parameters["fc.weight"]
    update = 0.1 * weight["gradient"][0] / weight["norm"][0]
    assert weight["update"][0] == pytest.approx(update, rel=1e-4)


def test_dead_units_are_counted_by_channel():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU())
    with minidl.no_grad():
        model[0].weight.fill_(0)
        model[0].bias.copy_(minidl.tensor([1.0, -1.0, -1.0, 2.0]))
    recorder = Recorder(model)
    with recorder.step():
        model(minidl.randn(3, 1, 2, 2)).sum().backward()
    assert recorder.recording.layer("activation", "1")["dead"].tolist() == [0.5]


def test_files_hold_everything(tmp_path):
    _, recording, _ = train(4, every=2)
    recording.save(tmp_path / "run.npz")
    loaded = Recording.load(tmp_path / "run.npz")
    assert loaded.steps == recording.steps and loaded.bins == recording.bins and loaded.every == 2
    assert loaded.operations == recording.operations
    assert loaded.layers.keys() == recording.layers.keys() and loaded.parameters.keys() == recording.parameters.keys()
    for kind, layers in recording.layers.items():
        for layer in layers:
            for name, values in recording.layer(kind, layer).items():
                np.testing.assert_array_equal(loaded.layer(kind, layer)[name], values)


def test_half_a_step_is_forgotten():
    model = Small()
    recorder = Recorder(model, every=1)
    for fails in (False, True, False):
        with contextlib.suppress(ZeroDivisionError), recorder.step():
            F.cross_entropy(model(minidl.randn(8, 2, 5, 5)), minidl.tensor(np.arange(8) % 3)).backward()
            if fails:
                raise ZeroDivisionError
    assert recorder.recording.steps == [0, 2]
    assert recorder.recording.layer("gradient", "conv")["steps"].tolist() == [0, 2]
    assert all(len(values["norm"]) == 2 for values in recorder.recording.parameters.values())


def test_steps_are_forgotten_from_a_number_on():
    recording, shorter = train(7, every=3)[1], train(4, every=3)[1]
    recording.forget(4)
    assert recording.steps == shorter.steps == [0, 3] and recording.parameters == shorter.parameters
    for kind, layers in shorter.layers.items():
        for layer in layers:
            for name, values in shorter.layer(kind, layer).items():
                np.testing.assert_array_equal(recording.layer(kind, layer)[name], values)
    recording.forget(0)
    assert not recording.steps and not recording.parameters and not recording.names()


def test_layers_are_in_the_order_of_the_forward_pass():
    recording = train(1, every=1)[1]
    assert recording.names("gradient") == recording.names() == ["conv", "bn", ":relu", "fc"]
    assert recording.operations == {"conv": "conv2d", "bn": "batch_norm", ":relu": "relu", "fc": "linear"}


def test_names_may_hold_any_sign(tmp_path):
    model = nn.Sequential()
    model.add_module("a|b/c é", nn.Linear(2, 2))
    recorder = Recorder(model)
    with recorder.step():
        model(minidl.randn(3, 2)).sum().backward()
    recorder.save(tmp_path / "run.npz")
    assert Recording.load(tmp_path / "run.npz").names("gradient") == ["a|b/c é"]


def test_a_damaged_file_is_refused(tmp_path):
    train(1, every=1)[1].save(tmp_path / "run.npz")
    content = (tmp_path / "run.npz").read_bytes()
    for broken in (content[: len(content) // 2], content[:200] + b"\xff" * 50 + content[250:]):
        (tmp_path / "run.npz").write_bytes(broken)
        with pytest.raises(ValueError, match="not a recording of minidl"):
            Recording.load(tmp_path / "run.npz")
    with open(tmp_path / "run.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="not a recording of minidl"):
        Recording.load(tmp_path / "run.npz")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a recording"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "run.npz").write_bytes(content)
    with pytest.raises(ValueError, match="not a recording of minidl"):
        Recording.load(tmp_path / "run.npz")


def test_pictures():
    _, recording, _ = train(4, every=1)
    assert len(recording.ribbons().axes) == 4
    assert len(recording.histograms("bn", "gradient", count=3).get_yticks()) == 3
    line = recording.by_depth().lines[0]
    assert len(line.get_xdata()) == 2 and np.all(line.get_ydata() > 0)
    assert len(recording.update_ratios().lines) == 3 + 1
    recording.dead_units()
    recording.ribbon("conv", "gradient")
    matplotlib.pyplot.close("all")


def test_depth_without_weighted_layers():
    model = Small()
    recorder = Recorder(model, operations=("batch_norm", "relu"))
    with recorder.step():
        model(minidl.randn(8, 2, 5, 5)).sum().backward()
    axes = recorder.recording.by_depth("std", "activation")
    assert len(axes.lines[0].get_xdata()) == 2 and axes.get_xlabel() == "operation, from the input on"
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize(
    "what, panels", [("activations", 8), ("gradients", 8), ("depth", 2), ("updates", 2), ("dead", 2)]
)
def test_recordings_beside_each_other(what, panels):
    recordings = {"one": train(4, every=1)[1], "two": train(5, every=2)[1]}
    figure = draw_recordings(recordings, what)
    figure.canvas.draw()
    assert len(figure.axes) == panels
    if what != "depth":  # equal scales in each row
        limits = [ax.get_ylim() for ax in figure.axes]
        assert limits[::2] == limits[1::2]
    else:
        assert [line.get_label() for line in figure.axes[0].lines] == [
            "one, step 0", "one, step 3", "two, step 0", "two, step 4"
        ]  # fmt: skip
        norms = [recordings["two"].layer("gradient", name)["norm"][-1] for name in ("conv", "fc")]
        np.testing.assert_array_equal(figure.axes[0].lines[3].get_ydata(), norms)


def test_one_layer_with_histograms():
    recording = train(4, every=1)[1]
    figure = draw_recordings({"a": recording, "b": recording, "c": recording}, "gradients", "bn")
    figure.canvas.draw()
    assert len(figure.axes) == 6 and figure.axes[3].get_xlim() == figure.axes[5].get_xlim()


def test_dead_channels_are_drawn():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU())
    with minidl.no_grad():
        model[0].bias.fill_(-100)
    recorder = Recorder(model)
    with recorder.step():
        model(minidl.randn(3, 1, 2, 2)).sum().backward()
    (line,) = recorder.recording.dead_units().lines
    assert line.get_label() == "1" and line.get_ydata().tolist() == [1.0]
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda r: Recorder(Small(), every=0), "every must be"),
        (lambda r: r.layer("weights", "conv"), "kind must be"),
        (lambda r: r.layer("activation", "nothing"), "there are conv, bn"),
        (lambda r: r.by_depth("magic"), "statistic must be"),
        (lambda r: draw_recordings({}), "at least one"),
        (lambda r: draw_recordings({"a": Recording()}), "'a' holds no step"),
        (lambda r: draw_recordings({"a": r}, "magic"), "what must be"),
        (lambda r: draw_recordings({"a": r}, "depth", "conv"), "layer is for"),
        (lambda r: draw_recordings({"a": r}, "activations", "nope"), "there are conv, bn"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call(train(1, every=1)[1])
