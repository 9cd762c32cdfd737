"""Layers against PyTorch's: text, state, options; and a model file that runs under both, its imports changed."""

import inspect
import re

import numpy as np
import pytest

import minidl
import minidl.nn

torch = pytest.importorskip("torch")

LAYERS = [
    "Conv2d(3, 4, 3)",
    "Conv2d(3, 4, (3, 2), stride=2, padding=(1, 0), dilation=2, bias=False)",
    "Conv2d(4, 4, 2, padding='same', groups=2)",
    *(
        f"Conv2d(3, 4, 3, padding={p}, padding_mode='{m}')"
        for m in ("reflect", "replicate", "circular")
        for p in (1, (2, 1))
    ),
    "Conv2d(3, 4, (2, 4), padding='same', padding_mode='circular')",
    "Linear(8, 4)",
    "Linear(8, 4, bias=False)",
    "BatchNorm2d(3)",
    "BatchNorm2d(3, eps=0.1, momentum=0.3)",
    "BatchNorm2d(3, momentum=None)",
    "BatchNorm2d(3, affine=False)",
    "BatchNorm2d(3, track_running_stats=False)",
    "BatchNorm2d(3, affine=False, track_running_stats=False)",
    "MaxPool2d(2)",
    "MaxPool2d(3, 2, 1, ceil_mode=True)",
    "AvgPool2d(3, stride=2, padding=1, count_include_pad=False)",
    "AdaptiveAvgPool2d((2, 3))",
    "AdaptiveAvgPool2d(1)",
    "ReLU()",
    "ReLU(inplace=True)",
    "AdaptiveMaxPool2d((2, 3))",
    "AdaptiveMaxPool2d(4)",
    *(f"{name}()" for name in ("Sigmoid", "Tanh", "LogSigmoid", "Softplus", "GELU", "ELU", "LeakyReLU", "Hardtanh")),
    *(f"{name}(inplace=True)" for name in ("ReLU6", "SiLU", "SELU", "Mish", "Hardswish", "Hardsigmoid", "LeakyReLU")),
    "ELU(0.3, inplace=True)",
    "LeakyReLU(0.2)",
    "Hardtanh(-0.5, 0.25, inplace=True)",
    "GELU('tanh')",
    "Softplus(2, 5)",
    "PReLU()",
    "PReLU(3, init=0.1)",
    "Softmax(1)",
    "LogSoftmax(dim=-1)",
    "GroupNorm(1, 3)",
    "GroupNorm(3, 3, eps=0.1, affine=False)",
    "LayerNorm(8)",
    "LayerNorm([8, 8], eps=0.1, bias=False)",
    "LayerNorm((3, 8, 8), elementwise_affine=False)",
    "LocalResponseNorm(2)",
    "LocalResponseNorm(5, alpha=0.5, beta=0.6, k=2)",
    "ZeroPad2d(1)",
    "ZeroPad2d((1, 2, 0, -3))",
    "ConstantPad2d(2, 3.5)",
    "ReflectionPad2d((1, 2, 3, 0))",
    "ReplicationPad2d(3)",
    "Dropout(0.3)",
    "Dropout2d(inplace=True)",
    "Unflatten(1, (1, 3))",
    "MSELoss()",
    "L1Loss(reduction='sum')",
    "SmoothL1Loss(beta=0.5)",
    "HuberLoss(delta=0.5)",
    "BCELoss()",
    "BCEWithLogitsLoss(reduction='none')",
    "NLLLoss(ignore_index=3)",
    "KLDivLoss(reduction='batchmean')",
    "ModuleDict({'a': Linear(2, 3), 'b': ReLU()})",
    "Upsample(scale_factor=2)",
    "Upsample(size=(3, 5))",
    "Upsample(scale_factor=(2, 1.5), mode='bilinear', align_corners=False)",
    "UpsamplingNearest2d(scale_factor=2)",
    "UpsamplingBilinear2d(size=9)",
    "ChannelShuffle(3)",
    "ConvTranspose2d(3, 4, 2, stride=2)",
    "ConvTranspose2d(3, 6, (3, 2), 2, (1, 0), output_padding=1, groups=3, bias=False, dilation=(1, 2))",
    "ParameterList([])",
    "Flatten()",
    "Flatten(0, 2)",
    "Identity(3, x=4)",
    "CrossEntropyLoss()",
    "Sequential(Conv2d(3, 4, 3), BatchNorm2d(4), ReLU(), Sequential(Flatten(), Linear(4 * 6 * 6, 2)))",
    "ModuleList([Linear(2, 3), Sequential(ReLU()), ReLU(), ReLU()])",
    "Sequential()",
]


