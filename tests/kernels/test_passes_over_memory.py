"""Kernels of activations, softmax, losses and normalisation: over many blocks, on many threads, channels last."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl.kernels import use_kernels

OPERATIONS = {
    "gelu": lambda x: F.gelu(x),
    "huber": lambda x: F.huber_loss(x, x.detach() * 0.5 + 0.1, "none"),
    "softmax": lambda x: F.softmax(x, 1),
    "layer norm": lambda x: F.layer_norm(x, x.shape[2:]),
    "group norm": lambda x: F.group_norm(x, 8),
    "cross-entropy": lambda x: F.cross_entropy(x, np.arange(6 * 27 * 26).reshape(6, 27, 26) % 16, reduction="none"),
}


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def output_and_gradient(compute, x, dy=None):
    x = minidl.from_numpy(x.copy("K")).requires_grad_()
    y = compute(x)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype) if dy is None else dy
    y.backward(dy)
    return y.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_last], ids=["rows first", "channels last"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_many_blocks_give_what_the_text_gives_on_any_number_of_threads(name, layout):
    x = layout(np.random.default_rng(0).standard_normal((6, 16, 27, 26)).astype(np.float32))
    with use_kernels(False):
        expected = output_and_gradient(OPERATIONS[name], x)
    found, before = [], minidl.get_num_threads()
    try:
        for threads in (1, 2, 3):
            minidl.set_num_threads(threads)
            found.append(output_and_gradient(OPERATIONS[name], x))
    finally:
        minidl.set_num_threads(before)
    for arrays in zip(*found, expected, strict=True):
        np.testing.assert_array_equal(arrays[0], arrays[1])
        np.testing.assert_array_equal(arrays[0], arrays[2])
        np.testing.assert_allclose(arrays[0], arrays[3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("groups", [1, 3, 12])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, channels_last], ids=["rows first", "channels last"])
def test_groups_of_channels_that_lie_side_by_side(groups, dtype, layout):
    """The gradient that comes in may lie otherwise; what comes out lies as x does."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((3, 12, 5, 4)).astype(dtype) for _ in range(2))

    def compute(x):
        return F.group_norm(x, groups)

    y, dx = output_and_gradient(compute, channels_last(x), layout(dy))
    assert y.strides == dx.strides == channels_last(x).strides
    with use_kernels(False):
        expected = output_and_gradient(compute, x, dy)
    for f, e in zip((y, dx), expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=0, atol=50 * np.finfo(dtype).eps)


def test_nan_stays_in_its_group():
    x = np.ones((2, 8, 3, 3), np.float32)
    x[1, 5, 2, 0] = np.nan
    y = F.group_norm(channels_last(x), 4)
    assert np.isnan(y[1, 4:6]).all() and np.isfinite(y[0]).all() and np.isfinite(np.delete(y[1], [4, 5], 0)).all()
