"""Judge 2: every backward text against finite differences in float64, and every second derivative."""

import numpy as np
import pytest
from cases import CASES, text_of
from judges import central_differences, gradient_errors, relative_error

import minidl
from minidl import autograd
from minidl.kernels import list_kernels

SMALL = [case for case in CASES if not case.large]


def test_every_operation_is_in_the_table():
    texts = {name.removesuffix("_forward") for name in list_kernels() if name.endswith("_forward")}
    assert texts == {case.op for case in CASES}


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_first_derivative(case):
    errors = gradient_errors(
        text_of(case.op, "forward").text,
        text_of(case.op, "backward").text,
        case.inputs(),
        case.options,
        case.needs,
        step=1e-3 if case.linear else 3e-4,
    )
    assert max(errors) <= (1e-9 if case.linear else 1e-7), errors


@pytest.mark.parametrize("case", CASES, ids=str)
def test_only_what_is_needed_is_computed(case):
    forward, backward = text_of(case.op, "forward"), text_of(case.op, "backward")
    y, saved = forward(*case.inputs(), **case.options)
    every = backward(np.ones_like(y), saved, case.needs)
    for i, need in enumerate(case.needs):
        if need and len(case.needs) > 1:
            needs = tuple(i == j for j in range(len(case.needs)))
            gradients = backward(np.ones_like(y), saved, needs)
            assert [g is not None for g in gradients] == list(needs)
            np.testing.assert_array_equal(gradients[i], every[i])


@pytest.mark.parametrize(
    "case", [c for c in SMALL if not c.arrays_only and not any(0 in s for s in c.shapes if s)], ids=str
)
def test_second_derivative(case):
    """Differences of the first derivative (arrays) against the texts replayed on Tensors."""
    op = autograd.differentiable(text_of(case.op, "forward"), text_of(case.op, "backward"))
    rng, arrays = np.random.default_rng(2), case.inputs()
    shape = np.shape(op(*arrays, **case.options))
    dy = rng.standard_normal(shape)
    chosen = [i for i, need in enumerate(case.needs) if need]
    directions = [rng.standard_normal(arrays[i].shape) for i in chosen]

    def first(dy, *arrays):
        """Σ_i direction_i · (gradient by input i), from the texts on arrays."""
        _, saved = op.forward.text(*arrays, **case.options)
        gradients = op.backward.text(dy, saved, case.needs)
        return float(sum(np.sum(gradients[i] * v) for i, v in zip(chosen, directions, strict=True)))

    tensors = [minidl.tensor(a, requires_grad=True) if i in chosen else a for i, a in enumerate(arrays)]
    dy_tensor = minidl.tensor(dy, requires_grad=True)
    inputs = [tensors[i] for i in chosen]
    gradients = autograd.grad(op(*tensors, **case.options), inputs, dy_tensor, create_graph=True)
    total = sum(((g * v).sum() for g, v in zip(gradients, directions, strict=True)), minidl.tensor(0.0))
    second = autograd.grad(total, [dy_tensor, *inputs], allow_unused=True)
    scale = None
    for i, found in zip([0, *(j + 1 for j in chosen)], second, strict=True):
        expected = central_differences(first, [dy, *arrays], i, 1e-3 if case.linear else 3e-4)
        scale = max(np.abs(expected).max(), scale or 0)
        found = np.zeros_like(expected) if found is None else found.array
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-6 * max(scale, 1e-3), i


def test_relative_error_sees_shapes_and_nan():
    assert relative_error(np.zeros(3), np.zeros((3, 1))) == np.inf
    assert relative_error(np.array([np.nan]), np.array([1.0])) == np.inf
    assert relative_error(np.array([1.001]), np.array([1.0])) == pytest.approx(1e-3)
