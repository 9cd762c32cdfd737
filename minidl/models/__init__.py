"""Networks by name."""

from minidl.models.registry import get_model, list_models
from minidl.models.resnet_cifar import ResNetCIFAR, resnet20, resnet32, resnet44, resnet56, resnet110

__all__ = [
    "ResNetCIFAR",
    "get_model",
    "list_models",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
]
