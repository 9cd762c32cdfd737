"""Write models.md, the page of all networks with their counts: python docs/make_models_page.py."""

from contextlib import contextmanager
from pathlib import Path

from minidl import models, nn
from minidl.study import count

PAGE = Path(__file__).parent / "models.md"
SIZES = {"ImageNet": (3, 224, 224), "CIFAR-10": (3, 32, 32), "MNIST": (1, 28, 28)}

HEAD = """\
# Models

*Written by `python docs/make_models_page.py`, which builds and counts every network; a test repeats it.*

```python
from minidl.models import get_model, list_models

net = get_model("resnet50", num_classes=10, shortcut="B", stride_in_1x1=True)
```

`list_models()` lists the names below; each is also a function of `minidl.models`. All take `num_classes=` and
`in_channels=`. `help(minidl.models.resnet50)` tells the input's size and the source.

**Multiply-adds** are those of convolutions and linear layers for one image, forward, without biases: what the papers
call FLOPs. **FLOPs** here are all floating-point operations of one forward pass in evaluation, a multiply-add being two
(the convention is at the head of `minidl/study/costs.py`). **Layers** are those with weights, without shortcuts.

**Expected** is what the sources say: He et al. 2015 (arXiv 1512.03385, tables 1 and 6), Simonyan & Zisserman 2014
(arXiv 1409.1556, table 2); in brackets what their tables give exactly, as torchvision, Caffe and others count it.
"""

# (name, options, expected parameters, expected multiply-adds)
FAMILIES = [
    (
        "Residual and plain networks for ImageNet",
        "ImageNet",
        """\
`minidl/models/resnet.py`; the names of parameters are torchvision's. With `stride_in_1x1=True` the stride of a
bottleneck sits on its first 1x1 convolution, as in the paper; without, on the 3x3 one, as in torchvision.""",
        [
            ("plain18", {}, "", "1.8 G"),
            ("plain34", {}, "", "3.6 G"),
            ("resnet18", {}, "(11,689,512)", "1.8 G (1.814)"),
            ("resnet34", {"shortcut": "A"}, "", "3.6 G (3.644)"),
            ("resnet34", {}, "(21,797,672)", ""),
            ("resnet50", {"stride_in_1x1": True}, "(25,557,032)", "3.8 G (3.858)"),
            ("resnet101", {"stride_in_1x1": True}, "(44,549,160)", "7.6 G (7.570)"),
            ("resnet152", {"stride_in_1x1": True}, "(60,192,808)", "11.3 G (11.282)"),
            ("resnet50", {}, "(25,557,032)", "(4.089)"),
            ("resnet101", {}, "(44,549,160)", "(7.801)"),
            ("resnet152", {}, "(60,192,808)", "(11.514)"),
        ],
    ),
    (
        "VGG for ImageNet",
        "ImageNet",
        """\
`minidl/models/vgg.py`; the names of parameters are torchvision's. `vgg11` is configuration A, `vgg11_lrn` A-LRN,
`vgg13` B, `vgg16_c` C (with 1x1 convolutions), `vgg16` D, `vgg19` E; `_bn` has BN after each convolution.""",
        [
            ("vgg11", {}, "133 M (132,863,336)", ""),
            ("vgg11_lrn", {}, "133 M (132,863,336)", ""),
            ("vgg13", {}, "133 M (133,047,848)", ""),
            ("vgg16_c", {}, "134 M (133,638,952)", ""),
            ("vgg16", {}, "138 M (138,357,544)", ""),
            ("vgg19", {}, "144 M (143,667,240)", "19.6 G"),
            ("vgg11_bn", {}, "(132,868,840)", ""),
            ("vgg11_lrn_bn", {}, "", ""),
            ("vgg13_bn", {}, "(133,053,736)", ""),
            ("vgg16_c_bn", {}, "", ""),
            ("vgg16_bn", {}, "(138,365,992)", ""),
            ("vgg19_bn", {}, "(143,678,248)", ""),
        ],
    ),
    (
        "Residual and plain networks for CIFAR-10",
        "CIFAR-10",
        """\
`minidl/models/resnet_cifar.py`: 6n + 2 layers, option A. The last layer is `fc`; some public implementations call
it `linear`.""",
        [
            ("plain20", {}, "0.27 M", ""),
            ("plain32", {}, "0.46 M", ""),
            ("plain44", {}, "0.66 M", ""),
            ("plain56", {}, "0.85 M", ""),
            ("resnet20", {}, "0.27 M (269,722)", "(40.55 M)"),
            ("resnet32", {}, "0.46 M", ""),
            ("resnet44", {}, "0.66 M", ""),
            ("resnet56", {}, "0.85 M", ""),
            ("resnet110", {}, "1.7 M", ""),
            ("resnet1202", {}, "19.4 M", ""),
        ],
    ),
    (
        "The networks of ImageNet for 32x32 images",
        "CIFAR-10",
        """\
The residual ones begin with a 3x3 convolution of stride 1 and have no max pooling; the VGGs have BN, biases in their
convolutions, and one linear layer of 512 inputs.""",
        [
            ("resnet18_cifar", {}, "(11,173,962)", ""),
            ("resnet34_cifar", {}, "(21,282,122)", ""),
            ("resnet50_cifar", {}, "(23,520,842)", ""),
            ("vgg11_cifar", {}, "", ""),
            ("vgg13_cifar", {}, "", ""),
            ("vgg16_cifar", {}, "(14,728,266)", ""),
            ("vgg19_cifar", {}, "(20,040,522)", ""),
        ],
    ),
    (
        "LeNet for MNIST",
        "MNIST",
        """\
`minidl/models/lenet_mnist.py`. `lenet` is the one of TensorFlow's tutorial: 5x5x32, 5x5x64, 1024, 10, each but the last
with a ReLU; `lenet_dropout` keeps each of the 1,024 with probability `keep_prob=0.5` in training. `lenet_caffe` is
5x5x20, 5x5x50, 500, 10 without padding.""",
        [
            ("lenet", {}, "", ""),
            ("lenet_dropout", {}, "", ""),
            ("lenet_caffe", {}, "(431,080)", ""),
        ],
    ),
]