def both(text):
    """The layer under both libraries, in float64, with the same weights."""
    ours, theirs = eval(text, vars(minidl.nn) | {}), eval(text, vars(torch.nn) | {})
    ours, theirs = ours.double(), theirs.double()
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize("text", LAYERS)
def test_text_and_state(text):
    ours, theirs = both(text)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert mine.shape == tuple(other.shape) and f"torch.{mine.dtype}" == str(other.dtype)


@pytest.mark.filterwarnings("ignore:Using padding=.same:UserWarning")
@pytest.mark.parametrize("text", [t for t in LAYERS if not re.match(r"\w*Loss\(|Module|Parameter|Dropout", t)])
def test_three_batches_of_training_then_evaluation(text):
    ours, theirs = both(text)
    rng = np.random.default_rng(0)
    channels = re.match(r"Conv\w*2d\((\d)", text)
    shape = (2, int(channels[1]) if channels else 3, 8, 8)
    for training in (True, True, True, False):
        ours.train(training), theirs.train(training)
        x = rng.standard_normal(shape)
        mine, other = minidl.tensor(x).requires_grad_(), torch.tensor(x).requires_grad_()
        y, y_torch = ours(mine * 1), theirs(other * 1)
        dy = rng.standard_normal(tuple(y_torch.shape))
        y.backward(minidl.tensor(dy))
        y_torch.backward(torch.tensor(dy))
        close(y, y_torch)
        close(mine.grad, other.grad, 1e-7 if "Hardsigmoid" in text else 1e-9)  # PyTorch's 1/6 is that of float32
        scale = max([np.abs(q.grad.numpy()).max() for q in theirs.parameters()], default=0)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=0, atol=1e-9 * scale)
        for name, value in theirs.state_dict().items():
            close(ours.state_dict()[name], value)


def close(mine, other, bound=1e-9):
    mine, other = mine.detach().numpy(), other.detach().numpy()
    assert mine.shape == other.shape and mine.dtype == other.dtype
    np.testing.assert_allclose(mine, other, rtol=0, atol=bound * max(1e-300, np.abs(other).max(initial=0)))


@pytest.mark.parametrize("text", [t for t in LAYERS if re.match(r"\w*Loss\(", t)])
def test_losses(text):
    ours, theirs = both(text)
    rng = np.random.default_rng(0)
    x = rng.random((6, 5)) if "BCE" in text else rng.standard_normal((6, 5))
    target = rng.integers(0, 5, 6) if re.match("NLL|Cross", text) else rng.random((6, 5))
    mine, other = minidl.tensor(x).requires_grad_(), torch.tensor(x).requires_grad_()
    y, y_torch = ours(mine, minidl.tensor(target)), theirs(other, torch.tensor(target))
    y.sum().backward(), y_torch.sum().backward()
    close(y, y_torch), close(mine.grad, other.grad)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Conv2d",
            "Linear",
            "BatchNorm1d",
            "BatchNorm2d",
            "MaxPool2d",
            "AvgPool2d",
            "Flatten",
            "Dropout",
            "Dropout2d",
        ),
        *("GroupNorm", "LayerNorm", "LocalResponseNorm", "ELU", "GELU", "LeakyReLU", "PReLU", "ReLU", "ReLU6", "SiLU"),
        *("Softplus", "Softmax", "LogSoftmax", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "ZeroPad2d", "Unflatten"),
    ],
)
def test_arguments_have_torchs_names_order_and_defaults(name):
    def arguments(layer):
        found = inspect.signature(layer.__init__).parameters.values()
        return [(p.name, p.default) for p in found if p.name not in ("device", "dtype", "self")]

    assert arguments(getattr(minidl.nn, name)) == arguments(getattr(torch.nn, name))


