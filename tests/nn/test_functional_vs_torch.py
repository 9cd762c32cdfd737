"""Every functional call of the table against PyTorch: outputs, gradients (twice), memory layouts, float32 errors."""

import numpy as np
import pytest
from nn_cases import (
    ACTIVATIONS,
    CASES,
    CONVOLUTIONS,
    ELEMENTWISE_LOSSES,
    LINEARS,
    LOSSES,
    NORMS,
    NORMS_OF_IMAGES,
    POOLINGS,
    inputs,
)

import minidl
import minidl.nn.functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional
# PyTorch says that it copies the input, and that another reduction is better; the result is what counts here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding=.same:UserWarning"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning"),
]
named = pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])


def ours(case, arrays, dy=None):
    """(output, gradients) of minidl as arrays."""
    tensors = [a if a is None else minidl.from_numpy(a) for a in arrays]
    tensors = [
        t.requires_grad_() if t is not None and a.dtype.kind == "f" else t for t, a in zip(tensors, arrays, strict=True)
    ]
    y = case[1](F, *tensors)
    y.backward(minidl.from_numpy(dy) if dy is not None else None)
    return y.detach().numpy(), [None if t is None or t.grad is None else t.grad.numpy() for t in tensors]


def theirs(case, arrays, dy=None):
    """(output, gradients) of PyTorch as arrays."""
    tensors = [a if a is None else torch.from_numpy(a.copy()) for a in arrays]
    tensors = [t.requires_grad_() if t is not None and t.dtype.is_floating_point else t for t in tensors]
    y = case[1](TF, *tensors)
    y.backward(torch.from_numpy(dy) if dy is not None else None)
    return y.detach().numpy(), [None if t is None or t.grad is None else t.grad.numpy() for t in tensors]


def upstream(shape, dtype=np.float64):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def error(value, expected):
    """Largest difference over the largest expected value."""
    assert value.shape == expected.shape
    return np.abs(value - expected).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-300)


def compare(case, arrays, bound=1e-9):
    with torch.no_grad():
        shape = case[1](TF, *(a if a is None else torch.from_numpy(a.copy()) for a in arrays)).shape
    dy = upstream(tuple(shape))
    (y, grads), (y_torch, grads_torch) = ours(case, arrays, dy), theirs(case, arrays, dy)
    assert y.dtype == y_torch.dtype
    assert error(y, y_torch) <= bound
    for i, (g, expected) in enumerate(zip(grads, grads_torch, strict=True)):
        assert (g is None) == (expected is None), f"gradient {i}"
        if g is not None:
            assert g.dtype == expected.dtype and error(g, expected) <= bound, f"gradient {i}"


@named
@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "texts"])
def test_outputs_and_gradients_in_float64(case, kernels):
    bound = 1e-7 if "hardsigmoid" in case[0] else 1e-9  # PyTorch's 1/6 is that of float32
    with minidl.use_kernels(kernels):
        compare(case, inputs(case, np.float64), bound)


def channels_last(a):
    return np.ascontiguousarray(np.moveaxis(a, 1, -1)).transpose(0, a.ndim - 1, *range(1, a.ndim - 1))


