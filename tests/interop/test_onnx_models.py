"""Every network of minidl.models as an ONNX file: onnxruntime computes the same, for other batch sizes too."""

import os

import pytest
from onnx_judge import compared, stirred

import minidl
from minidl.models import get_model, list_models

CIFAR = {f"{kind}{depth}" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110, 1202)}

TOO_LONG = {
    "resnet1202": "200 blocks a stage instead of 18: resnet110",
    **dict.fromkeys(("resnet101", "resnet152"), "23 and 36 blocks instead of 6: resnet50"),
    **dict.fromkeys(
        ("resnet34_cifar", "resnet50_cifar"), "the stem of resnet18_cifar, the blocks of resnet34, resnet50"
    ),
    **dict.fromkeys(
        [f"vgg{name}{bn}" for name in ("11", "13", "16", "16_c", "19") for bn in ("", "_bn")] + ["vgg11_lrn"],
        "half a gigabyte of weights each; vgg11_lrn_bn and the networks for CIFAR-10 have all their layers",
    ),
}


def size_of(name):
    if name.startswith("lenet"):
        return 1, 28, 28
    if name == "vgg11_lrn_bn":
        return 3, 224, 224
    return (3, 32, 32) if name in CIFAR or name.endswith("_cifar") else (3, 64, 64)


def chosen():
    """Those that are compared in a moment; with MINIDL_SLOW=1 all of them."""
    return [name for name in list_models() if name not in TOO_LONG or os.environ.get("MINIDL_SLOW") == "1"]


@pytest.mark.parametrize("name", chosen())
def test_models(name, tmp_path):
    model, size = stirred(get_model(name)), size_of(name)
    path = compared(model, [minidl.randn(n, *size).numpy() for n in ((1,) if size[1] == 224 else (2, 3))], tmp_path)
    path.unlink()  # pytest keeps the folders of its last runs


def test_what_is_left_out_exists():
    assert set(TOO_LONG) <= set(list_models())
