"""Model files written for PyTorch run with their imports swapped, and compute what they compute under PyTorch."""

import re
from copy import deepcopy
from functools import cache
from operator import attrgetter

import numpy as np
import pytest
from pytorch_code.loading import HERE, SWAPS, load, swapped

import minidl

PAGE = (HERE.parents[1] / "docs" / "porting.md").read_text()

DPN_SMALL = {"in_planes": (8,) * 4, "out_planes": (8, 16, 16, 16), "num_blocks": (2, 1, 1, 1), "dense_depth": (4,) * 4}
REGNET_SMALL = {
    "depths": [1, 2, 1],
    "widths": [8, 16, 24],
    "strides": [1, 2, 2],
    "group_width": 4,
    "bottleneck_ratio": 1,
    "se_ratio": 0.25,
}
GOOGLENET_SMALL = [("a3", 8, 4, 8, 4, 4, 4), "M", ("a4", 8, 8, 8, 4, 4, 4), ("b4", 4, 4, 8, 2, 4, 4), "M"]
GOOGLENET_SMALL += [("a5", 8, 4, 8, 2, 4, 4)]


def efficientnet(m, drop):
    cfg = {"num_blocks": [1, 2, 2], "expansion": [1, 3, 2], "out_planes": [8, 12, 12], "kernel_size": [3, 5, 3]}
    return m.EfficientNet({**cfg, "stride": [1, 2, 1], "dropout_rate": drop, "drop_connect_rate": drop}, stem=8)


#: The full-size networks: file, constructor, parameters where the number is published for the same network.
FULL = [
    ("lenet", "LeNet", 62_006),
    ("resnet", "ResNet18", 11_173_962),
    ("resnet", "ResNet50", 23_520_842),
    ("resnet", "resnet56", 853_018),
    ("preact_resnet", "PreActResNet18", None),
    ("preact_resnet", "PreActResNet50", None),
    ("resnext", "ResNeXt29_2x64d", 9_128_778),
    ("resnext", "ResNeXt29_32x4d", 4_774_218),
    ("vgg", "VGG16", 14_728_266),
    ("vgg", "vgg19_plain", None),
    ("googlenet", "GoogLeNet", 6_166_250),
    ("densenet", "DenseNet121", 6_956_298),
    ("densenet", "densenet_cifar", 1_000_618),
    ("mobilenet", "MobileNet", 3_217_226),
    ("mobilenetv2", "MobileNetV2", 2_236_682),
    ("senet", "SENet18", 11_260_354),
    ("shufflenet", "ShuffleNetG2", 887_582),
    ("shufflenet", "ShuffleNetG3", 862_768),
    ("shufflenetv2", "shufflenet_v2_x1_0", 1_263_854),
    ("efficientnet", "EfficientNetB0", 3_598_598),  # 5,288,548 less the head of 1280 channels and 1000 classes
    ("dpn", "DPN26", 11_574_842),
    ("dpn", "DPN92", 34_236_634),
    ("dla", "DLA", 16_291_386),
    ("dla", "SimpleDLA", 15_142_970),
    ("regnet", "RegNetX_200MF", 2_321_946),
    ("regnet", "RegNetY_400MF", 5_714_362),
    ("pnasnet", "PNASNetA", 130_646),
    ("pnasnet", "PNASNetB", 451_626),
    ("wide_resnet", "WideResNet28_10", 36_479_194),
    ("squeezenet", "SqueezeNet", None),
    ("mobilenetv3", "MobileNetV3", None),
    ("attention_blocks", "AttentionNet", None),
    ("convnext", "ConvNeXt", None),
    ("convnext", "ConvMixer", None),
    ("vit", "ViT", None),
]

