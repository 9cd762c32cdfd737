"""The public ResNet-50 deploy file, written here from its structure: names, shapes, parameters, multiply-adds."""

import numpy as np
import pytest

import minidl
from minidl.interop.caffe import from_prototxt
from minidl.study import count

#         stage  blocks  channels inside
STAGES = [(2, 3, 64), (3, 4, 128), (4, 6, 256), (5, 3, 512)]


def layer(name, kind, bottoms, top, options=""):
    bottoms = " ".join(f'bottom: "{b}"' for b in bottoms)
    return f'layer {{\n\t{bottoms}\n\ttop: "{top}"\n\tname: "{name}"\n\ttype: "{kind}"\n\t{options}\n}}\n\n'


def conv_bn_scale(name, bottom, channels, kernel, stride=1, pad=0, bias=False):
    """A convolution, and in its blob BatchNorm and Scale; names as in res2a_branch1, bn2a_branch1, scale2a_branch1."""
    short = name.removeprefix("res") if name.startswith("res") else f"_{name}"
    options = f"num_output: {channels} kernel_size: {kernel} pad: {pad} stride: {stride}"
    options += "" if bias else " bias_term: false"
    text = layer(name, "Convolution", [bottom], name, f"convolution_param {{ {options} }}")
    text += layer(f"bn{short}", "BatchNorm", [name], name, "batch_norm_param { use_global_stats: true }")
    return text + layer(f"scale{short}", "Scale", [name], name, "scale_param { bias_term: true }")


def relu(blob):
    return layer(f"{blob}_relu", "ReLU", [blob], blob)


def resnet50(conv1_bias=False, size=224):
    """The deploy file; the published one has a bias in conv1, though BatchNorm follows."""
    text = f'name: "ResNet-50"\ninput: "data"\ninput_dim: 1\ninput_dim: 3\ninput_dim: {size}\ninput_dim: {size}\n\n'
    text += conv_bn_scale("conv1", "data", 64, kernel=7, stride=2, pad=3, bias=conv1_bias) + relu("conv1")
    text += layer("pool1", "Pooling", ["conv1"], "pool1", "pooling_param { kernel_size: 3 stride: 2 pool: MAX }")
    x = "pool1"
    for stage, blocks, channels in STAGES:
        for i in range(blocks):
            block = f"res{stage}{'abcdef'[i]}"
            stride, shortcut = 2 if i == 0 and stage > 2 else 1, x
            if i == 0:
                shortcut = f"{block}_branch1"
                text += conv_bn_scale(shortcut, x, 4 * channels, kernel=1, stride=stride)
            a, b, c = (f"{block}_branch2{letter}" for letter in "abc")
            text += conv_bn_scale(a, x, channels, kernel=1, stride=stride) + relu(a)
            text += conv_bn_scale(b, a, channels, kernel=3, pad=1) + relu(b)
            text += conv_bn_scale(c, b, 4 * channels, kernel=1)
            text += layer(block, "Eltwise", [shortcut, c], block) + relu(block)
            x = block
    text += layer(
        "pool5", "Pooling", [x], "pool5", f"pooling_param {{ kernel_size: {size // 32} stride: 1 pool: AVE }}"
    )
    text += layer("fc1000", "InnerProduct", ["pool5"], "fc1000", "inner_product_param { num_output: 1000 }")
    return text + layer("prob", "Softmax", ["fc1000"], "prob")


@pytest.fixture(scope="module")
def net():
    return from_prototxt(resnet50(), "TEST")


def test_shapes_are_caffes(net):
    expected = {
        **{"data": (1, 3, 224, 224), "conv1": (1, 64, 112, 112), "pool1": (1, 64, 56, 56), "res2c": (1, 256, 56, 56)},
        **{"res3d": (1, 512, 28, 28), "res4f": (1, 1024, 14, 14), "res5c": (1, 2048, 7, 7), "pool5": (1, 2048, 1, 1)},
        **{"fc1000": (1, 1000), "prob": (1, 1000), "res3a_branch2a": (1, 128, 28, 28)},
    }
    assert {name: net.blobs[name] for name in expected} == expected
    assert len(net.layers) == 4 + 1 + 4 * 3 + 16 * 13 + 3


def test_parameters_are_those_of_resnet_50(net):
    """Gammas and betas are the parameters of Scale; the means and variances of BatchNorm are buffers."""
    assert sum(p.numel() for p in net.parameters()) == 25_557_032
    assert sum(p.numel() for p in from_prototxt(resnet50(conv1_bias=True)).parameters()) == 25_557_032 + 64
    statistics = [name for name in net.state_dict() if "running" in name]
    assert len(statistics) == 2 * 53 and sum(net.state_dict()[name].numel() for name in statistics) == 2 * 26_560
    for name in ("res2a_branch1.weight", "bn2a_branch1.running_mean", "scale2a_branch1.bias", "bn_conv1.running_var"):
        assert name in net.state_dict()


def test_multiply_adds_are_the_papers(net):
    """3.8e9 with stride 2 in the first 1x1 convolution, as in this file; and one pass gives probabilities."""
    counts = count(net, (3, 224, 224), batch_size=1)
    assert round(counts.multiply_adds / 1e9, 3) == 3.858


def test_it_gives_probabilities_at_another_size_too(net):
    small = from_prototxt(resnet50(size=64), "TEST")
    x = minidl.randn(2, 3, 64, 64)
    prob = small(x)
    np.testing.assert_allclose(prob.detach().numpy().sum(1), 1, rtol=1e-5)
    assert list(small(data=x)) == ["prob"]
    small.load_state_dict(net.state_dict())  # the same parameters, whatever the size of the image
