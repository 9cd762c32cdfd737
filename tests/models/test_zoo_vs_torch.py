"""Every family of networks against the same tables written in PyTorch: names, outputs, all gradients, both modes."""

import re

import numpy as np
import pytest
from judges import relative_error

import minidl
from minidl import models, nn

torch = pytest.importorskip("torch")
import torch_twins as twins  # noqa: E402 (it needs torch)

SIZE = {"imagenet": (3, 64, 64), "cifar": (3, 32, 32), "mnist": (1, 28, 28)}


def resnet(depth, thin=8, **options):
    """With an eighth of the channels, which takes a fiftieth of the time: the widths are held by the counts."""

    def build(monkeypatch):
        stages = [(output, channels // thin, stride) for output, channels, stride in minidl.models.resnet.STAGES]
        monkeypatch.setattr(minidl.models.resnet, "STAGES", stages)
        twin_options = {"small_images" if k == "cifar_stem" else k: v for k, v in options.items()}
        return models.ResNet(depth, 10, **options), twins.ResNet(depth, 10, thin=thin, **twin_options)

    return build


def cifar(n, shortcut):
    return lambda _: (models.ResNetCIFAR(n, shortcut=shortcut), twins.ResNetCIFAR(n, shortcut))


def vgg(configuration, batch_norm, thin=8):
    """An eighth of the channels and linear layers of 32 instead of 4,096 units."""

    def build(monkeypatch):
        layers = minidl.models.vgg.LAYERS[configuration]
        layers = re.sub(r"-(\d+)", lambda width: f"-{int(width[1]) // thin}", layers)
        monkeypatch.setitem(minidl.models.vgg.LAYERS, configuration, layers)
        net = models.VGG(configuration, 10, batch_norm=batch_norm, dropout=0.0)
        for place, (inputs, outputs) in {0: (512 // thin * 49, 32), 3: (32, 32), 6: (32, 10)}.items():
            net.classifier[place] = nn.Linear(inputs, outputs)
        return net, twins.VGG(configuration, 10, batch_norm, 32, thin)

    return build


# fmt: off
CASES = {  # name: (size of images, build a pair)
    "resnet18":             ("imagenet", resnet(18, thin=1)),
    "resnet18 C":           ("imagenet", resnet(18, shortcut="C")),
    "resnet34 A":           ("imagenet", resnet(34, shortcut="A")),
    "resnet34 conv3x3":     ("imagenet", resnet(34, shortcut="conv3x3")),
    "plain34":              ("imagenet", resnet(34, shortcut=None)),
    "resnet50":             ("imagenet", resnet(50, thin=2)),
    "resnet50 A, stride in 1x1": ("imagenet", resnet(50, shortcut="A", stride_in_1x1=True)),
    "resnet101, stride in 1x1":  ("imagenet", resnet(101, stride_in_1x1=True)),
    "resnet152":            ("imagenet", resnet(152)),
    "resnet18, small images":    ("cifar", resnet(18, cifar_stem=True)),
    "resnet50, small images":    ("cifar", resnet(50, cifar_stem=True)),
    "resnet20 A":           ("cifar",    cifar(3, "A")),
    "resnet20 conv3x3":     ("cifar",    cifar(3, "conv3x3")),
    "resnet56 A":           ("cifar",    cifar(9, "A")),
    "plain56":              ("cifar",    cifar(9, None)),
    "vgg A, all channels":  ("imagenet", vgg("A", False, thin=1)),
    **{f"vgg {c}":         ("imagenet", vgg(c, False)) for c in twins.VGGS},
    **{f"vgg {c} BN":      ("imagenet", vgg(c, True)) for c in ("A", "C", "E")},
    "vgg E for CIFAR":      ("cifar",    lambda _: (models.VGGCIFAR("E"), twins.VGG("E", 10, True, hidden=None))),
    "lenet":                ("mnist",    lambda _: (models.lenet(), twins.LeNet())),
    "lenet of Caffe":       ("mnist",    lambda _: (models.lenet_caffe(), twins.LeNetCaffe())),
}
# fmt: on


def fill(net, rng):
    """Weights that keep the variance, and BN whose four vectors matter."""
    for name, value in net.state_dict().items():
        last = name.rpartition(".")[2]
        if last == "num_batches_tracked":
            continue
        if value.ndim > 1:
            new = rng.standard_normal(value.shape) * np.sqrt(2 / np.prod(value.shape[1:]))
        elif last in ("weight", "running_var"):
            new = rng.uniform(0.5, 1.5, value.shape)
        else:
            new = 0.1 * rng.standard_normal(value.shape)
        value.copy_(new)


def share_weights(ours, theirs):
    """The same weights in float64; strict: the names must be the same ones."""
    state = {name: torch.from_numpy(value.numpy().copy()) for name, value in ours.state_dict().items()}
    theirs.to_empty(device="cpu").double().load_state_dict(state)
    assert list(theirs.state_dict()) == list(state)


def run(library, net, x, dy):
    """Outputs and all gradients of Σ y dy."""
    net.zero_grad()
    y = net(library.tensor(x))
    (y * library.tensor(dy)).sum().backward()
    return np.asarray(y.detach()), {name: np.asarray(p.grad) for name, p in net.named_parameters()}


def largest_error(mine, other):
    """Of the output and of each gradient, relative to the largest number in the gradients of the same layer.

    (The bias of a convolution before BN has a gradient of 0, of which only rounding is left.)
    """
    errors = [relative_error(mine[0], other[0])]
    assert list(mine[1]) == list(other[1])
    scale = {}
    for name, g in other[1].items():
        layer = name.rpartition(".")[0]
        scale[layer] = max(scale.get(layer, 0), np.abs(g).max())
    for name, g in other[1].items():
        assert g.shape == mine[1][name].shape
        errors.append(np.abs(mine[1][name] - g).max() / scale[name.rpartition(".")[0]])
    return max(errors)


@pytest.fixture
def no_drawing(monkeypatch):
    """Weights are given by `fill` afterwards."""
    for name in ("uniform_", "normal_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_: tensor)


@pytest.mark.parametrize("name", CASES)
def test_names_outputs_and_gradients(name, no_drawing, monkeypatch):
    size, build = CASES[name]
    rng = np.random.default_rng(3)
    with torch.device("meta"):
        ours, theirs = build(monkeypatch)
    ours.double()
    fill(ours, rng)
    share_weights(ours, theirs)
    x, dy = rng.standard_normal((2, *SIZE[size])), rng.standard_normal((2, 10))
    for mode in (True, False):
        ours.train(mode), theirs.train(mode)
        error = largest_error(run(minidl, ours, x, dy), run(torch, theirs, x, dy))
        assert error < 1e-9, f"training {mode}: {error:.1e}"
    for key, value in theirs.state_dict().items():
        if "running" in key:
            assert relative_error(ours.state_dict()[key].numpy(), value.numpy()) < 1e-9, key


def test_the_judge_sees_a_wrong_gradient():
    x, dy = np.random.default_rng(0).standard_normal((2, 1, 28, 28)), np.ones((2, 10))
    net = models.lenet().double()
    mine = run(minidl, net, x, dy)
    other = (mine[0], {name: g.copy() for name, g in mine[1].items()})
    other[1]["conv1.weight"][3, 0, 2, 2] += 1e-6 * np.abs(other[1]["conv1.weight"]).max()
    assert largest_error(mine, mine) == 0
    assert 1e-7 < largest_error(mine, other) < 1e-5


def test_dropout_of_lenet():
    """In training, with the mask that was drawn, outputs and gradients are PyTorch's; in evaluation nothing drops."""
    ours, theirs = models.lenet_dropout().double(), twins.LeNet().double()
    theirs.load_state_dict({name: torch.from_numpy(value.numpy().copy()) for name, value in ours.state_dict().items()})
    rng, drawn = np.random.default_rng(0), []
    handle = ours.dropout.register_forward_hook(lambda module, inputs, y: drawn.append((inputs[0], y)))
    x, dy = rng.standard_normal((4, 1, 28, 28)), rng.standard_normal((4, 10))
    mine = run(minidl, ours, x, dy)
    before, after = (t.detach().numpy() for t in drawn[0])
    active = before != 0
    factors = after[active] / before[active]
    assert set(factors.round(12)) == {0.0, 2.0}
    assert abs(np.mean(factors == 0) - 0.5) < 0.05
    theirs.mask = torch.from_numpy(np.where(active, after / np.where(active, before, 1), 0))
    assert largest_error(mine, run(torch, theirs, x, dy)) < 1e-9
    handle.remove()
    ours.eval()
    theirs.mask = 1
    assert largest_error(run(minidl, ours, x, dy), run(torch, theirs, x, dy)) < 1e-9
