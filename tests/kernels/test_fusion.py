"""Deferred arrays: batch norm, addition and ReLU in one pass give what each would give alone, to whoever looks."""

import numpy as np
import pytest

import minidl
import minidl.nn as nn
import minidl.nn.functional as F
from minidl.kernels.deferred import Deferred

SHAPE = (4, 16, 24, 24)  # enough numbers for a buffer


def array(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape or SHAPE).astype(np.float32)


@pytest.fixture
def parts():
    """conv -> batch norm, with everything that flows in."""
    x = minidl.tensor(array(0), requires_grad=True)
    w = minidl.tensor(array(1, 16, 16, 1, 1), requires_grad=True)
    gamma, beta = (minidl.tensor(array(s, 16) + 1, requires_grad=True) for s in (2, 3))
    return x, w, gamma, beta


def normalized(parts, training=True):
    x, w, gamma, beta = parts
    mean, var = minidl.zeros(16), minidl.ones(16)
    return F.batch_norm(F.conv2d(x, w), mean, var, gamma, beta, training=training)


def outcome(parts, function, training=True, kernels=True):
    """y and all gradients of function(batch norm, x); exact with kernels=False."""
    with minidl.use_kernels(kernels):
        for p in parts:
            p.grad = None
        y = function(normalized(parts, training), parts[0])
        y.backward(array(9, *y.shape))
        return [y.detach().array, *(p.grad.array for p in parts)]


FUNCTIONS = {
    "relu": lambda h, x: F.relu(h),
    "relu in place": lambda h, x: F.relu(h, inplace=True),
    "relu method": lambda h, x: h.relu(),
    "module": lambda h, x: nn.ReLU(inplace=True)(h),
    "sum": lambda h, x: F.relu(h + x),
    "sum, swapped": lambda h, x: F.relu(x + h),
    "sum with a computed shortcut": lambda h, x: F.relu(h + x * 2),
    "added in place": lambda h, x: F.relu(h.__iadd__(x)),
    "two normalised": lambda h, x: F.relu(h + F.batch_norm(x * 3, None, None, training=True)),
    "twice itself": lambda h, x: F.relu(h + h),
    "used twice": lambda h, x: F.relu(h) + h * 0.5,
    "no relu": lambda h, x: h + x,
    "alone": lambda h, x: h * 1,
    "a number": lambda h, x: F.relu(h + 3) + (2 + h),
    "relu of relu": lambda h, x: F.relu(F.relu(h) - 0.1),
    "broadcast": lambda h, x: F.relu(h + minidl.tensor(array(5, h.shape[1], 1, 1))),
    "looked at": lambda h, x: F.relu(h) if h.array is not None else None,
    "sum looked at": lambda h, x: looked_at(h + x).relu(),
    "one residual after the other": lambda h, x: F.relu(F.relu(h + x) + F.relu(h)),
}


def looked_at(x):
    assert isinstance(x.array, np.ndarray)
    return x


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_values_and_gradients_as_the_texts(parts, name, training):
    found = outcome(parts, FUNCTIONS[name], training)
    expected = outcome(parts, FUNCTIONS[name], training, kernels=False)
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=2e-4, atol=2e-4 * np.abs(e).max())