SHORTCUTS_HEAD = """\
## Three ways to add different dimensions

Where a stage begins, F(x) has other dimensions than x. `shortcut=` says how x is brought to them, and `verbose=True`
prints each such addition at the first forward pass:

| `shortcut=` | x is brought to the size of F(x) by | `resnet34(shortcut=..., verbose=True)`, the first addition |
|---|---|---|
| `"A"` | zero padding: every second pixel, channels of zeros | `28*28*128 + ZeroPadding(128, stride 2) 56*56*64` |
| `"conv3x3"` | a 3x3 convolution and BN | `28*28*128 + Conv2D(128, 3x3, stride 2) 56*56*64` |
| `"B"` | projection: a 1x1 convolution and BN | `28*28*128 + Conv2D(128, 1x1, stride 2) 56*56*64` |
| `"C"` | projection, also where the dimensions are equal | as B |
| `None` | nothing is added: the plain network | |

"A", "B" and "C" are the paper's options. What they cost:
"""


@contextmanager
def no_drawing():
    """Weights are left as the memory is: only their shapes matter here, and drawing 140 million takes two seconds."""
    functions = {name: getattr(nn.init, name) for name in ("uniform_", "normal_")}
    try:
        for name in functions:
            setattr(nn.init, name, lambda tensor, *_: tensor)
        yield
    finally:
        for name, function in functions.items():
            setattr(nn.init, name, function)


def short(number):
    """In G with three decimals, or in M with two."""
    return f"{number / 1e9:.3f} G" if number >= 1e9 else f"{number / 1e6:.2f} M"


def counted(name, options, size):
    """(layers, counts) of a network."""
    with no_drawing():
        net = models.get_model(name, **options).eval()
    layers = [m for path, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "downsample" not in path]
    return len(layers), count(net, size)


def table(header, rows):
    """A Markdown table; the first column is left, the others right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("  ", " ") + "\n"


def call(name, options):
    return f"`{name}`" + "".join(f" `{key}={value!r}`" for key, value in options.items())


def family(title, data, text, networks):
    rows = []
    for name, options, parameters, multiply_adds in networks:
        layers, c = counted(name, options, SIZES[data])
        numbers = [str(layers), f"{c.parameters:,}", parameters, short(c.multiply_adds), multiply_adds]
        rows.append([call(name, options), *numbers, short(c.flops_forward)])
    channels, height, width = SIZES[data]
    header = ["network", "layers", "parameters", "expected", "multiply-adds", "expected", "FLOPs"]
    size = f"Input: {channels} x {height} x {width} ({data})."
    return f"## {title}\n\n{text}\n{size}\n\n{table(header, rows)}"


def shortcuts():
    rows = []
    for name, size in (("resnet34", "ImageNet"), ("resnet50", "ImageNet"), ("resnet20", "CIFAR-10")):
        row = [f"`{name}`"]
        for shortcut in ("A", "conv3x3", "B", "C", None):
            _, c = counted(name, {"shortcut": shortcut}, SIZES[size])
            row.append(f"{c.parameters:,}; {short(c.multiply_adds)}")
        rows.append(row)
    header = ["parameters; multiply-adds", '`"A"`', '`"conv3x3"`', '`"B"`', '`"C"`', "`None`"]
    return f"{SHORTCUTS_HEAD}\n{table(header, rows)}"


def page():
    return "\n".join([HEAD, *(family(*one) for one in FAMILIES), shortcuts()])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
