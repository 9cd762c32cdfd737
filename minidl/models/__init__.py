"""Networks by name."""

from minidl.models.lenet_mnist import LeNet, LeNetCaffe, lenet, lenet_caffe, lenet_dropout
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
from minidl.models.vgg import (
    VGG,
    VGGCIFAR,
    vgg11,
    vgg11_bn,
    vgg11_cifar,
    vgg11_lrn,
    vgg11_lrn_bn,
    vgg13,
    vgg13_bn,
    vgg13_cifar,
    vgg16,
    vgg16_bn,
    vgg16_c,
    vgg16_c_bn,
    vgg16_cifar,
    vgg19,
    vgg19_bn,
    vgg19_cifar,
)

__all__ = ["VGG", "VGGCIFAR", "LeNet", "LeNetCaffe", "ResNet", "ResNetCIFAR", "get_model", "list_models"]
__all__ += ["lenet", "lenet_caffe", "lenet_dropout"]
__all__ += ["plain18", "plain20", "plain32", "plain34", "plain44", "plain56"]
__all__ += ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
__all__ += ["resnet18_cifar", "resnet34_cifar", "resnet50_cifar"]
__all__ += ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202"]
__all__ += ["vgg11", "vgg11_lrn", "vgg13", "vgg16_c", "vgg16", "vgg19"]
__all__ += ["vgg11_bn", "vgg11_lrn_bn", "vgg13_bn", "vgg16_c_bn", "vgg16_bn", "vgg19_bn"]
__all__ += ["vgg11_cifar", "vgg13_cifar", "vgg16_cifar", "vgg19_cifar"]
