"""Huge, infinite, NaN and tiny inputs: the same pattern of NaN and infinity as PyTorch, forward and backward."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F

torch = pytest.importorskip("torch")
NAN, INF = float("nan"), float("inf")
ROWS = {
    "huge": [[5000.0, -5000.0, 0.0], [1e30, -1e30, 1.0]],
    "infinite": [[INF, 0.0, 1.0], [0.0, 1.0, 2.0]],
    "minus infinity": [[-INF, 0.0, 1.0], [0.0, 1.0, 2.0]],
    "only minus infinity": [[-INF, -INF, -INF], [0.0, 1.0, 2.0]],
    "both infinities": [[INF, -INF, 1.0], [INF, INF, 2.0]],
    "NaN": [[NAN, 0.0, 1.0], [0.0, 1.0, 2.0]],
    "tiny": [[1e-30, -1e-30, 0.0], [1e-38, 1e-30, -0.0]],
}
LABELS = [0, 2]
TARGETS = [[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]]
FUNCTIONS = {
    "cross_entropy": lambda lib, F, x: F.cross_entropy(x, lib.tensor(LABELS)),
    "cross_entropy none": lambda lib, F, x: F.cross_entropy(x, lib.tensor(LABELS), reduction="none"),
    "cross_entropy smoothed": lambda lib, F, x: F.cross_entropy(x, lib.tensor(LABELS), label_smoothing=0.1),
    "cross_entropy ignored": lambda lib, F, x: F.cross_entropy(x, lib.tensor([-100, 2])),
    "cross_entropy of probabilities": lambda lib, F, x: F.cross_entropy(
        x, lib.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 1.0]], dtype=x.dtype)
    ),
    "softmax": lambda lib, F, x: F.softmax(x, 1),
    "log_softmax": lambda lib, F, x: F.log_softmax(x, 1),
    "relu": lambda lib, F, x: F.relu(x),
    **{
        name: lambda lib, F, x, name=name: getattr(F, name)(x)
        for name in (
            *("sigmoid", "tanh", "leaky_relu", "elu", "gelu", "silu", "relu6", "hardtanh", "hardsigmoid", "hardswish"),
            *("softplus", "logsigmoid", "mish"),
        )
    },
    "tanh gelu": lambda lib, F, x: F.gelu(x, approximate="tanh"),
    "clamp": lambda lib, F, x: x.clamp(-1, 2),
    "bce": lambda lib, F, x: F.binary_cross_entropy_with_logits(x, lib.tensor(TARGETS, dtype=x.dtype)),
    "local_response_norm": lambda lib, F, x: F.local_response_norm(x[None], 2),
    "layer_norm": lambda lib, F, x: F.layer_norm(x, (3,)),
    "adaptive_max_pool2d": lambda lib, F, x: F.adaptive_max_pool2d(x.reshape(1, 1, 2, 3), (1, 2)),
    "max_pool2d": lambda lib, F, x: F.max_pool2d(x.reshape(1, 1, 2, 3), 2, 1),
    "padded max_pool2d": lambda lib, F, x: F.max_pool2d(x.reshape(1, 1, 2, 3), 3, 2, 1),
    "avg_pool2d": lambda lib, F, x: F.avg_pool2d(x.reshape(1, 1, 2, 3), 2, 1),
    "adaptive_avg_pool2d": lambda lib, F, x: F.adaptive_avg_pool2d(x.reshape(1, 1, 2, 3), 1),
    "linear": lambda lib, F, x: F.linear(x, lib.ones(2, 3, dtype=x.dtype)),
    "conv2d": lambda lib, F, x: F.conv2d(x.reshape(1, 1, 2, 3), lib.ones(1, 1, 1, 2, dtype=x.dtype)),
    "batch_norm": lambda lib, F, x: F.batch_norm(x, None, None, training=True),
    "evaluated batch_norm": lambda lib, F, x: F.batch_norm(x, lib.zeros(3, dtype=x.dtype), lib.ones(3, dtype=x.dtype)),
}
APART = {
    *(("gelu", row) for row in ("infinite", "both infinities")),  # PyTorch: inf in float64, NaN in float32; here inf
    ("hardsigmoid", "NaN"),  # PyTorch's gradient is 0
    ("cross_entropy of probabilities", "minus infinity"),  # 0 ln 0 is 0 here, and NaN in PyTorch
    ("adaptive_avg_pool2d", "huge"),  # 1e30 - 1e30 + ...: what is left depends on the order of the sum
}


def run(library, functional, name, row, dtype):
    x = library.tensor(ROWS[row], dtype=getattr(library, dtype), requires_grad=True)
    y = FUNCTIONS[name](library, functional, x)
    dy = np.random.default_rng(0).standard_normal(tuple(y.shape))
    y.backward(library.tensor(dy, dtype=getattr(library, dtype)))
    return y.detach().numpy(), x.grad.numpy()


CASES = [(name, row) for name in FUNCTIONS for row in ROWS if (name, row) not in APART]


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "texts"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "row"), CASES)
def test_same_pattern(name, row, dtype, kernels):
    with np.errstate(all="ignore"), minidl.use_kernels(kernels):
        mine = run(minidl, F, name, row, dtype)
    for value, expected in zip(mine, run(torch, torch.nn.functional, name, row, dtype), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5 if dtype == "float32" else 1e-9, atol=1e-6)
