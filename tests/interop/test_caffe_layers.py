"""Each layer of Caffe against loops over its definition, or against PyTorch's composition of it."""

import itertools
import math

import numpy as np
import pytest

import minidl
from minidl.interop.caffe import from_prototxt


def net_of(layers, *shapes, phase="TRAIN"):
    """A net of inputs x0, x1, ... and the given layers."""
    text = ""
    for i, shape in enumerate(shapes):
        dims = " ".join(f"dim: {n}" for n in shape)
        text += f'layer {{ name: "in{i}" type: "Input" top: "x{i}" input_param {{ shape {{ {dims} }} }} }}\n'
    return from_prototxt(text + layers, phase)


def one(kind, options="", bottoms=1):
    """The text of a layer named l, from x0, x1, ... to y."""
    reads = " ".join(f'bottom: "x{i}"' for i in range(bottoms))
    return f'layer {{ name: "l" type: "{kind}" {reads} top: "y" {options} }}'


def check(net, *arrays, expected, rtol=1e-5, atol=1e-6):
    """The net's outputs and the shape that it was planned with."""
    tensors = [minidl.tensor(a) for a in arrays]
    y = net(**{f"x{i}": t for i, t in enumerate(tensors)})["y"]
    assert tuple(y.shape) == net.blobs["y"] == np.shape(expected)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=rtol, atol=atol)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


# --- pooling ----------------------------------------------------------------------------------------------------------
def pooled_size(extent, k, s, p):
    """Caffe's rule: round up, and leave out a last window that starts past the image and its padding."""
    count = math.ceil((extent + 2 * p - k) / s) + 1
    if p and (count - 1) * s >= extent + p:
        count -= 1
    return count


def naive_pooling(x, pool, kernel, stride, pad):
    """Caffe's loops, window by window."""
    N, C, H, W = x.shape
    (KH, KW), (SH, SW), (PH, PW) = kernel, stride, pad
    OH, OW = pooled_size(H, KH, SH, PH), pooled_size(W, KW, SW, PW)
    y = np.zeros((N, C, OH, OW))
    for n, c, i, j in itertools.product(range(N), range(C), range(OH), range(OW)):
        top, left = i * SH - PH, j * SW - PW
        bottom, right = min(top + KH, H + PH), min(left + KW, W + PW)
        area = (bottom - top) * (right - left)
        top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, H), min(right, W)
        pixels = x[n, c, top:bottom, left:right]
        y[n, c, i, j] = pixels.max() if pool == "MAX" else pixels.sum() / area
    return y


POOLING = [
    ((6, 6), (2, 2), (2, 2), (0, 0)),
    ((6, 7), (3, 3), (2, 2), (0, 0)),  # the last window ends past the image
    ((7, 5), (3, 3), (2, 2), (1, 1)),
    ((5, 6), (2, 2), (2, 2), (1, 1)),  # a window in the padding alone is left out
    ((4, 4), (3, 3), (1, 1), (2, 2)),  # more padding than half of the window
    ((8, 5), (3, 2), (2, 3), (1, 0)),
    ((5, 5), (2, 3), (3, 2), (1, 2)),
    ((5, 5), (5, 5), (1, 1), (0, 0)),
]


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("size, kernel, stride, pad", POOLING)
def test_pooling_rounds_up_and_divides_as_caffe(pool, size, kernel, stride, pad):
    x = normal(2, 3, *size)
    pairs = {"kernel": kernel, "stride": stride, "pad": pad}
    options = " ".join(f"{name}_h: {v} {name}_w: {h}" for name, (v, h) in pairs.items())
    net = net_of(one("Pooling", f"pooling_param {{ pool: {pool} {options} }}"), x.shape)
    check(net, x, expected=naive_pooling(x, pool, kernel, stride, pad))


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_pooling_has_gradients(pool):
    """The gradient of Σ dy y by finite differences in float64 (pooling is linear, or nearly everywhere)."""
    net = net_of(one("Pooling", f"pooling_param {{ pool: {pool} kernel_size: 3 stride: 2 pad: 2 }}"), (1, 2, 6, 5))
    x = minidl.tensor(normal(1, 2, 6, 5).astype(np.float64), requires_grad=True)
    dy = np.random.default_rng(1).normal(size=net.blobs["y"])
    (net(x) * dy).sum().backward()
    expected = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = x.detach().numpy().copy()
            moved[index] += step
            ends.append((naive_pooling(moved, pool, (3, 3), (2, 2), (2, 2)) * dy).sum())
        expected[index] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-6, atol=1e-8)


