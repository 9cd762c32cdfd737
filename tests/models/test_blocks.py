"""Blocks as a PyTorch course writes them, run on minidl with only the imports changed; the shortcuts of the layers."""

import numpy as np
import pytest

import minidl
from minidl import models, nn
from minidl.nn.blocks import BottleNeck, Standard, make_shortcut

COURSE = """
import torch
import torch.nn as nn

class Residual_Block(nn.Module):
    def __init__(self, in_dim, mid_dim, out_dim):
        super(Residual_Block, self).__init__()
        # Residual Block
        self.residual_block = nn.Sequential(
            nn.Conv2d(in_dim, mid_dim, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(mid_dim, out_dim, kernel_size=3, padding=1),
        )
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.residual_block(x) # F(x)
        out = out + x # F(x) + x
        out = self.relu(out)
        return out

# standard
class Standard(nn.Module):
    def __init__(self, in_dim=256, mid_dim=64, out_dim=64):
        super(Standard, self).__init__()
        self.building_block = nn.Sequential(
            nn.Conv2d(in_channels=in_dim, out_channels=mid_dim, kernel_size=3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(in_channels=mid_dim, out_channels=out_dim, kernel_size=3, padding=1, bias=False),
        )
        self.relu = nn.ReLU()

    def forward(self, x):
        fx = self.building_block(x) # F(x)
        out = fx + x # F(x) + x
        out = self.relu(out)
        return out

# BottleNeck
class BottleNeck(nn.Module):
    def __init__(self, in_dim=256, mid_dim=64, out_dim=256):
        super(BottleNeck, self).__init__()
        self.bottleneck = nn.Sequential(
            nn.Conv2d(in_channels=in_dim, out_channels=mid_dim, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(in_channels=mid_dim, out_channels=mid_dim, kernel_size=3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(in_channels=mid_dim, out_channels=in_dim, kernel_size=1, bias=False),
        )
        self.relu = nn.ReLU()

    def forward(self, x):
        fx = self.bottleneck(x) # F(x)
        out = fx + x # F(x) + x
        out = self.relu(out)
        return out
"""


def course(library):
    names = {}
    exec(COURSE.replace("torch", library), names)
    return names


@pytest.mark.parametrize(
    ("name", "arguments", "channels"),
    [
        ("Residual_Block", (64, 32, 64), 64),
        ("Standard", (64, 64, 64), 64),
        ("BottleNeck", (), 256),
        ("BottleNeck", (32, 8, 32), 32),
    ],
)
def test_the_classes_of_the_course_with_other_imports(name, arguments, channels):
    torch = pytest.importorskip("torch")
    ours, theirs = course("minidl")[name](*arguments).double(), course("torch")[name](*arguments).double()
    theirs.load_state_dict({key: torch.from_numpy(value.numpy().copy()) for key, value in ours.state_dict().items()})
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, channels, 10, 10)), rng.standard_normal((2, channels, 10, 10))
    found = []
    for library, block in ((minidl, ours), (torch, theirs)):
        image = library.tensor(x).requires_grad_()
        y = block(image)
        (y * library.tensor(dy)).sum().backward()
        found.append([np.asarray(t) for t in (y.detach(), image.grad, *(p.grad for p in block.parameters()))])
    assert len(found[0]) == len(found[1]) >= 4
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-12 * np.abs(other).max())


def test_standard_as_printed_adds_64_to_256_channels_which_is_refused():
    block = course("minidl")["Standard"]()
    with pytest.raises(RuntimeError, match=r"add: shapes \(1, 64, 8, 8\) and \(1, 256, 8, 8\).* 64 and 256 on axis 1"):
        block(minidl.zeros(1, 256, 8, 8))
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError, match="64.*256"):
        course("torch")["Standard"]()(torch.zeros(1, 256, 8, 8))


# fmt: off
TABLES = {
    Standard: (331_776, [
        ("Conv2d",  64, 147_456),
        ("ReLU",    64,       0),
        ("Conv2d",  64,  36_864),
        ("Conv2d",  64, 147_456),
        ("ReLU",    64,       0),
    ]),
    BottleNeck: (135_424, [
        ("Conv2d",  64,  16_384),
        ("ReLU",    64,       0),
        ("Conv2d",  64,  36_864),
        ("ReLU",    64,       0),
        ("Conv2d", 256,  16_384),
        ("Conv2d", 256,  65_792),
        ("ReLU",   256,       0),
    ]),
}
# fmt: on


