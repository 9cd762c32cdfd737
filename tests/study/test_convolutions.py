"""One convolution four ways, and fold as the adjoint of unfold."""

import numpy as np
import pytest

from minidl.nn.geometry import sliding
from minidl.ops.windows import fold, unfold
from minidl.study.convolutions import convolve_four_ways, seven_loops

rng = np.random.default_rng(0)


def images(*shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def test_all_ways_give_the_same_numbers():
    ways = convolve_four_ways(images(1, 16, 8, 8), images(16, 16, 3, 3), padding=1, repeats=1)
    assert [way.name for way in ways] == ["seven loops", "im2col times matrix", "implicit im2col, SIMD", "Winograd"]
    assert all(way.difference < 3e-6 and way.y.shape == (1, 16, 8, 8) for way in ways)
    assert ways.multiply_adds == 16 * 64 * 144


@pytest.mark.parametrize("stride, padding", [(2, 1), ((1, 2), (2, 0))])
def test_winograd_is_left_out_where_it_does_not_apply(stride, padding):
    ways = convolve_four_ways(images(2, 3, 7, 6), images(4, 3, 3, 2), stride, padding, repeats=1)
    assert len(ways) == 3 and all(way.difference < 1e-6 for way in ways)


def test_seven_loops_by_hand():
    x, weight = np.arange(9.0).reshape(1, 1, 3, 3), np.array([[[[1.0, 10.0], [100.0, 1000.0]]]])
    np.testing.assert_array_equal(seven_loops(x, weight), [[[[4310, 5421], [7643, 8754]]]])
    assert seven_loops(x, weight, padding=1)[0, 0, 0, 0] == 0


def test_the_table_has_a_line_for_each_way():
    ways = convolve_four_ways(images(1, 2, 5, 5), images(2, 2, 3, 3), repeats=1)
    assert len(str(ways).splitlines()) == 2 + len(ways) and ways._repr_html_().count("<tr>") == 1 + len(ways)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="x has 2 channels"):
        convolve_four_ways(images(1, 2, 5, 5), images(2, 3, 3, 3))


@pytest.mark.parametrize(
    "kernel, stride, padding, dilation", [((3, 2), (2, 1), (1, 1), (1, 2)), ((2, 2),) * 2 + ((0, 0), (1, 1))]
)
def test_fold_is_the_adjoint_of_unfold(kernel, stride, padding, dilation):
    window = sliding("test", (6, 5), kernel, stride, padding, dilation)
    x = rng.standard_normal((2, 3, 6, 5))
    columns = unfold(x, window)
    y = rng.standard_normal(columns.shape)
    assert np.sum(columns * y) == pytest.approx(np.sum(x * fold(y, window, (6, 5))), rel=1e-12)