def test_global_pooling_and_rounding_down():
    x = normal(2, 3, 5, 4)
    check(
        net_of(one("Pooling", "pooling_param { pool: AVE global_pooling: true }"), x.shape),
        x,
        expected=x.mean((2, 3), keepdims=True),
    )
    net = net_of(one("Pooling", "pooling_param { kernel_size: 2 stride: 2 round_mode: FLOOR }"), (1, 1, 5, 7))
    assert net.blobs["y"] == (1, 1, 2, 3)


# --- layers with parameters -------------------------------------------------------------------------------------------
CONVOLUTIONS = [
    ("num_output: 4 kernel_size: 3", (3, 3), {}),
    ("num_output: 4 kernel_size: [3, 2] stride: [2, 1] pad: [1, 0]", (3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    (
        "num_output: 4 kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1 stride_h: 2 stride_w: 1",
        (1, 3),
        {"stride": (2, 1), "padding": (0, 1)},
    ),
    ("num_output: 6 kernel_size: 3 group: 2 pad: 1 bias_term: false", (3, 3), {"groups": 2, "padding": 1}),
    ("num_output: 2 kernel_size: 3 dilation: 2 engine: CUDNN", (3, 3), {"dilation": 2}),
]  # fmt: skip


@pytest.mark.parametrize("options, kernel, torch_options", CONVOLUTIONS)
def test_convolution(options, kernel, torch_options):
    torch = pytest.importorskip("torch")
    x = normal(2, 4, 9, 8)
    filler = 'weight_filler { type: "gaussian" } bias_filler { type: "uniform" }'
    net = net_of(one("Convolution", f"convolution_param {{ {options} {filler} }}"), x.shape)
    state = {name: torch.tensor(value.numpy()) for name, value in net.state_dict().items()}
    assert state["l.weight"].shape[2:] == kernel and ("l.bias" in state) == ("bias_term" not in options)
    y = torch.nn.functional.conv2d(torch.tensor(x), state["l.weight"], state.get("l.bias"), **torch_options)
    check(net, x, expected=y.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axis, rows", [(1, (3,)), (2, (3, 4)), (-1, (3, 4, 2))])
def test_inner_product(axis, rows):
    x = normal(3, 4, 2, 5)
    options = f"num_output: 7 axis: {axis}" + ' weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
    net = net_of(one("InnerProduct", f"inner_product_param {{ {options} }}"), x.shape)
    weight, bias = (net.state_dict()[f"l.{name}"].numpy() for name in ("weight", "bias"))
    expected = (x.reshape(-1, weight.shape[1]) @ weight.T + bias).reshape(*rows, 7)
    check(net, x, expected=expected, atol=1e-5)
    without = one("InnerProduct", "inner_product_param { num_output: 7 bias_term: false }")
    assert list(net_of(without, x.shape).state_dict()) == ["l.weight"]


def test_batch_norm_keeps_caffes_averages():
    """Caffe adds up mean and variance, discounted, and divides by the discounted count."""
    net = net_of(one("BatchNorm", "batch_norm_param { moving_average_fraction: 0.9 eps: 0.001 }"), (4, 2, 3, 3))
    sums, count = np.zeros((2, 2)), 0.0
    for seed in range(4):
        x = np.random.default_rng(seed).normal(seed, 1 + seed, (4, 2, 3, 3)).astype(np.float32)
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
        check(net, x, expected=(x - mean[:, None, None]) / np.sqrt(var[:, None, None] + 0.001), atol=1e-4)
        sums, count = 0.9 * sums + [mean, var * 36 / 35], 0.9 * count + 1
    state = net.state_dict()
    mean, var = sums / count
    np.testing.assert_allclose(state["l.running_mean"].numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(state["l.running_var"].numpy(), var, rtol=1e-5)
    np.testing.assert_allclose(state["l.scale_factor"].numpy(), count, rtol=1e-6)
    net.eval()
    check(net, x, expected=(x - mean[:, None, None]) / np.sqrt(var[:, None, None] + 0.001), atol=1e-5)
    np.testing.assert_array_equal(net.state_dict()["l.scale_factor"].numpy(), state["l.scale_factor"].numpy())


@pytest.mark.parametrize("use_global", ["true", "false"])
def test_batch_norm_by_order(use_global):
    x = 3 * normal(4, 2, 3, 3) + 1
    net = net_of(one("BatchNorm", f"batch_norm_param {{ use_global_stats: {use_global} }}"), x.shape)
    mean, var = (x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)) if use_global == "false" else (0, 1)
    for mode in (False, True):
        net.train(mode)
        check(net, x, expected=(x - mean) / np.sqrt(var + 1e-5), atol=1e-5)
        if use_global == "true":
            assert net.state_dict()["l.scale_factor"].item() == 0


@pytest.mark.parametrize(
    "axis, count, shape", [(1, 1, (3,)), (1, 2, (3, 4)), (0, 1, (2,)), (1, -1, (3, 4, 5)), (-1, 1, (5,))]
)
def test_scale(axis, count, shape):
    x = normal(2, 3, 4, 5)
    filler = 'filler { type: "gaussian" } bias_term: true bias_filler { type: "gaussian" }'
    net = net_of(one("Scale", f"scale_param {{ axis: {axis} num_axes: {count} {filler} }}"), x.shape)
    weight, bias = (net.state_dict()[f"l.{name}"].numpy() for name in ("weight", "bias"))
    assert weight.shape == bias.shape == shape
    extended = (1,) * (axis % 4) + shape + (1,) * (4 - axis % 4 - len(shape))
    check(net, x, expected=x * weight.reshape(extended) + bias.reshape(extended))
    plain = net_of(one("Scale"), x.shape).state_dict()
    assert list(plain) == ["l.weight"] and (plain["l.weight"].numpy() == 1).all()


# --- layers without ---------------------------------------------------------------------------------------------------
def naive_lrn(x, size, alpha, beta, k):
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        near = x[:, max(0, c - size // 2) : c + size // 2 + 1].astype(np.float64)
        y[:, c] = x[:, c] / (k + alpha / size * (near**2).sum(1)) ** beta
    return y


def naive_lrn_within(x, size, alpha, beta):
    y, h = np.zeros(x.shape), size // 2
    for i, j in itertools.product(range(x.shape[2]), range(x.shape[3])):
        near = x[:, :, max(0, i - h) : i + h + 1, max(0, j - h) : j + h + 1].astype(np.float64)
        y[:, :, i, j] = x[:, :, i, j] * (1 + alpha / size**2 * (near**2).sum((2, 3))) ** -beta
    return y


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


ELEMENTWISE = {
    "relu": ("ReLU", "", lambda x: np.maximum(x, 0)),
    "leaky": ("ReLU", "relu_param { negative_slope: 0.1 }", lambda x: np.where(x > 0, x, x * np.float32(0.1))),
    "sigmoid": ("Sigmoid", "", lambda x: 1 / (1 + np.exp(-x))),
    "tanh": ("TanH", "", np.tanh),
    "softmax": ("Softmax", "", lambda x: softmax(x, 1)),
    "softmax along": ("Softmax", "softmax_param { axis: -1 }", lambda x: softmax(x, 3)),
    "lrn": (
        "LRN",
        "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }",
        lambda x: naive_lrn(x, 3, 0.5, 0.6, 2),
    ),
    "lrn as it is": ("LRN", "", lambda x: naive_lrn(x, 5, 1, 0.75, 1)),
    "lrn within": (
        "LRN",
        "lrn_param { local_size: 3 alpha: 2 beta: 0.6 norm_region: WITHIN_CHANNEL }",
        lambda x: naive_lrn_within(x, 3, 2, 0.6),
    ),
    "flatten": ("Flatten", "", lambda x: x.reshape(2, 210)),
    "flatten some": ("Flatten", "flatten_param { axis: 1 end_axis: 2 }", lambda x: x.reshape(2, 42, 5)),
    "reshape": (
        "Reshape",
        "reshape_param { shape { dim: 0 dim: -1 dim: 10 } }",
        lambda x: x.reshape(2, 21, 10),
    ),
    "reshape some": (
        "Reshape",
        "reshape_param { shape { dim: 3 dim: 2 } axis: 2 num_axes: 1 }",
        lambda x: x.reshape(2, 7, 3, 2, 5),
    ),
    "reshape more": (
        "Reshape",
        "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }",
        lambda x: x[..., None],
    ),
}


@pytest.mark.parametrize("case", ELEMENTWISE)
def test_layers_of_one_bottom(case):
    kind, options, definition = ELEMENTWISE[case]
    x = normal(2, 7, 6, 5)
    check(net_of(one(kind, options), x.shape), x, expected=definition(x), rtol=1e-4)


def test_dropout_scales_while_training_and_rests_otherwise():
    x = np.ones((100, 100), np.float32)
    net = net_of(one("Dropout", "dropout_param { dropout_ratio: 0.2 }"), x.shape)
    y = net(minidl.tensor(x)).numpy()
    np.testing.assert_allclose(np.unique(y), [0, 1.25], rtol=1e-6)
    assert abs((y == 0).mean() - 0.2) < 0.02
    assert (net.eval()(minidl.tensor(x)).numpy() == 1).all()
    assert not net_of(one("Dropout"), x.shape, phase="TEST").training


SEVERAL = {
    "sum": ("Eltwise", "", lambda a, b, c: a + b + c),
    "weighted": ("Eltwise", "eltwise_param { coeff: 1 coeff: -1 coeff: 0.5 }", lambda a, b, c: a - b + c / 2),
    "product": ("Eltwise", "eltwise_param { operation: PROD }", lambda a, b, c: a * b * c),
    "maximum": ("Eltwise", "eltwise_param { operation: MAX }", lambda a, b, c: np.maximum(np.maximum(a, b), c)),
    "concat": ("Concat", "", lambda a, b, c: np.concatenate([a, b, c], 1)),
    "concat along": ("Concat", "concat_param { axis: -1 }", lambda a, b, c: np.concatenate([a, b, c], 3)),
    "concat of old": ("Concat", "concat_param { concat_dim: 0 }", lambda a, b, c: np.concatenate([a, b, c], 0)),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_layers_of_several_bottoms(case):
    kind, options, definition = SEVERAL[case]
    xs = np.random.default_rng(0).normal(size=(3, 2, 3, 4, 5)).astype(np.float32)
    check(net_of(one(kind, options, bottoms=3), *(x.shape for x in xs)), *xs, expected=definition(*xs))


def test_split_and_silence():
    layers = 'layer { name: "s" type: "Split" bottom: "x0" top: "a" top: "b" }'
    layers += 'layer { name: "q" type: "Silence" bottom: "a" }'
    net, x = net_of(layers, (2, 3)), normal(2, 3)
    (name, y), *rest = net(x0=minidl.tensor(x)).items()
    assert name == "b" and not rest and (y.numpy() == x).all()


# --- losses -----------------------------------------------------------------------------------------------------------
def naive_softmax_loss(x, label, axis, ignore, normalization):
    scores = np.moveaxis(x.astype(np.float64), axis, -1)
    total, valid = 0.0, 0
    for row, wanted in zip(scores.reshape(-1, scores.shape[-1]), label.reshape(-1), strict=True):
        if wanted != ignore:
            total, valid = total - np.log(softmax(row, 0)[wanted]), valid + 1
    outer = math.prod(x.shape[:axis])
    return total / {"VALID": valid, "FULL": label.size, "BATCH_SIZE": outer, "NONE": 1}[normalization]


@pytest.mark.parametrize("normalization", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("shape, axis", [((6, 4), 1), ((2, 4, 3, 2), 1), ((2, 3, 4), -1)])
@pytest.mark.parametrize("ignore", [None, 2])
def test_softmax_with_loss(normalization, shape, axis, ignore):
    x = normal(*shape)
    outer = tuple(n for i, n in enumerate(shape) if i != axis % len(shape))
    label = np.random.default_rng(1).integers(0, 4, outer)
    options = f"softmax_param {{ axis: {axis} }} loss_param {{ normalization: {normalization} "
    options += "}" if ignore is None else f"ignore_label: {ignore} }}"
    net = net_of(one("SoftmaxWithLoss", options, bottoms=2), shape, outer)
    expected = naive_softmax_loss(x, label, axis % len(shape), ignore, normalization)
    check(net, x, label, expected=expected, rtol=1e-5)


def test_old_normalize_and_defaults_of_losses():
    x, label, target = normal(3, 4, 2), np.array([[0, 1], [2, 3], [0, 0]]), np.random.default_rng(2).random((3, 4, 2))
    for options, name in (("", "VALID"), ("loss_param { normalize: false }", "BATCH_SIZE")):
        net = net_of(one("SoftmaxWithLoss", options, bottoms=2), x.shape, label.shape)
        check(net, x, label, expected=naive_softmax_loss(x, label, 1, None, name))
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    total = -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum()
    for options, n in (("", 3), ("loss_param { normalization: FULL }", 24), ("loss_param { normalize: true }", 24)):
        net = net_of(one("SigmoidCrossEntropyLoss", options, bottoms=2), x.shape, x.shape)
        check(net, x, target.astype(np.float32), expected=total / n)


def test_sigmoid_cross_entropy_ignores_a_label():
    x, target = normal(3, 4), np.random.default_rng(1).integers(0, 2, (3, 4))
    target[0, 1] = target[2, 2] = 7
    options = "loss_param { ignore_label: 7 normalization: VALID }"
    net = net_of(one("SigmoidCrossEntropyLoss", options, bottoms=2), x.shape, x.shape)
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    kept = target != 7
    expected = -np.log(np.where(target == 1, p, 1 - p))[kept].sum() / kept.sum()
    check(net, x, target, expected=expected)


def test_euclidean_loss():
    x, t = normal(4, 3), normal(3, 4).T.copy()
    expected = ((x - t).astype(np.float64) ** 2).sum() / 8
    check(net_of(one("EuclideanLoss", bottoms=2), x.shape, t.shape), x, t, expected=expected)


def naive_accuracy(x, label, k, ignore):
    """Caffe's count: a label is right if fewer than k scores, its own left out, are as high as its own."""
    rows = [(row, wanted) for row, wanted in zip(x, label, strict=True) if wanted != ignore]
    return sum((row >= row[wanted]).sum() - 1 < k for row, wanted in rows) / len(rows)


@pytest.mark.parametrize("k, ignore", [(1, None), (2, None), (3, 1)])
def test_accuracy(k, ignore):
    x = np.random.default_rng(0).integers(0, 4, (40, 5)).astype(np.float32)  # with equal scores
    label = np.random.default_rng(1).integers(0, 5, 40)
    options = f"accuracy_param {{ top_k: {k} " + ("}" if ignore is None else f"ignore_label: {ignore} }}")
    net = net_of(one("Accuracy", options, bottoms=2), x.shape, label.shape)
    check(net, x, label, expected=naive_accuracy(x, label, k, ignore))


# --- labels -----------------------------------------------------------------------------------------------------------
def test_labels_are_integers_and_as_many_as_the_scores():
    net = net_of(one("SoftmaxWithLoss", bottoms=2), (4, 3), (4,))
    x = minidl.tensor(normal(4, 3))
    with pytest.raises(TypeError, match="SoftmaxWithLoss: labels must be integers, got float32"):
        net(x, minidl.zeros(4))
    with pytest.raises(ValueError, match=r"need 4 labels, got \(3,\)"):
        net(x, minidl.tensor([0, 1, 2]))
    with pytest.raises(IndexError, match="label 3"):
        net(x, minidl.tensor([0, 1, 2, 3]))
    with pytest.raises(IndexError, match=r"labels must be in 0..2, got -1 to 2"):
        net_of(one("Accuracy", bottoms=2), (4, 3), (4,))(x, minidl.tensor([0, 1, 2, -1]))