@pytest.mark.parametrize("kind", TABLES)
def test_layer_tables(kind):
    """Rows in the order in which the layers run: type, output channels at the size of the input, parameters."""
    total, table = TABLES[kind]
    block, rows = kind(), []
    for module in block.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda m, _, y: rows.append((m, y.shape)))
    block(minidl.zeros(2, 256, 20, 20))
    assert [(type(m).__name__, shape[1], sum(p.numel() for p in m.parameters())) for m, shape in rows] == table
    assert {(shape[0], *shape[2:]) for _, shape in rows} == {(2, 20, 20)}
    assert sum(p.numel() for p in block.parameters()) == total


# fmt: off
LINES = {
    ("resnet34", "A"): [
        "28*28*128 + ZeroPadding(128, stride 2) 56*56*64",
        "14*14*256 + ZeroPadding(256, stride 2) 28*28*128",
        "7*7*512 + ZeroPadding(512, stride 2) 14*14*256",
    ],
    ("resnet34", "conv3x3"): [
        "28*28*128 + Conv2D(128, 3x3, stride 2) 56*56*64",
        "14*14*256 + Conv2D(256, 3x3, stride 2) 28*28*128",
        "7*7*512 + Conv2D(512, 3x3, stride 2) 14*14*256",
    ],
    ("resnet18", "C"): [
        "28*28*128 + Conv2D(128, 1x1, stride 2) 56*56*64",
        "14*14*256 + Conv2D(256, 1x1, stride 2) 28*28*128",
        "7*7*512 + Conv2D(512, 1x1, stride 2) 14*14*256",
    ],
    ("resnet50", "B"): [
        "56*56*256 + Conv2D(256, 1x1, stride 1) 56*56*64",
        "28*28*512 + Conv2D(512, 1x1, stride 2) 56*56*256",
        "14*14*1024 + Conv2D(1024, 1x1, stride 2) 28*28*512",
        "7*7*2048 + Conv2D(2048, 1x1, stride 2) 14*14*1024",
    ],
}
# fmt: on


@pytest.mark.parametrize(("name", "shortcut"), LINES)
def test_verbose_prints_each_addition_of_different_dimensions_once(name, shortcut, capsys):
    net = models.get_model(name, shortcut=shortcut, verbose=True, num_classes=2).eval()
    with minidl.no_grad():
        for _ in range(2):
            net(minidl.zeros(1, 3, 224, 224))
    assert capsys.readouterr().out.splitlines() == LINES[name, shortcut]
    with minidl.no_grad():
        models.get_model(name, shortcut=shortcut, num_classes=2).eval()(minidl.zeros(1, 3, 64, 64))
    assert capsys.readouterr().out == ""


def test_verbose_prints_another_size_again(capsys):
    block = nn.ResidualBlock(128, 256, stride=2, shortcut="conv3x3", verbose=True).eval()
    for size in (56, 56, 32):
        block(minidl.zeros(1, 128, size, size))
    assert capsys.readouterr().out.splitlines() == [
        "28*28*256 + Conv2D(256, 3x3, stride 2) 56*56*128",
        "16*16*256 + Conv2D(256, 3x3, stride 2) 32*32*128",
    ]


def test_shortcuts():
    assert isinstance(make_shortcut("B", 8, 8, 1), nn.Identity)
    for option, kernel, differ in (("conv3x3", 3, True), ("B", 1, True), ("C", 1, True), ("C", 1, False)):
        conv, bn = make_shortcut(option, 8, 16 if differ else 8, 2 if differ else 1)
        assert conv.kernel_size == (kernel, kernel) and conv.bias is None
        assert conv.stride == ((2, 2) if differ else (1, 1)) and bn.num_features == conv.out_channels
    for size in (1, 7, 8):
        for option in ("A", "conv3x3", "B", "C"):
            y = nn.ResidualBlock(4, 6, stride=2, shortcut=option)(minidl.randn(2, 4, size, size))
            assert y.shape == (2, 6, -(-size // 2), -(-size // 2))


def test_zero_init_residual_begins_as_the_identity():
    for name in ("resnet18", "resnet50", "resnet20"):
        net = models.get_model(name, zero_init_residual=True, num_classes=3)
        x = minidl.rand(2, net.layer1[-1].conv1.in_channels, 8, 8)
        np.testing.assert_array_equal(net.layer1[-1](x).detach().numpy(), x.numpy())
        zeros = [key for key, value in net.state_dict().items() if value.ndim == 1 and "bn" in key and "weight" in key]
        last = "bn3" if name == "resnet50" else "bn2"
        for key in zeros:
            assert bool((net.state_dict()[key] == 0).all().item()) == (last in key), key
