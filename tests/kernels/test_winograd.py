"""Winograd's convolution against the direct one and float64: shapes, layouts, errors, and the choice between them."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl.kernels.cpu import winograd

LANES = winograd.LANES


@pytest.fixture(autouse=True)
def forced():
    with minidl.set_conv_algorithm("winograd"):
        yield


@pytest.fixture
def calls(monkeypatch):
    """Counts how often each of Winograd's two entries is called."""
    counts = {}

    def count(name, function):
        def counted(*args):
            counts[name] += 1
            return function(*args)

        counts[name] = 0
        monkeypatch.setattr(winograd, name, counted)

    count("correlate", winograd.correlate)
    count("conv2d_dweight", winograd.conv2d_dweight)
    return counts


def gradients(x, weight, bias, dy, padding):
    leaves = [minidl.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    y = F.conv2d(*leaves, padding=padding)
    y.backward(dy)
    return [y.detach().array, *(leaf.grad.array for leaf in leaves)]


def case(N, C, OC, H, W, padding, K=3):
    rng = np.random.default_rng(H * W + C)
    pads = padding if isinstance(padding, tuple) else (padding, padding)
    shape = (N, OC, H + 2 * pads[0] - K + 1, W + 2 * pads[1] - K + 1)
    shapes = ((N, C, H, W), (OC, C, K, K), (OC,), shape)
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


@pytest.mark.parametrize(
    ("N", "C", "OC", "H", "W", "padding", "K"),
    [
        (1, LANES, LANES, 3, 3, 0, 3),  # one output
        (2, LANES, 2 * LANES, 8, 8, 1, 3),  # whole tiles
        (3, 2 * LANES, LANES, 9, 7, 1, 3),  # tiles that hang over both edges
        (1, LANES, 3 * LANES, 6, 13, 2, 3),  # padding on all sides of the tile; a narrow last panel
        (2, 3 * LANES, LANES, 5, 6, (0, 2), 3),
        (40, LANES, LANES, 4, 4, 1, 3),  # several blocks, several parts of the weight gradient
        (2, LANES, 9 * LANES, 8, 8, 1, 3),  # on AVX-512: two runs of output channels
        (1, 16 * LANES, 16 * LANES, 8, 8, 1, 3),
        (1, LANES, LANES, 5, 5, 0, 5),
        (2, 2 * LANES, LANES, 7, 9, 2, 5),
        (3, LANES, 3 * LANES, 6, 5, (4, 1), 5),
        (40, LANES, LANES, 6, 6, 2, 5),
    ],
)
def test_against_float64(calls, N, C, OC, H, W, padding, K):
    x, weight, bias, dy = case(N, C, OC, H, W, padding, K)
    found = gradients(x, weight, bias, dy, padding)
    assert calls["conv2d_dweight"] == 1 and calls["correlate"] == 2 - (np.max(padding) > K - 1)
    exact = gradients(*(a.astype(np.float64) for a in (x, weight, bias, dy)), padding)
    for f, e in zip(found, exact, strict=True):
        assert f.dtype == np.float32 and f.shape == e.shape
        scale = np.sqrt((e**2).mean()) if e.size > 1 else max(1, abs(e).max())
        assert np.abs(f - e).max() <= 3e-5 * scale


def test_errors_stay_near_those_of_the_direct_path():
    arrays = case(16, 64, 64, 16, 16, 1)
    exact = gradients(*(a.astype(np.float64) for a in arrays), 1)
    error = {}
    for algorithm in ("direct", "winograd"):
        with minidl.set_conv_algorithm(algorithm):
            found = gradients(*arrays, 1)
        error[algorithm] = [np.sqrt(((f - e) ** 2).mean()) for f, e in zip(found, exact, strict=True)]
    for direct, wino in zip(error["direct"], error["winograd"], strict=True):
        assert wino <= 8 * direct


def test_results_do_not_depend_on_the_number_of_threads():
    x, weight, bias, dy = case(24, 2 * LANES, LANES, 12, 12, 1)
    before = minidl.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            minidl.set_num_threads(threads)
            results.append(gradients(x, weight, bias, dy, 1))
    finally:
        minidl.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_reach_all_outputs_that_see_them(bad):
    x, weight, bias, _ = case(1, LANES, LANES, 12, 12, 1)
    x[0, 3, 5, 5] = bad
    y = F.conv2d(x, weight, bias, padding=1)
    assert not np.isfinite(y[:, :, 4:7, 4:7]).any()
    assert np.isfinite(y[:, :, 8:]).all()


def test_what_it_does_not_fit_goes_the_direct_way(calls):
    rng = np.random.default_rng(0)

    def run(C=LANES, OC=LANES, K=3, dtype=np.float32, groups=1, **options):
        x, w = rng.standard_normal((2, C, 8, 8)), rng.standard_normal((OC, C // groups, K, K))
        F.conv2d(x.astype(dtype), w.astype(dtype), groups=groups, **options)

    run(dtype=np.float64), run(C=3), run(OC=LANES + 1), run(K=4), run(stride=2), run(dilation=2), run(groups=2)
    assert calls["correlate"] == 0
    run()
    assert calls["correlate"] == 1


def test_the_choice(calls):
    x, w, *_ = case(4, LANES, LANES, 16, 16, 1)
    small, *_ = case(200, LANES, LANES, 1, 1, 1)
    for algorithm, images, expected in [("direct", x, 0), ("text", x, 0), ("auto", x, 1), ("auto", small, 0)]:
        calls["correlate"] = 0
        with minidl.set_conv_algorithm(algorithm):
            F.conv2d(images, w, padding=1)
            assert minidl.get_conv_algorithm() == algorithm
        assert minidl.get_conv_algorithm() == "winograd"  # what the fixture has set
        assert calls["correlate"] == expected, algorithm
    with pytest.raises(ValueError, match="auto, direct, winograd, text, got 'fast'"):
        minidl.set_conv_algorithm("fast")
