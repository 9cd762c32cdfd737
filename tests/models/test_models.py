"""The networks by name: sizes, shapes, options, initial weights; the CIFAR networks' sizes from the paper's text."""

import re

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
    "classes": (lambda: models.get_model("resnet20", num_classes=0), ValueError, "ResNetCIFAR: num_classes.*got 0"),
    "shortcut": (lambda: models.get_model("resnet20", shortcut="D"), ValueError, "shortcut.*'D'"),
    "fewer channels": (lambda: nn.ResidualBlock(8, 4, shortcut="A"), ValueError, "8 channels to 4"),
    "blocks": (lambda: models.ResNetCIFAR(0), ValueError, "blocks.*0"),
    "images": (lambda: models.resnet20()(minidl.zeros(1, 1, 8, 8)), ValueError, "1 channels.*3"),
    "close": (lambda: models.get_model("vgg19bn"), ValueError, "no model 'vgg19bn'; did you mean .*vgg19_bn"),
    "not close": (lambda: models.get_model("transformer!"), ValueError, "'transformer!'; known are .*resnet20"),
    "channels": (lambda: models.vgg19_cifar(in_channels=1.5), ValueError, "VGGCIFAR: in_channels.*got 1.5"),
    "classes of lenet": (lambda: models.lenet_caffe("10"), ValueError, "LeNetCaffe: num_classes.*got '10'"),
    "a list": (lambda: models.get_model(["resnet20"]), ValueError, "no model .'resnet20'.; did you mean"),
    "no name": (lambda: models.get_model(None), ValueError, "no model None; known are"),
    "its options": (lambda: models.get_model("plain20", shortcut="A"), TypeError, "'shortcut'; it takes num_classes"),
    "depth": (lambda: models.ResNet(20), ValueError, "depth must be one of 18, .*152, got 20"),
    "configuration": (lambda: models.VGGCIFAR("F"), ValueError, "configuration.*A-LRN.*got 'F'"),
    "keep_prob": (lambda: models.lenet_dropout(keep_prob=0), ValueError, r"keep_prob.*\(0, 1\], got 0"),
    "image_size": (lambda: models.lenet(image_size=30), ValueError, "image_size.*multiple of 4, got 30"),
    "lenet's images": (lambda: models.lenet()(minidl.zeros(1, 1, 32, 32)), ValueError, "28, 28.*32, 32"),
}


@pytest.mark.parametrize("call", BAD)
def test_bad_calls(call):
    function, kind, message = BAD[call]
    with pytest.raises(kind, match=message):
        function()


# fmt: off
#: Published: arXiv 1512.03385, arXiv 1409.1556, and what torchvision, Caffe and the usual CIFAR networks count.
PARAMETERS = {
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "vgg11": 132_863_336, "vgg11_lrn": 132_863_336, "vgg13": 133_047_848, "vgg16_c": 133_638_952,
    "vgg16": 138_357_544, "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840, "vgg13_bn": 133_053_736, "vgg16_bn": 138_365_992, "vgg19_bn": 143_678_248,
    "vgg16_cifar": 14_728_266, "vgg19_cifar": 20_040_522,
    "resnet18_cifar": 11_173_962, "resnet34_cifar": 21_282_122, "resnet50_cifar": 23_520_842,
    "resnet20": 269_722, "plain20": 269_722, "plain56": 853_018, "resnet1202": 19_421_274,
    "lenet": 832 + 51_264 + 3_212_288 + 10_250, "lenet_dropout": 832 + 51_264 + 3_212_288 + 10_250,
    "lenet_caffe": 431_080,
}
# fmt: on


