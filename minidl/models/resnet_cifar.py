"""Residual networks for CIFAR-10 (He et al. 2015, section 4.2): 6n + 2 layers, three stages of n blocks."""

from typing import Any

from minidl.models.registry import register_model
from minidl.nn import functional as F
from minidl.nn import init
from minidl.nn.blocks import ResidualBlock, conv3x3
from minidl.nn.containers import Sequential
from minidl.nn.layers import AdaptiveAvgPool2d, Conv2d, Linear
from minidl.nn.module import Module
from minidl.nn.norm import BatchNorm2d

__all__ = ["ResNetCIFAR", "resnet110", "resnet20", "resnet32", "resnet44", "resnet56"]

#         output   channels  stride of the first block
STAGES = [
    ("32x32", 16, 1),
    ("16x16", 32, 2),
    ("8x8", 64, 2),
]


class ResNetCIFAR(Module):
    """conv 3x3, 16 -> three stages of `blocks` residual blocks -> global average pooling -> linear.

    Args:
        blocks: n, residual blocks in each stage; the network has 6n + 2 layers.
        num_classes: outputs.
        in_channels: channels of the images.
        shortcut: "A" zero padding (the paper's choice on CIFAR), "B" or "C" projection, None for the plain network.
    """

    def __init__(self, blocks: int, num_classes: int = 10, in_channels: int = 3, shortcut: str | None = "A"):
        super().__init__()
        if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < 1:
            raise ValueError(f"ResNetCIFAR: blocks must be a positive integer, got {blocks!r}")
        channels = STAGES[0][1]
        self.conv1 = conv3x3(in_channels, channels)
        self.bn1 = BatchNorm2d(channels)
        for number, (_, out_channels, stride) in enumerate(STAGES, start=1):
            stage = []
            for i in range(blocks):
                stage.append(ResidualBlock(channels, out_channels, stride if i == 0 else 1, shortcut))
                channels = out_channels
            setattr(self, f"layer{number}", Sequential(*stage))
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc = Linear(channels, num_classes)
        self.apply(he_init)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


def he_init(module: Module) -> None:
    """He et al. 2015 (arXiv 1502.01852): convolutions from N(0, 2 / fan_in); no ReLU follows the linear layer."""
    if isinstance(module, Conv2d):
        init.kaiming_normal_(module.weight, nonlinearity="relu")


def _cifar(depth: int) -> Any:
    def build(**options: Any) -> ResNetCIFAR:
        return ResNetCIFAR((depth - 2) // 6, **options)

    build.__name__ = build.__qualname__ = f"resnet{depth}"
    build.__doc__ = f"Build ResNet-{depth} for CIFAR-10: {(depth - 2) // 6} blocks in each stage (see `ResNetCIFAR`)."
    return register_model(build)


resnet20, resnet32, resnet44, resnet56, resnet110 = map(_cifar, (20, 32, 44, 56, 110))
