"""Networks by name."""

from minidl.models.registry import get_model, list_models
from minidl.models.resnet import (
    ResNet,
    plain18,
    plain34,
    resnet18,
    resnet18_cifar,
    resnet34,
    resnet34_cifar,
    resnet50,
    resnet50_cifar,
    resnet101,
    resnet152,
)
from minidl.models.resnet_cifar import (
    ResNetCIFAR,
    plain20,
    plain32,
    plain44,
    plain56,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
    resnet1202,
)

__all__ = ["ResNet", "ResNetCIFAR", "get_model", "list_models"]
__all__ += ["plain18", "plain20", "plain32", "plain34", "plain44", "plain56"]
__all__ += ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
__all__ += ["resnet18_cifar", "resnet34_cifar", "resnet50_cifar"]
__all__ += ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202"]
