"""Residual blocks (He et al. 2015, arXiv 1512.03385, figure 5): y = relu(F(x) + shortcut(x))."""

from typing import Any

from minidl.nn import functional as F
from minidl.nn.containers import Sequential
from minidl.nn.layers import Conv2d, Identity, ReLU
from minidl.nn.module import Module
from minidl.nn.norm import BatchNorm2d

__all__ = ["Bottleneck", "ResidualBlock", "ZeroPadding"]


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


def make_shortcut(option: str, in_channels: int, out_channels: int, stride: int) -> Module:
    """The path around a block: the identity where it fits, else by the paper's option.

    "A" pads with zeros; "B" projects (1x1 convolution and BN) where dimensions differ; "C" projects everywhere.
    """
    if option not in ("A", "B", "C"):
        raise ValueError(f"shortcut must be 'A' (zero padding), 'B' or 'C' (projection), got {option!r}")
    if option != "C" and stride == 1 and in_channels == out_channels:
        return Identity()
    if option == "A":
        return ZeroPadding(in_channels, out_channels, stride)
    return Sequential(conv1x1(in_channels, out_channels, stride), BatchNorm2d(out_channels))


class ResidualBlock(Module):
    """Two 3x3 convolutions with BN, and a shortcut: x (N, in_channels, H, W) -> (N, out_channels, H/stride, W/stride).

    Args:
        in_channels, out_channels: channels.
        stride: of the first convolution and the shortcut.
        shortcut: "A", "B" or "C" (see `make_shortcut`), or None for a plain block without one.
    """

    expansion = 1

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, shortcut: str | None = "B"):
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = BatchNorm2d(out_channels)
        self.relu = ReLU()
        self.downsample = shortcut and make_shortcut(shortcut, in_channels, out_channels, stride)

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
        shortcut: "A", "B" or "C" (see `make_shortcut`), or None for a plain block without one.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        shortcut: str | None = "B",
        stride_in_1x1: bool = False,
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
        self.downsample = shortcut and make_shortcut(shortcut, in_channels, out_channels, stride)

    def forward(self, x: Any) -> Any:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out if self.downsample is None else out + self.downsample(x))
