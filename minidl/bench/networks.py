"""The networks that are timed, written once as for PyTorch; `define(nn, F)` makes them of either library."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

__all__ = ["WORKS", "Work", "define"]


@dataclass(frozen=True)
class Work:
    """Something to time: `build(networks)` makes the network out of what `define` returns.

    Attributes:
        title: what the table calls it.
        build: makes the network.
        image: shape (C, H, W) of its input.
        batch: images per step.
        train: time forward, backward and the optimiser; else inference without gradients.
        classes: outputs; None for a block whose output is an image and that is timed without an optimiser.
        own: the name in minidl.models to use on minidl's side, or None for the network of this file on both.
        wanted: the least ratio to PyTorch's fastest eager mode.
        compiled: whether minidl's side runs through `minidl.compile`.
    """

    title: str
    build: Callable[[Any], Any]
    image: tuple[int, int, int]
    batch: int
    train: bool = True
    classes: int | None = 10
    own: str | None = None
    wanted: float = 1.0
    compiled: bool = False


def define(nn: Any, F: Any) -> SimpleNamespace:
    """Define the networks with `nn` and `F` of PyTorch or of minidl; the classes are named as in their papers."""

    def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> Any:
        return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)

    class BasicBlock(nn.Module):
        def __init__(self, in_channels, out_channels, stride=1, project=True):
            super().__init__()
            self.conv1, self.bn1 = conv3x3(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
            self.conv2, self.bn2 = conv3x3(out_channels, out_channels), nn.BatchNorm2d(out_channels)
            self.stride, self.added = stride, out_channels - in_channels
            self.shortcut = nn.Sequential()
            if project and (stride != 1 or self.added):
                conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))
            self.project = project

        def forward(self, x):
            out = F.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            if self.project or not self.added:
                return F.relu(out + self.shortcut(x))
            return F.relu(out + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added // 2)))

    class CifarResNet(nn.Module):
        """6n + 2 layers of 16, 32 and 64 channels, shortcuts without parameters (He et al. 2015, section 4.2)."""

        def __init__(self, n):
            super().__init__()
            self.conv1, self.bn1 = conv3x3(3, 16), nn.BatchNorm2d(16)
            self.layer1, self.layer2, self.layer3 = (
                nn.Sequential(BasicBlock(i, o, s, False), *[BasicBlock(o, o, 1, False) for _ in range(n - 1)])
                for i, o, s in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
            )
            self.fc = nn.Linear(64, 10)

        def forward(self, x):
            x = F.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            x = F.avg_pool2d(x, 8)
            return self.fc(x.view(x.size(0), -1))

    class ResNet18(nn.Module):
        """64 to 512 channels, the first convolution 3x3 as CIFAR-10 needs it."""

        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = conv3x3(3, 64), nn.BatchNorm2d(64)
            self.layer1, self.layer2, self.layer3, self.layer4 = (
                nn.Sequential(BasicBlock(i, o, s), BasicBlock(o, o))
                for i, o, s in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
            )
            self.linear = nn.Linear(512, 10)

        def forward(self, x):
            x = F.relu(self.bn1(self.conv1(x)))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.linear(F.avg_pool2d(x, 4).view(x.size(0), -1))

    class VGG19(nn.Module):
        """Configuration E of Simonyan & Zisserman 2014 with batch norm, for 32x32 images."""

        def __init__(self):
            super().__init__()
            layers, channels = [], 3
            for width in (64, 64, 0, 128, 128, 0, *(256,) * 4, 0, *(512,) * 4, 0, *(512,) * 4, 0):
                if not width:
                    layers.append(nn.MaxPool2d(2, 2))
                    continue
                conv = nn.Conv2d(channels, width, 3, padding=1)
                layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                channels = width
            self.features = nn.Sequential(*layers)
            self.classifier = nn.Linear(512, 10)

        def forward(self, x):
            x = self.features(x)
            return self.classifier(x.view(x.size(0), -1))

    class LeNet(nn.Module):
        """Two 5x5 convolutions of 32 and 64 channels and 1,024 hidden units."""

        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 32, 5, padding=2), nn.Conv2d(32, 64, 5, padding=2)
            self.fc1, self.fc2 = nn.Linear(64 * 7 * 7, 1024), nn.Linear(1024, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            return self.fc2(F.relu(self.fc1(x.flatten(1))))

    class Bottleneck(nn.Module):
        """1x1, 3x3, 1x1 with a shortcut (He et al. 2015, figure 5)."""

        def __init__(self, channels, inner):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
            self.conv2, self.bn2 = conv3x3(inner, inner), nn.BatchNorm2d(inner)
            self.conv3, self.bn3 = nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels)

        def forward(self, x):
            out = F.relu(self.bn1(self.conv1(x)))
            out = F.relu(self.bn2(self.conv2(out)))
            return F.relu(self.bn3(self.conv3(out)) + x)

    return SimpleNamespace(CifarResNet=CifarResNet, ResNet18=ResNet18, VGG19=VGG19, LeNet=LeNet, Bottleneck=Bottleneck)


CIFAR = (3, 32, 32)

# fmt: off
WORKS: dict[str, Work] = {
    "resnet20":           Work("ResNet-20, training", lambda n: n.CifarResNet(3), CIFAR, 128, own="resnet20",
                               wanted=2.0),
    "resnet56":           Work("ResNet-56, training", lambda n: n.CifarResNet(9), CIFAR, 128, own="resnet56",
                               wanted=2.0),
    "resnet18":           Work("ResNet-18 (CIFAR stem), training", lambda n: n.ResNet18(), CIFAR, 64, wanted=1.5),
    "vgg19":              Work("VGG-19-BN, training", lambda n: n.VGG19(), CIFAR, 128, wanted=1.5),
    "lenet":              Work("LeNet (5x5), training", lambda n: n.LeNet(), (1, 28, 28), 128, wanted=1.5),
    "bottleneck":         Work("Bottleneck 256-64-256 at 56x56, forward and backward", lambda n: n.Bottleneck(256, 64),
                               (256, 56, 56), 8, classes=None, wanted=1.2),
    "resnet20-infer":     Work("ResNet-20, inference", lambda n: n.CifarResNet(3), CIFAR, 128, train=False,
                               own="resnet20", wanted=1.5),
    "resnet20-infer-1":   Work("ResNet-20, inference", lambda n: n.CifarResNet(3), CIFAR, 1, train=False,
                               own="resnet20", wanted=1.5),
    "resnet20-compiled-1": Work("ResNet-20, inference, minidl.compile", lambda n: n.CifarResNet(3), CIFAR, 1,
                               train=False, own="resnet20", wanted=1.5, compiled=True),
    "resnet20-compiled":  Work("ResNet-20, training, minidl.compile", lambda n: n.CifarResNet(3), CIFAR, 128,
                               own="resnet20", wanted=2.0, compiled=True),
    "resnet56-compiled":  Work("ResNet-56, training, minidl.compile", lambda n: n.CifarResNet(9), CIFAR, 128,
                               own="resnet56", wanted=2.0, compiled=True),
    "resnet20-plain":     Work("ResNet-20 as written for PyTorch, training", lambda n: n.CifarResNet(3), CIFAR, 128,
                               wanted=1.8),
    "resnet20-plain-compiled": Work("ResNet-20 as written for PyTorch, training, minidl.compile",
                               lambda n: n.CifarResNet(3), CIFAR, 128, wanted=1.8, compiled=True),
}
# fmt: on
