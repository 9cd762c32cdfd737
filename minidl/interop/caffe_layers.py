"""Caffe's layer types: each function reads a layer's options and makes its module, given the shapes of its bottoms."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from minidl import nn
from minidl.interop import caffe_modules as modules
from minidl.interop.caffe_fields import Fields
from minidl.interop.caffe_fillers import fill
from minidl.nn import init
from minidl.nn.geometry import sliding
from minidl.nn.module import Module

__all__ = ["LAYERS", "MAX_ELEMENTS", "LayerType", "check_size"]

Shape = tuple[int, ...]

MAX_ELEMENTS = 1 << 28  # of a parameter: 1 GB in float32; VGG's largest has 1.03e8


class Built(NamedTuple):
    module: Module
    tops: list[Shape]


class LayerType(NamedTuple):
    """A type: what makes a layer of it, how many bottoms and tops it has (least, most), and what it is."""

    build: Callable[[Fields, list[Shape], int], Built]  # of the layer's fields, its bottoms' shapes, the number of tops
    bottoms: tuple[int, int]
    tops: tuple[int, int]
    in_place: bool
    is_loss: bool


LAYERS: dict[str, LayerType] = {}
MANY = 1 << 20


def layer(
    name: str, bottoms: tuple[int, int] = (1, 1), tops: tuple[int, int] = (1, 1), in_place: bool = False
) -> Callable:
    """Enter a function into the table of types."""

    def enter(build: Callable) -> Callable:
        LAYERS[name] = LayerType(build, bottoms, tops, in_place, is_loss=name.endswith("Loss"))
        return build

    return enter


# --- reading options --------------------------------------------------------------------------------------------------
def needed(fields: Fields, name: str) -> int:
    """A positive integer that must be given."""
    value = fields.integer(name, None, least=1)
    if value is None:
        fields.fail(f"{fields.name} needs {name}")
    return value


def axis_of(fields: Fields, name: str, default: int, ndim: int) -> int:
    """An axis, counted from 0."""
    axis = fields.integer(name, default)
    if not -ndim <= axis < ndim:
        fields.fail(f"{fields.called(name)} must be in {-ndim}..{ndim - 1} for a bottom of {ndim} axes, got {axis}")
    return axis % ndim


def pair(fields: Fields, name: str, short: str, default: Any, least: int) -> Any:
    """(vertical, horizontal): `name: n`, or `name: v name: h`, or `short_h: v short_w: h`."""
    values = fields.integers(name, least)
    sides = [fields.integer(f"{short}_{side}", None, least) for side in "hw"]
    if sides != [None, None]:
        if values or None in sides:
            fields.fail(f"{fields.name} needs either {name}, or both {short}_h and {short}_w")
        return tuple(sides)
    if len(values) > 2:
        fields.fail(f"{fields.called(name)} is given {len(values)} times; minidl knows images, with 2 axes")
    return (values[0], values[-1]) if values else default


def images(fields: Fields, shape: Shape) -> Shape:
    if len(shape) != 4:
        fields.fail(f"its bottom must have the shape N C H W, got {text(shape)}")
    return shape


def text(shape: Shape) -> str:
    """A shape in Caffe's form: 64 1 28 28."""
    return " ".join(map(str, shape))


def windows(fields: Fields, size: Shape, *options: Any) -> Shape:
    """How many windows there are (OH, OW)."""
    try:
        return sliding(fields.owner, size, *options).output
    except ValueError as error:
        fields.fail(str(error).removeprefix(f"{fields.owner}: "))


def check_size(fields: Fields, what: str, shape: Shape, most: int = MAX_ELEMENTS) -> None:
    if math.prod(shape) > most:
        fields.fail(f"{what} of shape {text(shape)} has {math.prod(shape):,} elements, more than {most:,}")


def filled(fields: Fields, module: Module, weight_filler: str, default: Callable[[Any], Any]) -> Module:
    """Draw a layer's weight (by `default` where the file has no filler) and its bias."""
    fill(module.weight, fields.message(weight_filler) if fields.has(weight_filler) else None, default)
    if module.bias is None:
        fields.ignore("bias_filler")
    else:
        fill(module.bias, fields.message("bias_filler") if fields.has("bias_filler") else None, init.zeros_)
    return module


