"""The distribution of a stream of numbers against NumPy's sorting."""

import numpy as np
import pytest

import minidl
from minidl.study.distribution import Distribution

FRACTIONS = (0, 0.01, 0.05, 0.15, 0.5, 0.85, 0.95, 0.99, 1)
RNG = np.random.default_rng(0)
SAMPLES = {
    "normal": RNG.standard_normal((3000, 16)),
    "rectified": np.maximum(RNG.standard_normal((3000, 16)), 0),
    "narrow, far from 0": 1 + 1e-3 * RNG.standard_normal((3000, 16)),
    "a wide range of sizes": -np.exp(3 * RNG.standard_normal((3000, 3))),
    "small": 1e-30 * RNG.standard_normal((5000, 1)),
    "huge": 1e37 * RNG.uniform(-1, 1, (5000, 1)),
}


@pytest.mark.parametrize("x", SAMPLES.values(), ids=SAMPLES)
def test_quantiles_are_those_of_sorted_numbers(x):
    found, x = Distribution(x.astype(np.float32)), x.astype(np.float32).astype(np.float64)
    center = x.mean() if x.std() < abs(x.mean()) else 0
    exact = np.quantile(x, FRACTIONS, method="nearest")
    assert np.all(np.abs(found.quantiles(FRACTIONS) - exact) <= np.abs(exact - center) / 120 + 1e-6 * np.abs(exact))
    assert found.quantiles([0, 1]).tolist() == [found.low, found.high] == [x.min(), x.max()]
    np.testing.assert_allclose(
        [found.mean, found.std, found.norm], [x.mean(), x.std(), np.linalg.norm(x)], rtol=1e-5, atol=1e-7 * x.std()
    )


@pytest.mark.parametrize("x", SAMPLES.values(), ids=SAMPLES)
def test_histograms_hold_every_number(x):
    counts, ends = Distribution(x).histogram(32)
    exact, edges = np.histogram(x.astype(np.float32), 32)
    assert counts.sum() == x.size and np.allclose(ends, edges[[0, -1]], rtol=1e-6)
    assert np.abs(counts - exact).sum() < 0.03 * x.size


def test_many_numbers_are_sampled_evenly():
    x = np.linspace(0, 1, 1 << 20).reshape(-1, 8)
    found = Distribution(x)
    assert np.abs(found.quantiles(FRACTIONS) - FRACTIONS).max() < 0.01
    assert found.histogram(4)[0].tolist() == pytest.approx([1 << 15] * 4, rel=0.01)
    assert (found.low, found.high) == (0, 1) and found.mean == pytest.approx(0.5, rel=1e-6)


def test_the_number_of_threads_changes_nothing():
    before, figures = minidl.get_num_threads(), []
    x = RNG.standard_normal((1 << 14, 16))
    try:
        for threads in (1, 2, 3):
            minidl.set_num_threads(threads)
            found = Distribution(x)
            figures.append((found.mean, found.std, found.low, found.high, *found.quantiles(FRACTIONS)))
    finally:
        minidl.set_num_threads(before)
    assert figures[0] == figures[1] == figures[2]


def test_columns_that_are_zero():
    x = np.zeros((1000, 4))
    x[777, 2] = -1e-3
    assert Distribution(x).dead == 0.75
    assert Distribution(x[:777]).dead == 1 and Distribution(x[:777]).quantiles(FRACTIONS).tolist() == [0] * 9


@pytest.mark.parametrize("value", [0.0, -3.7, 1e-42])
def test_one_number_many_times(value):
    found = Distribution(np.full((5, 3), value, np.float32))
    assert np.all(found.quantiles(FRACTIONS) == np.float32(value))
    assert found.histogram(8)[0].sum() == 15


def test_float64_is_summed_as_it_is():
    x = 1 + 1e-9 * RNG.standard_normal((50, 4))
    found = Distribution(x)
    np.testing.assert_allclose([found.mean, found.norm], [x.mean(), np.linalg.norm(x)], rtol=1e-14)
    assert [found.low, found.high] == [x.min(), x.max()] == found.quantiles([0, 1]).tolist()


def test_what_is_not_finite_is_left_out_of_quantiles():
    found = Distribution(np.array([[np.nan, np.inf, -np.inf, 1, 2, 3]]))
    assert found.quantiles([0, 0.5, 1]).tolist() == pytest.approx([1, 2, 3], rel=1 / 128)
    assert np.isnan(found.mean) and found.histogram(2)[0].sum() == 3
    nothing = Distribution(np.full((2, 2), np.nan))
    assert nothing.quantiles([0, 0.5, 1]).tolist() == [0, 0, 0] and not nothing.dead