@pytest.mark.parametrize(
    "name",
    [
        *("conv2d", "linear", "batch_norm", "max_pool2d", "avg_pool2d", "cross_entropy", "relu", "pad", "dropout"),
        *("dropout2d", "group_norm", "layer_norm", "local_response_norm", "leaky_relu", "elu", "gelu", "silu"),
        *("hardtanh", "softplus", "nll_loss", "adaptive_max_pool2d", "mse_loss", "binary_cross_entropy_with_logits"),
    ],
)
def test_functions_take_torchs_keywords(name):
    names = {
        "batch_norm": ["running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"],
        "conv2d": ["weight", "bias", "stride", "padding", "dilation", "groups"],
        "linear": ["weight", "bias"],
        "max_pool2d": ["kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"],
        "avg_pool2d": ["kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"],
        "cross_entropy": ["target", "weight", "ignore_index", "reduction", "label_smoothing"],
        "relu": ["inplace"],
        "pad": ["pad", "mode", "value"],
        "dropout": ["p", "training", "inplace"],
        "dropout2d": ["p", "training", "inplace"],
        "group_norm": ["num_groups", "weight", "bias", "eps"],
        "layer_norm": ["normalized_shape", "weight", "bias", "eps"],
        "local_response_norm": ["size", "alpha", "beta", "k"],
        "leaky_relu": ["negative_slope", "inplace"],
        "elu": ["alpha", "inplace"],
        "gelu": ["approximate"],
        "silu": ["inplace"],
        "hardtanh": ["min_val", "max_val", "inplace"],
        "softplus": ["beta", "threshold"],
        "nll_loss": ["target", "weight", "ignore_index", "reduction"],
        "adaptive_max_pool2d": ["output_size", "return_indices"],
        "mse_loss": ["target", "reduction"],
        "binary_cross_entropy_with_logits": ["target", "weight", "reduction", "pos_weight"],
    }[name]
    assert [*inspect.signature(getattr(minidl.nn.functional, name)).parameters][1:] == names


MODEL_FILE = """
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class BasicBlock(nn.Module):
    expansion: int = 1

    def __init__(self, in_planes, planes, stride=1):
        super(BasicBlock, self).__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != self.expansion * planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, self.expansion * planes, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(self.expansion * planes),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self, block, num_blocks, num_classes=10):
        super().__init__()
        self.in_planes = 8
        self.conv1 = nn.Conv2d(3, 8, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._make_layer(block, 8, num_blocks[0], stride=1)
        self.layer2 = self._make_layer(block, 16, num_blocks[1], stride=2)
        self.heads = nn.ModuleList([nn.Linear(16 * block.expansion * 4, num_classes) for _ in range(2)])
        self.register_buffer("scale", torch.tensor([0.5, 2.0]))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)

    def _make_layer(self, block, planes, num_blocks, stride):
        strides = [stride] + [1] * (num_blocks - 1)
        layers = []
        for stride in strides:
            layers.append(block(self.in_planes, planes, stride))
            self.in_planes = planes * block.expansion
        return nn.Sequential(*layers)

    def forward(self, x):
        out = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        out = self.layer2(self.layer1(out))
        out = F.avg_pool2d(out, 2)
        out = out.view(out.size(0), -1)
        outs = [head(out) * s for head, s in zip(self.heads, self.scale)]
        return torch.stack(outs).mean(dim=0) - torch.cat(outs, 1).max(dim=1, keepdim=True)[0]
"""


def test_a_pytorch_model_file_runs_with_its_imports_changed():
    theirs, ours = {}, {}
    exec(MODEL_FILE, theirs)
    changed = re.sub(
        r"import torch(?=\.|\n)", "import minidl", MODEL_FILE.replace("from torch import", "from minidl import")
    )
    exec(changed.replace("import minidl\n", "import minidl as torch\n"), ours)
    torch.manual_seed(0)
    model_torch = theirs["ResNet"](theirs["BasicBlock"], [1, 2]).double()
    model = ours["ResNet"](ours["BasicBlock"], [1, 2]).double()
    assert repr(model) == repr(model_torch)
    model.load_state_dict({name: value.numpy() for name, value in model_torch.state_dict().items()})
    rng = np.random.default_rng(0)
    for _ in range(2):
        x, labels = rng.standard_normal((4, 3, 16, 16)), rng.integers(0, 10, 4)
        y, y_torch = model(minidl.tensor(x)), model_torch(torch.tensor(x))
        close(y, y_torch)
        model.zero_grad(), model_torch.zero_grad()
        minidl.nn.CrossEntropyLoss()(y, minidl.tensor(labels)).backward()
        torch.nn.CrossEntropyLoss()(y_torch, torch.tensor(labels)).backward()
        for (name, p), q in zip(model.named_parameters(), model_torch.parameters(), strict=True):
            scale = max(np.abs(v.grad.numpy()).max() for v in model_torch.parameters())
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=0, atol=1e-9 * scale, err_msg=name)
    for name, value in model_torch.state_dict().items():
        close(model.state_dict()[name], value)