#: Small ones, that are run: file, constructor (module, dropout) -> network, height of the images.
SMALL = {
    "lenet": ("lenet", lambda m, drop: m.LeNet(), 32),
    "resnet": ("resnet", lambda m, drop: m.ResNet(m.BasicBlock, [1, 1, 1], width=8), 16),
    "resnet-bottleneck": ("resnet", lambda m, drop: m.ResNet(m.Bottleneck, [1, 1], width=4), 16),
    "resnet-option-a": ("resnet", lambda m, drop: m.ResNet(m.BasicBlock, [1, 1, 1], width=8, option="A"), 16),
    "preact_resnet": ("preact_resnet", lambda m, drop: m.PreActResNet(m.PreActBlock, [1, 1, 1, 1], width=4), 32),
    "preact_resnet-bottleneck": (
        "preact_resnet",
        lambda m, drop: m.PreActResNet(m.PreActBottleneck, [1, 1, 1, 1], width=4),
        32,
    ),
    "resnext": ("resnext", lambda m, drop: m.ResNeXt([1, 1, 1], 4, 2, stem=8), 16),
    "vgg": ("vgg", lambda m, drop: m.VGG([8, "M", 12, "M", 16, 16, "M", 16, "M"]), 16),
    "vgg-plain": (
        "vgg",
        lambda m, drop: m.VGG([8, "M", 12, "M", 16, 16, "M", 16, "M"], batch_norm=False, hidden=24, dropout=drop),
        16,
    ),
    "googlenet": ("googlenet", lambda m, drop: m.GoogLeNet(GOOGLENET_SMALL, stem=8), 32),
    "densenet": ("densenet", lambda m, drop: m.DenseNet([2, 2, 2], growth_rate=6, drop_rate=drop), 16),
    "mobilenet": ("mobilenet", lambda m, drop: m.MobileNet([16, (24, 2), (24, 2), (32, 2)], stem=8), 16),
    "mobilenetv2": (
        "mobilenetv2",
        lambda m, drop: m.MobileNetV2([[1, 8, 1, 1], [3, 16, 2, 2]], stem=8, last_channel=32, dropout=drop),
        16,
    ),
    "senet": ("senet", lambda m, drop: m.SENet(m.PreActBlock, [1, 1, 1, 1], width=8, reduction=4), 32),
    "senet-linear": ("senet", lambda m, drop: m.SENet(m.BasicBlock, [1, 1, 1, 1], width=8, reduction=4), 32),
    "shufflenet": (
        "shufflenet",
        lambda m, drop: m.ShuffleNet({"out_planes": [24, 48, 96], "num_blocks": [2, 2, 1], "groups": 3}, stem=12),
        32,
    ),
    "shufflenetv2": ("shufflenetv2", lambda m, drop: m.ShuffleNetV2([2, 1, 1], [8, 16, 24, 32, 40], mix=True), 16),
    "efficientnet": ("efficientnet", efficientnet, 16),
    "dpn": ("dpn", lambda m, drop: m.DPN(DPN_SMALL, stem=8, groups=4), 32),
    "dla": ("dla", lambda m, drop: m.DLA(levels=(1, 2, 3, 1), width=2), 32),
    "dla-simple": ("dla", lambda m, drop: m.SimpleDLA(levels=(1, 2, 1, 1), width=2), 32),
    "regnet-x": ("regnet", lambda m, drop: m.RegNet({**REGNET_SMALL, "se_ratio": 0}, stem=8), 16),
    "regnet-y": ("regnet", lambda m, drop: m.RegNet(REGNET_SMALL, stem=8), 16),
    "pnasnet-a": ("pnasnet", lambda m, drop: m.PNASNet(m.CellA, num_cells=1, num_planes=8), 16),
    "pnasnet-b": ("pnasnet", lambda m, drop: m.PNASNet(m.CellB, num_cells=1, num_planes=8), 16),
    "wide_resnet": ("wide_resnet", lambda m, drop: m.WideResNet(16, 1, drop), 16),
    "squeezenet": ("squeezenet", lambda m, drop: m.SqueezeNet((2, 3, 4, 4), stem=8, dropout=drop), 16),
    "mobilenetv3": (
        "mobilenetv3",
        lambda m, drop: m.MobileNetV3(
            [(3, 16, 8, m.nn.ReLU, True, 2), (5, 24, 12, m.hswish, True, 1), (3, 24, 12, m.nn.Hardswish, True, 1)],
            stem=8,
            hidden=24,
            dropout=drop,
        ),
        16,
    ),
    "attention_blocks": ("attention_blocks", lambda m, drop: m.AttentionNet(width=8), 16),
    "convnext": ("convnext", lambda m, drop: m.ConvNeXt((1, 2), (8, 12), drop_path_rate=drop), 16),
    "convmixer": ("convnext", lambda m, drop: m.ConvMixer(dim=12, depth=2, kernel_size=3), 16),
    "vit": (
        "vit",
        lambda m, drop: m.ViT(image_size=16, dim=12, depth=2, heads=3, mlp_dim=24, dropout=drop),
        16,
    ),
}