@pytest.fixture
def no_drawing(monkeypatch):
    """Networks of 140 million weights are not filled with random numbers only to be counted."""
    for name in ("uniform_", "normal_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_: tensor)


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_parameters(name, no_drawing):
    assert sum(p.numel() for p in models.get_model(name).parameters()) == PARAMETERS[name]


def projected(n, shortcut):
    """Parameters of ResNet-18/34's shortcuts: weights and BN."""
    kernel = 9 if shortcut == "conv3x3" else 1
    total = sum(kernel * a * b + 2 * b for a, b in ((64, 128), (128, 256), (256, 512)))
    if shortcut == "C":
        total += sum((count - (width > 64)) * (width**2 + 2 * width) for count, width in zip(n, WIDTHS, strict=True))
    return 0 if shortcut in ("A", None) else total


WIDTHS = (64, 128, 256, 512)


@pytest.mark.parametrize("shortcut", ["A", "conv3x3", "B", "C", None])
@pytest.mark.parametrize(
    ("name", "n", "paper"), [("resnet18", (2, 2, 2, 2), 11_689_512), ("resnet34", (3, 4, 6, 3), 21_797_672)]
)
def test_parameters_of_shortcuts(name, n, paper, shortcut, no_drawing):
    plain = paper - projected(n, "B")
    found = sum(p.numel() for p in models.get_model(name, shortcut=shortcut).parameters())
    assert found == plain + projected(n, shortcut)


@pytest.mark.parametrize("name", models.list_models())
def test_every_model_takes_classes_and_channels_and_tells_its_source(name, no_drawing):
    builder = getattr(models, name)
    assert re.search(r"input \(N, [13], \d+, \d+\)", builder.__doc__) and "Source: " in builder.__doc__
    net = models.get_model(name, num_classes=7, in_channels=2)
    layers = [m for path, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "downsample" not in path]
    assert layers[0].in_channels == 2 and layers[-1].out_features == 7
    depth = re.fullmatch(r"(?:resnet|plain)(\d+)(?:_cifar)?|vgg(\d+)(?:_lrn|_c)?(?:_bn)?", name)
    if depth:  # a VGG for CIFAR has one linear layer instead of three
        assert len(layers) == int(depth[1] or depth[2])


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [("resnet18", 3, 64), ("resnet50", 3, 33), ("plain18", 3, 32), ("vgg11_cifar", 3, 32), ("vgg16_cifar", 3, 64)]
    + [("lenet", 1, 28), ("lenet_dropout", 1, 28), ("lenet_caffe", 1, 28), ("resnet18_cifar", 3, 32)],
)
def test_networks_with_their_own_weights(name, channels, size):
    """Random weights keep the size of what passes: neither does it vanish nor overflow."""
    net = models.get_model(name, num_classes=10).eval()
    with minidl.no_grad():
        y = net(minidl.randn(2, channels, size, size))
    assert y.shape == (2, 10) and 1e-3 < y.abs().max().item() < 1e4


def test_lenet_on_larger_images():
    assert models.lenet(image_size=32, in_channels=3)(minidl.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_biases_and_dropout_of_lenet():
    net = models.lenet_dropout()
    for name, value in (("conv1", 1), ("conv2", 1), ("fc1", 1), ("fc2", 0)):
        assert (getattr(net, name).bias.detach().numpy() == value).all()
    assert net.dropout.p == 0.5 and models.lenet_dropout(keep_prob=0.75).dropout.p == 0.25
    assert not any(isinstance(m, nn.Dropout) for m in models.lenet().modules())


def test_dropout_of_vgg(no_drawing):
    assert [m.p for m in models.vgg11().modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert [m.p for m in models.vgg11(dropout=0.1).modules() if isinstance(m, nn.Dropout)] == [0.1, 0.1]


RECORDED = {
    "conv1.weight": [-0.09620371, 0.0560452],
    "layer2.0.conv1.weight": [0.2183595, 0.08371552],
    "layer3.2.conv2.weight": [-0.05587173, -0.03304179],
    "fc.weight": [0.06779768, -0.06990311],
}


def test_weights_of_resnet20_are_those_of_recorded_results():
    """`minidl train --seed 0` draws these; another order of draws would make other networks."""
    minidl.manual_seed(0)
    state = models.get_model("resnet20", num_classes=10, in_channels=3).state_dict()
    for name, values in RECORDED.items():
        np.testing.assert_allclose(state[name].numpy().reshape(-1)[-2:], values, rtol=1e-5, err_msg=name)
