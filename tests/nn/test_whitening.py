"""Whitening: covariance I, derivatives against differences, running statistics."""

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.nn.whitening import whiten
from minidl.study.gradcheck import gradcheck


def correlated(m, D, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, D)) @ rng.standard_normal((D, D)) + 3


@pytest.mark.parametrize("mode", ["zca", "pca"])
def test_white_rows_have_mean_0_and_covariance_1(mode):
    y = whiten(correlated(200, 5), mode, eps=0.0)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(y.T @ y / 200, np.eye(5), atol=1e-10)


def test_zca_moves_least_and_pca_sorts_by_components():
    x = correlated(200, 4)
    x_bar = x - x.mean(axis=0)
    zca, pca = whiten(x, "zca", 0.0), whiten(x, "pca", 0.0)
    assert np.sum((zca - x_bar) ** 2) < np.sum((pca - x_bar) ** 2)
    spread = np.abs(np.corrcoef(np.hstack([pca, x_bar]).T))[:4, 4:].max(axis=1)
    assert spread.argmax() == 3  # the last coordinate is the principal one: eigenvalues ascend


@pytest.mark.parametrize("mode", ["zca", "pca"])
def test_gradients(mode):
    report = gradcheck(lambda x: whiten(x, mode, eps=1e-3), correlated(7, 4))
    assert report and report.worst.relative < 1e-7, report


@pytest.mark.parametrize("mode", ["zca", "pca"])
@pytest.mark.parametrize("shape, patch", [((9, 3), None), ((3, 3, 4, 4), None), ((5, 1, 4, 6), 2)])
def test_gradients_of_the_layer(shape, patch, mode):
    x = np.random.default_rng(1).standard_normal(shape)
    report = gradcheck(nn.Whitening(shape[1], mode, patch_size=patch), x)
    assert report and report.worst.relative < 1e-7, report


def test_pixels_and_patches_are_whitened():
    x = minidl.from_numpy(np.random.default_rng(0).standard_normal((40, 2, 4, 4)).cumsum(axis=3))
    y = nn.Whitening(2, eps=0.0, dtype=np.float64)(x).numpy()
    rows = np.moveaxis(y, 1, -1).reshape(-1, 2)
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(2), atol=1e-10)
    y = nn.Whitening(2, eps=0.0, patch_size=2, dtype=np.float64)(x).numpy()
    patches = np.array([y[:, :, h : h + 2, w : w + 2].reshape(40, -1) for h in (0, 2) for w in (0, 2)]).reshape(-1, 8)
    np.testing.assert_allclose(patches.T @ patches / len(patches), np.eye(8), atol=1e-9)


def test_evaluation_uses_running_statistics():
    layer, x = nn.Whitening(3, eps=0.0, momentum=1.0, dtype=np.float64), correlated(50, 3)
    layer(minidl.from_numpy(x))
    np.testing.assert_allclose(layer.running_mean.numpy(), x.mean(axis=0))
    np.testing.assert_allclose(layer.running_cov.numpy(), np.cov(x.T))
    y = layer.eval()(minidl.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.cov(y.T), np.eye(3), atol=1e-9)
    assert list(layer.state_dict()) == ["running_mean", "running_cov"]


def test_second_derivatives_are_refused_by_name():
    x = minidl.tensor(correlated(6, 2), requires_grad=True)
    with pytest.raises((NotImplementedError, TypeError), match="eigh|whiten"):
        minidl.autograd.grad(whiten(x).sum(), x, create_graph=True)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: whiten(np.ones((3,))), "must have shape"),
        (lambda: whiten(np.ones((3, 2)), "magic"), "mode must be"),
        (lambda: nn.Whitening(0), "num_features must be"),
        (lambda: nn.Whitening(3)(minidl.ones(4, 2)), r"\(N, 3\)"),
        (lambda: nn.Whitening(3, patch_size=2)(minidl.ones(4, 3, 3, 4)), "multiples of patch_size 2"),
        (lambda: nn.Whitening(3)(minidl.ones(1, 3)), "2 rows or more"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()
