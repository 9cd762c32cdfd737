"""VGG networks (Simonyan & Zisserman 2014, arXiv 1409.1556, table 1), for ImageNet and for CIFAR-10."""

from typing import Any

from minidl.models.initialization import he_init
from minidl.models.registry import register_model
from minidl.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    init,
)
from minidl.nn.checks import positive

__all__ = ["VGG", "VGGCIFAR", "vgg11", "vgg11_bn", "vgg11_cifar", "vgg11_lrn", "vgg11_lrn_bn"]
__all__ += ["vgg13", "vgg13_bn", "vgg13_cifar", "vgg16", "vgg16_bn", "vgg16_c", "vgg16_c_bn", "vgg16_cifar"]
__all__ += ["vgg19", "vgg19_bn", "vgg19_cifar"]

# fmt: off
LAYERS = {  # table 1: 3-64 is a 3x3 convolution to 64 channels with a ReLU; each | and the end are 2x2 max pooling
    #        224x224     112x112       56x56                     28x28                     14x14
    "A":     "3-64      | 3-128       | 3-256 3-256             | 3-512 3-512             | 3-512 3-512",
    "A-LRN": "3-64 LRN  | 3-128       | 3-256 3-256             | 3-512 3-512             | 3-512 3-512",
    "B":     "3-64 3-64 | 3-128 3-128 | 3-256 3-256             | 3-512 3-512             | 3-512 3-512",
    "C":     "3-64 3-64 | 3-128 3-128 | 3-256 3-256 1-256       | 3-512 3-512 1-512       | 3-512 3-512 1-512",
    "D":     "3-64 3-64 | 3-128 3-128 | 3-256 3-256 3-256       | 3-512 3-512 3-512       | 3-512 3-512 3-512",
    "E":     "3-64 3-64 | 3-128 3-128 | 3-256 3-256 3-256 3-256 | 3-512 3-512 3-512 3-512 | 3-512 3-512 3-512 3-512",
}
NAMES = {"A": "vgg11", "A-LRN": "vgg11_lrn", "B": "vgg13", "C": "vgg16_c", "D": "vgg16", "E": "vgg19"}
# fmt: on


def features(configuration: str, in_channels: int, batch_norm: bool) -> Sequential:
    """Build the convolutional part: x (N, in_channels, H, W) -> (N, 512, H/32, W/32)."""
    if configuration not in LAYERS:
        raise ValueError(f"VGG: configuration must be one of {', '.join(LAYERS)}, got {configuration!r}")
    layers: list[Module] = []
    for stage in LAYERS[configuration].split("|"):
        for layer in stage.split():
            if layer == "LRN":  # Krizhevsky et al. 2012, 3.3: alpha 1e-4 times the sum; here it multiplies the mean
                layers.append(LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2.0))
                continue
            kernel, channels = map(int, layer.split("-"))
            layers.append(Conv2d(in_channels, channels, kernel_size=kernel, padding=kernel // 2))
            layers += [BatchNorm2d(channels), ReLU()] if batch_norm else [ReLU()]
            in_channels = channels
        layers.append(MaxPool2d(kernel_size=2, stride=2))
    return Sequential(*layers)


class VGG(Module):
    """Stages of 3x3 convolutions, each ended by max pooling -> linear 4096 -> linear 4096 -> linear.

    The names of parameters are torchvision's. Images of other sizes than 224x224 are averaged to 7x7 before the first
    linear layer, as there.

    Args:
        configuration: "A", "A-LRN", "B", "C", "D" or "E".
        num_classes: outputs.
        in_channels: channels of the images.
        batch_norm: BN after each convolution.
        dropout: the probability that a hidden unit of the linear layers is dropped.
    """

    def __init__(
        self,
        configuration: str,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ):
        super().__init__()
        positive("VGG", num_classes=num_classes, in_channels=in_channels)
        self.features = features(configuration, in_channels, batch_norm)
        self.avgpool = AdaptiveAvgPool2d(7)
        self.classifier = Sequential(
            *(Linear(512 * 7 * 7, 4096), ReLU(), Dropout(dropout)),
            *(Linear(4096, 4096), ReLU(), Dropout(dropout)),
            Linear(4096, num_classes),
        )
        self.features.apply(he_init)
        for layer in self.classifier:
            if isinstance(layer, Linear):  # section 3.1
                init.normal_(layer.weight, 0, 0.01)
                init.zeros_(layer.bias)

    def forward(self, x: Any) -> Any:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class VGGCIFAR(Module):
    """The convolutions of a VGG, with bias and BN -> (N, 512, 1, 1) of 32x32 images -> one linear layer.

    Args:
        configuration: "A", "A-LRN", "B", "C", "D" or "E".
        num_classes: outputs.
        in_channels: channels of the images.
    """

    def __init__(self, configuration: str, num_classes: int = 10, in_channels: int = 3):
        super().__init__()
        positive("VGGCIFAR", num_classes=num_classes, in_channels=in_channels)
        self.features = features(configuration, in_channels, batch_norm=True)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.classifier = Linear(512, num_classes)
        self.apply(he_init)

    def forward(self, x: Any) -> Any:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _imagenet(configuration: str, batch_norm: bool) -> Any:
    def build(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
        return VGG(configuration, num_classes, in_channels, batch_norm=batch_norm, dropout=dropout)

    with_bn = " with BN" if batch_norm else ""
    return register_model(
        build,
        NAMES[configuration] + ("_bn" if batch_norm else ""),
        f"Build VGG {configuration}{with_bn} for ImageNet, input (N, 3, 224, 224).\n\n"
        f"Source: Simonyan & Zisserman 2014 (arXiv 1409.1556), table 1, column {configuration}. Options: see `VGG`.",
    )


def _cifar(configuration: str) -> Any:
    def build(num_classes: int = 10, in_channels: int = 3) -> VGGCIFAR:
        return VGGCIFAR(configuration, num_classes, in_channels)

    return register_model(
        build,
        f"{NAMES[configuration]}_cifar",
        f"Build VGG {configuration} with BN and one linear layer for CIFAR-10, input (N, 3, 32, 32).\n\n"
        f"Source: Simonyan & Zisserman 2014 (arXiv 1409.1556), table 1, column {configuration}; see `VGGCIFAR`.",
    )


vgg11, vgg11_lrn, vgg13, vgg16_c, vgg16, vgg19 = (_imagenet(c, batch_norm=False) for c in LAYERS)
vgg11_bn, vgg11_lrn_bn, vgg13_bn, vgg16_c_bn, vgg16_bn, vgg19_bn = (_imagenet(c, batch_norm=True) for c in LAYERS)
vgg11_cifar, vgg13_cifar, vgg16_cifar, vgg19_cifar = map(_cifar, ("A", "B", "D", "E"))
