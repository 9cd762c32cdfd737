"""Layers, blocks and losses, under PyTorch's names."""

from minidl.nn import functional, init
from minidl.nn.blocks import Bottleneck, ResidualBlock
from minidl.nn.containers import ModuleList, Sequential
from minidl.nn.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Conv2d,
    CrossEntropyLoss,
    Flatten,
    Identity,
    Linear,
    MaxPool2d,
    ReLU,
)
from minidl.nn.module import Module, Parameter
from minidl.nn.norm import BatchNorm1d, BatchNorm2d

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Bottleneck",
    "Conv2d",
    "CrossEntropyLoss",
    "Flatten",
    "Identity",
    "Linear",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "ResidualBlock",
    "Sequential",
    "functional",
    "init",
]
