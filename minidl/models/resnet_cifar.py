"""Residual and plain networks for CIFAR-10 (He et al. 2015, section 4.2): 6n + 2 layers, three stages of n blocks."""

from typing import Any

from minidl.models.initialization import he_init
from minidl.models.registry import register_model
from minidl.models.residual import make_stages, zero_last_norm
from minidl.nn import AdaptiveAvgPool2d, BatchNorm2d, Linear, Module, ReLU
from minidl.nn.blocks import ResidualBlock, conv3x3
from minidl.nn.checks import positive

__all__ = ["ResNetCIFAR", "plain20", "plain32", "plain44", "plain56"]
__all__ += ["resnet110", "resnet1202", "resnet20", "resnet32", "resnet44", "resnet56"]

# fmt: off
STAGES = [  # n blocks of two convolutions in each
    # output  channels  stride of the first block
    ("32x32",   16,     1),
    ("16x16",   32,     2),
    ("8x8",     64,     2),
]
# fmt: on


class ResNetCIFAR(Module):
    """conv 3x3, 16 -> three stages of `blocks` residual blocks -> global average pooling -> linear.

    Args:
        blocks: n, residual blocks in each stage; the network has 6n + 2 layers.
        num_classes: outputs.
        in_channels: channels of the images.
        shortcut: "A" zero padding (the paper's choice on CIFAR), "conv3x3" a 3x3 convolution, "B" or "C" projection
            (see `minidl.nn.blocks.make_shortcut`), None for the plain network.
        zero_init_residual: begin with blocks that are the identity.
        verbose: print each addition of different dimensions (see `make_shortcut`).
    """

    def __init__(
        self,
        blocks: int,
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: str | None = "A",
        *,
        zero_init_residual: bool = False,
        verbose: bool = False,
    ):
        super().__init__()
        positive("ResNetCIFAR", blocks=blocks, num_classes=num_classes, in_channels=in_channels)
        first, last = STAGES[0][1], STAGES[-1][1]
        self.conv1 = conv3x3(in_channels, first)
        self.bn1 = BatchNorm2d(first)
        self.relu = ReLU()
        self.layer1, self.layer2, self.layer3 = make_stages(
            first, ResidualBlock, STAGES, (blocks,) * 3, shortcut=shortcut, verbose=verbose
        )
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc = Linear(last, num_classes)
        self.apply(he_init)
        if zero_init_residual:
            self.apply(zero_last_norm)

    def forward(self, x: Any) -> Any:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


def _residual(depth: int) -> Any:
    def build(
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: str | None = "A",
        zero_init_residual: bool = False,
        verbose: bool = False,
    ) -> ResNetCIFAR:
        n = (depth - 2) // 6
        return ResNetCIFAR(
            n, num_classes, in_channels, shortcut, zero_init_residual=zero_init_residual, verbose=verbose
        )

    return register_model(
        build,
        f"resnet{depth}",
        f"Build ResNet-{depth} for CIFAR-10, input (N, 3, 32, 32): {(depth - 2) // 6} blocks in each stage.\n\n"
        "Source: He et al. 2015 (arXiv 1512.03385), section 4.2 and table 6. Options: see `ResNetCIFAR`.",
    )


def _plain(depth: int) -> Any:
    def build(num_classes: int = 10, in_channels: int = 3) -> ResNetCIFAR:
        return ResNetCIFAR((depth - 2) // 6, num_classes, in_channels, shortcut=None)

    return register_model(
        build,
        f"plain{depth}",
        f"Build the plain network of {depth} layers for CIFAR-10, input (N, 3, 32, 32): no shortcuts.\n\n"
        "Source: He et al. 2015 (arXiv 1512.03385), section 4.2 and figure 6.",
    )


resnet20, resnet32, resnet44, resnet56, resnet110, resnet1202 = map(_residual, (20, 32, 44, 56, 110, 1202))
plain20, plain32, plain44, plain56 = map(_plain, (20, 32, 44, 56))