def he(weight: Any) -> None:
    """Caffe would leave a weight without a filler at 0, from where it never learns."""
    init.kaiming_normal_(weight, nonlinearity="relu")


def loss_options(fields: Fields, default: str) -> tuple[int | None, str]:
    """(ignore_label, normalization)."""
    param = fields.message("loss_param")
    old = param.boolean("normalize")
    default = default if old is None else "VALID" if old else "BATCH_SIZE"
    return param.integer("ignore_label"), param.choice(
        "normalization", default, ("FULL", "VALID", "BATCH_SIZE", "NONE")
    )


def same_count(fields: Fields, bottoms: list[Shape]) -> None:
    if math.prod(bottoms[0]) != math.prod(bottoms[1]):
        fields.fail(f"its bottoms must have the same size, got {text(bottoms[0])} and {text(bottoms[1])}")


# --- layers with parameters -------------------------------------------------------------------------------------------
@layer("Convolution")
def convolution(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param = fields.message("convolution_param")
    param.ignore("engine", "force_nd_im2col")
    N, C, *size = images(fields, bottoms[0])
    if axis_of(param, "axis", 1, 4) != 1:
        param.fail(f"{param.called('axis')} must be 1")
    OC, kernel = needed(param, "num_output"), pair(param, "kernel_size", "kernel", None, 1)
    if kernel is None:
        fields.fail("convolution_param needs kernel_size, or kernel_h and kernel_w")
    stride, padding = pair(param, "stride", "stride", (1, 1), 1), pair(param, "pad", "pad", (0, 0), 0)
    dilation, groups = pair(param, "dilation", "dilation", (1, 1), 1), param.integer("group", 1, least=1)
    if C % groups or OC % groups:
        fields.fail(f"group {groups} must divide its {C} input and {OC} output channels")
    output = windows(fields, tuple(size), kernel, stride, padding, dilation)
    check_size(fields, "the weight", (OC, C // groups, *kernel))
    bias = param.boolean("bias_term", True)
    module = modules.Convolution(C, OC, kernel, stride, padding, dilation, groups, bias)
    return Built(filled(param, module, "weight_filler", he), [(N, OC, *output)])


@layer("InnerProduct")
def inner_product(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param, (shape,) = fields.message("inner_product_param"), bottoms
    param.ignore("engine")
    axis, OUT = axis_of(param, "axis", 1, len(shape)), needed(param, "num_output")
    IN = math.prod(shape[axis:])
    check_size(fields, "the weight", (OUT, IN))
    module = modules.InnerProduct(IN, OUT, param.boolean("bias_term", True), axis)
    return Built(filled(param, module, "weight_filler", he), [(*shape[:axis], OUT)])


@layer("BatchNorm", in_place=True)
def batch_norm(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param, (shape,) = fields.message("batch_norm_param"), bottoms
    param.ignore("engine")
    if len(shape) < 2:
        fields.fail(f"its bottom must have the shape N C ..., got {text(shape)}")
    eps, fraction = param.number("eps", 1e-5, least=0.0), param.number("moving_average_fraction", 0.999, least=0.0)
    check_size(fields, "the mean", shape[1:2])
    return Built(modules.BatchNorm(shape[1], eps, fraction, param.boolean("use_global_stats")), bottoms)


@layer("Scale", in_place=True)
def scale(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param, (shape,) = fields.message("scale_param"), bottoms
    axis, count = axis_of(param, "axis", 1, len(shape)), param.integer("num_axes", 1, least=-1)
    end = len(shape) if count == -1 else axis + count
    if end > len(shape):
        fields.fail(f"axis {axis} and num_axes {count} reach past the axes of its bottom, {text(shape)}")
    check_size(fields, "the weight", shape[axis:end])
    module = modules.Scale(shape[axis:end], (axis, len(shape) - end), param.boolean("bias_term", False))
    return Built(filled(param, module, "filler", init.ones_), bottoms)


# --- layers without ---------------------------------------------------------------------------------------------------
@layer("Pooling")
def pooling(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param = fields.message("pooling_param")
    param.ignore("engine")
    N, C, *size = images(fields, bottoms[0])
    pool, whole = param.choice("pool", "MAX", ("MAX", "AVE")), param.boolean("global_pooling", False)
    ceil = param.choice("round_mode", "CEIL", ("CEIL", "FLOOR")) == "CEIL"
    kernel = pair(param, "kernel_size", "kernel", None, 1)
    stride, padding = pair(param, "stride", "stride", (1, 1), 1), pair(param, "pad", "pad", (0, 0), 0)
    if whole != (kernel is None):
        fields.fail("pooling_param needs either global_pooling or kernel_size (or kernel_h and kernel_w)")
    if whole and (stride, padding) != ((1, 1), (0, 0)):
        fields.fail("global_pooling takes stride 1 and pad 0")
    for extent, k, s, p in zip(size, kernel or size, stride, padding, strict=True):
        if p >= k:
            fields.fail(f"pad {p} must be less than the window, {k}")
        if ceil and not p and k < s and math.ceil(max(0, extent - k) / s) * s >= extent:
            fields.fail(f"with stride {s} the last window of {k} holds nothing of {extent} pixels")
    output = windows(fields, tuple(size), kernel or tuple(size), stride, padding, (1, 1), ceil)
    return Built(modules.Pooling(pool, kernel, stride, padding, ceil), [(N, C, *output)])


@layer("LRN")
def lrn(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param = fields.message("lrn_param")
    param.ignore("engine")
    images(fields, bottoms[0])
    size, alpha, beta = param.integer("local_size", 5, least=1), param.number("alpha", 1.0), param.number("beta", 0.75)
    k, region = (
        param.number("k", 1.0),
        param.choice("norm_region", "ACROSS_CHANNELS", ("ACROSS_CHANNELS", "WITHIN_CHANNEL")),
    )
    if size % 2 == 0:
        fields.fail(f"local_size must be odd, got {size}")
    if region == "WITHIN_CHANNEL":
        return Built(modules.LRNWithinChannel(size, alpha, beta), bottoms)
    return Built(nn.LocalResponseNorm(size, alpha, beta, k), bottoms)


@layer("ReLU", in_place=True)
def relu(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param = fields.message("relu_param")
    param.ignore("engine")
    slope = param.number("negative_slope", 0.0)
    return Built(nn.LeakyReLU(slope) if slope else nn.ReLU(), bottoms)


@layer("Sigmoid", in_place=True)
def sigmoid(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    fields.message("sigmoid_param").ignore("engine")
    return Built(nn.Sigmoid(), bottoms)


@layer("TanH", in_place=True)
def tanh(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    fields.message("tanh_param").ignore("engine")
    return Built(nn.Tanh(), bottoms)


@layer("Dropout", in_place=True)
def dropout(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    ratio = fields.message("dropout_param").number("dropout_ratio", 0.5)
    if not 0 <= ratio < 1:
        fields.fail(f"dropout_ratio must be in [0, 1), got {ratio:g}")
    return Built(nn.Dropout(ratio), bottoms)


@layer("Softmax", in_place=True)
def softmax(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param = fields.message("softmax_param")
    param.ignore("engine")
    return Built(nn.Softmax(axis_of(param, "axis", 1, len(bottoms[0]))), bottoms)


# --- shapes -----------------------------------------------------------------------------------------------------------
@layer("Eltwise", bottoms=(2, MANY), in_place=True)
def eltwise(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param = fields.message("eltwise_param")
    param.ignore("stable_prod_grad")
    operation, coeff = param.choice("operation", "SUM", ("SUM", "PROD", "MAX")), param.numbers("coeff")
    if coeff and (operation != "SUM" or len(coeff) != len(bottoms)):
        fields.fail(
            f"coeff belongs to SUM, one for each of its {len(bottoms)} bottoms; got {len(coeff)} for {operation}"
        )
    different = next((shape for shape in bottoms if shape != bottoms[0]), None)
    if different:
        fields.fail(f"its bottoms must have the same shape, got {text(bottoms[0])} and {text(different)}")
    return Built(modules.Eltwise(operation, coeff), bottoms[:1])


@layer("Concat", bottoms=(1, MANY))
def concat(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param, first = fields.message("concat_param"), bottoms[0]
    axis = axis_of(param, "concat_dim" if param.has("concat_dim") else "axis", 1, len(first))
    for shape in bottoms:
        if len(shape) != len(first) or any(
            a != b for i, (a, b) in enumerate(zip(first, shape, strict=True)) if i != axis
        ):
            fields.fail(f"its bottoms may differ along axis {axis} alone, got {text(first)} and {text(shape)}")
    joined = sum(shape[axis] for shape in bottoms)
    return Built(modules.Concat(axis), [(*first[:axis], joined, *first[axis + 1 :])])


@layer("Flatten")
def flatten(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param, (shape,) = fields.message("flatten_param"), bottoms
    first, last = axis_of(param, "axis", 1, len(shape)), axis_of(param, "end_axis", -1, len(shape))
    if first > last:
        fields.fail(f"end_axis {last} comes before axis {first}")
    joined = math.prod(shape[first : last + 1])
    return Built(nn.Flatten(first, last), [(*shape[:first], joined, *shape[last + 1 :])])


@layer("Reshape")
def reshape(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param, (shape,) = fields.message("reshape_param"), bottoms
    dims, count = param.message("shape").integers("dim", least=-1), param.integer("num_axes", -1, least=-1)
    first = param.integer("axis", 0)
    first += (len(shape) + 1) * (first < 0)  # -1 is the place after the last axis
    end = len(shape) if count == -1 else first + count
    if not 0 <= first <= end <= len(shape):
        fields.fail(f"axis and num_axes reach past the axes of its bottom, {text(shape)}")
    given = f"dims {text(tuple(dims))} do not fit its bottom, {text(shape)}"
    if dims.count(-1) > 1 or any(d == 0 and first + i >= len(shape) for i, d in enumerate(dims)):
        fields.fail(given)
    kept = [shape[first + i] if d == 0 else d for i, d in enumerate(dims)]
    inside, known = math.prod(shape[first:end]), math.prod(d for d in kept if d != -1)
    kept = [inside // known if d == -1 else d for d in kept]
    if math.prod(kept) != inside:
        fields.fail(given)
    return Built(modules.Reshape(dims, first, end), [(*shape[:first], *kept, *shape[end:])])


@layer("Split", tops=(1, MANY))
def split(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    return Built(modules.Split(tops), bottoms * tops)


@layer("Silence", bottoms=(1, MANY), tops=(0, 0))
def silence(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    return Built(modules.Silence(), [])


# --- losses and accuracy ----------------------------------------------------------------------------------------------
def classes(fields: Fields, name: str, bottoms: list[Shape]) -> tuple[Fields, int]:
    """The message that holds the axis of the classes, and that axis; the labels must be as many as the scores need."""
    param, (scores, label) = fields.message(name), bottoms
    axis = axis_of(param, "axis", 1, len(scores))
    count = math.prod(scores[:axis]) * math.prod(scores[axis + 1 :])
    if math.prod(label) != count:
        fields.fail(f"scores of shape {text(scores)} need {count} labels, got {text(label)}")
    return param, axis


@layer("SoftmaxWithLoss", bottoms=(2, 2))
def softmax_with_loss(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param, axis = classes(fields, "softmax_param", bottoms)
    param.ignore("engine")
    return Built(modules.SoftmaxWithLoss(axis, *loss_options(fields, "VALID")), [()])


@layer("SigmoidCrossEntropyLoss", bottoms=(2, 2))
def sigmoid_cross_entropy_loss(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    same_count(fields, bottoms)
    return Built(modules.SigmoidCrossEntropyLoss(*loss_options(fields, "BATCH_SIZE")), [()])


@layer("EuclideanLoss", bottoms=(2, 2))
def euclidean_loss(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    same_count(fields, bottoms)
    return Built(modules.EuclideanLoss(), [()])


@layer("Accuracy", bottoms=(2, 2))
def accuracy(fields: Fields, bottoms: list[Shape], tops: int) -> Built:
    param, axis = classes(fields, "accuracy_param", bottoms)
    top_k = param.integer("top_k", 1, least=1)
    if top_k > bottoms[0][axis]:
        fields.fail(f"top_k {top_k} is more than its {bottoms[0][axis]} classes")
    return Built(modules.Accuracy(axis, param.integer("ignore_label"), top_k), [()])
