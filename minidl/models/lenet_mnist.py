"""LeNets for MNIST: TensorFlow's, with and without drop-out, and Caffe's."""

import math
from typing import Any

from minidl.models.registry import register_model
from minidl.nn import Conv2d, Dropout, Identity, Linear, MaxPool2d, Module, ReLU, init
from minidl.nn.checks import positive

__all__ = ["LeNet", "LeNetCaffe", "lenet", "lenet_caffe", "lenet_dropout"]


def check_image(x: Any, size: int) -> None:
    if x.ndim != 4 or tuple(x.shape[2:]) != (size, size):
        raise ValueError(f"LeNet: x must be images (N, C, {size}, {size}), got shape {x.shape}")


class LeNet(Module):
    """conv 5x5, 32 -> pool -> conv 5x5, 64 -> pool -> linear 1024 -> (drop-out) -> linear: TensorFlow's LeNet.

    Weights begin as N(0, 2 / fan_in) before a ReLU, N(0, 1 / fan_in) at the end; biases as 1, those of the end as 0.

    Args:
        num_classes: outputs, logits.
        in_channels: channels of the images.
        keep_prob: the probability that a hidden unit of the 1,024 is kept in training; 1 for no drop-out.
        image_size: height and width of the images, a multiple of 4.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, keep_prob: float = 1.0, image_size: int = 28):
        super().__init__()
        positive("LeNet", num_classes=num_classes, in_channels=in_channels)
        if isinstance(keep_prob, bool) or not isinstance(keep_prob, int | float) or not 0 < keep_prob <= 1:
            raise ValueError(f"LeNet: keep_prob must be a number in (0, 1], got {keep_prob!r}")
        if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 4 or image_size % 4:
            raise ValueError(f"LeNet: image_size must be a positive multiple of 4, got {image_size!r}")
        self.image_size = image_size
        self.conv1 = Conv2d(in_channels, 32, kernel_size=5, padding="same")
        self.conv2 = Conv2d(32, 64, kernel_size=5, padding="same")
        self.fc1 = Linear(64 * (image_size // 4) ** 2, 1024)
        self.fc2 = Linear(1024, num_classes)
        for layer in (self.conv1, self.conv2, self.fc1):
            init.kaiming_normal_(layer.weight, nonlinearity="relu")
            init.constant_(layer.bias, 1.0)
        init.kaiming_normal_(self.fc2.weight, nonlinearity="linear")
        init.zeros_(self.fc2.bias)
        self.relu, self.pool = ReLU(), MaxPool2d(2)
        self.dropout = Dropout(1 - keep_prob) if keep_prob < 1 else Identity()

    def forward(self, x: Any) -> Any:
        check_image(x, self.image_size)
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        return self.fc2(self.dropout(self.relu(self.fc1(x.flatten(1)))))


class LeNetCaffe(Module):
    """conv 5x5, 20 -> pool -> conv 5x5, 50 -> pool -> linear 500 -> ReLU -> linear: Caffe's LeNet.

    The layers have the names of Caffe's lenet.prototxt, and weights begin as there: "xavier", U(-a, a) with
    a = √(3 / fan_in); biases as 0. No padding, and no ReLU after the convolutions.

    Args:
        num_classes: outputs, logits.
        in_channels: channels of the images, which are 28x28.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1):
        super().__init__()
        positive("LeNetCaffe", num_classes=num_classes, in_channels=in_channels)
        self.conv1 = Conv2d(in_channels, 20, kernel_size=5)
        self.conv2 = Conv2d(20, 50, kernel_size=5)
        self.ip1 = Linear(50 * 4 * 4, 500)
        self.ip2 = Linear(500, num_classes)
        for layer in self.children():
            bound = math.sqrt(3 / math.prod(layer.weight.shape[1:]))
            init.uniform_(layer.weight, -bound, bound)
            init.zeros_(layer.bias)
        self.relu, self.pool = ReLU(), MaxPool2d(2)

    def forward(self, x: Any) -> Any:
        check_image(x, 28)
        x = self.pool(self.conv1(x))
        x = self.pool(self.conv2(x))
        return self.ip2(self.relu(self.ip1(x.flatten(1))))


def _lenet(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> LeNet:
    return LeNet(num_classes, in_channels, image_size=image_size)


def _lenet_dropout(num_classes: int = 10, in_channels: int = 1, keep_prob: float = 0.5, image_size: int = 28) -> LeNet:
    return LeNet(num_classes, in_channels, keep_prob, image_size)


def _lenet_caffe(num_classes: int = 10, in_channels: int = 1) -> LeNetCaffe:
    return LeNetCaffe(num_classes, in_channels)


lenet = register_model(
    _lenet,
    "lenet",
    "Build LeNet for MNIST, input (N, 1, 28, 28): 5x5x32, 5x5x64, 1024, 10.\n\n"
    "Source: TensorFlow's tutorial for MNIST; after LeCun et al. 1998. Options: see `LeNet`.",
)
lenet_dropout = register_model(
    _lenet_dropout,
    "lenet_dropout",
    "Build LeNet with drop-out for MNIST, input (N, 1, 28, 28): 5x5x32, 5x5x64, 1024, drop-out, 10.\n\n"
    "Source: TensorFlow's tutorial for MNIST; Srivastava et al. 2014. Options: see `LeNet`.",
)
lenet_caffe = register_model(
    _lenet_caffe,
    "lenet_caffe",
    "Build Caffe's LeNet for MNIST, input (N, 1, 28, 28): 5x5x20, 5x5x50, 500, 10.\n\n"
    "Source: Caffe, examples/mnist/lenet.prototxt. Options: see `LeNetCaffe`.",
)
