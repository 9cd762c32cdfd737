"""Dropout: what it draws, what it keeps, what it leaves alone."""

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.nn import functional as F


@pytest.fixture(autouse=True)
def seeded():
    minidl.manual_seed(0)


def test_share_and_scale():
    """Each element is 0 or x / (1 - p), about a share p of them 0: within four standard deviations."""
    x = minidl.ones(200, 500)
    for p in (0.1, 0.5, 0.8):
        y = F.dropout(x, p).numpy()
        assert set(np.unique(y)) == {np.float32(0), np.float32(1 / (1 - p))}
        assert abs((y == 0).mean() - p) < 4 * np.sqrt(p * (1 - p) / y.size)


def test_one_mask_forward_and_backward():
    x = minidl.randn(20, 30, dtype=minidl.float64, requires_grad=True)
    y = F.dropout(x, 0.4)
    y.sum().backward()
    kept = y.detach().numpy() != 0
    np.testing.assert_allclose(x.grad.numpy(), kept / 0.6)
    np.testing.assert_allclose(y.detach().numpy(), x.detach().numpy() * kept / 0.6)


def test_second_derivatives_replay_the_same_mask():
    x = minidl.randn(20, 30, dtype=minidl.float64, requires_grad=True)
    y = F.dropout(x * x, 0.4)
    (g,) = minidl.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = minidl.autograd.grad(g.sum(), x)
    np.testing.assert_allclose(second.numpy(), 2 * (y.detach().numpy() != 0) / 0.6)


def test_the_seed_decides():
    x = minidl.ones(100)
    draws = []
    for seed in (1, 1, 2):
        minidl.manual_seed(seed)
        draws.append(F.dropout(x).numpy())
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_nothing_happens_in_evaluation_or_with_p_0():
    x = minidl.randn(3, 4)
    before = minidl.get_rng_state()
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 0.0) is x
    assert nn.Dropout(0.5).eval()(x) is x
    assert minidl.get_rng_state() == before


def test_p_1_drops_everything():
    x = minidl.randn(3, 4, requires_grad=True)
    y = F.dropout(x, 1.0)
    y.sum().backward()
    assert (y.detach().numpy() == 0).all() and (x.grad.numpy() == 0).all()


@pytest.mark.parametrize("shape", [(4, 6, 3, 5), (6, 3, 5)])
def test_whole_channels(shape):
    y = F.dropout2d(minidl.ones(*shape), 0.5).numpy().reshape(-1, 15)
    assert ((y == 0).all(1) | (y == 2).all(1)).all() and 0 < (y == 0).mean() < 1


def test_in_place():
    x = minidl.ones(100, requires_grad=True)
    h = x * 3
    assert F.dropout(h, 0.5, inplace=True) is h
    h.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), h.detach().numpy())
    array = np.ones(50, np.float32)
    assert F.dropout(array, 0.5, inplace=True) is array and 0 < (array == 0).sum() < 50


def test_arrays_give_arrays():
    assert type(F.dropout(np.ones(5, np.float32))) is np.ndarray


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_no_probability(p):
    with pytest.raises(ValueError, match=f"dropout: p must be a probability.*{p}"):
        F.dropout(minidl.ones(3), p)
    with pytest.raises(ValueError, match="Dropout: p"):
        nn.Dropout(p)


def test_no_images():
    with pytest.raises(ValueError, match=r"dropout2d: x must have shape.*\(3,\)"):
        F.dropout2d(minidl.ones(3))
