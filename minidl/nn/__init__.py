"""Layers, blocks and losses, under PyTorch's names."""

from minidl.nn import activation_layers, functional, init
from minidl.nn import clipping as utils  # PyTorch's name
from minidl.nn.activation_layers import *  # noqa: F403
from minidl.nn.blocks import Bottleneck, ResidualBlock
from minidl.nn.containers import ModuleDict, ModuleList, ParameterList, Sequential
from minidl.nn.dropout import Dropout, Dropout2d
from minidl.nn.elementwise_losses import BCELoss, BCEWithLogitsLoss, HuberLoss, L1Loss, MSELoss, SmoothL1Loss
from minidl.nn.folding import fold_batch_norm
from minidl.nn.layers import Conv2d, ConvTranspose2d, Flatten, Identity, Linear, Unflatten
from minidl.nn.losses import CrossEntropyLoss, KLDivLoss, NLLLoss
from minidl.nn.module import Module, Parameter
from minidl.nn.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, LocalResponseNorm
from minidl.nn.padding import ConstantPad2d, ReflectionPad2d, ReplicationPad2d, ZeroPad2d
from minidl.nn.pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d
from minidl.nn.resampling import ChannelShuffle, PixelShuffle, Upsample, UpsamplingBilinear2d, UpsamplingNearest2d
from minidl.nn.whitening import Whitening

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Bottleneck",
    "ChannelShuffle",
    "ConstantPad2d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GroupNorm",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LayerNorm",
    "Linear",
    "LocalResponseNorm",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ParameterList",
    "PixelShuffle",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "ResidualBlock",
    "Sequential",
    "SmoothL1Loss",
    "Unflatten",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "Whitening",
    "ZeroPad2d",
    "fold_batch_norm",
    "functional",
    "init",
    "utils",
]
__all__ += activation_layers.__all__
