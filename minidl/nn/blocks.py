"""Residual blocks (He et al. 2015, arXiv 1512.03385, figure 5): y = relu(F(x) + shortcut(x))."""

from typing import Any

from minidl.nn import functional as F
from minidl.nn.activation_layers import ReLU
from minidl.nn.containers import Sequential
from minidl.nn.layers import Conv2d, Identity
from minidl.nn.module import Module
from minidl.nn.norm import BatchNorm2d

__all__ = ["SHORTCUTS", "BottleNeck", "Bottleneck", "ResidualBlock", "Standard", "ZeroPadding", "make_shortcut"]


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    return Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> Conv2d:
    return Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)


class ZeroPadding(Module):
    """Option A: every `stride`-th pixel, and channels of zeros half before, half after; no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        if out_channels < in_channels:
            raise ValueError(f"ZeroPadding: cannot pad {in_channels} channels to {out_channels}; use shortcut='B'")
        before = (out_channels - in_channels) // 2
        self.stride, self.channels = stride, (before, out_channels - in_channels - before)

    def forward(self, x: Any) -> Any:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.channels))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, channels={self.channels}"


#: The ways to bring x to the size of F(x), see `make_shortcut`.
SHORTCUTS = ("A", "conv3x3", "B", "C")


def make_shortcut(option: str, in_channels: int, out_channels: int, stride: int, verbose: bool = False) -> Module:
    """Build the path around a block: the identity where it fits, else by one of the three ways to add.

    Args:
        option: "A" pads with zeros; "conv3x3" convolves, 3x3; "B" projects, a 1x1 convolution; each only where the
            dimensions differ. "C" projects everywhere. BN follows the convolutions.
        in_channels, out_channels: channels of x and of F(x).
        stride: by which F(x) is smaller than x.
        verbose: print each addition of different dimensions, once for each size of x, as
            `28*28*256 + Conv2D(256, 3x3, stride 2) 56*56*128`: the size of F(x), what is done to x, the size of x.

    Raises:
        ValueError: there is no such option, or zero padding would have to remove channels.
    """
    if option not in SHORTCUTS:
        raise ValueError(
            f"shortcut must be 'A' (zero padding), 'conv3x3' (3x3 convolution), 'B' or 'C' (projection), got {option!r}"
        )
    if stride == 1 and in_channels == out_channels and option != "C":
        return Identity()
    if option == "A":
        path, text = ZeroPadding(in_channels, out_channels, stride), f"ZeroPadding({out_channels}, stride {stride})"
    else:
        conv, size = (conv3x3, "3x3") if option == "conv3x3" else (conv1x1, "1x1")
        path = Sequential(conv(in_channels, out_channels, stride), BatchNorm2d(out_channels))
        text = f"Conv2D({out_channels}, {size}, stride {stride})"
    if verbose and (stride != 1 or in_channels != out_channels):
        path.register_forward_hook(AdditionPrinter(text))
    return path


class AdditionPrinter:
    """Prints the addition behind a shortcut, once for each size of x."""

    def __init__(self, text: str):
        self.text, self.printed = text, set()

    def __call__(self, shortcut: Module, inputs: tuple, output: Any) -> None:
        (x,) = inputs
        if x.shape[1:] not in self.printed:
            self.printed.add(x.shape[1:])
            sizes = [f"{height}*{width}*{channels}" for _, channels, height, width in (output.shape, x.shape)]
            print(f"{sizes[0]} + {self.text} {sizes[1]}")


class ResidualBlock(Module):
    """Two 3x3 convolutions with BN, and a shortcut: x (N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride).

    Args:
        in_channels, out_channels: channels.
        stride: of the first convolution and the shortcut.
        shortcut: "A", "conv3x3", "B" or "C" (see `make_shortcut`), or None for a plain block without one.
        verbose: print the addition where dimensions differ (see `make_shortcut`).
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        shortcut: str | None = "B",
        *,
        verbose: bool = False,
    ):
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = BatchNorm2d(out_channels)
        self.relu = ReLU()
        self.downsample = None
        if shortcut is not None:
            self.downsample = make_shortcut(shortcut, in_channels, out_channels, stride, verbose)

    def forward(self, x: Any) -> Any:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out if self.downsample is None else out + self.downsample(x))


class Bottleneck(Module):
    """1x1, 3x3, 1x1 convolutions with BN, and a shortcut: x (N, in_channels, H, W) -> (N, 4 channels, ...).

    Args:
        in_channels: channels of x.
        channels: channels inside; 4 times as many come out.
        stride: of the 3x3 convolution (or, with stride_in_1x1, of the first 1x1, as in the paper) and the shortcut.
        shortcut: "A", "conv3x3", "B" or "C" (see `make_shortcut`), or None for a plain block without one.
        verbose: print the addition where dimensions differ (see `make_shortcut`).
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        shortcut: str | None = "B",
        stride_in_1x1: bool = False,
        *,
        verbose: bool = False,
    ):
        super().__init__()
        out_channels = channels * self.expansion
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = conv1x1(in_channels, channels, first)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, second)
        self.bn2 = BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, out_channels)
        self.bn3 = BatchNorm2d(out_channels)
        self.relu = ReLU()
        self.downsample = None
        if shortcut is not None:
            self.downsample = make_shortcut(shortcut, in_channels, out_channels, stride, verbose)

    def forward(self, x: Any) -> Any:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out if self.downsample is None else out + self.downsample(x))


class Standard(Module):
    """Two 3x3 convolutions without BN and a 3x3 shortcut: the block that `BottleNeck` is compared with.

    x (N, in_dim, H, W) -> (N, out_dim, H, W). Of 256, 64 and 64 channels it has 147,456 + 36,864 + 147,456 = 331,776
    parameters; the last are the shortcut's, which brings x to out_dim channels.
    """

    def __init__(self, in_dim: int = 256, mid_dim: int = 64, out_dim: int = 64):
        super().__init__()
        self.building_block = Sequential(conv3x3(in_dim, mid_dim), ReLU(), conv3x3(mid_dim, out_dim))
        self.shortcut = conv3x3(in_dim, out_dim)
        self.relu = ReLU()

    def forward(self, x: Any) -> Any:
        return self.relu(self.building_block(x) + self.shortcut(x))


class BottleNeck(Module):
    """1x1, 3x3, 1x1 convolutions without BN and a 1x1 shortcut with bias (with BN: `Bottleneck`).

    x (N, in_dim, H, W) -> (N, out_dim, H, W). Of 256, 64 and 256 channels it has 16,384 + 36,864 + 16,384 + 65,792 =
    135,424 parameters: four times the channels of `Standard` and less than half of the parameters.
    """

    def __init__(self, in_dim: int = 256, mid_dim: int = 64, out_dim: int = 256):
        super().__init__()
        self.bottleneck = Sequential(
            *(conv1x1(in_dim, mid_dim), ReLU()),
            *(conv3x3(mid_dim, mid_dim), ReLU()),
            conv1x1(mid_dim, out_dim),
        )
        self.shortcut = Conv2d(in_dim, out_dim, kernel_size=1)
        self.relu = ReLU()

    def forward(self, x: Any) -> Any:
        return self.relu(self.bottleneck(x) + self.shortcut(x))
