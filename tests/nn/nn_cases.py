"""One table of functional calls: a name, what to call with the library's F, and the inputs' shapes."""

import itertools

import numpy as np


def inputs(case, dtype, seed=0):
    """Random arrays for a case; entries that are arrays already (labels, probabilities) stay."""
    rng = np.random.default_rng(seed)
    return [s if s is None or isinstance(s, np.ndarray) else rng.standard_normal(s).astype(dtype) for s in case[2]]


def conv(N=2, C=4, OC=6, size=(7, 8), kernel=(3, 3), bias=True, groups=1, **options):
    shapes = [(N, C, *size) if N is not None else (C, *size), (OC, C // groups, *kernel), (OC,) if bias else None]
    name = f"conv2d N={N} C={C} OC={OC} {size} kernel={kernel} bias={bias} groups={groups} {options}"
    return name, lambda F, x, w, b: F.conv2d(x, w, b, groups=groups, **options), shapes


CONVOLUTIONS = [
    conv(),
    conv(bias=False),
    conv(N=None),
    conv(N=1, C=1, OC=1, size=(5, 5)),
    conv(stride=2),
    conv(stride=(2, 3), padding=(1, 2)),
    conv(stride=4, kernel=(2, 2)),  # a stride beyond the kernel leaves pixels out
    conv(padding=7),
    conv(padding=1, dilation=2),
    conv(size=(13, 14), dilation=4),
    conv(dilation=(2, 1), kernel=(2, 3)),
    conv(groups=2),
    conv(groups=4, OC=4, padding=1),
    conv(groups=4, OC=8, stride=2, dilation=2, padding=2),
    conv(kernel=(1, 1)),
    conv(kernel=(1, 1), stride=2),
    conv(kernel=(7, 8)),
    conv(kernel=(1, 5), padding=(0, 2)),
    conv(padding="same"),
    conv(padding="same", kernel=(2, 4), dilation=3),
    conv(padding="same", kernel=(4, 1), groups=2),
    conv(padding="valid"),
    conv(C=3, OC=17, size=(9, 5), padding=1),
    conv(C=33, OC=35, size=(4, 6), padding=1),
    conv(C=16, OC=16, size=(32, 32), padding=1),
    conv(C=16, OC=32, size=(32, 32), padding=1, stride=2),
]


def pool(function, *arguments, size=(9, 10), N=2, **options):
    name = f"{function}{arguments} {size} N={N} {options}"
    shape = (N, 3, *size) if N is not None else (3, *size)
    return name, lambda F, x: getattr(F, function)(x, *arguments, **options), [shape]


POOLINGS = [
    pool("max_pool2d", 2),
    pool("max_pool2d", 2, N=None),
    pool("max_pool2d", 3, 2, 1),
    pool("max_pool2d", (3, 2), (2, 1), (1, 1)),
    pool("max_pool2d", 3, 1, 1, 2),
    pool("max_pool2d", 2, 3),
    pool("max_pool2d", 3, 2, ceil_mode=True),
    pool("max_pool2d", 3, 2, 1, ceil_mode=True, size=(8, 8)),
    pool("max_pool2d", 2, 2, 1, ceil_mode=True, size=(7, 7)),
    pool("max_pool2d", 1, 3, ceil_mode=True, size=(8, 9)),
    pool("max_pool2d", (9, 10)),
    pool("avg_pool2d", 2),
    pool("avg_pool2d", 2, N=None),
    pool("avg_pool2d", 3, 2, 1),
    pool("avg_pool2d", 3, 2, 1, count_include_pad=False),
    pool("avg_pool2d", 3, 2, 1, True),
    pool("avg_pool2d", 3, 2, 1, True, False, size=(8, 8)),
    pool("avg_pool2d", 3, 2, ceil_mode=True, size=(8, 8)),
    pool("avg_pool2d", (2, 3), (3, 2), (1, 0), True, True, size=(7, 8)),
    pool("avg_pool2d", 3, 2, 1, divisor_override=5),
    pool("avg_pool2d", 3, 2, 1, divisor_override=-2, ceil_mode=True),
    pool("avg_pool2d", 2, 4),
    pool("adaptive_avg_pool2d", 1),
    pool("adaptive_avg_pool2d", (4, 3)),
    pool("adaptive_avg_pool2d", (None, 3)),
    pool("adaptive_avg_pool2d", 12),
    pool("adaptive_avg_pool2d", (5, 7), N=None),
    pool("adaptive_avg_pool2d", 1, size=(8, 8)),
]


def linear(*lead, IN=5, OUT=7, bias=True):
    shapes = [(*lead, IN), (OUT, IN), (OUT,) if bias else None]
    return f"linear {lead} {IN} {OUT} bias={bias}", lambda F, x, w, b: F.linear(x, w, b), shapes


LINEARS = [
    linear(3),
    linear(),
    linear(2, 3, 4),
    linear(3, bias=False),
    linear(1, IN=1, OUT=1),
    linear(33, IN=65, OUT=10),
]


def norm(shape, training=True, affine=True, eps=1e-5):
    running = [np.linspace(-1, 1, shape[1]), np.linspace(0.5, 2, shape[1])]

    def call(F, x, w, b):
        return F.batch_norm(x, *tensors(F, x, running), w, b, training, 0.1, eps)

    name = f"batch_norm {shape} training={training} affine={affine} eps={eps}"
    return name, call, [shape, shape[1:2] if affine else None, shape[1:2] if affine else None]


def tensors(F, x, arrays):
    """The arrays as what x is, in its dtype."""
    if isinstance(x, np.ndarray):
        return [a.astype(x.dtype) for a in arrays]
    if "minidl" in F.__name__:
        import minidl

        return [minidl.tensor(a, dtype=x.dtype) for a in arrays]
    import torch

    return [torch.tensor(a, dtype=x.dtype) for a in arrays]


NORMS = [
    norm(shape, training, affine)
    for shape, training, affine in itertools.product([(6, 4), (2, 3, 5), (4, 3, 5, 6)], [True, False], [True, False])
] + [norm((4, 3, 5, 6), eps=0.5), norm((3, 2, 2, 2, 2)), norm((1, 3, 2, 2)), norm((2, 3))]

RNG = np.random.default_rng(7)
LABELS = RNG.integers(0, 5, 8)
PIXELS = RNG.integers(0, 5, (3, 2, 4))
IGNORED = np.where(np.arange(8) % 3 == 0, -100, LABELS)
WEIGHT = RNG.random(5) + 0.1


def soft(*shape, axis=1):
    p = RNG.random(shape)
    return p / p.sum(axis, keepdims=True)


def loss(target, *shape, **options):
    def call(F, x, t):
        changed = dict(options)
        if "weight" in changed:
            changed["weight"] = tensors(F, x, [changed["weight"]])[0]
        return F.cross_entropy(x, t, **changed)

    plain = {k: "..." if k == "weight" else v for k, v in options.items()}
    return f"cross_entropy {shape} {target.dtype}{target.shape} {plain}", call, [shape, target]


LOSSES = [
    loss(target, *shape, **dict(reduction=reduction), **options)
    for (target, shape) in [(LABELS, (8, 5)), (PIXELS, (3, 5, 2, 4)), (IGNORED, (8, 5)), (soft(8, 5), (8, 5))]
    for reduction in ("mean", "sum", "none")
    for options in ({}, {"label_smoothing": 0.2}, {"weight": WEIGHT}, {"weight": WEIGHT, "label_smoothing": 0.1})
] + [
    loss(np.array(2), 5),
    loss(np.array(2), 5, label_smoothing=0.1, weight=WEIGHT),
    loss(soft(5, axis=0), 5),
    loss(soft(3, 5, 2, 4), 3, 5, 2, 4),
    loss(LABELS, 8, 5, ignore_index=2),
    loss(LABELS, 8, 5, ignore_index=2, weight=WEIGHT, label_smoothing=0.3),
    loss(np.full(8, -100), 8, 5, reduction="sum"),
    loss(LABELS, 8, 5, label_smoothing=1.0),
    loss(LABELS.astype(np.uint8), 8, 5),
]


def call(name, shape, *arguments, **options):
    return f"{name} {shape} {arguments} {options}", lambda F, x: getattr(F, name)(x, *arguments, **options), [shape]


OTHERS = [
    call("relu", (3, 4)),
    call("relu", (2, 3, 64, 128)),
    *(call(name, (3, 4, 2), dim) for name in ("softmax", "log_softmax") for dim in (0, 1, -1)),
    call("unfold", (2, 3, 6, 7), 3),
    call("unfold", (2, 3, 6, 7), (2, 3), 2, 1, (2, 1)),
    call("fold", (2, 12, 20), (5, 6), 2),
    call("fold", (2, 27, 9), (6, 6), 3, 1, 1, 2),
    call("pad", (2, 3, 4, 5), (1, 2)),
    call("pad", (2, 3, 4, 5), (1, 2, 0, 3, 1, 1), value=2.5),
    call("pad", (2, 3, 4, 5), (-1, 2, 1, -2)),
    *(call("pad", (2, 3, 4, 5), (1, 2, 3, 0), mode) for mode in ("reflect", "replicate", "circular")),
]
SHAPE = (5, 7, 3)
ACTIVATIONS = [
    *(call(name, SHAPE) for name in ("sigmoid", "tanh", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "relu6")),
    *(call(name, SHAPE) for name in ("hardtanh", "hardsigmoid", "hardswish", "softplus", "logsigmoid")),
    call("leaky_relu", SHAPE, 0.2),
    call("elu", SHAPE, 0.3),
    call("gelu", SHAPE, approximate="tanh"),
    call("hardtanh", SHAPE, -0.5, 0.25),
    call("softplus", SHAPE, 3, 2),
    ("prelu of channels", lambda F, x, w: F.prelu(x, w), [SHAPE, (7,)]),
    ("prelu", lambda F, x, w: F.prelu(x, w), [SHAPE, (1,)]),
    ("prelu of rows", lambda F, x, w: F.prelu(x, w), [(4, 3), (3,)]),
]


def binary(name, *shapes, squash=(), **options):
    """A loss of inputs, of which those in `squash` are squashed into (0, 1)."""

    def call(F, *arrays):
        arrays = [F.sigmoid(x) if i in squash else x for i, x in enumerate(arrays)]
        return getattr(F, name)(*arrays, **options)

    return f"{name} {shapes} {options}", call, list(shapes)


PAIR = [(6, 4), (6, 4)]
ELEMENTWISE_LOSSES = [
    binary(name, *PAIR, **options, reduction=reduction)
    for reduction in ("mean", "sum", "none")
    for name, options in [
        *(("mse_loss", {}), ("l1_loss", {}), ("smooth_l1_loss", {}), ("smooth_l1_loss", {"beta": 0.3})),
        *(("huber_loss", {"delta": 0.6}), ("binary_cross_entropy", {"squash": (0, 1)})),
        ("binary_cross_entropy_with_logits", {"squash": (1,)}),
        *(("kl_div", {"squash": (1,)}), ("kl_div", {"log_target": True})),
    ]
] + [binary("kl_div", *PAIR, squash=(1,), reduction="batchmean")]


def nll(target, *shape, **options):
    return f"nll_loss {shape} {options}", lambda F, x, t: F.nll_loss(x, t, **options), [shape, target]


def weighted(name, squash, **options):
    def call(F, x, t):
        given = {k: tensors(F, x, [v])[0] for k, v in options.items()}
        return getattr(F, name)(F.sigmoid(x) if 0 in squash else x, F.sigmoid(t), **given)

    return f"{name} with {list(options)}", call, PAIR


ELEMENTWISE_LOSSES += [
    *(nll(LABELS, 8, 5, reduction=r) for r in ("mean", "sum", "none")),
    nll(PIXELS, 3, 5, 2, 4),
    nll(IGNORED, 8, 5),
    nll(LABELS, 8, 5, ignore_index=2, reduction="none"),
    nll(np.array(2), 5),
    weighted("binary_cross_entropy", (0,), weight=RNG.random((6, 4))),
    weighted("binary_cross_entropy_with_logits", (), weight=RNG.random(4), pos_weight=RNG.random(4) + 0.5),
]


def layered(name, shape, *arguments, affine=True, tail=None, **options):
    def call(F, x, w, b):
        return getattr(F, name)(x, *arguments, w, b, **options)

    tail = shape[1:2] if tail is None else tail
    return f"{name} {shape} {arguments} {affine} {options}", call, [shape, *([tail] * 2 if affine else [None] * 2)]


NORMS_OF_IMAGES = [
    layered("group_norm", (3, 6, 4, 5), 2),
    layered("group_norm", (3, 6, 4, 5), 6, affine=False),
    layered("group_norm", (3, 6), 3),
    layered("group_norm", (2, 4, 5), 1, eps=0.1),
    layered("layer_norm", (3, 4, 5), (5,), tail=(5,)),
    layered("layer_norm", (3, 4, 5), (4, 5), tail=(4, 5)),
    layered("layer_norm", (3, 4, 5), [5], affine=False, eps=0.1),
    *(call("local_response_norm", (2, 7, 4, 3), n, alpha=0.5, beta=0.6, k=2.0) for n in (1, 2, 3, 4, 5, 15)),
    call("local_response_norm", (2, 7, 4), 5),
]
POOLINGS += [
    pool("adaptive_max_pool2d", 1),
    pool("adaptive_max_pool2d", (4, 3)),
    pool("adaptive_max_pool2d", (None, 3)),
    pool("adaptive_max_pool2d", 12),
    pool("adaptive_max_pool2d", (5, 7), N=None),
    pool("adaptive_max_pool2d", (3, 5)),
]


def transposed(C=4, OC=6, groups=1, kernel=(3, 2), bias=True, N=2, **options):
    shapes = [(N, C, 5, 4) if N else (C, 5, 4), (C, OC // groups, *kernel), (OC,) if bias else None]
    name = f"conv_transpose2d {C} {OC} {groups} {kernel} {bias} {N} {options}"
    return name, lambda F, x, w, b: F.conv_transpose2d(x, w, b, groups=groups, **options), shapes


OTHERS += [
    transposed(),
    transposed(N=None, bias=False),
    transposed(stride=2, padding=1),
    transposed(stride=2, padding=1, output_padding=1, groups=2),
    transposed(stride=(3, 2), padding=(0, 1), output_padding=(2, 0), dilation=(1, 2)),
    transposed(kernel=(1, 1), stride=3, output_padding=2),
    transposed(kernel=(4, 4), stride=2, padding=1, bias=False),
]
IMAGES = (2, 4, 5, 6)
OTHERS += [
    *(call("interpolate", IMAGES, scale_factor=s) for s in (2, (2, 3), 1.5, 0.5, (1, 2.0), 0.7)),
    *(call("interpolate", IMAGES, size) for size in (7, (10, 12), (3, 2), (5, 6))),
    *(
        call("interpolate", IMAGES, **size, mode="bilinear", align_corners=align)
        for size in ({"size": (7, 11)}, {"size": (3, 1)}, {"scale_factor": 2}, {"scale_factor": (1.5, 0.7)})
        for align in (False, True)
    ),
    call("channel_shuffle", IMAGES, 2),
    call("pixel_shuffle", IMAGES, 2),
]
CASES = CONVOLUTIONS + POOLINGS + LINEARS + NORMS + LOSSES + OTHERS
CASES += ACTIVATIONS + ELEMENTWISE_LOSSES + NORMS_OF_IMAGES
