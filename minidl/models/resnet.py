"""Residual and plain networks of four stages, for ImageNet (He et al. 2015, arXiv 1512.03385, table 1) and CIFAR."""

from typing import Any

from minidl.models.initialization import he_init
from minidl.models.registry import register_model
from minidl.models.residual import make_stages, zero_last_norm
from minidl.nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Identity, Linear, MaxPool2d, Module, ReLU
from minidl.nn.blocks import Bottleneck, ResidualBlock, conv3x3
from minidl.nn.checks import positive

__all__ = ["ResNet", "plain18", "plain34", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50"]
__all__ += ["resnet18_cifar", "resnet34_cifar", "resnet50_cifar"]

# fmt: off
STAGES = [  # table 1; a Bottleneck has 4 times the channels at its end
    # output   channels  stride of the first block
    ("56x56",   64,      1),   # conv2_x
    ("28x28",  128,      2),   # conv3_x
    ("14x14",  256,      2),   # conv4_x
    ("7x7",    512,      2),   # conv5_x
]
LAYERS = {  # blocks in each stage
    18:  (ResidualBlock, (2, 2,  2, 2)),
    34:  (ResidualBlock, (3, 4,  6, 3)),
    50:  (Bottleneck,    (3, 4,  6, 3)),
    101: (Bottleneck,    (3, 4, 23, 3)),
    152: (Bottleneck,    (3, 8, 36, 3)),
}
# fmt: on


class ResNet(Module):
    """conv 7x7, 64, stride 2 -> max pool 3x3, stride 2 -> four stages -> global average pooling -> linear.

    The names of parameters are torchvision's.

    Args:
        depth: 18, 34, 50, 101 or 152, layers with weights.
        num_classes: outputs.
        in_channels: channels of the images.
        shortcut: "A" zero padding, "conv3x3" a 3x3 convolution, "B" projection where dimensions differ, "C" projection
            everywhere (see `minidl.nn.blocks.make_shortcut`), None for the plain network.
        stride_in_1x1: a bottleneck's stride sits on its first 1x1 convolution (the paper), not on the 3x3 one
            (torchvision's "v1.5"); blocks of two 3x3 convolutions have their stride on the first.
        zero_init_residual: begin with blocks that are the identity.
        cifar_stem: begin with conv 3x3, 64, stride 1 and no pooling, for 32x32 images.
        verbose: print each addition of different dimensions (see `make_shortcut`).
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        shortcut: str | None = "B",
        *,
        stride_in_1x1: bool = False,
        zero_init_residual: bool = False,
        cifar_stem: bool = False,
        verbose: bool = False,
    ):
        super().__init__()
        if depth not in LAYERS:
            raise ValueError(f"ResNet: depth must be one of {', '.join(map(str, LAYERS))}, got {depth!r}")
        positive("ResNet", num_classes=num_classes, in_channels=in_channels)
        block, counts = LAYERS[depth]
        first, last = STAGES[0][1], STAGES[-1][1] * block.expansion
        if cifar_stem:
            self.conv1 = conv3x3(in_channels, first)
        else:
            self.conv1 = Conv2d(in_channels, first, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(first)
        self.relu = ReLU()
        self.maxpool = Identity() if cifar_stem else MaxPool2d(kernel_size=3, stride=2, padding=1)
        options = {"stride_in_1x1": stride_in_1x1} if block is Bottleneck else {}
        self.layer1, self.layer2, self.layer3, self.layer4 = make_stages(
            first, block, STAGES, counts, shortcut=shortcut, verbose=verbose, **options
        )
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc = Linear(last, num_classes)
        self.apply(he_init)
        if zero_init_residual:
            self.apply(zero_last_norm)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _residual(depth: int, cifar_stem: bool = False) -> Any:
    def build(
        num_classes: int = 10 if cifar_stem else 1000,
        in_channels: int = 3,
        shortcut: str | None = "B",
        stride_in_1x1: bool = False,
        zero_init_residual: bool = False,
        verbose: bool = False,
    ) -> ResNet:
        return ResNet(
            depth,
            num_classes,
            in_channels,
            shortcut,
            stride_in_1x1=stride_in_1x1,
            zero_init_residual=zero_init_residual,
            cifar_stem=cifar_stem,
            verbose=verbose,
        )

    if cifar_stem:
        summary = f"Build ResNet-{depth} for CIFAR-10, input (N, 3, 32, 32): a 3x3 stem, no max pooling."
    else:
        summary = f"Build ResNet-{depth} for ImageNet, input (N, 3, 224, 224)."
    return register_model(
        build,
        f"resnet{depth}_cifar" if cifar_stem else f"resnet{depth}",
        f"{summary}\n\nSource: He et al. 2015 (arXiv 1512.03385), table 1. Options: see `ResNet`.",
    )


def _plain(depth: int) -> Any:
    def build(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
        return ResNet(depth, num_classes, in_channels, shortcut=None)

    return register_model(
        build,
        f"plain{depth}",
        f"Build the plain network of {depth} layers for ImageNet, input (N, 3, 224, 224): no shortcuts.\n\n"
        "Source: He et al. 2015 (arXiv 1512.03385), section 3.3 and table 1.",
    )


resnet18, resnet34, resnet50, resnet101, resnet152 = map(_residual, LAYERS)
plain18, plain34 = map(_plain, (18, 34))
resnet18_cifar, resnet34_cifar, resnet50_cifar = (_residual(depth, cifar_stem=True) for depth in (18, 34, 50))
