"""Padding, parts and their gradients in channels-last memory, against the texts."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl.kernels import get_kernel, use_kernels
from minidl.kernels.cpu import shape
from minidl.kernels.deferred import Deferred, settled

ALL = slice(None)
PARTS = {
    "every second pixel": (ALL, ALL, slice(None, None, 2), slice(1, None, 2)),
    "images, channels and pixels": (slice(1, None, 2), slice(3, 20), slice(2, -1), slice(None, None, 3)),
    "first axis alone": slice(1, 3),
    "ellipsis": (slice(2), ..., slice(5)),
    "ellipsis behind": (ALL, slice(7, 8), ...),
    "one image": (1,),
    "upside down": (ALL, ALL, slice(None, None, -1)),
    "every second channel": (ALL, slice(None, None, 2)),
    "nothing": (ALL, ALL, slice(0, 0)),
}


def images(*extents, dtype=np.float64, seed=0):
    x = np.random.default_rng(seed).standard_normal(extents).astype(dtype)
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_put_into_zeros(name, dtype):
    x = images(4, 21, 12, 9, dtype=dtype)
    dy = images(4, 21, 12, 9, dtype=dtype, seed=1)[PARTS[name]]
    backward = get_kernel("getitem_backward")
    (found,), (text,) = (f(dy, (x.shape, PARTS[name]), (True,)) for f in (backward, backward.text))
    np.testing.assert_array_equal(settled(found), text)


@pytest.mark.parametrize("widths", [((0, 0), (2, 3), (0, 0), (1, 0)), ((1, 2), (0, 0), (3, 3), (0, 5)), ((0, 0),) * 4])
@pytest.mark.parametrize("part", [(ALL,), (ALL, ALL, slice(None, None, 2), slice(1, None, 3)), (ALL, slice(2, 19))])
def test_padding(part, widths):
    x, pad = images(4, 21, 12, 9)[part], get_kernel("pad_forward")
    np.testing.assert_array_equal(pad(x, widths=widths, value=-7)[0], pad.text(x, widths=widths, value=-7)[0])


@pytest.mark.parametrize("order", ["part first", "part last", "two parts", "rows first"])
def test_the_gradient_of_a_part_is_added_to_another(order, monkeypatch):
    part, seen, original = PARTS["every second pixel"], [], shape.spread

    def spread(*args):
        seen.append(args[-2].size > 0)  # whether there is another to add to
        original(*args)

    monkeypatch.setattr(shape, "spread", spread)
    w, v = (minidl.tensor(images(8, 8, k, k, seed=k)) for k in (3, 1))

    def gradient():
        x = minidl.tensor(images(8, 8, 16, 16), requires_grad=True)
        h = F.conv2d(x, v)
        ways = {
            "part first": lambda: (F.conv2d(h, w, stride=2, padding=1), h[part]),
            "part last": lambda: (h[part], F.conv2d(h, w, stride=2, padding=1))[::-1],
            "two parts": lambda: (h[part], h[:, :, ::2, ::2]),
            "rows first": lambda: (F.conv2d(h, w, stride=2, padding=1), h.reshape(8, 8, 8, 32)[..., ::4]),
        }
        y, z = ways[order]()
        F.conv2d(y + z, v).pow(2).sum().backward()
        return x.grad.numpy()

    found = gradient()
    assert any(seen) == (order != "rows first")  # in one pass
    with use_kernels(False):
        np.testing.assert_allclose(found, gradient(), rtol=1e-9, atol=1e-9)


def test_a_part_that_waits_is_what_it_was_when_it_was_put():
    values = F.conv2d(minidl.tensor(images(4, 8, 8, 9)), minidl.tensor(images(8, 8, 1, 1)))
    part = (ALL, ALL, slice(None, None, 2), slice(None, None, 2))
    whole = minidl.primitives.put(values, index=part, shape=(4, 8, 16, 18))
    assert isinstance(whole.held, Deferred)
    before = values.numpy().copy()
    values.mul_(3)
    np.testing.assert_array_equal(whole.numpy()[part], before)


def test_padding_of_what_is_larger_than_a_cache_is_the_same_on_all_threads():
    x, y = images(64, 16, 32, 32, dtype=np.float32), []
    for threads in (1, 2, 5):
        before = minidl.get_num_threads()
        minidl.set_num_threads(threads)
        y.append(F.pad(minidl.from_numpy(x[:, :, ::2, ::2]), (0, 0, 0, 0, 8, 8)).numpy())
        minidl.set_num_threads(before)
    np.testing.assert_array_equal(y[0], y[1])
    np.testing.assert_array_equal(y[0], y[2])
