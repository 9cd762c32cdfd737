"""The gradient checker: right gradients pass; each deliberate mistake is caught and located."""

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import nn
from minidl.autograd import differentiable
from minidl.kernels import Kernel
from minidl.nn.geometry import sliding
from minidl.ops import batch_norm, conv, elementwise, linear
from minidl.study.gradcheck import gradcheck, gradgradcheck
from minidl.study.gradcheck_report import GradcheckError


def array(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def with_backward(forward, backward):
    """The operation of a right forward text and another backward."""
    return differentiable(forward, Kernel(backward))


# --- what is right passes ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "function, inputs",
    [
        (lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1), (array(2, 3, 5, 5), array(4, 3, 3, 3), array(4))),
        (nn.BatchNorm2d(3), array(4, 3, 2, 2)),
        (nn.CrossEntropyLoss(), (array(4, 5), np.array([0, 1, 4, 2]))),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), array(5, 3)),
        (lambda x: (x.exp(), x.sum()), array(2, 3)),  # several outputs
    ],
    ids=["conv2d", "batch norm", "cross-entropy", "network", "outputs"],
)
def test_right_gradients_pass(function, inputs):
    report = gradcheck(function, inputs)
    assert report, report
    assert report.worst.relative < 1e-7 and all(check.checked == np.prod(check.shape) for check in report.checks)


def test_second_derivatives():
    report = gradgradcheck(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), array(5, 3))
    assert report and [check.name for check in report.checks][-1] == "dy0"


def test_inputs_have_the_names_of_arguments_and_parameters():
    names = [check.name for check in gradcheck(nn.Linear(2, 3), array(4, 2)).checks]
    assert names == ["x", "weight", "bias"]
    assert [c.name for c in gradcheck(lambda a, b: a * b, (array(2), array(2))).checks] == ["a", "b"]


def test_nothing_of_the_user_changes():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    x, state = array(5, 3), minidl.get_rng_state()
    given = x.copy()
    assert gradcheck(model, x)
    assert minidl.get_rng_state() == state
    np.testing.assert_array_equal(x, given)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
        assert value.dtype == before[name].dtype
    assert all(p.grad is None for p in model.parameters())


def test_the_same_mask_is_drawn_for_every_evaluation():
    def noisy(x):
        return x * minidl.rand(3, 4, dtype=minidl.float64)

    assert gradcheck(noisy, array(3, 4))


def test_complex_step_is_exact():
    def standardise(x, gamma):
        mean = np.mean(x, axis=0)
        return gamma * (x - mean) / np.sqrt(np.mean((x - mean) ** 2, axis=0) + 1e-5)

    report = gradcheck(standardise, (array(5, 3), array(3)), method="complex")
    assert report and report.worst.relative < 1e-12


# --- deliberate mistakes ----------------------------------------------------------------------------------------------
def factor(dy, saved, needs):
    (dx,) = elementwise.exp_backward.text(dy, saved, needs)
    return (dx * 1.001,)


def missing_term(dy, saved, needs):
    """dx without what flows through the variance."""
    x, gamma, mean, var, inv_std = saved
    dx_hat = dy * gamma[:, None, None]
    dmean = np.sum(dx_hat, axis=(0, 2, 3), keepdims=True) * -inv_std
    _, dgamma, dbeta = batch_norm.batch_norm_backward.text(dy, saved, needs)
    return dx_hat * inv_std + dmean / (x.size / x.shape[1]), dgamma, dbeta


def forgotten_mean(dy, saved, needs):
    """The sum over the batch instead of its mean in dx."""
    x, gamma, mean, var, inv_std = saved
    _, dgamma, dbeta = batch_norm.batch_norm_backward.text(dy, saved, needs)
    dx_hat = dy * gamma[:, None, None]
    dvar = np.sum(dx_hat * (x - mean), axis=(0, 2, 3), keepdims=True) * -0.5 * inv_std**3
    dmean = np.sum(dx_hat, axis=(0, 2, 3), keepdims=True) * -inv_std
    return dx_hat * inv_std + dvar * 2 * (x - mean) + dmean, dgamma, dbeta


def swapped_strides(dy, saved, needs):
    """dx of the transposed windows: rows where columns should be."""
    x, weight, window, groups = saved
    dx, dweight, dbias = conv.conv2d_backward.text(dy, saved, needs)
    return np.ascontiguousarray(dx.transpose(0, 1, 3, 2)), dweight, dbias


def no_broadcasting_sum(dy, saved, needs):
    """The bias gets the gradient of the first row only."""
    dx, dweight, dbias = linear.linear_backward.text(dy, saved, needs)
    return dx, dweight, dy[0]