DROPPING = ["vgg-plain", "densenet", "mobilenetv2", "efficientnet", "squeezenet", "mobilenetv3", "vit"]


def small(name, library, drop=0.0):
    file, construct, _ = SMALL[name]
    return construct(load(file, library), drop)


def images(name, batch=2):
    size = SMALL[name][2]
    return np.random.default_rng(0).standard_normal((batch, 3, size, size))


def test_every_file_is_run():
    files = {path.stem for path in HERE.glob("*.py")} - {"loading", "training"}
    assert {file for file, *_ in FULL} == {file for file, *_ in SMALL.values()} == files


def test_swapping_reaches_every_form_of_import():
    source = "import torch\nimport torch.nn as nn\nimport torch as th\n"
    source += "from torch import Tensor\nfrom torch.autograd import Variable\n"
    assert swapped(source + "torch.cat([])\n").splitlines() == [
        "import minidl as torch",
        "import minidl.nn as nn",
        "import minidl as th",
        "from minidl import Tensor",
        "from minidl.autograd import Variable",
        "torch.cat([])",
    ]
    assert all(f"s/{old}/{new}/" in PAGE for old, new in SWAPS)


def test_what_the_page_says_is_missing_is_missing():
    lines = re.findall(r"^- `torch\.?([\w.]*)`: ((?:.|\n  )+)", PAGE.split("## What is not there")[1], re.MULTILINE)
    assert len(lines) > 5
    for room, names in lines:
        found = attrgetter(room)(minidl) if room else minidl
        assert not [name for name in re.findall(r"`(\w+)`", names) if hasattr(found, name)], f"of {room}: now there"


@pytest.mark.parametrize("name", SMALL)
def test_a_step_gives_every_parameter_a_gradient(name):
    net = small(name, "minidl", drop=0.2)
    y = net(minidl.tensor(images(name), dtype=minidl.float32))
    assert y.shape == (2, 10)
    minidl.nn.functional.cross_entropy(y, minidl.tensor([3, 7])).backward()
    assert np.isfinite(y.detach().numpy()).all()
    for key, p in net.named_parameters():
        assert p.grad is not None and p.grad.shape == p.shape and np.isfinite(p.grad.numpy()).all(), key


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_acts_in_training_only(name):
    net, without = small(name, "minidl", drop=0.5), small(name, "minidl", drop=0.0)
    without.load_state_dict(net.state_dict())
    x = minidl.tensor(images(name, batch=8), dtype=minidl.float32)
    with minidl.no_grad():
        assert not minidl.equal(net(x), net(x))
        without.load_state_dict(net.state_dict())  # the passes above moved the running statistics
        assert minidl.equal(net.eval()(x), without.eval()(x))


@cache
def full(file, constructor):
    """Names, shapes and dtypes of a full-size network under minidl, and how many parameters it has."""
    net = getattr(load(file, "minidl"), constructor)()
    state = [(key, value.shape, f"torch.{value.dtype}") for key, value in net.state_dict().items()]
    return state, sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("file", "constructor", "parameters"), [case for case in FULL if case[2]])
def test_parameters_of_the_published_network(file, constructor, parameters):
    assert full(file, constructor)[1] == parameters


@pytest.mark.parametrize(("file", "constructor"), [case[:2] for case in FULL])
def test_state_dict_is_torchs(file, constructor):
    torch = pytest.importorskip("torch")
    with torch.device("meta"):  # shapes only
        theirs = getattr(load(file, "torch"), constructor)().state_dict()
    assert full(file, constructor)[0] == [(k, tuple(v.shape), str(v.dtype)) for k, v in theirs.items()]


def randomised(state, rng):
    """Statistics, scales and shifts that are not 0 and 1, so that none can be forgotten."""
    for key, value in state.items():
        if key.endswith("running_var") or (key.endswith("weight") and value.ndim == 1):
            state[key] = rng.uniform(0.5, 1.5, value.shape)
        elif value.ndim == 1:
            state[key] = rng.normal(0, 0.1, value.shape)
    return state


