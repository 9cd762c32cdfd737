"""The CIFAR networks: sizes computed from the paper's text, shapes, options, initial weights."""

import numpy as np
import pytest

import minidl
from minidl import models, nn

DEPTHS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}


def paper_parameters(n, shortcut="A", classes=10, channels=3):
    """Section 4.2: 3x3 convolutions without bias, two numbers of BN a channel; 16, 32, 64 filters, 2n layers each."""
    total = channels * 16 * 9 + 2 * 16
    before = 16
    for filters in (16, 32, 64):
        for layer in range(2 * n):
            total += (before if layer == 0 else filters) * filters * 9 + 2 * filters
        if shortcut == "C":
            total += n * (filters * filters + 2 * filters) + (before - filters) * filters
        elif shortcut == "B" and before != filters:
            total += before * filters + 2 * filters
        before = filters
    return total + 64 * classes + classes


@pytest.mark.parametrize("name", DEPTHS)
def test_parameters(name):
    net = models.get_model(name)
    count = sum(p.numel() for p in net.parameters())
    assert count == paper_parameters(DEPTHS[name])
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) + 1 == 6 * DEPTHS[name] + 2 == int(name.removeprefix("resnet"))


def test_resnet20_has_269722_parameters():
    assert sum(p.numel() for p in models.resnet20().parameters()) == 269_722 == paper_parameters(3)


@pytest.mark.parametrize("shortcut", ["A", "B", "C", None])
def test_shortcut_options(shortcut):
    net = models.resnet20(shortcut=shortcut)
    assert sum(p.numel() for p in net.parameters()) == paper_parameters(3, shortcut)
    x = minidl.randn(2, 3, 32, 32)
    y = net(x)
    assert y.shape == (2, 10)
    y.sum().backward()
    assert all(p.grad is not None and np.isfinite(p.grad.numpy()).all() for p in net.parameters())


def test_multiply_adds_of_resnet20():
    """40.55 million, counted at every convolution and at the linear layer while it runs."""
    net, counts = models.resnet20().eval(), []

    def count(module, inputs, output):
        counts.append(output.numel() * int(np.prod(module.weight.shape[1:])))

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with minidl.no_grad():
        net(minidl.zeros(1, 3, 32, 32))
    assert len(counts) == 20 and abs(sum(counts) / 1e6 - 40.55) < 0.005


@pytest.mark.parametrize(("classes", "channels", "size"), [(10, 3, 32), (100, 1, 28), (2, 4, 17)])
def test_other_inputs(classes, channels, size):
    net = models.get_model("resnet20", num_classes=classes, in_channels=channels)
    assert net(minidl.zeros(2, channels, size, size)).shape == (2, classes)
    assert sum(p.numel() for p in net.parameters()) == paper_parameters(3, classes=classes, channels=channels)


def test_zero_padding_keeps_every_second_pixel_and_adds_zeros_on_both_sides():
    block = nn.ResidualBlock(4, 8, stride=2, shortcut="A")
    x = np.arange(2 * 4 * 6 * 6, dtype=np.float32).reshape(2, 4, 6, 6)
    expected = np.zeros((2, 8, 3, 3), np.float32)
    expected[:, 2:6] = x[:, :, ::2, ::2]
    np.testing.assert_array_equal(block.downsample(minidl.from_numpy(x)).numpy(), expected)


def test_same_seed_same_network():
    weights = []
    for seed in (5, 5, 6):
        minidl.manual_seed(seed)
        weights.append(models.resnet20().state_dict())
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value.numpy(), weights[1][name].numpy())
    assert not np.array_equal(weights[0]["conv1.weight"].numpy(), weights[2]["conv1.weight"].numpy())


def test_he_initialisation():
    minidl.manual_seed(0)
    for name, p in models.resnet20().named_parameters():
        if "conv" in name:
            std = np.sqrt(2 / np.prod(p.shape[1:]))
            assert abs(p.detach().numpy().std() / std - 1) < 0.12, name


BAD = {
    "name": (lambda: models.get_model("resnet21"), ValueError, "resnet21.*resnet20"),
    "option": (lambda: models.get_model("resnet20", depth=3), TypeError, "depth"),
    "classes": (lambda: models.get_model("resnet20", num_classes=0), ValueError, "num_classes.*0|out_features.*0"),
    "shortcut": (lambda: models.get_model("resnet20", shortcut="D"), ValueError, "shortcut.*'D'"),
    "fewer channels": (lambda: nn.ResidualBlock(8, 4, shortcut="A"), ValueError, "8 channels to 4"),
    "blocks": (lambda: models.ResNetCIFAR(0), ValueError, "blocks.*0"),
    "images": (lambda: models.resnet20()(minidl.zeros(1, 1, 8, 8)), ValueError, "1 channels.*3"),
}


@pytest.mark.parametrize("call", BAD)
def test_bad_calls(call):
    function, kind, message = BAD[call]
    with pytest.raises(kind, match=message):
        function()


def test_the_list_of_models():
    assert models.list_models()[:5] == list(DEPTHS)
