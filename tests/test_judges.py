"""The judges are judged: a derivative that is slightly wrong must be rejected, the right one accepted."""

import numpy as np
import pytest
from cases import Case, conv, text_of
from judges import gradient_errors

BATCH_NORM = Case("batch_norm", [(3, 4, 3, 2), (4,), (4,)], dict(eps=1e-5))
CONVOLUTION = conv((2, 3, 6, 6), (4, 3, 3, 2), (2, 1), (1, 1))


def judge(case, change=lambda gradients, dy, saved: gradients):
    """The worst error of a backward whose gradients were changed."""
    forward, backward = text_of(case.op, "forward").text, text_of(case.op, "backward").text

    def changed(dy, saved, needs):
        return change(list(backward(dy, saved, needs)), dy, saved)

    return max(gradient_errors(forward, changed, case.inputs(), case.options, case.needs, step=3e-4))


@pytest.mark.parametrize("case", [BATCH_NORM, CONVOLUTION], ids=["batch_norm", "conv2d"])
def test_the_right_derivative_is_accepted(case):
    assert judge(case) < 1e-7


@pytest.mark.parametrize("case", [BATCH_NORM, CONVOLUTION], ids=["batch_norm", "conv2d"])
@pytest.mark.parametrize("i", [0, 1, 2])
@pytest.mark.parametrize("factor", [1.001, 0.999, 0.0, -1.0])
def test_a_scaled_gradient_is_rejected(case, i, factor):
    def scale(gradients, dy, saved):
        gradients[i] = gradients[i] * factor
        return gradients

    assert judge(case, scale) > 1e-4


def test_a_missing_term_of_batch_norms_dx_is_rejected():
    def without_mean_term(gradients, dy, saved):
        x, gamma, mean, var, inv_std = saved
        m = x.size / x.shape[1]
        dmean = (dy * gamma.reshape(1, -1, 1, 1)).sum((0, 2, 3), keepdims=True) * -inv_std
        gradients[0] = gradients[0] - dmean / m
        return gradients

    assert judge(BATCH_NORM, without_mean_term) > 1e-4


def test_one_wrong_element_is_rejected():
    def change_one(gradients, dy, saved):
        gradients[0][0, 0, 0, 0] += 1e-3 * np.abs(gradients[0]).max()
        return gradients

    assert judge(CONVOLUTION, change_one) > 1e-4


def test_swapped_strides_are_rejected():
    _, saved = text_of("conv2d", "forward").text(*CONVOLUTION.inputs(), **CONVOLUTION.options)
    window = CONVOLUTION.options["window"]

    def swapped(gradients, dy, saved):
        x, weight, _, groups = saved
        wrong = window._replace(stride=window.stride[::-1])
        return list(text_of("conv2d", "backward").text(dy, (x, weight, wrong, groups), CONVOLUTION.needs))

    assert judge(CONVOLUTION, swapped) > 1e-4


def test_a_gradient_that_nobody_asked_for_is_an_error():
    forward, backward = text_of("multiply", "forward").text, text_of("multiply", "backward").text
    inputs = [np.ones(3), np.ones(3)]

    def too_much(dy, saved, needs):
        return backward(dy, saved, (True, True))

    errors = gradient_errors(forward, too_much, inputs, {}, (True, False))
    assert errors[1] == 1


def test_ones_as_upstream_gradient_would_hide_a_zero_backward():
    """Why the judges draw dy: batch norm's dx is 0 for dy = 1."""
    _, saved = text_of("batch_norm", "forward").text(*BATCH_NORM.inputs(), **BATCH_NORM.options)
    dx, _, _ = text_of("batch_norm", "backward").text(np.ones((3, 4, 3, 2)), saved, BATCH_NORM.needs)
    assert np.abs(dx).max() < 1e-12