def step(library, net, x, dy):
    """Output, gradients by input and parameters, and buffers after one pass forward and back."""
    dtype = next(net.parameters()).dtype
    x = library.tensor(x, dtype=dtype).requires_grad_()
    net.zero_grad()
    y = net(x * 1)  # files may change their input in place
    y.backward(library.tensor(dy, dtype=dtype))
    results = {"output": y.detach(), "gradient of the input": x.grad}
    results |= {f"gradient of {key}": p.grad for key, p in net.named_parameters()}
    results |= {f"buffer {key}": b.detach() for key, b in net.named_buffers()}
    return {key: value.numpy().copy() for key, value in results.items()}


def compare(ours, theirs, tolerance, rounding=0.0):
    """Within the tolerance of the largest value; where that is 0, also within what rounding makes of it."""
    assert list(ours) == list(theirs)
    largest = max(np.abs(value).max() for key, value in theirs.items() if key.startswith("gradient"))
    for key, value in theirs.items():
        assert ours[key].shape == value.shape
        # a bias before batch norm has the gradient 0: what is computed is rounding of sums of larger numbers
        scale = max(np.abs(value).max(), 1e-3 * largest if key.startswith("gradient") else 0)
        limit = max(tolerance * scale, rounding if is_zero(value, largest) else 0)
        np.testing.assert_allclose(ours[key], value, rtol=0, atol=limit, err_msg=key)


def is_zero(gradient, largest):
    """Whether it is 0 by the mathematics, given the largest gradient, all in float64."""
    return np.abs(gradient).max() < 1e-12 * largest


def zeros(theirs, single):
    """The largest that float32 makes of gradients that are zero."""
    gradients = {key: value for key, value in theirs.items() if key.startswith("gradient")}
    largest = max(np.abs(value).max() for value in gradients.values())
    return max((np.abs(single[key]).max() for key, g in gradients.items() if is_zero(g, largest)), default=0.0)


@pytest.mark.parametrize("key", ["output", "gradient of w", "buffer b"])
def test_the_comparison_notices_a_part_in_a_million(key):
    theirs = {k: np.array([0.01, 1.0]) for k in ("output", "gradient of w", "gradient of v", "buffer b")}
    compare(theirs, theirs, 1e-9)
    for wrong in (theirs[key] * (1 + 1e-6), theirs[key][::-1], np.zeros(2)):
        with pytest.raises(AssertionError):
            compare(theirs | {key: wrong}, theirs, 1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SMALL)
def test_training_and_evaluation_compute_what_torch_computes(name, dtype):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    tolerance = {"float64": 1e-9, "float32": 5e-4}[dtype]
    if name == "mobilenetv3":
        tolerance = max(tolerance, 1e-7)  # PyTorch's 1/6 in the gradient of hardsigmoid is that of float32
    theirs, ours = small(name, "torch").double(), small(name, "minidl").to(getattr(minidl, dtype))
    state = randomised({key: value.numpy() for key, value in theirs.state_dict().items()}, rng)
    theirs.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    ours.load_state_dict(state)
    for training in (True, False):
        theirs.train(training), ours.train(training)
        x, dy = images(name), rng.standard_normal((2, 10))
        single = step(torch, deepcopy(theirs).float(), x, dy) if dtype == "float32" else None
        exact = step(torch, theirs, x, dy)
        rounding = 2 * zeros(exact, single) if single else 0.0  # twice what PyTorch's own float32 leaves
        compare(step(minidl, ours, x, dy), exact, tolerance, rounding)


def test_training_script_goes_the_way_it_goes_under_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((8, 3, 16, 16)), rng.integers(0, 10, 8)) for _ in range(3)]
    theirs, ours = small("resnet", "torch").double(), small("resnet", "minidl").double()
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    histories = []
    for library, net in ((minidl, ours), (torch, theirs)):
        loader = [(library.tensor(x), library.tensor(labels)) for x, labels in batches]
        histories.append(load("training", library.__name__).main(net, loader, epochs=4))
    np.testing.assert_allclose(*histories, rtol=1e-7)
    assert histories[0][-1][1] < histories[0][0][1]  # the loss
