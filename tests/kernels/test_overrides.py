"""Judge 3: every override against its text, in both precisions and in every layout of memory."""

import numpy as np
import pytest
from cases import CASES, text_of

from minidl import kernels
from minidl.kernels import algorithms, overrides
from minidl.kernels.deferred import settled

DIRECTIONS = ("forward", "backward")
OVERRIDDEN = [case for case in CASES if any(overrides(f"{case.op}_{direction}", "cpu") for direction in DIRECTIONS)]


def rows_first(x):
    return x


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if x.ndim > 2 else x


def strided(x):
    """Every second element of a larger array, last axis reversed."""
    if not x.ndim:
        return x
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::-2] = x
    return wide[..., ::-2]


def repeated(x):
    """The first image for all, by a stride of 0."""
    return np.broadcast_to(x[:1], x.shape) if x.ndim else x


LAYOUTS = [rows_first, channels_last, strided, repeated]


def flatten(value):
    """All arrays in nested tuples."""
    if isinstance(value, np.ndarray):
        return [value]
    return [a for v in value for a in flatten(v)] if isinstance(value, tuple) else []


def compare(found, text, exact, dtype):
    """As near to the exact values as 4 times the distance of the text in this dtype, or a few roundings."""
    assert [a.shape for a in flatten(found)] == [a.shape for a in flatten(exact)]
    for f, t, e in zip(flatten(found), flatten(text), flatten(exact), strict=True):
        if e.dtype.kind != "f":
            np.testing.assert_array_equal(f, e)
            continue
        assert f.dtype == dtype
        if e.size:
            scale = np.abs(e).max()
            assert np.abs(f - e).max() <= max(4 * np.abs(t - e).max(), 32 * np.finfo(dtype).eps * scale)


def called(name, *args, **options):
    """Call the override that fits; None where only the text does."""
    for fits, function in overrides(name, "cpu"):
        if fits(*args, **options):
            return tuple(settled(value) for value in function(*args, **options))
    return None


@pytest.fixture(autouse=True)
def direct():
    """Winograd's rounding errors are larger; tests/kernels/test_winograd.py judges it."""
    with algorithms.set_conv_algorithm("direct"):
        yield


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", OVERRIDDEN, ids=str)
def test_override_against_text(case, dtype, layout):
    forward, backward = f"{case.op}_forward", f"{case.op}_backward"
    arrays = [a if a is None else layout(a.astype(dtype)) for a in case.inputs()]
    before = [None if a is None else a.copy() for a in arrays]
    exact_arrays = [None if a is None else a.astype(np.longdouble) for a in arrays]
    options = {k: v.astype(dtype) if getattr(v, "ndim", 0) else v for k, v in case.options.items()}
    text_y, text_saved = text_of(case.op, "forward").text(*arrays, **options)
    exact_y, exact_saved = text_of(case.op, "forward").text(*exact_arrays, **case.options)
    dy = layout(np.random.default_rng(3).standard_normal(np.shape(exact_y)).astype(dtype))

    found = called(forward, *arrays, **options)
    if found is not None:
        compare(found, (text_y, text_saved), (exact_y, exact_saved), dtype)
    text_gradients = text_of(case.op, "backward").text(dy, text_saved, case.needs)
    exact_gradients = text_of(case.op, "backward").text(dy.astype(np.longdouble), exact_saved, case.needs)
    for saved in (text_saved, found[1] if found is not None else text_saved):
        gradients = called(backward, dy, saved, case.needs)
        if gradients is not None:
            compare(tuple(gradients), text_gradients, exact_gradients, dtype)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)  # an override changes none of its inputs


def test_every_override_is_reached_by_a_case():
    reached = set()
    for case in OVERRIDDEN:
        y, saved = text_of(case.op, "forward").text(*case.inputs(), **case.options)
        if called(f"{case.op}_forward", *case.inputs(), **case.options) is not None:
            reached.add(f"{case.op}_forward")
        if called(f"{case.op}_backward", np.ones_like(y), saved, case.needs) is not None:
            reached.add(f"{case.op}_backward")
    others = {"sgd_step", "place", "move_running", "class_targets"}  # tests/optim, and below
    assert reached == {name for name, device in kernels._overrides if device == "cpu"} - others


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("index", [np.s_[:, :, ::2, ::2], np.s_[1:, ::-1, 3], np.s_[:, 1], [0, 0, 1]], ids=str)
def test_put_against_text(index, dtype, layout):
    put, shape = kernels.get_kernel("put"), (3, 4, 6, 8)
    values = layout(np.random.default_rng(0).standard_normal(np.empty(shape)[index].shape).astype(dtype))
    np.testing.assert_array_equal(put(values, index, shape), put.text(values, index, shape))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (4, 3, 2)])
def test_move_running_against_text(shape, dtype):
    rng, move = np.random.default_rng(0), kernels.get_kernel("move_running")
    start, new = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    for made, reaches in ((np.array, True), (lambda a: np.array(a, order="F"), len(shape) == 1)):
        running, expected = made(start), made(start)
        assert move(running, new, momentum=0.3, correction=1.25) is None
        move.text(expected, new, momentum=0.3, correction=1.25)
        np.testing.assert_array_equal(running, expected)
        np.testing.assert_allclose(running, 0.7 * start + 0.375 * new, rtol=1e-5)
        assert any(fits(running, new) for fits, _ in overrides("move_running", "cpu")) == reaches


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_class_targets_against_text(kind, smoothing, dtype):
    rng, targets = np.random.default_rng(0), kernels.get_kernel("class_targets")
    labels, counts = rng.integers(0, 7, 3000).astype(kind), rng.random(3000) < 0.9
    weight = rng.random(7).astype(dtype)
    found = targets(labels, counts, weight, smoothing=smoothing)
    expected = targets.text(labels, counts, weight, smoothing=smoothing)
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(found == 0, expected == 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case", [c for c in OVERRIDDEN if not any(0 in s for s in c.shapes if s)], ids=str)
def test_nan_and_inf_pass_as_through_the_text(case, bad):
    arrays = case.inputs(np.float32)
    arrays[0][(0,) * arrays[0].ndim] = bad
    with np.errstate(all="ignore"):
        y, saved = text_of(case.op, "forward").text(*arrays, **case.options)
        found = called(f"{case.op}_forward", *arrays, **case.options)
        if found is not None:
            np.testing.assert_array_equal(np.isnan(found[0]), np.isnan(y))
        dy = np.ones_like(y)
        expected = text_of(case.op, "backward").text(dy, saved, case.needs)
        gradients = called(f"{case.op}_backward", dy, saved, case.needs)
        for g, e in zip(gradients or (), expected, strict=gradients is not None):
            if e is not None:
                np.testing.assert_array_equal(np.isnan(g), np.isnan(e))
