"""Judge 1: texts and kernels against loops that know nothing of minidl."""

import naive
import numpy as np
import pytest
from cases import CASES, text_of
from judges import relative_error

from minidl.kernels import use_kernels

LOOPED = [case for case in CASES if hasattr(naive, case.op) and not case.large]


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "texts"])
@pytest.mark.parametrize("case", LOOPED, ids=str)
def test_forward(case, kernels):
    with use_kernels(kernels):
        y, _ = text_of(case.op, "forward")(*case.inputs(), **case.options)
    assert relative_error(y, getattr(naive, case.op)(*case.inputs(), **case.options)) < 1e-12


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "texts"])
@pytest.mark.parametrize("case", [c for c in LOOPED if c.op == "conv2d"], ids=str)
def test_convolution_backward(case, kernels):
    x, weight, bias = case.inputs()
    with use_kernels(kernels):
        y, saved = text_of("conv2d", "forward")(x, weight, bias, **case.options)
        dy = np.random.default_rng(1).standard_normal(y.shape)
        gradients = text_of("conv2d", "backward")(dy, saved, case.needs)
    for found, expected in zip(gradients, naive.conv2d_gradients(dy, x, weight, **case.options), strict=True):
        assert found is None or relative_error(found, expected) < 1e-12


def test_every_operation_that_is_more_than_a_numpy_call_has_a_twin():
    elementary = {
        *("add", "subtract", "multiply", "divide", "power", "negative", "exp", "log", "sqrt", "absolute", "maximum"),
        *("minimum", "where", "relu", "cast", "sum", "amax", "reshape", "transpose", "broadcast_to", "concatenate"),
        *("pad", "getitem", "put", "tanh", "expm1"),
        "whiten",  # judged by the covariance of what comes out: tests/nn/test_whitening.py
    }
    assert {case.op for case in CASES} - elementary == {case.op for case in LOOPED}


def test_fold_is_the_adjoint_of_unfold():
    case = next(c for c in CASES if c.op == "unfold")
    (x,), window = case.inputs(), case.options["window"]
    cols = naive.unfold(x, window)
    y = np.random.default_rng(0).standard_normal(cols.shape)
    assert np.vdot(cols, y) == pytest.approx(np.vdot(x, naive.fold(y, window, x.shape[2:])), rel=1e-13)