BATCH_NORM = dict(eps=1e-5), [(3, 2, 2, 2), (2,), (2,)]
WRONG = {
    "a factor of 1.001": (with_backward(elementwise.exp_forward, factor), {}, [(3, 4)], {"x": 12}),
    "a missing term of dx": (with_backward(batch_norm.batch_norm_forward, missing_term), *BATCH_NORM, {"x": 1}),
    "a forgotten 1/m": (with_backward(batch_norm.batch_norm_forward, forgotten_mean), *BATCH_NORM, {"x": 1}),
    "a dropped broadcasting sum": (
        with_backward(linear.linear_forward, no_broadcasting_sum),
        {},
        [(4, 3), (5, 3), (5,)],
        {"bias": 5},
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_caught_and_located(mistake):
    op, options, shapes, guilty = WRONG[mistake]
    labels = ["x", "weight", "bias"][: len(shapes)]
    functions = {1: lambda x: op(x, **options), 3: lambda x, weight, bias: op(x, weight, bias, **options)}
    report = gradcheck(functions[len(shapes)], tuple(array(*shape) for shape in shapes))
    assert not report and "WRONG" in str(report)
    for label, check in zip(labels, report.checks, strict=True):
        assert check.passed == (label not in guilty), report
        assert check.failures >= guilty.get(label, 0)


def test_swapped_strides_are_caught():
    window = sliding("conv2d", (6, 6), (2, 2), (1, 2), (0, 0), (1, 1))
    wrong = with_backward(conv.conv2d_forward, swapped_strides)
    inputs = array(1, 2, 6, 6), array(3, 2, 2, 2)
    report = gradcheck(lambda x, weight: wrong(x, weight, None, window=window, groups=1), inputs)
    x, weight = report.checks
    assert not x.passed and weight.passed


def test_one_wrong_element_among_many_is_found():
    def backward(dy, saved, needs):
        (dx,) = elementwise.exp_backward.text(dy, saved, needs)
        dx = np.array(dx)
        dx[17, 31] += 0.5
        return (dx,)

    report = gradcheck(with_backward(elementwise.exp_forward, backward), array(40, 50), max_elements=8)
    assert not report and report.checks[0].worst == (17, 31)


def test_a_gradient_of_zeros_and_nan_fail():
    zeros = with_backward(elementwise.exp_forward, lambda dy, saved, needs: (0 * dy,))
    nans = with_backward(elementwise.exp_forward, lambda dy, saved, needs: (np.nan * dy,))
    assert not gradcheck(zeros, array(3)) and not gradcheck(nans, array(3))


def test_failure_raises_on_request():
    zeros = with_backward(elementwise.exp_forward, lambda dy, saved, needs: (0 * dy,))
    with pytest.raises(GradcheckError, match=r"FAILED[\s\S]*WRONG: 3 of 3"):
        gradcheck(zeros, array(3), raise_exception=True)


# --- kinks ------------------------------------------------------------------------------------------------------------
def test_relu_at_zero_is_a_kink_and_no_failure():
    report = gradcheck(F.relu, np.array([0.0, 1.0, -2.0]))
    assert report and [index for index, *_ in report.checks[0].kinks] == [(0,)]
    assert "relu: 1 inputs at 0" in str(report) and "x[0] sits on a kink" in str(report)


def test_a_wrong_slope_at_a_kink_still_fails():
    def backward(dy, saved, needs):
        return (3 * dy,)

    assert not gradcheck(with_backward(elementwise.relu_forward, backward), np.array([0.0]))


def test_equal_maxima_are_named():
    report = gradcheck(lambda x: F.max_pool2d(x, 2), np.ones((1, 1, 2, 4)))
    assert report and "max_pool2d: 2 windows with equal maxima" in str(report)


# --- the report -------------------------------------------------------------------------------------------------------
def test_the_curve_falls_and_rises_for_a_right_gradient_and_stays_for_a_wrong_one():
    steps, second, fourth = gradcheck(lambda x: x.exp(), array(3)).curve(steps=[1e-1, 1e-3, 1e-5, 1e-12])
    assert second[0] > second[1] > second[2] and second[3] > second[2] and fourth[1] < second[1]
    wrong = gradcheck(with_backward(elementwise.exp_forward, factor), array(3))
    assert wrong.curve(steps=[1e-5])[1][0] == pytest.approx(1e-3, rel=0.01)


def test_drawing_and_html():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    report = gradcheck(lambda x: x.exp(), array(3))
    axes = report.plot()
    assert axes.get_xscale() == "log" and len(axes.lines) == 3
    matplotlib.pyplot.close(axes.figure)
    assert "<table>" in report._repr_html_() and "&lt;lambda&gt;" in report._repr_html_()


@pytest.mark.parametrize(
    "function, inputs, options, error, text",
    [
        (F.relu, np.array([1, 2]), {}, ValueError, "no floating-point input"),
        (lambda x: 3, array(2), {}, TypeError, "must return floating-point Tensors, got int"),
        (lambda x: minidl.ones(2), array(2), {}, ValueError, "depends on its inputs"),
        (F.relu, array(2), dict(method="magic"), ValueError, "method must be"),
        (nn.ReLU(), array(2), dict(method="complex"), ValueError, "got a Module"),
    ],
)
def test_errors(function, inputs, options, error, text):
    with pytest.raises(error, match=text):
        gradcheck(function, inputs, **options)