WAYS = {  # weight's shape, stride, images
    "winograd": ((16, 16, 3, 3), 1, (4, 16, 24, 24)),
    "winograd 5x5": ((16, 16, 5, 5), 1, (4, 16, 24, 24)),
    "direct": ((16, 16, 3, 3), 2, (4, 16, 48, 48)),
    "direct, odd channels": ((13, 16, 3, 3), 1, (4, 16, 24, 24)),
    "direct, long sums": ((16, 80, 3, 3), 2, (4, 80, 48, 48)),
    "groups": ((16, 4, 3, 3), 1, (4, 16, 24, 24)),
    "columns": ((48, 16, 3, 3), 4, (64, 16, 24, 24)),
    "depthwise": ((16, 1, 3, 3), 2, (4, 16, 48, 48)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("way", WAYS)
def test_inference_finishes_a_convolution_on_the_way(way, name):
    shape, stride, images = WAYS[way]
    with minidl.no_grad():
        x, w, b = (
            minidl.tensor(array(0, *images)),
            minidl.tensor(array(1, *shape) / 10),
            minidl.tensor(array(2, shape[0])),
        )
        mean, var, gamma, beta = (minidl.tensor(array(s, shape[0]) ** 2) for s in (3, 4, 5, 6))

        def values(kernels, bias):
            with minidl.use_kernels(kernels):
                p, groups = shape[2] // 2, images[1] // shape[1]
                h = F.conv2d(x * 1, w, bias, stride=stride, padding=p, groups=groups)
                assert isinstance(h.held, Deferred) == kernels
                n = F.batch_norm(h, mean, var, gamma, beta)
                assert isinstance(n.held, Deferred) == kernels and (h.held is not None)
                assert not kernels or not h.held.is_made
                shortcut = minidl.tensor(array(7, *h.shape)) * 1
                return FUNCTIONS[name](n, shortcut).array, FUNCTIONS[name](h, shortcut).array

        for bias in (None, b):
            for f, e in zip(values(True, bias), values(False, bias), strict=True):
                np.testing.assert_allclose(f, e, rtol=2e-4, atol=2e-4 * np.abs(e).max())


def test_what_a_convolution_read_may_change_before_the_look(parts):
    x, w, *_ = parts

    def values(kernels):
        with minidl.use_kernels(kernels), minidl.no_grad():
            c = x * 1
            weight = w.clone()
            h = F.conv2d(c, weight, padding=0)
            n = F.batch_norm(F.conv2d(c, weight), minidl.zeros(16), minidl.ones(16))
            c.mul_(0)
            weight.array[...] = 0
            return h.array, n.array, F.relu(n).array

    for f, e in zip(values(True), values(False), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("K", [1, 3, 5])
def test_gradients_of_a_shortcut_are_added_by_the_convolution(K, monkeypatch):
    """Winograd's input gradient adds what comes through the shortcut and its ReLU on the way to memory."""
    from minidl.kernels.cpu import elementwise

    passes = []
    kernel = elementwise.add_cut_block
    monkeypatch.setattr(elementwise, "add_cut_block", lambda *args: passes.append(1) or kernel(*args))
    x, *w = array(0, 6, 16, 22, 22), *(array(s, 16, 16, K, K) / 10 for s in (1, 2, 3))

    def values(kernels):
        tensors = [minidl.tensor(a, requires_grad=True) for a in (x, *w)]
        h, *weights = tensors
        with minidl.use_kernels(kernels):
            for v in weights:  # one block after the other
                h = F.relu(F.batch_norm(F.conv2d(h, v, padding=K // 2), None, None, training=True) + h)
            dy = array(4, 6, 22, 22, 16).transpose(0, 3, 1, 2)
            h.backward(dy)
        return [t.grad.array for t in tensors]

    found = values(True)
    assert len(passes) == (3 if K == 1 else 0)
    for f, e in zip(found, values(False), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-3, atol=1e-3 * np.abs(e).max())


def test_fusion_happens(parts):
    """Else the tests above would compare nothing."""
    h = normalized(parts)
    assert isinstance(h.held, Deferred) and h.shape == SHAPE and h.dtype == np.float32
    y = F.relu(h + parts[0] * 1)
    assert isinstance(h.held, Deferred) and not h.held.is_made
    assert isinstance(y.array, np.ndarray) and not h.held.is_made
    F.relu(h, inplace=True)
    assert isinstance(h.held, np.ndarray)


def test_a_users_array_is_never_read_later():
    x = array(0)
    h = F.batch_norm(minidl.tensor(x), None, None, training=True)
    assert isinstance(h.held, np.ndarray)
    assert isinstance(F.batch_norm(x, None, None, training=True), np.ndarray)
    kept = minidl.from_numpy(x)
    shifted = F.batch_norm(kept * 1, None, None, training=True) + kept
    expected = shifted.array.copy()
    x[:] = 0
    np.testing.assert_array_equal(shifted.array, expected)


def test_in_place_changes_come_after_what_was_computed_before(parts):
    def values(kernels):
        with minidl.use_kernels(kernels), minidl.no_grad():
            c = F.conv2d(parts[0], parts[1])
            h = F.batch_norm(c, None, None, training=True)
            s = h + c
            c.mul_(100)
            c[0] = 7
            gamma_before = [t.array.copy() for t in (h, s)]
            return [*gamma_before, F.relu(s).array]

    for f, e in zip(values(True), values(False), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-4, atol=1e-4)


def test_in_place_changes_come_after_what_was_computed_from_a_value_that_is_gone(parts):
    def values(kernels):
        with minidl.use_kernels(kernels), minidl.no_grad():
            c = F.conv2d(parts[0], parts[1])
            s = F.batch_norm(c, None, None, training=True) + parts[0]
            t = F.batch_norm(c, minidl.zeros(16), minidl.ones(16)) + c * 2
            c.mul_(0)
            return s.array, t.array

    for f, e in zip(values(True), values(False), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-4, atol=1e-4)


def test_parameters_may_change_before_the_look(parts):
    h = normalized(parts)
    with minidl.no_grad():
        parts[2].fill_(0)
        parts[3].fill_(5)
    assert np.std(h.array) > 0.1


def test_hooks_and_retained_gradients_see_the_intermediate_values(parts):
    def seen(kernels):
        found = []
        with minidl.use_kernels(kernels):
            h = normalized(parts)
            h.retain_grad()
            h.register_hook(lambda g: found.append(g.array.copy()))
            s = h + parts[0]
            s.register_hook(lambda g: g * 2)
            F.relu(s).backward(array(9))
            return [*found, h.grad.array, h.array, s.array]

    for f, e in zip(seen(True), seen(False), strict=True):
        np.testing.assert_allclose(f, e, rtol=2e-4, atol=2e-4 * np.abs(e).max())


def test_gradients_by_an_intermediate_value(parts):
    h = normalized(parts)
    y = F.relu(h + parts[0])
    (dh,) = minidl.autograd.grad(y, h, array(9))
    assert isinstance(dh.held, np.ndarray)
    np.testing.assert_array_equal(dh.array, np.where(y.array > 0, array(9), 0))


def test_gradients_of_leaves_are_arrays_of_their_own():
    x = minidl.tensor(array(0), requires_grad=True)
    y = F.relu(x)
    dy = array(1)
    y.backward(dy)
    assert isinstance(x.grad.held, np.ndarray)
    expected = x.grad.array.copy()
    dy[:] = 0
    with minidl.no_grad():
        y.fill_(0)
    np.testing.assert_array_equal(x.grad.array, expected)


POOLS = {"whole": (24, 2, None, 0), "remainder": (23, 2, None, 0), "overlapping": (24, 3, 2, 1), "gaps": (23, 2, 3, 0)}


@pytest.mark.parametrize("look", ["nobody", "hook", "pooled twice", "relu used again", "in place", "values"])
@pytest.mark.parametrize("channels", [16, 20])
@pytest.mark.parametrize("pool", POOLS)
def test_pooling_does_the_relu_before_it(pool, channels, look):
    side, kernel, stride, padding = POOLS[pool]
    x, w = array(0, 4, 16, side, side), array(1, channels, 16, 1, 1)

    def values(kernels):
        tx, tw, found = minidl.tensor(x, requires_grad=True), minidl.tensor(w, requires_grad=True), []
        with minidl.use_kernels(kernels):
            h = F.conv2d(tx, tw, minidl.full((channels,), -1.0))  # some windows hold nothing positive
            r = F.relu(h, inplace=look == "in place")
            if look == "hook":
                r.register_hook(lambda g: found.append(g.array.copy()))
            y = F.max_pool2d(r, kernel, stride, padding)
            if kernels and look == "nobody" and channels == 16:
                assert isinstance(r.held, Deferred) and not r.held.is_made
            if look == "pooled twice":
                y = y + F.max_pool2d(r, kernel, stride, padding) * 2
            if look == "relu used again":
                y = y + r.mean()
            if look == "values":
                found.append(r.array)
            y.backward(np.ascontiguousarray(array(2, *y.shape[:1], *y.shape[2:], channels)).transpose(0, 3, 1, 2))
        return [y.array, tx.grad.array, tw.grad.array, *found]

    for f, e in zip(values(True), values(False), strict=True):
        np.testing.assert_allclose(f, e, rtol=2e-4, atol=2e-4 * np.abs(e).max())


def test_signs_of_an_activation_that_has_changed_since_are_not_used():
    x, w = minidl.tensor(array(0, 4, 16, 24, 24)), minidl.tensor(array(1, 16, 16, 1, 1))

    def values(kernels):
        with minidl.use_kernels(kernels):
            with minidl.no_grad():
                h = F.relu(looked_at(F.conv2d(x, w)))
                assert h.array is not None  # made, with its signs
                h.sub_(1)
            h.requires_grad_()
            r = F.relu(h)
            (F.max_pool2d(r, 2).sum() + F.max_pool2d(r, 2, 1).sum()).backward()
            return h.grad.array

    np.testing.assert_array_equal(values(True), values(False))


def test_second_derivatives(parts):
    """Through the fused forward, against the texts."""

    def second(kernels):
        with minidl.use_kernels(kernels):
            x, w, gamma, beta = parts
            y = F.relu(normalized(parts) + x)
            (dw,) = minidl.autograd.grad((y * y).sum(), w, create_graph=True)
            return minidl.autograd.grad((dw * dw).sum(), [x, gamma])

    for f, e in zip(second(True), second(False), strict=True):
        np.testing.assert_allclose(f.array, e.array, rtol=2e-3, atol=2e-3 * np.abs(e.array).max())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_pass(parts, bad):
    with minidl.no_grad():
        parts[0][1, 2, 3, 4] = bad

        def values(kernels):
            with minidl.use_kernels(kernels):
                return F.relu(normalized(parts, training=False) + parts[0]).array

        np.testing.assert_array_equal(np.isnan(values(True)), np.isnan(values(False)))


@pytest.mark.parametrize("shape", [(2, 7, 5, 3), (64, 3, 16, 16), (3, 300, 2, 2), (8, 16, 9, 9), (128, 33)])
def test_rows_of_any_width(shape):
    """Narrow rows are joined, whatever their number."""
    x = minidl.tensor(array(0, *shape) + 3, requires_grad=True)
    w = minidl.tensor(array(1, shape[1]), requires_grad=True)

    def values(kernels):
        x.grad = w.grad = None
        with minidl.use_kernels(kernels):
            y = F.batch_norm(x, None, None, w, training=True)
            y.backward(array(2, *shape))
            return y.detach().array, x.grad.array, w.grad.array

    for f, e in zip(values(True), values(False), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-4, atol=1e-4 * np.abs(e).max())


def test_results_that_are_gone_are_not_waited_for(parts):
    with minidl.no_grad():
        c = F.conv2d(parts[0], parts[1])
        for _ in range(5):
            F.relu(F.batch_norm(c, None, None, training=True))
        kept = F.batch_norm(c, None, None, training=True)
    assert len(c.memory.waiting) == 1 and c.memory.waiting[0]() is kept
