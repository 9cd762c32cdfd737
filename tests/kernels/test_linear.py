"""Matrix products: every way around the edges of panels, blocks, runs and vectors."""

import numpy as np
import pytest

import minidl
from minidl.kernels.cpu.linear import COLUMNS, FEW, LONG, ROWS, RUN, matrix_product

SIZES = [(1, 1, 1), (1, 37, COLUMNS + 5), (FEW, 2 * RUN + 3, 19), (FEW + 1, 7 * RUN, 33), (130, RUN + 1, 70)]
SIZES += [(64, 600, 8), (70, FEW, 45), (20, 300, 1100), (33, 3 * LONG + 7, 40), (ROWS + 72, 300, 330)]
SIZES += [(9, 2 * RUN, 70), (400, 700, 1), (33, 20, 50)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_product_of_matrices_and_transposes(size, turned, dtype):
    rng, (M, K, N) = np.random.default_rng(0), size
    a, b = (
        np.asfortranarray(x) if turn else x
        for x, turn in zip((rng.standard_normal((M, K)), rng.standard_normal((K, N))), turned, strict=True)
    )
    a, b = a.astype(dtype, order="K"), b.astype(dtype, order="K")
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    limit = np.finfo(dtype).eps * (np.sqrt(min(K, RUN)) + K / RUN + 1) * (np.abs(a) @ np.abs(b)).max()
    assert np.abs(matrix_product(a, b) - exact).max() <= limit


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_number_of_threads_does_not_matter(size):
    rng, (M, K, N) = np.random.default_rng(0), size
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((M, K), (K, N)))
    before, results = minidl.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            minidl.set_num_threads(threads)
            results.append(matrix_product(a, b).tobytes())
    finally:
        minidl.set_num_threads(before)
    assert len(set(results)) == 1