LAYOUTS = {
    "channels last": lambda a: channels_last(a) if a.ndim >= 3 else a,
    "Fortran order": lambda a: a.copy(order="F"),
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "reversed": lambda a: np.asarray(np.flip(np.flip(a).copy())),
    "a slice of more": lambda a: (
        np.pad(a, 1, constant_values=np.nan)[(slice(1, -1),) * a.ndim] if a.dtype.kind == "f" else a
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "case", CONVOLUTIONS[::4] + POOLINGS[::4] + LINEARS[:3] + NORMS[::3] + LOSSES[::7], ids=lambda c: c[0]
)
def test_any_memory_layout(case, layout):
    compare(case, [a if a is None else LAYOUTS[layout](a) for a in inputs(case, np.float64)])


@pytest.mark.parametrize("case", [CONVOLUTIONS[0], POOLINGS[0], POOLINGS[11], LINEARS[0], NORMS[8]], ids=lambda c: c[0])
def test_expanded_inputs(case):
    """Arrays in which every row is the same memory, read-only as NumPy makes them."""
    arrays = inputs(case, np.float64)
    compare(case, [np.broadcast_to(arrays[0][:1], arrays[0].shape), *arrays[1:]])


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "texts"])
@named
def test_float32_is_as_near_to_float64_as_torch(case, kernels):
    """Each error at most four times PyTorch's own (or four units in the last place, where PyTorch is exact)."""
    arrays = inputs(case, np.float32)
    arrays64 = [a if a is None or a.dtype.kind != "f" else a.astype(np.float64) for a in arrays]
    arrays = [a if a is None or a.dtype.kind != "f" else a.astype(np.float32) for a in arrays]
    with torch.no_grad():
        shape = case[1](TF, *(a if a is None else torch.from_numpy(a) for a in arrays)).shape
    dy = upstream(tuple(shape), np.float32)
    exact = theirs(case, arrays64, dy.astype(np.float64))
    with minidl.use_kernels(kernels):
        mine = ours(case, arrays, dy)
    other = theirs(case, arrays, dy)
    for g, g_torch, g_exact in zip([mine[0], *mine[1]], [other[0], *other[1]], [exact[0], *exact[1]], strict=True):
        if g is not None:
            assert g.dtype == np.float32
            assert error(g, g_exact) <= max(4 * error(g_torch, g_exact), 5e-7)


TWICE = [
    *CONVOLUTIONS[:2],
    *CONVOLUTIONS[4:16:3],
    CONVOLUTIONS[19],
    POOLINGS[2],
    POOLINGS[5],
    POOLINGS[14],
    POOLINGS[16],
]
TWICE += [POOLINGS[23], *POOLINGS[-5:], *LINEARS[:4], *NORMS, *LOSSES[::5], LOSSES[13]]
TWICE += [*ACTIVATIONS, *ELEMENTWISE_LOSSES, *NORMS_OF_IMAGES]
TWICE = [case for case in TWICE if not case[0].startswith(("hardsigmoid", "l1_loss"))]  # PyTorch has none, or no array


@pytest.mark.parametrize("case", TWICE, ids=lambda case: case[0])
def test_second_derivatives(case):
    """The gradient of Σ (first gradient * random), as PyTorch's double backward."""
    arrays = inputs(case, np.float64)
    results = []
    for library, functional in ((minidl, F), (torch, TF)):
        tensors = [a if a is None else library.from_numpy(a.copy()) for a in arrays]
        wanted = [
            t.requires_grad_() for t, a in zip(tensors, arrays, strict=True) if a is not None and a.dtype.kind == "f"
        ]
        y = case[1](functional, *tensors)
        dy = library.from_numpy(upstream(tuple(y.shape))).requires_grad_()
        first = library.autograd.grad(y, wanted, dy, create_graph=True)
        total = sum((g * library.from_numpy(upstream(tuple(g.shape)))).sum() for g in first)
        second = library.autograd.grad(total, [*wanted, dy], allow_unused=True)
        shapes = [t.shape for t in (*wanted, dy)]
        results.append(
            [np.zeros(tuple(s)) if g is None else np.asarray(g.detach()) for g, s in zip(second, shapes, strict=True)]
        )
    scale = max(np.abs(g).max() for g in results[1])
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-9 * scale)


@named
def test_arrays_give_arrays(case):
    arrays = inputs(case, np.float64)
    y = case[1](F, *arrays)
    assert type(y) is np.ndarray
    expected = case[1](F, *(a if a is None else minidl.from_numpy(a) for a in arrays))
    np.testing.assert_array_equal(y, expected.numpy())


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "texts"])
def test_zero_batches(kernels):
    with minidl.use_kernels(kernels):
        for case in (
            CONVOLUTIONS[0],
            CONVOLUTIONS[11],
            CONVOLUTIONS[19],
            *POOLINGS[2:4],
            *POOLINGS[13:15],
            POOLINGS[22],
            LINEARS[0],
        ):
            arrays = inputs(case, np.float64)
            compare(case, [arrays[0][:0], *arrays[1:]])
        evaluation = next(c for c in NORMS if "5, 6) training=False affine=True" in c[0])
        arrays = inputs(evaluation, np.float64)
        compare(evaluation, [arrays[0][:0], *arrays[1:]])
