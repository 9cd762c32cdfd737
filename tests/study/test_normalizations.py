"""Normalisations in two dimensions: each has the covariance it promises."""

import numpy as np
import pytest

from minidl.study.normalizations import cloud, compare_costs, draw_normalizations, normalizations


def test_covariances():
    views = normalizations(cloud())
    covariances = {name: np.cov(points.T, ddof=0) for name, points in views.items()}
    assert abs(covariances["data"][0, 1]) > 0.5 and np.abs(views["data"].mean(axis=0)).min() > 0.5
    for name, points in views.items():
        if name != "data":
            np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.diag(covariances["batch norm"]), 1)
    assert abs(covariances["batch norm"][0, 1]) > 0.5
    assert covariances["decorrelated"][0, 1] == pytest.approx(0, abs=1e-12)
    assert covariances["decorrelated"][0, 0] > covariances["decorrelated"][1, 1]
    for name in ("PCA whitening", "ZCA whitening"):
        np.testing.assert_allclose(covariances[name], np.eye(2), atol=1e-9)


def test_the_picture_has_a_panel_for_each():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    assert [ax.get_title() for ax in draw_normalizations().axes] == list(normalizations(cloud()))
    matplotlib.pyplot.close("all")


def test_costs_are_listed_by_features():
    assert [row[0] for row in compare_costs(64, (2, 4), repeats=1).rows] == ["2", "4"]


def test_errors():
    with pytest.raises(ValueError, match="m >= 2"):
        normalizations(np.ones(3))
    with pytest.raises(ValueError, match=r"\(m, 2\)"):
        draw_normalizations(np.random.default_rng(0).standard_normal((5, 3)))
