"""Layers: each holds its parameters, checks its options, and calls one function."""

import math
from typing import Any

import numpy as np

from minidl.creation import empty
from minidl.nn import functional as F
from minidl.nn import init
from minidl.nn.checks import positive
from minidl.nn.geometry import as_pair, conv_padding
from minidl.nn.module import Module, Parameter

__all__ = ["Conv2d", "ConvTranspose2d", "Flatten", "Identity", "Linear", "Unflatten"]


class _Weighted(Module):
    """A layer with a weight and perhaps a bias."""

    def reset_parameters(self) -> None:
        """Draw weight and bias from U(-1/√fan_in, 1/√fan_in), as PyTorch does."""
        bound = 1 / math.sqrt(init.fans(self.weight)[0])
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)


class Linear(_Weighted):
    """y = x Wᵀ + b: x (..., in_features) -> (..., out_features); weight (out_features, in_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = np.float32):
        super().__init__()
        positive("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(empty(out_features, in_features, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_features, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Conv2d(_Weighted):
    """2-D convolution (see `functional.conv2d`): x (N, in_channels, H, W) -> (N, out_channels, OH, OW)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = np.float32,
    ):
        super().__init__()
        positive("Conv2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: groups={groups} must divide {in_channels} input and {out_channels} output channels"
            )
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(
                f"Conv2d: padding_mode must be 'zeros', 'reflect', 'replicate' or 'circular', got {padding_mode!r}"
            )
        self.in_channels, self.out_channels, self.groups, self.padding_mode = (
            in_channels,
            out_channels,
            groups,
            padding_mode,
        )
        self.kernel_size = as_pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride = as_pair("Conv2d", "stride", stride, 1)
        self.dilation = as_pair("Conv2d", "dilation", dilation, 1)
        self.padding = padding if isinstance(padding, str) else as_pair("Conv2d", "padding", padding, 0)
        (top, left), (bottom, right) = conv_padding("Conv2d", padding, self.kernel_size, self.stride, self.dilation)
        self._around = (left, left + right, top, top + bottom)  # for the modes that are no option of conv2d
        self.weight = Parameter(empty(out_channels, in_channels // groups, *self.kernel_size, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_channels, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def forward(self, x: Any) -> Any:
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._around, mode=self.padding_mode), 0
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        defaults = {"padding": (0, 0), "dilation": (1, 1), "groups": 1, "padding_mode": "zeros"}
        changed = {name: getattr(self, name) for name in defaults if getattr(self, name) != defaults[name]}
        text += "".join(f", {name}={value}" for name, value in changed.items() if name != "padding_mode")
        text += ", bias=False" if self.bias is None else ""
        return text + (f", padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else "")


class ConvTranspose2d(_Weighted):
    """Transposed 2-D convolution (see `functional.conv_transpose2d`): x (N, in_channels, H, W) becomes larger."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        dtype: Any = np.float32,
    ):
        super().__init__()
        positive("ConvTranspose2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"ConvTranspose2d: groups={groups} must divide {in_channels} input and {out_channels} output channels"
            )
        if padding_mode != "zeros":
            raise ValueError(f"ConvTranspose2d: padding_mode must be 'zeros', got {padding_mode!r}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = as_pair("ConvTranspose2d", "kernel_size", kernel_size, 1)
        self.stride, self.dilation = (
            as_pair("ConvTranspose2d", name, value, 1) for name, value in (("stride", stride), ("dilation", dilation))
        )
        self.padding, self.output_padding = (
            as_pair("ConvTranspose2d", name, value, 0)
            for name, value in (("padding", padding), ("output_padding", output_padding))
        )
        self.weight = Parameter(empty(in_channels, out_channels // groups, *self.kernel_size, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_channels, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def forward(self, x: Any) -> Any:
        options = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return F.conv_transpose2d(x, self.weight, self.bias, *options)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        defaults = {"padding": (0, 0), "dilation": (1, 1), "output_padding": (0, 0), "groups": 1}
        text += "".join(f", {n}={getattr(self, n)}" for n, default in defaults.items() if getattr(self, n) != default)
        return text + (", bias=False" if self.bias is None else "")


class Flatten(Module):
    """Join the axes from start_dim to end_dim."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split one axis into several: the axis `dim` into the extents `unflattened_size`."""

    def __init__(self, dim: int, unflattened_size: Any):
        super().__init__()
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, x: Any) -> Any:
        return x.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Identity(Module):
    """y = x; any arguments are taken and forgotten."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x
